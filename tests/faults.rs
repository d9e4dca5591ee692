//! Every fallible call of the runtime made to fail in its turn, for a list of things that a program does.
//!
//! ```text
//! prepare --> count --> fail_at(n) --> act --> disarm
//!                                       |
//!                        it failed -----+----- it did not: the fault was survived, or never met (the end)
//!                            |
//!             counts as before; acting again succeeds
//! ```
//! n counts up until `act` meets no fault any more. Each try has a thread and so a hub of its own; what `fault` counts
//! are the calls of the process, so the tests take turns.
#![cfg(feature = "fault-injection")]

use std::ffi::{CStr, CString, c_int, c_void};
use std::fs;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use weald::ffi::base::*;
use weald::ffi::channel::*;
use weald::ffi::coro::*;
use weald::ffi::dns::*;
use weald::ffi::endpoint::*;
use weald::ffi::event::*;
use weald::ffi::file::*;
use weald::ffi::greenlet::*;
use weald::ffi::group::*;
use weald::ffi::http::*;
use weald::ffi::http_client::*;
use weald::ffi::hub::*;
use weald::ffi::insight::*;
use weald::ffi::io::*;
use weald::ffi::patch::*;
use weald::ffi::process::*;
use weald::ffi::queue::*;
use weald::ffi::result::*;
use weald::ffi::rw::*;
use weald::ffi::server::*;
use weald::ffi::signal::*;
use weald::ffi::socket::*;
use weald::ffi::stream::*;
use weald::ffi::threadpool::*;
use weald::ffi::timeout::*;
use weald::ffi::tls::*;
use weald::ffi::wait::*;
use weald::ffi::watcher::*;
use weald::ffi::websocket::*;
use weald::sys::fault;

/// What `prepare` has made: handles, descriptors, process ids.
type World = Vec<i64>;

struct Operation {
    /// What `act` needs, made without faults; `None`: not even a hub.
    prepare: Option<fn() -> World>,
    /// One call, or several that clean up when one of them fails. Negative: it failed.
    act: fn(&World) -> i64,
    /// More that a failure must leave as it was.
    state: fn(&World) -> World,
    /// Uses and releases what `act` has returned.
    undo: fn(&World, i64),
    /// How many faults it meets at least: without any the test would prove nothing.
    faults: i64,
}

fn a_hub() -> World {
    assert!(weald_self() > 0);
    Vec::new()
}

fn no_more(_: &World) -> World {
    Vec::new()
}

fn leave(_: &World, _: i64) {}

fn close(_: &World, made: i64) {
    assert_eq!(weald_close(made), 0);
}

/// A thing to do that takes nothing and leaves a handle to close.
fn making(act: fn(&World) -> i64, faults: i64) -> Operation {
    Operation { prepare: Some(a_hub), act, state: no_more, undo: close, faults }
}

// ---- trying -----------------------------------------------------------------------

static TURN: Mutex<()> = Mutex::new(());

fn my_turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|e| e.into_inner())
}

fn entries(path: &str) -> u64 {
    fs::read_dir(path).map_or(0, |entries| entries.count() as u64)
}

/// Descriptors and threads of this process.
fn process() -> Vec<u64> {
    vec![entries("/proc/self/fd"), entries("/proc/self/task")]
}

/// What a failed call must leave as it was.
fn counts() -> Vec<u64> {
    let mut s = weald_stats { size: size_of::<weald_stats>(), ..weald_stats::default() };
    assert_eq!(weald_stats_get(&mut s), 0);
    [process(), vec![s.handles, s.alive, s.spawned - s.finished, s.ready, s.timers, s.descriptors]].concat()
}

/// Waits for threads and greenlets that are on their way out.
fn assert_becomes(now: impl Fn() -> Vec<u64>, before: &[u64], what: &str) {
    let end = Instant::now() + Duration::from_secs(5);
    while now() != before && Instant::now() < end {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(now(), before, "{what}: fds, threads, handles, alive, unfinished, ready, timers, descriptors");
}

/// The end of a hub whose server has survived the n-th fault: nothing is left of what came meanwhile.
fn end_as_before(server: i64, before: &[u64], n: i64) {
    let now = || {
        weald_sleep(1_000_000);
        process()
    };
    assert_becomes(now, before, &format!("after fault {n}"));
    assert_eq!(weald_server_stop(server, WEALD_FOREVER), 0);
    assert_eq!(weald_hub_shutdown(), 0);
}

fn counts_after_a_turn() -> Vec<u64> {
    assert_eq!(weald_sleep(200_000), 0);
    counts()
}

/// One try, in a thread of its own; whether the n-th fault was met.
fn meets_fault(operation: &Operation, n: i64) -> bool {
    let fresh = operation.prepare.is_none();
    let world = operation.prepare.map_or(Vec::new(), |prepare| prepare());
    let before = if fresh { process() } else { counts_after_a_turn() };
    let state = (operation.state)(&world);

    fault::fail_at(n);
    let first = (operation.act)(&world);
    let met = fault::disarm();

    let made = if first >= 0 {
        first
    } else {
        assert!(met, "fault {n}: {first} although nothing was made to fail");
        let expected = [WEALD_ENOMEM, WEALD_EMFILE, WEALD_EAGAIN].map(i64::from);
        assert!(expected.contains(&first), "fault {n}: {first} is not a code of exhaustion");
        if fresh {
            assert_becomes(process, &before, &format!("after fault {n}"));
        } else {
            assert_becomes(counts_after_a_turn, &before, &format!("after fault {n}"));
        }
        assert_eq!((operation.state)(&world), state, "state after fault {n}");
        let again = (operation.act)(&world);
        assert!(again >= 0, "the second time, after fault {n}: {again}");
        again
    };
    (operation.undo)(&world, made);
    assert!(weald_hub_shutdown() >= 0);
    met
}

/// Fails every fallible call in its turn.
fn torture(operation: Operation) {
    let _turn = my_turn();
    let before = process();
    let mut n = 0;
    loop {
        let met = thread::scope(|s| s.spawn(|| meets_fault(&operation, n)).join());
        assert_becomes(process, &before, &format!("after the thread of fault {n}"));
        match met {
            Ok(true) => n += 1,
            Ok(false) => break,
            Err(panic) => std::panic::resume_unwind(panic),
        }
        assert!(n < 1000, "no end of faults");
    }
    assert!(n >= operation.faults, "met {n} faults only");
}

// ---- what greenlets and callbacks do ----------------------------------------------

extern "C-unwind" fn give_back(arg: *mut c_void) -> *mut c_void {
    arg
}

static DESTROYED: AtomicI64 = AtomicI64::new(0);

extern "C-unwind" fn count_destroyed(_: *mut c_void) {
    DESTROYED.fetch_add(1, SeqCst);
}

extern "C-unwind" fn coroutine(first: *mut c_void, _: *mut c_void) -> *mut c_void {
    first
}

extern "C-unwind" fn watched(_: i64, _: c_int, _: *mut c_void) {}

extern "C-unwind" fn called(_: *mut c_void) {}

extern "C-unwind" fn map_to_itself(item: *mut c_void, out: *mut *mut c_void, _: *mut c_void) -> c_int {
    // SAFETY: the library passes a place to write to.
    unsafe { *out = item };
    0
}

extern "C-unwind" fn three_items(item: *mut *mut c_void, given: *mut c_void) -> c_int {
    // SAFETY: `given` is the caller's counter, which outlives the iterator.
    let given = unsafe { &mut *given.cast::<i64>() };
    *given += 1;
    // SAFETY: the library passes a place to write to.
    unsafe { *item = *given as usize as *mut c_void };
    c_int::from(*given <= 3)
}

extern "C-unwind" fn by_address(a: *const c_void, b: *const c_void) -> c_int {
    a.cmp(&b) as c_int
}

fn joined(g: i64) {
    assert_eq!(weald_join(g, WEALD_FOREVER), 0);
    assert_eq!(weald_close(g), 0);
}

fn options() -> weald_spawn_options {
    weald_spawn_options { size: size_of::<weald_spawn_options>(), ..weald_spawn_options::default() }
}

fn spawn_sized(stack_size: usize) -> i64 {
    let options = weald_spawn_options { stack_size, ..options() };
    weald_spawn_with(Some(give_back), null_mut(), &options)
}

/// Two connected sockets, closed by `close_fds`.
fn socket_pair() -> World {
    let mut ends: [c_int; 2] = [0; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, ends.as_mut_ptr()) }, 0);
    ends.map(i64::from).to_vec()
}

fn close_fds(fds: &[i64]) {
    for &fd in fds {
        // SAFETY: descriptors that the test has opened.
        assert_eq!(unsafe { libc::close(fd as c_int) }, 0);
    }
}

fn write_byte(fd: i64) {
    // SAFETY: one readable byte.
    assert_eq!(unsafe { libc::write(fd as c_int, b"x".as_ptr().cast(), 1) }, 1);
}

/// A wait that ends at its deadline has done all that could fail.
fn in_time(code: i64) -> i64 {
    if code == i64::from(WEALD_ETIMEDOUT) { 0 } else { code }
}

// ---- the hub ----------------------------------------------------------------------

#[test]
fn a_hub_is_made_whole_or_not_at_all() {
    torture(Operation {
        prepare: None,
        act: |_| weald_self(),
        state: no_more,
        undo: |_, main| assert_eq!(weald_self(), main),
        faults: 2,
    });
}

