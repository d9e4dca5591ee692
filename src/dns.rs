//! Names: getaddrinfo and getnameinfo in threads of their own, and a small cache.
//!
//! ```text
//! ask --> cached? --> numeric? --> a thread asks the resolver --> cache --> the asker,
//!            |            |                  |                              if he waits
//!            +------------+-- at once        +-- for as long as it likes
//! ```
//!
//! A resolver blocks for as long as it likes, half a minute when a name server does not
//! answer, and nothing can stop it. So an asker who gives up leaves his thread behind;
//! the pool has a thread for each lookup under way, so that those which are stuck do not
//! hold up others, to a bound. What comes late is still good for the cache.
//!
//! getaddrinfo does not say how long an answer holds. The cache keeps it for a short
//! time, which makes a burst of connections to one host one lookup; that a name does not
//! exist is kept for a shorter time; that a server did not answer is not kept at all.

use crate::error::{Error, Result};
use crate::fork::Section;
use crate::hub::Hub;
use crate::sys::names;
use crate::threadpool::ThreadPool;
use crate::time::{Deadline, now};
use libc::{addrinfo, hostent, sockaddr, socklen_t};
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::mem::size_of;
use std::ops::{Deref, DerefMut};
use std::ptr::{null, null_mut};
use std::sync::{Arc, Mutex, MutexGuard};

/// Lookups under way at a time, those included that nobody waits for any more.
const MOST_LOOKUPS: usize = 128;
/// Answers kept at a time.
const MOST_ANSWERS: usize = 512;
/// How long an answer is kept, and that there is none.
const TTL_NS: i64 = 10_000_000_000;
const NEGATIVE_TTL_NS: i64 = 1_000_000_000;

/// Large enough for every address.
const MOST_ADDRESS: usize = size_of::<libc::sockaddr_storage>();
/// What NI_MAXHOST and NI_MAXSERV say.
const MOST_HOST: usize = 1025;
const MOST_SERVICE: usize = 32;

static POOL: ThreadPool = ThreadPool::new(MOST_LOOKUPS);

// ---- who is asked -----------------------------------------------------------------

pub type GetFn = extern "C-unwind" fn(*const c_char, *const c_char, *const addrinfo, *mut *mut addrinfo) -> c_int;
pub type FreeFn = extern "C-unwind" fn(*mut addrinfo);
pub type NameFn =
    extern "C-unwind" fn(*const sockaddr, socklen_t, *mut c_char, socklen_t, *mut c_char, socklen_t, c_int) -> c_int;

/// Three functions that may block, and run in threads of the pool.
#[derive(Clone, Copy)]
pub struct Resolver {
    pub get: GetFn,
    pub free: FreeFn,
    pub name: NameFn,
}

/// The C library's.
pub const LIBC: Resolver = Resolver { get: names::getaddrinfo, free: names::freeaddrinfo, name: names::getnameinfo };

impl Resolver {
    fn addresses(&self, question: &Question, flags: c_int) -> Result<Arc<[Found]>> {
        let hints = question.hints(flags);
        let text = |t: &Option<CString>| t.as_ref().map_or(null(), |t| t.as_ptr());
        let mut list = null_mut();
        let eai = (self.get)(text(&question.host), text(&question.service), &hints, &mut list);
        if eai != 0 {
            return Err(failure(eai));
        }
        let found = walk(list).map(Found::copy).collect();
        (self.free)(list);
        Ok(found)
    }

    fn name(&self, address: &[u8], flags: c_int) -> Result<Named> {
        let (mut host, mut service) = ([0u8; MOST_HOST], [0u8; MOST_SERVICE]);
        let mut room = [0u64; MOST_ADDRESS / 8]; // aligned, unlike the bytes
        // SAFETY: no longer than the room, which `name` below has seen to.
        unsafe { room.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(address.as_ptr(), address.len()) };
        let eai = (self.name)(
            room.as_ptr().cast(),
            address.len() as socklen_t,
            host.as_mut_ptr().cast(),
            MOST_HOST as socklen_t,
            service.as_mut_ptr().cast(),
            MOST_SERVICE as socklen_t,
            flags,
        );
        if eai != 0 {
            return Err(failure(eai));
        }
        let text = |bytes: &[u8]| CStr::from_bytes_until_nul(bytes).map(Box::from).map_err(|_| Error::EAI_FAIL);
        Ok(Named { host: text(&host)?, service: text(&service)? })
    }
}

