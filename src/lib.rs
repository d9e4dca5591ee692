//! weald: green threads, an event hub and cooperative I/O behind a C ABI.
//!
//! Layers, only downward: error, time, trace / handle, timer, sys / stack, fiber,
//! poller / greenlet, hub, wait / sync, group, ... / ffi.

pub mod alarm;
pub mod channel;
pub mod disk;
pub mod dns;
pub mod error;
pub mod fence;
pub mod file;
pub mod ffi;
pub mod fiber;
pub mod fork;
pub mod greenlet;
pub mod group;
pub mod handle;
pub mod heap;
pub mod hooks;
pub mod hub;
pub mod io;
pub mod iwait;
pub mod life;
pub mod local;
pub mod map;
pub mod net;
pub mod object;
pub mod once;
pub mod overflow;
pub mod poller;
pub mod process;
pub mod ready;
pub mod registry;
pub mod remote;
pub mod report;
pub mod rw;
pub mod server;
pub mod shutdown;
pub mod signal;
pub mod splice;
pub mod stack;
pub mod stats;
pub mod stream;
pub mod switch;
pub mod sync;
pub mod sys;
pub mod thread;
pub mod threadpool;
pub mod ticket;
pub mod time;
pub mod timeout;
pub mod timer;
pub mod wait;
pub mod waitlist;
pub mod watcher;
pub mod workers;
