//! Child processes: started, talked to, waited for, reaped.
//!
//! ```text
//!            spawn             it ends, and is reaped
//! (nothing) -------> running ------------------------> ended
//!                       |                                ^
//!                       +-- its handle is closed --------+   (nobody hears of it)
//! ```
//!
//! The loop reaps a child as soon as it ends, whoever waits or not, so there are no
//! zombies: by its pidfd, or by SIGCHLD where there are none. A running child is in the
//! hub's list, which keeps its record alive without a handle. What still runs when a hub
//! ends is left to the process, and reaped when the next child is started anywhere.
//!
//! Somebody else may reap a child first (`waitpid(-1)`): then its end is ECHILD. Child
//! watchers of the same hub are no such somebody: they and we tell each other.
//!
//! In a forked child the parent's children are nobody's: ECHILD.

use crate::error::{Error, Result};
use crate::fork::{self, Section};
use crate::greenlet::{State, Waiting};
use crate::handle::Kind;
use crate::heap::Block;
use crate::hub::Hub;
use crate::object::{self, insert, keep};
use crate::poller::{FdNode, GONE, READ};
use crate::sys::child::{self, Child, Launch};
use crate::sys::descriptor;
use crate::time::Deadline;
use crate::wait::Waited;
use crate::waitlist::{Role, WaitList};
use crate::{fence, rw, signal, sys, watcher};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::offset_of;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Mutex;

/// Where programs are looked for when the environment does not say.
const USUAL_PATH: &[u8] = b"/bin:/usr/bin";
/// How much is read from a pipe at a time: what it holds by default.
const CHUNK: usize = 64 << 10;
/// So many chunks of one child, and the others have their turn.
const CHUNKS_A_TURN: u32 = 16;

/// What a child gets as one of its first three descriptors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stdio {
    Inherit,
    Null,
    Pipe,
    Fd(RawFd),
    /// For stderr: what stdout is.
    Out,
}

/// What to start, and how. The pointers stay good during `spawn`.
pub struct Setup<'a> {
    pub argv: *const *const c_char,
    pub program: &'a CStr,
    /// Null: this process's own.
    pub env: *const *const c_char,
    pub cwd: *const c_char,
    pub stdio: [Stdio; 3],
    /// What it has as 3, 4 and so on; negative: what is there.
    pub fds: &'a [RawFd],
    pub new_session: bool,
    pub close_fds: bool,
}

/// What `communicate` has read.
pub struct Output {
    pub out: Option<Block>,
    pub err: Option<Block>,
    pub status: i32,
}

/// How far `communicate` has come; kept for a call that goes on after a deadline.
#[derive(Default)]
struct Talk {
    written: usize,
    /// By descriptor; the first is not used.
    read: [Block; 3],
}

pub struct Process {
    child: Cell<Child>,
    /// The wait status, or why there is none.
    end: Cell<Option<Result<i32>>>,
    /// The poller, or the listener to SIGCHLD, tells of its end.
    watched: Cell<bool>,
    node: FdNode,
    /// Our ends of its pipes; -1: none.
    ends: [Cell<RawFd>; 3],
    has_pipe: [Cell<bool>; 3],
    talk: RefCell<Talk>,
    is_talking: Cell<bool>,
    /// The greenlet that is parked in `communicate`; 0: none.
    talker: Cell<i64>,
    is_closed: Cell<bool>,
    waiters: WaitList,
    handle: Cell<i64>,
}

crate::hub_object!(Process, Kind::Process);

/// How a forked child exits that fell by a panic: as a Rust program does.
const PANIC_STATUS: c_int = 101;

/// In a waiter's value: it was not for us to reap.
const STOLEN: usize = 1 << 32;

// ---- starting ---------------------------------------------------------------------

/// The descriptors of a child to be; closed unless they are taken.
struct Ends {
    ours: [RawFd; 3],
    /// What the child gets, by number.
    theirs: Vec<RawFd>,
    /// Those of them that were opened for it.
    opened: Vec<RawFd>,
}