#[test]
fn every_kind_of_first_call_reports_that_there_is_no_hub() {
    let firsts: [fn(&World) -> i64; 7] = [
        |_| i64::from(weald_sleep(0)),
        |_| weald_event_new(0),
        |_| weald_queue_new(0, 1, None),
        |_| weald_hub(),
        |_| weald_timer_watcher(1, 0, Some(watched), null_mut()),
        |_| i64::from(weald_run_once(WEALD_RUN_NOWAIT)),
        |_| weald_pool_new(3),
    ];
    for act in firsts {
        torture(Operation { prepare: None, act, state: no_more, undo: leave, faults: 2 });
    }
}

#[test]
fn a_descriptor_for_a_foreign_loop() {
    torture(Operation {
        undo: |_, fd| assert_eq!(i64::from(weald_hub_fd()), fd),
        ..making(|_| weald_hub_fd().into(), 2)
    });
}

/// The system calls that a hub can not be made without, and those that it can do without.
const MUST: [i64; 3] = [0, 1, 4];
const MAY: [i64; 2] = [2, 3]; // the alarm, and its place in the poll

#[test]
fn a_hub_without_an_alarm_sleeps_with_time_outs() {
    let _turn = my_turn();
    for fault in MAY {
        thread::spawn(move || {
            fault::fail_at(fault);
            assert!(weald_self() > 0);
            assert!(fault::disarm());
            let mut ends = [0; 2];
            // SAFETY: room for two.
            assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
            // The second wait relies on what the first has registered, and is verified.
            for _ in 0..2 {
                assert_eq!(weald_wait_read(ends[0], weald_after(5_000_000)), WEALD_ETIMEDOUT);
            }
            // SAFETY: this test's own.
            unsafe { ends.map(|fd| libc::close(fd)) };
        })
        .join()
        .unwrap();
    }
}

#[test]
fn hubs_that_could_not_be_made_use_up_nothing() {
    let _turn = my_turn();
    for fault in MUST {
        thread::spawn(move || {
            // More often than there can be hubs.
            for _ in 0..1500 {
                fault::fail_at(fault);
                let code = weald_self();
                assert!(fault::disarm() && code < 0, "fault {fault}: {code}");
            }
            assert!(weald_self() > 0);
        })
        .join()
        .unwrap();
    }
}

#[test]
fn a_handle_to_the_hub() {
    let _turn = my_turn();
    thread::spawn(|| {
        let hub = weald_hub();
        fault::fail_at(0);
        assert_eq!(weald_post(hub, Some(called), null_mut()), 0); // can not fail
        assert!(!fault::disarm());
        assert_eq!(weald_run(WEALD_FOREVER), 0);
        assert_eq!(weald_close(hub), 0);
    })
    .join()
    .unwrap();
}

// ---- patching ---------------------------------------------------------------------

