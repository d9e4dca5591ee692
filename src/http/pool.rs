//! Connections that wait for another request to the same server.

use crate::error::Error;
use crate::hub::Hub;
use crate::object;
use crate::stream::Stream;
use crate::time::{Deadline, now};
use std::cell::RefCell;
use std::collections::HashMap;

struct Idle {
    stream: i64,
    since: i64,
}

pub struct Pool {
    /// By `Url::key`; the one that came last is taken first.
    idle: RefCell<HashMap<String, Vec<Idle>>>,
    /// To one server.
    most: usize,
    idle_ns: i64,
}

pub fn close(hub: &Hub, stream: i64) {
    if let Ok(closer) = hub.table.remove(stream) {
        closer.close();
    }
}

impl Pool {
    pub fn new(most: usize, idle_ns: i64) -> Pool {
        Pool { idle: RefCell::default(), most, idle_ns }
    }

    /// A connection that is still good, as far as one can see.
    pub fn take(&self, hub: &Hub, key: &str) -> Option<i64> {
        loop {
            let idle = self.idle.borrow_mut().get_mut(key)?.pop()?;
            if now() - idle.since < self.idle_ns && is_quiet(hub, idle.stream) {
                return Some(idle.stream);
            }
            close(hub, idle.stream);
        }
    }

    /// Keeps a connection, or closes the one that has waited longest for it.
    pub fn give(&self, hub: &Hub, key: &str, stream: i64) {
        let mut all = self.idle.borrow_mut();
        if !all.contains_key(key) {
            all.insert(key.into(), Vec::new());
        }
        let Some(those) = all.get_mut(key) else { return };
        those.push(Idle { stream, since: now() });
        let oldest = (those.len() > self.most).then(|| those.remove(0));
        drop(all);
        if let Some(oldest) = oldest {
            close(hub, oldest.stream);
        }
    }

    pub fn count(&self) -> usize {
        self.idle.borrow().values().map(Vec::len).sum()
    }

    /// Closes all.
    pub fn clear(&self, hub: &Hub) {
        let all = self.idle.take();
        all.into_values().flatten().for_each(|idle| close(hub, idle.stream));
    }
}

/// Whether nothing has come, the end included: an answer to nothing is nobody's.
fn is_quiet(hub: &Hub, stream: i64) -> bool {
    object::get::<Stream>(hub, stream).is_ok_and(|stream| stream.fill(hub, 1, Deadline::NOW) == Err(Error::AGAIN))
}
