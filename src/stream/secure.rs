//! A stream's TLS: its records to and from the descriptor.
//!
//! ```text
//! descriptor --read--> scratch: [ partial | new ] --session--> input
//! descriptor <--write-- session.sending <--session-- output, data
//! ```
//! What has been encrypted can not be taken back: it counts as taken over, and goes first
//! with the next call. A handshake that was cut short goes on with the next call that reads,
//! writes or flushes.

use super::{SCRATCH, SPARE, Stream, Turn};
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::object::keep;
use crate::poller::{READ, WRITE};
use crate::rw::{self, Known};
use crate::sys;
use crate::time::Deadline;
use crate::tls::config::Config;
use crate::tls::session::{Plain, Session};
use crate::tls::{About, Failure};

/// So much is read at least, whatever was asked for: a record is taken whole or not at all.
const LEAST: usize = 20 << 10;

impl Stream {
    /// Makes it a stream of TLS and shakes hands; `name` is the server's, for a client. EALREADY
    /// when it is one, and its handshake is done; otherwise that goes on.
    pub fn secure(&self, hub: &Hub, config: &Config, name: Option<&str>, deadline: Deadline) -> Result<()> {
        if self.foreign.is_some() {
            return Err(Error::INVAL);
        }
        let this = keep(self);
        let _reads = this.begin_read(hub, deadline)?;
        let _writes = this.begin_write(hub, deadline)?;
        match this.tls() {
            Some(tls) if tls.side() != config.side || !tls.is_handshaking() => return Err(Error::ALREADY),
            Some(_) => {}
            None => this.begin_secure(hub, config, name, deadline)?,
        }
        this.shake_hands(hub, deadline)
    }

    fn begin_secure(&self, hub: &Hub, config: &Config, name: Option<&str>, deadline: Deadline) -> Result<()> {
        self.flush_all(hub, deadline)?;
        let tls = Session::new(config, name).map_err(|failure| hub.explain(&failure))?;
        // What was read ahead is the beginning of the handshake.
        let mut early = std::mem::take(self.input());
        // SAFETY: there is none, so nobody has a reference to it.
        let tls = unsafe { &mut *self.tls.get() }.insert(Box::new(tls));
        let done = tls.receive(early.get_mut(), &mut Plain::into(self.input()));
        self.answer(hub);
        done.map_err(|e| self.told(hub, e))
    }

