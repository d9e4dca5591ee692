//! What the Rust peers share: the counterpart of `bench.h`.
//!
//! ```text
//! PROGRAM ROW [NUMBER...]      prints lines "metric value", or "FAIL why"
//! ```

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A row's body; the numbers are those after ROW, 0 where missing.
pub type Row = fn([usize; 4]);

/// Runs the row named on the command line.
pub fn run_row(rows: &[(&str, Row)]) {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_default();
    let mut numbers = [0; 4];
    for (slot, arg) in numbers.iter_mut().zip(args) {
        *slot = arg.parse().expect("a number");
    }
    match rows.iter().find(|(row, _)| *row == name) {
        Some((_, body)) => body(numbers),
        None => {
            eprintln!("usage: PROGRAM ROW [NUMBER...]");
            std::process::exit(2);
        }
    }
}

/// CPU time of this process: a neighbour's time slices do not count.
pub fn cpu_ns() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid place for the answer, and this clock always exists on Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut t) };
    t.tv_sec as f64 * 1e9 + t.tv_nsec as f64
}

pub fn report(metric: &str, value: f64) {
    println!("{metric} {value:.3}");
}

pub fn report_ns(metric: &str, since: f64, operations: usize) {
    report(metric, (cpu_ns() - since) / operations as f64);
}

pub struct Memory {
    rss: f64,
    page_tables: f64,
    mappings: f64,
}

impl Memory {
    pub fn now() -> Memory {
        let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
        let maps = std::fs::read_to_string("/proc/self/maps").expect("procfs");
        let bytes = |key: &str| {
            let line = status.lines().find(|l| l.starts_with(key)).expect("a known key");
            line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
        };
        Memory { rss: bytes("VmRSS:"), page_tables: bytes("VmPTE:"), mappings: maps.lines().count() as f64 }
    }

    /// What each of `n` parked threads added since `before`. Returns the peak.
    pub fn report_parked(before: &Memory, n: usize) -> Memory {
        let peak = Memory::now();
        report("rss", (peak.rss - before.rss) / n as f64);
        report("page_tables", (peak.page_tables - before.page_tables) / n as f64);
        report("mappings", peak.mappings - before.mappings);
        peak
    }

    /// How much of the burst's memory is still there after its end, in percent.
    pub fn report_left(before: &Memory, peak: &Memory) {
        report("left", 100.0 * (Memory::now().rss - before.rss) / (peak.rss - before.rss));
    }
}

/// xorshift with the seed of `bench.h`: everybody sleeps the same sequence.
pub fn random_ms(longest: usize) -> u64 {
    static STATE: AtomicU32 = AtomicU32::new(2463534242);
    let mut x = STATE.load(Relaxed);
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    STATE.store(x, Relaxed);
    1 + (x % longest as u32) as u64
}

/// 1000 socket pairs need more descriptors than the usual soft limit of 1024.
pub fn raise_fd_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid pointer to a limit of their own type.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}

/// Writes one byte past any runtime, to start a ring of tokens.
pub fn write_byte(fd: RawFd) {
    // SAFETY: the buffer is one readable byte.
    let written = unsafe { libc::write(fd, b"x".as_ptr().cast(), 1) };
    assert_eq!(written, 1);
}

/// What a server reads at once: REQUEST_MAX of `bench.h`.
pub const REQUEST_MAX: usize = 4096;

/// A listener on a free port of the loopback; `client.c` learns the port from stdout.
pub fn listen_tcp() -> std::net::TcpListener {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    // SAFETY: an open socket; std's own backlog may be 128, and everybody's here is 4096.
    unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&listener), 4096) };
    println!("port {}", listener.local_addr().expect("bound").port());
    listener
}

/// Ready to be watched: the runner counts wake-ups and CPU from outside.
pub fn announce_idle() {
    println!("ready");
}
