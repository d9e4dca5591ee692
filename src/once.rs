//! What is found out, or done, once in a process, without a lock. A child that is forked
//! while another thread holds a lock (or std's Once) would wait for it for ever: that
//! thread is the parent's.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};

/// A yes or no that is found out when it is first wanted; by two threads at once, perhaps.
#[derive(Default)]
pub struct Answer(AtomicU8);

const YES: u8 = 1;
const NO: u8 = 2;

impl Answer {
    pub const fn new() -> Answer {
        Answer(AtomicU8::new(0))
    }

    pub fn known(&self) -> Option<bool> {
        match self.0.load(SeqCst) {
            YES => Some(true),
            NO => Some(false),
            _ => None,
        }
    }

    pub fn is(&self, yes: bool) -> bool {
        self.0.store(if yes { YES } else { NO }, SeqCst);
        yes
    }

    pub fn get(&self, ask: impl FnOnce() -> bool) -> bool {
        self.known().unwrap_or_else(|| self.is(ask()))
    }
}

/// A deed for the whole process. In a child that was forked in the middle of it it is done
/// once more, so twice must do no harm.
#[derive(Default)]
pub struct Deed(AtomicU64);

const DONE: u64 = 1;

impl Deed {
    pub const fn new() -> Deed {
        Deed(AtomicU64::new(0))
    }

    pub fn once(&self, deed: impl FnOnce()) {
        loop {
            let state = self.0.load(SeqCst);
            if state == DONE {
                return;
            }
            // Whose thread is at it; no process has a number so small that it is DONE.
            let ours = u64::from(std::process::id()) << 1;
            if state == ours {
                std::thread::yield_now();
            } else if self.0.compare_exchange(state, ours, SeqCst, SeqCst).is_ok() {
                deed();
                return self.0.store(DONE, SeqCst);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn a_deed_is_done_once_however_many_want_it() {
        static DEED: Deed = Deed::new();
        static TIMES: AtomicUsize = AtomicUsize::new(0);
        let all: Vec<_> = (0..8)
            .map(|_| {
                std::thread::spawn(|| {
                    DEED.once(|| {
                        std::thread::yield_now();
                        TIMES.fetch_add(1, SeqCst);
                    });
                    assert_eq!(TIMES.load(SeqCst), 1);
                })
            })
            .collect();
        all.into_iter().for_each(|t| t.join().unwrap());
    }

    #[test]
    fn what_a_process_that_is_gone_has_begun_is_begun_anew() {
        let (deed, mut times) = (Deed(AtomicU64::new(u64::from(u32::MAX) << 1)), 0);
        deed.once(|| times += 1);
        deed.once(|| unreachable!());
        assert_eq!(times, 1);
    }

    #[test]
    fn an_answer_is_kept() {
        let answer = Answer::new();
        assert_eq!(answer.known(), None);
        assert!(!answer.get(|| false));
        assert!(!answer.get(|| true));
    }
}
