//! What stands for TLS in a build without it: nothing can be made, so nothing is ever asked.

use super::{About, Failure, How, Side};
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::handle::{Kind, Object};
use crate::registry::SharedObject;
use std::rc::Rc;

/// There is none.
enum Never {}

pub struct Config {
    pub side: Side,
    never: Never,
}

// SAFETY: there is none to be closed.
unsafe impl Object for Config {
    const KIND: Kind = Kind::TlsConfig;
    unsafe fn close(_: *const Self) {}
}
// SAFETY: as above.
unsafe impl SharedObject for Config {}

impl Config {
    pub fn create(_: Side, _: How) -> std::result::Result<i64, Failure> {
        Err(Failure::new(Error::NOSYS, "the library was built without TLS"))
    }

    pub fn reload(&self) -> std::result::Result<(), Failure> {
        match self.never {}
    }

    pub fn add(&self, _: &str, _: Option<&str>) -> std::result::Result<(), Failure> {
        match self.never {}
    }
}

pub struct Plain<'a> {
    pub at: *mut u8,
    pub room: usize,
    pub done: usize,
    pub input: &'a mut Buffer,
}

impl Plain<'_> {
    pub fn into(input: &mut Buffer) -> Plain<'_> {
        Plain { at: std::ptr::null_mut(), room: 0, done: 0, input }
    }
}

pub struct Session {
    never: Never,
}

macro_rules! never {
    ($self:ident; $($name:ident($($arg:ident: $type:ty),*) -> $returns:ty;)*) => {
        $(pub fn $name(&$self $(, $arg: $type)*) -> $returns {
            $(let _ = $arg;)*
            match $self.never {}
        })*
    };
}

impl Session {
    pub fn new(config: &Config, _: Option<&str>) -> std::result::Result<Session, Failure> {
        match config.never {}
    }

    never! {
        self;
        side() -> Side;
        is_handshaking() -> bool;
        has_ended() -> bool;
        has_only_tickets() -> bool;
        failure() -> Option<Rc<Failure>>;
        check() -> Result<()>;
        sending() -> &[u8];
        has_sent(n: usize) -> ();
        partial() -> &[u8];
        cut() -> Error;
        receive(records: &mut [u8], plain: &mut Plain<'_>) -> Result<()>;
        encrypt(data: &[u8]) -> Result<usize>;
        shut() -> Result<()>;
        about() -> Result<About<'_>>;
    }
}