/// A library that blocks, loaded for good, and the table in it that is patched; None where there is no C compiler.
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
fn blocking_library() -> Option<i64> {
    let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/blocking_faults.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/c/plugins/blocking.c");
    let cc = std::env::var("CC").unwrap_or("cc".into());
    let words =
        ["-shared", "-fPIC", "-O1", "-Wl,-z,relro,-z,now", "-Wl,-soname,blocking_faults.so", source, "-o", path];
    let made = std::process::Command::new(cc).args(words).status();
    if !made.is_ok_and(|status| status.success()) {
        return None;
    }
    let path = CString::new(path).unwrap();
    // SAFETY: C strings; the table is there.
    unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        assert!(!library.is_null());
        Some(libc::dlsym(library, c"blocking_operations".as_ptr()) as i64)
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
#[test]
fn a_library_is_patched_whole_or_not_at_all() {
    static TABLE: AtomicI64 = AtomicI64::new(0);
    fn table(_: &World) -> World {
        // SAFETY: two words of the library, which stays loaded.
        unsafe { std::slice::from_raw_parts(TABLE.load(SeqCst) as *const i64, 2) }.to_vec()
    }
    fn patched(_: &World) -> i64 {
        weald_patch_library(c"blocking_faults.so".as_ptr(), 0).into()
    }
    fn undone(_: &World, slots: i64) {
        assert_eq!(i64::from(weald_unpatch()), slots);
    }
    let Some(at) = blocking_library() else { return };
    TABLE.store(at, SeqCst);
    torture(Operation { prepare: Some(a_hub), act: patched, state: table, undo: undone, faults: 4 });

    fn ready() -> World {
        assert!(patched(&World::new()) > 0);
        World::new()
    }
    fn undo(_: &World) -> i64 {
        weald_unpatch().into()
    }
    torture(Operation { prepare: Some(ready), act: undo, state: table, undo: leave, faults: 4 });
    let all = |_: &World| weald_patch_all(0).into();
    torture(Operation { prepare: Some(a_hub), act: all, state: table, undo: undone, faults: 4 });
}

// ---- greenlets --------------------------------------------------------------------

#[test]
fn the_first_spawn() {
    torture(Operation { undo: |_, g| joined(g), ..making(|_| weald_spawn(Some(give_back), null_mut()), 2) });
}

#[test]
fn a_spawn_that_needs_another_slab() {
    fn four() -> World {
        (0..4).map(|_| weald_greenlet_new(Some(give_back), null_mut(), null())).collect()
    }
    fn close_four(gs: &World, g: i64) {
        joined(g);
        gs.iter().for_each(|&g| assert_eq!(weald_close(g), 0));
    }
    torture(Operation {
        prepare: Some(four),
        undo: close_four,
        ..making(|_| weald_spawn(Some(give_back), null_mut()), 2)
    });
}

#[test]
fn a_spawn_with_a_stack_of_a_new_size() {
    torture(Operation { undo: |_, g| joined(g), ..making(|_| spawn_sized(96 << 10), 2) });
}

#[test]
fn a_spawn_with_a_stack_so_large_that_it_is_a_slab_of_its_own() {
    torture(Operation { undo: |_, g| joined(g), ..making(|_| spawn_sized(60 << 20), 2) });
}

#[test]
fn fire_and_forget() {
    torture(Operation {
        undo: |_, _| assert_eq!(weald_run(WEALD_FOREVER), 0),
        ..making(|_| i64::from(weald_go(Some(give_back), null_mut())), 2)
    });
}

#[test]
fn a_spawn_that_fails_does_not_destroy_its_argument() {
    fn act(_: &World) -> i64 {
        let options =
            weald_spawn_options { destroy: Some(count_destroyed), name: c"oak".as_ptr(), delay_ns: 1000, ..options() };
        weald_spawn_with(Some(give_back), null_mut(), &options)
    }
    fn undo(_: &World, g: i64) {
        joined(g);
        assert_eq!(DESTROYED.swap(0, SeqCst), 1);
    }
    torture(Operation { state: |_| vec![DESTROYED.load(SeqCst)], undo, ..making(act, 2) });
}

/// Its timer is the last thing that can fail: then there is a greenlet already, which nobody has seen.
#[test]
fn delayed_spawns_without_a_handle() {
    fn act(_: &World) -> i64 {
        let options = weald_spawn_options {
            destroy: Some(count_destroyed),
            delay_ns: 1_000_000,
            flags: WEALD_SPAWN_DETACHED,
            ..options()
        };
        let made = (0..40).map(|_| weald_spawn_with(Some(give_back), null_mut(), &options));
        let codes: Vec<i64> = made.collect();
        assert_eq!(weald_run(WEALD_FOREVER), 0);
        assert_eq!(DESTROYED.swap(0, SeqCst), codes.iter().filter(|&&code| code == 0).count() as i64);
        codes.into_iter().min().unwrap()
    }
    torture(Operation { undo: leave, ..making(act, 45) });
}

/// A stack's guard page is made when the stack is first used; without one the greenlet fails, as a body can.
#[test]
fn a_greenlet_without_a_stack_fails_and_its_argument_is_destroyed() {
    extern "C-unwind" fn quiet(_: i64, code: c_int, _: *const std::ffi::c_char, _: *mut c_void) {
        assert_eq!(code, WEALD_ENOMEM);
    }
    fn act(_: &World) -> i64 {
        let options = weald_spawn_options { destroy: Some(count_destroyed), ..options() };
        let g = weald_spawn_with(Some(give_back), null_mut(), &options);
        if g < 0 {
            return g;
        }
        let code = weald_get(g, null_mut(), WEALD_FOREVER);
        assert_eq!(weald_error(g), code);
        assert_eq!(weald_close(g), 0);
        assert_eq!(DESTROYED.swap(0, SeqCst), 1);
        i64::from(code)
    }
    fn prepare() -> World {
        weald_set_error_handler(Some(quiet), null_mut());
        Vec::new()
    }
    torture(Operation { prepare: Some(prepare), undo: leave, ..making(act, 3) });
}

#[test]
fn a_greenlet_that_is_not_started() {
    torture(making(|_| weald_greenlet_new(Some(give_back), null_mut(), null()), 2));
}

#[test]
fn a_coroutine() {
    fn undo(_: &World, c: i64) {
        assert_eq!(weald_switch(c, null_mut(), null_mut()), 0);
        assert_eq!(weald_close(c), 0);
    }
    torture(Operation { undo, ..making(|_| weald_coro_new(Some(coroutine), null_mut(), 0, null()), 2) });
}

/// It is the switch that fails, whoever the coroutine would return to, and the coroutine is as it was.
#[test]
fn a_switch_to_a_coroutine_for_which_there_is_no_stack_fails() {
    fn prepare() -> World {
        let parent = weald_coro_new(Some(coroutine), null_mut(), 0, null());
        vec![parent, weald_coro_new(Some(coroutine), null_mut(), parent, null())]
    }
    fn act(world: &World) -> i64 {
        i64::from(weald_switch(world[1], null_mut(), null_mut()))
    }
    fn states(world: &World) -> World {
        world.iter().map(|&g| i64::from(weald_state(g))).collect()
    }
    fn undo(world: &World, _: i64) {
        assert_eq!(states(world), [i64::from(WEALD_STATE_NEW), i64::from(WEALD_STATE_DONE)]);
        world.iter().for_each(|&g| assert_eq!(weald_close(g), 0));
    }
    torture(Operation { prepare: Some(prepare), act, state: states, undo, faults: 1 });
}

#[test]
fn sixty_greenlets_at_once() {
    fn act(_: &World) -> i64 {
        for i in 0..60 {
            let g = spawn_sized(if i % 2 == 0 { 0 } else { 32 << 10 });
            if g < 0 {
                assert_eq!(weald_run(WEALD_FOREVER), 0); // those that were made end
                return g;
            }
            assert_eq!(weald_close(g), 0);
        }
        assert_eq!(weald_run(WEALD_FOREVER), 0);
        0
    }
    torture(Operation { undo: leave, ..making(act, 60) });
}

// ---- groups -----------------------------------------------------------------------

fn a_pool() -> World {
    vec![weald_pool_new(2)]
}

fn room_and_members(world: &World) -> World {
    vec![weald_pool_free_count(world[0]), weald_group_len(world[0])]
}

fn close_pool(world: &World, _: i64) {
    assert_eq!(weald_group_join(world[0], WEALD_FOREVER), 0);
    assert_eq!(room_and_members(world), [2, 0]);
    assert_eq!(weald_close(world[0]), 0);
}

fn in_a_pool(act: fn(&World) -> i64, undo: fn(&World, i64), faults: i64) -> Operation {
    Operation { prepare: Some(a_pool), act, state: room_and_members, undo, faults }
}

fn join_and_close_pool(world: &World, g: i64) {
    joined(g);
    close_pool(world, 0);
}

#[test]
fn a_group_spawn_that_fails_leaves_the_room_free() {
    torture(in_a_pool(|w| weald_group_spawn(w[0], Some(give_back), null_mut()), join_and_close_pool, 2));
    torture(in_a_pool(|w| weald_pool_try_spawn(w[0], Some(give_back), null_mut()), join_and_close_pool, 2));
}

#[test]
fn a_spawn_with_a_group_that_fails_leaves_the_room_free() {
    fn act(world: &World) -> i64 {
        let options = weald_spawn_options { group: world[0], ..options() };
        weald_spawn_with(Some(give_back), null_mut(), &options)
    }
    torture(in_a_pool(act, join_and_close_pool, 2));
}

#[test]
fn apply_async_hands_on_what_became_of_the_spawn() {
    fn act(world: &World) -> i64 {
        let result = weald_group_apply_async(world[0], Some(map_to_itself), null_mut(), null_mut());
        if result < 0 {
            return result;
        }
        let code = weald_result_get(result, null_mut(), WEALD_FOREVER);
        assert_eq!(weald_close(result), 0);
        i64::from(code)
    }
    torture(in_a_pool(act, close_pool, 3));
}

#[test]
fn a_map_that_can_not_spawn_says_so() {
    fn act(world: &World) -> i64 {
        let items = [null_mut::<c_void>(); 5];
        let mut outs = items;
        let outs = outs.as_mut_ptr();
        let mut codes = [7; 5];
        let code = weald_group_map(
            world[0],
            Some(map_to_itself),
            null_mut(),
            items.as_ptr(),
            5,
            outs,
            codes.as_mut_ptr(),
            WEALD_FOREVER,
        );
        assert!(codes == [7; 5] || !codes.contains(&7), "every item has its code, or none: {codes:?}");
        i64::from(code)
    }
    torture(in_a_pool(act, close_pool, 3));
}

#[test]
fn an_imap_that_can_not_spawn_ends_with_the_failure() {
    fn act(world: &World) -> i64 {
        let mut given = 0i64;
        let source = (&raw mut given).cast();
        let it = weald_group_imap(world[0], Some(map_to_itself), null_mut(), Some(three_items), source, 2);
        if it < 0 {
            return it;
        }
        let (mut failure, mut outcomes, mut out) = (0, 0, null_mut());
        loop {
            let mut item_code = 1;
            let code = weald_imap_next(it, &mut out, &mut item_code, WEALD_FOREVER);
            assert_ne!(item_code, 1, "the wait failed: {code}");
            if code == 0 {
                break;
            }
            (failure, outcomes) = (failure.min(code), outcomes + 1);
        }
        assert!(failure != 0 || outcomes == 3);
        assert_eq!(weald_close(it), 0);
        assert_eq!(weald_sleep(100_000), 0); // the feeder ends; `given` is not used any more
        i64::from(failure)
    }
    torture(in_a_pool(act, close_pool, 3));
}

// ---- waiting for descriptors ------------------------------------------------------

fn readable_pair() -> World {
    a_hub();
    let ends = socket_pair();
    write_byte(ends[1]);
    ends
}

fn pair() -> World {
    a_hub();
    socket_pair()
}

fn with_fds(prepare: fn() -> World, act: fn(&World) -> i64) -> Operation {
    Operation { prepare: Some(prepare), act, state: no_more, undo: |world, _| close_fds(world), faults: 1 }
}

#[test]
fn waiting_for_one_descriptor() {
    torture(with_fds(readable_pair, |w| i64::from(weald_wait_read(w[0] as c_int, weald_after(1_000_000_000)))));
    torture(with_fds(readable_pair, |w| i64::from(weald_wait_write(w[0] as c_int, weald_after(1_000_000_000)))));
    torture(with_fds(readable_pair, |w| {
        i64::from(weald_wait_fd(w[0] as c_int, WEALD_READ | WEALD_WRITE, weald_after(1_000_000_000)))
    }));
    torture(with_fds(pair, |w| in_time(i64::from(weald_wait_read(w[0] as c_int, weald_after(300_000))))));
}

#[test]
fn polling_many_descriptors() {
    fn many() -> World {
        a_hub();
        (0..20).flat_map(|_| socket_pair()).collect()
    }
    fn poll(world: &World) -> i64 {
        let of = |&fd: &i64| libc::pollfd { fd: fd as c_int, events: libc::POLLIN, revents: 0 };
        let mut fds: Vec<_> = world.iter().map(of).collect();
        i64::from(weald_poll(fds.as_mut_ptr().cast(), fds.len(), weald_after(300_000)))
    }
    torture(Operation { faults: 40, ..with_fds(many, poll) });
}

fn wait_item(object: i64, fd: i64) -> weald_wait_item {
    weald_wait_item { object, fd: fd as c_int, events: WEALD_READ, ready: 0 }
}

#[test]
fn waiting_for_several_things_leaves_no_trace_when_it_fails() {
    fn prepare() -> World {
        let fds = [socket_pair(), socket_pair()].concat();
        let objects = vec![
            weald_queue_new(WEALD_SHARED, 8, None),
            weald_event_new(WEALD_SHARED),
            weald_result_new(WEALD_SHARED, None),
            weald_event_new(0),
            weald_queue_new(0, 1, None),
        ];
        [fds, objects].concat()
    }
    fn act(world: &World) -> i64 {
        let mut items: Vec<_> = world[4..].iter().map(|&object| wait_item(object, 0)).collect();
        items.extend(world[..4].iter().map(|&fd| wait_item(0, fd)));
        in_time(weald_wait(items.as_mut_ptr(), items.len(), 1, weald_after(300_000)))
    }
    fn undo(world: &World, _: i64) {
        // A ticket left behind in one of them would end this sleep.
        let end = weald_after(3_000_000);
        assert_eq!(weald_queue_put(world[4], null_mut(), WEALD_NOW), 0);
        assert_eq!(weald_event_set(world[5]), 0);
        assert_eq!(weald_result_set(world[6], null_mut()), 0);
        assert_eq!(weald_sleep_until(end), 0);
        assert!(weald_now() >= end);
        world[4..].iter().for_each(|&object| assert_eq!(weald_close(object), 0));
        close_fds(&world[..4]);
    }
    torture(Operation { prepare: Some(prepare), act, state: no_more, undo, faults: 4 });
}

// ---- watchers and signals ---------------------------------------------------------

fn starting(prepare: fn() -> World, undo: fn(&World, i64), faults: i64) -> Operation {
    fn is_active(world: &World) -> World {
        vec![i64::from(weald_watcher_active(world[0]))]
    }
    Operation { prepare: Some(prepare), act: |w| i64::from(weald_watcher_start(w[0])), state: is_active, undo, faults }
}

fn close_watcher(world: &World, _: i64) {
    assert_eq!(weald_watcher_active(world[0]), 1);
    assert_eq!(weald_close(world[0]), 0);
    close_fds(&world[1..]);
}

#[test]
fn starting_an_io_watcher() {
    fn prepare() -> World {
        let ends = socket_pair();
        vec![weald_io_watcher(ends[0] as c_int, WEALD_READ, Some(watched), null_mut()), ends[0], ends[1]]
    }
    torture(starting(prepare, close_watcher, 1));
}

fn action_of(signo: c_int) -> usize {
    // SAFETY: an all-zero sigaction is a value to write over.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: reads the action, sets none.
    assert_eq!(unsafe { libc::sigaction(signo, null(), &mut action) }, 0);
    action.sa_sigaction
}

#[test]
fn starting_a_signal_watcher_that_fails_leaves_the_old_action() {
    fn state(world: &World) -> World {
        vec![i64::from(weald_watcher_active(world[0])), action_of(libc::SIGUSR1) as i64]
    }
    fn prepare() -> World {
        vec![weald_signal_watcher(libc::SIGUSR1, Some(watched), null_mut())]
    }
    torture(Operation { state, ..starting(prepare, close_watcher, 3) });
    assert_eq!(action_of(libc::SIGUSR1), libc::SIG_DFL);
}

#[test]
fn starting_a_child_watcher() {
    fn prepare() -> World {
        a_hub();
        // SAFETY: the child does nothing but end.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: ends the child, nothing of ours runs.
            unsafe { libc::_exit(7) };
        }
        vec![weald_child_watcher(pid, Some(watched), null_mut())]
    }
    fn undo(world: &World, _: i64) {
        while weald_watcher_active(world[0]) == 1 {
            assert_eq!(weald_sleep(100_000), 0); // until it is reaped
        }
        assert_eq!(weald_close(world[0]), 0);
    }
    torture(starting(prepare, undo, 2));
}

