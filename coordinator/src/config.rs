//! The coordinator's settings: `lifeboat.toml` in its state directory, written by `init`, then the operator's own.
//!
//! Everything is found from the state directory alone, so one flag (`--state`, or `LIFEBOAT_STATE`) leads a command to
//! the rest. An unknown key is an error with its line: a setting that is misspelt must not be silently ignored.

use crate::schedule::Window;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The name of the file in the state directory.
pub const FILE_NAME: &str = "lifeboat.toml";

/// Where the coordinator keeps what is not in the repository, unless told otherwise.
pub const STATE_DEFAULT: &str = "/var/lib/lifeboat";

/// Where a new repository lies unless somebody says otherwise: not in the state directory, whose copies must lie apart from
/// those of the repository.
pub const REPOSITORY_DEFAULT: &str = "/srv/lifeboat";

/// When hosts have their turns, unless told otherwise.
pub const NIGHT_DEFAULT: &str = "01:00-05:00";

/// Memory for the index's cache in MiB, unless told otherwise: enough for some ten million chunks.
pub const INDEX_CACHE_MIB_DEFAULT: u32 = 128;

/// How many backups are received at once, unless told otherwise. Each takes up to 5 MiB of memory.
pub const BACKUPS_AT_ONCE_DEFAULT: u32 = 48;

/// The settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no file.
    #[error("there is no coordinator in {state}")]
    NotThere {
        /// Where it was looked for.
        state: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("{path}, line {line}: {problem}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// A value is not what its key needs.
    #[error("{path}: {key} = {value:?} {problem}")]
    Value {
        /// Which file.
        path: PathBuf,
        /// Which key.
        key: &'static str,
        /// What stands there.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// The file as people write it. `init` writes it with comments; see `docs/operations.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// The directory that holds the repository.
    pub repository: PathBuf,
    /// The credential that opens the vault. Never inside the repository.
    pub credential: PathBuf,
    /// Where agents call: an IP address and a port.
    pub listen: SocketAddr,
    /// How servers reach it, `HOST:PORT`: goes into tokens and into the coordinator's certificate.
    pub address: String,
    /// The local socket for root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// When hosts have their turns.
    #[serde(default = "night_default")]
    pub night: String,
    /// The time zone of the night and of times on the command line; without one, the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Memory for the index's cache, in MiB.
    #[serde(default = "index_cache_default")]
    pub index_cache_mib: u32,
    /// How many backups are received at once; others wait.
    #[serde(default = "backups_default")]
    pub backups_at_once: u32,
}

fn index_cache_default() -> u32 {
    INDEX_CACHE_MIB_DEFAULT
}

fn backups_default() -> u32 {
    BACKUPS_AT_ONCE_DEFAULT
}

fn night_default() -> String {
    NIGHT_DEFAULT.to_owned()
}

/// Settings that were checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The directory that everything but the repository lies in.
    pub state: PathBuf,
    /// The directory that holds the repository.
    pub repository: PathBuf,
    /// The credential that opens the vault.
    pub credential: PathBuf,
    /// Where agents call.
    pub listen: SocketAddr,
    /// How servers reach it, `HOST:PORT`.
    pub address: String,
    /// The local socket.
    pub socket: PathBuf,
    /// When hosts have their turns.
    pub night: Window,
    /// The time zone of the night and of the command line.
    pub time_zone: TimeZone,
    /// Memory for the index's cache, in MiB.
    pub index_cache_mib: u32,
    /// How many backups are received at once.
    pub backups_at_once: u32,
}

impl Config {
    /// Reads the settings in a state directory.
    pub fn load(state: &Path) -> Result<Self, ConfigError> {
        let path = state.join(FILE_NAME);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ConfigError::NotThere { state: state.to_owned() });
            }
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        Self::parse(state, &path, &text)
    }

    fn parse(state: &Path, path: &Path, text: &str) -> Result<Self, ConfigError> {
        let file: ConfigFile = toml::from_str(text).map_err(|error| ConfigError::Content {
            path: path.to_owned(),
            line: line_of(text, error.span().map_or(0, |span| span.start)),
            problem: error.message().lines().collect::<Vec<_>>().join(" "),
        })?;
        file.check(state, path)
    }

    /// The directory of the index.
    pub fn index(&self) -> PathBuf {
        self.state.join("index")
    }

    /// Where the coordinator keeps the repository's trust files, too.
    pub fn trust_files(&self) -> PathBuf {
        self.state.join("trust")
    }

    /// The sealed keys of the coordinator.
    pub fn vault(&self) -> PathBuf {
        self.state.join("vault")
    }

    /// The key of the operator who is root here.
    pub fn operator_key(&self) -> PathBuf {
        self.state.join("operator.key")
    }
}

impl ConfigFile {
    /// The settings, if each value is what its key needs. Relative paths are taken from the state directory.
    pub fn check(self, state: &Path, path: &Path) -> Result<Config, ConfigError> {
        let wrong = |key, value: &str, problem: String| ConfigError::Value {
            path: path.to_owned(),
            key,
            value: value.to_owned(),
            problem,
        };
        if server_name(&self.address).is_none() {
            return Err(wrong("address", &self.address, "is not HOST:PORT".to_owned()));
        }
        let night = self.night.parse().map_err(|error| wrong("night", &self.night, format!("is wrong: {error}")))?;
        let time_zone = match &self.time_zone {
            None => TimeZone::system(),
            Some(name) => TimeZone::get(name).map_err(|_| {
                wrong("time_zone", name, "is not a time zone of this system, such as Europe/Berlin".to_owned())
            })?,
        };
        let within = |key, value: u32, least: u32, most: u32| match (least..=most).contains(&value) {
            true => Ok(value),
            false => Err(wrong(key, &value.to_string(), format!("is not a number from {least} to {most}"))),
        };
        Ok(Config {
            index_cache_mib: within("index_cache_mib", self.index_cache_mib, 8, 65_536)?,
            backups_at_once: within("backups_at_once", self.backups_at_once, 1, 1_000)?,
            repository: state.join(self.repository),
            credential: state.join(self.credential),
            listen: self.listen,
            address: self.address,
            socket: state.join(self.socket.unwrap_or_else(|| "lifeboat.sock".into())),
            night,
            time_zone,
            state: state.to_owned(),
        })
    }

