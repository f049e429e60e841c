//! The text of a policy becomes a [`Policy`], or an error with its line.

use super::{ByteRate, ByteSize, Limits, Policy, PolicyError, RestoreMode, STAGING, SourceSet, TrustRule};
use crate::backup::budget::MEMORY_MIN;
use crate::patterns::Patterns;
use lifeboat_proto::convert::SourceSetName;
use lifeboat_proto::status::with_causes;
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use toml::Spanned;

/// A command or hook that takes longer is ended, and has failed.
const COMMAND_MINUTES: u64 = 60;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Document {
    sources: BTreeMap<Spanned<String>, Set>,
    #[serde(default)]
    never: Vec<Spanned<String>>,
    #[serde(default)]
    restore: Restore,
    #[serde(default)]
    trust: Trust,
    #[serde(default)]
    hooks: BTreeMap<String, Command>,
    #[serde(default)]
    limits: LimitsTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SetTable {
    paths: Vec<AbsolutePath>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    one_file_system: bool,
    #[serde(default)]
    skip_network: bool,
    #[serde(default)]
    skip_temporary: bool,
    #[serde(default)]
    skip_cache_dirs: bool,
    #[serde(default)]
    skip_nodump: bool,
    #[serde(default)]
    hooks: SetHooks,
    #[serde(default)]
    commands: BTreeMap<Spanned<String>, Command>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct SetHooks {
    #[serde(default)]
    before: Vec<Spanned<String>>,
    #[serde(default)]
    after: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Trust {
    file: Option<AbsolutePath>,
    #[serde(default = "one")]
    operators: u32,
}

impl Default for Trust {
    fn default() -> Self {
        Self { file: None, operators: one() }
    }
}

fn one() -> u32 {
    1
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct LimitsTable {
    upload: Option<ByteRate>,
    processors: Option<std::num::NonZeroUsize>,
    memory: Option<Spanned<ByteSize>>,
    command_minutes: Option<std::num::NonZeroU32>,
}

struct AbsolutePath(PathBuf);

impl<'de> Deserialize<'de> for AbsolutePath {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        absolute(String::deserialize(from)?).map(Self).map_err(D::Error::custom)
    }
}

fn absolute(text: String) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.is_absolute() && path.components().all(|part| part != Component::ParentDir) {
        true => Ok(path),
        false => Err(format!("{path:?} is not an absolute path without \"..\"")),
    }
}

/// A program and its arguments. The program is named by an absolute path: no search path decides what runs as root.
struct Command(Vec<String>);

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let words = Vec::<String>::deserialize(from)?;
        match words.first() {
            Some(program) if Path::new(program).is_absolute() => Ok(Self(words)),
            Some(program) => Err(D::Error::custom(format!("the program {program:?} needs an absolute path"))),
            None => Err(D::Error::custom("names no program")),
        }
    }
}

/// A list of paths, or a table.
struct Set(SetTable);

impl<'de> Deserialize<'de> for Set {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(SetVisitor).map(Self)
    }
}

struct SetVisitor;

impl<'de> Visitor<'de> for SetVisitor {
    type Value = SetTable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of paths, or a table with paths and options")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<SetTable, A::Error> {
        let paths = Vec::deserialize(SeqAccessDeserializer::new(list))?;
        Ok(SetTable {
            paths,
            exclude: Vec::new(),
            one_file_system: false,
            skip_network: false,
            skip_temporary: false,
            skip_cache_dirs: false,
            skip_nodump: false,
            hooks: SetHooks::default(),
            commands: BTreeMap::new(),
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<SetTable, A::Error> {
        SetTable::deserialize(MapAccessDeserializer::new(table))
    }
}

/// One place of the list of `restore`.
enum Place {
    Staging,
    Path(PathBuf),
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        match text.as_str() {
            STAGING => Ok(Self::Staging),
            _ => absolute(text)
                .map(Self::Path)
                .map_err(|problem| D::Error::custom(format!("{problem}, nor \"staging\""))),
        }
    }
}

struct Restore(RestoreMode);

impl Default for Restore {
    fn default() -> Self {
        Self(RestoreMode::Into { staging: true, paths: Vec::new() })
    }
}

impl<'de> Deserialize<'de> for Restore {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(RestoreVisitor).map(Self)
    }
}

struct RestoreVisitor;

