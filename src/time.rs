//! Monotonic time and deadlines, in nanoseconds.
//!
//! A deadline is absolute. From C it arrives as an `int64_t`: -1 never passes,
//! 0 means "do not wait", any other negative number has passed already.
//! All arithmetic saturates: INT64_MAX is never.

use crate::sys;

pub const FOREVER: i64 = -1;
pub const NOW: i64 = 0;

/// Nanoseconds on the monotonic clock; a wall-clock jump does not touch it.
#[inline]
pub fn now() -> i64 {
    sys::monotonic_ns()
}

/// The moment `ns` from now: saturating, and never one of the special values.
pub fn after(ns: i64) -> i64 {
    now().saturating_add(ns).max(1)
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Deadline(i64);

impl Deadline {
    pub const NEVER: Deadline = Deadline(i64::MAX);
    /// Do not wait at all.
    pub const NOW: Deadline = Deadline(0);
    /// Passed before the machine was switched on.
    const PASSED: Deadline = Deadline(1);

    #[inline]
    pub fn from_raw(raw: i64) -> Deadline {
        match raw {
            FOREVER => Deadline::NEVER,
            i64::MIN..=-2 => Deadline::PASSED,
            _ => Deadline(raw),
        }
    }

    pub fn after(ns: i64) -> Deadline {
        Deadline(after(ns))
    }

    #[inline]
    pub fn is_never(self) -> bool {
        self == Deadline::NEVER
    }

    #[inline]
    pub fn is_now(self) -> bool {
        self == Deadline::NOW
    }

    #[inline]
    /// As from_raw takes it.
    pub fn raw(self) -> i64 {
        if self.is_never() { -1 } else { self.0 }
    }

    pub fn ns(self) -> i64 {
        self.0
    }

    pub fn has_passed(self) -> bool {
        !self.is_never() && self.0 <= now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_saturates_and_avoids_special_values() {
        assert_eq!(after(i64::MAX), i64::MAX);
        assert!(after(i64::MIN) >= 1);
        assert!(Deadline::from_raw(after(i64::MAX)).is_never());
    }

    #[test]
    fn negative_has_passed_and_minus_one_never_does() {
        assert!(Deadline::from_raw(-2).has_passed());
        assert!(Deadline::from_raw(i64::MIN).has_passed());
        assert!(!Deadline::from_raw(-1).has_passed());
        assert!(Deadline::from_raw(0).is_now());
    }
}