#[test]
fn beginning_to_catch_a_signal() {
    fn act(_: &World) -> i64 {
        let code = weald_signal_wait(&libc::SIGUSR2, 1, weald_after(300_000));
        if i64::from(code) < 0 && code != WEALD_ETIMEDOUT {
            return i64::from(code);
        }
        0
    }
    fn undo(_: &World, _: i64) {
        assert_eq!(weald_signal_release(&libc::SIGUSR2, 1), 0);
    }
    torture(Operation { state: |_| vec![action_of(libc::SIGUSR2) as i64], undo, ..making(act, 3) });
    assert_eq!(action_of(libc::SIGUSR2), libc::SIG_DFL);
}

#[test]
fn arranging_for_an_orderly_end() {
    fn actions(_: &World) -> World {
        [libc::SIGINT, libc::SIGTERM, libc::SIGQUIT].map(|s| action_of(s) as i64).to_vec()
    }
    torture(Operation {
        state: actions,
        undo: leave,
        ..making(|_| i64::from(weald_on_terminate(Some(called), null_mut())), 5)
    });
    assert_eq!(actions(&Vec::new()), [libc::SIG_DFL as i64; 3]);
}

// ---- queues -----------------------------------------------------------------------

fn length(world: &World) -> World {
    vec![weald_queue_len(world[0]), i64::from(weald_queue_join(world[0], WEALD_NOW))]
}

fn putting(prepare: fn() -> World) -> Operation {
    Operation {
        prepare: Some(prepare),
        act: |w| i64::from(weald_queue_put(w[0], null_mut(), WEALD_NOW)),
        state: length,
        undo: |w, _| close(w, w[0]),
        faults: 1,
    }
}

#[test]
fn a_put_for_which_there_is_no_memory_puts_nothing() {
    torture(putting(|| vec![weald_queue_new(WEALD_LIFO, 3, None)]));
    torture(putting(|| vec![weald_priority_queue_new(0, WEALD_UNBOUNDED, Some(by_address), None)]));
    torture(putting(|| vec![weald_queue_new(WEALD_SHARED | WEALD_LIFO, WEALD_UNBOUNDED, None)]));
    torture(putting(|| vec![weald_priority_queue_new(WEALD_SHARED, 3, Some(by_address), None)]));
}

#[test]
fn a_queue_that_can_not_grow_keeps_what_it_has() {
    fn act(world: &World) -> i64 {
        let before = weald_queue_len(world[0]);
        for i in before..100 {
            let code = weald_queue_put(world[0], i as usize as *mut c_void, WEALD_NOW);
            if code < 0 {
                assert_eq!(weald_queue_len(world[0]), i);
                let mut got = null_mut();
                for _ in 0..i {
                    assert_eq!(weald_queue_get(world[0], &mut got, WEALD_NOW), 0);
                    assert_eq!(weald_queue_task_done(world[0]), 0);
                }
                return i64::from(code);
            }
        }
        0
    }
    fn undo(world: &World, _: i64) {
        for i in 0..100usize {
            let mut got = null_mut();
            assert_eq!(weald_queue_get(world[0], &mut got, WEALD_NOW), 0);
            assert_eq!(got as usize, i);
        }
        close(world, world[0]);
    }
    for prepare in [
        (|| vec![weald_queue_new(0, WEALD_UNBOUNDED, None)]) as fn() -> World,
        || vec![weald_queue_new(WEALD_SHARED, 100, None)],
        || vec![weald_priority_queue_new(0, WEALD_UNBOUNDED, Some(by_address), None)],
    ] {
        torture(Operation { prepare: Some(prepare), act, state: length, undo, faults: 1 });
    }
}

/// A putter that waits has room kept for it, so that the getter who moves it in can not fail.
#[test]
fn a_put_that_would_have_to_wait_without_memory_fails_at_once() {
    fn prepare() -> World {
        let queue = weald_queue_new(0, 1, None);
        assert_eq!(weald_queue_put(queue, null_mut(), WEALD_NOW), 0);
        vec![queue]
    }
    fn act(world: &World) -> i64 {
        in_time(i64::from(weald_queue_put(world[0], null_mut(), weald_after(200_000))))
    }
    torture(Operation { prepare: Some(prepare), act, state: length, undo: |w, _| close(w, w[0]), faults: 0 });
}

// ---- what can not fail, even when everything does ----------------------------------

#[test]
fn waking_and_ending_meet_no_fault() {
    let _turn = my_turn();
    thread::spawn(|| {
        let event = weald_event_new(0);
        let gs: Vec<_> = (0..10).map(|_| weald_spawn(Some(wait_for_event), event as *mut c_void)).collect();
        let timeout = weald_timeout_start(1_000_000_000);
        assert_eq!(weald_yield(), 0);
        assert_eq!(weald_sleep(1_000_000), 0); // there is room for a timer
        fault::fail_at(0);
        assert_eq!(weald_event_set(event), 0);
        assert_eq!(weald_kill(gs[3], 0, WEALD_FOREVER), 0);
        assert_eq!(weald_killall(gs.as_ptr(), gs.len(), 0, WEALD_FOREVER), 0);
        gs.iter().for_each(|&g| assert_eq!(weald_close(g), 0));
        assert_eq!(weald_sleep(1000), 0);
        assert_eq!(weald_close(timeout), 0);
        assert_eq!(weald_close(event), 0);
        assert_eq!(weald_hub_shutdown(), 0);
        assert!(!fault::disarm(), "something on the way out can fail");
    })
    .join()
    .unwrap();
}

extern "C-unwind" fn wait_for_event(event: *mut c_void) -> *mut c_void {
    weald_event_wait(event as i64, WEALD_FOREVER);
    null_mut()
}

// ---- threads ----------------------------------------------------------------------

#[test]
fn an_offload_without_a_thread_to_be_had_is_eagain() {
    fn prepare() -> World {
        a_hub();
        vec![weald_threadpool_new(2)]
    }
    fn act(world: &World) -> i64 {
        let mut value = null_mut();
        i64::from(weald_offload(world[0], Some(give_back), null_mut(), &mut value, WEALD_FOREVER))
    }
    fn submit(world: &World) -> i64 {
        let result = weald_threadpool_submit(world[0], Some(give_back), null_mut(), None);
        if result < 0 {
            return result;
        }
        assert_eq!(weald_result_wait(result, WEALD_FOREVER), 0);
        i64::from(weald_close(result))
    }
    fn undo(world: &World, _: i64) {
        assert_eq!(weald_threadpool_shutdown(world[0], WEALD_FOREVER), 0);
        assert_eq!(weald_close(world[0]), 0);
    }
    fn threads(world: &World) -> World {
        vec![weald_threadpool_size(world[0])]
    }
    torture(Operation { prepare: Some(prepare), act, state: threads, undo, faults: 1 });
    torture(Operation { prepare: Some(prepare), act: submit, state: threads, undo, faults: 1 });
}

#[test]
fn all_workers_start_or_none() {
    fn undo(_: &World, workers: i64) {
        assert_eq!(weald_workers_count(workers), 3);
        assert_eq!(weald_workers_join(workers, WEALD_FOREVER), 0);
        assert_eq!(weald_close(workers), 0);
    }
    torture(Operation { undo, ..making(|_| weald_workers_start(3), 9) });
}

// ---- names ------------------------------------------------------------------------

/// The C library's resolver, told that it is another: it is asked in a thread, for a name that is none.
extern "C-unwind" fn resolve_oak(
    _: *const std::ffi::c_char,
    service: *const std::ffi::c_char,
    hints: *const libc::addrinfo,
    list: *mut *mut libc::addrinfo,
) -> c_int {
    weald::sys::names::getaddrinfo(c"127.0.0.1".as_ptr(), service, hints, list)
}

fn with_a_resolver() -> World {
    a_hub();
    let resolver = weald_resolver {
        size: size_of::<weald_resolver>(),
        getaddrinfo: Some(resolve_oak),
        freeaddrinfo: Some(weald::sys::names::freeaddrinfo),
        getnameinfo: None,
    };
    assert_eq!(weald_set_resolver(&resolver), 0);
    Vec::new()
}

