//! Signals: from the kernel's handler to watchers and waiting greenlets.
//!
//! ```text
//! handler (any thread, any moment)     each interested hub, in its loop
//!   for each interested hub:             its eventfd is readable
//!     came |= the signal's bit             empty it, then take `came`
//!     write to its eventfd -------------> deliver: watchers, then a greenlet
//! ```
//!
//! One handler for the process, installed while anybody is interested in a signal;
//! what was there before is put back by the last who was. The handler touches
//! nothing but atomics and write(2). It comes to a hub as a bit, so a signal that
//! comes twice before the loop looks is delivered once, as the kernel does it.
//!
//! SIGCHLD may matter to others in the process: a handler that was there before is
//! called as well. For other signals ours stands in for it.

use crate::error::{Error, Result};
use crate::greenlet::Waiting;
use crate::handle::MAX_HUBS;
use crate::hub::{Callback, Hub};
use crate::once::Deed;
use crate::poller::{FdNode, READ};
use crate::registry::PostFn;
use crate::sys;
use crate::time::Deadline;
use crate::wait::Waited;
use crate::waitlist::{Role, WaitList, WaitNode};
use libc::siginfo_t;
use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};

const SIGNALS: usize = 64;
const _: () = assert!(size_of::<usize>() == 8, "a set of signals travels in a wait node's pointer");
/// Those that mean "come to an end".
pub const TERMINATION: [c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGQUIT];
/// Those that mean that an instruction can not be executed.
const FAULTS: [c_int; 4] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL];
/// A loop that has not looked for so long after the first of them is stuck.
const STUCK_NS: i64 = 1_000_000_000;

// ---- what the handler sees -----------------------------------------------------

/// One hub, as the handler sees it. `wake_fd` is open while `interest` has bits.
struct Place {
    interest: AtomicU64,
    came: AtomicU64,
    wake_fd: AtomicI32,
    /// The signals that `on_terminate` still waits for,
    terminate: AtomicU64,
    /// and when the first of them came (0: none has) that the loop has not seen.
    terminate_at: AtomicI64,
}

impl Place {
    const fn new() -> Place {
        Place {
            interest: AtomicU64::new(0),
            came: AtomicU64::new(0),
            wake_fd: AtomicI32::new(0),
            terminate: AtomicU64::new(0),
            terminate_at: AtomicI64::new(0),
        }
    }

    /// In the handler.
    fn note(&self, signo: c_int) {
        self.came.fetch_or(bit(signo), SeqCst);
        let one = 1u64;
        // SAFETY: open while there is interest: `close_eventfd` waits for handlers
        // that have seen some. It can not be full before 2^64 - 2 signals.
        unsafe { libc::write(self.wake_fd.load(SeqCst), (&raw const one).cast(), 8) };
        if self.terminate.load(SeqCst) & bit(signo) != 0 {
            let now = sys::monotonic_ns();
            let first = self.terminate_at.compare_exchange(0, now, SeqCst, SeqCst);
            if first.is_err_and(|at| now - at >= STUCK_NS) {
                act_by_default(signo);
            }
        }
    }

    fn clear(&self) {
        for bits in [&self.interest, &self.came, &self.terminate] {
            bits.store(0, SeqCst);
        }
        self.terminate_at.store(0, SeqCst);
    }
}

/// By hub number.
static PLACES: [Place; MAX_HUBS] = [const { Place::new() }; MAX_HUBS];
/// One above the highest hub number that was ever interested.
static PLACES_USED: AtomicUsize = AtomicUsize::new(0);
/// Handlers that may be about to write to an eventfd.
static IN_HANDLER: AtomicUsize = AtomicUsize::new(0);
/// The handler that was there for SIGCHLD before ours: of one sort or the other.
static BEFORE_PLAIN: AtomicUsize = AtomicUsize::new(0);
static BEFORE_INFO: AtomicUsize = AtomicUsize::new(0);

fn bit(signo: c_int) -> u64 {
    1 << (signo - 1)
}

/// The signals of a set, lowest first.
fn each(set: u64) -> impl Iterator<Item = c_int> {
    (1..=SIGNALS as c_int).filter(move |&signo| set & bit(signo) != 0)
}

extern "C" fn handler(signo: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let errno = sys::errno_location();
    // SAFETY: this thread's errno.
    let before = unsafe { *errno };
    IN_HANDLER.fetch_add(1, SeqCst);
    for place in PLACES.iter().take(PLACES_USED.load(SeqCst)) {
        if place.interest.load(SeqCst) & bit(signo) != 0 {
            place.note(signo);
        }
    }
    IN_HANDLER.fetch_sub(1, SeqCst);
    // SAFETY: as above.
    unsafe { *errno = before };
    if signo == libc::SIGCHLD {
        call_before(signo, info, context);
    }
}