impl Ends {
    fn open(stdio: &[Stdio; 3], more: &[RawFd]) -> Result<Ends> {
        let mut ends = Ends { ours: [-1; 3], theirs: Vec::new(), opened: Vec::new() };
        for (i, &kind) in stdio.iter().enumerate() {
            let theirs = match kind {
                Stdio::Inherit => child::KEEP,
                Stdio::Out => child::AS_OUT,
                Stdio::Fd(fd) => fd,
                Stdio::Null => ends.for_child(child::null()?),
                Stdio::Pipe => ends.pipe(i)?,
            };
            ends.theirs.push(theirs);
        }
        ends.theirs.extend(more.iter().map(|&fd| if fd < 0 { child::KEEP } else { fd }));
        Ok(ends)
    }

    fn for_child(&mut self, fd: RawFd) -> RawFd {
        self.opened.push(fd);
        fd
    }

    fn pipe(&mut self, i: usize) -> Result<RawFd> {
        let [read, write] = child::pipe()?;
        let (ours, theirs) = if i == 0 { (write, read) } else { (read, write) };
        self.ours[i] = ours;
        self.for_child(theirs);
        descriptor::set_nonblocking(ours, true)?;
        Ok(theirs)
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.ours.iter().chain(&self.opened).filter(|&&fd| fd >= 0).for_each(|&fd| sys::close(fd));
    }
}

impl Process {
    /// Starts a program; nothing is left of it when that fails. EMFILE, ENOMEM, EAGAIN, and
    /// what chdir and exec fail with.
    pub fn spawn(hub: &Hub, setup: &Setup) -> Result<i64> {
        let mut ends = Ends::open(&setup.stdio, setup.fds)?;
        let programs = candidates(setup.program, path_in(setup.env));
        let launch = Launch {
            programs: &programs,
            argv: setup.argv,
            env: if setup.env.is_null() { environment() } else { setup.env },
            cwd: setup.cwd,
            fds: std::mem::take(&mut ends.theirs),
            new_session: setup.new_session,
            close_others: setup.close_fds,
        };
        let process = Process::begin(hub, || child::launch(launch))?;
        for i in 0..3 {
            let fd = std::mem::replace(&mut ends.ours[i], -1);
            hub.poller().is_new(fd);
            process.ends[i].set(fd);
            process.has_pipe[i].set(fd >= 0);
        }
        Ok(process.handle.get())
    }

    /// A record, and the child that `start` makes.
    fn begin(hub: &Hub, start: impl FnOnce() -> Result<Child>) -> Result<Rc<Process>> {
        let processes = Processes::of(hub);
        processes.get_known(hub);
        reap_left();
        let by_signal = !child::has_pidfds()?;
        if by_signal {
            signal::subscribe(hub, libc::SIGCHLD)?; // first: it may end at once
        }
        let made = Process::insert(hub).and_then(|process| {
            let child = start().inspect_err(|_| close_handle(hub, process.handle.get()))?;
            process.child.set(child);
            Ok(process)
        });
        let process = made.inspect_err(|_| {
            if by_signal {
                signal::unsubscribe(hub, libc::SIGCHLD);
            }
        })?;
        processes.run(hub, &process);
        process.watched.set(by_signal);
        let _ = process.watch(hub); // if there is no room now, `wait` will try again
        Ok(process)
    }

    /// A child that goes on with `body` in a copy of this process, whose value is its exit
    /// status. It has the hub, with this greenlet alone, and none of its processes' pipes.
    /// EAGAIN, ENOMEM, EMFILE, and those of `check` and `may_park`.
    pub fn fork(hub: &Hub, body: impl FnOnce(&Hub) -> c_int) -> Result<i64> {
        hub.check()?;
        hub.may_park()?; // a callback's stack is no place to go on
        let pipes = Processes::of(hub).all();
        let process = Process::begin(hub, || {
            let Some(child) = child::fork()? else {
                pipes.iter().for_each(|process| (0..3).for_each(|i| process.close_end(i)));
                let status = fence::call(|| "the body of a forked child".into(), || body(hub));
                child::end(status.unwrap_or_else(|message| {
                    descriptor::tell(&format!("weald: a panic in a forked child: {message}\n"));
                    PANIC_STATUS
                }))
            };
            Ok(child)
        })?;
        Ok(process.handle.get())
    }