/// Threads of the pool for names are left over from the tries before: those that are idle serve the next.
#[test]
fn a_list_of_addresses_is_whole_or_not_there() {
    fn act(_: &World) -> i64 {
        let mut list = null_mut();
        let code = weald_getaddrinfo(c"127.0.0.1".as_ptr(), c"80".as_ptr(), null(), &mut list, WEALD_NOW);
        assert_eq!(code < 0, list.is_null());
        weald_freeaddrinfo(list);
        i64::from(code)
    }
    torture(Operation { undo: leave, ..making(act, 3) });
}

#[test]
fn a_host_is_whole_or_not_there() {
    fn act(_: &World) -> i64 {
        let mut host = null_mut();
        let code = weald_gethostbyname(c"127.0.0.1".as_ptr(), &mut host, WEALD_NOW);
        assert_eq!(code < 0, host.is_null());
        weald_freehostent(host);
        i64::from(code)
    }
    torture(Operation { undo: leave, ..making(act, 1) });
}

#[test]
fn a_lookup_without_a_thread_to_be_had_is_eagain() {
    let _turn = my_turn();
    thread::spawn(|| {
        with_a_resolver();
        let mut list = null_mut();
        let mut look = || weald_getaddrinfo(c"oak.test".as_ptr(), null(), null(), &mut list, WEALD_FOREVER);
        fault::fail_at(0);
        let code = look();
        assert!(fault::disarm());
        assert_eq!(code, WEALD_EAGAIN);
        assert_eq!(look(), 0);
        weald_freeaddrinfo(list);
        assert_eq!(weald_set_resolver(null()), 0);
        assert_eq!(weald_hub_shutdown(), 0);
    })
    .join()
    .unwrap();
}

// ---- processes ----------------------------------------------------------------------

fn start(program: &CStr, out: c_int) -> i64 {
    let argv = [program.as_ptr(), c"hello".as_ptr(), null()];
    let options = weald_process_options { size: size_of::<weald_process_options>(), out, ..Default::default() };
    weald_process_spawn(argv.as_ptr(), &options)
}

fn ended(p: i64) {
    let mut status = -1;
    assert_eq!(weald_process_wait(p, &mut status, WEALD_FOREVER), 0);
    assert_eq!(status, 0);
    assert_eq!(weald_close(p), 0);
}

#[test]
fn a_process_is_started_with_all_its_pipes_or_not_at_all() {
    torture(Operation { undo: |_, p| ended(p), ..making(|_| start(c"true", WEALD_INHERIT), 3) });
    torture(Operation { undo: |_, p| ended(p), ..making(|_| start(c"true", WEALD_PIPE), 5) });
    torture(Operation { undo: |_, p| ended(p), ..making(|_| start(c"true", WEALD_NULL), 4) });
}

/// What fails in the middle of a talk is made up for by the next call.
#[test]
fn a_talk_that_fails_goes_on_with_the_next_call() {
    fn act(_: &World) -> i64 {
        let p = start(c"echo", WEALD_PIPE);
        let mut failed = p.min(0);
        while p > 0 {
            // SAFETY: an all-zero struct is a valid value.
            let mut io: weald_process_io = unsafe { std::mem::zeroed() };
            io.size = size_of::<weald_process_io>();
            let code = weald_process_communicate(p, &mut io, WEALD_FOREVER);
            if code < 0 {
                failed = i64::from(code);
                continue;
            }
            // SAFETY: text of the library's, with a NUL behind it.
            assert_eq!(unsafe { CStr::from_ptr(io.out) }, c"hello\n");
            weald_free(io.out.cast());
            assert_eq!(weald_close(p), 0);
            break;
        }
        failed
    }
    torture(Operation { undo: leave, ..making(act, 8) });
}

#[test]
fn a_shell_that_can_not_be_waited_for_is_killed() {
    fn act(_: &World) -> i64 {
        i64::from(weald_system(c"exit 0".as_ptr(), null_mut(), WEALD_FOREVER))
    }
    torture(Operation { undo: leave, ..making(act, 3) });
}

extern "C-unwind" fn echoes(channel: i64, _: *mut c_void) -> c_int {
    fault::disarm(); // the parent's is another
    let (mut data, mut len) = (null_mut(), 0);
    let received = weald_channel_receive(channel, &mut data, &mut len, WEALD_FOREVER);
    if received == 0 && weald_channel_send(channel, data, len, WEALD_FOREVER) == 0 { 0 } else { 1 }
}

#[test]
fn a_child_is_forked_with_its_channel_or_not_at_all() {
    fn act(_: &World) -> i64 {
        let mut channel = 0;
        let p = weald_process_fork(Some(echoes), null_mut(), &mut channel, 0);
        if p < 0 {
            assert_eq!(channel, 0);
            return p;
        }
        let mut failed = 0;
        while weald_channel_send(channel, c"hello".as_ptr().cast(), 5, WEALD_FOREVER) < 0 {
            failed = i64::from(WEALD_ENOMEM); // what it was, `meets_fault` does not mind
        }
        let (mut data, mut len) = (null_mut(), 0);
        while weald_channel_receive(channel, &mut data, &mut len, WEALD_FOREVER) < 0 {
            failed = i64::from(WEALD_ENOMEM);
        }
        assert_eq!(len, 5);
        weald_free(data);
        assert_eq!(weald_close(channel), 0);
        ended(p);
        failed
    }
    torture(Operation { undo: leave, ..making(act, 8) });
}

#[test]
fn both_ends_of_a_channel_are_made_or_none() {
    fn act(_: &World) -> i64 {
        let mut ends = [0; 2];
        let code = weald_channel_pair(ends.as_mut_ptr(), 0);
        if code < 0 {
            assert_eq!(ends, [0; 2]);
            return i64::from(code);
        }
        ends.iter().for_each(|&end| assert_eq!(weald_close(end), 0));
        0
    }
    torture(Operation { undo: leave, ..making(act, 1) });
}

/// A large message goes by pieces; each of them fails once, and what comes is what was sent.
#[test]
fn a_message_goes_and_comes_whole_whatever_fails_in_between() {
    const LEN: usize = 300_000;
    extern "C-unwind" fn send(ends: *mut c_void) -> *mut c_void {
        let data: Vec<u8> = (0..LEN).map(|i| (i / 7) as u8).collect();
        let end = ends as i64;
        while weald_channel_send(end, data.as_ptr().cast(), LEN, WEALD_FOREVER) < 0 {
            if weald_channel_unsent(end) > 0 {
                while weald_channel_flush(end, WEALD_FOREVER) < 0 {}
                break;
            }
        }
        null_mut()
    }
    fn prepare() -> World {
        let mut ends = [0; 2];
        assert_eq!(weald_channel_pair(ends.as_mut_ptr(), 0), 0);
        ends.to_vec()
    }
    fn act(ends: &World) -> i64 {
        let sender = weald_spawn(Some(send), ends[0] as *mut c_void);
        if sender < 0 {
            return sender;
        }
        let (mut data, mut len, mut failed) = (null_mut(), 0, 0);
        while weald_channel_receive(ends[1], &mut data, &mut len, WEALD_FOREVER) < 0 {
            failed = i64::from(WEALD_ENOMEM);
        }
        // SAFETY: the library's memory, as long as it says.
        let got = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) };
        assert!(got.len() == LEN && got.iter().enumerate().all(|(i, &byte)| byte == (i / 7) as u8));
        weald_free(data);
        joined(sender);
        failed
    }
    fn undo(ends: &World, _: i64) {
        ends.iter().for_each(|&end| assert_eq!(weald_close(end), 0));
    }
    fault::disturb(50_000, 3);
    torture(Operation { prepare: Some(prepare), act, state: no_more, undo, faults: 10 });
    fault::disturb(usize::MAX, 0);
}

// ---- files ----------------------------------------------------------------------------

/// So that each call finds a thread of the library's: what starts one counts as a change.
fn all_threads_for_files(fifo: &CStr) {
    extern "C-unwind" fn open(fifo: *mut c_void) -> *mut c_void {
        let fd = weald_file_open(fifo.cast(), libc::O_RDONLY, 0, WEALD_FOREVER);
        assert!(fd >= 0);
        assert_eq!(weald_file_close(fd, WEALD_FOREVER), 0);
        null_mut()
    }
    // SAFETY: a C string.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    let gs: Vec<_> = (0..16).map(|_| weald_spawn(Some(open), fifo.as_ptr().cast_mut().cast())).collect();
    assert_eq!(weald_sleep(50_000_000), 0);
    // SAFETY: a C string.
    let fd = unsafe { libc::open(fifo.as_ptr(), libc::O_WRONLY) };
    gs.into_iter().for_each(joined);
    close_fds(&[i64::from(fd)]);
}

