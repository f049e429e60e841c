//! ACLs and inode flags as archives write them: as text.

use lifeboat_format::tree::Xattr;
use rustix::fs::IFlags;

/// `ACL_EA_VERSION` of Linux's `posix_acl_xattr.h`.
const VERSION: u32 = 2;

/// The ACL that an extended attribute holds (`posix_acl_xattr.h`), as `access` or `default` and in the text of acl(5),
/// with numbers for names; none if it holds none.
pub fn text(xattr: &Xattr) -> Option<(&'static str, String)> {
    let key = match xattr.name.as_slice() {
        b"system.posix_acl_access" => "access",
        b"system.posix_acl_default" => "default",
        _ => return None,
    };
    let (version, entries) = xattr.value.split_at_checked(4)?;
    let (entries, rest) = entries.as_chunks::<8>();
    if version != VERSION.to_le_bytes() || !rest.is_empty() {
        return None;
    }
    let lines = entries.iter().map(|[tag, tag_high, bits, bits_high, id @ ..]| {
        let id = u32::from_le_bytes(*id);
        let (kind, id) = match u16::from_le_bytes([*tag, *tag_high]) {
            0x01 => ("user", None),
            0x02 => ("user", Some(id)),
            0x04 => ("group", None),
            0x08 => ("group", Some(id)),
            0x10 => ("mask", None),
            0x20 => ("other", None),
            _ => return None,
        };
        let bits = u16::from_le_bytes([*bits, *bits_high]);
        let letter = |bit: u16, letter: char| if bits & bit != 0 { letter } else { '-' };
        let id = id.map(|id| id.to_string()).unwrap_or_default();
        Some(format!("{kind}:{id}:{}{}{}", letter(4, 'r'), letter(2, 'w'), letter(1, 'x')))
    });
    Some((key, lines.collect::<Option<Vec<_>>>()?.join(",")))
}

/// The names that libarchive and star give to inode flags, by commas; and the flags that have none.
pub fn flag_names(flags: u32) -> (String, u32) {
    let names = [
        (IFlags::APPEND, "sappnd"),
        (IFlags::COMPRESSED, "compress"),
        (IFlags::DIRSYNC, "dirsync"),
        (IFlags::IMMUTABLE, "schg"),
        (IFlags::JOURNALING, "journal-data"),
        (IFlags::NOATIME, "noatime"),
        (IFlags::NOCOW, "nocow"),
        (IFlags::NODUMP, "nodump"),
        (IFlags::NOTAIL, "notail"),
        (IFlags::SECURE_REMOVAL, "securedeletion"),
        (IFlags::SYNC, "sync"),
        (IFlags::TOPDIR, "topdir"),
        (IFlags::UNRM, "undel"),
    ];
    let named: Vec<_> = names.into_iter().filter(|(flag, _)| flags & flag.bits() != 0).collect();
    let rest = named.iter().fold(flags, |rest, (flag, _)| rest & !flag.bits());
    (named.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(","), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acl_is_written_as_text() {
        let entry =
            |tag: u16, bits: u16, id: u32| [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat();
        let entries = [
            entry(1, 6, u32::MAX),
            entry(2, 4, 1000),
            entry(4, 4, u32::MAX),
            entry(16, 5, u32::MAX),
            entry(32, 0, u32::MAX),
        ];
        let value = [&VERSION.to_le_bytes()[..], &entries.concat()].concat();
        let xattr = |name: &str, value: &[u8]| Xattr { name: name.into(), value: value.to_vec() };
        let told = text(&xattr("system.posix_acl_access", &value)).unwrap();
        assert_eq!(told, ("access", "user::rw-,user:1000:r--,group::r--,mask::r-x,other::---".to_owned()));
        assert_eq!(text(&xattr("system.posix_acl_access", &value[..value.len() - 1])), None);
        assert_eq!(text(&xattr("user.x", &value)), None);
    }

    #[test]
    fn flags_have_names_and_what_has_none_is_left() {
        assert_eq!(flag_names(0x10 | 0x40 | 0x8000_0000), ("schg,nodump".to_owned(), 0x8000_0000));
    }
}
