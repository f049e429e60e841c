//! What a host is told, and that nobody else can speak for it.

use super::*;
use crate::job::LOST_WAIT;
use lifeboat_proto::convert::Ended;
use lifeboat_proto::convert::control::JobReport;

const HOST: HostId = HostId::new(1);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn hello(instance: u8) -> Hello {
    Hello {
        agent_version: "0".into(),
        instance: [instance; 16],
        offer: Offer { source_sets: vec![set("system"), set("mail")], ..Offer::default() },
        last_head: None,
        wall_time_ns: 0,
    }
}

fn backup(name: &str) -> Work {
    Work::Backup(set(name))
}

fn restore(order: u8) -> Work {
    let (grant, terms) = (Bytes::from_static(b"grant"), Bytes::from_static(b"terms"));
    let (snapshot, wanted) = (SnapshotId::from_bytes([1; 32]), Digest::of(&[order]));
    Work::Restore { snapshot, wanted, directory: "staging".into(), grant, terms }
}

fn set(name: &str) -> SourceSetName {
    name.parse().unwrap()
}

fn connect(board: &mut Board, instance: u8, now: Timestamp) -> (Result<StreamId, Twin>, mpsc::Receiver<Down>) {
    let (orders, received) = mpsc::channel(ORDERS_WAITING_MAX);
    (board.connect(HOST, hello(instance), orders, now), received)
}

fn ended(job: &JobName) -> Report {
    Report::Ended(JobReport { ended: Ended::Complete, ..JobReport::failed(job.clone(), "") })
}

fn told(received: &mut mpsc::Receiver<Down>) -> Option<JobName> {
    match received.try_recv() {
        Ok(Down::Order(order)) => Some(order.job),
        _ => None,
    }
}

fn order(board: &mut Board, name: &str, now: Timestamp) -> JobName {
    board.order(HOST, backup(name), now).borrow().name.clone()
}

#[test]
fn a_host_does_one_job_after_the_other_and_an_order_joins_only_what_has_not_begun() {
    let mut board = Board::default();
    let early = order(&mut board, "system", at(0));
    assert_eq!(order(&mut board, "system", at(0)), early, "it waits for the host");
    let (stream, mut orders) = connect(&mut board, 1, at(0));
    let stream = stream.unwrap();
    let late = order(&mut board, "system", at(1));
    assert_ne!(late, early, "what runs may have read already what the order is about");
    assert_eq!(order(&mut board, "system", at(2)), late);
    let mail = order(&mut board, "mail", at(3));
    assert_eq!((told(&mut orders), told(&mut orders)), (Some(early.clone()), None), "one at a time");
    assert_eq!(board.offers(), [], "no turn comes due for what is under way");
    board.report(stream, ended(&early), at(4));
    assert_eq!(told(&mut orders), Some(late.clone()));
    board.report(stream, ended(&late), at(5));
    assert_eq!(told(&mut orders), Some(mail));
    assert_eq!(board.take_ended().len(), 2);
}

#[test]
fn a_job_that_began_before_its_host_was_lost_is_not_joined() {
    let mut board = Board::default();
    let (stream, _orders) = connect(&mut board, 1, at(0));
    let lost = order(&mut board, "system", at(1));
    board.disconnect(stream.unwrap(), at(2));
    assert_ne!(order(&mut board, "system", at(3)), lost, "its agent may have gone on");
}

#[test]
fn a_host_that_returns_is_told_the_same_job_again() {
    let mut board = Board::default();
    let job = board.order(HOST, backup("system"), at(0)).borrow().name.clone();
    let (first, mut orders) = connect(&mut board, 1, at(1));
    assert_eq!(told(&mut orders), Some(job.clone()));
    board.disconnect(first.clone().unwrap(), at(2));
    let (second, mut orders) = connect(&mut board, 1, at(3));
    assert_eq!(told(&mut orders), Some(job.clone()));
    board.disconnect(first.unwrap(), at(4));
    assert!(board.connection(HOST).is_some(), "the end of the old stream does not end the new one");
    board.disconnect(second.unwrap(), at(5));
    board.tick(at(6) + LOST_WAIT);
    assert!(matches!(&board.take_ended()[..], [ended] if ended.ending.result.ended == Ended::Failed));
}

