//! A coordinator that restarts under a backup, and an agent that dies at any of its calls (INV-26, 57).

use crate::host::{Host, How};
use crate::lab::{Lab, LeftIndex};
use crate::source::Source;
use crate::uplink::Trouble;
use lifeboat_coordinator::store::ObjectName;
use lifeboat_format::journal::event::Holds;

/// A first backup stands, and a few of many files have changed since.
fn begin(name: &str) -> (Lab, Host) {
    let lab = Lab::new(name, 250_000);
    let host = lab.host(1);
    let mut source = Source::new(&host.source, 2, lab.clock().clone());
    source.fill(400);
    lab.backup(&host);
    source.change(6);
    (lab, host)
}

/// How many calls the second backup makes.
fn count_calls(name: &str) -> usize {
    let (lab, host) = begin(name);
    lab.backup(&host).1.calls
}

fn at(call: usize, trouble: Trouble) -> How {
    How { trouble: Some((call, trouble)), ..How::default() }
}

/// That no call of such a run is answered is asserted by the uplink itself.
#[test]
fn inv_26_no_run_outlives_a_restart_at_any_of_its_calls() {
    for call in 1..count_calls("no-run-outlives") {
        let (lab, host) = begin("no-run-outlives");
        let (report, _) = lab.try_backup(&host, &at(call, Trouble::Restart));
        assert!(report.is_err(), "restart at call {call}");
        lab.backup(&host);
        lab.check();
    }
}

#[test]
fn inv_57_an_agent_that_died_at_any_of_its_calls_goes_on_from_what_stands() {
    for call in 0..count_calls("dying-agent") {
        for trouble in [Trouble::AgentDies, Trouble::AnswerIsLost] {
            println!("{trouble:?} at call {call}");
            let (lab, host) = begin("dying-agent");
            let (report, _) = lab.try_backup(&host, &at(call, trouble));
            assert!(report.is_err());
            let (_, traffic) = lab.backup(&host);
            assert_eq!((traffic.begun, traffic.chunks_sent_again), (1, 0));
            lab.check();
        }
    }
}

/// A start gives nodes their homes back: one pass, in which nothing is refused.
#[test]
fn inv_57_a_lost_index_makes_no_host_read_files_or_send_content_again() {
    let (lab, host) = begin("lost-index");
    lab.backup(&host);
    lab.stop();
    lab.start(LeftIndex::Lost).unwrap();
    let (_, traffic) = lab.backup(&host);
    assert_eq!((traffic.begun, traffic.commits, traffic.chunks), (1, 1, 0));
    lab.check();
}

/// Its local tree names nodes that lie in packs which are gone: they are refused, and named anew.
#[test]
fn inv_57_nodes_that_are_gone_are_named_anew_and_no_chunk_is_sent_again() {
    let (lab, host) = begin("lost-nodes");
    lab.backup(&host);
    let packs = lab.coordinator(|coordinator| coordinator.catalog(|catalog| catalog.packs()));
    lab.stop();
    for (pack, _) in packs.iter().filter(|(_, holds)| *holds == Holds::Nodes) {
        lab.objects().damage(&ObjectName::pack(*pack), None);
    }
    lab.start(LeftIndex::Kept).unwrap();
    let (_, traffic) = lab.backup(&host);
    assert_eq!((traffic.begun, traffic.commits, traffic.chunks), (2, 1, 0));
    let (_, traffic) = lab.backup(&host);
    assert_eq!((traffic.begun, traffic.commits, traffic.chunks), (1, 1, 0));
}
