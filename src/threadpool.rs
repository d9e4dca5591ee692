//! Threads for what must block: a job runs in one of them while its greenlet is parked.
//!
//! ```text
//! push --> queue --> run by a thread --> its waiter has the answer
//!            |
//!            +--> taken out by deadline, kill, cancel or shutdown: never runs
//! ```
//!
//! A thread starts when a job finds none idle, up to the pool's size, and ends when it
//! has been idle for so long. The one that went idle last is taken first, so that those
//! which are not needed stay idle and end.
//!
//! Threads do not survive a fork, and one of them may have held our lock: a forked child
//! starts with a new `Crew` and leaves the old one alone for good.

use crate::error::{Error, Result};
use crate::fork::{self, Section};
use crate::greenlet::{DestroyFn, Waiting};
use crate::handle::{Kind, Object};
use crate::hub::Hub;
use crate::registry::{self, SharedObject};
use crate::sync::result::Outcome;
use crate::sync::shared::{SharedEvent, SharedResult, failure};
use crate::ticket::Ticket;
use crate::time::{Deadline, now};
use crate::{fence, sys};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicI64, AtomicPtr, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

/// How long a thread waits for the next job before it ends.
const IDLE_NS: i64 = 10_000_000_000;
/// What a pool of no given size has besides one thread a core: jobs wait more than
/// they work, or they would not be here.
const MORE_THAN_CORES: usize = 4;

pub type JobFn = extern "C-unwind" fn(*mut c_void) -> *mut c_void;

/// A pointer of the user's, or what he made of it, on its way between two threads.
struct Carried<T>(T);
// SAFETY: the user gives it to a job, which is to say to another thread.
unsafe impl<T> Send for Carried<T> {}

/// What becomes of a job: exactly one of the two.
enum Fate {
    Run,
    Canceled,
}

struct Job {
    work: Box<dyn FnOnce(Fate) + Send>,
    /// The handle of its result, by which it is cancelled; 0 for an offload.
    result: i64,
}

/// What a job has come to: a value, or why there is none.
type Given<T> = std::result::Result<T, Failure>;

struct Failure {
    error: Error,
    message: String,
}

fn carry_out<T>(fate: Fate, work: impl FnOnce() -> T) -> Given<T> {
    if let Fate::Canceled = fate {
        return Err(Failure { error: Error::CANCELED, message: String::new() });
    }
    let before = fork::generation();
    let outcome = fence::call(|| "a job in a thread pool".into(), work);
    if fork::generation() != before {
        fork::exit_child(); // the job has forked, and who waits for it is the parent's
    }
    outcome.map_err(|message| Failure { error: Error::PANIC, message })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

// ---- the job of an offload, between its thread and its waiter ---------------------

enum Answer<T> {
    Awaited,
    Given(Given<T>),
    /// Nobody waits any more.
    Left,
}

struct Call<T> {
    ticket: Arc<Ticket>,
    answer: Mutex<Answer<T>>,
}

impl<T> Call<T> {
    fn give(&self, given: Given<T>) {
        // Main may wait for it, and go on in a forked child.
        let _section = Section::enter();
        let mut answer = lock(&self.answer);
        if let Answer::Awaited = *answer {
            *answer = Answer::Given(given);
            self.ticket.grant();
        }
    }

    /// The wait is over, one way or the other: the answer, if it came in time.
    fn leave(&self) -> Option<Given<T>> {
        match std::mem::replace(&mut *lock(&self.answer), Answer::Left) {
            Answer::Given(given) => Some(given),
            _ => None,
        }
    }
}

// ---- jobs written in C ----------------------------------------------------------

thread_local! {
    /// The crew that this thread works in.
    static CREW: Cell<*const Crew> = const { Cell::new(std::ptr::null()) };
    /// What the job that runs here has failed with.
    static FAILED: Cell<Option<Outcome>> = const { Cell::new(None) };
}

/// weald_fail in a job, outside any greenlet that the job runs: the job fails. False
/// when this is no job.
pub fn fail_job(code: i32, message: Option<&str>) -> bool {
    let in_job = !CREW.get().is_null() && Hub::existing().is_none_or(|hub| hub.is_main(hub.current()));
    if in_job {
        FAILED.set(Some(failure(code, message.unwrap_or_default())));
    }
    in_job
}

fn call(f: JobFn, arg: Carried<*mut c_void>) -> Carried<Outcome> {
    FAILED.set(None);
    let value = f(arg.0);
    Carried(FAILED.take().unwrap_or_else(|| Outcome::value(value)))
}

// ---- the pool ---------------------------------------------------------------------

/// What a handle stands for. Outlives the threads: see `crew`.
pub struct ThreadPool {
    /// 0: as many as fit the machine.
    max: usize,
    idle_ns: AtomicI64,
    /// Null until it is needed. Holds one reference, given up when the pool is dropped.
    crew: AtomicPtr<Crew>,
}

static DEFAULT: ThreadPool = ThreadPool::new(0);

/// The pool for everybody who has made none.
pub fn default() -> &'static ThreadPool {
    &DEFAULT
}

