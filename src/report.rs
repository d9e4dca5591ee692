//! What people read: dumps, deadlock and failure reports.

use crate::error::{self, Error};
use crate::greenlet::{Greenlet, State, Waiting};
use crate::handle::{self, Kind};
use crate::hub::Hub;
use crate::poller::{READ, WRITE};
use crate::sys;
use std::fmt::Write;

/// "1.5 ms"
pub fn duration(ns: i64) -> String {
    match ns {
        i64::MIN..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

fn kind_name(handle: i64) -> &'static str {
    const NAMES: [(Kind, &str); 29] = [
        (Kind::Greenlet, "greenlet"),
        (Kind::Hub, "hub"),
        (Kind::Watcher, "watcher"),
        (Kind::Event, "event"),
        (Kind::Result, "result"),
        (Kind::Queue, "queue"),
        (Kind::Semaphore, "semaphore"),
        (Kind::Lock, "lock"),
        (Kind::Condition, "condition"),
        (Kind::RwLock, "read-write lock"),
        (Kind::Barrier, "barrier"),
        (Kind::Group, "group"),
        (Kind::Iterator, "iterator"),
        (Kind::Timeout, "timeout"),
        (Kind::Local, "local"),
        (Kind::ThreadPool, "thread pool"),
        (Kind::Workers, "workers"),
        (Kind::Imap, "iterator"),
        (Kind::Stream, "stream"),
        (Kind::Server, "server"),
        (Kind::Process, "process"),
        (Kind::Channel, "channel"),
        (Kind::Folder, "folder"),
        (Kind::TlsConfig, "TLS config"),
        (Kind::WebSocket, "WebSocket"),
        (Kind::HttpRequest, "HTTP request"),
        (Kind::HttpClient, "HTTP client"),
        (Kind::HttpResponse, "HTTP response"),
        (Kind::HttpConnection, "HTTP connection"),
    ];
    let kind = handle::kind_of(handle);
    NAMES.iter().find(|(k, _)| *k as u8 == kind).map_or("object", |(_, name)| name)
}

fn direction(events: u32) -> &'static str {
    match events & (READ | WRITE) {
        READ => "to be readable",
        WRITE => "to be writable",
        _ => "to be ready",
    }
}

impl Hub {
    fn waits_for(&self, g: &Greenlet) -> String {
        match g.waiting.get() {
            Waiting::Nothing => "nothing that is known".into(),
            Waiting::Sleep => "time to pass (sleep)".into(),
            Waiting::Idle => "the hub to be idle".into(),
            Waiting::Fd(fd, events) => format!("descriptor {fd} {}", direction(events)),
            Waiting::Fds(1) => "a descriptor".into(),
            Waiting::Fds(n) => format!("one of {n} descriptors"),
            Waiting::Object(h) if handle::kind_of(h) == Kind::Iterator as u8 => "one of some greenlets to end".into(),
            Waiting::Object(h) => format!("{} {h:#x}", kind_name(h)),
            Waiting::Objects(1) => "an object".into(),
            Waiting::Objects(n) => format!("some of {n} objects"),
            Waiting::Join(h) => match self.greenlet(h) {
                Ok(other) => format!("greenlet {} to end", other.label()),
                Err(_) => "a greenlet to end".into(),
            },
            Waiting::Thread => "a job in the thread pool".into(),
            Waiting::Signal => "a signal".into(),
            Waiting::Switched => "somebody to switch back to it".into(),
        }
    }

    fn describe(&self, g: &Greenlet, now: i64) -> String {
        let what = match g.state.get() {
            State::New => "not started".into(),
            State::Ready => "ready to run".into(),
            State::Running => "running".into(),
            State::Done => "finished, its handle still open".into(),
            State::Parked | State::Switched => {
                format!("waits for {}, since {}", self.waits_for(g), duration(now - g.since.get()))
            }
        };
        let killed = if g.kill_reason.get() != 0 { ", killed" } else { "" };
        let site = match g.site.get() {
            0 => String::new(),
            at => format!(", spawned at {}", sys::symbol(at)),
        };
        format!("  greenlet {}: {what}{killed}{site}", g.label())
    }

    /// Every greenlet and what it does, one a line.
    pub fn dump(&self) -> String {
        let now = sys::monotonic_ns();
        let all = self.greenlets();
        let mut text = format!(
            "weald: hub {}: {} greenlets, {} ready, {} timers, {} descriptors waited for\n",
            self.remote.number,
            all.iter().filter(|g| !g.is_done()).count() + 1,
            self.ready.len(),
            self.timers.len(),
            self.poller().linked()
        );
        for g in std::iter::once(&*self.main).chain(all) {
            let label = if self.is_main(g) { "  (main) " } else { "" };
            let age = duration(now - g.born.get());
            let stack = match self.stack_bounds(g) {
                Some((low, top)) => {
                    let used = sys::resident_top(low, top, self.stacks.page());
                    format!(", stack {} of {} KiB touched", used / 1024, (top - low) / 1024)
                }
                None => String::new(),
            };
            let _ = writeln!(text, "{label}{}, age {age}{stack}", self.describe(g, now));
        }
        text
    }

    /// Nothing can ever wake main: who waits for what.
    pub fn report_deadlock(&self) {
        let now = sys::monotonic_ns();
        let mut text = String::from("weald: deadlock: every greenlet waits and nothing is left that could wake one.\n");
        if matches!(self.main.state.get(), State::Parked | State::Switched) {
            let _ = writeln!(text, "  main waits for {}", self.waits_for(&self.main));
        }
        for g in self.greenlets().into_iter().filter(|g| !g.is_done()) {
            let _ = writeln!(text, "{}", self.describe(g, now));
        }
        self.report(&text);
    }

    /// One line about a failed greenlet.
    pub fn failure_text(&self, handle: i64, error: Error, message: &str) -> String {
        let who = match self.greenlet(handle) {
            Ok(g) => {
                let site = match g.site.get() {
                    0 => String::new(),
                    at => format!(", spawned at {},", sys::symbol(at)),
                };
                format!("greenlet {}{site}", g.label())
            }
            Err(_) => "the loop".into(),
        };
        let name = error::name(error.code()).to_string_lossy();
        let what = if message.is_empty() { error::text(error.code()).to_string_lossy() } else { message.into() };
        format!("{who} failed: {name} ({}): {what}", error.code())
    }
}