#[test]
fn files_are_opened_read_written_and_closed_or_it_is_told() {
    static FOLDER: Mutex<String> = Mutex::new(String::new());
    fn path(name: &str) -> CString {
        CString::new(format!("{}/{name}", FOLDER.lock().unwrap())).unwrap()
    }
    fn open(_: &World) -> i64 {
        i64::from(weald_file_open(path("file").as_ptr(), libc::O_RDWR | libc::O_CREAT, 0o600, WEALD_FOREVER))
    }
    fn close_file(_: &World, fd: i64) {
        assert_eq!(weald_file_close(fd as c_int, WEALD_FOREVER), 0);
    }
    fn opened() -> World {
        vec![open(&a_hub())]
    }
    fn write(w: &World) -> i64 {
        weald_file_write(w[0] as c_int, c"hello".as_ptr().cast(), 5, 0, WEALD_FOREVER)
    }
    fn read(w: &World) -> i64 {
        let mut text = [0u8; 9];
        let n = weald_file_read(w[0] as c_int, text.as_mut_ptr().cast(), 9, 0, WEALD_FOREVER);
        assert!(n < 0 || &text[..n as usize] == b"hello", "{n}");
        n
    }
    let folder = std::env::temp_dir().join(format!("weald-faults-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    *FOLDER.lock().unwrap() = folder.to_str().unwrap().into();
    {
        let _turn = my_turn();
        thread::spawn(|| {
            all_threads_for_files(&path("fifo"));
            assert_eq!(weald_hub_shutdown(), 0);
        })
        .join()
        .unwrap();
    }
    torture(Operation { undo: close_file, ..making(open, 1) });
    torture(Operation {
        prepare: Some(opened),
        act: write,
        state: no_more,
        undo: |w, _| close_file(w, w[0]),
        faults: 2,
    });
    torture(Operation {
        prepare: Some(opened),
        act: read,
        state: no_more,
        undo: |w, _| close_file(w, w[0]),
        faults: 1,
    });
    torture(making(|_| weald_folder_read(c"/".as_ptr(), WEALD_FOREVER), 1));
    fs::remove_dir_all(folder).unwrap();
}

// ---- connections and servers --------------------------------------------------------

/// An operation that gives a descriptor.
fn opening(prepare: fn() -> World, act: fn(&World) -> i64, faults: i64) -> Operation {
    fn undo(world: &World, fd: i64) {
        close_fds(&[fd]);
        close_fds(world);
    }
    Operation { prepare: Some(prepare), act, state: no_more, undo, faults }
}

#[test]
fn a_listener_is_made_whole_or_not_at_all() {
    let tcp = |_: &World| i64::from(weald_tcp_listen(c"[::1]:0".as_ptr(), 0, WEALD_REUSEPORT));
    torture(opening(a_hub, tcp, 6));
    torture(opening(a_hub, |_| i64::from(weald_udp_bind(c"127.0.0.1:0".as_ptr(), 0)), 2));
    torture(opening(a_hub, |_| i64::from(weald_unix_listen(c"@weald-faults".as_ptr(), 0)), 3));
}

#[test]
fn a_unix_listener_that_fails_leaves_no_file() {
    const PATH: &std::ffi::CStr = c"/tmp/weald-faults";
    fn is_there(_: &World) -> World {
        vec![i64::from(fs::exists("/tmp/weald-faults").unwrap())]
    }
    let _ = fs::remove_file("/tmp/weald-faults");
    torture(Operation {
        state: is_there,
        undo: |_, fd| {
            close_fds(&[fd]);
            fs::remove_file("/tmp/weald-faults").unwrap();
        },
        ..opening(a_hub, |_| i64::from(weald_unix_listen(PATH.as_ptr(), 0)), 3)
    });
}

fn a_listener() -> World {
    a_hub();
    vec![i64::from(weald_tcp_listen(c"127.0.0.1:0".as_ptr(), 0, 0))]
}

/// Its text, by the system's own word on its port.
fn address_of(listener: i64) -> std::ffi::CString {
    // SAFETY: an all-zero address is a valid value.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: room for an address and its size.
    assert_eq!(unsafe { libc::getsockname(listener as c_int, (&raw mut address).cast(), &mut len) }, 0);
    std::ffi::CString::new(format!("127.0.0.1:{}", u16::from_be(address.sin_port))).unwrap()
}

#[test]
fn a_connection_is_made_or_nothing_is_left_of_it() {
    fn act(world: &World) -> i64 {
        let fd = weald_tcp_connect(address_of(world[0]).as_ptr(), WEALD_FOREVER);
        i64::from(fd)
    }
    torture(opening(a_listener, act, 4));
    fn at_once(world: &World) -> i64 {
        i64::from(weald_tcp_connect(address_of(world[0]).as_ptr(), WEALD_NOW))
    }
    torture(opening(a_listener, at_once, 3));
}

extern "C-unwind" fn serve_one(_: c_int, _: *const libc::sockaddr, _: libc::socklen_t, _: *mut c_void) -> c_int {
    0
}

extern "C-unwind" fn serve_datagram(
    _: c_int,
    _: *const c_void,
    _: usize,
    _: *const libc::sockaddr,
    _: libc::socklen_t,
    _: *mut c_void,
) {
}

#[test]
fn a_server_is_made_whole_or_not_at_all() {
    fn new(_: &World) -> i64 {
        weald_server_new(c"127.0.0.1:0".as_ptr(), Some(serve_one), null_mut(), null())
    }
    fn datagrams(_: &World) -> i64 {
        weald_datagram_server_new(c"127.0.0.1:0".as_ptr(), Some(serve_datagram), null_mut(), null())
    }
    torture(making(new, 5));
    torture(making(datagrams, 3));
}

#[test]
fn a_server_starts_or_does_not() {
    fn prepare() -> World {
        a_hub();
        vec![weald_server_new(c"127.0.0.1:0".as_ptr(), Some(serve_one), null_mut(), null())]
    }
    fn undo(world: &World, _: i64) {
        assert_eq!(weald_server_start(world[0]), WEALD_EALREADY);
        assert_eq!(weald_server_stop(world[0], WEALD_FOREVER), 0);
        assert_eq!(weald_close(world[0]), 0);
    }
    torture(Operation {
        prepare: Some(prepare),
        act: |w| i64::from(weald_server_start(w[0])),
        state: |w| vec![i64::from(weald_server_fd(w[0]) >= 0)],
        undo,
        faults: 3,
    });
}

extern "C-unwind" fn ignore_failure(_: i64, _: c_int, _: *const std::ffi::c_char, _: *mut c_void) {}

/// A server of the kind that `make` makes gets a connection from `ask` while call number `n` fails, and another one
/// after that. `look` at what came of the other, if both were accepted. Nothing is left of them.
fn survive(n: i64, make: fn() -> i64, ask: fn(&str) -> std::net::TcpStream, look: fn(&mut std::net::TcpStream)) {
    thread::spawn(move || {
        a_hub();
        assert_eq!(weald_set_error_handler(Some(ignore_failure), null_mut()), 0);
        let server = make();
        assert_eq!(weald_server_start(server), 0);
        assert_eq!(weald_sleep(1_000_000), 0);
        let address = address_of(i64::from(weald_server_fd(server)));
        let address = address.to_str().unwrap();
        let before = process();
        fault::fail_at(n);
        let one = ask(address);
        assert_eq!(weald_sleep(15_000_000), 0);
        fault::disarm();
        let mut other = ask(address);
        while weald_server_accepted(server) < 1 || weald_server_count(server) > 0 {
            assert_eq!(weald_sleep(1_000_000), 0);
        }
        if weald_server_accepted(server) == 2 {
            look(&mut other);
        }
        drop((one, other));
        end_as_before(server, &before, n);
    })
    .join()
    .unwrap_or_else(|_| panic!("fault {n}"));
}

/// Whatever fails while it accepts costs that connection at most, and a pause.
#[test]
fn a_server_survives_every_fault() {
    fn make() -> i64 {
        weald_server_new(c"127.0.0.1:0".as_ptr(), Some(serve_one), null_mut(), null())
    }
    let _turn = my_turn();
    for n in 0..40 {
        survive(n, make, |address| std::net::TcpStream::connect(address).unwrap(), |_| {});
    }
}

// ---- the web -------------------------------------------------------------------------

extern "C-unwind" fn answer(request: i64, _: *mut c_void) {
    weald_http_add_header(request, c"A".as_ptr(), c"b".as_ptr());
    let mut body = null_mut();
    if weald_http_read_all(request, 100, &mut body, null_mut(), WEALD_FOREVER) == 0 {
        weald_free(body);
    }
    weald_http_reply(request, 200, c"text/plain".as_ptr(), c"leaves".as_ptr().cast(), 6, WEALD_FOREVER);
}

fn http_server() -> i64 {
    weald_http_server_new(c"127.0.0.1:0".as_ptr(), Some(answer), null_mut(), null())
}

#[test]
fn a_server_and_a_client_of_http_are_made_whole_or_not_at_all() {
    torture(making(|_| http_server(), 5));
    torture(making(|_| weald_http_client_new(null()), 0));
}

/// Whatever fails while requests are served costs that connection at most.
#[test]
fn a_server_of_http_survives_every_fault() {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    fn ask(address: &str) -> TcpStream {
        let mut one = TcpStream::connect(address).unwrap();
        let body = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
        one.write_all(body).unwrap();
        one.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        one
    }
    fn is_answered(other: &mut TcpStream) {
        let mut text = String::new();
        other.read_to_string(&mut text).unwrap();
        assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2, "{text}");
    }
    let _turn = my_turn();
    for n in 0..60 {
        survive(n, http_server, ask, is_answered);
    }
}

/// A fetch succeeds or fails, and no connection is left over.
#[test]
fn a_fetch_survives_every_fault() {
    let _turn = my_turn();
    let mut failed = 0;
    for n in 0..60 {
        failed += thread::spawn(move || {
            a_hub();
            assert_eq!(weald_set_error_handler(Some(ignore_failure), null_mut()), 0);
            let (server, client) = (http_server(), weald_http_client_new(null()));
            assert_eq!(weald_server_start(server), 0);
            let address = address_of(i64::from(weald_server_fd(server)));
            let url = CString::new(format!("http://{}/", address.to_str().unwrap())).unwrap();
            let fetch = || {
                let r = weald_http_fetch(client, url.as_ptr(), null(), weald_after(2_000_000_000));
                let mut body = null_mut();
                if r > 0 && weald_http_response_read_all(r, 100, &mut body, null_mut(), WEALD_FOREVER) == 0 {
                    weald_free(body);
                }
                if r > 0 {
                    assert_eq!(weald_close(r), 0);
                }
                r
            };
            assert_eq!(weald_sleep(1_000_000), 0);
            let before = process();
            fault::fail_at(n);
            let first = fetch();
            fault::disarm();
            assert!(fetch() > 0, "after fault {n}");
            assert_eq!(weald_close(client), 0);
            while weald_server_count(server) > 0 {
                assert_eq!(weald_sleep(1_000_000), 0);
            }
            end_as_before(server, &before, n);
            i32::from(first < 0)
        })
        .join()
        .unwrap();
    }
    assert!(failed > 5, "{failed} of them failed");
}

// ---- reading and writing ------------------------------------------------------------

fn close_made(_: &World, fd: i64) {
    assert_eq!(weald_close_fd(fd as c_int), 0);
}

fn pair_of(make: fn(*mut c_int) -> c_int) -> i64 {
    let mut ends: [c_int; 2] = [0; 2];
    match make(ends.as_mut_ptr()) {
        0 => {
            assert_eq!(weald_close_fd(ends[1]), 0);
            i64::from(ends[0])
        }
        code => i64::from(code),
    }
}

#[test]
fn descriptors_are_made_whole_or_not_at_all() {
    let makers: [fn(&World) -> i64; 3] = [
        |_| weald_socket(libc::AF_INET, libc::SOCK_STREAM, 0).into(),
        |_| pair_of(|ends| weald_socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, ends)),
        |_| pair_of(|ends| weald_pipe(ends)),
    ];
    for act in makers {
        torture(Operation { undo: close_made, ..making(act, 1) });
    }
}

