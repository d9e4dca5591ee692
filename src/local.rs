//! Greenlet-local values: keys with destructors, a value per greenlet.

use crate::error::{Error, Result};
use crate::fence;
use crate::greenlet::{DestroyFn, Greenlet};
use crate::handle::{Kind, Object};
use crate::hub::Hub;
use std::cell::Cell;
use std::ffi::c_void;
use std::rc::Rc;

/// Destructors may set values again; after so many rounds we stop, as pthreads do.
const DESTRUCTOR_ROUNDS: usize = 4;

pub struct Key {
    handle: Cell<i64>,
    destroy: Option<DestroyFn>,
}

// SAFETY: `close` drops the Rc that `new` stored.
unsafe impl Object for Key {
    const KIND: Kind = Kind::Local;
    unsafe fn close(this: *const Key) {
        // SAFETY: stored by `new`.
        let key = unsafe { Rc::from_raw(this) };
        if let Some(hub) = Hub::existing() {
            key.forget_everywhere(hub);
        }
    }
}

impl Key {
    pub fn create(hub: &Hub, destroy: Option<DestroyFn>) -> Result<i64> {
        let key = Rc::into_raw(Rc::new(Key { handle: Cell::new(0), destroy }));
        let handle = hub.table.insert(key).inspect_err(|_| {
            // SAFETY: the table did not take it.
            drop(unsafe { Rc::from_raw(key) });
        })?;
        // SAFETY: alive in the table.
        unsafe { (*key).handle.set(handle) };
        Ok(handle)
    }

    /// A closed key: every greenlet's value is destroyed.
    fn forget_everywhere(&self, hub: &Hub) {
        let handle = self.handle.get();
        // All taken before any is destroyed: a destructor may end greenlets.
        let all = hub.greenlets().into_iter().chain([&*hub.main]);
        let values: Vec<*mut c_void> = all.filter_map(|g| take(g, handle)).collect();
        values.into_iter().for_each(|value| self.destroy_value(hub, value));
    }

    fn destroy_value(&self, hub: &Hub, value: *mut c_void) {
        let Some(destroy) = self.destroy else { return };
        if value.is_null() {
            return;
        }
        if let Err(message) = fence::call(|| "a local's destructor".into(), || destroy(value)) {
            hub.report_failure(0, Error::PANIC, &message);
        }
    }
}

fn take(g: &Greenlet, key: i64) -> Option<*mut c_void> {
    g.peek_extra(|x| {
        let place = x.locals.iter().position(|(k, _)| *k == key)?;
        Some(x.locals.swap_remove(place).1)
    })
    .flatten()
}

/// The current greenlet's value; null when it has set none.
pub fn get(hub: &Hub, key: i64) -> Result<*mut c_void> {
    hub.table.get::<Key>(key).map_err(|e| hub.why_not(key, e))?;
    let found = hub.current().peek_extra(|x| x.locals.iter().find(|(k, _)| *k == key).map(|l| l.1));
    Ok(found.flatten().unwrap_or(std::ptr::null_mut()))
}

/// Sets the current greenlet's value; the one it replaces is destroyed.
pub fn set(hub: &Hub, key: i64, value: *mut c_void) -> Result<()> {
    let object = hub.table.get::<Key>(key).map_err(|e| hub.why_not(key, e))?;
    if hub.in_callback() {
        return Err(Error::WOULDBLOCK);
    }
    let g = hub.current();
    let old = take(g, key);
    g.with_extra(|x| x.locals.push((key, value)));
    if let Some(old) = old.filter(|&old| old != value) {
        // SAFETY: in the table, so alive; nothing closes it before this call ends.
        unsafe { &*object }.destroy_value(hub, old);
    }
    Ok(())
}

/// At a greenlet's end, on its own stack.
pub fn destroy_all(hub: &Hub, g: &Greenlet) {
    for _ in 0..DESTRUCTOR_ROUNDS {
        let locals = g.with_extra(|x| std::mem::take(&mut x.locals));
        if locals.is_empty() {
            return;
        }
        for (key, value) in locals {
            if let Ok(key) = hub.table.get::<Key>(key) {
                // SAFETY: in the table, so alive.
                unsafe { &*key }.destroy_value(hub, value);
            }
        }
    }
}
