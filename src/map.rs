//! Mapping a function over items with a group's greenlets: results in the order of the
//! items or of completion, with a bound on results that nobody has read.

use crate::error::{Error, Result};
use crate::fence;
use crate::greenlet::{Body, Greenlet, Waiting};
use crate::group::Group;
use crate::handle::Kind;
use crate::hub::Hub;
use crate::life::Options;
use crate::object::{self, insert, keep};
use crate::sync::result::{AsyncResult, Outcome};
use crate::time::Deadline;
use crate::wait::Waited;
use crate::waitlist::{Role, WaitList};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::{c_int, c_void};
use std::rc::Rc;

pub type MapFn = extern "C-unwind" fn(*mut c_void, *mut *mut c_void, *mut c_void) -> c_int;
pub type NextFn = extern "C-unwind" fn(*mut *mut c_void, *mut c_void) -> c_int;

/// What one item came to.
type One = std::result::Result<usize, i32>;

/// Runs the user's function on one item.
fn apply_fn(f: MapFn, item: usize, user: usize) -> One {
    let mut out = std::ptr::null_mut();
    let code = fence::call(|| "a map function".into(), || f(item as *mut c_void, &mut out, user as *mut c_void));
    match code {
        Ok(code) if code >= 0 => Ok(out as usize),
        Ok(code) => Err(code),
        Err(_) => Err(Error::PANIC.code()),
    }
}

type Run = Box<dyn FnOnce(&Hub)>;

/// A greenlet of the library's own: runs a boxed closure.
struct Task {
    run: RefCell<Option<Run>>,
}

extern "C-unwind" fn run_task(task: *mut c_void) -> *mut c_void {
    // SAFETY: made by `spawn_task`; destroyed by `drop_task` after this.
    let task = unsafe { &*task.cast::<Task>() };
    let run = task.run.borrow_mut().take();
    if let (Some(run), Some(hub)) = (run, Hub::existing()) {
        run(hub);
    }
    std::ptr::null_mut()
}

extern "C-unwind" fn drop_task(task: *mut c_void) {
    // SAFETY: made by `spawn_task`, and this is the destructor of the argument.
    drop(unsafe { Box::from_raw(task.cast::<Task>()) });
}

fn boxed(run: impl FnOnce(&Hub) + 'static) -> *mut c_void {
    Box::into_raw(Box::new(Task { run: RefCell::new(Some(Box::new(run))) })).cast()
}

fn task_options(site: usize) -> Options<'static> {
    Options { destroy: Some(drop_task), detached: true, site, ..Options::default() }
}

/// Spawns a closure into `group`, waiting for room if it is a full pool. `lost` gets the
/// code when its greenlet fails, which it may do before it runs: killed, or without a
/// stack.
fn spawn_task(
    hub: &Hub,
    group: &Group,
    run: impl FnOnce(&Hub) + 'static,
    lost: impl FnOnce(&Hub, i32) + 'static,
) -> Result<()> {
    let task = boxed(run);
    let spawned = group.spawn(hub, Body::Greenlet(run_task), task, &task_options(0), true, Deadline::NEVER);
    let handle = spawned.inspect_err(|_| drop_task(task))?;
    if_lost(hub, hub.greenlet(handle)?, lost);
    Ok(())
}

/// As `spawn_task`, outside any group.
fn spawn_feeder(hub: &Hub, run: impl FnOnce(&Hub) + 'static, lost: impl FnOnce(&Hub, i32) + 'static) -> Result<()> {
    let task = boxed(run);
    let spawned = hub.spawn_with(Body::Greenlet(run_task), task, &task_options(0), true);
    if_lost(hub, spawned.inspect_err(|_| drop_task(task))?, lost);
    Ok(())
}

fn if_lost(hub: &Hub, g: &Greenlet, lost: impl FnOnce(&Hub, i32) + 'static) {
    let nobody = 0; // never takes it back
    hub.on_end(g, nobody, move |handle| {
        if let Some(hub) = Hub::existing()
            && let Ok(g) = hub.greenlet(handle)
            && let Some(e) = g.failure()
        {
            lost(hub, e.code());
        }
    });
}

/// The results of an imap, as they come; and the one who feeds it.
pub struct Results {
    ordered: bool,
    /// Bound on results that are under way or not read; 0: none.
    maxsize: usize,
    ready: RefCell<VecDeque<One>>,
    /// Results that are ahead of their turn (ordered).
    early: RefCell<BTreeMap<usize, One>>,
    next_in_order: Cell<usize>,
    /// Items handed out so far, and whether that is all.
    fed: Cell<usize>,
    read: Cell<usize>,
    source_ended: Cell<bool>,
    is_closed: Cell<bool>,
    readers: WaitList,
    feeder: WaitList,
    handle: Cell<i64>,
}

crate::hub_object!(Results, Kind::Imap);

