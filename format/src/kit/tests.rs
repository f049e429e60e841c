//! The recovery kit from paper and back: page, square, words, line, and each way to mistype it.

use super::*;
use proptest::prelude::*;

fn kit_of(secret: [u8; 32]) -> RecoveryKit {
    RecoveryKit {
        repository: RepositoryId::from_bytes([7; 16]),
        location: "https://store.example/lifeboat".into(),
        trust_file: Digest::of(b"trust"),
        identity: Identity::from_bytes(&secret).unwrap(),
    }
}

fn kit() -> RecoveryKit {
    kit_of(std::array::from_fn(|at| at as u8 * 7))
}

fn assert_same(read: Result<RecoveryKit, FormatError>, kit: &RecoveryKit) {
    let read = read.unwrap();
    assert_eq!(read.repository, kit.repository);
    assert_eq!(read.location, kit.location);
    assert_eq!(read.trust_file, kit.trust_file);
    assert_eq!(read.identity.expose_text(), kit.identity.expose_text());
}

/// The page without the lines for which `drop` holds.
fn page_without(drop: impl Fn(&str) -> bool) -> String {
    kit().expose_text().unwrap().lines().filter(|line| !drop(line)).map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_kit_reads_back_from_its_page_its_square_its_words_and_its_line() {
    assert_same(RecoveryKit::parse(&kit().expose_text().unwrap()), &kit());
    assert_same(RecoveryKit::parse(&kit().expose_square()), &kit());
    assert_same(RecoveryKit::parse(&page_without(|line| line.starts_with("identity"))), &kit());
    assert_same(RecoveryKit::parse(&page_without(|line| line.starts_with(' ') || line.starts_with("words"))), &kit());
}

#[test]
fn words_may_be_typed_in_upper_case_without_numbers_on_one_line() {
    let words = words_of(&kit().identity).unwrap().join(" ").to_uppercase();
    let head = page_without(|line| line.starts_with("identity") || line.starts_with(' ') || line.starts_with("words"));
    assert_same(RecoveryKit::parse(&format!("{head}words: {words}\n")), &kit());
}

#[test]
fn the_words_are_those_of_bip_39() {
    // The test vector of BIP 39 for 32 bytes of 0x7f.
    let words = words_of(&Identity::from_bytes(&[0x7f; 32]).unwrap()).unwrap().join(" ");
    assert!(words.starts_with("legal winner thank year wave sausage worth useful legal winner thank year"), "{words}");
    assert!(words.ends_with("worth title"), "{words}");
}

#[test]
fn a_mistyped_word_is_found_and_an_unknown_one_is_named_by_its_place() {
    let page = kit().expose_text().unwrap().replace("identity: AGE", "# AGE");
    let words = words_of(&kit().identity).unwrap();
    let unknown = page.replacen(&format!("   3 {}", words[2]), "   3 boatt", 1);
    assert!(RecoveryKit::parse(&unknown).unwrap_err().to_string().contains("at place 3"), "{unknown}");
    let swapped = page.replacen(words[2], words[3], 1);
    assert!(RecoveryKit::parse(&swapped).is_err());
}

#[test]
fn words_and_line_that_differ_are_refused() {
    let other = kit_of([9; 32]);
    let mixed =
        kit().expose_text().unwrap().replace(kit().identity.expose_text().as_str(), &other.identity.expose_text());
    assert!(RecoveryKit::parse(&mixed).is_err());
}

#[test]
fn inv_55_an_unknown_version_an_unknown_name_and_a_missing_line_are_refused() {
    let page = kit().expose_text().unwrap();
    assert!(RecoveryKit::parse(&page.replace(TITLE, "LIFEBOAT RECOVERY KIT 2")).is_err());
    assert!(RecoveryKit::parse(&format!("{}shares: 2\n", *page)).is_err());
    for name in ["repository", "location", "trust file"] {
        assert!(RecoveryKit::parse(&page_without(|line| line.starts_with(name))).is_err(), "{name}");
    }
}

#[test]
fn the_operator_key_comes_from_the_identity_alone() {
    let key = kit().operator_key().unwrap().verifying_key();
    let read = RecoveryKit::parse(&kit().expose_square()).unwrap();
    assert_eq!(read.operator_key().unwrap().verifying_key(), key);
    assert_ne!(kit_of([9; 32]).operator_key().unwrap().verifying_key(), key);
}

#[test]
fn inv_40_a_kit_does_not_print_its_identity() {
    assert_eq!(format!("{:?}", kit()), "RecoveryKit of 07070707");
}

proptest! {
    #[test]
    fn any_identity_reads_back_from_its_words(secret: [u8; 32]) {
        let identity = Identity::from_bytes(&secret).unwrap();
        prop_assert_eq!(&*identity.expose_bytes().unwrap(), &secret);
        let words = words_of(&identity).unwrap().join(" ");
        prop_assert_eq!(identity_of(&words).unwrap().expose_text(), identity.expose_text());
    }

    #[test]
    fn inv_09_no_text_makes_the_reader_panic(text: String) {
        let _ = RecoveryKit::parse(&text);
        let _ = RecoveryKit::parse(&format!("{TITLE}\nwords: {text}"));
        let _ = RecoveryKit::parse(&format!("{TITLE}\nidentity: {text}"));
    }
}
