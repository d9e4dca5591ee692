//! tokio's current_thread runtime. Its tasks are stackless state machines: a row says
//! what the same program costs there, not what the same mechanism costs.

use std::cell::Cell;
use std::future::Future;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{mpsc, Mutex, Notify, Semaphore};
use tokio::task::{yield_now, JoinHandle};
use weald_bench_peers::{announce_idle, cpu_ns, listen_tcp, raise_fd_limit, random_ms, report_ns, run_row, write_byte};
use weald_bench_peers::{Memory, REQUEST_MAX};

fn block_on<F: Future>(body: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(body)
}

async fn join_all(tasks: impl IntoIterator<Item = JoinHandle<()>>) {
    for task in tasks {
        task.await.expect("no panic");
    }
}

// ---- yield, spawn, park, sleep ----

static STARTED: AtomicUsize = AtomicUsize::new(0);
static OPENED: AtomicBool = AtomicBool::new(false);

async fn yielder(share: usize) {
    STARTED.fetch_add(1, Relaxed);
    while !OPENED.load(Relaxed) {
        yield_now().await;
    }
    for _ in 0..share {
        yield_now().await;
    }
}

fn yields(n: [usize; 4]) {
    let share = n[1] / n[0];
    block_on(async {
        let tasks: Vec<_> = (0..n[0]).map(|_| tokio::spawn(yielder(share))).collect();
        while STARTED.load(Relaxed) < n[0] {
            yield_now().await;
        }
        OPENED.store(true, Relaxed);
        let t0 = cpu_ns();
        join_all(tasks).await;
        report_ns("ns", t0, share * n[0]);
    });
}

async fn spawn_batch(tasks: &mut Vec<JoinHandle<()>>, batch: usize) {
    tasks.extend((0..batch).map(|_| tokio::spawn(async {})));
    join_all(tasks.drain(..)).await;
}

fn spawn(n: [usize; 4]) {
    let mut tasks = Vec::with_capacity(n[0]);
    block_on(async {
        spawn_batch(&mut tasks, n[0]).await;
        let t0 = cpu_ns();
        for _ in 0..n[1] {
            spawn_batch(&mut tasks, n[0]).await;
        }
        report_ns("ns", t0, n[0] * n[1]);
    });
}

async fn parker(gate: Arc<Notify>) {
    let opened = gate.notified();
    STARTED.fetch_add(1, Relaxed);
    opened.await;
}

/// Room for `n` handles, resident before the measuring starts.
fn touched_handles(n: usize) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::with_capacity(n);
    tasks.spare_capacity_mut().fill_with(MaybeUninit::zeroed);
    tasks
}

fn park(n: [usize; 4]) {
    let gate = Arc::new(Notify::new());
    let mut tasks = touched_handles(n[0]);
    block_on(async {
        let before = Memory::now();
        let t0 = cpu_ns();
        tasks.extend((0..n[0]).map(|_| tokio::spawn(parker(gate.clone()))));
        while STARTED.load(Relaxed) < n[0] {
            yield_now().await;
        }
        report_ns("spawn", t0, n[0]);
        let peak = Memory::report_parked(&before, n[0]);
        let t0 = cpu_ns();
        gate.notify_waiters();
        join_all(tasks.drain(..)).await;
        report_ns("join", t0, n[0]);
        tokio::time::sleep(Duration::from_millis(300)).await;
        Memory::report_left(&before, &peak);
    });
}

async fn sleeper(longest: usize) {
    tokio::time::sleep(Duration::from_millis(random_ms(longest))).await;
}

fn sleeps(n: [usize; 4]) {
    block_on(async {
        let mut tasks = Vec::with_capacity(n[0]);
        let t0 = cpu_ns();
        tasks.extend((0..n[0]).map(|_| tokio::spawn(sleeper(n[1]))));
        join_all(tasks).await;
        report_ns("ns", t0, n[0]);
    });
}

// ---- channels, semaphore, mutex ----

/// A channel of one place is the smallest there is.
fn rendezvous(n: [usize; 4]) {
    let (there, mut there_rx) = mpsc::channel(1);
    let (back, mut back_rx) = mpsc::channel(1);
    block_on(async {
        tokio::spawn(async move {
            while let Some(value) = there_rx.recv().await {
                back.send(value).await.expect("open");
            }
        });
        let t0 = cpu_ns();
        for i in 0..n[0] / 2 {
            there.send(i).await.expect("open");
            assert_eq!(back_rx.recv().await, Some(i));
        }
        report_ns("ns", t0, n[0]);
    });
}

fn queue(n: [usize; 4]) {
    let (put, mut get) = mpsc::channel(n[0]);
    block_on(async {
        tokio::spawn(async move {
            for i in 0..n[1] {
                put.send(i).await.expect("open");
            }
        });
        let t0 = cpu_ns();
        for i in 0..n[1] {
            assert_eq!(get.recv().await, Some(i));
        }
        report_ns("ns", t0, n[1]);
    });
}

async fn take(permits: &Semaphore) {
    permits.acquire().await.expect("open").forget();
}