impl<'de> Visitor<'de> for RestoreVisitor {
    type Value = RestoreMode;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"off\", \"staging\" or a list of absolute paths, which may hold \"staging\" too")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<RestoreMode, E> {
        match word {
            "off" => Ok(RestoreMode::Off),
            STAGING => Ok(RestoreMode::Into { staging: true, paths: Vec::new() }),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<RestoreMode, A::Error> {
        let places = Vec::<Place>::deserialize(SeqAccessDeserializer::new(list))?;
        let staging = places.iter().any(|place| matches!(place, Place::Staging));
        let path = |place| match place {
            Place::Staging => None,
            Place::Path(path) => Some(path),
        };
        Ok(RestoreMode::Into { staging, paths: places.into_iter().filter_map(path).collect() })
    }
}

/// Reads a policy from its text.
pub fn read(text: &str) -> Result<Policy, PolicyError> {
    let at = |span: Range<usize>, problem: String| PolicyError::Text { line: line_of(text, span.start), problem };
    let document: Document =
        toml::from_str(text).map_err(|error| at(error.span().unwrap_or(0..0), error.message().to_owned()))?;
    let hooks = document.hooks.into_iter().map(|(name, command)| (name, command.0)).collect();
    let mut sources = BTreeMap::new();
    for (name, set) in document.sources {
        let span = name.span();
        let name: SourceSetName = name.get_ref().parse().map_err(|_| at(span.clone(), bad_set_name(name.get_ref())))?;
        let set = source_set(set.0, &hooks).map_err(|(inner, problem)| at(inner.unwrap_or(span), problem))?;
        sources.insert(name, set);
    }
    if let Some(never) = document.never.iter().find(|never| never.get_ref().starts_with('!')) {
        return Err(at(
            never.span(),
            format!("{:?} would take back in; what is never backed up has no exception", never.get_ref()),
        ));
    }
    for never in &document.never {
        Patterns::new([never.get_ref()]).map_err(|error| at(never.span(), with_causes(&error)))?;
    }
    if let Some(memory) = document.limits.memory.as_ref().filter(|memory| memory.get_ref().0 < MEMORY_MIN) {
        let problem =
            format!("{} of memory is too little for a backup, {} is the least", memory.get_ref(), ByteSize(MEMORY_MIN));
        return Err(at(memory.span(), problem));
    }
    Ok(Policy {
        sources,
        never: document.never.into_iter().map(Spanned::into_inner).collect(),
        restore: document.restore.0,
        trust: TrustRule { file: document.trust.file.map(|path| path.0), operators: document.trust.operators },
        hooks,
        limits: limits(document.limits),
    })
}

fn limits(table: LimitsTable) -> Limits {
    let minutes = table.command_minutes.map_or(COMMAND_MINUTES, |minutes| u64::from(minutes.get()));
    Limits {
        upload: table.upload,
        processors: table.processors.map(std::num::NonZeroUsize::get),
        memory: table.memory.map(Spanned::into_inner),
        command_time: Duration::from_secs(60 * minutes),
    }
}

fn bad_set_name(name: &str) -> String {
    format!("source set {name:?} needs a name of 1 to 64 letters of a-z, 0-9, '-', '_'")
}

type Problem = (Option<Range<usize>>, String);

fn source_set(table: SetTable, hooks: &BTreeMap<String, Vec<String>>) -> Result<SourceSet, Problem> {
    if table.paths.is_empty() && table.commands.is_empty() {
        return Err((None, "this source set has neither paths nor commands".to_owned()));
    }
    for hook in table.hooks.before.iter().chain(&table.hooks.after) {
        if !hooks.contains_key(hook.get_ref()) {
            return Err((Some(hook.span()), format!("there is no hook {:?} under [hooks]", hook.get_ref())));
        }
    }
    Patterns::new(&table.exclude).map_err(|error| (None, with_causes(&error)))?;
    for name in table.commands.keys() {
        let text = name.get_ref();
        if text.is_empty() || text.len() > 200 || text.contains(['/', '\0']) || text.starts_with('.') {
            return Err((Some(name.span()), format!("command {text:?} cannot name a file: no '/', no dot in front")));
        }
    }
    let names = |list: Vec<Spanned<String>>| list.into_iter().map(Spanned::into_inner).collect();
    Ok(SourceSet {
        paths: table.paths.into_iter().map(|path| path.0).collect(),
        exclude: table.exclude,
        one_file_system: table.one_file_system,
        skip_network: table.skip_network,
        skip_temporary: table.skip_temporary,
        skip_cache_dirs: table.skip_cache_dirs,
        skip_nodump: table.skip_nodump,
        before: names(table.hooks.before),
        after: names(table.hooks.after),
        commands: table.commands.into_iter().map(|(name, command)| (name.into_inner(), command.0)).collect(),
    })
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = &text.as_bytes()[..offset.min(text.len())];
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests;