// SAFETY: `close` drops the Arc that `registry::share` stored.
unsafe impl Object for ThreadPool {
    const KIND: Kind = Kind::ThreadPool;
    unsafe fn close(this: *const Self) {
        // SAFETY: stored by `registry::share`.
        unsafe { Arc::from_raw(this) }.crew().close();
    }
}
// SAFETY: as above.
unsafe impl SharedObject for ThreadPool {}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        let crew = *self.crew.get_mut();
        // SAFETY: null, or from Arc::into_raw and kept alive by the pool's reference.
        let crew = unsafe { crew.as_ref() };
        if let Some(crew) = crew.filter(|c| !c.is_the_parents()) {
            // SAFETY: the pool's reference, given up once.
            unsafe { Arc::decrement_strong_count(crew) };
        }
    }
}

impl ThreadPool {
    pub const fn new(max: usize) -> ThreadPool {
        let crew = AtomicPtr::new(std::ptr::null_mut());
        ThreadPool { max, idle_ns: AtomicI64::new(IDLE_NS), crew }
    }

    /// The threads of this process. Whoever comes first after a fork makes new ones;
    /// the parent's are left as they are, locked perhaps, and never touched again.
    fn crew(&self) -> Arc<Crew> {
        let mut at = self.crew.load(SeqCst);
        // SAFETY: null, or alive: the reference is given up in `drop` alone.
        if unsafe { at.as_ref() }.is_none_or(Crew::is_the_parents) {
            let fresh = Arc::into_raw(Crew::new(self.max, self.idle_ns.load(SeqCst))).cast_mut();
            at = match self.crew.compare_exchange(at, fresh, SeqCst, SeqCst) {
                Ok(_) => fresh,
                Err(sooner) => {
                    // SAFETY: made above, and nobody has seen it.
                    drop(unsafe { Arc::from_raw(fresh) });
                    sooner
                }
            };
        }
        // SAFETY: alive as above.
        unsafe { Arc::increment_strong_count(at) };
        // SAFETY: the count just raised is ours.
        unsafe { Arc::from_raw(at) }
    }