/// The SIGCHLD handler that was there before. It may do what it likes (even jump
/// away): nothing of ours is open any more.
fn call_before(signo: c_int, info: *mut siginfo_t, context: *mut c_void) {
    type Plain = extern "C" fn(c_int);
    type Info = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);
    match (BEFORE_PLAIN.load(SeqCst), BEFORE_INFO.load(SeqCst)) {
        (0, 0) => {}
        // SAFETY: `chain` stored a handler without SA_SIGINFO there.
        (plain, 0) => unsafe { std::mem::transmute::<usize, Plain>(plain)(signo) },
        // SAFETY: `chain` stored a handler with SA_SIGINFO there.
        (_, with_info) => unsafe { std::mem::transmute::<usize, Info>(with_info)(signo, info, context) },
    }
}

/// In the handler: what the signal does to a program that has none. It is blocked
/// here, so it acts when the handler returns.
fn act_by_default(signo: c_int) {
    // SAFETY: both may be called in a handler.
    unsafe {
        libc::signal(signo, libc::SIG_DFL);
        libc::raise(signo);
    }
}

/// Waits until no handler is about to write to an eventfd that it saw interest in
/// before. A few instructions and one system call long.
fn wait_for_handlers() {
    while IN_HANDLER.load(SeqCst) > 0 {
        std::thread::yield_now();
    }
}

// ---- what the process has installed ---------------------------------------------

/// How many hubs want a signal, and what its action was before.
struct Installed {
    hubs: [u32; SIGNALS + 1],
    before: [Option<libc::sigaction>; SIGNALS + 1],
}

static INSTALLED: Mutex<Installed> =
    Mutex::new(Installed { hubs: [0; SIGNALS + 1], before: [const { None }; SIGNALS + 1] });

fn installed() -> MutexGuard<'static, Installed> {
    INSTALLED.lock().unwrap_or_else(|e| e.into_inner())
}

impl Installed {
    fn add(&mut self, signo: c_int) -> Result<()> {
        if self.hubs[signo as usize] == 0 {
            self.install(signo)?;
        }
        self.hubs[signo as usize] += 1;
        Ok(())
    }

    fn remove(&mut self, signo: c_int) {
        self.hubs[signo as usize] -= 1;
        if self.hubs[signo as usize] == 0 {
            self.restore(signo);
        }
    }

    fn install(&mut self, signo: c_int) -> Result<()> {
        sys::may_fail(sys::Call::Sigaction)?;
        let before = sys::sigaction(signo, None)?;
        // SAFETY: zero is a valid sigaction.
        let mut ours: libc::sigaction = unsafe { std::mem::zeroed() };
        ours.sa_sigaction = handler as *const () as usize;
        // Nothing interrupts ours, to jump away from the middle of it. But a fault does:
        // blocked, it would end the process without a word.
        // SAFETY: a set to fill in; a number that is a signal's.
        unsafe { libc::sigfillset(&mut ours.sa_mask) };
        for signo in FAULTS {
            // SAFETY: as above.
            unsafe { libc::sigdelset(&mut ours.sa_mask, signo) };
        }
        // On the alternate stack: a greenlet's own may be small.
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
        if signo == libc::SIGCHLD {
            ours.sa_flags |= chain(&before);
        }
        sys::sigaction(signo, Some(&ours))?;
        self.before[signo as usize] = Some(before);
        Ok(())
    }

    /// Puts back what was there before, unless somebody has replaced ours since.
    fn restore(&mut self, signo: c_int) {
        let Some(before) = self.before[signo as usize].take() else { return };
        match sys::sigaction(signo, Some(&before)) {
            Ok(was) if was.sa_sigaction != handler as *const () as usize => {
                let _ = sys::sigaction(signo, Some(&was));
            }
            _ => {}
        }
    }
}

/// Remembers whom to call for SIGCHLD besides us, before our handler can run. The
/// flags that say which children are reported and which stay as zombies, which ours
/// is to have as well: for the rest of the program nothing changes.
fn chain(before: &libc::sigaction) -> c_int {
    let (plain, with_info) = match before.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => (0, 0),
        f if before.sa_flags & libc::SA_SIGINFO != 0 => (0, f),
        f => (f, 0),
    };
    BEFORE_INFO.store(with_info, SeqCst);
    BEFORE_PLAIN.store(plain, SeqCst);
    let ignored = if before.sa_sigaction == libc::SIG_IGN { libc::SA_NOCLDWAIT } else { 0 };
    before.sa_flags & (libc::SA_NOCLDSTOP | libc::SA_NOCLDWAIT) | ignored
}

