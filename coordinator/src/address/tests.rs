//! What an address means, and what it must never be taken for.

use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> Result<Address, AddressError> {
    Address::parse(OsStr::new(text), None)
}

fn address(host: &str, path: &str, when: When) -> Result<Address, AddressError> {
    Ok(Address { host: host.into(), path: path.into(), literal: None, when })
}

#[test]
fn the_parts_of_an_address_are_found() {
    let day = When::Day("2026-11-01".parse().unwrap());
    let local = When::Local("2026-11-01T09:00:00".parse().unwrap());
    let instant = When::Instant("2026-11-01T09:00:00+02:00".parse().unwrap());
    assert_eq!(parse("mail-1"), address("mail-1", "", When::Latest));
    assert_eq!(parse("mail-1@yesterday"), address("mail-1", "", When::Yesterday));
    assert_eq!(parse("mail-1:/"), address("mail-1", "", When::Latest));
    assert_eq!(parse("mail-1://etc/./mail//"), address("mail-1", "etc/mail", When::Latest));
    assert_eq!(parse("mail-1:/etc@2026-11-01"), address("mail-1", "etc", day));
    assert_eq!(parse("mail-1:/etc@2026-11-01 09:00"), address("mail-1", "etc", local));
    assert_eq!(parse("mail-1:/etc@2026-11-01T09:00:00+02:00"), address("mail-1", "etc", instant));
    let ago = |count, unit| When::Ago { count, unit };
    assert_eq!(parse("mail-1:/etc@-3d"), address("mail-1", "etc", ago(3, Unit::Days)));
    assert_eq!(parse("mail-1@-18mo"), address("mail-1", "", ago(18, Unit::Months)));
    assert_eq!(parse("mail-1:/etc@4BE1D07C"), address("mail-1", "etc", When::Snapshot("4be1d07c".into())));
}

#[test]
fn what_follows_the_last_at_sign_is_a_moment_only_if_it_reads_as_one() {
    assert_eq!(parse("h:/srv/getty@tty1.service"), address("h", "srv/getty@tty1.service", When::Latest));
    assert_eq!(parse("h:/a@b:c@latest"), address("h", "a@b:c", When::Latest));
    assert_eq!(parse("h:/logs@2026-11"), address("h", "logs@2026-11", When::Latest));
    assert_eq!(parse("h:/x@12:00"), address("h", "x@12:00", When::Latest));
    assert_eq!(parse("h:/x@abc"), address("h", "x@abc", When::Latest));
    assert_eq!(parse("h:/x@-3"), address("h", "x@-3", When::Latest));
    assert_eq!(parse("h:/x@-70000d"), address("h", "x@-70000d", When::Latest));
}

#[test]
fn inv_54_what_is_printed_of_a_path_is_an_address_of_it() {
    let names: [&[u8]; 10] = [
        b"dev-disk-by\\x2duuid.swap",
        b"C:\\new\\table",
        b"a\nb",
        b"\xff\xfe",
        b"back\\\xffslash\\",
        b"copy@latest",
        b"copy\\@yesterday",
        b"a@latest@2026-11-01",
        b"copy\\x40latest",
        "Grüße \u{202e}@abcdef".as_bytes(),
    ];
    for name in names {
        let path = [b"srv/", name].concat();
        for (end, when) in [("", When::Latest), ("@-3d", When::Ago { count: 3, unit: Unit::Days })] {
            let read = parse(&format!("h:/{}{end}", shown(&path))).unwrap();
            assert_eq!((&read.path, &read.when), (&path, &when), "{}", path.escape_ascii());
        }
    }
    assert_eq!(shown(b"dev-disk-by\\x2duuid.swap"), "dev-disk-by\\x2duuid.swap");
    assert_eq!(shown(b"getty@tty1.service"), "getty@tty1.service");
}

#[test]
fn a_path_may_also_be_typed_with_plain_backslashes() {
    let read = parse(r"h:/C:\new").unwrap();
    assert_eq!((read.path, read.literal), (b"C:\new".to_vec(), Some(br"C:\new".to_vec())));
    assert_eq!(parse(r"h:/C:\x2d").unwrap().literal, None);
}

#[test]
fn at_settles_what_the_path_leaves_open() {
    let settled = Address::parse(OsStr::new("h:/backup@yesterday"), Some(When::Latest));
    assert_eq!(settled, address("h", "backup@yesterday", When::Latest));
}

#[test]
fn what_names_no_host_or_leads_up_is_refused() {
    for text in ["", ":/etc", "/etc", "Mail:/etc", "a b:/etc", "é:/etc"] {
        assert!(matches!(parse(text), Err(AddressError::Host { .. })), "{text:?}");
    }
    assert!(matches!(parse("h:/a/../b"), Err(AddressError::Parent { .. })));
}

