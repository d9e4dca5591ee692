//! Counters of a hub. Plain cells: each is written by its own thread only.

use std::cell::Cell;

#[derive(Default)]
pub struct Stats {
    pub finished: Cell<u64>,
    pub resumes: Cell<u64>,
    pub turns: Cell<u64>,
    pub polls: Cell<u64>,
}
