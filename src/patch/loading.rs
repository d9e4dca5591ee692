//! Whether a library is being loaded or unloaded: what its constructors call must not park,
//! for the loader is in the middle of it.
//!
//! A patched dlopen leaves a note: where on the stack the address stands that it returns to,
//! and that address. As long as the stack is that deep and the address is still there,
//! dlopen has not returned.

use crate::hub::Hub;
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

struct Note {
    greenlet: i64,
    at: usize,
    back_to: usize,
}

/// Of this thread's greenlets.
#[derive(Default)]
struct Notes(RefCell<Vec<Note>>);

/// Nobody has ever called dlopen.
static NEVER: AtomicBool = AtomicBool::new(true);

/// dlopen, dlmopen or dlclose is called; `at` holds the address that it returns to.
pub extern "C" fn enter(_: usize, back_to: usize, at: usize) {
    let Some(hub) = Hub::existing() else { return };
    NEVER.store(false, Relaxed);
    let greenlet = hub.current().handle.get();
    let notes = &hub.extension::<Notes>().0;
    notes
        .borrow_mut()
        .retain(|n| if n.greenlet == greenlet { is_good(n, at) } else { hub.greenlet(n.greenlet).is_ok() });
    notes.borrow_mut().push(Note { greenlet, at, back_to });
}

/// For a note of the greenlet that runs, whose stack reaches down to `sp`.
fn is_good(note: &Note, sp: usize) -> bool {
    // SAFETY: on the stack that is current, above its pointer.
    note.at > sp && unsafe { (note.at as *const usize).read_volatile() } == note.back_to
}

pub fn is_under_way(hub: &Hub) -> bool {
    if NEVER.load(Relaxed) {
        return false;
    }
    let here = 0u8;
    let greenlet = hub.current().handle.get();
    let notes = hub.extension::<Notes>().0.borrow();
    notes.iter().any(|n| n.greenlet == greenlet && is_good(n, (&raw const here) as usize))
}
