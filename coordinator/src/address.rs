//! What people type to name files in a snapshot: `HOST:PATH@WHEN`.
//!
//! A host's name holds no `:`, so the first one ends it. A path may hold `:` and `@`: what follows the last `@` is a
//! [`When`] only if it reads as one, and `--at WHEN` settles it, for then the whole rest is the path. Paths are printed
//! by [`shown`], and what it prints reads back as the same path. Which snapshot a `When` means is decided here too, from
//! a list; who may open it is for `authorize`.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ToSpan};
use lifeboat_proto::shown::{Shown, unescape};
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::str::FromStr;

/// The fewest digits of a snapshot id that are taken for one.
const PREFIX_DIGITS_MIN: usize = 6;

/// The moment, or the snapshot, that an address means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// The newest snapshot that is whole and not suspect.
    Latest,
    /// The newest one committed before the day before today ended, in the reader's time zone.
    Yesterday,
    /// The newest one committed before this day ended, in the reader's time zone.
    Day(Date),
    /// The newest one committed no later than this, in the reader's time zone.
    Local(DateTime),
    /// The newest one committed no later than so long ago, by the reader's calendar: `-3d`.
    Ago {
        /// How many units.
        count: u16,
        /// Of which.
        unit: Unit,
    },
    /// The newest one committed no later than this.
    Instant(Timestamp),
    /// The one whose id begins with these digits, lower case.
    Snapshot(String),
}

/// What [`When::Ago`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// `min`
    Minutes,
    /// `h`
    Hours,
    /// `d`: the same time of another day, however long the days between were.
    Days,
    /// `w`
    Weeks,
    /// `mo`
    Months,
    /// `y`
    Years,
}

/// How units are written.
const UNITS: [(&str, Unit); 6] = [
    ("min", Unit::Minutes),
    ("h", Unit::Hours),
    ("d", Unit::Days),
    ("w", Unit::Weeks),
    ("mo", Unit::Months),
    ("y", Unit::Years),
];

/// Text that was meant as a WHEN and is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a moment: allowed are latest, yesterday, 2026-11-01, \"2026-11-01 09:00\", 2026-11-01T09:00:00Z, \
     -3d (also min, h, w, mo, y), or six and more digits of a snapshot's id"
)]
pub struct WhenError {
    text: String,
}

impl FromStr for When {
    type Err = WhenError;

    fn from_str(text: &str) -> Result<Self, WhenError> {
        let is_prefix = (PREFIX_DIGITS_MIN..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
        match text {
            "latest" => return Ok(Self::Latest),
            "yesterday" => return Ok(Self::Yesterday),
            _ if is_prefix => return Ok(Self::Snapshot(text.to_ascii_lowercase())),
            _ => {}
        }
        read_ago(text).or_else(|| read_time(text)).ok_or_else(|| WhenError { text: text.to_owned() })
    }
}

/// `-3d`.
fn read_ago(text: &str) -> Option<When> {
    let text = text.strip_prefix('-')?;
    let (count, unit) = text.split_at(text.find(|letter: char| !letter.is_ascii_digit())?);
    let (_, unit) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
    Some(When::Ago { count: count.parse().ok()?, unit })
}

/// A day, a local time to the minute or the second, or RFC 3339. jiff reads much more; what people meant as a file's
/// name should not be taken for a time, so the shape is checked first.
fn read_time(text: &str) -> Option<When> {
    let (day, rest) = text.split_at_checked(10)?;
    if !has_shape(day, "0000-00-00") {
        return None;
    }
    let day: Date = day.parse().ok()?;
    let Some(clock) = rest.strip_prefix(['T', 't', ' ']) else {
        return rest.is_empty().then_some(When::Day(day));
    };
    if has_shape(clock, "00:00") || has_shape(clock, "00:00:00") {
        return clock.parse().ok().map(|time| When::Local(day.to_datetime(time)));
    }
    text.parse().ok().map(When::Instant)
}

/// Whether `text` is as long as `shape`, with digits where it has zeros, and equal elsewhere.
fn has_shape(text: &str, shape: &str) -> bool {
    text.len() == shape.len()
        && text.bytes().zip(shape.bytes()).all(|(byte, wanted)| match wanted {
            b'0' => byte.is_ascii_digit(),
            _ => byte == wanted,
        })
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Yesterday => f.write_str("yesterday"),
            Self::Day(day) => day.fmt(f),
            Self::Local(time) => time.fmt(f),
            Self::Instant(time) => time.fmt(f),
            Self::Ago { count, unit } => {
                let name = UNITS.into_iter().find_map(|(name, other)| (other == *unit).then_some(name));
                write!(f, "-{count}{}", name.unwrap_or_default())
            }
            Self::Snapshot(prefix) => f.write_str(prefix),
        }
    }
}

