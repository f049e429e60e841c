//! A restore by order: what operators signed, held against this host's own law, and then restored.
//!
//! Nothing is fetched before everything is checked that can be without it: who signed, for whom, where it may write
//! (INV-42, INV-46); and nothing is read before the coordinator has shown a journal that extends what this host saw
//! (INV-53). What a restore by order leaves behind is as after one by hand: the same order goes on with it.

use super::Pipeline;
use crate::capabilities;
use crate::clock::{Clock, SystemClock};
use crate::connection::explain_transport;
use crate::daemon::Task;
use crate::error::AgentError;
use crate::host::Host;
use crate::policy::{self, PlaceError, Policy, RestorePlace, STAGING};
use crate::restore::conduct::{self, Request};
use crate::restore::fetch::GrantReader;
use crate::restore::{self, Begin, Ledger, Mirror, Own, Questions, Report, Room, Selection, Target, of_disk};
use crate::state::{StateDir, Verdict};
use lifeboat_format::FormatError;
use lifeboat_format::envelope::Recipient;
use lifeboat_format::grant::{Existing, Grant, GrantOrder, SignedTerms};
use lifeboat_format::id::HostId;
use lifeboat_format::journal::event::GrantTarget;
use lifeboat_format::trust::TrustFile;
use lifeboat_proto::convert::control::JobReport;
use lifeboat_proto::convert::{Ended, JobName};
use lifeboat_proto::shown::Shown;
use lifeboat_proto::status::{ErrorClass, Failure, with_causes};
use lifeboat_proto::v1;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

/// Losses, and damaged files, that a report names.
const LOSSES_REPORTED: usize = 100;
/// Digits of a snapshot's id that are shown.
const SHOWN_DIGITS: usize = 12;

/// What this host holds an order against.
struct Law<'a> {
    policy: Policy,
    trust: &'a TrustFile,
    host: HostId,
    recipient: Recipient,
    state: &'a StateDir,
    config: &'a Path,
}

/// What becomes of an order.
enum Judgement {
    /// It may be obeyed.
    Obey(Box<Allowed>),
    /// It was obeyed before; this was reported.
    Obeyed(JobReport),
}

/// An order that may be obeyed.
struct Allowed {
    grant: Grant,
    terms: SignedTerms,
    place: RestorePlace,
    /// What no restore touches.
    own: Own,
}

/// What a restore came to.
enum Done {
    Restored {
        report: Report,
        /// The damaged files, by their paths in the snapshot.
        damaged: Vec<Vec<u8>>,
    },
    Planned(v1::RestorePlan),
}

/// Restores, and says how it ended. Blocks; not to be called from a thread of the runtime.
pub fn restore(pipeline: &Pipeline, host: &Host, job: &JobName, order: (&[u8], &[u8]), task: &Task) -> JobReport {
    let now_ns = SystemClock::new().now_ns();
    let ended = Law::of(host).and_then(|law| law.check(order, now_ns)).and_then(|judgement| match judgement {
        Judgement::Obey(allowed) => allowed.obey(pipeline, host, job, task),
        Judgement::Obeyed(report) => Ok(JobReport { job: job.clone(), ..report }),
    });
    ended.unwrap_or_else(|error| failed(job, &error))
}

fn failed(job: &JobName, error: &AgentError) -> JobReport {
    let hint = if error.hint.is_empty() { String::new() } else { format!("; {}", error.hint) };
    JobReport::failed(job.clone(), format!("{}{hint}", with_causes(error)))
}

fn refused(message: impl Into<String>) -> AgentError {
    AgentError::new(ErrorClass::Refused, message)
}

impl<'a> Law<'a> {
    /// As it stands now.
    fn of(host: &'a Host) -> Result<Self, AgentError> {
        Ok(Self {
            policy: host.policy()?,
            trust: &host.trust,
            host: host.identity.host,
            recipient: host.identity.keys.unboxer.recipient(),
            state: &host.state,
            config: &host.places.config,
        })
    }

    /// Whether to obey an order, which is grant and terms. Asks nobody.
    fn check(&self, (grant, terms): (&[u8], &[u8]), now_ns: i64) -> Result<Judgement, AgentError> {
        let not_good = |error: FormatError| refused(format!("the order is not good: {error}"));
        let needed = usize::try_from(self.policy.trust.operators).unwrap_or(usize::MAX);
        let (grant, terms) = (Grant::parse(grant).map_err(not_good)?, SignedTerms::parse(terms).map_err(not_good)?);
        grant.verify(self.trust, needed, now_ns).map_err(not_good)?;
        terms.verify(grant.order(), self.trust.trust(), needed).map_err(not_good)?;
        let order = grant.order().order();
        if order.target != GrantTarget::Host(self.host) || order.recipient != self.recipient {
            return Err(refused("the order is for another host"));
        }
        if let Some(report) = self.state.obeyed(&grant.order().digest())? {
            return Ok(Judgement::Obeyed(report));
        }
        let place = policy::place(&self.policy.restore, &self.state.staging(), &order.directory);
        let place = place.map_err(|error: PlaceError| refused(error.to_string()))?;
        let own = match order.directory.starts_with(STAGING) {
            // It lies within the state directory, and nothing but restores is in it.
            true => Own::default(),
            false => Own::of([self.config, self.state.path()]),
        };
        Ok(Judgement::Obey(Box::new(Allowed { grant, terms, place, own })))
    }
}