#[test]
fn a_stream_that_can_not_be_made_leaves_its_descriptor() {
    fn state(world: &World) -> World {
        // SAFETY: F_GETFD takes no pointer.
        world.iter().map(|&fd| i64::from(unsafe { libc::fcntl(fd as c_int, libc::F_GETFD) })).collect()
    }
    fn undo(world: &World, stream: i64) {
        assert_eq!(weald_close(stream), 0); // and the first end
        close_fds(&world[1..]);
    }
    let act = |world: &World| weald_stream_new(world[0] as c_int, null());
    torture(Operation { prepare: Some(socket_pair), state, undo, ..making(act, 0) });
}

/// A read or write that fails has moved nothing, and the next one goes on where it was.
#[test]
fn bytes_are_moved_or_not() {
    fn act(world: &World) -> i64 {
        let (mut got, mut done) = ([0u8; 5], 0usize);
        let written = weald_write_all(world[1] as c_int, b"hello".as_ptr().cast(), 5, &mut done, WEALD_FOREVER);
        if written < 0 {
            assert_eq!(done, 0);
            return i64::from(written);
        }
        let mut code = -1;
        while code < 0 {
            code = weald_read_exact(world[0] as c_int, got.as_mut_ptr().cast(), 5, &mut done, WEALD_FOREVER);
            assert!(code == 0 || done == 0);
        }
        assert_eq!(&got, b"hello");
        0
    }
    torture(Operation { prepare: Some(hub_and_pair), undo: |world, _| close_fds(world), ..making(act, 2) });
}

fn hub_and_pair() -> World {
    a_hub();
    socket_pair()
}

extern "C-unwind" fn dribble(fd: *mut c_void) -> *mut c_void {
    let text = b"a line\r\nand one more\nsixteen bytes...";
    assert_eq!(weald_write_all(fd as usize as c_int, text.as_ptr().cast(), text.len(), null_mut(), WEALD_FOREVER), 0);
    null_mut()
}

/// Every read and write moves a byte at a time, and every third is interrupted first.
#[test]
fn short_and_interrupted_transfers_lose_nothing() {
    let _turn = my_turn();
    thread::spawn(|| {
        fault::disturb(1, 3);
        let ends = socket_pair();
        let g = weald_spawn(Some(dribble), ends[1] as usize as *mut c_void);
        let s = weald_stream_new(ends[0] as c_int, null());
        let (mut line, mut len, mut rest, mut done) = (null(), 0, [0u8; 16], 0);
        for wanted in [&b"a line"[..], b"and one more"] {
            assert_eq!(weald_stream_line(s, &mut line, &mut len, 100, WEALD_FOREVER), 1);
            // SAFETY: so many bytes are there until the next call that reads.
            assert_eq!(unsafe { std::slice::from_raw_parts(line.cast::<u8>(), len) }, wanted);
        }
        assert_eq!(weald_stream_read_exact(s, rest.as_mut_ptr().cast(), 16, &mut done, WEALD_FOREVER), 0);
        assert_eq!(&rest, b"sixteen bytes...");
        joined(g);

        // And back, gathered.
        let (long, mut got) = ([7u8; 200], [0u8; 200]);
        for part in long.chunks(70) {
            assert_eq!(weald_stream_write(s, part.as_ptr().cast(), part.len(), null_mut(), WEALD_FOREVER), 0);
        }
        assert_eq!(weald_stream_flush(s, WEALD_FOREVER), 0);
        let fd = ends[1] as c_int;
        assert_eq!(weald_read_exact(fd, got.as_mut_ptr().cast(), got.len(), null_mut(), WEALD_FOREVER), 0);
        assert_eq!(got, long);

        // Pipes and files, which are read and written by other calls; vectors.
        let mut pipe: [c_int; 2] = [0; 2];
        assert_eq!(weald_pipe(pipe.as_mut_ptr()), 0);
        assert_eq!(weald_write_all(pipe[1], b"piped".as_ptr().cast(), 5, null_mut(), WEALD_FOREVER), 0);
        assert_eq!(weald_read_exact(pipe[0], got.as_mut_ptr().cast(), 5, null_mut(), WEALD_FOREVER), 0);
        assert_eq!(&got[..5], b"piped");
        let iov = [libc::iovec { iov_base: got.as_mut_ptr().cast(), iov_len: 5 }; 2];
        assert_eq!(weald_writev(pipe[1], iov.as_ptr(), 2, WEALD_FOREVER), 1);
        assert_eq!(weald_readv(pipe[0], iov.as_ptr(), 2, WEALD_FOREVER), 1);
        fault::disturb(usize::MAX, 0);
        assert_eq!(weald_close(s), 0);
        close_fds(&ends[1..]);
        close_fds(&pipe.map(i64::from));
    })
    .join()
    .unwrap();
}

// ---- TLS ----------------------------------------------------------------------------

/// A client's and a server's config, with a certificate made for them.
fn configs() -> [i64; 2] {
    let made = rcgen::generate_simple_self_signed(["oak.test".to_string()]).unwrap();
    let certificate = CString::new(made.cert.pem()).unwrap();
    let key = CString::new(made.signing_key.serialize_pem()).unwrap();
    let size = size_of::<weald_tls_options>();
    let client = weald_tls_options { size, roots: certificate.as_ptr(), ..weald_tls_options::default() };
    let server = weald_tls_options {
        size,
        certificate: certificate.as_ptr(),
        key: key.as_ptr(),
        ..weald_tls_options::default()
    };
    [weald_tls_client(&client), weald_tls_server(&server)]
}

/// Calls again until it succeeds: a call that fails for want of something has lost nothing.
fn insist(mut call: impl FnMut() -> c_int) {
    let mut failures = 0;
    loop {
        match call() {
            0 => return,
            code => assert!([WEALD_ENOMEM, WEALD_EMFILE, WEALD_EAGAIN].contains(&code), "{code}"),
        }
        failures += 1;
        assert!(failures < 3);
    }
}

struct Secure {
    stream: i64,
    config: i64,
}

extern "C-unwind" fn echo_secure(secure: *mut c_void) -> *mut c_void {
    // SAFETY: the test keeps it until this greenlet has ended.
    let Secure { stream, config } = *unsafe { &*secure.cast::<Secure>() };
    insist(|| weald_tls_accept(stream, config, WEALD_FOREVER));
    let (mut got, mut at) = ([0u8; 5000], 0);
    insist(|| {
        let mut done = 0;
        // SAFETY: what is left of the array.
        let rest = unsafe { got.as_mut_ptr().add(at) };
        let code = weald_stream_read_exact(stream, rest.cast(), got.len() - at, &mut done, WEALD_FOREVER);
        at += done;
        code
    });
    say(stream, &got);
    insist(|| weald_stream_end(stream, WEALD_FOREVER));
    null_mut()
}

fn say(stream: i64, text: &[u8]) {
    let mut at = 0;
    insist(|| {
        let (rest, mut done) = (&text[at..], 0);
        let code = weald_stream_write(stream, rest.as_ptr().cast(), rest.len(), &mut done, WEALD_FOREVER);
        at += done;
        code
    });
    insist(|| weald_stream_flush(stream, WEALD_FOREVER));
}