    /// Runs `work` in a thread; the current greenlet waits for what it returns. At the
    /// deadline, or when the wait is cut short, a job that still waits never runs, and
    /// the value of one that runs is dropped where it runs. EAGAIN when no thread is to
    /// be had, EPIPE after shutdown, ECANCELED when that comes meanwhile, EPANIC.
    pub fn offload<T: Send + 'static>(
        &self,
        hub: &Hub,
        work: impl FnOnce() -> T + Send + 'static,
        deadline: Deadline,
    ) -> Result<T> {
        if deadline.is_now() {
            return Err(Error::AGAIN);
        }
        hub.check()?;
        hub.may_park()?;
        if deadline.has_passed() {
            return Err(Error::TIMEDOUT);
        }
        let crew = self.crew();
        let ticket = Ticket::new(hub, std::ptr::null_mut());
        let call = Arc::new(Call { ticket, answer: Mutex::new(Answer::Awaited) });
        let theirs = call.clone();
        let work = Box::new(move |fate| theirs.give(carry_out(fate, work)));
        let number = crew.push(Job { work, result: 0 })?;

        let mut waited = Ok(());
        while waited.is_ok() && !call.ticket.is_granted() {
            waited = call.ticket.park(hub, deadline, Waiting::Thread);
        }
        // The answer may have come before the wait began, and its wake-up is still to come.
        call.ticket.retire();
        match (call.leave(), waited) {
            (Some(given), _) => given.map_err(|failure| tell(hub, failure)),
            (None, waited) => {
                drop(crew.take_out(number));
                Err(waited.err().unwrap_or(Error::CANCELED))
            }
        }
    }

    /// `offload` for a function written in C.
    pub fn offload_call(&self, hub: &Hub, f: JobFn, arg: *mut c_void, deadline: Deadline) -> Result<*mut c_void> {
        let arg = Carried(arg);
        self.offload(hub, move || call(f, arg), deadline)?.0.get()
    }

    /// Has `f(arg)` run in a thread; the handle of a shared result. `destroy` gets a
    /// value when the result has been closed.
    pub fn submit(&self, f: JobFn, arg: *mut c_void, destroy: Option<DestroyFn>) -> Result<i64> {
        let result = SharedResult::new(destroy);
        let handle = registry::share(result.clone())?;
        let arg = Carried(arg);
        let work = Box::new(move |fate| {
            let outcome = match carry_out(fate, || call(f, arg)) {
                Ok(Carried(outcome)) => outcome,
                Err(Failure { error, message }) => failure(error.code(), &message),
            };
            // EALREADY: somebody else has set it, and that is his business.
            let _ = result.set(handle, outcome);
        });
        self.crew().push(Job { work, result: handle }).inspect_err(|_| {
            let _ = registry::close(handle);
        })?;
        Ok(handle)
    }

    /// Takes the job behind `result` out of the queue: it fails with ECANCELED.
    /// EALREADY when it runs or has run. O(n) in the jobs that wait.
    pub fn cancel(&self, result: i64) -> Result<()> {
        registry::shared::<SharedResult>(result)?;
        let job = self.crew().find(result).ok_or(Error::ALREADY)?;
        (job.work)(Fate::Canceled);
        Ok(())
    }

    /// How many threads there are now.
    pub fn size(&self) -> usize {
        lock(&self.crew().state).threads.len()
    }

    /// How long a thread waits for the next job before it ends.
    pub fn set_idle(&self, ns: i64) {
        self.idle_ns.store(ns, SeqCst);
        let crew = self.crew();
        let mut s = lock(&crew.state);
        s.idle_ns = ns;
        s.idle.iter().for_each(Thread::unpark); // they reckon anew
    }

    /// Refuses new jobs, cancels those that wait, waits for those that run and for the
    /// end of the threads. `handle` is the pool's, for reports.
    pub fn shutdown(&self, hub: &Hub, handle: i64, deadline: Deadline) -> Result<()> {
        if !deadline.is_now() {
            hub.check()?;
            hub.may_park()?;
        }
        let crew = self.crew();
        if std::ptr::eq(CREW.get(), &*crew) {
            return Err(Error::DEADLK); // a job that waits for its own end
        }
        for (_, job) in crew.end() {
            (job.work)(Fate::Canceled);
        }
        crew.quiet.wait(hub, handle, deadline)?;
        let threads = std::mem::take(&mut lock(&crew.state).threads);
        // They have nothing left to do but to end.
        threads.into_iter().for_each(|t| drop(t.join()));
        Ok(())
    }
}

/// A panic's message has nowhere else to go: the caller gets a code.
fn tell(hub: &Hub, failure: Failure) -> Error {
    if failure.error == Error::PANIC {
        hub.report_failure(hub.current().handle.get(), failure.error, &failure.message);
    }
    failure.error
}

// ---- the threads ------------------------------------------------------------------

/// The threads of one pool in one process, and what they have to do.
struct Crew {
    /// `fork::generation()` when it was made.
    generation: u64,
    max: usize,
    state: Mutex<State>,
    /// Ending, and nothing runs any more.
    quiet: SharedEvent,
}

struct State {
    /// By number, which is the order of arrival. A tree, because deadlines take jobs
    /// out of the middle.
    queue: BTreeMap<u64, Job>,
    next_number: u64,
    threads: Vec<JoinHandle<()>>,
    /// Parked. Whoever wakes one for a job takes it off.
    idle: Vec<Thread>,
    idle_ns: i64,
    running: usize,
    /// Takes no more jobs; threads that find none end.
    ending: bool,
}

impl State {
    fn threads_end(&mut self) {
        self.ending = true;
        self.idle.drain(..).for_each(|t| t.unpark());
    }
}

impl Crew {
    fn new(max: usize, idle_ns: i64) -> Arc<Crew> {
        Hub::watch_forks();
        let max = if max == 0 { sys::cores() + MORE_THAN_CORES } else { max };
        let state = State {
            queue: BTreeMap::new(),
            next_number: 0,
            threads: Vec::new(),
            idle: Vec::new(),
            idle_ns,
            running: 0,
            ending: false,
        };
        let state = Mutex::new(state);
        Arc::new(Crew { generation: fork::generation(), max, state, quiet: SharedEvent::default() })
    }

    fn is_the_parents(&self) -> bool {
        self.generation != fork::generation()
    }

    /// Queues a job and finds it a thread; its number. When there is no new thread to
    /// be had the others do it, when there is no thread at all the job is not taken.
    fn push(self: &Arc<Crew>, job: Job) -> Result<u64> {
        let mut s = lock(&self.state);
        if s.ending {
            return Err(Error::PIPE);
        }
        let number = s.next_number;
        s.next_number += 1;
        s.queue.insert(number, job);
        if let Some(idle) = s.idle.pop() {
            idle.unpark();
        } else if s.threads.len() < self.max
            && let Err(e) = self.start_thread(&mut s)
            && s.threads.is_empty()
        {
            let job = s.queue.remove(&number);
            drop(s);
            drop(job); // outside the lock: it holds things that are not ours
            return Err(e);
        }
        Ok(number)
    }