fn failure(eai: c_int) -> Error {
    Error::from_eai(eai, -Error::last_os().code())
}

/// The entries of a list.
fn walk(list: *const addrinfo) -> impl Iterator<Item = &'static addrinfo> {
    // SAFETY: a resolver's list, alive until it is freed; nobody keeps an entry longer.
    let entry = |at: *const addrinfo| unsafe { at.as_ref() };
    std::iter::successors(entry(list), move |one| entry(one.ai_next))
}

// ---- questions and answers ----------------------------------------------------------

pub struct Question {
    pub host: Option<CString>,
    pub service: Option<CString>,
    pub flags: c_int,
    pub family: c_int,
    pub kind: c_int,
    pub protocol: c_int,
}

impl Question {
    fn hints(&self, flags: c_int) -> addrinfo {
        addrinfo {
            ai_flags: flags,
            ai_family: self.family,
            ai_socktype: self.kind,
            ai_protocol: self.protocol,
            ai_addrlen: 0,
            ai_addr: null_mut(),
            ai_canonname: null_mut(),
            ai_next: null_mut(),
        }
    }

    /// What the cache knows it by.
    fn key(&self) -> Vec<u8> {
        let text = |t: &Option<CString>| t.as_ref().map_or(0, |t| t.as_bytes().len() + 1);
        let mut key = Vec::with_capacity(20 + text(&self.host) + text(&self.service));
        key.push(0);
        for number in [self.flags, self.family, self.kind, self.protocol] {
            key.extend_from_slice(&number.to_ne_bytes());
        }
        for text in [&self.host, &self.service] {
            key.push(u8::from(text.is_some()));
            key.extend_from_slice(text.as_ref().map_or(&[], |t| t.as_bytes_with_nul()));
        }
        key
    }

    /// The answer, if it can be had without asking anybody: host and service are numbers,
    /// or the question is a wrong one.
    fn at_once(&self) -> Option<Result<Arc<[Found]>>> {
        const NUMERIC: c_int = libc::AI_NUMERICHOST | libc::AI_NUMERICSERV;
        match LIBC.addresses(self, self.flags | NUMERIC) {
            Err(Error::EAI_NONAME) if !self.is_numeric() => None,
            answer => Some(answer),
        }
    }

    /// Whether the caller wants no names to be looked up.
    fn is_numeric(&self) -> bool {
        let given = |text: &Option<CString>, flag| text.is_none() || self.flags & flag != 0;
        given(&self.host, libc::AI_NUMERICHOST) && given(&self.service, libc::AI_NUMERICSERV)
    }
}

/// One address of a host.
pub struct Found {
    flags: c_int,
    pub family: c_int,
    pub kind: c_int,
    pub protocol: c_int,
    address: Box<[u8]>,
    canonical: Option<CString>,
}

impl Found {
    fn copy(one: &addrinfo) -> Found {
        let address: &[u8] = if one.ai_addr.is_null() {
            &[]
        } else {
            // SAFETY: the resolver says how long the address is.
            unsafe { std::slice::from_raw_parts(one.ai_addr.cast(), one.ai_addrlen as usize) }
        };
        // SAFETY: NULL or NUL-terminated.
        let canonical = (!one.ai_canonname.is_null()).then(|| unsafe { CStr::from_ptr(one.ai_canonname) }.to_owned());
        Found {
            flags: one.ai_flags,
            family: one.ai_family,
            kind: one.ai_socktype,
            protocol: one.ai_protocol,
            address: address.into(),
            canonical,
        }
    }

    /// A `sockaddr`, as bytes.
    pub fn address(&self) -> &[u8] {
        &self.address
    }