    pub fn about_tls(&self, hub: &Hub) -> Result<About<'_>> {
        self.check(hub)?;
        self.tls().ok_or(Error::INVAL)?.about()
    }

    #[allow(clippy::mut_from_ref)]
    fn session(&self) -> Result<&mut Session> {
        let tls = self.tls().ok_or(Error::INVAL)?;
        tls.check()?;
        Ok(tls)
    }

    /// Whoever calls it has both turns.
    fn shake_hands(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        loop {
            let tls = self.session()?;
            if let Some(failure) = tls.failure() {
                return Err(hub.explain(&failure));
            }
            if !tls.sending().is_empty() && !tls.has_only_tickets() {
                self.push(hub, deadline)?;
            } else if !tls.is_handshaking() {
                self.answer(hub);
                give_stack_back(hub);
                return Ok(());
            } else {
                // SAFETY: no room is given.
                unsafe { self.pull(hub, SCRATCH, (std::ptr::null_mut(), 0), deadline) }?;
            }
        }
    }

    /// Goes on with a handshake that was cut short; the caller has one of the turns, and takes the other.
    fn finish_handshake(&self, hub: &Hub, other: &std::cell::Cell<u64>, deadline: Deadline) -> Result<()> {
        if !self.session()?.is_handshaking() {
            return Ok(());
        }
        let _turn = Turn::take(other)?;
        self.shake_hands(hub, deadline)
    }

    // ---- in ----------------------------------------------------------------------------

    /// As `more`, and as far as it reaches to `room`; how many bytes went there, or to the input
    /// when there is no room.
    ///
    /// # Safety
    /// `room` is so much memory that is this call's alone.
    pub(super) unsafe fn more_secure(
        &self,
        hub: &Hub,
        most: usize,
        room: (*mut u8, usize),
        deadline: Deadline,
    ) -> Result<usize> {
        self.finish_handshake(hub, &self.writer, deadline)?;
        loop {
            let tls = self.session()?;
            if let Some(failure) = tls.failure() {
                return Err(hub.explain(&failure));
            }
            if tls.has_ended() {
                return Ok(0);
            }
            let before = self.input().len();
            // SAFETY: by contract.
            let done = unsafe { self.pull(hub, most, room, deadline) };
            let got = if room.1 > 0 { *done.as_ref().unwrap_or(&0) } else { self.input().len() - before };
            if got > 0 {
                return Ok(got); // a failure that came behind it is told to the next call
            }
            done?;
        }
    }

    /// Reads records once; how many plain bytes went to `room`.
    ///
    /// # Safety
    /// As for `more_secure`.
    unsafe fn pull(&self, hub: &Hub, most: usize, room: (*mut u8, usize), deadline: Deadline) -> Result<usize> {
        let mut given = 0;
        let read = hub.until_done(self.fd, READ, deadline, |known| {
            self.check(hub)?;
            // SAFETY: by contract.
            unsafe { self.try_pull(hub, most, room, &mut given, known, deadline) }
        })?;
        if read == 0 {
            let error = self.session()?.cut();
            return Err(self.told(hub, error));
        }
        Ok(given)
    }

    unsafe fn try_pull(
        &self,
        hub: &Hub,
        most: usize,
        (at, room): (*mut u8, usize),
        given: &mut usize,
        known: Known,
        deadline: Deadline,
    ) -> Result<usize> {
        // What has come before lies in front of what comes now.
        let held = self.session()?.partial().len();
        let most = most.clamp(LEAST, SCRATCH);
        let mut scratch = SPARE.take();
        scratch.try_reserve(held + SCRATCH).map_err(|_| Error::NOMEM)?;
        scratch.extend_from_slice(self.session()?.partial());
        // SAFETY: it has room for so much behind that, and is this call's alone.
        let read = unsafe { rw::try_read(hub, self.fd, scratch.as_mut_ptr().add(held), most, known, deadline) };
        let mut taken = Ok(());
        if let Ok(n) = read
            && n > 0
        {
            // SAFETY: so many have just been written.
            unsafe { scratch.set_len(held + n) };
            let tls = self.session()?;
            let mut plain = Plain { at, room, done: 0, input: self.input() };
            taken = tls.receive(&mut scratch, &mut plain);
            *given = plain.done;
        }
        scratch.clear();
        if scratch.capacity() <= 2 * SCRATCH {
            SPARE.set(scratch);
        }
        self.answer(hub);
        match taken {
            Ok(()) => read,
            Err(_) if *given > 0 => read,
            Err(e) => Err(self.told(hub, e)),
        }
    }

    /// What the session has to say by itself (an alert, a key's change) goes at once if it can.
    fn answer(&self, hub: &Hub) {
        let Ok(tls) = self.session() else { return };
        if !tls.sending().is_empty() && (tls.failure().is_some() || !tls.is_handshaking()) {
            let _ = self.push(hub, Deadline::NOW);
        }
    }

    // ---- out ---------------------------------------------------------------------------

    /// Writes some of what has been encrypted. It goes and is dropped in one step, so that it does
    /// no harm when somebody else does the same.
    fn push(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        let sent = hub.until_done(self.fd, WRITE, deadline, |known| {
            self.check(hub)?;
            let tls = self.session()?;
            let n = rw::try_write(hub, self.fd, tls.sending().as_ptr(), tls.sending().len(), known, deadline)?;
            tls.has_sent(n);
            Ok(n)
        });
        sent.map(drop)
    }

    /// As `put_out`.
    pub(super) fn put_out_secure(&self, hub: &Hub, data: &[u8], deadline: Deadline) -> Result<usize> {
        self.finish_handshake(hub, &self.reader, deadline)?;
        let tls = self.session()?;
        if let Some(failure) = tls.failure() {
            return Err(hub.explain(&failure));
        }
        let mut taken = 0;
        if tls.sending().is_empty() {
            let kept = self.output().get();
            let has_kept = !kept.is_empty();
            let n = tls.encrypt(if has_kept { kept } else { data }).map_err(|e| self.told(hub, e))?;
            if has_kept {
                self.output().drop_front(n);
            } else {
                taken = n;
            }
        }
        match self.push(hub, deadline) {
            // It is told to the next call: so much of `data` can not be taken back.
            Err(_) if taken > 0 => Ok(taken),
            done => done.map(|()| taken),
        }
    }

    /// Says that no more comes.
    pub(super) fn end_secure(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        self.finish_handshake(hub, &self.reader, deadline)?;
        let tls = self.session()?;
        if let Some(failure) = tls.failure() {
            return Err(hub.explain(&failure));
        }
        tls.shut().map_err(|e| self.told(hub, e))?;
        while !self.session()?.sending().is_empty() {
            self.push(hub, deadline)?;
        }
        Ok(())
    }

    /// It is being closed. When all has gone the other side is told that this is the end.
    pub(super) fn say_goodbye(&self, hub: &Hub) {
        let Ok(tls) = self.session() else { return };
        let all_gone = self.unsent() == 0 && !tls.is_handshaking() && tls.failure().is_none();
        if all_gone && tls.shut().is_ok() && !tls.sending().is_empty() {
            let _ =
                rw::try_write(hub, self.fd, tls.sending().as_ptr(), tls.sending().len(), Known::Nothing, Deadline::NOW);
        }
    }

    /// The code, with the sentence that belongs to it left where it will be looked for.
    fn told(&self, hub: &Hub, e: Error) -> Error {
        let failure = self.tls().and_then(|tls| tls.failure());
        failure.map_or(e, |failure| hub.explain(&failure))
    }
}

/// A handshake goes deep into its greenlet's stack, and what comes then does not: an idle
/// connection had better not keep those pages.
#[inline(never)]
fn give_stack_back(hub: &Hub) {
    let (here, page) = (0u8, sys::page_size());
    let Some((low, top)) = hub.stack_bounds(hub.current()) else { return };
    let at = (&raw const here).addr();
    // A page more than the way to the system call can need.
    let high = at.saturating_sub(page) / page * page;
    if (low..top).contains(&at) && low < high {
        sys::give_back(&[libc::iovec { iov_base: std::ptr::without_provenance_mut(low), iov_len: high - low }]);
    }
}

impl Hub {
    /// Leaves the sentence with the running greenlet, for weald_error_message.
    pub fn explain(&self, failure: &Failure) -> Error {
        let text = std::ffi::CString::new(failure.text.replace('\0', " ")).ok();
        self.current().with_extra(|x| x.message = text);
        failure.error
    }
}
