//! Socket options, each a number of ours and an int.

use crate::error::{self, Result};
use crate::sys::descriptor as sys;
use libc::c_int;
use std::os::fd::RawFd;

/// The numbers are part of the ABI.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum SocketOption {
    NoDelay = 1,
    Cork = 2,
    QuickAck = 3,
    DeferAccept = 4,
    UserTimeout = 5,
    KeepAlive = 6,
    KeepIdle = 7,
    KeepInterval = 8,
    KeepCount = 9,
    ReuseAddress = 10,
    ReusePort = 11,
    Broadcast = 12,
    OnlyV6 = 13,
    SendBuffer = 14,
    ReceiveBuffer = 15,
    Linger = 16,
    PassCredentials = 17,
    Error = 18,
    Type = 19,
    Accepts = 20,
}

use SocketOption::*;

/// What the kernel calls them; in the order of their numbers.
const TABLE: [(SocketOption, c_int, c_int); 20] = [
    (NoDelay, libc::IPPROTO_TCP, libc::TCP_NODELAY),
    (Cork, libc::IPPROTO_TCP, libc::TCP_CORK),
    (QuickAck, libc::IPPROTO_TCP, libc::TCP_QUICKACK),
    (DeferAccept, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT),
    (UserTimeout, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
    (KeepAlive, libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (KeepIdle, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
    (KeepInterval, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
    (KeepCount, libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
    (ReuseAddress, libc::SOL_SOCKET, libc::SO_REUSEADDR),
    (ReusePort, libc::SOL_SOCKET, libc::SO_REUSEPORT),
    (Broadcast, libc::SOL_SOCKET, libc::SO_BROADCAST),
    (OnlyV6, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
    (SendBuffer, libc::SOL_SOCKET, libc::SO_SNDBUF),
    (ReceiveBuffer, libc::SOL_SOCKET, libc::SO_RCVBUF),
    (Linger, libc::SOL_SOCKET, libc::SO_LINGER),
    (PassCredentials, libc::SOL_SOCKET, libc::SO_PASSCRED),
    (Error, libc::SOL_SOCKET, libc::SO_ERROR),
    (Type, libc::SOL_SOCKET, libc::SO_TYPE),
    (Accepts, libc::SOL_SOCKET, libc::SO_ACCEPTCONN),
];

impl SocketOption {
    /// EINVAL for a number that stands for none.
    pub fn from_raw(number: c_int) -> Result<SocketOption> {
        let found = TABLE.iter().find(|row| row.0 as c_int == number);
        found.map(|row| row.0).ok_or(error::Error::INVAL)
    }

    fn of_kernel(self) -> (c_int, c_int) {
        let (_, level, name) = TABLE[self as usize - 1];
        (level, name)
    }
}

/// As SO_LINGER wants it.
#[derive(Default)]
#[repr(C)]
struct Lingering {
    on: c_int,
    seconds: c_int,
}

/// EINVAL for what can only be read; those of setsockopt(2).
pub fn set(fd: RawFd, option: SocketOption, value: c_int) -> Result<()> {
    let (level, name) = option.of_kernel();
    match option {
        Error | Type | Accepts => Err(error::Error::INVAL),
        Linger if value < -1 => Err(error::Error::INVAL),
        Linger => {
            let value = Lingering { on: c_int::from(value >= 0), seconds: value.max(0) };
            sys::set_option(fd, level, name, &value)
        }
        _ => sys::set_option(fd, level, name, &value),
    }
}

/// Those of getsockopt(2).
pub fn get(fd: RawFd, option: SocketOption) -> Result<c_int> {
    let (level, name) = option.of_kernel();
    match option {
        Linger => {
            let value: Lingering = sys::get_option(fd, level, name)?;
            Ok(if value.on == 0 { -1 } else { value.seconds })
        }
        Error => Ok(-sys::get_option::<c_int>(fd, level, name)?),
        _ => sys::get_option(fd, level, name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_stands_where_its_number_says() {
        for (i, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, i + 1);
            assert_eq!(SocketOption::from_raw(i as c_int + 1), Ok(row.0));
        }
        for none in [0, -1, 21, c_int::MAX] {
            assert_eq!(SocketOption::from_raw(none), Err(error::Error::INVAL));
        }
    }
}
