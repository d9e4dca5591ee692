//! Server-sent events: a response that never ends, of small texts.
//!
//! ```text
//!  event: name LF  id: 7 LF  data: a line LF  data: another LF  LF
//! ```

use super::exchange::Exchange;
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::object::keep;
use crate::time::Deadline;

/// One event; each part is left out where there is none. Without data it is a comment, which keeps the
/// connection from looking dead.
pub struct Event<'a> {
    pub name: Option<&'a [u8]>,
    pub id: Option<&'a [u8]>,
    pub data: Option<&'a [u8]>,
}

impl Event<'_> {
    /// EINVAL for a name or id that is more than a line; ENOMEM.
    fn text(&self) -> Result<Vec<u8>> {
        let is_line = |text: &[u8]| !text.iter().any(|b| matches!(b, b'\r' | b'\n' | 0));
        if !self.name.is_none_or(is_line) || !self.id.is_none_or(is_line) {
            return Err(Error::INVAL);
        }
        let data = self.data.unwrap_or_default();
        let lines = data.iter().filter(|b| matches!(b, b'\r' | b'\n')).count() + 1;
        let mut text = Vec::new();
        let room =
            data.len() + lines * 7 + self.name.map_or(0, |n| n.len() + 8) + self.id.map_or(0, |i| i.len() + 5) + 4;
        text.try_reserve_exact(room).map_err(|_| Error::NOMEM)?;
        let mut line = |name: &[u8], value: &[u8]| {
            [name, value, b"\n"].iter().for_each(|part| text.extend_from_slice(part));
        };
        if let Some(name) = self.name {
            line(b"event: ", name);
        }
        if let Some(id) = self.id {
            line(b"id: ", id);
        }
        match self.data {
            Some(data) => lines_of(data).for_each(|one| line(b"data: ", one)),
            None => line(b":", b""),
        }
        line(b"", b"");
        Ok(text)
    }
}

/// A line ends with LF, CR, or both.
fn lines_of(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(data);
    std::iter::from_fn(move || {
        let all = rest?;
        let Some(end) = all.iter().position(|b| matches!(b, b'\r' | b'\n')) else {
            rest = None;
            return Some(all);
        };
        let skip = if all[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = Some(&all[end + skip..]);
        Some(&all[..end])
    })
}

impl Exchange {
    /// Begins a response of events, and sends its head.
    pub fn begin_events(&self, hub: &Hub, deadline: Deadline) -> Result<()> {
        let this = keep(self);
        if this.response.state() == super::response::State::Open {
            this.response.add(b"Content-Type", b"text/event-stream")?;
            this.response.add(b"Cache-Control", b"no-store")?;
        }
        this.response.begin(&this.context(), 200, None, None)?;
        this.flush(hub, deadline)
    }

    /// Sends an event.
    pub fn send_event(&self, hub: &Hub, event: &Event, deadline: Deadline) -> Result<()> {
        let this = keep(self);
        this.write(hub, &event.text()?, deadline).1?;
        this.flush(hub, deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: Option<&str>, id: Option<&str>, data: Option<&str>) -> Result<String> {
        let bytes = |text: Option<&'static str>| text.map(str::as_bytes);
        let leak = |text: Option<&str>| text.map(|t| &*t.to_string().leak());
        let event = Event { name: bytes(leak(name)), id: bytes(leak(id)), data: bytes(leak(data)) };
        event.text().map(|t| String::from_utf8(t).unwrap())
    }

    #[test]
    fn every_line_of_the_data_is_one_of_the_event() {
        assert_eq!(text(None, None, Some("a")).unwrap(), "data: a\n\n");
        assert_eq!(
            text(Some("n"), Some("7"), Some("a\nb\r\nc\rd\n")).unwrap(),
            "event: n\nid: 7\ndata: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"
        );
        assert_eq!(text(None, None, Some("")).unwrap(), "data: \n\n");
        assert_eq!(text(None, None, None).unwrap(), ":\n\n");
        for bad in ["a\nb", "a\rb", "a\0b"] {
            assert_eq!(text(Some(bad), None, None), Err(Error::INVAL));
            assert_eq!(text(None, Some(bad), None), Err(Error::INVAL));
        }
    }
}