    /// The host's part of the address, as struct hostent wants it.
    fn host_part(&self) -> &[u8] {
        let (from, len) = match self.family {
            libc::AF_INET => (4, 4),
            libc::AF_INET6 => (8, 16),
            _ => (0, 0),
        };
        self.address.get(from..from + len).unwrap_or_default()
    }
}

/// What an address is called.
pub struct Named {
    pub host: Box<CStr>,
    pub service: Box<CStr>,
}

// ---- the cache ------------------------------------------------------------------------

#[derive(Clone)]
enum Known {
    Addresses(Arc<[Found]>),
    Name(Arc<Named>),
    Nothing(Error),
}

impl Known {
    fn of<T>(answer: Result<T>, wrap: impl FnOnce(T) -> Known) -> Known {
        answer.map_or_else(Known::Nothing, wrap)
    }

    /// How long it is kept; 0: not at all.
    fn ttl(&self, state: &State) -> i64 {
        match self {
            Known::Nothing(Error::EAI_NONAME | Error::EAI_NODATA) => state.negative_ttl_ns,
            Known::Nothing(_) => 0,
            _ => state.ttl_ns,
        }
    }
}

struct Kept {
    known: Known,
    until: i64,
}

struct State {
    answers: HashMap<Vec<u8>, Kept>,
    ttl_ns: i64,
    negative_ttl_ns: i64,
    /// Grows when the cache is cleared: what was asked before is not kept.
    epoch: u64,
    resolver: Resolver,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

/// The state, locked: inside a `Section`, so that a forked child finds it free and whole.
struct Held {
    state: MutexGuard<'static, Option<State>>,
    _section: Section,
}

impl Deref for Held {
    type Target = State;
    fn deref(&self) -> &State {
        self.state.as_ref().expect("made when it was locked")
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut State {
        self.state.as_mut().expect("made when it was locked")
    }
}

fn state() -> Held {
    let section = Section::enter();
    let mut state = STATE.lock().unwrap_or_else(|e| e.into_inner());
    state.get_or_insert_with(|| State {
        answers: HashMap::new(),
        ttl_ns: TTL_NS,
        negative_ttl_ns: NEGATIVE_TTL_NS,
        epoch: 0,
        resolver: LIBC,
    });
    Held { state, _section: section }
}

impl State {
    fn get(&self, key: &[u8]) -> Option<Known> {
        let kept = self.answers.get(key)?;
        (kept.until > now()).then(|| kept.known.clone())
    }

    fn put(&mut self, key: Vec<u8>, known: Known) {
        let ttl = known.ttl(self);
        if ttl == 0 {
            return;
        }
        if self.answers.len() >= MOST_ANSWERS {
            self.make_room();
        }
        self.answers.insert(key, Kept { known, until: now().saturating_add(ttl) });
    }

    /// Throws out what is old, and if nothing is, what gets old first.
    fn make_room(&mut self) {
        let now = now();
        self.answers.retain(|_, kept| kept.until > now);
        if self.answers.len() >= MOST_ANSWERS
            && let Some(key) = self.answers.iter().min_by_key(|(_, kept)| kept.until).map(|(key, _)| key.clone())
        {
            self.answers.remove(&key);
        }
    }

