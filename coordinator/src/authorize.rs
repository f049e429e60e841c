//! Who may do what: one pure function, which every call passes before anything else happens (INV-48).
//!
//! What is not allowed in the table is denied. Roles of people (viewer, operator, admin, officer) come with their
//! certificates, later; today there are hosts, root at the local socket, and strangers who hold a token at best. What
//! a token or a grant is worth is checked where it is opened: here it is only decided who may show one.

use lifeboat_format::id::HostId;
use lifeboat_format::journal::event::{GrantTarget, HostState};
use std::fmt;

/// Who calls, as far as the connection proves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Principal {
    /// Over TLS, without a certificate.
    Stranger,
    /// Over TLS, with the certificate of this host.
    Host {
        /// Which host.
        host: HostId,
        /// What its certificate and the catalog say of it.
        standing: Standing,
    },
    /// At the local socket.
    LocalRoot,
}

/// How a host stands at the moment of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Takes part.
    Active,
    /// Takes part, but its certificate does not hold now: it ended, or was made while our clock was ahead.
    Expired,
    /// Was retired; its backups are kept.
    Retired,
    /// Was revoked.
    Revoked,
    /// Another server was enrolled in its place: this certificate is the old one's.
    Replaced,
    /// The repository does not know it: it was rolled back, or the certificate is a forgery.
    Unknown,
}

impl Standing {
    /// From what the catalog says (nothing: no such host), whether the certificate was issued since the host was last
    /// enrolled, and whether it is valid now.
    pub fn of(state: Option<HostState>, is_issued: bool, certificate_holds: bool) -> Self {
        match state {
            None => Self::Unknown,
            Some(HostState::Revoked) => Self::Revoked,
            Some(HostState::Retired) => Self::Retired,
            Some(HostState::Active) if !is_issued => Self::Replaced,
            Some(HostState::Active) if certificate_holds => Self::Active,
            Some(HostState::Active) => Self::Expired,
        }
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Read the trust file.
    SeeTrust,
    /// Become a host.
    Enrol,
    /// Get a new certificate.
    Renew,
    /// Follow orders and report.
    Follow,
    /// Begin, ask, upload, commit, abort; have a small snapshot of one's own proven.
    BackUp,
    /// Read sealed bytes by a grant.
    Read,
    /// Make a token.
    CreateToken,
    /// List hosts, snapshots, sizes.
    List,
    /// Order a backup.
    OrderBackup,
    /// Order a restore onto a host, which operators have signed.
    OrderRestore,
    /// End a job.
    CancelJob,
    /// Have a snapshot opened for a target, on an operator's signed order.
    Grant,
    /// Read everything back and check it.
    Verify,
    /// Say that this journal counts although hosts hold heads that it does not extend.
    AcceptHistory,
}

impl Verb {
    /// Whether a repository that cannot be written allows it. What a grant records is then in the log only.
    pub fn only_reads(self) -> bool {
        matches!(self, Self::SeeTrust | Self::Read | Self::List | Self::Grant | Self::Verify)
    }

    /// What the journal calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SeeTrust => "see trust file",
            Self::Enrol => "enrol",
            Self::Renew => "renew",
            Self::Follow => "follow",
            Self::BackUp => "run",
            Self::Read => "read",
            Self::CreateToken => "token create",
            Self::List => "list",
            Self::OrderBackup => "backup",
            Self::OrderRestore => "restore",
            Self::CancelJob => "cancel",
            Self::Grant => "grant",
            Self::Verify => "verify",
            Self::AcceptHistory => "journal accept",
        }
    }
}