impl Allowed {
    fn order(&self) -> &GrantOrder {
        self.grant.order().order()
    }

    /// Restores, and remembers what is reported of it: who asks again is told the same.
    fn obey(&self, pipeline: &Pipeline, host: &Host, job: &JobName, task: &Task) -> Result<JobReport, AgentError> {
        let done = self.run(pipeline, host, task)?;
        let is_over = matches!(&done, Done::Restored { report, .. } if report.failed_entries == 0);
        let report = report(job, &self.place, done, task);
        if is_over {
            let (order, now_ns) = (self.grant.order().digest(), SystemClock::new().now_ns());
            host.state.keep_obeyed(&order, &report, self.order().expires_ns, now_ns)?;
        }
        Ok(report)
    }

    fn run(&self, pipeline: &Pipeline, host: &Host, task: &Task) -> Result<Done, AgentError> {
        let _raised = capabilities::take_up();
        let terms = self.terms.terms();
        let (ledger, target) = (Ledger::at(host.state.restores()), self.place.path());
        let remembered = |error| AgentError::from(Failure::of(ErrorClass::Internal, &error));
        let snapshot = self.order().snapshot.to_string();
        let asked = format!("{} from snapshot {}", self.order().purpose, &snapshot[..SHOWN_DIGITS]);
        let found = ledger.find(&target).map_err(remembered)?;
        let begin = restore::begin(&target, &asked, found, terms.existing != Existing::Refuse)?;
        conduct::substitutes(terms)?;
        let reader = self.open(pipeline, host)?;
        let selection = conduct::select(&reader, terms)?;
        let begin = conduct::beside(begin, &selection, &target);
        if terms.dry_run {
            return Ok(Done::Planned(self.plan(&reader, &selection, &begin)?));
        }
        if terms.check_room && begin.is_new() {
            restore::refuse_without_room(&reader, &selection, &target)?;
        }
        let own = self.own.clone();
        let request = Request { terms, asked: &asked, snapshot: &snapshot, target: &target, own };
        let open = |expected| Target::open_below(&self.place.base, &self.place.below, &self.own, expected);
        let report = conduct::conduct(&reader, &selection, request, begin, open, &ledger, &task.restored)?;
        let damaged = selection.origins(&report.damaged);
        Ok(Done::Restored { report, damaged })
    }

    /// Shows the grant to the coordinator, and looks whether its journal extends what this host saw.
    fn open(&self, pipeline: &Pipeline, host: &Host) -> Result<GrantReader, AgentError> {
        let dialer = host.dialer().map_err(|error| error.explain())?;
        let runtime = pipeline.runtime();
        let channel = runtime.block_on(dialer.connect()).map_err(|error| explain_transport(&error))?;
        let (grant, unboxer) = (self.grant.to_bytes(), &host.identity.keys.unboxer);
        let reader = GrantReader::open(channel, runtime.clone(), &grant, unboxer).map_err(Failure::from)?;
        let head = reader.head().ok_or_else(|| refused("the coordinator shows no head of its journal"))?;
        match host.heads.take(head)? {
            Verdict::Fits => Ok(reader),
            Verdict::Parts(error) | Verdict::Forged(error) => {
                let why = format!("the coordinator's journal does not extend what this host saw: {error}");
                Err(refused(why).hint("it was rolled back, or is another one; backups go on, restores do not"))
            }
        }
    }

    fn plan(&self, reader: &GrantReader, selection: &Selection, begin: &Begin) -> Result<v1::RestorePlan, AgentError> {
        let terms = self.terms.terms();
        let rules = conduct::rules(terms, begin);
        let mirror = terms.delete.then(|| Mirror::new(selection, reader.coverage().clone()));
        let questions = Questions { rules, mirror: mirror.as_ref(), own: &self.own, compare: true };
        let there = Target::look_below(&self.place.base, &self.place.below);
        conduct::refuse_not_empty(&self.place.path(), there.as_ref(), begin)?;
        let begun = Instant::now();
        let survey = restore::survey(reader, selection, there, questions)?;
        let surveyed = begun.elapsed();
        let estimate = self.place.beside().and_then(|beside| {
            // Where nothing can be written beside the target there is none; all else is told.
            restore::estimate(reader, selection, &survey, surveyed, beside).ok()
        });
        let room = Room::at(&self.place.path()).map_err(|error| of_disk(&error))?;
        Ok(survey.plan(&room, estimate))
    }
}

