//! Where the vault is used: a snapshot is opened for one target, and group secrets are sealed under a new token.
//!
//! Managed custody only: the restore key lies in the vault. Each opening is a record of the journal before anything
//! leaves; while a rolled-back journal is in doubt, none is made (INV-53).

use super::Context;
use super::failure;
use crate::address;
use crate::store::{ObjectKind, ObjectName};
use lifeboat_format::FormatError;
use lifeboat_format::envelope::Envelope;
use lifeboat_format::grant::{Coverage, Grant, GrantClear, GrantKeys, SignedOrder};
use lifeboat_format::id::{HostId, Scope, SnapshotId};
use lifeboat_format::journal::event::{GrantTarget, GrantedSnapshot};
use lifeboat_format::journal::{Event, Principal};
use lifeboat_format::key::{GroupSecret, OpenKeys, ScopeKeys};
use lifeboat_format::manifest::SealedPart;
use lifeboat_format::secret::{KeyKind, KeyObject};
use lifeboat_format::token::{Token, TokenRecord, TokenTerms};
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;
use std::sync::PoisonError;

/// Operators that must sign an order.
pub const SIGNATURES_NEEDED: usize = 1;

fn damaged(error: FormatError) -> Failure {
    Failure::of(ErrorClass::Damaged, &error)
}

/// A scope, whether its secret is the group's first one, and the secret.
type Secret = (Scope, bool, GroupSecret);

/// No usable key object holds the secret of this scope; `unusable` names those that could not be used.
fn no_secret(scope: Scope, unusable: &[String]) -> Failure {
    let problem = match unusable.is_empty() {
        true => format!("the secret of scope {scope} is not in the repository"),
        false => format!("no usable key object holds the secret of scope {scope}; {}", unusable.join("; ")),
    };
    let hint = "bring back what lay in its directory keys, from a copy of the repository; then try again";
    Failure::new(ErrorClass::Damaged, problem).hint(hint)
}

impl Context {
    /// Opens the snapshot that an order names, for its target.
    pub(super) fn grant(&self, order: &[u8]) -> Result<v1::GrantReply, Failure> {
        let order = SignedOrder::parse(order).map_err(|error| Failure::of(ErrorClass::Usage, &error))?;
        let verified = order.verify(self.trust.trust(), SIGNATURES_NEEDED, self.clock.now_ns());
        verified.map_err(|error| Failure::of(ErrorClass::Refused, &error))?;
        // Root on this machine holds the vault anyway, and must be able to restore on the worst day.
        if order.order().target != GrantTarget::LocalClient {
            self.refuse_while_in_doubt()?;
        }
        let id = order.order().snapshot;
        let found = self.catalog(|catalog| {
            catalog.snapshot_by_id(&id).filter(|(_, row)| row.is_kept()).map(|(number, row)| (number, row.clone()))
        });
        let unknown = || Failure::new(ErrorClass::NotFound, format!("there is no snapshot {id}"));
        let (number, snapshot) = found.ok_or_else(unknown)?;
        let part = self.open_manifest(&id)?;
        let coverage = Coverage::of(&part, self.snapshot_info(number, &snapshot).gap_count);
        let keys = GrantKeys { root_content: part.root_content(), scopes: self.open_keys(part.scopes())?, coverage };
        let _facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let clear =
            GrantClear { number: self.catalog(|catalog| catalog.next_grant()), snapshot: number, root: snapshot.root };
        let grant = Grant::make(&clear, &order, &keys, &self.vault.log_key).map_err(damaged)?;
        let event = Event::GrantsMade {
            first: clear.number,
            snapshots: vec![GrantedSnapshot { snapshot: number, order: order.digest() }],
            target: order.order().target,
            expires_ns: order.order().expires_ns,
        };
        let by = order.signers().first().map_or(Principal::LocalRoot, |signer| Principal::Operator(*signer));
        self.record(by, "grant", &format!("snapshot {id}: {}", order.order().purpose), event)?;
        Ok(v1::GrantReply {
            grant: grant.to_bytes().into(),
            snapshot: Some(self.snapshot_info(number, &snapshot)),
            gaps: part.gaps().iter().take(1000).map(shown_gap).collect(),
            history_diverged: self.catalog(|catalog| catalog.diverged().next().is_some()),
        })
    }

    /// Nothing is opened for a host while one holds a journal head that is not an ancestor of ours (INV-53).
    pub(super) fn refuse_while_in_doubt(&self) -> Result<(), Failure> {
        let first = self.catalog(|catalog| {
            let (host, number, _) = catalog.diverged().next()?;
            Some((catalog.host(host).map(|row| row.enrolled.name.clone()).unwrap_or_default(), number))
        });
        let Some((host, number)) = first else { return Ok(()) };
        let problem = format!(
            "host {host} holds journal head {number}, which is not an ancestor of this repository's journal: the \
             repository was restored from an older copy, or changed by another coordinator"
        );
        Err(Failure::new(ErrorClass::Refused, problem)
            .hint("`lifeboat journal accept` shows what is known and continues with this repository"))
    }