    /// A record without a child.
    fn insert(hub: &Hub) -> Result<Rc<Process>> {
        let none = || Cell::new(-1);
        let handle = insert(
            hub,
            Process {
                child: Cell::new(Child { pid: 0, pidfd: -1 }),
                end: Cell::new(None),
                watched: Cell::new(false),
                node: FdNode::new(pidfd_ready).persistent(),
                ends: [none(), none(), none()],
                has_pipe: Default::default(),
                talk: RefCell::default(),
                is_talking: Cell::new(false),
                talker: Cell::new(0),
                is_closed: Cell::new(false),
                waiters: WaitList::default(),
                handle: Cell::new(0),
            },
        )?;
        let process = keep(object::get::<Process>(hub, handle)?);
        process.handle.set(handle);
        Ok(process)
    }

    /// The last handle is closed. A child that runs goes on, and is reaped by the loop.
    fn closed(&self, hub: &Hub) {
        self.is_closed.set(true);
        (0..3).for_each(|i| self.close_end(i));
        hub.refuse_all(&self.waiters, Error::BADF);
        if self.child.get().pid > 0 {
            let _ = self.watch(hub);
        }
    }

    // ---- its end --------------------------------------------------------------------

    /// Has its end noticed, if it is not so already. ENOMEM, EMFILE.
    fn watch(&self, hub: &Hub) -> Result<()> {
        if !self.watched.get() && self.end.get().is_none() {
            hub.poller().add(&self.node, self.child.get().pidfd, READ)?;
            self.watched.set(true);
        }
        Ok(())
    }

    /// Reaps it if it has ended.
    fn look(&self, hub: &Hub) {
        if self.end.get().is_some() {
            return;
        }
        match child::reap(self.child.get()) {
            Ok(None) => {}
            Ok(Some(status)) => {
                self.settle(hub, Ok(status));
                watcher::reaped(hub, self.child.get().pid, status);
            }
            Err(_) => self.settle(hub, Err(Error::CHILD)),
        }
    }

    /// It has ended, and whoever waits hears how. The record may go with this, unless the
    /// caller has a share.
    fn settle(&self, hub: &Hub, end: Result<i32>) {
        self.end.set(Some(end));
        let Child { pid, pidfd } = self.child.get();
        let watched = self.watched.replace(false);
        if pidfd >= 0 {
            hub.poller().remove(&self.node);
            if watched {
                hub.poller().forget(pidfd);
            }
            sys::close(pidfd);
        } else if watched {
            signal::unsubscribe(hub, libc::SIGCHLD);
        }
        self.child.set(Child { pid, pidfd: -1 });
        self.tell(hub);
        drop(Processes::of(hub).running.borrow_mut().remove(&pid));
    }

    /// Whoever waits hears of its end.
    fn tell(&self, hub: &Hub) {
        let told = match self.end.get() {
            Some(Ok(status)) => status as u32 as usize,
            _ => STOLEN,
        };
        while let Some(node) = self.waiters.pop() {
            node.value.set(told as *mut c_void);
            hub.grant(node);
        }
        if let Ok(talker) = hub.greenlet(self.talker.take())
            && talker.state.get() == State::Parked
        {
            hub.wake(talker, 0);
        }
    }

    /// The wait status, if it has ended. ECHILD.
    pub fn poll(&self, hub: &Hub) -> Result<Option<i32>> {
        keep(self).look(hub);
        self.end.get().transpose()
    }

    /// Waits for its end: the wait status. ECHILD.
    pub fn wait(&self, hub: &Hub, deadline: Deadline) -> Result<i32> {
        if !deadline.is_now() {
            hub.check()?;
        }
        if let Some(status) = self.poll(hub)? {
            return Ok(status);
        }
        self.watch(hub)?;
        hub.hold(); // a child may always end: no deadlock
        let why = Waiting::Object(self.handle.get());
        let waited = hub.wait_in(&self.waiters, Role::Taker, std::ptr::null_mut(), deadline, why);
        hub.unhold();
        match waited {
            Waited::Granted(told) if told as usize == STOLEN => Err(Error::CHILD),
            Waited::Granted(told) => Ok(told as usize as u32 as i32),
            Waited::Returned(_, e) | Waited::Failed(e) => Err(e),
        }
    }

