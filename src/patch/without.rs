//! What stands for patching where it is not to be had.

use crate::error::{Error, Result};

pub fn all(_: u32) -> Result<usize> {
    Err(Error::NOSYS)
}

pub fn library(_: Option<&str>, _: u32) -> Result<usize> {
    Err(Error::NOSYS)
}

pub fn update() -> Result<usize> {
    Err(Error::NOSYS)
}

pub fn unpatch() -> Result<usize> {
    Err(Error::NOSYS)
}

pub fn report() -> Result<String> {
    Err(Error::NOSYS)
}