#[test]
fn how_far_a_clock_is_off_is_told_anew_with_each_sign_of_life() {
    let mut board = Board::default();
    let (stream, _orders) = connect(&mut board, 1, at(0));
    let ahead = |board: &Board| board.connection(HOST).unwrap().ahead.as_secs();
    assert_eq!(ahead(&board), -at(0).as_second(), "the hello says 1970");
    board.report(stream.unwrap(), Report::Alive(at(5).as_nanosecond() as i64), at(20));
    assert_eq!(ahead(&board), -15);
}

#[test]
fn a_second_machine_with_the_same_identity_is_refused_while_the_first_is_there() {
    let mut board = Board::default();
    let (first, mut orders) = connect(&mut board, 1, at(0));
    assert_eq!(connect(&mut board, 2, at(59)).0, Err(Twin { host: HOST }));
    board.report(first.unwrap(), Report::Alive(0), at(59));
    assert_eq!(connect(&mut board, 2, at(100)).0, Err(Twin { host: HOST }));
    assert_eq!(board.check_twin(HOST, &[2; 16], at(100)), Err(Twin { host: HOST }), "also for a backup by hand");
    assert_eq!(board.check_twin(HOST, &[1; 16], at(100)), Ok(()));
    assert_eq!(board.check_twin(HOST, &[2; 16], at(120)), Ok(()));
    assert!(connect(&mut board, 1, at(100)).0.is_ok(), "the same start of the same agent comes back");
    assert_eq!(orders.try_recv(), Ok(Down::Replaced));
    assert!(connect(&mut board, 2, at(161)).0.is_ok(), "the first was not heard of for a minute");
}

#[test]
fn one_host_cannot_end_the_job_of_another() {
    let mut board = Board::default();
    let job = board.order(HOST, backup("system"), at(0));
    let (orders, _received) = mpsc::channel(1);
    let stranger = board.connect(HostId::new(2), hello(9), orders, at(1)).unwrap();
    let name = job.borrow().name.clone();
    board.report(stranger, ended(&name), at(2));
    assert!(matches!(job.borrow().state, JobState::Queued(_)));
    assert!(board.take_ended().is_empty());
}

#[test]
fn inv_51_a_host_that_may_no_longer_follow_is_cut_off() {
    let mut board = Board::default();
    let (_stream, mut orders) = connect(&mut board, 1, at(0));
    board.drop_connections(|_| false, at(1));
    assert!(board.connection(HOST).is_none());
    assert_eq!(orders.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
}

#[test]
fn a_restore_does_not_wait_for_a_backup_and_the_same_order_joins_it() {
    let mut board = Board::default();
    let (stream, mut orders) = connect(&mut board, 1, at(0));
    let first = order(&mut board, "system", at(1));
    let of = |board: &mut Board, number| board.order(HOST, restore(number), at(2)).borrow().name.clone();
    let restored = of(&mut board, 1);
    assert_eq!((told(&mut orders), told(&mut orders)), (Some(first), Some(restored.clone())));
    assert_eq!(of(&mut board, 1), restored, "it runs");
    let other = of(&mut board, 2);
    assert_ne!(other, restored);
    assert_eq!(told(&mut orders), None, "one restore at a time");
    board.report(stream.unwrap(), ended(&restored), at(3));
    assert_eq!(told(&mut orders), Some(other));
    assert_eq!(board.offers().len(), 1, "a restore keeps no source set from its turn");
}

#[test]
fn a_job_that_waits_is_cancelled_at_once_and_one_that_runs_by_its_host() {
    let mut board = Board::default();
    let waits = order(&mut board, "system", at(0));
    assert!(board.cancel(&waits, at(1)) && !board.cancel(&waits, at(2)), "it is over");
    assert!(matches!(&board.take_ended()[..], [ended] if ended.ending.result.message.contains("cancelled")));
    let (stream, mut orders) = connect(&mut board, 1, at(3));
    let runs = order(&mut board, "mail", at(4));
    assert_eq!(told(&mut orders), Some(runs.clone()));
    assert!(board.cancel(&runs, at(5)));
    assert_eq!(orders.try_recv(), Ok(Down::Order(JobOrder { job: runs.clone(), what: What::Cancel })));
    assert!(board.take_ended().is_empty(), "its host has not said that it ended");
    board.report(stream.unwrap(), ended(&runs), at(6));
    assert_eq!(board.take_ended().len(), 1);
    assert!(!board.cancel(&"no-such-job".parse().unwrap(), at(7)));
}