    // ---- what one does to it ----------------------------------------------------------

    pub fn pid(&self) -> i32 {
        self.child.get().pid
    }

    /// EALREADY when it has ended, ECHILD when it is not ours any more, EINVAL, EPERM.
    pub fn kill(&self, hub: &Hub, signo: c_int) -> Result<()> {
        let this = keep(self);
        this.look(hub);
        match this.end.get() {
            Some(Ok(_)) => Err(Error::ALREADY),
            Some(Err(e)) => Err(e),
            None => child::signal(this.child.get(), signo).map_err(|e| if e == Error::SRCH { Error::CHILD } else { e }),
        }
    }

    /// Our end of its pipe. EINVAL for another number, ENOENT when there is none (any more).
    pub fn end_fd(&self, which: c_int) -> Result<RawFd> {
        let end = usize::try_from(which).ok().and_then(|i| self.ends.get(i)).ok_or(Error::INVAL)?;
        if end.get() < 0 { Err(Error::NOENT) } else { Ok(end.get()) }
    }

    pub fn close_fd(&self, which: c_int) -> Result<()> {
        self.end_fd(which)?;
        self.close_end(which as usize);
        Ok(())
    }

    /// Who waits for it gets EBADF.
    fn close_end(&self, i: usize) {
        let fd = self.ends[i].replace(-1);
        if fd >= 0 {
            let _ = rw::close(fd);
        }
    }

    // ---- communicate --------------------------------------------------------------------

    /// Writes `input` to it, closes that pipe, reads the others to their end, at most
    /// `limit` bytes of each, and waits for it. When it has ended, what is in the pipes is
    /// all there will be: a grandchild may hold them open for ever. What was done when this
    /// fails is kept; called again with the same input it goes on. EMSGSIZE, EBUSY, ECHILD.
    pub fn communicate(&self, hub: &Hub, input: &[u8], limit: usize, deadline: Deadline) -> Result<Output> {
        if !deadline.is_now() {
            hub.check()?;
        }
        let this = keep(self);
        if this.is_talking.replace(true) {
            return Err(Error::BUSY);
        }
        let result = this.talk_to_its_end(hub, input, limit, deadline);
        this.is_talking.set(false);
        result
    }

    fn talk_to_its_end(&self, hub: &Hub, input: &[u8], limit: usize, deadline: Deadline) -> Result<Output> {
        let mut turns = 0;
        loop {
            if self.is_closed.get() {
                return Err(Error::BADF);
            }
            let has_ended = self.poll(hub)?.is_some();
            self.feed(input)?;
            if has_ended {
                (1..3).try_for_each(|i| self.drain_rest(i, limit))?;
                return self.output();
            }
            let some = self.drain(1, limit)? + self.drain(2, limit)?;
            if some == 0 && self.ends.iter().all(|end| end.get() < 0) {
                self.wait(hub, deadline)?;
            } else if some == 0 {
                self.wait_for_any(hub, deadline)?;
            }
            turns += 1;
            if turns % CHUNKS_A_TURN == 0 && !deadline.is_now() {
                hub.yield_now()?;
                if deadline.has_passed() {
                    return Err(Error::TIMEDOUT);
                }
            }
        }
    }

    /// Writes as much as goes; closes the pipe behind the last byte, or when nobody reads.
    fn feed(&self, input: &[u8]) -> Result<()> {
        let fd = self.ends[0].get();
        let mut talk = self.talk.borrow_mut();
        while fd >= 0 && talk.written < input.len() {
            let rest = &input[talk.written..];
            let rest = libc::iovec { iov_base: rest.as_ptr().cast_mut().cast(), iov_len: rest.len() };
            match descriptor::write(fd, &[rest]) {
                Ok(n) => talk.written += n,
                Err(Error::AGAIN) => return Ok(()),
                Err(Error::PIPE) => break, // it does not want it, which is its business
                Err(e) => return Err(e),
            }
        }
        self.close_end(0);
        Ok(())
    }