    fn clear(&mut self) {
        self.epoch += 1;
        self.answers.clear();
    }
}

/// Who is asked from now on; `None`: the C library. What others have answered is
/// forgotten.
pub fn set_resolver(resolver: Option<Resolver>) {
    let mut state = state();
    state.resolver = resolver.unwrap_or(LIBC);
    state.clear();
}

/// How long answers are kept, and that there is none; 0 keeps none from now on.
pub fn set_ttl(ttl_ns: i64, negative_ttl_ns: i64) {
    let mut state = state();
    (state.ttl_ns, state.negative_ttl_ns) = (ttl_ns, negative_ttl_ns);
    state.clear();
}

pub fn clear_cache() {
    state().clear();
}

/// How many answers are kept that are still good.
pub fn cached() -> usize {
    let now = now();
    state().answers.values().filter(|kept| kept.until > now).count()
}

// ---- asking ---------------------------------------------------------------------------

/// The answer from the cache, or at once, or from a resolver in a thread.
fn ask(
    hub: &Hub,
    key: Vec<u8>,
    at_once: impl FnOnce() -> Option<Known>,
    work: impl FnOnce(&Resolver) -> Known + Send + 'static,
    deadline: Deadline,
) -> Result<Known> {
    if !deadline.is_now() {
        hub.check()?;
    }
    let (resolver, epoch) = {
        let state = state();
        if let Some(known) = state.get(&key) {
            return Ok(known);
        }
        (state.resolver, state.epoch)
    };
    if let Some(known) = at_once() {
        return Ok(known);
    }
    let job = move || {
        let known = work(&resolver);
        let mut state = state();
        if state.epoch == epoch {
            state.put(key, known.clone());
        }
        known
    };
    POOL.offload(hub, job, deadline)
}

/// What `getaddrinfo` finds. EAI_..., and those of `offload`.
pub fn addresses(hub: &Hub, question: Question, deadline: Deadline) -> Result<Arc<[Found]>> {
    let question = Arc::new(question);
    let theirs = question.clone();
    let at_once = || question.at_once().map(|answer| Known::of(answer, Known::Addresses));
    let work = move |resolver: &Resolver| Known::of(resolver.addresses(&theirs, theirs.flags), Known::Addresses);
    match ask(hub, question.key(), at_once, work, deadline)? {
        Known::Addresses(found) => Ok(found),
        Known::Nothing(e) => Err(e),
        Known::Name(_) => Err(Error::EAI_FAIL), // keys of the two kinds differ
    }
}

/// What `getnameinfo` finds.
pub fn name(hub: &Hub, address: &[u8], flags: c_int, deadline: Deadline) -> Result<Arc<Named>> {
    const NUMERIC: c_int = libc::NI_NUMERICHOST | libc::NI_NUMERICSERV;
    if address.len() > MOST_ADDRESS {
        return Err(Error::EAI_FAMILY);
    }
    let mut key = vec![1];
    key.extend_from_slice(&flags.to_ne_bytes());
    key.extend_from_slice(address);
    let address: Box<[u8]> = address.into();
    let theirs = address.clone();
    let named = |answer: Result<Named>| Known::of(answer, |named| Known::Name(Arc::new(named)));
    let at_once = || (flags & NUMERIC == NUMERIC).then(|| named(LIBC.name(&address, flags)));
    let work = move |resolver: &Resolver| named(resolver.name(&theirs, flags));
    match ask(hub, key, at_once, work, deadline)? {
        Known::Name(named) => Ok(named),
        Known::Nothing(e) => Err(e),
        Known::Addresses(_) => Err(Error::EAI_FAIL),
    }
}

// ---- what a C program gets ------------------------------------------------------------

/// A list as getaddrinfo makes it: each entry with its address is a piece of its own, and
/// so is the canonical name, so that parts of a list can be freed.
pub fn list(found: &[Found]) -> Result<*mut addrinfo> {
    let mut first = null_mut();
    let mut end: *mut *mut addrinfo = &mut first;
    for one in found {
        match entry(one) {
            Ok(at) => {
                // SAFETY: `end` is `first`, or the field of an entry made before.
                unsafe { end.write(at) };
                // SAFETY: made just now.
                end = unsafe { &raw mut (*at).ai_next };
            }
            Err(e) => {
                // SAFETY: made by `entry`, and nobody has seen it.
                unsafe { free_list(first) };
                return Err(e);
            }
        }
    }
    Ok(first)
}

fn entry(one: &Found) -> Result<*mut addrinfo> {
    let canonical = match &one.canonical {
        Some(text) => copy_bytes(text.as_bytes_with_nul())?,
        None => null_mut(),
    };
    let at = names::allocate(size_of::<addrinfo>() + one.address.len()).inspect_err(|_| {
        // SAFETY: made above.
        unsafe { names::free(canonical) };
    })?;
    // SAFETY: room for an entry and the address behind it.
    let address = unsafe { at.add(size_of::<addrinfo>()) };
    // SAFETY: as above.
    unsafe { address.copy_from_nonoverlapping(one.address.as_ptr(), one.address.len()) };
    let made = addrinfo {
        ai_flags: one.flags,
        ai_family: one.family,
        ai_socktype: one.kind,
        ai_protocol: one.protocol,
        ai_addrlen: one.address.len() as socklen_t,
        ai_addr: address.cast(),
        ai_canonname: canonical.cast(),
        ai_next: null_mut(),
    };
    // SAFETY: as above; aligned for anything.
    unsafe { at.cast::<addrinfo>().write(made) };
    Ok(at.cast())
}

fn copy_bytes(bytes: &[u8]) -> Result<*mut u8> {
    let at = names::allocate(bytes.len())?;
    // SAFETY: as much room.
    unsafe { at.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    Ok(at)
}

/// Gives back a list, or the end of one.
///
/// # Safety
/// NULL, or an entry of `list` that nobody uses any more.
pub unsafe fn free_list(mut at: *mut addrinfo) {
    // SAFETY: NULL, or an entry that `entry` made, by contract.
    while let Some(one) = unsafe { at.as_ref() } {
        let (next, canonical) = (one.ai_next, one.ai_canonname);
        // SAFETY: made by `copy_bytes`, or NULL.
        unsafe { names::free(canonical) };
        // SAFETY: made by `entry`, and not used any more.
        unsafe { names::free(at) };
        at = next;
    }
}

/// The addresses of a host, or the host of an address, as gethostbyname tells them.
pub struct Host<'a> {
    pub name: &'a CStr,
    pub aliases: &'a [&'a CStr],
    pub family: c_int,
    pub addresses: Vec<&'a [u8]>,
}

impl Host<'_> {
    /// One piece of memory, freed by one `names::free`:
    ///
    /// ```text
    /// hostent | pointers: addresses, NULL, aliases, NULL | addresses | name | aliases
    /// ```
    pub fn to_c(&self) -> Result<*mut hostent> {
        const POINTER: usize = size_of::<*mut c_char>();
        let pointers = self.addresses.len() + 1 + self.aliases.len() + 1;
        let texts = || std::iter::once(self.name).chain(self.aliases.iter().copied());
        let bytes: usize = self.addresses.iter().map(|a| a.len()).sum::<usize>()
            + texts().map(|t| t.to_bytes_with_nul().len()).sum::<usize>();
        let at = names::allocate(size_of::<hostent>() + pointers * POINTER + bytes)?;
        // SAFETY: room for all of it, in this order; see the picture.
        let table = unsafe { at.add(size_of::<hostent>()).cast::<*mut c_char>() };
        // SAFETY: as above.
        let mut next = unsafe { table.add(pointers).cast::<u8>() };
        let mut place = |bytes: &[u8]| -> *mut c_char {
            let placed = next;
            // SAFETY: as above: every text and address has been counted.
            unsafe { placed.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
            // SAFETY: as above.
            next = unsafe { placed.add(bytes.len()) };
            placed.cast()
        };
        for (i, address) in self.addresses.iter().enumerate() {
            // SAFETY: a place of the table; the one behind the last stays NULL.
            unsafe { table.add(i).write(place(address)) };
        }
        let name = place(self.name.to_bytes_with_nul());
        // SAFETY: a place of the table.
        let aliases = unsafe { table.add(self.addresses.len() + 1) };
        for (i, alias) in self.aliases.iter().enumerate() {
            // SAFETY: as above.
            unsafe { aliases.add(i).write(place(alias.to_bytes_with_nul())) };
        }
        let made = hostent {
            h_name: name,
            h_aliases: aliases,
            h_addrtype: self.family,
            h_length: self.addresses.first().map_or(0, |a| a.len()) as c_int,
            h_addr_list: table,
        };
        // SAFETY: the beginning of the piece, aligned for anything.
        unsafe { at.cast::<hostent>().write(made) };
        Ok(at.cast())
    }
}

/// gethostbyname: the canonical name, and the asked one as an alias if it is another.
pub fn host_by_name(hub: &Hub, name: &CStr, family: c_int, deadline: Deadline) -> Result<*mut hostent> {
    if family != libc::AF_INET && family != libc::AF_INET6 {
        return Err(Error::EAI_FAMILY);
    }
    let question = Question {
        host: Some(name.into()),
        service: None,
        flags: libc::AI_CANONNAME,
        family,
        kind: libc::SOCK_STREAM,
        protocol: 0,
    };
    let found = addresses(hub, question, deadline)?;
    let canonical = found.iter().find_map(|one| one.canonical.as_deref()).unwrap_or(name);
    let aliases = [name];
    let aliases = if canonical == name { &aliases[..0] } else { &aliases[..] };
    let mut addresses: Vec<&[u8]> = Vec::new();
    for part in found.iter().filter(|one| one.family == family).map(Found::host_part) {
        if !part.is_empty() && !addresses.contains(&part) {
            addresses.push(part);
        }
    }
    if addresses.is_empty() {
        return Err(Error::EAI_NODATA);
    }
    Host { name: canonical, aliases, family, addresses }.to_c()
}

/// gethostbyaddr: who has the address `part`, of 4 or 16 bytes.
pub fn host_by_address(hub: &Hub, part: &[u8], family: c_int, deadline: Deadline) -> Result<*mut hostent> {
    let (at, len, expected) = match family {
        libc::AF_INET => (4, size_of::<libc::sockaddr_in>(), 4),
        libc::AF_INET6 => (8, size_of::<libc::sockaddr_in6>(), 16),
        _ => return Err(Error::EAI_FAMILY),
    };
    if part.len() != expected {
        return Err(Error::INVAL);
    }
    let mut address = [0u8; MOST_ADDRESS];
    address[..2].copy_from_slice(&(family as libc::sa_family_t).to_ne_bytes());
    address[at..at + part.len()].copy_from_slice(part);
    let named = name(hub, &address[..len], libc::NI_NAMEREQD | libc::NI_NUMERICSERV, deadline)?;
    Host { name: &named.host, aliases: &[], family, addresses: vec![part] }.to_c()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        Known::Addresses(Arc::new([]))
    }

