//! The functions that stand for the C library's, one file for each set. Each has the
//! arguments and the return value of the one whose name it bears, and is called for a
//! greenlet alone.
//!
//! What they do where they may not park is what the C library does: they call it.

mod names;
mod poll;
mod process;
mod sleep;
mod socket;
mod transfer;

pub use names::{
    getaddrinfo, gethostbyaddr, gethostbyaddr_r, gethostbyname, gethostbyname_r, gethostbyname2, gethostbyname2_r,
    getnameinfo,
};
pub use poll::{epoll_pwait, epoll_wait, poll, poll_chk, ppoll, ppoll_chk, pselect, select};
pub use process::{wait4, waitpid};
pub use sleep::{clock_nanosleep, nanosleep, sleep, usleep};
pub use socket::{accept, accept4, close, connect};
pub use transfer::{
    read, read_chk, readv, recv, recv_chk, recvfrom, recvfrom_chk, recvmsg, send, sendmsg, sendto, write, writev,
};
