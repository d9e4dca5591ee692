//! The way in: what stands in a slot.
//!
//! A stub asks `admit` whether the call is one of a greenlet's. If it is not, it goes on to
//! the C library with a jump, with nothing on the stack and every argument as it was: the
//! call is the C library's, with its errno, its cancellation points and its backtrace.

use super::{call, hook, loading, rules, symbol};
use crate::sys::glibc;

/// The arguments kept around a call of `$first`, which gets the symbol, the address that
/// the caller goes on at, and where that stands.
macro_rules! keeping_arguments {
    ($($then:literal),+) => {
        concat!(
            ".cfi_startproc\n",
            "push rdi\n", ".cfi_adjust_cfa_offset 8\n",
            "push rsi\n", ".cfi_adjust_cfa_offset 8\n",
            "push rdx\n", ".cfi_adjust_cfa_offset 8\n",
            "push rcx\n", ".cfi_adjust_cfa_offset 8\n",
            "push r8\n", ".cfi_adjust_cfa_offset 8\n",
            "push r9\n", ".cfi_adjust_cfa_offset 8\n",
            "sub rsp, 8\n", ".cfi_adjust_cfa_offset 8\n",
            "mov edi, {index}\n",
            "mov rsi, qword ptr [rsp + 56]\n",
            "lea rdx, [rsp + 56]\n",
            "call {first}\n",
            "add rsp, 8\n", ".cfi_adjust_cfa_offset -8\n",
            "pop r9\n", ".cfi_adjust_cfa_offset -8\n",
            "pop r8\n", ".cfi_adjust_cfa_offset -8\n",
            "pop rcx\n", ".cfi_adjust_cfa_offset -8\n",
            "pop rdx\n", ".cfi_adjust_cfa_offset -8\n",
            "pop rsi\n", ".cfi_adjust_cfa_offset -8\n",
            "pop rdi\n", ".cfi_adjust_cfa_offset -8\n",
            $($then, "\n",)+
            ".cfi_endproc"
        )
    };
}

macro_rules! stubs {
    ($($stub:ident: $name:literal, $real:path;)+) => { $(
        #[unsafe(naked)]
        pub unsafe extern "C" fn $stub() {
            std::arch::naked_asm!(
                keeping_arguments!(
                    "test al, al",
                    "jnz 2f",
                    "jmp qword ptr [rip + {real}@GOTPCREL]",
                    "2: jmp {hook}"
                ),
                index = const symbol::index($name),
                first = sym call::admit,
                real = sym $real,
                hook = sym hook::$stub,
            )
        }
    )+ };
}

/// Functions of the loader: something is done before, and then they are called as ever.
macro_rules! before {
    ($($stub:ident: $name:literal, $real:path, $first:path;)+) => { $(
        #[unsafe(naked)]
        pub unsafe extern "C" fn $stub() {
            std::arch::naked_asm!(
                keeping_arguments!("jmp qword ptr [rip + {real}@GOTPCREL]"),
                index = const symbol::index($name),
                first = sym $first,
                real = sym $real,
            )
        }
    )+ };
}

stubs! {
    poll: "poll", libc::poll;
    poll_chk: "__poll_chk", glibc::__poll_chk;
    ppoll: "ppoll", libc::ppoll;
    ppoll_chk: "__ppoll_chk", glibc::__ppoll_chk;
    select: "select", libc::select;
    pselect: "pselect", libc::pselect;
    epoll_wait: "epoll_wait", libc::epoll_wait;
    epoll_pwait: "epoll_pwait", libc::epoll_pwait;
    read: "read", libc::read;
    read_chk: "__read_chk", glibc::__read_chk;
    readv: "readv", libc::readv;
    recv: "recv", libc::recv;
    recv_chk: "__recv_chk", glibc::__recv_chk;
    recvfrom: "recvfrom", libc::recvfrom;
    recvfrom_chk: "__recvfrom_chk", glibc::__recvfrom_chk;
    recvmsg: "recvmsg", libc::recvmsg;
    write: "write", libc::write;
    writev: "writev", libc::writev;
    send: "send", libc::send;
    sendto: "sendto", libc::sendto;
    sendmsg: "sendmsg", libc::sendmsg;
    connect: "connect", libc::connect;
    accept: "accept", libc::accept;
    accept4: "accept4", libc::accept4;
    close: "close", libc::close;
    waitpid: "waitpid", libc::waitpid;
    wait4: "wait4", libc::wait4;
    sleep: "sleep", libc::sleep;
    usleep: "usleep", libc::usleep;
    nanosleep: "nanosleep", libc::nanosleep;
    clock_nanosleep: "clock_nanosleep", libc::clock_nanosleep;
    getaddrinfo: "getaddrinfo", libc::getaddrinfo;
    getnameinfo: "getnameinfo", libc::getnameinfo;
    gethostbyname: "gethostbyname", glibc::gethostbyname;
    gethostbyname2: "gethostbyname2", glibc::gethostbyname2;
    gethostbyaddr: "gethostbyaddr", glibc::gethostbyaddr;
    gethostbyname_r: "gethostbyname_r", glibc::gethostbyname_r;
    gethostbyname2_r: "gethostbyname2_r", glibc::gethostbyname2_r;
    gethostbyaddr_r: "gethostbyaddr_r", glibc::gethostbyaddr_r;
}

before! {
    dlopen: "dlopen", libc::dlopen, loading::enter;
    dlmopen: "dlmopen", glibc::dlmopen, loading::enter;
    dlclose: "dlclose", libc::dlclose, loading::enter;
    dlsym: "dlsym", libc::dlsym, rules::before_lookup;
    dlvsym: "dlvsym", glibc::dlvsym, rules::before_lookup;
}