impl When {
    /// Whether what it means depends on a time zone.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Yesterday | Self::Day(_) | Self::Local(_) | Self::Ago { .. })
    }

    /// The last moment that it means, in a zone; none where it names no moment.
    ///
    /// # Errors
    /// It lies outside what a calendar can express.
    pub fn end(&self, zone: &TimeZone, now: Timestamp) -> Result<Option<Timestamp>, ChooseError> {
        end_of(self, zone, now).map_err(|_| ChooseError::Calendar { when: self.to_string() })
    }
}

/// Files of one host at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The host's name or number, as it was typed.
    pub host: String,
    /// Components joined by `/`, none at either end; empty for the root of the tree.
    pub path: Vec<u8>,
    /// The path with its backslashes taken literally, if that is another one: for a tree that only has this one.
    pub literal: Option<Vec<u8>>,
    /// Which snapshot.
    pub when: When,
}

/// Text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing stands before the colon, or what stands there cannot be a host's name.
    #[error("{text:?} does not begin with a host's name; an address is HOST:PATH@WHEN, such as mail-1:/etc@yesterday")]
    Host {
        /// What was typed.
        text: String,
    },
    /// The path leads up.
    #[error("the path in {text:?} holds \"..\"; name it as it stands in the snapshot")]
    Parent {
        /// What was typed.
        text: String,
    },
}

impl Address {
    /// Reads what was typed. With `at`, from `--at`, nothing behind an `@` is taken for a moment.
    pub fn parse(text: &OsStr, at: Option<When>) -> Result<Self, AddressError> {
        let shown = || text.to_string_lossy().into_owned();
        let bytes = text.as_bytes();
        let (host, path, when) = match (split_at_first(bytes, b':'), at) {
            (Some((host, path)), Some(when)) => (host, path, when),
            (Some((host, rest)), None) => {
                let (path, when) = split_when(rest);
                (host, path, when.unwrap_or(When::Latest))
            }
            (None, Some(when)) => (bytes, &b""[..], when),
            (None, None) => {
                let (host, when) = split_when(bytes);
                (host, &b""[..], when.unwrap_or(When::Latest))
            }
        };
        let host = read_host(host).ok_or_else(|| AddressError::Host { text: shown() })?;
        let literal = clean_path(path);
        let path = read_path(path).ok_or_else(|| AddressError::Parent { text: shown() })?;
        let literal = literal.filter(|literal| *literal != path);
        Ok(Self { host, path, literal, when })
    }
}

fn split_at_first(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == separator)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// Takes a moment off the end, if what follows the last `@` reads as one.
fn split_when(bytes: &[u8]) -> (&[u8], Option<When>) {
    let split = bytes.iter().rposition(|byte| *byte == b'@').and_then(|at| {
        let when = std::str::from_utf8(&bytes[at + 1..]).ok()?.parse().ok()?;
        Some((&bytes[..at], Some(when)))
    });
    split.unwrap_or((bytes, None))
}

fn read_host(bytes: &[u8]) -> Option<String> {
    let allowed = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let host = (1..=253).contains(&bytes.len()) && bytes.iter().all(allowed);
    host.then(|| bytes.iter().copied().map(char::from).collect())
}

/// A path as an address takes it: [`Address::parse`] reads the same path from this text.
pub fn shown(path: &[u8]) -> String {
    match split_when(path) {
        (before, Some(_)) => {
            let when = Shown(&path[before.len() + 1..]);
            let before = Shown(before).to_string();
            // What is printed after a last backslash is an escape.
            let backslash = if before.ends_with('\\') { "\\" } else { "" };
            format!("{before}{backslash}\\x40{when}")
        }
        (_, None) => Shown(path).to_string(),
    }
}

/// The path that was typed, as a tree holds it; nothing if a component is `..`.
pub fn read_path(text: &[u8]) -> Option<Vec<u8>> {
    clean_path(&unescape(text))
}

/// The path as a tree holds it: without empty components and `.`; nothing if one is `..`.
fn clean_path(bytes: &[u8]) -> Option<Vec<u8>> {
    let parts = bytes.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    let parts: Vec<&[u8]> = parts.collect();
    (!parts.contains(&&b".."[..])).then(|| parts.join(&b'/'))
}

/// What is known of a snapshot to choose one by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its id, 64 hexadecimal digits.
    pub id: String,
    /// Its place in the journal; later ones have greater numbers.
    pub number: u64,
    /// When it was committed, by the coordinator's clock.
    pub committed: Timestamp,
    /// The source set that it is of.
    pub source_set: String,
    /// Whether a moment may mean it: it is no checkpoint and not suspect. An id always may.
    pub regular: bool,
}

