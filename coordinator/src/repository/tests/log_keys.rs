//! Which log key signs a batch: the first one of the trust file in force, and no former one.

use super::lab::{Lab, act, repository};
use crate::journal::{JournalError, read_batch};
use crate::repository::{FactError, OpenError};
use crate::store::{Body, ObjectName, Store};
use crate::trust;
use lifeboat_format::journal::{Batch, Chain, Event};
use lifeboat_format::sign::SigningKey;
use lifeboat_format::trust::TrustFile;

/// A repository whose second trust file names another log key, and the key before.
fn rotated() -> (Lab, SigningKey) {
    let mut lab = Lab::new();
    let (old, new) = (lab.log_key.clone(), SigningKey::from_seed(&[0x11; 32]));
    let first = trust::read(&lab.objects, 1).unwrap();
    let second = trust::sample(repository(), &[new.verifying_key(), old.verifying_key()], Some(&first)).unwrap();
    second.verify_successor(&first).unwrap();
    let coordinator = lab.open();
    let named = || vec![act(Event::TrustFile { number: 2, digest: second.digest() })];
    let missing = coordinator.record(named());
    assert!(matches!(missing, Err(FactError::Journal(JournalError::Trust(_)))), "no batch names what is not there");
    lab.objects.put(&ObjectName::trust(2), Body::Bytes(second.to_bytes())).unwrap();
    coordinator.record(named()).unwrap();
    let refused = coordinator.record(vec![act(Event::Nothing)]);
    assert!(matches!(refused, Err(FactError::Journal(JournalError::FormerKey { trust_file: 2 }))));
    drop(coordinator);
    lab.log_key = new;
    (lab, old)
}

/// The batch that would come next, signed with this key.
fn next_batch(lab: &Lab, key: &SigningKey) -> Batch {
    let trust_file = |batch: &Batch| -> Option<TrustFile> {
        batch.trust_file().map(|(number, _)| trust::read(&lab.objects, number).unwrap())
    };
    let mut chain = Chain::start(repository(), trust::read(&lab.objects, 1).unwrap().trust().log_key());
    while let Some(batch) = read_batch(&lab.objects, chain.next_number()).unwrap() {
        chain.append(batch.signed_head()).unwrap();
        trust_file(&batch).into_iter().for_each(|file| chain.set_log_key(file.trust().log_key()));
    }
    let mut builder = chain.next_batch(chain.incarnation());
    builder.push(act(Event::Nothing)).unwrap();
    builder.sign(key).unwrap()
}

#[test]
fn inv_52_after_a_rotation_the_new_log_key_continues_the_journal() {
    let (lab, _) = rotated();
    let coordinator = lab.open();
    coordinator.record(vec![act(Event::Nothing)]).unwrap();
    assert_eq!(coordinator.verify(None, &mut |_| {}).unwrap(), []);
    let head = coordinator.head().unwrap();
    drop(coordinator);
    assert!(head.verify(&[lab.log_key.verifying_key()]).is_ok());
    drop(lab.open());
}

#[test]
fn inv_52_a_former_log_key_neither_opens_nor_continues_the_journal() {
    let (mut lab, old) = rotated();
    drop(lab.open());
    let new = std::mem::replace(&mut lab.log_key, old.clone());
    let refused = lab.try_open(lab.store.clone()).unwrap_err();
    assert!(matches!(refused, OpenError::Journal(JournalError::FormerKey { trust_file: 2 })), "{refused}");
    lab.log_key = new;
    let forged = next_batch(&lab, &old);
    let number = forged.signed_head().head().number;
    lab.objects.put(&ObjectName::journal(number), Body::Bytes(forged.to_bytes())).unwrap();
    let refused = lab.try_open(lab.store.clone()).unwrap_err();
    assert!(
        matches!(refused, OpenError::Journal(JournalError::Broken { number: at, .. }) if at == number),
        "{refused}"
    );
}

#[test]
fn inv_52_verify_finds_a_batch_that_a_former_log_key_signed() {
    let (lab, old) = rotated();
    let coordinator = lab.open();
    coordinator.record(vec![act(Event::Nothing)]).unwrap();
    let forged = next_batch(&lab, &old);
    let last = coordinator.head().unwrap().head().number;
    // In the place of the last one, behind the coordinator's back.
    lab.objects.damage(&ObjectName::journal(last), Some(forged.to_bytes().into()));
    let damages = coordinator.verify(None, &mut |_| {}).unwrap();
    assert_eq!(damages.iter().map(|damage| damage.object.clone()).collect::<Vec<_>>(), [ObjectName::journal(last)]);
}
