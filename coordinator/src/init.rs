//! How a repository comes to be: its keys, its trust file, the first batch of its journal, and the recovery kit.
//!
//! The order makes an interruption harmless. First what lies on this machine alone (credential, vault, operator key);
//! then the kit, so that no repository ever exists without its last way in; then the repository; last the settings,
//! which make it a coordinator. Whatever is left of an interrupted `init` is named by the next one, which changes
//! nothing. Of the recovery identity and the root's key nothing is kept.

use crate::clock::Clock;
use crate::config::{self, Config, ConfigError, ConfigFile};
use crate::journal::JournalError;
use crate::pki::{self, PkiError};
use crate::repository;
use crate::store::local::LocalStore;
use crate::store::twice::{NotPut, put_twice};
use crate::store::{ObjectKind, ObjectName, Store, StoreError};
use crate::vault::{self, Vault, VaultError};
use jiff::Timestamp;
use lifeboat_format::envelope::Identity;
use lifeboat_format::id::{RepositoryId, Scope};
use lifeboat_format::journal::event::Custody;
use lifeboat_format::journal::{Act, Decision, Event, Principal};
use lifeboat_format::key::GroupSecret;
use lifeboat_format::kit::{RecoveryKit, recovery_operator};
use lifeboat_format::secret::{AuthorityKeys, KeyObject};
use lifeboat_format::sign::SigningKey;
use lifeboat_format::trust::{Trust, TrustFile, TrustedScope, secret_hash};
use lifeboat_format::{ENCODER_VERSION, FORMAT_VERSION, FormatError};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The group that every host is in, until there are more, and its first scope.
pub const GROUP: &str = "default";
const FIRST_SCOPE: Scope = Scope::new(1);

