//! may: stackful coroutines, here with one worker thread. The measured code runs in a
//! coroutine, because may's main thread is an ordinary thread.
//!
//! may 0.3 has unbounded channels only, which spares it half of the hand-overs of the
//! queue row, and 32 KiB stacks with a guard page each, which stops it at about 32,000
//! coroutines (vm.max_map_count).

use may::coroutine::{yield_now, JoinHandle};
use may::net::{TcpListener, TcpStream};
use may::os::unix::net::UnixStream;
use may::sync::{mpsc, Mutex, Semphore};
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::sync::Arc;
use weald_bench_peers::{announce_idle, cpu_ns, listen_tcp, raise_fd_limit, report_ns, run_row, REQUEST_MAX};

fn go<F: FnOnce() + Send + 'static>(body: F) -> JoinHandle<()> {
    // SAFETY: no body touches thread-local storage or recurses.
    unsafe { may::coroutine::spawn(body) }
}

fn join_all(coroutines: impl IntoIterator<Item = JoinHandle<()>>) {
    for coroutine in coroutines {
        coroutine.join().expect("no panic");
    }
}

/// They wait for a permit first, not in a loop of yields as with the other peers: may
/// starts new coroutines only when nothing that yields is left to run.
fn yields(n: [usize; 4]) {
    let (share, ready, gate) = (n[1] / n[0], Arc::new(Semphore::new(0)), Arc::new(Semphore::new(0)));
    let spawn_one = |_| {
        let (ready, gate) = (ready.clone(), gate.clone());
        go(move || {
            ready.post();
            gate.wait();
            (0..share).for_each(|_| yield_now());
        })
    };
    let all: Vec<_> = (0..n[0]).map(spawn_one).collect();
    (0..n[0]).for_each(|_| ready.wait());
    let t0 = cpu_ns();
    (0..n[0]).for_each(|_| gate.post());
    join_all(all);
    report_ns("ns", t0, share * n[0]);
}

fn spawn_batch(all: &mut Vec<JoinHandle<()>>, batch: usize) {
    all.extend((0..batch).map(|_| go(|| {})));
    join_all(all.drain(..));
}

fn spawn(n: [usize; 4]) {
    let mut all = Vec::with_capacity(n[0]);
    spawn_batch(&mut all, n[0]);
    let t0 = cpu_ns();
    for _ in 0..n[1] {
        spawn_batch(&mut all, n[0]);
    }
    report_ns("ns", t0, n[0] * n[1]);
}

fn rendezvous(n: [usize; 4]) {
    let (there, there_rx) = mpsc::channel();
    let (back, back_rx) = mpsc::channel();
    go(move || {
        for value in there_rx {
            back.send(value).expect("open");
        }
    });
    let t0 = cpu_ns();
    for i in 0..n[0] / 2 {
        there.send(i).expect("open");
        assert_eq!(back_rx.recv(), Ok(i));
    }
    report_ns("ns", t0, n[0]);
}

fn queue(n: [usize; 4]) {
    let (put, get) = mpsc::channel();
    let producer = go(move || {
        for i in 0..n[1] {
            put.send(i).expect("open");
            // Stands in for the bound: without it, the producer would fill the memory.
            if i % n[0] == n[0] - 1 {
                yield_now();
            }
        }
    });
    let t0 = cpu_ns();
    for i in 0..n[1] {
        assert_eq!(get.recv(), Ok(i));
    }
    report_ns("ns", t0, n[1]);
    producer.join().expect("no panic");
}

fn semaphore(n: [usize; 4]) {
    let mine = Arc::new(Semphore::new(0));
    let yours = Arc::new(Semphore::new(0));
    let (from, to, trips) = (mine.clone(), yours.clone(), n[0] / 2);
    go(move || {
        for _ in 0..trips {
            from.wait();
            to.post();
        }
    });
    let t0 = cpu_ns();
    for _ in 0..trips {
        mine.post();
        yours.wait();
    }
    report_ns("ns", t0, n[0]);
}

fn locker(lock: &Mutex<()>, times: usize) {
    for _ in 0..times {
        let _held = lock.lock().expect("no panic");
        yield_now();
    }
}

fn mutex(n: [usize; 4]) {
    let lock = Arc::new(Mutex::new(()));
    let t0 = cpu_ns();
    join_all([0, 1].map(|_| {
        let lock = lock.clone();
        go(move || locker(&lock, n[0] / 2))
    }));
    report_ns("ns", t0, n[0]);
}

fn pingpong(n: [usize; 4]) {
    let (mut near, mut far) = UnixStream::pair().expect("a pair");
    go(move || {
        let mut byte = [0];
        for _ in 0..n[0] {
            far.read_exact(&mut byte).expect("a byte");
            far.write_all(&byte).expect("room");
        }
    });
    let mut byte = [1];
    let t0 = cpu_ns();
    for _ in 0..n[0] {
        near.write_all(&byte).expect("room");
        near.read_exact(&mut byte).expect("a byte");
    }
    report_ns("ns", t0, n[0]);
}

fn serve(mut peer: TcpStream) -> std::io::Result<()> {
    peer.set_nodelay(true)?;
    let mut buffer = [0; REQUEST_MAX];
    loop {
        let n = peer.read(&mut buffer)?;
        if n == 0 {
            return Ok(());
        }
        peer.write_all(&buffer[..n])?;
    }
}

fn echo(_: [usize; 4]) {
    // SAFETY: a socket of our own, given away.
    let listener = unsafe { TcpListener::from_raw_fd(listen_tcp().into_raw_fd()) };
    loop {
        let (peer, _) = listener.accept().expect("a connection");
        go(move || drop(serve(peer)));
    }
}

fn idle(_: [usize; 4]) {
    let (mut near, _far) = UnixStream::pair().expect("a pair");
    announce_idle();
    near.read_exact(&mut [0]).expect("a byte");
}

fn main() {
    raise_fd_limit();
    may::config().set_workers(1);
    let main = go(|| {
        run_row(&[
            ("yield", yields),
            ("spawn", spawn),
            ("rendezvous", rendezvous),
            ("queue", queue),
            ("semaphore", semaphore),
            ("mutex", mutex),
            ("pingpong", pingpong),
            ("idle", idle),
            ("echo", echo),
        ])
    });
    main.join().expect("no panic");
}