// ---- a hub's share ---------------------------------------------------------------

/// Told of each signal that somebody in this hub has subscribed to.
pub type ListenFn = fn(&Hub, c_int);

/// A hub's interest in signals.
struct Signals {
    /// How often each is wanted here: by watchers, by `wait`, by `on_terminate`.
    wanted: RefCell<[u32; SIGNALS + 1]>,
    /// The signals that `wait` has ever asked for; kept until `release`.
    kept: Cell<u64>,
    /// Those of them that came while nobody waited.
    unclaimed: Cell<u64>,
    waiters: WaitList,
    listeners: RefCell<Vec<ListenFn>>,
    on_terminate: Cell<Option<(PostFn, *mut c_void)>>,
    /// The eventfd while any signal is wanted, else -1.
    wake_fd: Cell<RawFd>,
    wake: FdNode,
}

impl Default for Signals {
    fn default() -> Signals {
        Signals {
            wanted: RefCell::new([0; SIGNALS + 1]),
            kept: Cell::new(0),
            unclaimed: Cell::new(0),
            waiters: WaitList::default(),
            listeners: RefCell::new(Vec::new()),
            on_terminate: Cell::new(None),
            wake_fd: Cell::new(-1),
            wake: FdNode::new(woken).persistent(),
        }
    }
}

impl Drop for Signals {
    /// The hub ends: handlers that only it wanted are restored.
    fn drop(&mut self) {
        let Some(hub) = Hub::existing() else { return };
        for signo in 1..=SIGNALS as c_int {
            if std::mem::take(&mut self.wanted.get_mut()[signo as usize]) > 0 {
                self.withdraw(hub, signo);
            }
        }
        self.close_eventfd(hub);
    }
}

/// The eventfd is readable.
unsafe fn woken(_: *const FdNode) {
    if let Some(hub) = Hub::existing() {
        let signals = Signals::of(hub);
        sys::drain(signals.wake_fd.get()); // first: what comes from now on wakes again
        signals.collect(hub);
    }
}

impl Signals {
    fn of(hub: &Hub) -> &Signals {
        hub.extension::<Signals>()
    }

    fn place(hub: &Hub) -> &'static Place {
        &PLACES[hub.remote.number]
    }

    fn open_eventfd(&self, hub: &Hub) -> Result<()> {
        if self.wake_fd.get() >= 0 {
            return Ok(());
        }
        install_at_fork();
        let fd = sys::eventfd()?;
        if let Err(e) = hub.poller().add(&self.wake, fd, READ) {
            sys::close(fd);
            return Err(e);
        }
        self.wake_fd.set(fd);
        Signals::place(hub).wake_fd.store(fd, SeqCst);
        PLACES_USED.fetch_max(hub.remote.number + 1, SeqCst);
        Ok(())
    }

    /// After the last interest has gone.
    fn close_eventfd(&self, hub: &Hub) {
        let fd = self.wake_fd.replace(-1);
        if fd >= 0 {
            wait_for_handlers();
            Signals::place(hub).clear();
            hub.poller().remove(&self.wake);
            hub.poller().forget(fd);
            sys::close(fd);
        }
    }

    fn wants_nothing(&self) -> bool {
        self.wanted.borrow().iter().all(|&n| n == 0)
    }

    /// One more who wants `signo`. EINVAL, EMFILE, ENOMEM.
    fn want(&self, hub: &Hub, signo: c_int) -> Result<()> {
        check(signo)?;
        self.open_eventfd(hub)?;
        let count = self.wanted.borrow()[signo as usize];
        if count == 0 {
            // Interest first: a signal that finds the handler finds us, too.
            let Place { interest, came, .. } = Signals::place(hub);
            came.fetch_and(!bit(signo), SeqCst); // of an earlier interest
            interest.fetch_or(bit(signo), SeqCst);
            if let Err(e) = installed().add(signo) {
                interest.fetch_and(!bit(signo), SeqCst);
                if self.wants_nothing() {
                    self.close_eventfd(hub);
                }
                return Err(e);
            }
        }
        self.wanted.borrow_mut()[signo as usize] = count + 1;
        Ok(())
    }

    fn want_no_more(&self, hub: &Hub, signo: c_int) {
        let count = self.wanted.borrow()[signo as usize];
        if count == 0 {
            return;
        }
        self.wanted.borrow_mut()[signo as usize] = count - 1;
        if count == 1 {
            self.withdraw(hub, signo);
            if self.wants_nothing() {
                self.close_eventfd(hub);
            }
        }
    }

    /// The handler first: a signal that still finds it still finds us.
    fn withdraw(&self, hub: &Hub, signo: c_int) {
        installed().remove(signo);
        let place = Signals::place(hub);
        place.interest.fetch_and(!bit(signo), SeqCst);
        place.came.fetch_and(!bit(signo), SeqCst);
    }

    /// Delivers what has come.
    fn collect(&self, hub: &Hub) {
        for signo in each(Signals::place(hub).came.swap(0, SeqCst)) {
            if TERMINATION.contains(&signo) {
                self.terminate(hub);
            }
            // One that begins to listen meanwhile hears the next.
            let listeners = self.listeners.borrow().clone();
            listeners.iter().for_each(|told| told(hub, signo));
            self.give(hub, signo);
        }
    }

    /// Gives a signal to the first greenlet that waits for it, or keeps it for the
    /// next that will.
    fn give(&self, hub: &Hub, signo: c_int) {
        match self.waiters.iter().find(|n| set_in(n) & bit(signo) != 0) {
            Some(node) => {
                node.unlink();
                node.value.set(signo as usize as *mut c_void);
                hub.grant(node);
            }
            None => self.unclaimed.set(self.unclaimed.get() | self.kept.get() & bit(signo)),
        }
    }

    fn terminate(&self, hub: &Hub) {
        let Some((f, arg)) = self.on_terminate.take() else { return };
        hub.later(Callback::Call(f, arg));
        self.stop_terminating(hub);
    }

    fn stop_terminating(&self, hub: &Hub) {
        let place = Signals::place(hub);
        place.terminate.store(0, SeqCst);
        place.terminate_at.store(0, SeqCst);
        TERMINATION.iter().for_each(|&signo| self.want_no_more(hub, signo));
    }

    /// Registers `set`, all of it or nothing.
    fn keep(&self, hub: &Hub, set: u64) -> Result<()> {
        let new = set & !self.kept.get();
        for signo in each(new) {
            if let Err(e) = self.want(hub, signo) {
                each(new).take_while(|&s| s != signo).for_each(|s| self.want_no_more(hub, s));
                return Err(e);
            }
        }
        self.kept.set(self.kept.get() | new);
        Ok(())
    }
}

