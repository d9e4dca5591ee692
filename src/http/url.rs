//! Addresses of the web: what a client connects to and what it asks for.

use super::field;
use crate::error::{Error, Result};

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Url {
    pub is_secure: bool,
    /// As it stands in Host: "oak", "oak:8080", "[::1]:80".
    pub authority: String,
    /// The path and the query, never empty.
    pub target: String,
}

/// What a target may have: no spaces, no control characters, nothing beyond ASCII.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| b > b' ' && b < 127)
}

impl Url {
    /// "http://host:port/path?query#fragment". EINVAL for what is none, or has a name and password in it.
    pub fn parse(text: &str) -> Result<Url> {
        let (scheme, rest) = text.split_once("://").ok_or(Error::INVAL)?;
        let is_secure = scheme.eq_ignore_ascii_case("https");
        if !is_secure && !scheme.eq_ignore_ascii_case("http") {
            return Err(Error::INVAL);
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let target = rest.split('#').next().unwrap_or_default();
        let host = authority.starts_with(|c| c != ':');
        if !host || !field::is_authority(authority.as_bytes()) || !is_plain(target) {
            return Err(Error::INVAL);
        }
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Url { is_secure, authority: authority.to_ascii_lowercase(), target: format!("{slash}{target}") })
    }

    /// What `location` means to whoever is here. EINVAL.
    pub fn join(&self, location: &str) -> Result<Url> {
        let location = location.split('#').next().unwrap_or_default();
        let scheme = location.split("://").next().filter(|s| s.len() < location.len());
        if scheme.is_some_and(|s| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)))
        {
            return Url::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Url::parse(&format!("{}://{rest}", self.scheme()));
        }
        if !is_plain(location) {
            return Err(Error::INVAL);
        }
        let path = self.target.split('?').next().unwrap_or_default();
        let folder = &path[..path.rfind('/').map_or(0, |at| at + 1)];
        let target = match location.as_bytes().first() {
            None => self.target.clone(),
            Some(b'/') => location.to_string(),
            Some(b'?') => format!("{path}{location}"),
            _ => format!("{folder}{location}"),
        };
        Ok(Url { target: without_dots(&target), ..self.clone() })
    }

    pub fn scheme(&self) -> &'static str {
        if self.is_secure { "https" } else { "http" }
    }

    /// Without the port and an address's brackets.
    pub fn host(&self) -> &str {
        match self.authority.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => self.authority.split(':').next().unwrap_or_default(),
        }
    }

    /// What is dialled: the authority, always with a port.
    pub fn address(&self) -> String {
        let port = if self.is_secure { "443" } else { "80" };
        let has_port = self.authority.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
        match (has_port, self.authority.ends_with(':')) {
            (false, _) => format!("{}:{port}", self.authority),
            (true, true) => format!("{}{port}", self.authority),
            (true, false) => self.authority.clone(),
        }
    }

    /// Two with the same key can share connections.
    pub fn key(&self) -> String {
        format!("{}://{}", self.scheme(), self.address())
    }

    pub fn text(&self) -> String {
        format!("{}://{}{}", self.scheme(), self.authority, self.target)
    }
}

/// "/a/./b/../c" becomes "/a/c".
fn without_dots(target: &str) -> String {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let mut kept: Vec<&str> = Vec::new();
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        match part {
            "." => {}
            ".." => drop(kept.pop()),
            part => kept.push(part),
        }
        if is_last && matches!(part, "." | "..") {
            kept.push("");
        }
    }
    format!("/{}{query}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn an_address_has_a_host_a_port_and_a_target() {
        let url = of("HTTP://Oak:8080/a/b?c#d");
        assert_eq!((url.host(), url.address().as_str(), url.target.as_str()), ("oak", "oak:8080", "/a/b?c"));
        assert_eq!(of("http://oak").text(), "http://oak/");
        assert_eq!(of("http://oak?q").target, "/?q");
        assert_eq!(of("https://[::1]/").address(), "[::1]:443");
        assert_eq!(of("https://[::1]:8/").host(), "::1");
        assert_eq!(of("http://oak:").address(), "oak:80");
        assert_eq!(of("http://oak:80/").key(), of("http://oak/x").key());
        assert_ne!(of("https://oak:80/").key(), of("http://oak/x").key());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "oak",
            "oak/x",
            "ftp://oak/",
            "http://",
            "http:///x",
            "http://:80/",
            "http://me@oak/",
            "http://o k/",
            "http://oak/a b",
            "http://oak/\r\nX: y",
            "http://oak/\u{fc}",
            "http://oak:x/",
            "http://[::1/",
        ] {
            assert_eq!(Url::parse(text), Err(Error::INVAL), "{text}");
        }
    }

    #[test]
    fn a_location_is_seen_from_where_one_is() {
        let here = of("http://oak/a/b/c?d");
        for (location, there) in [
            ("https://elm/x", "https://elm/x"),
            ("//elm/x", "http://elm/x"),
            ("/x?y", "http://oak/x?y"),
            ("x", "http://oak/a/b/x"),
            ("../x", "http://oak/a/x"),
            ("../../../x", "http://oak/x"),
            ("./", "http://oak/a/b/"),
            ("..", "http://oak/a/"),
            ("?e", "http://oak/a/b/c?e"),
            ("#f", "http://oak/a/b/c?d"),
            ("/a/./b/../c", "http://oak/a/c"),
            ("x?u=http://y", "http://oak/a/b/x?u=http://y"),
        ] {
            assert_eq!(here.join(location).unwrap().text(), there, "{location}");
        }
        for location in ["ftp://elm/", "/a b", "x\r\ny", "http://me@elm/"] {
            assert_eq!(here.join(location), Err(Error::INVAL), "{location}");
        }
    }
}