    /// The file's text, with a line about each key.
    pub fn to_text(&self) -> String {
        let line = |key: &str, about: &str, value: Option<String>| {
            let value = value.map_or_else(|| format!("# {key} ="), |value| format!("{key} = {}", quoted(&value)));
            format!("# {about}\n{value}\n\n")
        };
        let number = |key: &str, about: &str, value: u32| format!("# {about}\n{key} = {value}\n\n");
        let shown = |path: &Path| Some(path.to_string_lossy().into_owned());
        [
            "# Settings of this Lifeboat coordinator. After a change: systemctl restart lifeboat\n\n".to_owned(),
            line("repository", "The directory that holds the repository.", shown(&self.repository)),
            line("credential", "Opens the vault. Keep it apart from the repository.", shown(&self.credential)),
            line("listen", "Where agents call: IP address and port.", Some(self.listen.to_string())),
            line("address", "How servers reach this machine: goes into tokens.", Some(self.address.clone())),
            line("socket", "The local socket for root.", self.socket.as_deref().and_then(shown)),
            line("night", "When servers are backed up, each at a minute of its own.", Some(self.night.clone())),
            number(
                "index_cache_mib",
                "Memory for the index's cache, in MiB: more for many millions of chunks.",
                self.index_cache_mib,
            ),
            number(
                "backups_at_once",
                "How many backups are received at once, up to 5 MiB of memory each.",
                self.backups_at_once,
            ),
            line("time_zone", "Such as \"Europe/Berlin\"; without it, the system's.", self.time_zone.clone()),
        ]
        .concat()
    }
}

fn quoted(value: &str) -> String {
    toml::Value::String(value.to_owned()).to_string()
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// The host in `HOST:PORT`, without the brackets of an IPv6 address; nothing if the text is not of this form.
pub fn server_name(address: &str) -> Option<&str> {
    let (host, port) = address.rsplit_once(':')?;
    port.parse::<u16>().ok().filter(|port| *port != 0)?;
    if let Some(bracketed) = host.strip_prefix('[') {
        let host = bracketed.strip_suffix(']')?;
        return host.parse::<std::net::Ipv6Addr>().is_ok().then_some(host);
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    (!host.is_empty() && host.len() <= 253 && host.bytes().all(allowed)).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = "/state";

    fn file() -> ConfigFile {
        ConfigFile {
            repository: "/srv/back\"up".into(),
            credential: "credential".into(),
            listen: "[::]:7420".parse().unwrap(),
            address: "backup.example.org:7420".into(),
            socket: None,
            night: "22:00-02:00".into(),
            time_zone: Some("Europe/Berlin".into()),
            index_cache_mib: 256,
            backups_at_once: 7,
        }
    }

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(Path::new(STATE), Path::new("/state/lifeboat.toml"), text)
    }

    #[test]
    fn what_init_writes_reads_back() {
        let config = parse(&file().to_text()).unwrap();
        assert_eq!(config.repository, Path::new("/srv/back\"up"));
        assert_eq!(config.credential, Path::new("/state/credential"));
        assert_eq!(config.socket, Path::new("/state/lifeboat.sock"));
        assert_eq!(config.night.to_string(), "22:00-02:00");
        assert_eq!(config.time_zone.iana_name(), Some("Europe/Berlin"));
        assert_eq!((config.index_cache_mib, config.backups_at_once), (256, 7));
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_line() {
        let text = format!("{}nihgt = \"01:00-05:00\"\n", file().to_text());
        let line = text.lines().count();
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.starts_with(&format!("/state/lifeboat.toml, line {line}: unknown field `nihgt`")), "{error}");
    }

    #[test]
    fn a_value_that_its_key_does_not_take_is_named() {
        let wrong = |change: fn(&mut ConfigFile)| {
            let mut file = file();
            change(&mut file);
            parse(&file.to_text()).unwrap_err().to_string()
        };
        assert!(wrong(|file| file.night = "late".into()).contains("night = \"late\""));
        assert!(wrong(|file| file.time_zone = Some("Europe/Atlantis".into())).contains("Europe/Atlantis"));
        assert!(wrong(|file| file.backups_at_once = 0).contains("backups_at_once = \"0\" is not a number from 1"));
        assert!(wrong(|file| file.address = "backup".into()).contains("address = \"backup\""));
    }

    #[test]
    fn the_host_of_an_address_is_found() {
        assert_eq!(server_name("backup-1.example:7420"), Some("backup-1.example"));
        assert_eq!(server_name("[::1]:7420"), Some("::1"));
        for wrong in ["backup", "backup:", "backup:0", "backup:70000", "::1:7420", ":7420", "a b:1", "[x]:1"] {
            assert_eq!(server_name(wrong), None, "{wrong}");
        }
    }
}
