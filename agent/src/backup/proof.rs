//! The proof that two names stand for one file, where inode numbers do not prove it: equal content and attributes. Pure.

use lifeboat_format::codec::Encoder;
use lifeboat_format::tree::{Entry, Leaf, Node};

/// Equal for entries that differ in their path alone.
pub type Proof = [u8; 16];

/// The proof of an entry. `small` is the content of a small file, to which the entry does not refer yet.
pub fn proof(entry: &Entry, small: Option<&[u8]>) -> Proof {
    let nameless = Entry { path: b"file".to_vec(), kind: entry.kind.clone(), attributes: entry.attributes.clone() };
    let (links, plaintext) = Node::Leaf(Leaf { entries: vec![nameless] }).encode();
    let mut encoder = Encoder::new();
    links.iter().for_each(|link| link.encode(&mut encoder));
    encoder.bytes(&plaintext).bytes(small.unwrap_or_default());
    let hash = *blake3::hash(&encoder.finish()).as_bytes();
    std::array::from_fn(|at| hash[at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_format::tree::{Attributes, Body, EntryKind, FileContent, Xattr};

    #[test]
    fn only_the_path_makes_no_difference() {
        let kind = EntryKind::File(FileContent { bytes: 3, body: Body::Empty });
        let entry = |path: &[u8], attributes| Entry { path: path.to_vec(), kind: kind.clone(), attributes };
        let xattr = Xattr { name: b"user.a".to_vec(), value: b"1".to_vec() };
        let named = Attributes { xattrs: vec![xattr], ..Attributes::default() };
        let one = proof(&entry(b"a/b", Attributes::default()), Some(b"abc"));
        assert_eq!(one, proof(&entry(b"c", Attributes::default()), Some(b"abc")));
        assert_ne!(one, proof(&entry(b"a/b", Attributes::default()), Some(b"abd")));
        assert_ne!(one, proof(&entry(b"a/b", Attributes { mode: 1, ..Attributes::default() }), Some(b"abc")));
        assert_ne!(one, proof(&entry(b"a/b", named), Some(b"abc")));
    }
}