/// A whole connection of TLS; whether what has been said came back.
fn talk_in_secret() {
    let (ends, [client, server]) = (socket_pair(), configs());
    let theirs = Secure { stream: weald_stream_new(ends[1] as c_int, null()), config: server };
    let ours = weald_stream_new(ends[0] as c_int, null());
    let g = weald_spawn(Some(echo_secure), (&raw const theirs).cast_mut().cast());
    let text: Vec<u8> = (0..5000u32).map(|i| (i * 7) as u8).collect();
    let mut got = Vec::new();

    assert_eq!(weald_yield(), 0); // it has its stack
    FAULTS_FROM_HERE.with(|from| from.get()());
    insist(|| weald_tls_connect(ours, client, c"oak.test".as_ptr(), WEALD_FOREVER));
    say(ours, &text);
    loop {
        let mut some = [0u8; 999];
        match weald_stream_read(ours, some.as_mut_ptr().cast(), some.len(), WEALD_FOREVER) {
            0 => break,
            n if n > 0 => got.extend_from_slice(&some[..n as usize]),
            code => assert_eq!(code, i64::from(WEALD_ENOMEM)),
        }
    }
    assert_eq!(got, text);
    joined(g);
    for handle in [ours, theirs.stream, client, server] {
        assert_eq!(weald_close(handle), 0);
    }
}

thread_local! {
    static FAULTS_FROM_HERE: std::cell::Cell<fn()> = const { std::cell::Cell::new(|| ()) };
}

/// What fails in a handshake or behind it is done with the next call.
#[test]
fn a_connection_of_tls_survives_every_fault() {
    static N: AtomicI64 = AtomicI64::new(0);
    let _turn = my_turn();
    let mut met = true;
    while met {
        met = thread::spawn(|| {
            FAULTS_FROM_HERE.set(|| fault::fail_at(N.load(SeqCst)));
            talk_in_secret();
            let met = fault::disarm();
            assert_eq!(weald_hub_shutdown(), 0);
            met
        })
        .join()
        .unwrap();
        assert!(N.fetch_add(1, SeqCst) < 1000, "no end of faults");
    }
    assert!(N.load(SeqCst) > 10);
}

/// Records come and go a byte at a time, and every third transfer is interrupted.
#[test]
fn a_connection_of_tls_that_moves_a_byte_at_a_time_is_one() {
    let _turn = my_turn();
    thread::spawn(|| {
        FAULTS_FROM_HERE.set(|| fault::disturb(1, 3));
        talk_in_secret();
        fault::disturb(usize::MAX, 0);
    })
    .join()
    .unwrap();
}

// ---- WebSocket ----------------------------------------------------------------------

fn socket_of(fd: i64, flags: c_int) -> i64 {
    let options = weald_websocket_options {
        size: size_of::<weald_websocket_options>(),
        flags,
        max_unsent: 1000,
        ..weald_websocket_options::default()
    };
    let w = weald_websocket_new(weald_stream_new(fd as c_int, null()), &options);
    assert!(w > 0);
    w
}

extern "C-unwind" fn echo_messages(w: *mut c_void) -> *mut c_void {
    let w = w as usize as i64;
    let (mut data, mut len) = (null(), 0);
    loop {
        match weald_websocket_receive(w, &mut data, &mut len, WEALD_FOREVER) {
            0 => return null_mut(),
            WEALD_ENOMEM => {}
            what => {
                assert_eq!(what, WEALD_WEBSOCKET_BINARY);
                // SAFETY: so many bytes are there until the next call that receives.
                let copy = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) }.to_vec();
                insist(|| weald_websocket_send(w, what, copy.as_ptr().cast(), copy.len(), WEALD_FOREVER));
            }
        }
    }
}

fn talk_in_messages(flags: c_int) {
    let ends = socket_pair();
    let server = socket_of(ends[0], flags);
    let client = socket_of(ends[1], flags | WEALD_WEBSOCKET_CLIENT);
    let g = weald_spawn(Some(echo_messages), server as usize as *mut c_void);
    assert_eq!(weald_yield(), 0);
    FAULTS_FROM_HERE.with(|from| from.get()());
    for size in [0usize, 10, 3000, 200] {
        let text: Vec<u8> = (0..size).map(|i| (i * 7) as u8).collect();
        insist(|| weald_websocket_send(client, WEALD_WEBSOCKET_BINARY, text.as_ptr().cast(), size, WEALD_FOREVER));
        let (mut data, mut len) = (null(), 0);
        loop {
            match weald_websocket_receive(client, &mut data, &mut len, WEALD_FOREVER) {
                WEALD_WEBSOCKET_BINARY => break,
                code => assert_eq!(code, WEALD_ENOMEM),
            }
        }
        // SAFETY: so many bytes are there until the next call that receives.
        assert_eq!(if len == 0 { &[] } else { unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) } }, text);
    }
    insist(|| weald_websocket_close(client, 0, null(), WEALD_FOREVER));
    joined(g);
    assert_eq!(weald_close(server), 0);
    assert_eq!(weald_close(client), 0);
}

/// No message is lost, changed or had twice, whatever fails.
#[test]
fn messages_survive_every_fault() {
    static N: AtomicI64 = AtomicI64::new(0);
    let _turn = my_turn();
    for flags in [0, WEALD_WEBSOCKET_DEFLATE] {
        N.store(0, SeqCst);
        let mut met = true;
        while met {
            met = thread::spawn(move || {
                FAULTS_FROM_HERE.set(|| fault::fail_at(N.load(SeqCst)));
                talk_in_messages(flags);
                let met = fault::disarm();
                assert_eq!(weald_hub_shutdown(), 0);
                met
            })
            .join()
            .unwrap();
            assert!(N.fetch_add(1, SeqCst) < 1000, "no end of faults");
        }
        assert!(N.load(SeqCst) > 5);
    }
}

/// What the other side gets from now on: the lengths of messages, and the code behind them.
fn lengths_until_the_end(w: i64) -> (Vec<usize>, c_int) {
    let (mut all, mut data, mut len) = (Vec::new(), null(), 0);
    loop {
        match weald_websocket_receive(w, &mut data, &mut len, WEALD_NOW) {
            WEALD_WEBSOCKET_BINARY => all.push(len),
            code => return (all, code),
        }
    }
}

/// A broadcast of which some has gone, and the rest can not be kept, is never followed by anything.
#[test]
fn a_broadcast_that_is_cut_is_the_last_thing_that_is_sent() {
    static N: AtomicI64 = AtomicI64::new(0);
    static CUT: AtomicI64 = AtomicI64::new(0);
    let _turn = my_turn();
    let mut met = true;
    while met {
        met = thread::spawn(|| {
            const LARGE: usize = 900_000;
            let ends = socket_pair();
            let options = weald_websocket_options {
                size: size_of::<weald_websocket_options>(),
                max_unsent: 2 * LARGE,
                ..weald_websocket_options::default()
            };
            let from = weald_websocket_new(weald_stream_new(ends[0] as c_int, null()), &options);
            let to = socket_of(ends[1], WEALD_WEBSOCKET_CLIENT);
            let all = [from];
            let text = vec![7u8; LARGE];
            let broadcast =
                |len| weald_websocket_broadcast(all.as_ptr(), 1, WEALD_WEBSOCKET_BINARY, text.as_ptr().cast(), len, 0);
            let has_some = || {
                let mut n: c_int = 0;
                // SAFETY: FIONREAD writes a number.
                assert_eq!(unsafe { libc::ioctl(ends[1] as c_int, libc::FIONREAD, &mut n) }, 0);
                n > 0
            };
            assert_eq!(weald_yield(), 0);
            fault::fail_at(N.load(SeqCst));
            let reached = broadcast(LARGE);
            let met = fault::disarm();
            let cut = reached == 0 && has_some();
            let later = broadcast(5);
            assert_eq!(later, i64::from(!cut));
            if cut {
                CUT.fetch_add(1, SeqCst);
                assert_eq!(weald_websocket_send(from, WEALD_WEBSOCKET_BINARY, null(), 0, WEALD_NOW), WEALD_EPIPE);
                assert_eq!(weald_close(from), 0);
                assert_eq!(lengths_until_the_end(to), (vec![], WEALD_ECONNABORTED));
            } else {
                let mut got = Vec::new();
                while got.last() != Some(&5) {
                    got.extend(lengths_until_the_end(to).0);
                    assert_eq!(weald_sleep(100_000), 0);
                }
                assert_eq!(got, if reached == 1 { vec![LARGE, 5] } else { vec![5] });
                assert_eq!(weald_close(from), 0);
            }
            assert_eq!(weald_close(to), 0);
            assert_eq!(weald_hub_shutdown(), 0);
            met
        })
        .join()
        .unwrap();
        assert!(N.fetch_add(1, SeqCst) < 1000, "no end of faults");
    }
    assert!(CUT.load(SeqCst) > 0 && N.load(SeqCst) > 2);
}

/// Frames come and go a byte at a time, and every third transfer is interrupted.
#[test]
fn messages_that_move_a_byte_at_a_time_are_whole() {
    let _turn = my_turn();
    for flags in [0, WEALD_WEBSOCKET_DEFLATE] {
        thread::spawn(move || {
            FAULTS_FROM_HERE.set(|| fault::disturb(1, 3));
            talk_in_messages(flags);
            fault::disturb(usize::MAX, 0);
        })
        .join()
        .unwrap();
    }
}
