//! Where the vault is used: a snapshot is opened for one target, and group secrets are sealed under a new token.
//!
//! Managed custody only: the restore key lies in the vault. Each opening is a record of the journal before anything
//! leaves; while a rolled-back journal is in doubt, none is made (INV-53).

use super::Context;
use super::failure;
use crate::address;
use crate::catalog::Snapshot;
use crate::objects;
use crate::store::ObjectName;
use bytes::Bytes;
use lifeboat_format::FormatError;
use lifeboat_format::grant::{Coverage, Grant, GrantClear, GrantKeys, SignedOrder};
use lifeboat_format::id::{HostId, Scope, SnapshotNumber};
use lifeboat_format::journal::event::{GrantTarget, GrantedSnapshot};
use lifeboat_format::journal::{Act, Event, Principal};
use lifeboat_format::key::{GroupSecret, OpenKeys, ScopeKeys};
use lifeboat_format::manifest::{Manifest, SealedPart};
use lifeboat_format::secret::KeyKind;
use lifeboat_format::token::{Token, TokenRecord, TokenTerms};
use lifeboat_proto::limits::GAPS_NAMED_MAX;
use lifeboat_proto::status::{ErrorClass, Failure};
use lifeboat_proto::v1;
use std::collections::HashMap;
use std::sync::PoisonError;

/// Operators that must sign an order.
pub const SIGNATURES_NEEDED: usize = 1;

/// Bytes of manifests whose snapshots are opened for one batch of the journal: so much is in memory at once.
const OPENED_BYTES_MAX: usize = 32 << 20;

fn damaged(error: FormatError) -> Failure {
    Failure::of(ErrorClass::Damaged, &error)
}

/// What opens the scopes of the snapshots of one call, by these scopes.
type OpenedScopes = HashMap<Vec<Scope>, Vec<(Scope, OpenKeys)>>;

/// A snapshot that the vault opened, and for which a grant is to be made.
struct Opening {
    order: SignedOrder,
    number: SnapshotNumber,
    snapshot: Snapshot,
    keys: GrantKeys,
    gaps: Vec<String>,
    manifest_bytes: usize,
}

