//! Result: a value or a failure, set once, waited for by many.

use crate::error::{Error, Result};
use crate::greenlet::{DestroyFn, LinkFn, Waiting};
use crate::handle::Kind;
use crate::hub::{Callback, Hub};
use crate::object::{destroy, insert, keep};
use crate::time::Deadline;
use crate::wait::Waited;
use crate::waitlist::{Role, WaitList};
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_void};

/// What a result holds once it is set.
pub struct Outcome {
    /// 0, or the failure's code.
    pub code: i32,
    pub value: *mut c_void,
    pub message: Option<CString>,
}

impl Outcome {
    pub fn value(value: *mut c_void) -> Outcome {
        Outcome { code: 0, value, message: None }
    }

    pub fn failure(code: i32, message: Option<CString>) -> Outcome {
        let code = Error::from_code(code).code();
        Outcome { code, value: std::ptr::null_mut(), message }
    }

    pub fn get(&self) -> Result<*mut c_void> {
        if self.code == 0 { Ok(self.value) } else { Err(Error::from_code(self.code)) }
    }
}

#[derive(Default)]
pub struct AsyncResult {
    outcome: RefCell<Option<Outcome>>,
    destroy: Cell<Option<DestroyFn>>,
    pub waiters: WaitList,
    links: RefCell<Vec<(i64, LinkFn, *mut c_void)>>,
    handle: Cell<i64>,
}

crate::hub_object!(AsyncResult, Kind::Result);

impl AsyncResult {
    pub fn create(hub: &Hub, destroy: Option<DestroyFn>) -> Result<i64> {
        let handle = insert(hub, AsyncResult::default())?;
        let result = crate::object::get::<AsyncResult>(hub, handle)?;
        result.handle.set(handle);
        result.destroy.set(destroy);
        Ok(handle)
    }

    fn closed(&self, hub: &Hub) {
        hub.refuse_all(&self.waiters, Error::BADF);
        self.links.borrow_mut().clear();
        if let Some(outcome) = self.outcome.take().filter(|o| o.code == 0) {
            destroy(hub, self.destroy.get(), outcome.value);
        }
    }

    pub fn is_set(&self) -> bool {
        self.outcome.borrow().is_some()
    }

    /// EALREADY the second time.
    pub fn set(&self, hub: &Hub, outcome: Outcome) -> Result<()> {
        if self.is_set() {
            return Err(Error::ALREADY);
        }
        *self.outcome.borrow_mut() = Some(outcome);
        while let Some(node) = self.waiters.pop() {
            hub.grant(node);
        }
        for (id, call, arg) in self.links.take() {
            hub.later(Callback::Link(call, self.handle.get(), arg, id));
        }
        Ok(())
    }

    /// Waits until it is set, whatever to.
    pub fn wait(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        if !deadline.is_now() {
            hub.check()?;
        }
        if self.is_set() {
            return Ok(());
        }
        let this = keep(self);
        let why = Waiting::Object(this.handle.get());
        match hub.wait_in(&this.waiters, Role::Taker, std::ptr::null_mut(), deadline, why) {
            Waited::Granted(_) => Ok(()),
            Waited::Returned(_, e) | Waited::Failed(e) => Err(e),
        }
    }

    /// Waits for the value, or fails with the failure.
    pub fn get(&self, hub: &Hub, deadline: Deadline) -> Result<*mut c_void> {
        let this = keep(self);
        this.wait(hub, deadline)?;
        let outcome = this.outcome.borrow();
        outcome.as_ref().ok_or(Error::BADF)?.get()
    }

    /// Good until the result is closed.
    pub fn message(&self) -> *const std::ffi::c_char {
        let outcome = self.outcome.borrow();
        let message: Option<&CStr> = outcome.as_ref().and_then(|o| o.message.as_deref());
        message.unwrap_or(c"").as_ptr()
    }

    pub fn link(&self, hub: &Hub, call: LinkFn, arg: *mut c_void) -> i64 {
        let id = hub.next_link.get();
        hub.next_link.set(id + 1);
        if self.is_set() {
            hub.later(Callback::Link(call, self.handle.get(), arg, id));
        } else {
            self.links.borrow_mut().push((id, call, arg));
        }
        id
    }

    pub fn unlink(&self, hub: &Hub, id: i64) -> Result<()> {
        let mut links = self.links.borrow_mut();
        let Some(place) = links.iter().position(|l| l.0 == id) else {
            return hub.take_back_link(self.handle.get(), id);
        };
        links.remove(place);
        Ok(())
    }
}
