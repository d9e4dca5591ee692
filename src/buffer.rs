//! Bytes that come at the back and leave at the front.
//!
//! Where there are none it is one word, and holds no memory: thousands of idle connections
//! have two and more of them each.

use crate::error::{Error, Result};
use std::cell::RefCell;

/// Buffers that are empty are kept for the next who needs one: so many, and none larger.
const KEPT: usize = 32;
const KEPT_SIZE: usize = 16 << 10;

// They stay boxed, as a buffer has them.
#[allow(clippy::vec_box)]
type Kept = Vec<Box<Held>>;

thread_local! {
    static EMPTY: RefCell<Kept> = const { RefCell::new(Vec::new()) };
}

/// Bytes that leave at the front and come at the back. Where there are none it is one word.
#[derive(Default)]
pub struct Buffer(Option<Box<Held>>);

#[derive(Default)]
pub struct Held {
    pub bytes: Vec<u8>,
    pub from: usize,
    /// So many at the front have been handed out, and go with the next call.
    pub lent: usize,
}

impl Buffer {
    pub fn get(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |held| &held.bytes[held.from + held.lent..])
    }

    pub fn get_mut(&mut self) -> &mut [u8] {
        self.0.as_mut().map_or(&mut [], |held| &mut held.bytes[held.from + held.lent..])
    }

    pub fn len(&self) -> usize {
        self.get().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn held(&mut self) -> &mut Held {
        self.0.get_or_insert_with(|| EMPTY.try_with(|kept| kept.borrow_mut().pop()).ok().flatten().unwrap_or_default())
    }

    /// Gives the memory to whoever needs some next.
    pub fn empty(&mut self) {
        let Some(mut held) = self.0.take() else { return };
        if held.bytes.capacity() <= KEPT_SIZE {
            let _ = EMPTY.try_with(|kept| {
                let mut kept = kept.borrow_mut();
                if kept.len() < KEPT {
                    held.bytes.clear();
                    (held.from, held.lent) = (0, 0);
                    kept.push(held);
                }
            });
        }
    }

    /// Drops what was handed out, and the memory with the last of it.
    pub fn settle(&mut self) {
        let lent = self.0.as_mut().map_or(0, |held| std::mem::take(&mut held.lent));
        self.drop_front(lent);
    }

    pub fn drop_front(&mut self, n: usize) {
        if let Some(held) = &mut self.0 {
            held.from += n;
            if held.from >= held.bytes.len() {
                self.empty();
            }
        }
    }

    /// Makes room for `more` bytes at the back.
    pub fn reserve(&mut self, more: usize) -> Result<()> {
        let held = self.held();
        if held.bytes.capacity() - held.bytes.len() >= more {
            return Ok(());
        }
        if held.from > 0 && held.lent == 0 {
            held.bytes.drain(..std::mem::take(&mut held.from));
        }
        held.bytes.try_reserve(more).map_err(|_| Error::NOMEM)
    }

    /// Puts bytes in front. Nothing is lent. ENOMEM.
    pub fn put_back(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.reserve(bytes.len())?;
        let held = self.held();
        if held.from >= bytes.len() {
            held.from -= bytes.len();
            let from = held.from;
            held.bytes[from..from + bytes.len()].copy_from_slice(bytes);
        } else {
            let from = held.from;
            held.bytes.splice(from..from, bytes.iter().copied());
        }
        Ok(())
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.held().bytes.extend_from_slice(bytes);
    }

    /// Has `fill` write to `room` bytes at the back, all or some; how many it has written. ENOMEM.
    pub fn fill(&mut self, room: usize, fill: impl FnOnce(&mut [u8]) -> usize) -> Result<usize> {
        self.reserve(room)?;
        let bytes = &mut self.held().bytes;
        let end = bytes.len();
        bytes.resize(end + room, 0);
        let n = fill(&mut bytes[end..]);
        bytes.truncate(end + n);
        if self.is_empty() {
            self.drop_front(0);
        }
        Ok(n)
    }
}