fn report(job: &JobName, place: &RestorePlace, done: Done, task: &Task) -> JobReport {
    let directory = Shown(place.path().as_os_str().as_bytes()).to_string();
    let whole = JobReport { ended: Ended::Complete, ..JobReport::failed(job.clone(), "") };
    let (report, damaged) = match done {
        Done::Restored { report, damaged } => (report, damaged),
        Done::Planned(plan) => {
            let restored = v1::RestoreEnded { directory, plan: Some(plan), ..Default::default() };
            return JobReport { restored: Some(restored.into()), ..whole };
        }
    };
    let lost_attributes = report.lost_attributes.values().sum();
    let restored = v1::RestoreEnded {
        directory,
        entries: report.entries,
        unchanged: report.unchanged,
        kept: report.kept,
        deleted: report.deleted,
        bytes: report.bytes,
        fetched_bytes: task.restored.fetched_bytes(),
        reused_bytes: task.restored.reused_bytes(),
        lost_attributes,
        failed_entries: report.failed_entries,
        plan: None,
        damaged: damaged.into_iter().take(LOSSES_REPORTED).map(Into::into).collect(),
        kept_back: Some(report.kept_back.message()),
        protected: report.protected.iter().take(LOSSES_REPORTED).cloned().map(Into::into).collect(),
    };
    let named = report.failures.iter().map(ToString::to_string).chain(report.losses.iter().map(ToString::to_string));
    JobReport {
        ended: if report.is_complete() { Ended::Complete } else { Ended::Gaps },
        gaps: named.take(LOSSES_REPORTED).collect(),
        gap_count: lost_attributes + report.failed_entries,
        restored: Some(restored.into()),
        ..whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::envelope::Identity;
    use lifeboat_format::grant::{Coverage, GrantClear, GrantKeys, RestoreTerms, SignedOrder};
    use lifeboat_format::id::{NodeId, RepositoryId, Scope, SnapshotId, SnapshotNumber};
    use lifeboat_format::key::ContentHash;
    use lifeboat_format::manifest::RootRef;
    use lifeboat_format::sign::SigningKey;
    use lifeboat_format::trust::Trust;

    const NOW: i64 = 1_790_000_000_000_000_000;
    const HOUR: i64 = 3600 * 1_000_000_000;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32])
    }

    fn own_box() -> Identity {
        Identity::from_bytes(&[4; 32]).unwrap()
    }

    /// Operators have the keys 1 and 2, the log has 5.
    fn trust() -> TrustFile {
        let mut operators: Vec<_> = [1, 2].map(|seed| key(seed).verifying_key()).to_vec();
        operators.sort();
        let trust = Trust {
            repository: RepositoryId::from_bytes([7; 16]),
            number: 1,
            previous: None,
            ca_certificates: vec![b"certificate".to_vec()],
            restore_recipients: vec![own_box().recipient()],
            recovery_recipients: vec![own_box().recipient()],
            operators,
            quorum: 1,
            recovery_operator: key(9).verifying_key(),
            log_keys: vec![key(5).verifying_key()],
            scopes: Vec::new(),
            addresses: Vec::new(),
            writes_format: 1,
            writes_encoder: 1,
            extension: Vec::new(),
        };
        TrustFile::sign(&trust, &[&key(1)]).unwrap()
    }

    fn order() -> GrantOrder {
        GrantOrder {
            repository: RepositoryId::from_bytes([7; 16]),
            snapshot: SnapshotId::from_bytes([1; 32]),
            target: GrantTarget::Host(HostId::new(3)),
            recipient: own_box().recipient(),
            directory: "staging/web1".into(),
            purpose: "web1:/etc".into(),
            issued_ns: NOW,
            expires_ns: NOW + HOUR,
            nonce: [6; 16],
        }
    }

    /// Grant and terms, as they come from a coordinator.
    fn sent(order: &GrantOrder, operators: &[&SigningKey], log: &SigningKey) -> (Vec<u8>, Vec<u8>) {
        let signed = SignedOrder::sign(order, operators).unwrap();
        let root = RootRef { id: NodeId::from_bytes([2; 32]), height: 1, scope: Scope::new(1) };
        let clear = GrantClear { number: 1, snapshot: SnapshotNumber::new(1), root };
        let keys = GrantKeys {
            root_content: ContentHash::from_bytes([3; 32]),
            scopes: Vec::new(),
            coverage: Coverage::default(),
        };
        let grant = Grant::make(&clear, &signed, &keys, log).unwrap();
        let terms = RestoreTerms { paths: vec![b"etc".to_vec()], ..RestoreTerms::default() };
        let terms = SignedTerms::sign(&signed, &terms, operators).unwrap();
        (grant.to_bytes(), terms.to_bytes())
    }

    struct Place {
        directory: tempfile::TempDir,
        state: StateDir,
        trust: TrustFile,
    }

    impl Place {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let state = StateDir::create(&directory.path().join("state")).unwrap();
            Self { directory, state, trust: trust() }
        }

        /// Why an order is refused under a policy that begins with these lines; nothing if it is not.
        fn refusal(&self, lines: &str, (grant, terms): &(Vec<u8>, Vec<u8>), now_ns: i64) -> Option<String> {
            let law = Law {
                policy: format!("{lines}\nsources = {{ system = [\"/etc\"] }}").parse().unwrap(),
                trust: &self.trust,
                host: HostId::new(3),
                recipient: own_box().recipient(),
                state: &self.state,
                config: self.directory.path(),
            };
            match law.check((grant, terms), now_ns) {
                Ok(Judgement::Obey(_)) => None,
                Ok(Judgement::Obeyed(report)) => Some(report.message),
                Err(error) => Some(error.to_string()),
            }
        }
    }

    #[test]
    fn inv_42_only_an_order_that_is_for_this_host_and_signed_by_operators_is_obeyed() {
        let place = Place::new();
        let good = sent(&order(), &[&key(1)], &key(5));
        assert_eq!(place.refusal("", &good, NOW), None);
        let two = "trust = { operators = 2 }";
        assert!(place.refusal(two, &good, NOW).is_some(), "this host wants two");
        assert_eq!(place.refusal(two, &sent(&order(), &[&key(1), &key(2)], &key(5)), NOW), None);
        let other_terms = (good.0.clone(), sent(&GrantOrder { nonce: [8; 16], ..order() }, &[&key(1)], &key(5)).1);
        let mut bad_terms = good.clone();
        bad_terms.1[60] ^= 1;
        let stranger = Identity::from_bytes(&[5; 32]).unwrap().recipient();
        let of = |order: GrantOrder| sent(&order, &[&key(1)], &key(5));
        for (what, sent, now_ns) in [
            ("signed by a stranger", sent(&order(), &[&key(3)], &key(5)), NOW),
            ("granted by a stranger", sent(&order(), &[&key(1)], &key(6)), NOW),
            ("it has expired", good.clone(), NOW + HOUR),
            ("terms of another order", other_terms, NOW),
            ("changed terms", bad_terms, NOW),
            ("another host", of(GrantOrder { target: GrantTarget::Host(HostId::new(4)), ..order() }), NOW),
            ("the local client", of(GrantOrder { target: GrantTarget::LocalClient, ..order() }), NOW),
            ("another key", of(GrantOrder { recipient: stranger, ..order() }), NOW),
            ("another repository", of(GrantOrder { repository: RepositoryId::from_bytes([8; 16]), ..order() }), NOW),
        ] {
            assert!(place.refusal("", &sent, now_ns).is_some(), "{what}");
        }
    }

    #[test]
    fn inv_46_where_an_order_may_write_is_for_this_hosts_own_law() {
        let place = Place::new();
        let of = |directory: &str| sent(&GrantOrder { directory: directory.into(), ..order() }, &[&key(1)], &key(5));
        let refusal = place.refusal("", &of("/srv"), NOW).unwrap();
        assert!(refusal.contains("restore = [\"staging\", \"/srv\"]"), "{refusal}");
        assert_eq!(place.refusal("restore = [\"/srv\"]", &of("/srv/www"), NOW), None);
        for (law, directory) in [
            ("restore = \"off\"", "staging"),
            ("restore = [\"/srv\"]", "/etc"),
            ("restore = [\"/srv\"]", "/srv/../etc"),
            ("restore = [\"/srv\"]", "staging"),
            ("", "staging/../../etc"),
        ] {
            assert!(place.refusal(law, &of(directory), NOW).is_some(), "{law}: {directory}");
        }
    }

    #[test]
    fn an_order_that_was_obeyed_is_not_obeyed_again_but_its_report_is_given() {
        let place = Place::new();
        let good = sent(&order(), &[&key(1)], &key(5));
        let digest = SignedOrder::sign(&order(), &[&key(2)]).unwrap().digest();
        let report = JobReport::failed("1".parse().unwrap(), "what was reported");
        place.state.keep_obeyed(&digest, &report, NOW + HOUR, NOW).unwrap();
        assert_eq!(place.refusal("", &good, NOW).as_deref(), Some("what was reported"));
    }
}