/// Where the items come from.
pub enum Items {
    From(NextFn, *mut c_void),
    These(std::vec::IntoIter<usize>),
}

impl Items {
    /// The next item; `None` at the end; or the code that the source ends with.
    fn next(&mut self) -> std::result::Result<Option<usize>, c_int> {
        match self {
            Items::These(items) => Ok(items.next()),
            Items::From(next, state) => {
                let mut item = std::ptr::null_mut();
                match fence::call(|| "an item source".into(), || next(&mut item, *state)) {
                    Ok(1..) => Ok(Some(item as usize)),
                    Ok(0) => Ok(None),
                    Ok(code) => Err(code),
                    Err(_) => Err(Error::PANIC.code()),
                }
            }
        }
    }
}

/// What is to be done with which items.
pub struct Source {
    pub items: Items,
    pub map: MapFn,
    pub user: *mut c_void,
}

impl Results {
    pub fn create(hub: &Hub, group: &Group, source: Source, maxsize: usize, ordered: bool) -> Result<i64> {
        let results = Results {
            ordered,
            maxsize,
            ready: RefCell::default(),
            early: RefCell::default(),
            next_in_order: Cell::new(0),
            fed: Cell::new(0),
            read: Cell::new(0),
            source_ended: Cell::new(false),
            is_closed: Cell::new(false),
            readers: WaitList::default(),
            feeder: WaitList::default(),
            handle: Cell::new(0),
        };
        let handle = insert(hub, results)?;
        let results = keep(object::get::<Results>(hub, handle)?);
        results.handle.set(handle);
        let group = keep(group);
        // The feeder is no member of the group: a pool of one must have room for work.
        let this = results.clone();
        let feed = move |hub: &Hub| results.feed(hub, &group, source);
        spawn_feeder(hub, feed, move |hub, code| this.end(hub, Some(code))).inspect_err(|_| {
            if let Ok(closer) = hub.table.remove(handle) {
                closer.close();
            }
        })?;
        Ok(handle)
    }

    fn closed(&self, hub: &Hub) {
        self.is_closed.set(true);
        hub.refuse_all(&self.readers, Error::BADF);
        hub.refuse_all(&self.feeder, Error::CANCELED);
    }

    fn why(&self) -> Waiting {
        Waiting::Object(self.handle.get())
    }

    /// Takes items from the source and spawns a greenlet for each. One that can not be
    /// spawned has failed, and is the last: the group may be closed.
    fn feed(self: &Rc<Results>, hub: &Hub, group: &Group, mut source: Source) {
        while !self.is_closed.get() {
            if let Err(e) = self.wait_for_room(hub) {
                return self.end(hub, Some(e.code()));
            }
            let item = match source.items.next() {
                Ok(Some(item)) => item,
                Ok(None) => break,
                Err(code) => return self.end(hub, Some(code)),
            };
            let index = self.fed.get();
            self.fed.set(index + 1);
            let (map, user) = (source.map, source.user as usize);
            let work = Rc::new(Work { results: self.clone(), index, is_done: Cell::new(false) });
            let (theirs, ours) = (work.clone(), work.clone());
            let run = move |hub: &Hub| theirs.finish(hub, apply_fn(map, item, user));
            let lost = move |hub: &Hub, code| ours.finish(hub, Err(code));
            if let Err(e) = spawn_task(hub, group, run, lost) {
                work.finish(hub, Err(e.code()));
                return self.end(hub, Some(e.code()));
            }
        }
        self.end(hub, None);
    }

    /// No more items; a failure of the source itself, or of who reads it, counts as one
    /// more result. Only the first end counts.
    fn end(&self, hub: &Hub, failure: Option<c_int>) {
        if self.source_ended.get() {
            return;
        }
        if let Some(code) = failure {
            let index = self.fed.get();
            self.fed.set(index + 1);
            self.arrive(hub, index, Err(code));
        }
        self.source_ended.set(true);
        self.tell_readers(hub);
    }

    fn wait_for_room(self: &Rc<Results>, hub: &Hub) -> Result<()> {
        while self.maxsize > 0 && self.fed.get() - self.read.get() >= self.maxsize {
            match hub.wait_in(&self.feeder, Role::Taker, std::ptr::null_mut(), Deadline::NEVER, self.why()) {
                Waited::Granted(_) => {}
                Waited::Returned(_, e) | Waited::Failed(e) => return Err(e),
            }
        }
        hub.check()
    }

    fn arrive(&self, hub: &Hub, index: usize, one: One) {
        if self.ordered {
            self.early.borrow_mut().insert(index, one);
            while let Some(next) = self.early.borrow_mut().remove(&self.next_in_order.get()) {
                self.next_in_order.set(self.next_in_order.get() + 1);
                self.ready.borrow_mut().push_back(next);
            }
        } else {
            self.ready.borrow_mut().push_back(one);
        }
        if !self.ready.borrow().is_empty() {
            self.tell_readers(hub);
        }
    }