/// The set of signals that a node waits for.
fn set_in(node: &WaitNode) -> u64 {
    node.value.get() as usize as u64
}

// ---- for watchers and greenlets ---------------------------------------------------

/// EINVAL for what is no signal, can not be caught, is the C library's own, or is a
/// fault: a handler that returns from one runs into it again.
pub fn check(signo: c_int) -> Result<()> {
    let known = (1..=31).contains(&signo) || (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&signo);
    let never = [libc::SIGKILL, libc::SIGSTOP].contains(&signo) || FAULTS.contains(&signo);
    if known && !never { Ok(()) } else { Err(Error::INVAL) }
}

/// A set of signals as bits. EINVAL for an empty one.
pub fn set_of(signos: &[c_int]) -> Result<u64> {
    signos.iter().try_for_each(|&signo| check(signo))?;
    let set = signos.iter().fold(0, |set, &signo| set | bit(signo));
    if set == 0 { Err(Error::INVAL) } else { Ok(set) }
}

/// Has `f` told of the signals that are subscribed to, by whomever. Called once for each.
pub fn listen(hub: &Hub, f: ListenFn) {
    Signals::of(hub).listeners.borrow_mut().push(f);
}

/// The listener will be told of `signo`. EINVAL, EMFILE, ENOMEM.
pub fn subscribe(hub: &Hub, signo: c_int) -> Result<()> {
    Signals::of(hub).want(hub, signo)
}

/// Undoes one `subscribe`.
pub fn unsubscribe(hub: &Hub, signo: c_int) {
    Signals::of(hub).want_no_more(hub, signo);
}

/// Waits until one of `set` comes, and takes it. Interest in the set stays.
pub fn wait(hub: &Hub, set: u64, deadline: Deadline) -> Result<c_int> {
    let signals = Signals::of(hub);
    if !deadline.is_now() {
        hub.check()?;
        hub.may_park()?;
    }
    signals.keep(hub, set)?;
    signals.collect(hub); // what came a moment ago counts even if we do not wait
    if let Some(signo) = each(signals.unclaimed.get() & set).next() {
        signals.unclaimed.set(signals.unclaimed.get() & !bit(signo));
        return Ok(signo);
    }
    hub.hold(); // a signal may always come: no deadlock
    let mask = set as usize as *mut c_void;
    let waited = hub.wait_in(&signals.waiters, Role::Taker, mask, deadline, Waiting::Signal);
    hub.unhold();
    match waited {
        Waited::Granted(signo) => Ok(signo as usize as c_int),
        Waited::Returned(signo, e) => {
            signals.give(hub, signo as usize as c_int);
            Err(e)
        }
        Waited::Failed(e) => Err(e),
    }
}