    /// Reads what is in the pipe now: a grandchild may write to it for ever.
    fn drain_rest(&self, i: usize, limit: usize) -> Result<()> {
        let mut left = match self.ends[i].get() {
            -1 => 0,
            fd => child::available(fd)?,
        };
        while left > 0 {
            match self.drain(i, limit)? {
                0 => break,
                n => left = left.saturating_sub(n),
            }
        }
        Ok(())
    }

    /// Reads a chunk: how much; 0 when there is nothing, or nothing more to come.
    fn drain(&self, i: usize, limit: usize) -> Result<usize> {
        let fd = self.ends[i].get();
        if fd < 0 {
            return Ok(0);
        }
        let mut talk = self.talk.borrow_mut();
        let block = &mut talk.read[i];
        if block.len() > limit {
            return Err(Error::MSGSIZE);
        }
        block.reserve(CHUNK)?;
        // A byte more than the limit is enough to know.
        let room = (limit - block.len()).saturating_add(1).min(CHUNK);
        let spare = libc::iovec { iov_base: block.spare().as_mut_ptr().cast(), iov_len: room };
        // SAFETY: spare room of the block's.
        match unsafe { descriptor::read(fd, &[spare]) } {
            Ok(0) => {
                self.close_end(i);
                Ok(0)
            }
            Ok(n) => {
                // SAFETY: read has filled so much.
                unsafe { block.filled(n) };
                if block.len() > limit { Err(Error::MSGSIZE) } else { Ok(n) }
            }
            Err(Error::AGAIN) => Ok(0),
            Err(e) => Err(e),
        }
    }

    /// Parks until one of the pipes may be ready or the child has ended.
    fn wait_for_any(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        if deadline.is_now() {
            return Err(Error::AGAIN);
        }
        hub.check()?;
        self.watch(hub)?;
        let one = |i: usize, events| libc::pollfd { fd: self.ends[i].get(), events, revents: 0 };
        let fds = [one(0, libc::POLLOUT), one(1, libc::POLLIN), one(2, libc::POLLIN)];
        self.talker.set(hub.current().handle.get());
        let parked = hub.park_on(&fds, deadline);
        self.talker.set(0);
        parked
    }

    fn output(&self) -> Result<Output> {
        let status = self.end.get().ok_or(Error::CHILD)??;
        // What is given away has memory, if only for a NUL.
        (1..3).try_for_each(|i| self.talk.borrow_mut().read[i].reserve(0))?;
        let [_, out, err] = std::mem::take(&mut *self.talk.borrow_mut()).read;
        let of = |i: usize, block| self.has_pipe[i].get().then_some(block);
        Ok(Output { out: of(1, out), err: of(2, err), status })
    }

    /// In a forked child: it is the parent's child.
    fn forget(&self, hub: &Hub) {
        let Child { pid, pidfd } = self.child.get();
        if pidfd >= 0 {
            sys::close(pidfd);
        }
        self.child.set(Child { pid, pidfd: -1 });
        self.watched.set(false);
        self.end.set(Some(Err(Error::CHILD)));
        self.tell(hub);
    }
}

/// The process behind a pidfd has ended.
unsafe fn pidfd_ready(node: *const FdNode) {
    let Some(hub) = Hub::existing() else { return };
    // SAFETY: only processes' nodes carry this function, and a linked one's process is in
    // the list of those that run.
    let process = keep(unsafe { &*node.byte_sub(offset_of!(Process, node)).cast::<Process>() });
    if process.node.got.get() & GONE != 0 {
        process.watched.set(false); // its descriptor was closed behind our back
    }
    process.look(hub);
}

// ---- where the program is -----------------------------------------------------------

fn environment() -> *const *const c_char {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    // SAFETY: the C library's; read while nobody else changes it, by the user's care.
    unsafe { environ }
}

