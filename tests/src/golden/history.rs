//! The repository around the trees: trust, keys, journal, packs, manifests, in the order in which they are put.

use super::files::{BYTE_THAT_ENDS_LISTS, File};
use super::json::quoted;
use super::tree::{Memory, TreeMaker};
use super::{events, expected};
use lifeboat_format::ENCODER_VERSION;
use lifeboat_format::envelope::{Envelope, Identity};
use lifeboat_format::id::{Digest, HostId, RepositoryId, Scope, SnapshotId};
use lifeboat_format::journal::event::{AddedPack, Custody, Holds, HostEnrolled, SnapshotCommitted};
use lifeboat_format::journal::{Act, Chain, Decision, Event, Principal};
use lifeboat_format::key::{GroupSecret, ScopeKeys};
use lifeboat_format::kit::{RecoveryKit, recovery_operator};
use lifeboat_format::link::Target;
use lifeboat_format::manifest::{Clear, Counts, Manifest, Outcome, Part, RootRef, SealedPart};
use lifeboat_format::pack::{PackWriter, Record};
use lifeboat_format::secret::{AuthorityKeys, KeyObject};
use lifeboat_format::sign::{SigningKey, VerifyingKey};
use lifeboat_format::trust::{Trust, TrustFile, TrustedScope, secret_hash};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

const REPOSITORY: RepositoryId = RepositoryId::from_bytes(*b"golden version 1");
const GROUP: &str = "all";
/// When the first thing happened: nanoseconds since 1970. Everything later is a second later.
const BEGIN_NS: i64 = 1_750_000_000_000_000_000;
const HOSTS: [(u32, &str, &str); 2] = [(1, "web-1", "emea/berlin"), (2, "mail.example", "")];

/// A repository that grows.
pub struct History {
    directory: PathBuf,
    recovery: Identity,
    restore: Identity,
    log_key: SigningKey,
    first_trust: Digest,
    trust: TrustFile,
    chain: Chain,
    secrets: Vec<GroupSecret>,
    now_ns: i64,
    /// By host and source set: the last snapshot and its sequence.
    last: HashMap<(u32, String), (SnapshotId, u64)>,
    memories: HashMap<u32, Memory>,
    stored: HashSet<Target>,
}

fn host_key(host: u32) -> SigningKey {
    SigningKey::from_seed(&[0x40 + host as u8; 32])
}

impl History {
    /// A new repository with two hosts.
    pub fn begin(directory: &Path) -> Self {
        let identity = |byte| Identity::from_bytes(&[byte; 32]).unwrap();
        let (recovery, restore, log_key) = (identity(1), identity(2), SigningKey::from_seed(&[3; 32]));
        let secret = GroupSecret::from_bytes([4; 32]);
        let trust = first_trust(&recovery, &restore, log_key.verifying_key(), &secret);
        let mut history = Self {
            directory: directory.into(),
            recovery,
            restore,
            log_key,
            first_trust: trust.digest(),
            trust,
            chain: Chain::start(REPOSITORY, SigningKey::from_seed(&[3; 32]).verifying_key()),
            secrets: vec![secret],
            now_ns: BEGIN_NS,
            last: HashMap::new(),
            memories: HashMap::new(),
            stored: HashSet::new(),
        };
        history.check_list_byte();
        history.put_trust();
        history.put_secret(1);
        history.put_authority(1);
        let mut events = vec![
            Event::RepositoryCreated { custody: Custody::Managed, trust_file: history.first_trust },
            Event::ScopeMade { scope: Scope::new(1), group: GROUP.into(), first: true },
        ];
        events.extend(HOSTS.map(enrolled));
        history.append(events);
        history
    }

    /// A new secret for the group, of scope 2, a new log key, and the trust file that names both.
    pub fn rotate(&mut self) {
        let secret = GroupSecret::from_bytes([6; 32]);
        let mut trust = self.trust.trust().clone();
        trust.number = 2;
        trust.previous = Some(self.trust.digest());
        trust.scopes.push(trusted(2, false, &secret));
        let log_key = SigningKey::from_seed(&[7; 32]);
        trust.log_keys.insert(0, log_key.verifying_key());
        let recovery_operator = recovery_operator(&self.recovery).unwrap();
        let next = TrustFile::sign(&trust, &[&recovery_operator]).unwrap();
        next.verify_successor(&self.trust).unwrap();
        self.trust = next;
        self.secrets.push(secret);
        self.put_trust();
        self.put_secret(2);
        self.append(vec![
            Event::TrustFile { number: 2, digest: self.trust.digest() },
            Event::ScopeMade { scope: Scope::new(2), group: GROUP.into(), first: false },
        ]);
        self.chain.set_log_key(log_key.verifying_key());
        self.log_key = log_key;
        self.put_authority(2);
    }

