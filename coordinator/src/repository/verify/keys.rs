//! Key objects and trust files: without them nothing that is stored can be opened, or be believed.
//!
//! Each is checked by its digest or its signatures, and the whole for what must be there: the secret of every scope, the
//! coordinator's own keys, and the chain of trust files up to the one in force. A stray or corrupt object is harmless as
//! long as another one holds the same. What a key object seals is not opened here.

use super::Damage;
use crate::objects::{list_key_objects, parse_key_object, read_key_object};
use crate::repository::Coordinator;
use crate::store::{ObjectKind, ObjectName, StoreError};
use crate::trust;
use lifeboat_format::FormatError;
use lifeboat_format::id::Scope;
use lifeboat_format::secret::KeyKind;
use lifeboat_format::trust::TrustFile;
use std::collections::BTreeSet;

impl Coordinator {
    /// Checks all key objects and trust files. Answers what is wrong, and how many there are.
    pub fn verify_keys(&self) -> (Vec<Damage>, u64) {
        let (mut damages, keys) = self.verify_key_objects();
        let (more, files) = self.verify_trust_files();
        damages.extend(more);
        (damages, keys + files)
    }

    fn verify_key_objects(&self) -> (Vec<Damage>, u64) {
        let store = self.shared.store.as_ref();
        let names = match list_key_objects(store) {
            Ok(names) => names,
            Err(error) => return (vec![not_listed("scope-1", ObjectKind::Key, &error)], 0),
        };
        let (mut scopes, mut has_authority, mut healed, mut bad) = (BTreeSet::new(), false, Vec::new(), Vec::new());
        for name in &names {
            let check = |bytes: &[u8]| parse_key_object(bytes, name, self.repository()).map(drop);
            match self.verify_twice(name.clone(), BTreeSet::new(), check) {
                Some(damage) if !damage.is_harmless => bad.push(damage),
                found => healed.extend(found),
            }
            match read_key_object(store, name, self.repository()).map(|object| object.kind().clone()) {
                Ok(KeyKind::GroupSecret { scope, .. }) => drop(scopes.insert(scope)),
                Ok(KeyKind::Authority { .. }) => has_authority = true,
                Err(_) => {}
            }
        }
        let needed: Vec<Scope> = self.catalog(|catalog| catalog.scopes().map(|(scope, _)| scope).collect());
        let mut missing: Vec<(String, String)> = needed
            .into_iter()
            .filter(|scope| !scopes.contains(scope))
            .map(|scope| {
                let what =
                    format!("no intact key object holds the secret of scope {scope}: its data cannot be restored");
                (format!("scope-{scope}"), what)
            })
            .collect();
        if !has_authority {
            let what =
                "no intact key object holds the coordinator's own keys: a lost coordinator cannot be set up again";
            missing.push(("authority-1".to_owned(), what.to_owned()));
        }
        let is_harmless = missing.is_empty();
        let bad = bad.into_iter().map(|damage| Damage { is_harmless, ..damage });
        let missing =
            missing.into_iter().filter_map(|(name, what)| Some(damage(ObjectName::new(ObjectKind::Key, &name)?, what)));
        (bad.chain(missing).chain(healed).collect(), names.len() as u64)
    }

    /// The chain up to the file that the journal names: each is there, intact, and follows the one before.
    fn verify_trust_files(&self) -> (Vec<Damage>, u64) {
        let Some((last, digest)) = self.catalog(|catalog| catalog.trust_file()) else { return (Vec::new(), 0) };
        let mut damages = Vec::new();
        let mut before: Option<TrustFile> = None;
        for number in 1..=last {
            let object = ObjectName::trust(number);
            let check = |bytes: &[u8]| {
                let file = trust::parse(bytes, number)?;
                before.as_ref().map_or(Ok(()), |before| file.verify_successor(before))?;
                match number != last || file.digest() == digest {
                    true => Ok(()),
                    false => Err(FormatError::Broken {
                        what: "trust file",
                        check: "that it is the one that the journal names",
                    }),
                }
            };
            damages.extend(self.verify_twice(object, BTreeSet::new(), check));
            before = trust::read(self.shared.store.as_ref(), number).ok();
        }
        (damages, last)
    }
}

fn damage(object: ObjectName, what: String) -> Damage {
    Damage { is_harmless: false, ..Damage::new(object, what, BTreeSet::new()) }
}

fn not_listed(name: &str, kind: ObjectKind, error: &StoreError) -> Damage {
    let object = ObjectName::new(kind, name).unwrap_or_else(|| ObjectName::trust(1));
    damage(object, format!("key objects cannot be listed: {error}"))
}