/// On what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// The repository as a whole.
    Repository,
    /// One host, its runs and its orders.
    Host(HostId),
    /// A grant made for this target.
    GrantFor(GrantTarget),
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Allow,
    /// Nothing happens.
    Deny(Reason),
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The caller has no certificate.
    NoCertificate,
    /// The certificate does not hold now; it may only be renewed.
    Expired,
    /// The host was retired.
    Retired,
    /// The host was revoked.
    Revoked,
    /// Another server was enrolled in the host's place.
    Replaced,
    /// No such host in this repository.
    UnknownHost,
    /// It belongs to somebody else.
    NotYours,
    /// Only root at the local socket may.
    LocalOnly,
    /// Nobody of this kind may.
    NotForYou,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCertificate => "this needs the certificate of an enrolled host",
            Self::Expired => {
                "this host's certificate does not hold now; it can only be renewed, or the host enrolled anew"
            }
            Self::Retired => "this host was retired",
            Self::Revoked => "this host was revoked",
            Self::Replaced => {
                "another server was enrolled in the place of this host; to back this one up, move its state directory away \
                 and enrol it under another name"
            }
            Self::UnknownHost => {
                "this repository does not know this host: it was rolled back, or is another one; if that is meant, \
                 enrol the server anew"
            }
            Self::NotYours => "this belongs to somebody else",
            Self::LocalOnly => "only root on the coordinator may do this, at its local socket",
            Self::NotForYou => "this is only for enrolled hosts",
        })
    }
}

/// Whether `principal` may do `verb` to `object`.
pub fn authorize(principal: Principal, verb: Verb, object: Object) -> Verdict {
    match principal {
        Principal::Stranger => stranger(verb),
        Principal::Host { host, standing } => match limits(standing, verb) {
            Some(reason) => Verdict::Deny(reason),
            None => member(host, verb, object),
        },
        Principal::LocalRoot => local_root(verb, object),
    }
}

fn stranger(verb: Verb) -> Verdict {
    match verb {
        Verb::SeeTrust | Verb::Enrol => Verdict::Allow,
        Verb::Renew | Verb::Follow | Verb::BackUp | Verb::Read => Verdict::Deny(Reason::NoCertificate),
        _ => Verdict::Deny(Reason::LocalOnly),
    }
}

/// What a host's standing takes from it. A host that is already one does not enrol under that name again.
fn limits(standing: Standing, verb: Verb) -> Option<Reason> {
    match standing {
        Standing::Active => None,
        _ if verb == Verb::SeeTrust => None,
        Standing::Expired => (verb != Verb::Renew).then_some(Reason::Expired),
        Standing::Retired => Some(Reason::Retired),
        Standing::Revoked => Some(Reason::Revoked),
        Standing::Replaced => Some(Reason::Replaced),
        Standing::Unknown => Some(Reason::UnknownHost),
    }
}

fn member(host: HostId, verb: Verb, object: Object) -> Verdict {
    let own = object == Object::Host(host);
    match verb {
        Verb::SeeTrust | Verb::Enrol => Verdict::Allow,
        Verb::Renew | Verb::Follow | Verb::BackUp if own => Verdict::Allow,
        Verb::Read if object == Object::GrantFor(GrantTarget::Host(host)) => Verdict::Allow,
        Verb::Renew | Verb::Follow | Verb::BackUp | Verb::Read => Verdict::Deny(Reason::NotYours),
        _ => Verdict::Deny(Reason::LocalOnly),
    }
}

