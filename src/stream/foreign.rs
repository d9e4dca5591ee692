//! A stream over functions of the user's instead of a descriptor: somebody else's TLS, or a pipe in memory.
//!
//! They may switch. While one runs its direction's turn is taken, so that the memory it was given stays, and
//! the call has a share in the stream: `close` comes when the last of them is over. Nothing is written that
//! nobody waits for (`push_some`), since the loop can not call them.

use super::{Stream, WRITE_SIZE};
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::object;
use crate::time::Deadline;
use std::cell::Cell;
use std::ffi::c_void;

pub type ReadFn = extern "C-unwind" fn(buffer: *mut c_void, len: usize, deadline: i64, user: *mut c_void) -> i64;
pub type WriteFn = extern "C-unwind" fn(data: *const c_void, len: usize, deadline: i64, user: *mut c_void) -> i64;
pub type CloseFn = extern "C-unwind" fn(user: *mut c_void);

/// So much is read at a time.
const ROOM: usize = 16 << 10;

pub struct Foreign {
    pub read: ReadFn,
    pub write: WriteFn,
    /// None until the stream is made: whoever could not make one still has what it would have closed.
    pub close: Cell<Option<CloseFn>>,
    pub user: *mut c_void,
}

/// What a function has returned, which may be nonsense. EINVAL.
fn checked(n: i64, most: usize) -> Result<usize> {
    match usize::try_from(n) {
        Ok(n) if n <= most => Ok(n),
        Ok(_) => Err(Error::INVAL),
        Err(_) => Err(Error::from_code(i32::try_from(n).unwrap_or(0))),
    }
}

impl Foreign {
    /// # Safety
    /// `at` points to `len` bytes that are this call's alone until it returns.
    pub unsafe fn read(&self, at: *mut u8, len: usize, deadline: Deadline) -> Result<usize> {
        checked((self.read)(at.cast(), len, deadline.raw(), self.user), len)
    }

    fn write(&self, data: &[u8], deadline: Deadline) -> Result<usize> {
        checked((self.write)(data.as_ptr().cast(), data.len(), deadline.raw(), self.user), data.len())
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if let Some(close) = self.close.get() {
            close(self.user);
        }
    }
}

impl Stream {
    /// A stream over these functions. ENOMEM.
    pub fn over(hub: &Hub, foreign: Foreign, read_max: usize, write_size: usize) -> Result<i64> {
        let close = foreign.close.take();
        let handle = Stream::with(hub, -1, Some(Box::new(foreign)), false, read_max, write_size)?;
        if let Some(foreign) = &object::get::<Stream>(hub, handle)?.foreign {
            foreign.close.set(close);
        }
        Ok(handle)
    }

    /// As `more`.
    pub(super) fn more_foreign(&self, foreign: &Foreign, most: usize, deadline: Deadline) -> Result<usize> {
        let room = most.min(ROOM);
        self.input().reserve(room)?;
        let spare = self.input().held().bytes.spare_capacity_mut().as_mut_ptr();
        // SAFETY: so much has just been reserved, and whoever has the turn alone makes the input move.
        let read = unsafe { foreign.read(spare.cast(), room, deadline) };
        let input = self.input();
        if let Ok(n) = read {
            let bytes = &mut input.held().bytes;
            // SAFETY: so many have been written behind what was there.
            unsafe { bytes.set_len(bytes.len() + n) };
        }
        if input.is_empty() {
            input.drop_front(0); // an idle stream holds no buffer
        }
        read
    }

    /// As `put_out`.
    pub(super) fn put_out_foreign(&self, foreign: &Foreign, data: &[u8], deadline: Deadline) -> Result<usize> {
        if self.output().is_empty() {
            return foreign.write(data, deadline);
        }
        // What is small goes with what waits.
        let mut taken = 0;
        if data.len() <= WRITE_SIZE && self.output().reserve(data.len()).is_ok() {
            self.output().push(data);
            taken = data.len();
        }
        let n = match foreign.write(self.output().get(), deadline) {
            // It is told to the next call: so much of `data` has been taken over.
            Err(_) if taken > 0 => return Ok(taken),
            written => written?,
        };
        self.output().drop_front(n);
        Ok(taken)
    }
}
