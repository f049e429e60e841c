//! Key objects and trust files: without them nothing that is stored can be opened, or be believed.
//!
//! Each is checked by its digest or its signatures, and the whole for what must be there: the secret of every scope, the
//! coordinator's own keys, and the chain of trust files up to the one in force. A stray or corrupt object is harmless as
//! long as another one holds the same. What a key object seals is not opened here.

use super::Damage;
use crate::repository::Coordinator;
use crate::store::{ByteRange, ObjectKind, ObjectName, StoreError};
use lifeboat_format::id::Scope;
use lifeboat_format::secret::{KeyKind, KeyObject};
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
        let names = match self.shared.store.list(ObjectKind::Key) {
            Ok(names) => names,
            Err(error) => return (vec![not_listed("scope-1", ObjectKind::Key, &error)], 0),
        };
        let (mut scopes, mut has_authority, mut bad) = (BTreeSet::new(), false, Vec::new());
        for name in &names {
            match self.read_small(name).and_then(|bytes| KeyObject::parse(&bytes).map_err(|error| error.to_string())) {
                Ok(object) if object.repository() != self.repository() => {
                    bad.push((name.clone(), "it belongs to another repository".to_owned()));
                }
                Ok(object) => match object.kind() {
                    KeyKind::GroupSecret { scope, .. } => drop(scopes.insert(*scope)),
                    KeyKind::Authority { .. } => has_authority = true,
                },
                Err(what) => bad.push((name.clone(), what)),
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
        let bad = bad.into_iter().map(|(object, what)| damage(object, what, is_harmless));
        let missing = missing
            .into_iter()
            .filter_map(|(name, what)| Some(damage(ObjectName::new(ObjectKind::Key, &name)?, what, false)));
        (bad.chain(missing).collect(), names.len() as u64)
    }

    /// The chain up to the file that the journal names: each is there, intact, and follows the one before.
    fn verify_trust_files(&self) -> (Vec<Damage>, u64) {
        let Some((last, digest)) = self.catalog(|catalog| catalog.trust_file()) else { return (Vec::new(), 0) };
        let mut damages = Vec::new();
        let mut before: Option<TrustFile> = None;
        for number in 1..=last {
            let object = ObjectName::trust(number);
            let read = self.read_small(&object).and_then(|bytes| {
                let file = TrustFile::parse(&bytes).map_err(|error| error.to_string())?;
                let follows = before.as_ref().map_or(Ok(()), |before| file.verify_successor(before));
                file.verify_intact().and(follows).map_err(|error| error.to_string())?;
                match file.trust().number == number && (number != last || file.digest() == digest) {
                    true => Ok(file),
                    false => Err("it is not the one that the journal names".to_owned()),
                }
            });
            match read {
                Ok(file) => before = Some(file),
                Err(what) => {
                    damages.push(damage(object, what, false));
                    before = None;
                }
            }
        }
        (damages, last)
    }

    fn read_small(&self, object: &ObjectName) -> Result<bytes::Bytes, String> {
        self.shared.store.get(object, ByteRange::Whole).map_err(|error| error.to_string())
    }
}

fn damage(object: ObjectName, what: String, is_harmless: bool) -> Damage {
    Damage { object, what, snapshots: BTreeSet::new(), is_harmless }
}

fn not_listed(name: &str, kind: ObjectKind, error: &StoreError) -> Damage {
    let object = ObjectName::new(kind, name).unwrap_or_else(|| ObjectName::trust(1));
    damage(object, format!("key objects cannot be listed: {error}"), false)
}