    /// A snapshot of these files, with these gaps.
    pub fn commit(&mut self, host: u32, set: &str, files: &[File], gaps: &[(&str, &str)]) {
        let scope = Scope::new(self.secrets.len() as u32);
        let keys = self.keys();
        let mut maker = TreeMaker::new(&keys, scope, HostId::new(host));
        let (root, totals) = maker.tree(files, self.memories.entry(host).or_default());
        let sources = [b"etc".to_vec(), b"srv".to_vec()];
        let mut part = SealedPart::new(root.content, maker.scopes, sources);
        gaps.iter().for_each(|(path, reason)| assert!(part.name_gap(path.as_bytes(), reason)));
        let packs = self.put_packs(maker.records);
        let last = self.last.get(&(host, set.to_owned())).copied();
        let root = RootRef { id: root.id, height: root.height, scope: root.scope };
        let clear = Clear {
            repository: REPOSITORY,
            host: HostId::new(host),
            source_set: set.into(),
            sequence: last.map_or(1, |(_, sequence)| sequence + 1),
            previous: last.map(|(id, _)| id),
            root,
            started_ns: self.now_ns,
            ended_ns: self.now_ns + 1,
            outcome: if gaps.is_empty() { Outcome::Complete } else { Outcome::Gaps },
            counts: Counts {
                entries: totals.entries,
                files: totals.files,
                content_bytes: totals.bytes,
                read_bytes: totals.bytes,
                sent_bytes: 0,
                gaps: gaps.len() as u64,
            },
            agent_version: "golden".into(),
            encoder: ENCODER_VERSION,
            parts: vec![Part {
                id: keys.boundary_hash(b""),
                entries: totals.entries,
                files: totals.files,
                bytes: totals.bytes,
            }],
            extension: Vec::new(),
        };
        let id = self.put_manifest(&clear, &part, &host_key(host));
        self.last.insert((host, set.into()), (id, clear.sequence));
        self.append(vec![
            Event::PacksAdded { packs },
            Event::SnapshotCommitted(SnapshotCommitted::of(id, &clear, None)),
        ]);
        self.expect(id, &clear, &part, files);
    }

    /// All other events, and for readers the recovery kit and the restore identity.
    pub fn end(mut self) {
        self.append_acts(events::all_others());
        let kit = RecoveryKit {
            repository: REPOSITORY,
            location: "repository".into(),
            trust_file: self.first_trust,
            identity: self.recovery,
        };
        fs::write(self.directory.join("recovery-kit.txt"), kit.expose_text().unwrap().as_bytes()).unwrap();
        fs::write(self.directory.join("restore-identity.txt"), self.restore.expose_text().as_bytes()).unwrap();
    }

    fn keys(&self) -> ScopeKeys {
        ScopeKeys::derive(&self.secrets[self.secrets.len() - 1], &self.secrets[0])
    }

