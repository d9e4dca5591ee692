//! What a server allows: limits, times, and what it takes although it is not HTTP.

use crate::time::Deadline;

/// What a strict reader refuses, and a user may ask for by name.
#[derive(Clone, Copy, Default, Debug)]
pub struct Lenient {
    /// Lines may end with LF alone.
    pub bare_lf: bool,
    /// A header may go on in the next line, which begins with a space.
    pub folding: bool,
    /// Spaces between a header's name and its colon.
    pub space_before_colon: bool,
    /// HTTP/1.1 without Host.
    pub no_host: bool,
    /// Names with underscores reach the handler.
    pub underscores: bool,
    /// UTF-8 in the target.
    pub raw_target: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub line: usize,
    pub head: usize,
    pub headers: usize,
    pub body: u64,
    /// Requests of one connection.
    pub requests: usize,
    pub head_ns: i64,
    pub idle_ns: i64,
    /// What a body may take besides the time by its rate; i64::MAX: any time.
    pub body_ns: i64,
    /// What a piece of a response may take.
    pub write_ns: i64,
    /// Bytes a second of a body, at least.
    pub rate: u64,
}

const SECOND: i64 = 1_000_000_000;

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            line: 8 << 10,
            head: 64 << 10,
            headers: 100,
            body: 64 << 20,
            requests: 10_000,
            head_ns: 10 * SECOND,
            idle_ns: 60 * SECOND,
            body_ns: 20 * SECOND,
            write_ns: 30 * SECOND,
            rate: 500,
        }
    }
}

impl Limits {
    /// How long whoever sends a body may be waited for, when `got` bytes have come and he has been
    /// waited for `waited_ns` already.
    pub fn patience(&self, got: u64, waited_ns: i64) -> Deadline {
        if self.body_ns == i64::MAX {
            return Deadline::NEVER;
        }
        let earned = (got / self.rate.max(1)).min(1 << 30) as i64 * SECOND;
        Deadline::after(self.body_ns.saturating_add(earned).saturating_sub(waited_ns))
    }
}
