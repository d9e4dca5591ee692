//! The functions that are exchanged: their names, the sets that they belong to, and what
//! stands for them.

use super::stub;
use super::{NAMES, POLL, PROCESS, SLEEP, SOCKET, TRANSFER};

/// In no set of the user's: the loader's functions, by which we hear of new libraries.
pub const LOADER: u32 = 1 << 30;

pub struct Symbol {
    pub name: &'static str,
    pub set: u32,
    pub stub: unsafe extern "C" fn(),
}

/// A set, and the names under which the C library has its functions, each with its stub.
macro_rules! symbols {
    ($($set:ident: $($name:literal => $stub:ident),+;)+) => {
        const NAMES_OF_ALL: [&str; [$($($name),+),+].len()] = [$($($name),+),+];
        pub static SYMBOLS: [Symbol; COUNT] = [
            $($(Symbol { name: $name, set: $set, stub: stub::$stub },)+)+
        ];
    };
}

pub const COUNT: usize = NAMES_OF_ALL.len();

symbols! {
    POLL: "poll" => poll, "__poll" => poll, "__poll_chk" => poll_chk, "ppoll" => ppoll, "__ppoll_chk" => ppoll_chk,
        "select" => select, "__select" => select, "pselect" => pselect,
        "epoll_wait" => epoll_wait, "epoll_pwait" => epoll_pwait;
    TRANSFER: "read" => read, "__read" => read, "__read_chk" => read_chk, "readv" => readv,
        "recv" => recv, "__recv_chk" => recv_chk, "recvfrom" => recvfrom, "__recvfrom_chk" => recvfrom_chk,
        "recvmsg" => recvmsg,
        "write" => write, "__write" => write, "writev" => writev,
        "send" => send, "__send" => send, "sendto" => sendto, "sendmsg" => sendmsg;
    SOCKET: "connect" => connect, "__connect" => connect, "accept" => accept, "accept4" => accept4,
        "close" => close, "__close" => close;
    SLEEP: "sleep" => sleep, "usleep" => usleep, "nanosleep" => nanosleep, "__nanosleep" => nanosleep,
        "clock_nanosleep" => clock_nanosleep;
    NAMES: "getaddrinfo" => getaddrinfo, "getnameinfo" => getnameinfo,
        "gethostbyname" => gethostbyname, "gethostbyname2" => gethostbyname2, "gethostbyaddr" => gethostbyaddr,
        "gethostbyname_r" => gethostbyname_r, "gethostbyname2_r" => gethostbyname2_r,
        "gethostbyaddr_r" => gethostbyaddr_r;
    PROCESS: "waitpid" => waitpid, "__waitpid" => waitpid, "wait4" => wait4;
    LOADER: "dlopen" => dlopen, "dlmopen" => dlmopen, "dlclose" => dlclose, "dlsym" => dlsym, "dlvsym" => dlvsym;
}

/// The place of a name in the list.
pub fn find(name: &[u8]) -> Option<usize> {
    NAMES_OF_ALL.iter().position(|n| n.as_bytes() == name)
}

/// The same, for those who write the name themselves.
pub const fn index(name: &str) -> usize {
    let (mut i, name) = (0, name.as_bytes());
    loop {
        let other = NAMES_OF_ALL[i].as_bytes();
        let mut at = 0;
        while at < name.len() && at < other.len() && name[at] == other[at] {
            at += 1;
        }
        if at == name.len() && at == other.len() {
            return i;
        }
        i += 1;
    }
}

/// Where the calls of this one are counted: other names for it have the same stub.
pub fn counted_at(symbol: usize) -> usize {
    let same = |other: &Symbol| std::ptr::fn_addr_eq(other.stub, SYMBOLS[symbol].stub);
    SYMBOLS.iter().position(same).unwrap_or(symbol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_there_once() {
        for (i, symbol) in SYMBOLS.iter().enumerate() {
            assert_eq!(find(symbol.name.as_bytes()), Some(i));
            assert_eq!(index(symbol.name), i);
        }
        assert_eq!(find(b"pol"), None);
        assert_eq!(find(b""), None);
        assert_eq!(counted_at(index("__read")), index("read"));
        assert_eq!(counted_at(index("__read_chk")), index("__read_chk"));
    }
}