    fn fresh(ttl_ns: i64, negative_ttl_ns: i64) -> State {
        State { answers: HashMap::new(), ttl_ns, negative_ttl_ns, epoch: 0, resolver: LIBC }
    }

    #[test]
    fn the_cache_is_bounded_and_loses_what_gets_old_first() {
        let mut state = fresh(1_000_000_000, 0);
        for i in 0..MOST_ANSWERS + 10 {
            state.ttl_ns += 1_000_000;
            state.put(i.to_ne_bytes().into(), known());
        }
        assert_eq!(state.answers.len(), MOST_ANSWERS);
        assert!(state.get(&0usize.to_ne_bytes()).is_none());
        assert!(state.get(&(MOST_ANSWERS + 9).to_ne_bytes()).is_some());
    }

    #[test]
    fn what_may_be_better_the_next_time_is_not_kept() {
        let mut state = fresh(1_000_000_000, 1_000_000_000);
        for error in [Error::EAI_AGAIN, Error::EAI_FAIL, Error::NOMEM] {
            state.put(vec![1], Known::Nothing(error));
        }
        assert!(state.answers.is_empty());
        state.put(vec![1], Known::Nothing(Error::EAI_NONAME));
        assert_eq!(state.answers.len(), 1);
    }

    #[test]
    fn answers_get_old() {
        let mut state = fresh(1, 1);
        state.put(vec![1], known());
        let since = now();
        while now() == since {}
        assert!(state.get(&[1]).is_none());
    }

    #[test]
    fn keys_tell_nothing_from_the_empty_text() {
        let question = |host: Option<&CStr>, service: Option<&CStr>| Question {
            host: host.map(CStr::to_owned),
            service: service.map(CStr::to_owned),
            flags: 0,
            family: 0,
            kind: 0,
            protocol: 0,
        };
        let keys: Vec<Vec<u8>> = [
            question(None, Some(c"a")),
            question(Some(c"a"), None),
            question(Some(c""), Some(c"a")),
            question(Some(c"a"), Some(c"")),
        ]
        .map(|q| q.key())
        .into();
        assert!((0..4).all(|i| keys[i + 1..].iter().all(|other| *other != keys[i])));
    }
}