impl Opening {
    /// Whether one record can name both.
    fn is_recorded_with(&self, other: &Self) -> bool {
        let said = |opening: &Self| {
            let order = opening.order.order();
            (order.target, order.expires_ns, order.purpose.clone(), opening.order.signers())
        };
        said(self) == said(other)
    }
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
    /// Opens the snapshots that orders name, each for its target, and gives `reply` the answers in their order, until it
    /// returns `false`. Up to [`OPENED_BYTES_MAX`], all are one batch of the journal.
    pub(super) fn grant_all(
        &self,
        orders: &[Bytes],
        mut reply: impl FnMut(v1::GrantReply) -> bool,
    ) -> Result<(), Failure> {
        let gaps_max = GAPS_NAMED_MAX / orders.len().max(1);
        let (mut opened, mut bytes, mut keys) = (Vec::new(), 0, OpenedScopes::default());
        for (place, order) in orders.iter().enumerate() {
            let opening = self.open_ordered(order, gaps_max, &mut keys);
            bytes += opening.as_ref().map_or(0, |opening| opening.manifest_bytes);
            opened.push(opening);
            if bytes > OPENED_BYTES_MAX || place + 1 == orders.len() {
                bytes = 0;
                if !self.grant_opened(std::mem::take(&mut opened))?.into_iter().all(&mut reply) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Opens the snapshot that one order names.
    pub(super) fn grant_one(&self, order: &[u8]) -> Result<Bytes, Failure> {
        let opened = self.open_ordered(order, GAPS_NAMED_MAX, &mut OpenedScopes::default())?;
        let reply = self.grant_opened(vec![Ok(opened)])?.pop().unwrap_or_default();
        reply.failure.map_or(Ok(reply.grant), |failure| Err(failure.into()))
    }

    fn open_ordered(&self, order: &[u8], gaps_max: usize, scopes: &mut OpenedScopes) -> Result<Opening, Failure> {
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
        let manifest = self.manifest(&id)?;
        let part = self.open_manifest(&manifest)?;
        let scopes = match scopes.get(part.scopes()) {
            Some(keys) => keys.clone(),
            None => scopes.entry(part.scopes().to_vec()).or_insert(self.open_keys(part.scopes())?).clone(),
        };
        let coverage = Coverage::of(&part, manifest.clear().counts.gaps);
        Ok(Opening {
            keys: GrantKeys { root_content: part.root_content(), scopes, coverage },
            gaps: part.gaps().iter().take(gaps_max).map(shown_gap).collect(),
            manifest_bytes: manifest.as_bytes().len(),
            order,
            number,
            snapshot,
        })
    }

    /// Makes the grants for what was opened, in one batch of the journal. What could not be opened is answered as such.
    fn grant_opened(&self, opened: Vec<Result<Opening, Failure>>) -> Result<Vec<v1::GrantReply>, Failure> {
        let _facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        let good: Vec<&Opening> = opened.iter().filter_map(|opening| opening.as_ref().ok()).collect();
        let mut next = self.catalog(|catalog| catalog.next_grant());
        let mut acts = Vec::new();
        let mut first = next;
        for alike in good.chunk_by(|one, other| one.is_recorded_with(other)) {
            acts.push(self.act_of(first, alike));
            first += alike.len() as u64;
        }
        if !acts.is_empty() {
            self.record_all(acts)?;
        }
        let history_diverged = self.catalog(|catalog| catalog.diverged().next().is_some());
        let mut reply = |opening: Opening| {
            let Opening { order, number, snapshot, keys, gaps, .. } = opening;
            let clear = GrantClear { number: next, snapshot: number, root: snapshot.root };
            next += 1;
            let grant = Grant::make(&clear, &order, &keys, &self.vault.log_key).map_err(damaged)?;
            let snapshot = Some(self.snapshot_info(number, &snapshot));
            Ok(v1::GrantReply { grant: grant.to_bytes().into(), snapshot, gaps, history_diverged, failure: None })
        };
        let refusal = |failure: Failure| v1::GrantReply { failure: Some(failure.into()), ..Default::default() };
        Ok(opened.into_iter().map(|opening| opening.and_then(&mut reply).unwrap_or_else(refusal)).collect())
    }

    /// The record of grants that differ only in their snapshots.
    fn act_of(&self, first: u64, alike: &[&Opening]) -> Act {
        let order = alike[0].order.order();
        let granted = |opening: &&Opening| GrantedSnapshot { snapshot: opening.number, order: opening.order.digest() };
        let event = Event::GrantsMade {
            first,
            snapshots: alike.iter().map(granted).collect(),
            target: order.target,
            expires_ns: order.expires_ns,
        };
        let signers = alike[0].order.signers();
        let by = signers.first().map_or(Principal::LocalRoot, |signer| Principal::Operator(*signer));
        let what = match alike.len() {
            1 => format!("snapshot {}", order.snapshot),
            several => format!("{several} snapshots"),
        };
        self.act(by, "grant", &format!("{what}: {}", order.purpose), event)
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

    /// The sealed part of a manifest.
    pub(super) fn open_manifest(&self, manifest: &Manifest) -> Result<SealedPart, Failure> {
        let id = manifest.id();
        let envelope = objects::read_envelope(self.coordinator.shared.store.as_ref(), id);
        let envelope = envelope.map_err(|error| failure::of_object(&error))?;
        let key = envelope.open(&self.vault.restore).map_err(damaged)?;
        manifest.open(&key).map_err(damaged)
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
        let names = objects::list_key_objects(self.coordinator.shared.store.as_ref());
        let names = names.map_err(|error| failure::of_store(&error))?;
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
        let (store, repository) = (self.coordinator.shared.store.as_ref(), self.coordinator.repository());
        let object = objects::read_key_object(store, name, repository).map_err(|error| failure::of_object(&error))?;
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