    pub(super) fn open_manifest(&self, id: &SnapshotId) -> Result<SealedPart, Failure> {
        let envelope = Envelope::parse(&self.object(&ObjectName::envelope(*id))?).map_err(damaged)?;
        if envelope.snapshot() != *id {
            return Err(Failure::new(ErrorClass::Damaged, format!("the envelope of snapshot {id} is that of another")));
        }
        let key = envelope.open(&self.vault.restore).map_err(damaged)?;
        self.manifest(id)?.open(&key).map_err(damaged)
    }

    /// What opens data of these scopes, which rise.
    pub(super) fn open_keys(&self, scopes: &[Scope]) -> Result<Vec<(Scope, OpenKeys)>, Failure> {
        let (secrets, unusable) = self.group_secrets(|scope, _| scopes.contains(&scope))?;
        let find = |scope: &Scope| {
            let secret = secrets.iter().find(|(found, ..)| found == scope).map(|(_, _, secret)| secret);
            let secret = secret.ok_or_else(|| no_secret(*scope, &unusable))?;
            Ok((*scope, ScopeKeys::derive(secret, secret).open_keys().clone()))
        };
        scopes.iter().map(find).collect()
    }

    /// The secrets of the scopes that `wanted` takes (scope, group), opened with the restore key and compared with the
    /// trust file. The scopes rise. Objects that cannot be used are passed over, and named with the reason: another one may
    /// hold the same secret, and a stray file must not end all restores.
    fn group_secrets(&self, wanted: impl Fn(Scope, &str) -> bool) -> Result<(Vec<Secret>, Vec<String>), Failure> {
        let names = self.coordinator.shared.store.list(ObjectKind::Key).map_err(|error| failure::of_store(&error))?;
        let (mut secrets, mut unusable) = (Vec::new(), Vec::new());
        for name in names {
            match self.group_secret(&name, &wanted) {
                Ok(secret) => secrets.extend(secret),
                Err(failure) => {
                    tracing::warn!(object = %name, problem = %failure, "a key object cannot be used");
                    unusable.push(format!("{name}: {failure}"));
                }
            }
        }
        secrets.sort_by_key(|(scope, ..)| *scope);
        secrets.dedup_by_key(|(scope, ..)| *scope);
        Ok((secrets, unusable))
    }

    /// The secret in one key object; none if it holds another one than is wanted.
    fn group_secret(&self, name: &ObjectName, wanted: impl Fn(Scope, &str) -> bool) -> Result<Option<Secret>, Failure> {
        let object = KeyObject::parse(&self.object(name)?).map_err(damaged)?;
        let KeyKind::GroupSecret { scope, group, first } = object.kind() else { return Ok(None) };
        if !wanted(*scope, group) {
            return Ok(None);
        }
        let secret = object.open_group_secret(&self.vault.restore).map_err(damaged)?;
        match self.trust.names_secret(*scope, &secret) {
            true => Ok(Some((*scope, *first, secret))),
            false => Err(Failure::new(
                ErrorClass::Damaged,
                format!("it does not hold the secret that the trust file names for scope {scope}"),
            )),
        }
    }

    /// Makes a token; its line leaves here and is kept nowhere.
    pub(super) fn create_token(&self, terms: TokenTerms, replaces: Option<HostId>) -> Result<String, Failure> {
        let (secrets, unusable) = self.group_secrets(|_, group| group == terms.group)?;
        let needed = self.trust.trust().scopes.iter().filter(|scope| scope.group == terms.group);
        for scope in needed.map(|trusted| trusted.scope) {
            if !secrets.iter().any(|(found, ..)| *found == scope) {
                return Err(no_secret(scope, &unusable));
            }
        }
        let _facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.catalog(|catalog| catalog.next_token());
        let token = Token::generate(&self.config.address, self.trust.digest(), number).map_err(damaged)?;
        let custodians = &self.trust.trust().restore_recipients;
        let record = TokenRecord::make(&token, terms, &secrets, custodians).map_err(damaged)?;
        let replaces = replaces.map(|host| Event::TokenReplaces { token: number, host });
        let object = match &replaces {
            Some(_) => format!("token {number}, to replace {}", record.terms.name_pattern),
            None => format!("token {number}"),
        };
        let events = [Event::TokenCreated(record)].into_iter().chain(replaces);
        let acts = events.map(|event| self.act(Principal::LocalRoot, "token create", &object, event)).collect();
        self.coordinator.record(acts).map_err(|error| failure::of_fact(&error))?;
        Ok(token.expose_text().to_string())
    }
}

fn shown_gap(gap: &lifeboat_format::manifest::Gap) -> String {
    format!("/{}: {}", address::shown(&gap.path), gap.reason)
}
