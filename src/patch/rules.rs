//! What is to be patched, and what is: the state of the process.
//!
//! A rule says which functions are wanted of which library. A scan looks at everything that
//! is loaded and brings the slots in line with the rules; a later one finds what has been
//! loaded since. Scans take turns.

use super::elf::Image;
use super::library::Library;
use super::slots::{self, Change};
use super::symbol::{self, COUNT, LOADER, SYMBOLS};
use super::{EVERYTHING, count};
use crate::error::{Error, Result};
use crate::fork::Section;
use crate::hub::Hub;
use crate::sys::loader::{self, Changes, Mapping, Object};
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard};

/// What is wanted of the libraries that go by a name; of all, when `everybody`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    everybody: bool,
    name: Option<String>,
    set: u32,
}

impl Rule {
    fn covers(&self, library: &Library) -> bool {
        self.everybody || library.is_called(self.name.as_deref())
    }
}

/// A slot that leads to a stub of ours.
#[derive(Clone, Copy)]
struct Slot {
    at: usize,
    symbol: usize,
    before: usize,
}

/// A library as a scan has found it.
struct Patched {
    library: Library,
    slots: Vec<Slot>,
    /// Why slots that are wanted are not patched.
    refused: Option<Error>,
    counts: &'static count::Counts,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    patched: Vec<Patched>,
    /// What was loaded when a library was last found that is still being loaded, and how often
    /// that was found in a row.
    unfinished: (u64, u32),
    /// The counts of every library that there was, by path: they are never given back.
    counts: Vec<(String, &'static count::Counts)>,
}

/// Scans before a library that is being loaded is given up, until another one is loaded.
const PATIENCE: u32 = 20;

static STATE: Mutex<Option<State>> = Mutex::new(None);

/// What was loaded when the last scan was made, and was all loaded then.
static SEEN: AtomicU64 = AtomicU64::new(0);
/// There is a rule for everybody: new libraries are looked for.
static LOOKS: AtomicBool = AtomicBool::new(false);

fn with_state<R>(with: impl FnOnce(&mut State) -> Result<R>) -> Result<R> {
    Hub::watch_forks(); // there may be no hub yet
    let _section = Section::enter();
    let mut state: MutexGuard<Option<State>> = STATE.lock().unwrap_or_else(|e| e.into_inner());
    with(state.get_or_insert_with(State::default))
}

// ---- what can be asked for ------------------------------------------------------------

/// The functions of `set` in all libraries, now and later; how many slots lead to us. EINVAL.
pub fn all(set: u32) -> Result<usize> {
    let set = known(set)?;
    with_state(|state| state.add(Rule { everybody: true, name: None, set: set | LOADER }))
}

/// The same in the libraries that go by `name`, or the program; how many of their slots lead
/// to us. ENOENT, EPERM, EACCES, EAGAIN.
pub fn library(name: Option<&str>, set: u32) -> Result<usize> {
    let set = known(set)?;
    if name == Some("") {
        return Err(Error::INVAL);
    }
    with_state(|state| state.add(Rule { everybody: false, name: name.map(str::to_owned), set }))
}

/// Looks for libraries that have been loaded since; how many slots lead to us.
pub fn update() -> Result<usize> {
    with_state(|state| state.scan(None).map(|()| state.slots()))
}

/// Every slot leads where it led before; how many did not.
pub fn unpatch() -> Result<usize> {
    with_state(State::undo)
}

fn known(set: u32) -> Result<u32> {
    match set {
        0 => Ok(EVERYTHING),
        _ if set & !EVERYTHING != 0 => Err(Error::INVAL),
        _ => Ok(set),
    }
}

/// A patched dlsym is called: whatever was loaded since is patched before any of its
/// functions can be called.
pub extern "C" fn before_lookup(_: usize, _: usize, _: usize) {
    if LOOKS.load(SeqCst) && fingerprint(loader::changes()) != SEEN.load(SeqCst) {
        // What can not be patched now is looked at the next time.
        let _ = crate::sys::keeping_errno(update);
    }
}

/// Never 0.
fn fingerprint(changes: Changes) -> u64 {
    (changes.loaded << 32 | changes.gone & 0xffff_ffff) | 1 << 63
}

// ---- scanning -------------------------------------------------------------------------

impl State {
    fn slots(&self) -> usize {
        self.patched.iter().map(|p| p.slots.len()).sum()
    }