/// The value of PATH in `env` (null: in this process's).
fn path_in<'a>(env: *const *const c_char) -> Option<&'a [u8]> {
    let env = if env.is_null() { environment() } else { env };
    if env.is_null() {
        return None;
    }
    // SAFETY: an array of C strings that ends with a null, by contract of `Setup`.
    let at = |i| unsafe { env.add(i).read() };
    // SAFETY: as above.
    let texts = (0..).map(at).take_while(|text| !text.is_null()).map(|text| unsafe { CStr::from_ptr(text) }.to_bytes());
    texts.into_iter().find_map(|text| text.strip_prefix(b"PATH="))
}

/// The files that a program's name may mean, in order.
fn candidates(program: &CStr, path: Option<&[u8]>) -> Vec<CString> {
    let name = program.to_bytes();
    if name.contains(&b'/') || name.is_empty() {
        return vec![program.to_owned()];
    }
    let folders = path.unwrap_or(USUAL_PATH).split(|&byte| byte == b':');
    let within = |folder: &[u8]| match folder {
        b"" => name.to_vec(), // here
        _ => [folder, b"/", name].concat(),
    };
    folders.filter_map(|folder| CString::new(within(folder)).ok()).collect()
}

fn close_handle(hub: &Hub, handle: i64) {
    let _ = hub.table.remove(handle).map(|closer| closer.close());
}

// ---- the processes of a hub -----------------------------------------------------------

#[derive(Default)]
struct Processes {
    /// The hub knows of us.
    known: Cell<bool>,
    /// Those that have not ended, with or without a handle, by number.
    running: RefCell<HashMap<i32, Rc<Process>>>,
}

impl Processes {
    fn of(hub: &Hub) -> &Processes {
        hub.extension::<Processes>()
    }

    fn get_known(&self, hub: &Hub) {
        if !self.known.replace(true) {
            hub.at_fork(after_fork);
            signal::listen(hub, on_signal);
            watcher::on_reap(hub, on_reap);
        }
    }

    fn run(&self, hub: &Hub, process: &Rc<Process>) {
        let before = self.running.borrow_mut().insert(process.pid(), process.clone());
        // The number has come again, so somebody else has reaped the one that had it.
        if let Some(stolen) = before {
            stolen.settle(hub, Err(Error::CHILD));
            self.running.borrow_mut().insert(process.pid(), process.clone());
        }
    }

    fn all(&self) -> Vec<Rc<Process>> {
        self.running.borrow().values().cloned().collect()
    }
}

/// Without pidfds: some child has ended.
fn on_signal(hub: &Hub, signo: c_int) {
    if signo == libc::SIGCHLD {
        let all = Processes::of(hub).all();
        all.iter().filter(|p| p.child.get().pidfd < 0).for_each(|p| p.look(hub));
    }
}

/// A child watcher has reaped one of ours.
fn on_reap(hub: &Hub, pid: i32, status: c_int) {
    let found = Processes::of(hub).running.borrow().get(&pid).cloned();
    if let Some(process) = found {
        process.settle(hub, Ok(status));
    }
}

fn after_fork(hub: &Hub) {
    let all = std::mem::take(&mut *Processes::of(hub).running.borrow_mut());
    all.values().for_each(|process| process.forget(hub));
}

impl Drop for Processes {
    /// The hub ends: those that run are the process's to reap.
    fn drop(&mut self) {
        let running = std::mem::take(self.running.get_mut());
        let Some(hub) = Hub::existing() else { return };
        for process in running.into_values() {
            let child = process.child.get();
            hub.poller().remove(&process.node);
            if child.pidfd < 0 {
                signal::unsubscribe(hub, libc::SIGCHLD);
            } else if process.watched.get() {
                hub.poller().forget(child.pidfd);
            }
            leave(child);
        }
    }
}

// ---- children of hubs that have ended ---------------------------------------------------

struct Left {
    /// `fork::generation()` of the process whose children they are.
    generation: u64,
    children: Vec<Child>,
}