    /// Has every reader look again: the first takes what there is, and one that was
    /// killed meanwhile leaves it to the next.
    fn tell_readers(&self, hub: &Hub) {
        while let Some(node) = self.readers.pop() {
            hub.grant(node);
        }
    }

    /// The next result: its value, or `None` at the end. `Err(Ok(code))` is that item's
    /// own failure, `Err(Err(e))` one of the wait.
    pub fn next(&self, hub: &Hub, deadline: Deadline) -> Result<Option<One>> {
        let this = keep(self);
        loop {
            if !deadline.is_now() {
                hub.check()?;
            }
            let next = this.ready.borrow_mut().pop_front();
            if let Some(one) = next {
                this.read.set(this.read.get() + 1);
                if let Some(node) = this.feeder.pop() {
                    hub.grant(node);
                }
                return Ok(Some(one));
            }
            if this.source_ended.get() && this.read.get() == this.fed.get() {
                return Ok(None);
            }
            match hub.wait_in(&this.readers, Role::Taker, std::ptr::null_mut(), deadline, this.why()) {
                Waited::Granted(_) => {}
                Waited::Returned(_, e) | Waited::Failed(e) => return Err(e),
            }
        }
    }
}

/// One item under way. However it ends its result arrives, once: nobody waits for ever.
struct Work {
    results: Rc<Results>,
    index: usize,
    is_done: Cell<bool>,
}

impl Work {
    fn finish(&self, hub: &Hub, one: One) {
        if !self.is_done.replace(true) {
            self.results.arrive(hub, self.index, one);
        }
    }
}

/// Maps all `items` and waits: their outcomes in the order of the items.
pub fn map(
    hub: &Hub,
    group: &Group,
    f: MapFn,
    user: *mut c_void,
    items: &[*mut c_void],
    deadline: Deadline,
) -> Result<Vec<One>> {
    if items.is_empty() {
        // Done already: nobody need be asked for items to see that.
        return if deadline.is_now() { Ok(Vec::new()) } else { hub.check().map(|()| Vec::new()) };
    }
    // Copied: the feeder may still be at it when we have left early.
    let all: Vec<usize> = items.iter().map(|&i| i as usize).collect();
    let source = Source { items: Items::These(all.into_iter()), map: f, user };
    let handle = Results::create(hub, group, source, 0, true)?;
    let results = keep(object::get::<Results>(hub, handle)?);
    let mut ones = Vec::with_capacity(items.len());
    let outcome = loop {
        match results.next(hub, deadline) {
            Ok(Some(one)) => ones.push(one),
            Ok(None) => break Ok(filled_up(ones, items.len())),
            Err(e) => break Err(e),
        }
    };
    hub.table.remove(handle)?.close();
    outcome
}

/// Those that were not even begun, because the feeder failed, failed with it.
fn filled_up(mut ones: Vec<One>, len: usize) -> Vec<One> {
    let why = ones.last().and_then(|one| one.err()).unwrap_or(Error::CANCELED.code());
    ones.resize(len, Err(why));
    ones
}

/// Runs `f` on one item in a greenlet of the group; a result handle.
pub fn apply_async(hub: &Hub, group: &Group, f: MapFn, user: *mut c_void, item: *mut c_void) -> Result<i64> {
    let handle = AsyncResult::create(hub, None)?;
    let promise = Rc::new(Promise(keep(object::get::<AsyncResult>(hub, handle)?)));
    let (user, item) = (user as usize, item as usize);
    let (theirs, feeders, ours) = (promise.clone(), promise.clone(), promise);
    let run = move |hub: &Hub| theirs.keep(hub, apply_fn(f, item, user));
    // Never waits for room itself: a feeder greenlet does.
    let group = keep(group);
    let feed = move |hub: &Hub| {
        let lost = feeders.clone();
        if let Err(e) = spawn_task(hub, &group, run, move |hub, code| lost.keep(hub, Err(code))) {
            feeders.keep(hub, Err(e.code()));
        }
    };
    spawn_feeder(hub, feed, move |hub, code| ours.keep(hub, Err(code))).inspect_err(|_| {
        if let Ok(closer) = hub.table.remove(handle) {
            closer.close();
        }
    })?;
    Ok(handle)
}

/// A result that is set whatever becomes of the greenlets that should set it.
struct Promise(Rc<AsyncResult>);

impl Promise {
    /// The first who comes keeps it.
    fn keep(&self, hub: &Hub, one: One) {
        let outcome = match one {
            Ok(value) => Outcome::value(value as *mut c_void),
            Err(code) => Outcome::failure(code, None),
        };
        let _ = self.0.set(hub, outcome);
    }
}