    /// A rule more, and a scan for its sake. If that fails, all is as it was.
    fn add(&mut self, rule: Rule) -> Result<usize> {
        let before = self.rules.clone();
        match self.rules.iter_mut().find(|r| r.everybody == rule.everybody && r.name == rule.name) {
            Some(same) => same.set |= rule.set,
            None => self.rules.push(rule.clone()),
        }
        self.scan(Some(&rule)).inspect_err(|_| self.rules = before)?;
        loader::keep_loaded(all as fn(u32) -> Result<usize> as usize);
        LOOKS.store(self.rules.iter().any(|r| r.everybody), SeqCst);
        let is_meant = |p: &&Patched| rule.covers(&p.library);
        Ok(self.patched.iter().filter(is_meant).map(|p| p.slots.len()).sum())
    }

    /// Brings every library in line. `asked`: the rule for whose sake, whose libraries must
    /// not be refused.
    fn scan(&mut self, asked: Option<&Rule>) -> Result<()> {
        let asked = asked.filter(|rule| !rule.everybody);
        loader::with_objects(|objects, changes| {
            let mappings = loader::mappings()?;
            let (mut now, mut is_whole, mut found) = (Vec::new(), true, asked.is_none());
            let mut done = Vec::new();
            for object in objects {
                let Some(image) = Image::read(object, &mappings) else { continue };
                let library = Library::new(object, &image);
                let is_asked = asked.is_some_and(|rule| rule.covers(&library));
                found |= is_asked;
                let patched = match library.must_block() {
                    true if is_asked => Err(Error::PERM),
                    true => continue,
                    false => self.bring_in_line(library, &image, &mappings, &mut done),
                };
                let patched = match patched {
                    Ok(patched) if is_asked => patched.refused.map_or(Ok(patched), Err),
                    other => other,
                };
                let patched = patched.inspect_err(|_| put_back(objects, &mappings, &done))?;
                is_whole &= patched.refused != Some(Error::AGAIN);
                now.push(patched);
            }
            if !found {
                return Err(Error::NOENT);
            }
            now.retain(|p| !p.slots.is_empty() || p.refused.is_some());
            self.patched = now;
            count::publish(self.patched.iter().map(|p| (&p.library.range, p.counts)));
            let is_settled = is_whole || self.has_waited_long_enough(fingerprint(changes));
            SEEN.store(if is_settled { fingerprint(changes) } else { 0 }, SeqCst);
            Ok(())
        })
    }

    /// A library that looks unfinished for ever (its pages were opened by somebody else) must
    /// not make every lookup a scan.
    fn has_waited_long_enough(&mut self, now: u64) -> bool {
        self.unfinished = if self.unfinished.0 == now { (now, self.unfinished.1 + 1) } else { (now, 0) };
        self.unfinished.1 >= PATIENCE
    }

    /// Patches what the rules want of a library. Only want of memory is an error; what has
    /// been written is added to `done`.
    fn bring_in_line(
        &mut self,
        library: Library,
        image: &Image,
        mappings: &[Mapping],
        done: &mut Vec<(usize, Change)>,
    ) -> Result<Patched> {
        let set = self.rules.iter().filter(|r| r.covers(&library)).fold(0, |all, r| all | r.set);
        let known = self.patched.iter().find(|p| p.library.base == library.base && p.library.path == library.path);
        let (mut slots, mut changes) = (Vec::new(), Vec::new());
        if set != 0 {
            image.slots(|at, name| {
                let Some(symbol) = symbol::find(name).filter(|&s| SYMBOLS[s].set & set != 0) else { return };
                // SAFETY: a slot of a library that is loaded.
                let (before, stub) = (unsafe { slots::value(at) }, SYMBOLS[symbol].stub as usize);
                let earlier = || known.and_then(|p| p.slots.iter().find(|s| s.at == at));
                if before == stub {
                    slots.extend(earlier());
                } else {
                    slots.push(Slot { at, symbol, before });
                    changes.push(Change { at, expected: before, value: stub });
                }
            });
        }
        let counts = if slots.is_empty() { &count::OTHERS } else { self.counts_of(&library)? };
        // SAFETY: as above.
        let written = unsafe { slots::write(image, mappings, &changes) };
        let refused = match written {
            Err(Error::NOMEM) => return Err(Error::NOMEM),
            Err(e) => {
                slots.retain(|s| !changes.iter().any(|c| c.at == s.at));
                Some(e)
            }
            Ok(()) => {
                done.extend(changes.iter().map(|change| (library.base, *change)));
                None
            }
        };
        Ok(Patched { library, slots, refused, counts })
    }