/// Ends the interest that `wait` has left in `set`; who waits for one of them gets
/// ECANCELED.
pub fn release(hub: &Hub, set: u64) {
    let signals = Signals::of(hub);
    let set = set & signals.kept.get();
    signals.kept.set(signals.kept.get() & !set);
    signals.unclaimed.set(signals.unclaimed.get() & !set);
    while let Some(node) = signals.waiters.iter().find(|n| set_in(n) & set != 0) {
        node.unlink();
        hub.refuse(node, Error::CANCELED);
    }
    each(set).for_each(|signo| signals.want_no_more(hub, signo));
}

/// Has `f(arg)` run in the loop, once, at the first signal that asks the process to
/// end; then these signals do again what they did before. EALREADY, EMFILE, ENOMEM.
pub fn on_terminate(hub: &Hub, f: PostFn, arg: *mut c_void) -> Result<()> {
    let signals = Signals::of(hub);
    if signals.on_terminate.get().is_some() {
        return Err(Error::ALREADY);
    }
    for signo in TERMINATION {
        if let Err(e) = signals.want(hub, signo) {
            TERMINATION.iter().take_while(|&&s| s != signo).for_each(|&s| signals.want_no_more(hub, s));
            return Err(e);
        }
    }
    signals.on_terminate.set(Some((f, arg)));
    let place = Signals::place(hub);
    place.terminate.store(TERMINATION.iter().fold(0, |set, &s| set | bit(s)), SeqCst);
    Ok(())
}

// ---- fork --------------------------------------------------------------------------

thread_local! {
    static GUARD: RefCell<Option<MutexGuard<'static, Installed>>> = const { RefCell::new(None) };
}

/// Besides the hub's own fork handler, because the process's handlers are everybody's:
/// a thread without a hub may fork as well. Installed later than that one, so it runs
/// after it in the child, when the new poller is there.
fn install_at_fork() {
    static DONE: Deed = Deed::new();
    // SAFETY: three functions that stay for the life of the process.
    DONE.once(|| _ = unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) });
}

extern "C" fn before_fork() {
    if GUARD.try_with(|g| g.borrow().is_some()).unwrap_or(false) {
        return; // installed twice, see `Deed`
    }
    let guard = installed();
    let _ = GUARD.try_with(|g| *g.borrow_mut() = Some(guard));
}

extern "C" fn in_parent() {
    let _ = GUARD.try_with(|g| g.borrow_mut().take());
}

/// The child begins with the handlers that were there before ours, and with no
/// interest. The eventfds are shared with the parent: a signal that comes before we
/// have closed our copies wakes it once for nothing.
extern "C" fn in_child() {
    if GUARD.try_with(|g| g.borrow_mut().take().is_none()).unwrap_or(false) {
        return;
    }
    let mut installed = installed();
    for signo in 1..=SIGNALS {
        installed.hubs[signo] = 0;
        installed.restore(signo as c_int);
    }
    for place in PLACES.iter().take(PLACES_USED.load(SeqCst)) {
        if place.interest.load(SeqCst) != 0 {
            sys::close(place.wake_fd.load(SeqCst));
        }
        place.clear();
    }
    IN_HANDLER.store(0, SeqCst); // those of the parent's other threads
    if let Some(hub) = Hub::existing() {
        Signals::of(hub).forget();
    }
}

impl Signals {
    fn forget(&self) {
        *self.wanted.borrow_mut() = [0; SIGNALS + 1];
        self.kept.set(0);
        self.unclaimed.set(0);
        self.on_terminate.set(None);
        self.wake_fd.set(-1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_take_every_signal_that_can_be_caught_and_no_other() {
        assert_eq!(set_of(&[libc::SIGINT, libc::SIGHUP]), Ok(0b11));
        assert_eq!(set_of(&[libc::SIGRTMAX()]), Ok(1 << 63));
        for bad in [0, -1, 65, 32, 33, libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, i32::MIN, i32::MAX] {
            assert_eq!(set_of(&[libc::SIGINT, bad]), Err(Error::INVAL), "{bad}");
        }
        assert_eq!(set_of(&[]), Err(Error::INVAL));
    }

    #[test]
    fn a_set_is_walked_from_the_lowest_signal() {
        assert_eq!(each(1 << 63 | 0b101).collect::<Vec<_>>(), [1, 3, 64]);
    }
}