/// A repository could not be made. Unless it says otherwise, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is a coordinator here.
    #[error("there is a coordinator in {state} already; nothing was changed. `lifeboat serve` runs it")]
    Exists {
        /// Its state directory.
        state: PathBuf,
    },
    /// There is a repository already.
    #[error("{repository} holds a Lifeboat repository already; nothing was changed")]
    Repository {
        /// Where it is.
        repository: PathBuf,
    },
    /// There is something where the repository should be.
    #[error(
        "{repository} is not empty, so no repository was made in it and nothing was changed; name a new or empty \
         directory with --repository"
    )]
    NotEmpty {
        /// Where the repository was to be.
        repository: PathBuf,
    },
    /// An earlier `init` did not come to its end.
    #[error(
        "an earlier `lifeboat init` in {state} was interrupted, and nothing can have been backed up with it; nothing \
         was changed. Remove what it left, then try again: rm -r {}", shown(.left)
    )]
    Interrupted {
        /// The state directory.
        state: PathBuf,
        /// What lies there.
        left: Vec<PathBuf>,
    },
    /// The settings of a coordinator are gone, but not its keys.
    #[error("{state} holds the keys of a coordinator, but not its lifeboat.toml; nothing was changed")]
    NoSettings {
        /// The state directory.
        state: PathBuf,
    },
    /// The settings that were given cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A key could not be kept.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A certificate could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A structure could not be made.
    #[error("cannot make the repository's keys")]
    Format(#[from] FormatError),
    /// The repository could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object of the new repository could not be written, or another one was there already.
    #[error("the repository was not made; is another `lifeboat init` running in the same place?")]
    Put(#[from] NotPut),
    /// The first batch could not be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The state directory cannot be made.
    #[error("cannot make {state}")]
    Directory {
        /// The directory.
        state: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kit could not be handed over; without it there must be no repository.
    #[error("the recovery kit could not be handed over, so no repository was made")]
    Kit(#[source] io::Error),
}

fn shown(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
}

/// Makes a repository and the coordinator's own files. `hand_over` gets the recovery kit, once.
pub fn init(
    state: &Path,
    file: &ConfigFile,
    clock: &dyn Clock,
    hand_over: impl FnOnce(&RecoveryKit) -> io::Result<()>,
) -> Result<Config, InitError> {
    let config = file.clone().check(state, &state.join(config::FILE_NAME))?;
    look_before(&config)?;
    let keys = Keys::draw(clock)?;
    let trust_file = keys.trust_file(&config.address)?;
    let failed = |source| InitError::Directory { state: state.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(failed)?;
    let credential = vault::credential_or_new(&config.credential)?;
    keys.vault().create(&config.vault(), &credential)?;
    vault::write_operator(&config.operator_key(), &keys.operator)?;
    let kit = RecoveryKit {
        repository: keys.repository,
        location: config.repository.display().to_string(),
        trust_file: trust_file.digest(),
        identity: keys.recovery.clone(),
    };
    hand_over(&kit).map_err(InitError::Kit)?;
    keys.make_repository(&config.repository, &trust_file, clock.now_ns())?;
    vault::write_private(&state.join(config::FILE_NAME), file.to_text().as_bytes())?;
    Ok(config)
}

/// Refuses whatever would make this stop half-way.
fn look_before(config: &Config) -> Result<(), InitError> {
    let (state, repository) = (config.state.clone(), config.repository.clone());
    if state.join(config::FILE_NAME).exists() {
        return Err(InitError::Exists { state });
    }
    vault::refuse_inside(&config.credential, &repository)?;
    vault::refuse_inside(&state, &repository)?;
    let count = |directory: &Path| std::fs::read_dir(directory).map_or(0, Iterator::count);
    let objects = |kind: ObjectKind| count(&repository.join(kind.directory()));
    // What an interrupted `init` leaves is advised to be removed: never a repository or keys that were in use.
    if objects(ObjectKind::Journal) > 1 || objects(ObjectKind::Manifest) > 0 {
        return Err(InitError::Repository { repository });
    }
    let holds_something = count(&repository) > 0;
    let mut left: Vec<_> = [config.vault(), config.operator_key()].into_iter().filter(|path| path.exists()).collect();
    if !left.is_empty() && config.index().exists() {
        return Err(InitError::NoSettings { state });
    }
    if !left.is_empty() {
        left.extend(holds_something.then_some(repository));
        return Err(InitError::Interrupted { state, left });
    }
    match (holds_something, repository.join(ObjectKind::Journal.directory()).is_dir()) {
        (false, _) => Ok(()),
        (true, true) => Err(InitError::Repository { repository }),
        (true, false) => Err(InitError::NotEmpty { repository }),
    }
}

/// Everything that is drawn.
struct Keys {
    repository: RepositoryId,
    recovery: Identity,
    restore: Identity,
    operator: SigningKey,
    log_key: SigningKey,
    secret: GroupSecret,
    root: pki::KeyedCertificate,
    issuing: pki::KeyedCertificate,
}

impl Keys {
    fn draw(clock: &dyn Clock) -> Result<Self, InitError> {
        let now = Timestamp::from_nanosecond(i128::from(clock.now_ns())).unwrap_or(Timestamp::UNIX_EPOCH);
        // The first half of a seed is as good as 16 bytes drawn for it.
        let mut id = [0; RepositoryId::BYTES];
        id.copy_from_slice(&SigningKey::generate()?.expose_seed()[..RepositoryId::BYTES]);
        let repository = RepositoryId::from_bytes(id);
        let root = pki::make_root(&repository, now)?;
        let issuing = pki::make_issuing(&root, &repository, now)?;
        Ok(Self {
            repository,
            recovery: Identity::generate(),
            restore: Identity::generate(),
            operator: SigningKey::generate()?,
            log_key: SigningKey::generate()?,
            secret: GroupSecret::from_bytes(*SigningKey::generate()?.expose_seed()),
            root,
            issuing,
        })
    }

    fn trust_file(&self, address: &str) -> Result<TrustFile, FormatError> {
        let trust = Trust {
            repository: self.repository,
            number: 1,
            previous: None,
            ca_certificates: vec![self.root.certificate.to_vec()],
            restore_recipients: vec![self.restore.recipient()],
            recovery_recipients: vec![self.recovery.recipient()],
            operators: vec![self.operator.verifying_key()],
            quorum: 1,
            recovery_operator: recovery_operator(&self.recovery)?.verifying_key(),
            log_keys: vec![self.log_key.verifying_key()],
            scopes: vec![TrustedScope {
                scope: FIRST_SCOPE,
                group: GROUP.to_owned(),
                first: true,
                secret_hash: secret_hash(&self.secret),
            }],
            addresses: vec![address.to_owned()],
            writes_format: FORMAT_VERSION,
            writes_encoder: ENCODER_VERSION,
            extension: Vec::new(),
        };
        TrustFile::sign(&trust, &[&self.operator])
    }

    fn vault(&self) -> Vault {
        Vault {
            repository: self.repository,
            restore: self.restore.clone(),
            issuing: self.issuing.clone(),
            log_key: self.log_key.clone(),
        }
    }

    /// Group secret and authority, sealed into the repository itself; the root's key only there.
    fn key_objects(&self) -> Result<[(&'static str, KeyObject); 2], FormatError> {
        let (restore, recovery) = (self.restore.recipient(), self.recovery.recipient());
        let authority = AuthorityKeys {
            ca_key: self.root.key.clone(),
            issuing_key: self.issuing.key.clone(),
            issuing_certificate: self.issuing.certificate.to_vec(),
            log_key: self.log_key.clone(),
        };
        let scope = (FIRST_SCOPE, GROUP, true);
        let secret = KeyObject::seal_group_secret(self.repository, scope, &self.secret, &[restore, recovery.clone()])?;
        let authority = KeyObject::seal_authority(self.repository, 1, &authority, &[recovery])?;
        Ok([("scope-1", secret), ("authority-1", authority)])
    }

    fn make_repository(&self, path: &Path, trust_file: &TrustFile, time_ns: i64) -> Result<(), InitError> {
        let objects = self.key_objects()?;
        let store: Arc<dyn Store> = Arc::new(LocalStore::create(path)?);
        put_twice(store.as_ref(), &[(ObjectName::trust(1), trust_file.to_bytes().into())])?;
        for (name, object) in objects {
            let name = ObjectName::new(ObjectKind::Key, name)
                .ok_or_else(|| FormatError::field("key object", "name", name, "letters, digits and '-'"))?;
            put_twice(store.as_ref(), &[(name, object.to_bytes().into())])?;
        }
        let events = [
            Event::RepositoryCreated { custody: Custody::Managed, trust_file: trust_file.digest() },
            Event::ScopeMade { scope: FIRST_SCOPE, group: GROUP.to_owned(), first: true },
        ];
        let acts = events.map(|event| Act {
            time_ns,
            principal: Principal::LocalRoot,
            verb: "init".into(),
            object: "repository".into(),
            decision: Decision::Done,
            event,
        });
        Ok(repository::create(store, self.repository, self.log_key.clone(), acts.to_vec())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use std::cell::RefCell;

    fn file() -> ConfigFile {
        ConfigFile {
            repository: "repository".into(),
            credential: "credential".into(),
            listen: "127.0.0.1:0".parse().unwrap(),
            address: "localhost:7420".into(),
            socket: None,
            night: "01:00-05:00".into(),
            time_zone: Some("UTC".into()),
            index_cache_mib: config::INDEX_CACHE_MIB_DEFAULT,
            backups_at_once: config::BACKUPS_AT_ONCE_DEFAULT,
        }
    }

    fn make(state: &Path, file: &ConfigFile) -> Result<(Config, RecoveryKit), InitError> {
        let kit = RefCell::new(None);
        let config = init(state, file, &SystemClock::new(), |made| {
            *kit.borrow_mut() = Some(made.clone());
            Ok(())
        })?;
        Ok((config, kit.into_inner().unwrap()))
    }

    fn files(state: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = walkdir::WalkDir::new(state).sort_by_file_name().into_iter().map(Result::unwrap);
        let files = entries.filter(|entry| entry.file_type().is_file());
        files.map(|entry| (entry.path().to_owned(), std::fs::read(entry.path()).unwrap())).collect()
    }

    #[test]
    fn what_init_makes_opens_with_the_credential_and_with_the_kit() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let (config, kit) = make(&state, &file()).unwrap();
        let credential = vault::read_identity(&config.credential).unwrap();
        let vault = Vault::open(&config.vault(), &credential).unwrap();
        assert_eq!(vault.repository, kit.repository);
        let keys = config.repository.join("keys");
        let read = |name: &str| KeyObject::parse(&std::fs::read(keys.join(name)).unwrap()).unwrap();
        let secret = read("scope-1").open_group_secret(&vault.restore).unwrap();
        assert_eq!(read("scope-1").open_group_secret(&kit.identity), Ok(secret));
        assert!(read("authority-1").open_authority(&vault.restore).is_err());
        let authority = read("authority-1").open_authority(&kit.identity).unwrap();
        assert_eq!(authority.log_key.verifying_key(), vault.log_key.verifying_key());
    }

    #[test]
    fn nothing_of_the_recovery_identity_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let (_, kit) = make(&directory.path().join("state"), &file()).unwrap();
        let (text, bytes) = (kit.identity.expose_text(), kit.identity.expose_bytes().unwrap());
        for (path, content) in files(directory.path()) {
            let holds = |secret: &[u8]| content.windows(secret.len()).any(|window| window == secret);
            assert!(!holds(text.as_bytes()) && !holds(&*bytes), "{path:?}");
        }
    }

    #[test]
    fn init_on_a_repository_that_exists_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        make(&state, &file()).unwrap();
        let before = files(directory.path());
        assert!(matches!(make(&state, &file()), Err(InitError::Exists { .. })));
        let elsewhere = ConfigFile { repository: state.join("repository"), ..file() };
        let other = make(&directory.path().join("other"), &elsewhere);
        assert!(matches!(other, Err(InitError::Repository { .. })), "{other:?}");
        let elsewhere = ConfigFile { repository: state.join("repository/keys"), ..file() };
        let other = make(&directory.path().join("other"), &elsewhere);
        assert!(matches!(other, Err(InitError::NotEmpty { .. })), "{other:?}");
        assert_eq!(files(directory.path()), before);
    }

    #[test]
    fn an_interrupted_init_is_explained_by_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let refused = init(&state, &file(), &SystemClock::new(), |_| Err(io::Error::other("paper jam")));
        assert!(matches!(refused, Err(InitError::Kit(_))));
        assert!(!state.join("repository").exists(), "no repository without its kit");
        let Err(InitError::Interrupted { left, .. }) = make(&state, &file()) else { panic!("not explained") };
        left.iter().for_each(|path| std::fs::remove_file(path).unwrap());
        make(&state, &file()).unwrap();
    }

    #[test]
    fn what_was_in_use_is_never_taken_for_what_an_interrupted_init_left() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        make(&state, &file()).unwrap();
        std::fs::remove_file(state.join(config::FILE_NAME)).unwrap();
        let Err(InitError::Interrupted { left, .. }) = make(&state, &file()) else {
            panic!("one batch is what init makes")
        };
        assert!(left.contains(&state.join("repository")));
        let journal = state.join("repository/journal");
        let first = std::fs::read_dir(&journal).unwrap().next().unwrap().unwrap().path();
        std::fs::copy(&first, journal.join("00000000000000000002")).unwrap();
        assert!(matches!(make(&state, &file()), Err(InitError::Repository { .. })));
        std::fs::remove_dir_all(state.join("repository")).unwrap();
        std::fs::create_dir(state.join("index")).unwrap();
        assert!(matches!(make(&state, &file()), Err(InitError::NoSettings { .. })));
        assert!(state.join("vault").exists());
    }

    #[test]
    fn a_credential_inside_the_repository_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let inside = ConfigFile { credential: "repository/credential".into(), ..file() };
        let refused = make(&directory.path().join("state"), &inside);
        assert!(matches!(refused, Err(InitError::Vault(VaultError::Inside { .. }))), "{refused:?}");
        assert!(files(directory.path()).is_empty());
    }
}