    /// Under the lock, so that nobody counts on a thread that could not be started.
    fn start_thread(self: &Arc<Crew>, s: &mut State) -> Result<()> {
        let crew = self.clone();
        s.threads.push(sys::thread("weald-pool", move || crew.work())?);
        Ok(())
    }

    fn take_out(&self, number: u64) -> Option<Job> {
        lock(&self.state).queue.remove(&number)
    }

    fn find(&self, result: i64) -> Option<Job> {
        let mut s = lock(&self.state);
        let number = s.queue.iter().find(|(_, job)| job.result == result).map(|(&number, _)| number)?;
        s.queue.remove(&number)
    }

    /// Shutdown's first step; what was still queued.
    fn end(&self) -> BTreeMap<u64, Job> {
        let mut s = lock(&self.state);
        s.threads_end();
        if s.running == 0 {
            self.quiet.set();
        }
        std::mem::take(&mut s.queue)
    }

    /// The pool has no handle any more: what is queued is done, then the threads end,
    /// and nobody waits for that.
    fn close(&self) {
        let mut s = lock(&self.state);
        s.threads_end();
        s.threads.clear();
        self.quiet.closed();
    }

    /// The life of a thread.
    fn work(&self) {
        CREW.set(self);
        let mut s = lock(&self.state);
        loop {
            if let Some((_, job)) = s.queue.pop_first() {
                s.running += 1;
                drop(s);
                (job.work)(Fate::Run);
                s = lock(&self.state);
                s.running -= 1;
                if s.ending && s.running == 0 {
                    self.quiet.set();
                }
            } else if s.ending {
                return; // `shutdown` joins it
            } else {
                match self.rest(s) {
                    Some(awake) => s = awake,
                    None => return,
                }
            }
        }
    }

    /// Waits until there may be something to do; `None` when the thread has been idle
    /// for long enough and is off the list.
    fn rest<'a>(&'a self, mut s: MutexGuard<'a, State>) -> Option<MutexGuard<'a, State>> {
        let me = thread::current();
        let is_me = |t: &Thread| t.id() == me.id();
        let since = now();
        s.idle.push(me.clone());
        loop {
            let left = s.idle_ns.saturating_sub(now() - since);
            if left <= 0 {
                s.idle.retain(|t| !is_me(t));
                s.threads.retain(|t| !is_me(t.thread()));
                return None;
            }
            drop(s);
            thread::park_timeout(Duration::from_nanos(left as u64));
            s = lock(&self.state);
            if !s.idle.iter().any(is_me) {
                return Some(s);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn an_offload_brings_its_value_back() {
        let pool = ThreadPool::new(1);
        let hub = Hub::get().unwrap();
        let here = thread::current().id();
        let there = pool.offload(hub, || thread::current().id(), Deadline::NEVER).unwrap();
        assert_ne!(here, there);
    }

    #[test]
    fn a_panic_in_a_job_is_epanic_and_the_thread_lives() {
        let pool = ThreadPool::new(1);
        let hub = Hub::get().unwrap();
        let job = || -> i32 { panic!("on purpose") };
        assert_eq!(pool.offload(hub, job, Deadline::NEVER).unwrap_err(), Error::PANIC);
        assert_eq!(pool.offload(hub, || 1, Deadline::NEVER).unwrap(), 1);
        assert_eq!(pool.size(), 1);
    }

    #[test]
    fn what_a_job_holds_is_dropped_whether_or_not_it_runs() {
        let pool = ThreadPool::new(1);
        let hub = Hub::get().unwrap();
        let held = Arc::new(());
        let deadline = || Deadline::after(5_000_000);

        // Again, if the deadline passes before it has begun.
        let open = loop {
            let (open, gate) = channel::<()>();
            let (entered, has_entered) = channel();
            let mine = held.clone();
            let job = move || {
                entered.send(()).unwrap();
                gate.recv().unwrap();
                mine
            };
            assert_eq!(pool.offload(hub, job, deadline()).unwrap_err(), Error::TIMEDOUT);
            if has_entered.recv().is_ok() {
                break open;
            }
        };
        let mine = held.clone();
        assert_eq!(pool.offload(hub, move || mine, deadline()).unwrap_err(), Error::TIMEDOUT);
        assert_eq!(Arc::strong_count(&held), 2); // the one that runs has its own still
        open.send(()).unwrap();
        pool.shutdown(hub, 0, Deadline::NEVER).unwrap();
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