    fn counts_of(&mut self, library: &Library) -> Result<&'static count::Counts> {
        if let Some((_, counts)) = self.counts.iter().find(|(path, _)| *path == library.path) {
            return Ok(counts);
        }
        let counts = count::Counts::leaked()?;
        self.counts.push((library.path.clone(), counts));
        Ok(counts)
    }

    fn undo(&mut self) -> Result<usize> {
        loader::with_objects(|objects, _| {
            let mappings = loader::mappings()?;
            let mut changes = Vec::new();
            for p in &self.patched {
                let back = |s: &Slot| Change { at: s.at, expected: SYMBOLS[s.symbol].stub as usize, value: s.before };
                // Only what is still there: another library may lie where one was.
                let is_there =
                    objects.iter().any(|o| o.base == p.library.base && o.path.to_string_lossy() == p.library.path);
                changes.extend(p.slots.iter().filter(|_| is_there).map(|s| (p.library.base, back(s))));
            }
            write_all(objects, &mappings, &changes).inspect_err(|_| put_back(objects, &mappings, &changes))?;
            self.rules.clear();
            self.patched.clear();
            LOOKS.store(false, SeqCst);
            SEEN.store(0, SeqCst);
            Ok(changes.len())
        })
    }
}

/// Takes changes back.
fn put_back(objects: &[Object], mappings: &[Mapping], done: &[(usize, Change)]) {
    let back = |c: &Change| Change { at: c.at, expected: c.value, value: c.expected };
    let changes: Vec<_> = done.iter().map(|(base, change)| (*base, back(change))).collect();
    let _ = write_all(objects, mappings, &changes);
}

/// Makes changes in several libraries, each named by its base.
fn write_all(objects: &[Object], mappings: &[Mapping], changes: &[(usize, Change)]) -> Result<()> {
    let mut first_failure = Ok(());
    for object in objects {
        if changes.iter().all(|(base, _)| *base != object.base) {
            continue;
        }
        let Some(image) = Image::read(object, mappings) else { continue };
        // Perhaps it has been loaded anew since, or is being loaded: those slots are not ours.
        let is_ours = |base: usize, c: &Change| base == object.base && image.value(c.at) == Some(c.expected);
        let here: Vec<Change> = changes.iter().filter(|(base, c)| is_ours(*base, c)).map(|(_, c)| *c).collect();
        // SAFETY: slots that a scan has found in this library, which is loaded.
        first_failure = first_failure.and(unsafe { slots::write(&image, mappings, &here) });
    }
    first_failure
}

// ---- the report -------------------------------------------------------------------------

/// What is patched, and what has been called, for people.
pub fn report() -> Result<String> {
    with_state(|state| {
        let mut text = format!("weald: patched: {} slots in {} libraries\n", state.slots(), state.patched.len());
        for p in &state.patched {
            let _ = writeln!(text, "  {}: {} slots", p.library.label(), p.slots.len());
            if let Some(why) = p.refused {
                let _ = writeln!(text, "    others can not be patched: {}", reason(why));
            }
            lines(&mut text, p.counts, |symbol| {
                p.slots.iter().filter(|s| symbol::counted_at(s.symbol) == symbol).count()
            });
        }
        text.push_str("  called from elsewhere:\n");
        lines(&mut text, &count::OTHERS, |_| 0);
        Ok(text)
    })
}

fn lines(text: &mut String, counts: &count::Counts, slots: impl Fn(usize) -> usize) {
    for (i, symbol) in SYMBOLS.iter().enumerate().take(COUNT) {
        let (slots, count) = (slots(i), counts.of(i));
        let (calls, parked) = (count.calls.load(SeqCst), count.parked.load(SeqCst));
        if slots > 0 || calls > 0 {
            let _ = writeln!(text, "    {}: {slots} slots, {calls} calls, {parked} parked", symbol.name);
        }
    }
}

fn reason(why: Error) -> &'static str {
    match why {
        Error::AGAIN => "it is being loaded",
        _ => "its pages are sealed, or must not be written to; a preloaded library would do instead",
    }
}
