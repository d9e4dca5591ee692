//! Who calls, and how often. A call is counted by the address that it returns to, without a
//! lock: it may be made anywhere, in a signal handler too.

use super::symbol::COUNT;
use crate::error::{Error, Result};
use std::ops::Range;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

/// More libraries than that share the counters of nobody in particular.
const MOST: usize = 512;

pub struct Count {
    pub calls: AtomicU64,
    pub parked: AtomicU64,
}

/// The counts of a library, one for each symbol. They stay when it goes.
pub struct Counts([Count; COUNT]);

impl Counts {
    const fn new() -> Counts {
        Counts([const { Count { calls: AtomicU64::new(0), parked: AtomicU64::new(0) } }; COUNT])
    }

    /// ENOMEM.
    pub fn leaked() -> Result<&'static Counts> {
        let mut one = Vec::new();
        one.try_reserve_exact(1).map_err(|_| Error::NOMEM)?;
        one.push(Counts::new());
        Ok(&one.leak()[0])
    }

    pub fn of(&self, symbol: usize) -> &Count {
        &self.0[symbol]
    }
}

/// Calls that come from nowhere that we know.
pub static OTHERS: Counts = Counts::new();

struct Place {
    from: AtomicUsize,
    to: AtomicUsize,
    counts: AtomicPtr<Counts>,
}

static PLACES: [Place; MOST] = [const {
    Place { from: AtomicUsize::new(0), to: AtomicUsize::new(0), counts: AtomicPtr::new(std::ptr::null_mut()) }
}; MOST];
static USED: AtomicUsize = AtomicUsize::new(0);

/// From now on those who return into these ranges have these counts. One thread at a time.
pub fn publish<'a>(libraries: impl Iterator<Item = (&'a Range<usize>, &'static Counts)>) {
    let mut used = 0;
    for (place, (range, counts)) in PLACES.iter().zip(libraries) {
        // Whoever looks meanwhile may count for the wrong one.
        place.to.store(0, SeqCst);
        place.counts.store(std::ptr::from_ref(counts).cast_mut(), SeqCst);
        place.from.store(range.start, SeqCst);
        place.to.store(range.end, SeqCst);
        used += 1;
    }
    USED.store(used, SeqCst);
}

pub fn of(caller: usize, symbol: usize) -> &'static Count {
    let used = &PLACES[..USED.load(Relaxed).min(MOST)];
    let place = used.iter().find(|p| p.from.load(Relaxed) <= caller && caller < p.to.load(Relaxed));
    // SAFETY: NULL, or counts that stay for ever.
    let counts = place.and_then(|p| unsafe { p.counts.load(Relaxed).as_ref() });
    counts.unwrap_or(&OTHERS).of(symbol)
}