fn semaphore(n: [usize; 4]) {
    let mine = Arc::new(Semaphore::new(0));
    let yours = Arc::new(Semaphore::new(0));
    let trips = n[0] / 2;
    block_on(async {
        let (from, to) = (mine.clone(), yours.clone());
        tokio::spawn(async move {
            for _ in 0..trips {
                take(&from).await;
                to.add_permits(1);
            }
        });
        let t0 = cpu_ns();
        for _ in 0..trips {
            mine.add_permits(1);
            take(&yours).await;
        }
        report_ns("ns", t0, n[0]);
    });
}

async fn locker(lock: Arc<Mutex<()>>, times: usize) {
    for _ in 0..times {
        let _held = lock.lock().await;
        yield_now().await;
    }
}

fn mutex(n: [usize; 4]) {
    let lock = Arc::new(Mutex::new(()));
    block_on(async {
        let t0 = cpu_ns();
        let tasks = [0, 1].map(|_| tokio::spawn(locker(lock.clone(), n[0] / 2)));
        join_all(tasks).await;
        report_ns("ns", t0, n[0]);
    });
}

// ---- descriptors ----

async fn bouncer(mut end: UnixStream, trips: usize) {
    let mut byte = [0];
    for _ in 0..trips {
        end.read_exact(&mut byte).await.expect("a byte");
        end.write_all(&byte).await.expect("room");
    }
}

fn pingpong(n: [usize; 4]) {
    block_on(async {
        let (mut near, far) = UnixStream::pair().expect("a pair");
        tokio::spawn(bouncer(far, n[0]));
        let mut byte = [1];
        let t0 = cpu_ns();
        for _ in 0..n[0] {
            near.write_all(&byte).await.expect("room");
            near.read_exact(&mut byte).await.expect("a byte");
        }
        report_ns("ns", t0, n[0]);
    });
}

thread_local!(static HOPS: Cell<usize> = const { Cell::new(0) });

async fn relay(mut from: UnixStream, mut to: UnixStream, hops: usize, over: Arc<Notify>) {
    let mut byte = [0];
    loop {
        from.read_exact(&mut byte).await.expect("a byte");
        if HOPS.replace(HOPS.get() + 1) + 1 == hops {
            over.notify_one();
        }
        to.write_all(&byte).await.expect("room");
    }
}

/// Spawns the relays and puts the tokens in. Returns the time of the start.
async fn start_ring(pairs: usize, active: usize, hops: usize, over: &Arc<Notify>) -> f64 {
    let ends = (0..pairs).map(|_| UnixStream::pair().expect("a pair"));
    let (mut from, to): (Vec<_>, Vec<_>) = ends.unzip();
    let starts: Vec<_> = from.iter().step_by(pairs / active).map(AsRawFd::as_raw_fd).collect();
    from.rotate_left(1); // what is read at to[i] is written to from[i + 1]
    for (read_end, write_end) in to.into_iter().zip(from) {
        tokio::spawn(relay(read_end, write_end, hops, over.clone()));
    }
    tokio::time::sleep(Duration::from_millis(10)).await; // until all of them wait
    let t0 = cpu_ns();
    starts.into_iter().for_each(write_byte);
    t0
}

fn ring(n: [usize; 4]) {
    block_on(async {
        let over = Arc::new(Notify::new());
        let t0 = start_ring(n[0], n[1], n[2], &over).await;
        over.notified().await;
        report_ns("ns", t0, n[2]);
    });
}

// ---- servers ----

/// tokio reads and writes first, and waits when there is nothing or no room.
async fn serve(mut peer: TcpStream) -> std::io::Result<()> {
    peer.set_nodelay(true)?;
    let mut buffer = [0; REQUEST_MAX];
    loop {
        let n = peer.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        peer.write_all(&buffer[..n]).await?;
    }
}

fn echo(_: [usize; 4]) {
    block_on(async {
        let listener = listen_tcp();
        listener.set_nonblocking(true).expect("a socket");
        let listener = TcpListener::from_std(listener).expect("a reactor");
        loop {
            let (peer, _) = listener.accept().await.expect("a connection");
            tokio::spawn(serve(peer));
        }
    });
}

fn connects(n: [usize; 4]) {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let to = listener.local_addr().expect("bound");
        let t0 = cpu_ns();
        for _ in 0..n[0] {
            let near = TcpStream::connect(to).await.expect("a listener");
            let (far, _) = listener.accept().await.expect("a connection");
            far.set_linger(Some(Duration::ZERO)).expect("a socket");
            drop((far, near));
        }
        report_ns("ns", t0, n[0]);
    });
}

fn idle(_: [usize; 4]) {
    block_on(async {
        let (near, far) = UnixStream::pair().expect("a pair");
        announce_idle();
        bouncer(near, 1).await;
        drop(far);
    });
}

fn main() {
    raise_fd_limit();
    run_row(&[
        ("yield", yields),
        ("spawn", spawn),
        ("park", park),
        ("sleep", sleeps),
        ("rendezvous", rendezvous),
        ("queue", queue),
        ("semaphore", semaphore),
        ("mutex", mutex),
        ("pingpong", pingpong),
        ("ring", ring),
        ("idle", idle),
        ("echo", echo),
        ("connect", connects),
    ]);
}
