//! Synchronisation between greenlets, built on parking in lists alone.
//!
//! Hand-over, not wake-and-look: whoever makes an item or a permit available gives
//! it to the first waiter in the same step, so waiters are served in order and
//! nothing is lost or had twice.

pub mod barrier;
pub mod condition;
pub mod event;
pub mod lock;
pub mod queue;
pub mod result;
pub mod rwlock;
pub mod select;
pub mod semaphore;
pub mod shared;