    fn check_list_byte(&self) {
        let hash = self.keys().open_keys().content_hash(&[BYTE_THAT_ENDS_LISTS; 64 << 10]);
        assert_eq!(hash.expose()[7], 0, "another byte, or another secret, ends lists");
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.directory.join("repository").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn put_twice(&self, path: &str, bytes: &[u8]) {
        self.put(path, bytes);
        self.put(&format!("copies/{path}"), bytes);
    }

    fn put_trust(&self) {
        self.put_twice(&format!("trust/{:020}", self.trust.trust().number), &self.trust.to_bytes());
    }

    fn put_secret(&self, scope: u32) {
        let name = (Scope::new(scope), GROUP, scope == 1);
        let secret = &self.secrets[scope as usize - 1];
        let object = KeyObject::seal_group_secret(REPOSITORY, name, secret, &self.trust.recipients()).unwrap();
        self.put_twice(&format!("keys/scope-{scope}"), &object.to_bytes());
    }

    fn put_authority(&self, number: u32) {
        let keys = AuthorityKeys {
            ca_key: b"not a key".to_vec().into(),
            issuing_key: Vec::new().into(),
            issuing_certificate: Vec::new(),
            log_key: self.log_key.clone(),
        };
        let object = KeyObject::seal_authority(REPOSITORY, number, &keys, &[self.recovery.recipient()]).unwrap();
        self.put_twice(&format!("keys/authority-{number}"), &object.to_bytes());
    }

    /// Chunks in one pack, nodes in another, and nodes with others below them also in a third; what is there already
    /// stays away.
    fn put_packs(&mut self, records: Vec<(Record, Vec<u8>)>) -> Vec<AddedPack> {
        let new: Vec<_> = records.into_iter().filter(|(record, _)| self.stored.insert(record.target)).collect();
        let (chunks, nodes): (Vec<_>, Vec<_>) = new.into_iter().partition(|(record, _)| record.height == 0);
        let copies = nodes.iter().filter(|(record, _)| record.height > 1).cloned().collect();
        let parts = [(Holds::Chunks, chunks), (Holds::Nodes, nodes), (Holds::NodeCopies, copies)];
        parts
            .into_iter()
            .filter(|(_, part)| !part.is_empty())
            .map(|(holds, part)| self.put_pack(holds, &part))
            .collect()
    }

    fn put_pack(&self, holds: Holds, records: &[(Record, Vec<u8>)]) -> AddedPack {
        let mut writer = PackWriter::begin(Vec::new()).unwrap();
        for (record, bytes) in records {
            writer.add(record, bytes).unwrap();
        }
        let (finished, bytes) = writer.finish(&self.log_key).unwrap();
        let name = finished.id.to_string();
        self.put(&format!("packs/{}/{name}", &name[..2]), &bytes);
        AddedPack { pack: finished.id, holds }
    }

    fn put_manifest(&self, clear: &Clear, part: &SealedPart, key: &SigningKey) -> SnapshotId {
        let (manifest, manifest_key) = Manifest::seal(clear, part, key).unwrap();
        let envelope = Envelope::seal(REPOSITORY, manifest.id(), &manifest_key, &self.trust.recipients()).unwrap();
        let name = manifest.id().to_string();
        self.put_twice(&format!("manifests/{}/{name}", &name[..2]), manifest.as_bytes());
        self.put_twice(&format!("envelopes/{}/{name}", &name[..2]), &envelope.to_bytes());
        manifest.id()
    }

    fn append(&mut self, events: Vec<Event>) {
        self.append_acts(events.into_iter().map(|event| (Principal::Coordinator, Decision::Done, event)).collect());
    }

    fn append_acts(&mut self, acts: Vec<(Principal, Decision, Event)>) {
        let mut batch = self.chain.next_batch(1);
        for (principal, decision, event) in acts {
            self.now_ns += 1_000_000_000;
            let (verb, object) = ("make".into(), "golden".into());
            batch.push(Act { time_ns: self.now_ns, principal, verb, object, decision, event }).unwrap();
        }
        let batch = batch.sign(&self.log_key).unwrap();
        self.chain.append(batch.signed_head()).unwrap();
        self.put_twice(&format!("journal/{:020}", self.chain.len()), &batch.to_bytes());
    }

    fn expect(&self, id: SnapshotId, clear: &Clear, part: &SealedPart, files: &[File]) {
        let gaps = part.gaps().iter().map(|gap| json!({ "path": quoted(&gap.path), "reason": gap.reason }));
        let outcome = if part.gaps().is_empty() { "complete" } else { "complete with gaps" };
        let head = json!({
            "snapshot": id.to_string(), "host": clear.host.get(), "source_set": clear.source_set,
            "sequence": clear.sequence, "outcome": outcome, "gaps": gaps.collect::<Vec<_>>(),
            "sources": part.sources().iter().map(|path| quoted(path)).collect::<Vec<_>>(),
        });
        let lines = [head].into_iter().chain(files.iter().map(expected::entry));
        let lines: String = lines.map(|line| line.to_string() + "\n").collect();
        let name = format!("{}-{}-{}.json", clear.host, clear.source_set, clear.sequence);
        let directory = self.directory.join("expected");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(name), lines).unwrap();
    }
}

fn trusted(scope: u32, first: bool, secret: &GroupSecret) -> TrustedScope {
    TrustedScope { scope: Scope::new(scope), group: GROUP.into(), first, secret_hash: secret_hash(secret) }
}

fn first_trust(recovery: &Identity, restore: &Identity, log_key: VerifyingKey, secret: &GroupSecret) -> TrustFile {
    let operator = SigningKey::from_seed(&[5; 32]);
    let trust = Trust {
        repository: REPOSITORY,
        number: 1,
        previous: None,
        ca_certificates: vec![b"not a certificate".to_vec()],
        restore_recipients: vec![restore.recipient()],
        recovery_recipients: vec![recovery.recipient()],
        operators: vec![operator.verifying_key()],
        quorum: 1,
        recovery_operator: recovery_operator(recovery).unwrap().verifying_key(),
        log_keys: vec![log_key],
        scopes: vec![trusted(1, true, secret)],
        addresses: vec!["backup.example:7443".into()],
        writes_format: 1,
        writes_encoder: ENCODER_VERSION,
        extension: Vec::new(),
    };
    TrustFile::sign(&trust, &[&operator]).unwrap()
}

fn enrolled((host, name, site): (u32, &str, &str)) -> Event {
    Event::HostEnrolled(HostEnrolled {
        host: HostId::new(host),
        name: name.into(),
        site: site.into(),
        group: GROUP.into(),
        signing_key: host_key(host).verifying_key(),
        box_recipient: Identity::from_bytes(&[0x50 + host as u8; 32]).unwrap().recipient(),
        tls_key: Digest::of(name.as_bytes()),
        token: u64::from(host),
    })
}
