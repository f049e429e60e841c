//! How readers say in JSON what they found, so that what they found can be compared.
//!
//! Path, kind, mode, uid, gid, mtime and a file's length and hash are always there; what is empty or 0 is left out.

use lifeboat_format::tree::{Attributes, Completeness, Device, Time};
use serde_json::{Value, json};

/// Bytes as text: those beside printable ASCII, and %, as %XX.
pub fn quoted(bytes: &[u8]) -> String {
    let quote = |byte: &u8| match byte {
        b' '..=b'~' if *byte != b'%' => char::from(*byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    bytes.iter().map(quote).collect()
}

/// An entry with attributes; `kind` says what it is.
pub fn entry(path: &[u8], attributes: &Attributes, mut kind: Value) -> Value {
    kind["path"] = quoted(path).into();
    put_attributes(&mut kind, attributes);
    kind
}

/// An entry that is one more name.
pub fn hard_link(path: &[u8], to: &[u8]) -> Value {
    json!({ "path": quoted(path), "kind": "hard-link", "to": quoted(to) })
}

/// A kind that has nothing more to say.
pub fn of_kind(kind: &str) -> Value {
    json!({ "kind": kind })
}

/// A directory, with the reasons why it is not complete.
pub fn directory(completeness: Completeness) -> Value {
    let reasons = [
        (Completeness::ANCESTOR, "ancestor"),
        (Completeness::OTHER_FILE_SYSTEM, "other-file-system"),
        (Completeness::EXCLUDED, "excluded"),
        (Completeness::CACHE, "cache"),
        (Completeness::UNREADABLE, "unreadable"),
    ];
    let named: Vec<_> = reasons.iter().filter(|(bit, _)| completeness.contains(*bit)).map(|(_, name)| *name).collect();
    let mut fields = of_kind("directory");
    if !named.is_empty() {
        fields["incomplete"] = json!(named);
    }
    fields
}

/// A symbolic link.
pub fn symlink(target: &[u8]) -> Value {
    json!({ "kind": "symlink", "target": quoted(target) })
}

/// A device.
pub fn device(kind: &str, device: &Device) -> Value {
    json!({ "kind": kind, "device": [device.major, device.minor] })
}

fn put_attributes(fields: &mut Value, attributes: &Attributes) {
    let Attributes { mode, uid, gid, owner, group, mtime, btime, xattrs, flags } = attributes;
    let time = |time: &Time| json!([time.seconds, time.nanos]);
    fields["mode"] = format!("{mode:04o}").into();
    (fields["uid"], fields["gid"], fields["mtime"]) = (json!(uid), json!(gid), time(mtime));
    for (name, text) in [("owner", owner), ("group", group)].into_iter().filter(|(_, text)| !text.is_empty()) {
        fields[name] = quoted(text).into();
    }
    if *flags != 0 {
        fields["flags"] = json!(flags);
    }
    if let Some(btime) = btime {
        fields["birth_time"] = time(btime);
    }
    for xattr in xattrs {
        fields["xattrs"][quoted(&xattr.name)] = hex(&xattr.value).into();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Collects what JSON says of a file's content: its length, its holes, and the hash of what stands outside of them.
#[derive(Default)]
pub struct ContentJson {
    hasher: blake3::Hasher,
    bytes: u64,
    holes: Vec<(u64, u64)>,
}

impl ContentJson {
    /// Bytes, in order.
    pub fn data(&mut self, data: &[u8]) {
        self.hasher.update(data);
        self.bytes += data.len() as u64;
    }

    /// A hole of so many bytes.
    pub fn hole(&mut self, bytes: u64) {
        match self.holes.last_mut() {
            Some((begin, length)) if *begin + *length == self.bytes => *length += bytes,
            _ => self.holes.push((self.bytes, bytes)),
        }
        self.bytes += bytes;
    }

    /// The file.
    pub fn finish(self) -> Value {
        let hash = self.hasher.finalize().to_hex().to_string();
        let mut fields = json!({ "kind": "file", "bytes": self.bytes, "blake3": hash });
        if !self.holes.is_empty() {
            fields["holes"] = json!(self.holes);
        }
        fields
    }
}