/// No snapshot is meant, or more than one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChooseError {
    /// There is nothing that a time could mean.
    #[error("{host} has no complete backup yet; `lifeboat backup {host}` starts one")]
    NoBackup {
        /// Which host was asked about.
        host: String,
    },
    /// All are later.
    #[error("{host} has no snapshot at {when}; the oldest is from {oldest}")]
    TooEarly {
        /// Which host was asked about.
        host: String,
        /// What was asked for.
        when: String,
        /// When the oldest was committed, in the reader's time zone.
        oldest: String,
    },
    /// No id begins with the digits.
    #[error("{host} has no snapshot whose ID begins with {prefix}; `lifeboat snapshots {host}` lists them")]
    NoSuchId {
        /// Which host was asked about.
        host: String,
        /// The digits.
        prefix: String,
    },
    /// The digits begin several ids.
    #[error("{prefix} begins the ids of {count} snapshots; give more digits")]
    Ambiguous {
        /// The digits.
        prefix: String,
        /// How many ids begin so.
        count: usize,
    },
    /// The host has several source sets, and the address names none.
    #[error("{host} has the source sets {}; choose one with --set", .sets.join(", "))]
    SourceSet {
        /// Which host was asked about.
        host: String,
        /// What it has.
        sets: Vec<String>,
    },
    /// The moment lies outside what a calendar can express.
    #[error("{when} is not a moment of this calendar")]
    Calendar {
        /// What was asked for.
        when: String,
    },
}

/// The one of `candidates`, all of `host`, that `when` means.
pub fn choose<'a>(
    host: &str,
    when: &When,
    candidates: &'a [Candidate],
    zone: &TimeZone,
    now: Timestamp,
) -> Result<&'a Candidate, ChooseError> {
    let host = || host.to_owned();
    if let When::Snapshot(prefix) = when {
        let found: Vec<_> = candidates.iter().filter(|snapshot| snapshot.id.starts_with(prefix.as_str())).collect();
        return match found[..] {
            [] => Err(ChooseError::NoSuchId { host: host(), prefix: prefix.clone() }),
            [only] => Ok(only),
            [..] => Err(ChooseError::Ambiguous { prefix: prefix.clone(), count: found.len() }),
        };
    }
    let end = when.end(zone, now)?;
    let meant = |snapshot: &&Candidate| snapshot.regular && end.is_none_or(|end| snapshot.committed <= end);
    let mut sets: Vec<_> = candidates.iter().filter(meant).map(|snapshot| snapshot.source_set.clone()).collect();
    sets.sort();
    sets.dedup();
    if sets.len() > 1 {
        return Err(ChooseError::SourceSet { host: host(), sets });
    }
    let none = || match candidates.iter().filter(|snapshot| snapshot.regular).map(|snapshot| snapshot.committed).min() {
        None => ChooseError::NoBackup { host: host() },
        Some(oldest) => {
            let oldest = oldest.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string();
            ChooseError::TooEarly { host: host(), when: when.to_string(), oldest }
        }
    };
    candidates.iter().filter(meant).max_by_key(|snapshot| snapshot.number).ok_or_else(none)
}

/// The last moment at which a snapshot may have been committed; none where any will do.
fn end_of(when: &When, zone: &TimeZone, now: Timestamp) -> Result<Option<Timestamp>, jiff::Error> {
    let day_end = |day: Date| -> Result<Timestamp, jiff::Error> {
        let next_day = day.tomorrow()?.to_zoned(zone.clone())?.timestamp();
        next_day.checked_sub(1.nanosecond())
    };
    match when {
        When::Latest | When::Snapshot(_) => Ok(None),
        When::Yesterday => day_end(now.to_zoned(zone.clone()).date().yesterday()?).map(Some),
        When::Day(day) => day_end(*day).map(Some),
        When::Local(time) => Ok(Some(time.to_zoned(zone.clone())?.timestamp())),
        When::Ago { count, unit } => {
            let span = Span::new();
            let span = match unit {
                Unit::Minutes => span.try_minutes(*count),
                Unit::Hours => span.try_hours(*count),
                Unit::Days => span.try_days(*count),
                Unit::Weeks => span.try_weeks(*count),
                Unit::Months => span.try_months(*count),
                Unit::Years => span.try_years(*count),
            }?;
            Ok(Some(now.to_zoned(zone.clone()).checked_sub(span)?.timestamp()))
        }
        When::Instant(time) => Ok(Some(*time)),
    }
}

#[cfg(test)]
mod tests;
