//! What threads share: hub numbers, the mailbox of every living hub, and the table
//! of objects that any thread may use (hub number 0).

use crate::error::{Error, Result};
use crate::handle::{self, Closer, Kind, MAX_HUBS, Object, Table};
use crate::remote::Mailbox;
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};

pub type PostFn = extern "C-unwind" fn(*mut c_void);

/// Something for a hub to do, from another thread.
pub enum Post {
    Call(PostFn, *mut c_void),
    /// Runs in the hub's thread; finds its hub through the thread-local.
    Task(Box<dyn FnOnce() + Send>),
}

// SAFETY: the pointer is the caller's, who gives it away for the other thread to use.
unsafe impl Send for Post {}

/// How other threads see a hub.
pub struct Remote {
    pub number: usize,
    pub mailbox: Mailbox<Post, Arc<mio::Waker>>,
    /// Open handles to this hub: somebody may post at any time.
    pub exposed: AtomicUsize,
}

impl Remote {
    pub fn post(&self, post: Post) -> Result<()> {
        self.mailbox.post(post).map_err(|_| Error::SHUTDOWN)
    }

    pub fn task(&self, task: impl FnOnce() + Send + 'static) -> Result<()> {
        self.post(Post::Task(Box::new(task)))
    }
}

struct Place {
    first_generation: u32,
    remote: Option<Arc<Remote>>,
    taken: bool,
}

static HUBS: Mutex<Vec<Place>> = Mutex::new(Vec::new());
static SHARED: Mutex<Option<SharedTable>> = Mutex::new(None);

struct SharedTable(Table);
// SAFETY: the table is reached under the lock alone, and holds Arcs of Sync objects.
unsafe impl Send for SharedTable {}

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// The number of a hub that is being made; given back, unused, unless it is kept.
pub struct Number {
    pub number: usize,
    /// Where its handles start: above all those of earlier hubs with that number.
    pub first_generation: u32,
}

impl Number {
    /// The hub is made, and its end gives the number back.
    pub fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        give_number(self.number, self.first_generation);
    }
}

/// A number for a new hub.
pub fn take_number() -> Result<Number> {
    let mut hubs = lock(&HUBS);
    if hubs.is_empty() {
        hubs.push(Place { first_generation: 1, remote: None, taken: true }); // 0: shared
    }
    let free = hubs.iter().position(|p| !p.taken && handle::generation_is_usable(p.first_generation));
    let number = free.unwrap_or(hubs.len());
    if number >= MAX_HUBS {
        return Err(Error::NOMEM);
    }
    if number == hubs.len() {
        hubs.push(Place { first_generation: 1, remote: None, taken: false });
    }
    hubs[number].taken = true;
    Ok(Number { number, first_generation: hubs[number].first_generation })
}

pub fn publish(remote: &Arc<Remote>) {
    lock(&HUBS)[remote.number].remote = Some(remote.clone());
}

/// Ends the life of a hub number for now.
pub fn give_number(number: usize, next_generation: u32) {
    let mut hubs = lock(&HUBS);
    hubs[number] = Place { first_generation: next_generation, remote: None, taken: false };
}

/// The living hub that a handle belongs to.
pub fn hub_of(any_handle: i64) -> Option<Arc<Remote>> {
    lock(&HUBS).get(handle::hub_of(any_handle))?.remote.clone()
}

fn with_shared<R>(with: impl FnOnce(&Table) -> Result<R>) -> Result<R> {
    let mut shared = lock(&SHARED);
    if shared.is_none() {
        *shared = Some(SharedTable(Table::new(0, 1)?));
    }
    shared.as_ref().map_or(Err(Error::NOMEM), |shared| with(&shared.0))
}

/// An object that any thread may use.
///
/// # Safety
/// `Object::close` must drop one `Arc` reference made by `share`.
pub unsafe trait SharedObject: Object + Send + Sync + Sized {}

/// Gives `object` a handle that every thread may use.
pub fn share<T: SharedObject>(object: Arc<T>) -> Result<i64> {
    let raw = Arc::into_raw(object);
    with_shared(|t| t.insert(raw)).inspect_err(|_| {
        // SAFETY: the table did not take it.
        drop(unsafe { Arc::from_raw(raw) });
    })
}

/// The shared object behind a handle.
pub fn shared<T: SharedObject>(handle: i64) -> Result<Arc<T>> {
    with_shared(|t| {
        let raw = t.get::<T>(handle)?;
        // SAFETY: the table holds a reference while we hold its lock.
        unsafe { Arc::increment_strong_count(raw) };
        // SAFETY: the count just raised is ours.
        Ok(unsafe { Arc::from_raw(raw) })
    })
}

pub fn is_shared(handle: i64) -> bool {
    handle > 0 && handle::hub_of(handle) == 0 && with_shared(|t| Ok(t.contains(handle))) == Ok(true)
}

pub fn dup(handle: i64) -> Result<()> {
    with_shared(|t| t.dup(handle))
}

pub fn close(handle: i64) -> Result<()> {
    let closer: Option<Closer> = with_shared(|t| match t.unref(handle)? {
        0 => t.remove(handle).map(Some),
        _ => Ok(None),
    })?;
    // Outside the lock: closing wakes waiters and runs destructors.
    if let Some(closer) = closer {
        closer.close();
    }
    Ok(())
}

// A hub's handle is a shared object, so that any thread can post to it.
// SAFETY: `close` drops the Arc that `share` stored.
unsafe impl Object for Remote {
    const KIND: Kind = Kind::Hub;
    unsafe fn close(this: *const Remote) {
        // SAFETY: stored by `share`.
        let remote = unsafe { Arc::from_raw(this) };
        if remote.exposed.fetch_sub(1, SeqCst) == 1 {
            // Perhaps nothing can end main's wait any more: the hub must look.
            let _ = remote.task(|| ());
        }
    }
}
// SAFETY: as above.
unsafe impl SharedObject for Remote {}

/// A handle to `remote`.
pub fn expose(remote: &Arc<Remote>) -> Result<i64> {
    remote.exposed.fetch_add(1, SeqCst);
    share(remote.clone()).inspect_err(|_| {
        remote.exposed.fetch_sub(1, SeqCst);
    })
}

/// Holds both locks over a fork, so that the child finds them whole and free.
pub struct ForkGuard {
    _hubs: MutexGuard<'static, Vec<Place>>,
    _shared: MutexGuard<'static, Option<SharedTable>>,
}

pub fn lock_for_fork() -> ForkGuard {
    ForkGuard { _hubs: lock(&HUBS), _shared: lock(&SHARED) }
}

/// In the child: the other threads' hubs are gone. Handles and tickets may still lead to
/// their mailboxes, which refuse everything.
pub fn forget_others(own: Option<usize>) {
    for (number, place) in lock(&HUBS).iter_mut().enumerate() {
        if Some(number) != own
            && let Some(remote) = place.remote.take()
        {
            remote.mailbox.abandon();
        }
    }
}
