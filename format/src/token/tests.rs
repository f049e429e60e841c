//! A token from its line and back, and what the half of it that is sent opens: nothing.

use super::*;
use crate::envelope::Identity;
use crate::id::Scope;
use crate::key::GroupSecret;
use crate::sign::SigningKey;
use proptest::prelude::*;

fn token() -> Token {
    let address = "backup.example:7420".to_owned();
    Token { address, trust_file: Digest::of(b"trust"), number: 12, secret: [0x5a; 16] }
}

fn terms() -> TokenTerms {
    TokenTerms {
        site: "emea/berlin".into(),
        name_pattern: "web-*".into(),
        group: "all".into(),
        expires_ns: 1_790_000_000_000_000_000,
        uses: 1,
    }
}

fn secret() -> GroupSecret {
    GroupSecret::from_bytes([3; 32])
}

#[test]
fn a_token_reads_back_from_its_line_with_white_space_around_it() {
    let line = token().expose_text();
    assert!(line.starts_with("lifeboat-1.") && line.len() < 180, "{} characters", line.len());
    assert_eq!(Token::parse(&format!(" {}\n", *line)), Ok(token()));
    let (one, other) =
        (Token::generate("a:1", Digest::of(b""), 1).unwrap(), Token::generate("a:1", Digest::of(b""), 1));
    assert_ne!(Ok(one), other);
}

/// No typo in any place is overlooked, and the error names the part without showing it.
#[test]
fn a_typo_is_found_and_the_part_is_named() {
    let line = token().expose_text();
    let names = ["line", "address", "digest of the trust file", "secret"];
    for (at, typed) in line.char_indices() {
        let mut wrong = line.to_string();
        wrong.replace_range(at..=at, if typed == 'x' { "y" } else { "x" });
        let error = Token::parse(&wrong).unwrap_err();
        let part = line[..at].matches('.').count();
        let FormatError::Field { field, found, .. } = error else { panic!("{error}") };
        assert!(field == names[part] || typed == '.', "place {at}: {field}");
        assert!(!found.contains(&wrong[at..]), "place {at}: {found}");
    }
    for cut in 0..line.len() {
        assert!(Token::parse(&line[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn an_address_without_a_port_makes_no_token() {
    for address in ["backup.example", ":7420", "backup.example:0", "backup.example:99999", "a b:1", "", "a:01"] {
        assert!(Token::generate(address, Digest::of(b""), 1).is_err(), "{address}");
    }
    assert!(Token::generate("[2001:db8::1]:7420", Digest::of(b""), 1).is_ok());
}

#[test]
fn inv_50_the_half_that_is_sent_opens_nothing() {
    let (auth, wrap) = (token().auth(), token().wrap());
    assert_ne!(auth.expose(), &wrap.0);
    let wrapped = WrappedSecret::seal(&wrap, 12, Scope::new(1), true, &secret()).unwrap();
    assert_eq!(wrapped.open(&wrap, 12), Ok(secret()));
    assert!(wrapped.open(&TokenWrap(*auth.expose()), 12).is_err());
}

#[test]
fn inv_13_a_wrapped_secret_opens_only_for_its_token_its_scope_and_its_rank() {
    let wrap = token().wrap();
    let wrapped = WrappedSecret::seal(&wrap, 12, Scope::new(1), true, &secret()).unwrap();
    assert!(wrapped.open(&wrap, 13).is_err());
    assert!(WrappedSecret { scope: Scope::new(2), ..wrapped.clone() }.open(&wrap, 12).is_err());
    assert!(WrappedSecret { first: false, ..wrapped.clone() }.open(&wrap, 12).is_err());
    assert!(WrappedSecret { secret_hash: Digest::of(b"other"), ..wrapped.clone() }.open(&wrap, 12).is_err());
    for length in 0..wrapped.wrapped.len() {
        let cut = wrapped.wrapped[..length].to_vec();
        assert!(WrappedSecret { wrapped: cut, ..wrapped.clone() }.open(&wrap, 12).is_err());
    }
}

#[test]
fn inv_50_a_record_admits_its_own_half_and_checks_the_keys_of_its_own_hosts() {
    let restore = Identity::generate();
    let scopes = [(Scope::new(1), true, secret())];
    let record = TokenRecord::make(&token(), terms(), &scopes, &[restore.recipient()]).unwrap();
    assert!(record.admits(&token().auth()));
    assert!(!record.admits(&TokenAuth::from_bytes([0; 32])));
    assert_eq!(record.secrets[0].open(&token().wrap(), 12), Ok(secret()));

    let (signing, other) = (SigningKey::from_seed(&[1; 32]).verifying_key(), SigningKey::from_seed(&[2; 32]));
    let box_recipient = Identity::generate().recipient();
    let keys = HostKeys { host_name: "web-1", signing_key: &signing, box_recipient: &box_recipient, csr_der: b"csr" };
    let mac = token().wrap().mac_key().mac(&keys);
    let mac_key = record.open_mac_key(&restore).unwrap();
    assert!(mac_key.check(&keys, &mac).is_ok());
    let forged = [
        HostKeys { host_name: "web-2", ..keys },
        HostKeys { signing_key: &other.verifying_key(), ..keys },
        HostKeys { box_recipient: &restore.recipient(), ..keys },
        HostKeys { csr_der: b"csR", ..keys },
    ]
    .map(|forged| mac_key.check(&forged, &mac).is_err());
    assert_eq!(forged, [true; 4]);
    assert!(record.open_mac_key(&Identity::generate()).is_err());
    assert!(TokenRecord { number: 13, ..record }.open_mac_key(&restore).is_err());
}

#[test]
fn inv_40_no_half_of_a_token_prints_itself() {
    let printed = format!("{:?} {:?} {:?} {:?}", token(), token().auth(), token().wrap(), token().wrap().mac_key());
    assert_eq!(printed, "Token 12 for backup.example:7420 TokenAuth(…) TokenWrap(…) MacKey(…)");
}

proptest! {
    #[test]
    fn any_token_reads_back(number: u64, secret: [u8; 16], digest: [u8; 32], port in 1_u16..) {
        let address = format!("h:{port}");
        let token = Token { address, trust_file: Digest::from_bytes(digest), number, secret };
        prop_assert_eq!(Token::parse(&token.expose_text()), Ok(token));
    }

    #[test]
    fn inv_09_no_text_makes_the_reader_panic(text: String) {
        let _ = Token::parse(&text);
        let _ = Token::parse(&format!("lifeboat-1.{text}.{text}.{text}"));
    }
}