proptest! {
    #[test]
    fn any_path_reads_back_when_the_moment_is_given(parts in prop::collection::vec("[^/\0\\\\]{1,12}", 0..6)) {
        prop_assume!(parts.iter().all(|part| part != "." && part != ".."));
        let path = parts.join("/");
        let explicit = parse(&format!("host-1:/{path}@latest"));
        prop_assert_eq!(explicit, address("host-1", &path, When::Latest));
        let settled = Address::parse(OsStr::new(&format!("host-1:/{path}")), Some(When::Yesterday));
        prop_assert_eq!(settled, address("host-1", &path, When::Yesterday));
    }

    #[test]
    fn inv_54_any_path_reads_back_from_what_is_shown_of_it(parts in prop::collection::vec(r"[^/\x00]{1,12}", 1..6)) {
        prop_assume!(parts.iter().all(|part| part != "." && part != ".."));
        let path = parts.join("/").into_bytes();
        prop_assert_eq!(parse(&format!("h:/{}", shown(&path))).unwrap().path, path);
    }

    #[test]
    fn inv_09_no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
        let _ = Address::parse(OsStr::from_bytes(&bytes), None);
        let _ = String::from_utf8_lossy(&bytes).parse::<When>();
    }

    #[test]
    fn a_moment_reads_back_from_what_it_shows(seconds in -60_000_000_000i64..250_000_000_000) {
        let instant = Timestamp::from_second(seconds).unwrap();
        let local = instant.to_zoned(TimeZone::UTC).datetime();
        let units = UNITS.map(|(_, unit)| When::Ago { count: seconds as u16, unit });
        for when in [When::Day(local.date()), When::Local(local), When::Instant(instant)].into_iter().chain(units) {
            prop_assume!((1000..=9999).contains(&local.year()));
            prop_assert_eq!(when.to_string().parse(), Ok(when));
        }
    }
}

fn candidate(number: u64, committed: &str) -> Candidate {
    let id = format!("{number:064x}").chars().rev().collect();
    Candidate { id, number, committed: committed.parse().unwrap(), source_set: "system".into(), regular: true }
}

#[test]
fn a_moment_means_the_newest_snapshot_that_was_committed_by_then() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let now = "2026-11-03T11:00:00Z".parse().unwrap();
    let mut list = [
        candidate(1, "2026-11-01T01:10:00Z"),
        candidate(2, "2026-11-02T01:10:00Z"),
        candidate(3, "2026-11-02T22:59:59Z"),
        candidate(4, "2026-11-02T23:00:00Z"),
    ];
    let chosen = |list: &[Candidate], when: &str| {
        choose("h", &when.parse().unwrap(), list, &zone, now).map(|snapshot| snapshot.number).ok()
    };
    assert_eq!(chosen(&list, "latest"), Some(4));
    assert_eq!(chosen(&list, "yesterday"), Some(3), "the day ends at midnight in Berlin");
    assert_eq!(chosen(&list, "2026-11-01"), Some(1));
    assert_eq!(chosen(&list, "2026-11-02 02:10"), Some(2));
    assert_eq!(chosen(&list, "2026-10-31"), None);
    assert_eq!((chosen(&list, "-12h"), chosen(&list, "-13h")), (Some(4), Some(2)));
    assert_eq!(chosen(&list, "-1d"), Some(2));
    assert_eq!(chosen(&list, "-60000y"), None);
    list[3].regular = false;
    assert_eq!(chosen(&list, "latest"), Some(3), "a suspect one is chosen only by its id");
    assert_eq!(chosen(&list, &list[3].id.clone()), Some(4));
    list[1].source_set = "mail".into();
    assert_eq!(chosen(&list, "latest"), None, "one of two source sets must be named");
}

#[test]
fn what_chooses_nothing_says_what_there_is() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let now = "2026-11-03T11:00:00Z".parse().unwrap();
    let list =
        [candidate(1, "2026-11-02T01:10:00Z"), Candidate { regular: false, ..candidate(2, "2026-11-01T01:10:00Z") }];
    let said =
        |list: &[Candidate], when: &str| choose("h", &when.parse().unwrap(), list, &zone, now).unwrap_err().to_string();
    assert_eq!(said(&list, "2026-11-01"), "h has no snapshot at 2026-11-01; the oldest is from 2026-11-02 02:10");
    for when in ["latest", "yesterday"] {
        assert!(said(&list[1..], when).starts_with("h has no complete backup yet"), "{when}");
    }
    assert!(said(&list, "abcdef").starts_with("h has no snapshot whose ID begins with abcdef"));
}

#[test]
fn digits_that_begin_two_ids_choose_none() {
    let list = [candidate(4096, "2026-11-01T01:10:00Z"), candidate(256, "2026-11-02T01:10:00Z")];
    let error = choose("h", &When::Snapshot("00".into()), &list, &TimeZone::UTC, Timestamp::UNIX_EPOCH);
    assert_eq!(error, Err(ChooseError::Ambiguous { prefix: "00".into(), count: 2 }));
}
