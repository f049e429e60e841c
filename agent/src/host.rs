//! All that an enrolled agent works with, read from its two directories.

use crate::connection::{Address, ConnectError, Dialer, Trusted};
use crate::error::AgentError;
use crate::identity::{Identity, TlsIdentity};
use crate::policy::{self, Policy};
use crate::state::{DEFAULT_STATE, HeadKeeper, StateDir};
use lifeboat_format::FormatError;
use lifeboat_format::trust::{TRUST_FILE_BYTES_MAX, TrustFile};
use lifeboat_proto::status::ErrorClass;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the configuration lies unless somebody says otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/lifeboat";

/// The two directories of an agent.
#[derive(Debug, Clone)]
pub struct Places {
    /// What it remembers.
    pub state: PathBuf,
    /// What it may do, and whom it trusts.
    pub config: PathBuf,
}

/// What a variable of the environment names, else the default.
fn set_by(variable: &str, default: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| default.into(), PathBuf::from)
}

impl Places {
    /// Those of the agent on this machine, as its commands find them without options.
    pub fn usual() -> Self {
        let state = set_by("LIFEBOAT_AGENT_STATE", DEFAULT_STATE);
        Self { state, config: set_by("LIFEBOAT_AGENT_CONFIG", DEFAULT_CONFIG) }
    }

    /// The host's law.
    pub fn policy(&self) -> PathBuf {
        self.config.join("policy.toml")
    }

    /// The trust file: where the policy says, else beside it.
    pub fn trust(&self, policy: &Policy) -> PathBuf {
        policy.trust.file.clone().unwrap_or_else(|| self.default_trust())
    }

    fn default_trust(&self) -> PathBuf {
        self.config.join("trust")
    }
}

/// An enrolled host, ready to call its coordinator.
#[derive(Debug, Clone)]
pub struct Host {
    /// One a start of the agent: tells it from another machine with the same identity.
    pub instance: [u8; 16],
    /// Where everything lies.
    pub places: Places,
    /// The state directory, checked.
    pub state: StateDir,
    /// Who it is.
    pub identity: Identity,
    /// Its TLS key and certificate.
    pub tls: TlsIdentity,
    /// Whom it trusts.
    pub trust: Arc<TrustFile>,
    /// Where that was read from.
    trust_path: PathBuf,
    /// The newest journal head that it saw.
    pub heads: Arc<HeadKeeper>,
}

impl Host {
    /// Reads everything but the policy, which is read again for each backup.
    pub fn open(places: &Places) -> Result<Self, AgentError> {
        let policy = policy::load(&places.policy())?;
        Self::open_with(places, places.trust(&policy))
    }

    /// The same for the service, which reports an invalid policy to the coordinator instead of not starting. Whom it trusts
    /// is then read beside the policy, and again once the policy is valid ([`Self::follow_policy`]): before that no order is
    /// obeyed.
    pub fn open_for_service(places: &Places) -> Result<Self, AgentError> {
        match policy::load(&places.policy()) {
            Ok(policy) => Self::open_with(places, places.trust(&policy)),
            Err(error) => Self::open_with(places, places.default_trust()).map_err(|_| error.into()),
        }
    }

    /// The policy as it stands now, with the trust file that it names.
    pub fn follow_policy(&mut self) -> Result<Policy, AgentError> {
        let policy = self.policy()?;
        let path = self.places.trust(&policy);
        if path != self.trust_path {
            self.trust = Arc::new(trust_of(&path, &self.identity)?);
            self.trust_path = path;
        }
        Ok(policy)
    }

    fn open_with(places: &Places, trust_path: PathBuf) -> Result<Self, AgentError> {
        let state = StateDir::open(&places.state)?;
        let identity = Identity::load(&state)?;
        let trust = trust_of(&trust_path, &identity)?;
        let mut instance = [0; 16];
        getrandom::fill(&mut instance).map_err(|error| {
            AgentError::new(ErrorClass::Internal, format!("the system gives no randomness: {error}"))
        })?;
        Ok(Self {
            instance,
            places: places.clone(),
            tls: TlsIdentity::load(&state)?,
            heads: Arc::new(HeadKeeper::open(&state, trust.trust().log_key())?),
            trust: Arc::new(trust),
            trust_path,
            identity,
            state,
        })
    }

    /// The policy as it stands now.
    pub fn policy(&self) -> Result<Policy, AgentError> {
        Ok(policy::load(&self.places.policy())?)
    }

    /// Calls the coordinator: at the address of the enrolment.
    pub fn dialer(&self) -> Result<Dialer, ConnectError> {
        let address: Address = self.identity.address.parse()?;
        let authorities = self.trust.trust().ca_certificates.clone();
        Dialer::verified(address, &Trusted { authorities, identity: Some(self.tls.clone()) })
    }
}

/// Reads the trust file of this host's repository.
fn trust_of(path: &Path, identity: &Identity) -> Result<TrustFile, AgentError> {
    let trust = read_trust(path)?;
    match trust.trust().repository == identity.repository {
        true => Ok(trust),
        false => {
            let message = format!("the trust file {path:?} is of another repository than this host");
            Err(AgentError::new(ErrorClass::Refused, message))
        }
    }
}

/// Reads a trust file that was pinned before.
pub fn read_trust(path: &Path) -> Result<TrustFile, AgentError> {
    let unreadable = |source: io::Error| {
        AgentError::because(ErrorClass::NotFound, format!("cannot read the trust file {path:?}"), source)
            .hint("enrolment writes it; enrol this host again if it is lost")
    };
    let mut bytes = Vec::new();
    let limit = TRUST_FILE_BYTES_MAX as u64 + 1;
    File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(unreadable)?;
    let damaged = |source: FormatError| {
        AgentError::because(ErrorClass::Damaged, format!("the trust file {path:?} is damaged"), source)
            .hint("enrol this host again")
    };
    TrustFile::parse(&bytes).map_err(damaged)
}