fn local_root(verb: Verb, object: Object) -> Verdict {
    match (verb, object) {
        (Verb::Read, Object::GrantFor(GrantTarget::LocalClient)) => Verdict::Allow,
        (Verb::Read, _) => Verdict::Deny(Reason::NotYours),
        (Verb::CreateToken | Verb::List | Verb::OrderBackup | Verb::OrderRestore | Verb::CancelJob, _) => {
            Verdict::Allow
        }
        (Verb::Grant | Verb::Verify | Verb::SeeTrust | Verb::AcceptHistory, _) => Verdict::Allow,
        (Verb::Enrol | Verb::Renew | Verb::Follow | Verb::BackUp, _) => Verdict::Deny(Reason::NotForYou),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERBS: [Verb; 14] = [
        Verb::SeeTrust,
        Verb::Enrol,
        Verb::Renew,
        Verb::Follow,
        Verb::BackUp,
        Verb::Read,
        Verb::CreateToken,
        Verb::List,
        Verb::OrderBackup,
        Verb::OrderRestore,
        Verb::CancelJob,
        Verb::Grant,
        Verb::Verify,
        Verb::AcceptHistory,
    ];

    const ME: HostId = HostId::new(1);
    const OTHER: HostId = HostId::new(2);

    const OBJECTS: [Object; 6] = [
        Object::Repository,
        Object::Host(ME),
        Object::Host(OTHER),
        Object::GrantFor(GrantTarget::Host(ME)),
        Object::GrantFor(GrantTarget::Host(OTHER)),
        Object::GrantFor(GrantTarget::LocalClient),
    ];

    /// A line a principal, a column a verb in the order of `VERBS`, a letter an object in the order of `OBJECTS`:
    /// `+` is allowed.
    const TABLE: [(Principal, &str); 8] = [
        (
            Principal::Stranger,
            "++++++ ++++++ ...... ...... ...... ...... ...... ...... ...... ...... ...... ...... ...... ......",
        ),
        (
            host(Standing::Active),
            "++++++ ++++++ .+.... .+.... .+.... ...+.. ...... ...... ...... ...... ...... ...... ...... ......",
        ),
        (
            host(Standing::Expired),
            "++++++ ...... .+.... ...... ...... ...... ...... ...... ...... ...... ...... ...... ...... ......",
        ),
        (
            host(Standing::Retired),
            "++++++ ...... ...... ...... ...... ...... ...... ...... ...... ...... ...... ...... ...... ......",
        ),
        (
            host(Standing::Revoked),
            "++++++ ...... ...... ...... ...... ...... ...... ...... ...... ...... ...... ...... ...... ......",
        ),
        (
            host(Standing::Replaced),
            "++++++ ...... ...... ...... ...... ...... ...... ...... ...... ...... ...... ...... ...... ......",
        ),
        (
            host(Standing::Unknown),
            "++++++ ...... ...... ...... ...... ...... ...... ...... ...... ...... ...... ...... ...... ......",
        ),
        (
            Principal::LocalRoot,
            "++++++ ...... ...... ...... ...... .....+ ++++++ ++++++ ++++++ ++++++ ++++++ ++++++ ++++++ ++++++",
        ),
    ];

    const fn host(standing: Standing) -> Principal {
        Principal::Host { host: ME, standing }
    }

    #[test]
    fn inv_48_each_cell_is_as_the_table_says() {
        for (principal, line) in TABLE {
            let columns: Vec<_> = line.split(' ').collect();
            assert_eq!(columns.len(), VERBS.len());
            for (verb, column) in VERBS.into_iter().zip(columns) {
                assert_eq!(column.len(), OBJECTS.len());
                for (object, letter) in OBJECTS.into_iter().zip(column.chars()) {
                    let allowed = authorize(principal, verb, object) == Verdict::Allow;
                    assert_eq!(allowed, letter == '+', "{principal:?} {verb:?} {object:?}");
                }
            }
        }
    }

    #[test]
    fn inv_51_an_expired_certificate_can_only_renew() {
        for verb in VERBS.into_iter().filter(|verb| !matches!(verb, Verb::Renew | Verb::SeeTrust)) {
            let verdict = authorize(host(Standing::Expired), verb, Object::Host(ME));
            assert_eq!(verdict, Verdict::Deny(Reason::Expired), "{verb:?}");
        }
    }

    #[test]
    fn a_revoked_host_stays_revoked_whatever_its_certificate_says() {
        for holds in [true, false] {
            assert_eq!(Standing::of(Some(HostState::Revoked), true, holds), Standing::Revoked);
            assert_eq!(Standing::of(None, true, holds), Standing::Unknown);
            assert_eq!(Standing::of(Some(HostState::Active), false, holds), Standing::Replaced);
        }
        assert_eq!(Standing::of(Some(HostState::Active), true, false), Standing::Expired);
    }
}