static LEFT: Mutex<Left> = Mutex::new(Left { generation: 0, children: Vec::new() });

fn with_left<R>(with: impl FnOnce(&mut Vec<Child>) -> R) -> R {
    let _section = Section::enter(); // a forked child finds the lock free
    let mut left = LEFT.lock().unwrap_or_else(|e| e.into_inner());
    if left.generation != fork::generation() {
        left.generation = fork::generation();
        left.children.drain(..).filter(|c| c.pidfd >= 0).for_each(|c| sys::close(c.pidfd));
    }
    with(&mut left.children)
}

fn leave(child: Child) {
    with_left(|left| left.push(child));
    reap_left(); // it may have ended meanwhile
}

/// Reaps those that have ended since.
fn reap_left() {
    with_left(|left| {
        left.retain(|&child| {
            let runs = child::reap(child) == Ok(None);
            if !runs && child.pidfd >= 0 {
                sys::close(child.pidfd);
            }
            runs
        });
    });
}

// ---- shells ---------------------------------------------------------------------------

/// Starts `/bin/sh -c command`.
pub fn shell(hub: &Hub, command: &CStr, stdio: [Stdio; 3]) -> Result<i64> {
    let argv = [c"sh".as_ptr(), c"-c".as_ptr(), command.as_ptr(), std::ptr::null()];
    let setup = Setup {
        argv: argv.as_ptr(),
        program: c"/bin/sh",
        env: std::ptr::null(),
        cwd: std::ptr::null(),
        stdio,
        fds: &[],
        new_session: false,
        close_fds: false,
    };
    Process::spawn(hub, &setup)
}

/// Runs a command and waits for it. When the wait is cut short the shell is killed.
pub fn system(hub: &Hub, command: &CStr, deadline: Deadline) -> Result<i32> {
    if deadline.is_now() {
        return Err(Error::AGAIN);
    }
    hub.check()?;
    hub.may_park()?;
    let handle = shell(hub, command, [Stdio::Inherit; 3])?;
    // A record in the table: what becomes of this greenlet, the child is reaped.
    let process = keep(object::get::<Process>(hub, handle)?);
    let result = process.wait(hub, deadline);
    if result.is_err() {
        let _ = process.kill(hub, libc::SIGKILL);
    }
    close_handle(hub, handle);
    result
}

// ---- wait statuses ----------------------------------------------------------------------

/// What a shell would say: the exit status, or 128 and the signal.
pub fn exit_code(status: c_int) -> c_int {
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}

/// The signal that ended it, or 0.
pub fn exit_signal(status: c_int) -> c_int {
    if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_slash_is_looked_for_in_the_path() {
        let texts = |name, path: Option<&[u8]>| -> Vec<String> {
            candidates(name, path).into_iter().map(|c| c.into_string().unwrap()).collect()
        };
        assert_eq!(texts(c"true", Some(b"/a:/b")), ["/a/true", "/b/true"]);
        assert_eq!(texts(c"true", Some(b":/b")), ["true", "/b/true"]);
        assert_eq!(texts(c"true", None), ["/bin/true", "/usr/bin/true"]);
        assert_eq!(texts(c"./true", Some(b"/a")), ["./true"]);
        assert_eq!(texts(c"", Some(b"/a")), [""]);
    }

    #[test]
    fn the_path_is_that_of_the_child_s_environment() {
        let env = [c"X=1".as_ptr(), c"PATH=/only".as_ptr(), c"PATH=/never".as_ptr(), std::ptr::null()];
        assert_eq!(path_in(env.as_ptr()), Some(&b"/only"[..]));
        let none = [std::ptr::null()];
        assert_eq!(path_in(none.as_ptr()), None);
    }

    #[test]
    fn a_status_is_told_as_a_shell_tells_it() {
        assert_eq!((exit_code(0), exit_code(3 << 8), exit_code(9), exit_code(11 | 0x80)), (0, 3, 137, 139));
        assert_eq!((exit_signal(3 << 8), exit_signal(9), exit_signal(11 | 0x80)), (0, 9, 11));
    }
}
