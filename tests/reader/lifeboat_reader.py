#!/usr/bin/env python3
"""A second reader of Lifeboat repositories, written from docs/format.md alone.

It shares no code with Lifeboat: so it shows that the page says enough, and it is a way to the data that outlives the
program. It needs Python 3.11, the packages blake3, cryptography and zstandard, the repository, and a restore or
recovery identity; no index, no vault, no coordinator. It checks everything that can be checked, and never writes to a
repository.

    lifeboat_reader.py REPOSITORY --identity FILE                             list the snapshots
    lifeboat_reader.py REPOSITORY --identity FILE --host web1 --set system    read and check all of the newest one
          … --snapshot 4be1 --list [--json]      list its entries
          … --restore DIR                        restore it into a new or empty directory
          … --compare DIR                        compare this directory with it: every byte, every attribute
          … --path srv/mail                      only this directory or file
          … --without-journal                    use packs, manifests, envelopes and key objects only

FILE is a recovery kit, or holds a line AGE-SECRET-KEY-1… or the 24 words of the kit; with - it is read from standard
input. Without --snapshot, the newest snapshot that is neither suspect nor a checkpoint is used. Data goes to standard
output, messages to standard error. Exit code 0: everything was done; 1: it cannot be read, or is damaged; 2: wrong
usage; 3: something could not be restored, or differs.

It ignores the directory `checkpoints`, which holds nothing that the journal does not.

The sections: fields, sealing with age, trust file, journal, packs, keys, manifests, tree, the repository as a whole;
then what can be done with it: list, restore, compare.
"""

import argparse
import base64
import dataclasses
import difflib
import errno
import fcntl
import functools
import hashlib
import hmac
import json
import mmap
import os
import re
import signal
import stat
import struct
import sys
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes

try:
    import blake3
    import zstandard
    from cryptography.exceptions import InvalidSignature, InvalidTag
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    MISSING = None
except ImportError as error:  # `--help` works without them.
    MISSING = error


class Damaged(Exception):
    """Bytes that are not what docs/format.md says: what is wrong, and where."""


def need(holds, what):
    if not holds:
        raise Damaged(what)


def say(*words):
    print(*words, file=sys.stderr)


def shown(path):
    """A path as text that a terminal may see: bytes beside printable ASCII, and %, as %XX."""
    printable = "".join(chr(byte) for byte in range(0x20, 0x7F) if byte != ord("%"))
    return quote_from_bytes(path, safe=printable)


# ---------------------------------------------------------------------------------------------------------------------
# How fields are written; Structures

TEXT_BYTES_MAX = 4096
LIST_ITEMS_MAX = 1 << 17
BYTES_MAX = 8 << 20


class Fields:
    """Takes fields out of bytes, one after the other. `what` names the structure in errors."""

    def __init__(self, what, data):
        self.what, self.data, self.at = what, memoryview(data), 0

    def raw(self, count):
        need(count <= len(self.data) - self.at, f"{self.what}: ends inside a field")
        self.at += count
        return bytes(self.data[self.at - count : self.at])

    def rest(self):
        return self.raw(len(self.data) - self.at)

    def end(self):
        need(self.at == len(self.data), f"{self.what}: bytes follow after its end")

    def integer(self, layout):
        return struct.unpack("<" + layout, self.raw(struct.calcsize("<" + layout)))[0]

    def u8(self):
        return self.integer("B")

    def u16(self):
        return self.integer("H")

    def u32(self):
        return self.integer("I")

    def u64(self):
        return self.integer("Q")

    def i64(self):
        return self.integer("q")

    def varint(self, limit=(1 << 64) - 1):
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            need(shift < 70, f"{self.what}: a varint of more than 10 bytes")
        need(byte != 0 or shift == 0, f"{self.what}: a varint that is not in its shortest form")
        need(value <= limit, f"{self.what}: {value} where at most {limit} is allowed")
        return value

    def signed(self):
        """A signed varint."""
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def bytes(self, limit=BYTES_MAX):
        return self.raw(self.varint(limit))

    def text(self):
        data = self.bytes(TEXT_BYTES_MAX)
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise Damaged(f"{self.what}: a text that is not UTF-8") from None
        is_control = lambda character: ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0
        need(not any(map(is_control, text)), f"{self.what}: a text with control characters")
        return text

    def bool(self):
        value = self.u8()
        need(value <= 1, f"{self.what}: {value} where 0 or 1 is allowed")
        return value == 1

    def digest(self):
        return self.raw(32)

    def key(self):
        return self.raw(32)

    def signature(self):
        return self.raw(64)

    def optional(self, read):
        return read(self) if self.bool() else None

    def list(self, *reads):
        """A list of single fields, or of tuples of several."""
        items = [tuple(read(self) for read in reads) for _ in range(self.varint(LIST_ITEMS_MAX))]
        return [item[0] for item in items] if len(reads) == 1 else items

    def choice(self, kinds):
        """A choice: its number, and its fields."""
        tag = self.u8()
        need(tag in kinds, f"{self.what}: {tag} is none of the kinds that are known")
        return tag, [read(self) for read in kinds[tag]]

    def begin(self, magic):
        need(self.raw(4) == magic, f"{self.what}: its magic is not {magic.decode()}")
        need(self.u16() == 1, f"{self.what}: a version that is not known")


def choice(kinds):
    return lambda fields: fields.choice(kinds)


def one_of(*tags):
    return lambda fields: fields.choice({tag: [] for tag in tags})[0]


def rising(items, what):
    need(all(a < b for a, b in zip(items, items[1:])), f"{what}: not in rising order")
    return items


def hash_of(*parts):
    return blake3.blake3(b"".join(parts)).digest()


def keyed(key, data):
    return blake3.blake3(data, key=key).digest()


def derive_key(context, material):
    return blake3.blake3(material, derive_key_context=context).digest()


def is_signed(context, message, signature, keys):
    """Whether one of these Ed25519 keys signed it for this purpose."""
    for key in keys:
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, context + message)
            return True
        except InvalidSignature:
            continue
    return False


# ---------------------------------------------------------------------------------------------------------------------
# Envelope: age, version 1, binary (https://age-encryption.org/v1), with X25519 recipients only

BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
ROLE_MANIFEST_KEY, ROLE_GROUP_SECRET = 1, 2


def bech32_bytes(text):
    """The prefix and the bytes of a Bech32 text (BIP 173)."""
    prefix, _, data = text.lower().rpartition("1")
    try:
        values = [BECH32.index(character) for character in data]
    except ValueError:
        raise Damaged("the identity: a character that Bech32 does not have") from None
    checksum = 1
    spread = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    for value in spread + values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            checksum ^= generator if top >> bit & 1 else 0
    need(checksum == 1, "the identity: mistyped, its checksum does not hold")
    bits = "".join(f"{value:05b}" for value in values[:-6])
    return prefix, bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits) - 7, 8))


def unpadded_base64(text):
    return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)


def hkdf(material, salt, info):
    return HKDF(SHA256(), 32, salt, info).derive(material)


class Identity:
    """A restore or recovery identity: opens what was sealed to it."""

    def __init__(self, secret):
        self.secret = secret
        self.key = X25519PrivateKey.from_private_bytes(self.secret)
        self.public = self.key.public_key().public_bytes_raw()

    def recovery_operator(self):
        seed = derive_key("lifeboat 1 recovery operator", self.secret)
        return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()

    def open(self, role, clear, sealed):
        """The secret that was sealed in this role beside these clear bytes; None if it was sealed to others."""
        plaintext = self.open_age(sealed)
        if plaintext is None:
            return None
        fields = Fields("sealed secret", plaintext)
        fields.begin(b"LBSS")
        need(fields.u8() == role and fields.digest() == hash_of(clear), "sealed secret: of another role or place")
        return fields.rest()

    def open_age(self, sealed):
        stanzas, header, mac, payload = age_header(sealed)
        file_keys = filter(None, (self.unwrap(*stanza) for stanza in stanzas))
        file_key = next(file_keys, None)
        if file_key is None:
            return None
        right_mac = hmac.digest(hkdf(file_key, b"", b"header"), header, hashlib.sha256)
        need(hmac.compare_digest(mac, right_mac), "sealed secret: the MAC of the age header does not hold")
        return age_payload(hkdf(file_key, payload[:16], b"payload"), payload[16:])

    def unwrap(self, arguments, body):
        """The file key, if this stanza is for us."""
        if arguments[:1] != [b"X25519"] or len(arguments) != 2 or len(body) != 32:
            return None
        share = unpadded_base64(arguments[1])
        shared = self.key.exchange(X25519PublicKey.from_public_bytes(share))
        wrap_key = hkdf(shared, share + self.public, b"age-encryption.org/v1/X25519")
        try:
            return ChaCha20Poly1305(wrap_key).decrypt(bytes(12), body, None)
        except InvalidTag:
            return None


def age_header(sealed):
    """The stanzas (arguments, body), the bytes under the MAC, the MAC, and the payload."""
    stanza = rb"-> [^\n]*\n(?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{0,63}\n"
    match = re.match(rb"age-encryption\.org/v1\n((?:" + stanza + rb")+)---", sealed)
    need(match, "sealed secret: not an age header")
    line, _, payload = sealed[match.end() :].partition(b"\n")
    stanzas = []
    for stanza in match[1].split(b"-> ")[1:]:
        first, *body = stanza.split(b"\n")
        stanzas.append((first.split(b" "), unpadded_base64(b"".join(body))))
    return stanzas, match[0], unpadded_base64(line.strip()), payload


def age_payload(key, sealed):
    """Pieces of 64 KiB and a tag of 16 bytes, each under its number and whether it is the last."""
    piece = (64 << 10) + 16
    plaintext = b""
    for number, at in enumerate(range(0, max(len(sealed), 1), piece)):
        is_last = at + piece >= len(sealed)
        nonce = number.to_bytes(11, "big") + bytes([is_last])
        try:
            plaintext += ChaCha20Poly1305(key).decrypt(nonce, sealed[at : at + piece], None)
        except InvalidTag:
            raise Damaged("sealed secret: its payload does not authenticate") from None
    return plaintext


def secret_of_identity(text):
    """The 32 bytes behind AGE-SECRET-KEY-1…"""
    prefix, secret = bech32_bytes(text)
    need(prefix == "age-secret-key-" and len(secret) == 32, "the identity: not an age X25519 identity")
    return secret


def secret_of_words(words):
    """The 32 bytes that 24 words stand for (BIP 39): 256 bits, and 8 bits of their SHA-256. Four letters of a word are
    enough."""
    known = WORDS.split()
    by_start = {word[:4]: number for number, word in enumerate(known)}
    bits = ""
    for place, word in enumerate(words, start=1):
        word = word.lower()
        number = by_start.get(word[:4])
        if number is None or not known[number].startswith(word):
            near = difflib.get_close_matches(word, known, 3)
            raise Damaged(f"word {place}, {word!r}, is not in the list" + (f"; near: {', '.join(near)}" if near else ""))
        bits += f"{number:011b}"
    need(len(words) == 24, f"the identity: {len(words)} words, and 24 are needed")
    secret = int(bits[:256], 2).to_bytes(32, "big")
    need(hashlib.sha256(secret).digest()[0] == int(bits[256:], 2), "the words: their checksum is wrong; is the order right?")
    return secret


def words_in(text):
    """The words of a kit, after `words:` and in the lines that follow it without a colon; or a file of nothing else."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    begin = next((at for at, line in enumerate(lines) if re.match(r"words\s*:", line, re.I)), None)
    if begin is None:
        taken = [] if any(":" in line for line in lines) else lines
    else:
        more = lines[begin + 1 :]
        until = next((at for at, line in enumerate(more) if ":" in line), len(more))
        taken = [lines[begin].partition(":")[2], *more[:until]]
    words = [re.sub(r"^\d+[.)]?", "", word) for line in taken for word in line.split()]
    return [word for word in words if word]


def read_identity(path):
    """The identity in a file, and the digest of the trust file if it is a recovery kit."""
    text = sys.stdin.read() if path == "-" else Path(path).read_text()
    identity = re.search(r"^\s*(?:identity\s*:\s*)?(AGE-SECRET-KEY-1[0-9A-Z]+)\s*$", text, re.M | re.I)
    words = [] if identity and not re.search(r"^\s*words\s*:", text, re.M | re.I) else words_in(text)
    need(identity or words, f"{path}: holds neither a line AGE-SECRET-KEY-1… nor the 24 words of a recovery kit")
    secrets = [secret_of_identity(identity[1])] if identity else []
    secrets += [secret_of_words(words)] if words else []
    need(len(set(secrets)) == 1, f"{path}: its identity and its words are not the same one")
    trust = re.search(r"^\s*trust file\s*:\s*([0-9a-f]{64})\s*$", text, re.M | re.I)
    return Identity(secrets[0]), bytes.fromhex(trust[1]) if trust else None


# ---------------------------------------------------------------------------------------------------------------------
# Trust file


@dataclass
class Trust:
    """A trust file that was read; whether it is to be believed, `believe` says."""

    repository: bytes
    number: int
    previous: bytes | None
    operators: list
    quorum: int
    recovery_operator: bytes
    log_keys: list
    secret_hashes: list  # of (scope, group, first, hash)
    body: bytes
    signatures: list

    @staticmethod
    def parse(data):
        fields = Fields("trust file", data)
        fields.begin(b"LBTF")
        repository, number = fields.raw(16), fields.u64()
        previous = fields.optional(Fields.digest)
        certificates = fields.list(Fields.bytes)
        restore, recovery = fields.list(Fields.text), fields.list(Fields.text)
        operators, quorum = rising(fields.list(Fields.key), "operators"), fields.u16()
        recovery_operator, log_keys = fields.key(), fields.list(Fields.key)
        scopes = fields.list(Fields.u32, Fields.text, Fields.bool, Fields.digest)
        fields.list(Fields.text), fields.u16(), fields.u16()  # Addresses, and what agents write.
        fields.bytes()  # For later versions.
        body = bytes(data[: fields.at])
        signatures = rising(fields.list(Fields.key, Fields.signature), "signatures")
        fields.end()
        need((number == 1) == (previous is None) and number > 0, "trust file: number and digest before do not agree")
        need(certificates and restore and recovery and log_keys, "trust file: an empty list of keys")
        need(1 <= quorum <= len(operators), "trust file: its quorum is not 1 to the number of operators")
        rising([scope for scope, *_ in scopes], "scopes")
        return Trust(
            repository, number, previous, operators, quorum, recovery_operator, log_keys, scopes, body, signatures
        )

    @property
    def digest(self):
        return hash_of(self.body)

    def is_signed_under(self, judge):
        signed = {key for key, sign in self.signatures if is_signed(b"lifeboat 1 trust file", self.body, sign, [key])}
        return len(signed & set(judge.operators)) >= judge.quorum or judge.recovery_operator in signed


def believe(files, digest):
    """The last trust file of the chain. A kit names the digest of one of them; else the first is taken on faith."""
    need(files, "there is no trust file; --without-journal reads without one, and proves less")
    start = 0
    if digest is not None:
        named = [at for at, trust in enumerate(files) if trust.digest == digest]
        need(named, "no trust file is the one that the recovery kit names")
        start = named[0]
    for old, new in zip(files[:start], files[1 : start + 1]):
        need(new.previous == old.digest, f"trust file {old.number}: not the one that the next one names")
    need(files[start].is_signed_under(files[start]), f"trust file {start + 1}: not signed by its own operators")
    for old, new in zip(files[start:], files[start + 1 :]):
        what = f"trust file {new.number}"
        need(new.number == old.number + 1 and new.previous == old.digest, f"{what}: does not follow the one before")
        need(new.repository == old.repository, f"{what}: of another repository")
        need(set(old.log_keys) <= set(new.log_keys), f"{what}: a log key is gone")
        need(all(scope in new.secret_hashes for scope in old.secret_hashes), f"{what}: a scope is gone")
        need(new.is_signed_under(old), f"{what}: not signed by the operators of the one before")
    return files[-1]


# ---------------------------------------------------------------------------------------------------------------------
# Journal

U32, U64, I64, TEXT, BOOL, DIGEST, KEY = (
    Fields.u32, Fields.u64, Fields.i64, Fields.text, Fields.bool, Fields.digest, Fields.key,
)  # fmt: skip
OUTCOMES = {1: "complete", 2: "complete with gaps", 3: "checkpoint"}
OUTCOME = one_of(*OUTCOMES)


def list_of(*reads):
    return lambda fields: fields.list(*reads)


def read_root(fields):
    """Id, height and scope of a root node."""
    root = fields.digest(), fields.u8(), fields.u32()
    need(1 <= root[1] <= 16, f"{fields.what}: a root of height {root[1]}")
    return root


def read_token(fields):
    return [read(fields) for read in (U64, DIGEST, TEXT, TEXT, TEXT, I64, U32)] + [
        fields.list(U32, BOOL, Fields.bytes, DIGEST),
        fields.bytes(),
        fields.bytes(),
    ]


RECORDS = list_of(choice({1: [DIGEST], 2: [DIGEST]}))
EVENTS = {
    0: [],
    1: [one_of(1, 2), DIGEST],
    2: [U64],
    3: [U64, DIGEST],
    4: [U32, TEXT, BOOL],
    5: [read_token],
    6: [U32, TEXT, TEXT, TEXT, KEY, TEXT, DIGEST, U64],
    7: [U32, one_of(1, 2, 3)],
    8: [U32, DIGEST, I64],
    9: [list_of(DIGEST, one_of(1, 2, 3))],
    10: [DIGEST, list_of(U32)],
    11: [DIGEST],
    12: [DIGEST, RECORDS],
    13: [DIGEST, U32, TEXT, U64, read_root, OUTCOME, lambda fields: fields.optional(TEXT)],
    14: [U64, one_of(1, 2, 3)],
    15: [U64],
    16: [U64, BOOL],
    17: [U64, I64],
    18: [U64],
    19: [U64],
    20: [U64],
    21: [U64, list_of(U64, DIGEST), choice({1: [U32], 2: []}), I64],
    22: [U64],
    23: [U64],
    24: [TEXT, U32, TEXT],
    25: [TEXT, U32, TEXT, choice({1: [OUTCOME], 2: [], 3: []}), TEXT],
    26: [DIGEST, RECORDS],
    27: [RECORDS],
    28: [U64, BOOL, TEXT],
    29: [I64],
    30: [U64, Fields.bytes],
    31: [TEXT, U64, Fields.bytes],
    32: [U64, DIGEST],
    33: [U64, TEXT],
    34: [U32, U64, DIGEST],
    35: [U64, DIGEST],
    36: [U64, U32],
}
OPTIONAL_EVENTS = {0, 8, 22, 23, 24, 25, 26, 27, 28, 29, 32, 33}
NECESSARY = 0x80  # In an event's kind: a reader that does not know it must not go on.


def read_event(fields):
    """An event's kind and fields; no fields if it is one that may be passed over."""
    kind, body = fields.u8(), Fields(fields.what, fields.bytes())
    number = kind & ~NECESSARY
    if number not in EVENTS:
        need(kind == number, f"{fields.what}: an event of kind {number}, which is not known and must be")
        return number, None
    need((kind == number) == (number in OPTIONAL_EVENTS), f"{fields.what}: the kind of an event")
    values = [read(body) for read in EVENTS[number]]
    body.end()
    return number, values


PRINCIPALS = {1: [], 2: [DIGEST], 3: [U32], 4: [], 5: [U64]}
DECISIONS = {1: [], 2: [TEXT]}
HEAD_BYTES, SIGNATURE_BYTES = 118, 64


class Journal:
    """The whole chain, checked; from it the hosts' keys, and which snapshots there are.

    Batches are signed by the first log key of the trust file in force: the first one, and then, from the batch after
    the event on, the one that an event names. `trust_files` are all, by number."""

    def __init__(self, batches, trust_files):
        self.hosts = {}  # number: (name, signing key), as of its last enrolment
        self.keys = {}  # host number: [(sequence of its enrolment, signing key)], rising
        self.snapshots = {}  # snapshot number: snapshot id
        self.committed = {}  # snapshot id: when, in nanoseconds since 1970
        self.suspects = {}  # snapshot id: why it is suspect
        self.head, self.incarnation, self.next_sequence = bytes(32), 0, 1
        self.trust_files, self.in_force = {trust.number: trust for trust in trust_files}, trust_files[0]
        for number, data in enumerate(batches, start=1):
            self.take_batch(number, data, self.in_force)

    def take_batch(self, number, data, trust):
        what = f"journal batch {number}"
        head, records, signature = data[:HEAD_BYTES], data[HEAD_BYTES:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]
        fields = Fields(what, head)
        fields.begin(b"LBJH")
        need(fields.raw(16) == trust.repository, f"{what}: of another repository")
        need(fields.u64() == number, f"{what}: has another number")
        incarnation = fields.u64()
        need(incarnation >= self.incarnation, f"{what}: its incarnation falls")
        need(fields.digest() == self.head, f"{what}: does not follow the batch before")
        need(fields.u64() == self.next_sequence, f"{what}: its sequences do not go on")
        count, length = fields.u32(), fields.u32()
        need(count > 0 and length == len(records), f"{what}: more or fewer records than its head says")
        need(fields.digest() == hash_of(records), f"{what}: the digest of its records does not hold")
        need(is_signed(b"lifeboat 1 journal head", head, signature, trust.log_keys[:1]), f"{what}: its signature")
        fields = Fields(what, records)
        for sequence in range(self.next_sequence, self.next_sequence + count):
            need(fields.u64() == sequence, f"{what}: a record with another sequence")
            time = fields.i64()
            fields.choice(PRINCIPALS), fields.text(), fields.text(), fields.choice(DECISIONS)
            self.take_event(sequence, time, *read_event(fields))
        fields.end()
        self.head, self.incarnation, self.next_sequence = hash_of(head), incarnation, self.next_sequence + count

    def take_event(self, sequence, time, kind, values):
        if kind == 3:
            self.in_force = self.trust_files.get(values[0])
            need(self.in_force and self.in_force.digest == values[1], f"trust file {values[0]}: not the journal's")
        elif kind == 6:
            self.hosts[values[0]] = values[1], values[4]
            self.keys.setdefault(values[0], []).append((sequence, values[4]))
        elif kind == 13:
            self.snapshots[sequence], self.committed[values[0]] = values[0], time
            if values[6] is not None:
                self.suspects[values[0]] = values[6]
        elif kind == 15:
            self.suspects.pop(self.snapshots.get(values[0]), None)
        elif kind == 14 and values[1] == 3:
            self.snapshots.pop(values[0], None)


# ---------------------------------------------------------------------------------------------------------------------
# Pack

PACK_HEADER = bytes.fromhex("894c42500d0a1a0a") + struct.pack("<H6x", 1)
FOOTER_RECORD = struct.Struct("<32s32sQIIIHBBHBB")
LENGTH = struct.Struct("<I")
TRAILER = struct.Struct("<Q32s64s")
CHUNK, NODE = 1, 2


class Packs:
    """Where each chunk and each node lies. Every pack is checked whole: trailer, footer, the digest of each record. One
    that is bad, and a record that is bad, are named; what they hold may lie in another pack too."""

    def __init__(self, paths, log_keys):
        self.places = {}  # (kind, id): [bytes of the record]
        for path in paths:
            with open(path, "rb") as file:
                is_empty = os.fstat(file.fileno()).st_size == 0
                data = memoryview(b"" if is_empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            try:
                self.take(f"pack {path.name}", path.name, data, log_keys)
            except Damaged as fault:
                say(f"note: {fault}; the rest of this pack is not used")

    def take(self, what, name, data, log_keys):
        need(len(data) >= len(PACK_HEADER) + TRAILER.size, f"{what}: too short")
        need(data[: len(PACK_HEADER)] == PACK_HEADER, f"{what}: not a pack of version 1")
        count, pack_id, signature = TRAILER.unpack(data[-TRAILER.size :])
        need(count <= 1 << 20, f"{what}: more records than a pack may have")
        start = len(data) - TRAILER.size - count * FOOTER_RECORD.size
        need(start >= len(PACK_HEADER), f"{what}: more records than it has room for")
        footer = data[start : -TRAILER.size]
        need(hash_of(PACK_HEADER, footer, struct.pack("<Q", count)) == pack_id, f"{what}: hash of the footer")
        need(pack_id.hex() == name, f"{what}: holds another pack")
        if log_keys is not None:
            need(is_signed(b"lifeboat 1 pack", pack_id, signature, log_keys), f"{what}: its signature")
        end = len(PACK_HEADER)
        for fields in FOOTER_RECORD.iter_unpack(footer):
            record_id, digest, offset, length, _host, _scope, _encoder, kind, height, *made = fields
            end += LENGTH.size
            need(offset == end and length > 0, f"{what}: a gap or an overlap at {end}")
            end += length
            need(end <= start, f"{what}: a record reaches into the footer")
            need(made == [1, 1, 0], f"{what}: the version or the cipher of a record is not known")
            need(LENGTH.unpack(data[offset - LENGTH.size : offset]) == (length,), f"{what}: the length before {offset}")
            need(kind == CHUNK and height == 0 or kind == NODE and 1 <= height <= 16, f"{what}: kind or height")
            need(kind == CHUNK or record_id == digest, f"{what}: a node whose digest is not its id")
            record = data[offset:end]
            if hash_of(record) == digest:
                self.places.setdefault((kind, record_id), []).append(record)
            else:
                say(f"note: {what}: the record at {offset} does not match its digest")
        need(end == start, f"{what}: the records do not end at the footer")


# ---------------------------------------------------------------------------------------------------------------------
# Keys, sealing

CHUNK_BYTES_MAX, NODE_BYTES_MAX, LINKS_MAX = 768 << 10, 8 << 20, 65_536
LINK_BYTES = 37


class ScopeKeys:
    """What opens the data of one scope, given content hashes."""

    def __init__(self, secret):
        self.hash, self.enc = derive_key("lifeboat 1 hash", secret), derive_key("lifeboat 1 enc", secret)

    def open(self, kind, scope, content_hash, links, sealed):
        """The plaintext of a chunk or node; checked against its content hash."""
        limit = CHUNK_BYTES_MAX if kind == CHUNK else NODE_BYTES_MAX
        need(37 <= len(sealed) <= 37 + limit + limit // 8, "a sealed record: its length")
        associated = struct.pack("<HBIB", 1, kind, scope, 1) + links
        try:
            frame = AESGCM(keyed(self.enc, content_hash)).decrypt(sealed[:12], sealed[12:], associated)
        except InvalidTag:
            raise Damaged("a sealed record does not authenticate") from None
        plaintext = unpack_frame(frame, limit)
        need(keyed(self.hash, plaintext) == content_hash, "a sealed record holds other content than was asked for")
        return plaintext


def unpack_frame(frame, limit):
    fields = Fields("frame", frame)
    codec, plain_length, packed_length = fields.u8(), fields.u32(), fields.u32()
    packed = fields.raw(packed_length)
    need(plain_length <= limit, f"frame: a plain length of {plain_length}")
    need(not any(fields.rest()), "frame: padding that is not zero")
    if codec == 0:
        need(packed_length == plain_length, "frame: two lengths of raw content")
        return packed
    need(codec == 1 and packed_length < plain_length, "frame: a codec that is not known, or its lengths")
    decompressor, plaintext = zstandard.ZstdDecompressor().decompressobj(), b""
    for at in range(0, packed_length, 4096):  # In pieces, so that a bomb ends soon after its stated length.
        plaintext += decompressor.decompress(packed[at : at + 4096])
        need(len(plaintext) <= plain_length, "frame: more content than it states")
        need(not decompressor.eof or at + 4096 >= packed_length, "frame: bytes behind the compressed ones")
    need(decompressor.eof and not decompressor.unused_data, "frame: not one whole zstd frame")
    need(len(plaintext) == plain_length, "frame: less content than it states")
    return plaintext


# ---------------------------------------------------------------------------------------------------------------------
# Manifest


@dataclass
class Manifest:
    """The signed head of a snapshot."""

    id: bytes
    repository: bytes
    host: int
    source_set: str
    sequence: int
    previous: bytes | None
    root: tuple
    started: int
    outcome: int
    counts: tuple  # entries, files, bytes of content, bytes read, bytes sent, gaps
    data: bytes
    clear_bytes: int
    sealed: bytes

    @staticmethod
    def parse(data, name):
        fields = Fields(f"manifest {name}", data)
        need(len(data) <= 6 << 20, f"{fields.what}: too long")
        need(hash_of(data).hex() == name, f"{fields.what}: is another one")
        fields.begin(b"LBMF")
        repository, host, source_set, sequence = fields.raw(16), fields.u32(), fields.text(), fields.u64()
        previous, root = fields.optional(Fields.digest), read_root(fields)
        started, _ended, outcome = fields.i64(), fields.i64(), OUTCOME(fields)
        counts = tuple(fields.u64() for _ in range(6))
        fields.text(), fields.u16()  # Agent version, encoder.
        parts = fields.list(Fields.u64, Fields.u64, Fields.u64, Fields.u64)
        need(len(rising([part for part, *_ in parts], f"{fields.what}: parts")) <= 4096, f"{fields.what}: parts")
        fields.bytes()  # For later versions.
        clear_bytes, sealed = fields.at, fields.bytes()
        fields.signature()
        fields.end()
        need(host > 0 and re.fullmatch("[a-z0-9_-]{1,64}", source_set), f"{fields.what}: host or source set")
        need(sequence > 0 and (sequence == 1) == (previous is None), f"{fields.what}: sequence and previous")
        need(outcome != 1 or counts[5] == 0, f"{fields.what}: complete, with gaps")
        return Manifest(
            hash_of(data), repository, host, source_set, sequence, previous, root, started, outcome, counts,
            data, clear_bytes, sealed,
        )  # fmt: skip

    def open(self, key):
        """The root's content hash, the scopes of the tree, the source paths, and the gaps: (path, reason)."""
        try:
            plaintext = AESGCM(key).decrypt(bytes(12), self.sealed, self.data[: self.clear_bytes])
        except InvalidTag:
            raise Damaged(f"manifest {self.id.hex()}: its sealed part does not authenticate") from None
        fields = Fields("manifest's sealed part", plaintext)
        content_hash, scopes = fields.digest(), rising(fields.list(Fields.u32), "scopes of the manifest")
        sources = [check_path(path) for path in fields.list(Fields.bytes)]
        rising([order(path) for path in sources], "source paths of the manifest")
        gaps = fields.list(Fields.bytes, Fields.text)
        fields.bytes()  # For later versions.
        fields.end()
        return content_hash, scopes, sources, gaps


# ---------------------------------------------------------------------------------------------------------------------
# Tree

KINDS = "directory file file file file symlink pipe socket character-device block-device hard-link directory".split()
DIRECTORY, EMPTY, BUNDLED, EXTENTS, LIST, SYMLINK, PIPE, SOCKET, CHARACTER, BLOCK, HARD_LINK, INCOMPLETE = range(12)
HAS_BIRTH_TIME, SAME_OWNER, HAS_XATTRS, HAS_FURTHER_FIELD = 0x10, 0x20, 0x40, 0x80
REASONS = "ancestor other-file-system excluded cache unreadable".split()  # Why a directory is not complete, by bit.
LEAF_NODE, INNER_NODE, EXTENTS_NODE, LISTS_NODE = 1, 2, 3, 4
WEIGHT_MAX = 256 << 10
DATA, ZEROS, HOLE = "data", "zeros", "hole"


@dataclass(frozen=True)
class Link:
    """A link of a node with its secret half. Height 0 is a chunk."""

    height: int
    scope: int
    id: bytes
    content_hash: bytes
    length: int


@dataclass
class Attributes:
    mode: int = 0
    uid: int = 0
    gid: int = 0
    owner: bytes = b""
    group: bytes = b""
    flags: int = 0
    mtime: tuple = (0, 0)  # Seconds, rounded down, and nanoseconds.
    birth_time: tuple | None = None
    xattrs: dict = field(default_factory=dict)

    def owner_and_flags(self):
        return {name: getattr(self, name) for name in ("uid", "gid", "owner", "group", "flags")}


@dataclass
class Entry:
    path: bytes
    kind: int
    attributes: Attributes
    length: int = 0  # Of a file.
    extents: list = field(default_factory=list)  # Of kind 3: (DATA, link), (ZEROS, bytes), (HOLE, bytes).
    link: Link | None = None  # The bundle, or the root of the list.
    offset: int = 0  # In the bundle.
    hash: bytes = b""  # Of a bundled file.
    target: bytes = b""  # Of a symbolic link; the path that a hard link leads to.
    device: tuple = (0, 0)
    incomplete: int = 0  # Bits of REASONS: why the children of a directory are not all there.

    def weight(self):
        a = self.attributes
        xattrs = sum(8 + len(name) + len(value) for name, value in a.xattrs.items())
        return 64 + len(self.path) + len(self.target) + len(a.owner) + len(a.group) + xattrs


def order(path):
    """A key by which paths sort as in a tree."""
    return path.replace(b"/", b"\0")


def is_within(path, directory):
    return not directory or path == directory or path.startswith(directory + b"/")


def check_path(path):
    names = path.split(b"/") if path else []
    good = len(path) <= 3 << 20 and b"\0" not in path
    need(good and all(0 < len(name) <= 1024 and name not in (b".", b"..") for name in names), f"path {shown(path)}")
    return path


class Node:
    """An opened node: its links, then by kind its entries, children (last path, totals, link), extents or lists."""

    def __init__(self, links, plaintext):
        fields = Fields("node", plaintext)
        self.kind = fields.u8()
        need(LEAF_NODE <= self.kind <= LISTS_NODE and fields.u8() == 1, "node: a kind or version that is not known")
        hashes = [fields.digest() for _ in links]
        lengths = [fields.varint(CHUNK_BYTES_MAX) if height == 0 else 0 for height, _, _ in links]
        self.links = [Link(*link, content, length) for link, content, length in zip(links, hashes, lengths)]
        self.named = 0
        read = [self.read_leaf, self.read_inner, self.read_extents, self.read_lists][self.kind - 1]
        self.members = read(fields)
        fields.end()
        need(self.named == len(self.links), "node: a link that nothing names")

    def height(self):
        """As its content says: of a leaf only lists count, since chunks have height 0."""
        return 1 + max((link.height for link in self.links), default=0)

    def take_link(self, code, is_chunk):
        need(code <= self.named and (code or self.named < len(self.links)), "node: a code without a link")
        link = self.links[self.named - code]
        self.named += code == 0
        need((link.height == 0) == is_chunk, "node: a chunk where a node should be, or the other way round")
        return link

    def read_leaf(self, fields):
        count = fields.varint(256)
        leaf = LeafReader(self, [Fields("leaf", fields.bytes()) for _ in range(9)])
        entries = [leaf.entry() for _ in range(count)]
        for column in leaf.columns:
            column.end()
        need(len(entries) <= 1 or sum(entry.weight() for entry in entries) <= WEIGHT_MAX, "leaf: too heavy")
        return entries

    def read_inner(self, fields):
        children, path = [], b""
        for _ in range(fields.varint(256)):
            path = check_path(path[: fields.varint(len(path))] + fields.bytes(3 << 20))
            totals = fields.varint(), fields.varint(), fields.varint()
            need(totals[0] > 0, "inner node: a child without entries")
            children.append((path, totals, self.take_link(fields.varint(), False)))
        need(children, "inner node: without children")
        need(len(children) <= 2 or sum(len(path) for path, *_ in children) <= WEIGHT_MAX, "inner node: too heavy")
        return children

    def read_extents(self, fields, most=1024):
        extents = []
        for _ in range(fields.varint(most)):
            code = fields.varint()
            if code >= 2:
                link = self.take_link(code - 2, True)
                extents.append((DATA, link))
                need(link.length > 0, "extents: an empty chunk")
            else:
                extents.append((HOLE if code else ZEROS, fields.varint()))
                need(extents[-1][1] > 0, "extents: one of no length")
        need(extents, "extents: none")
        return extents

    def read_lists(self, fields):
        lists = [(self.take_link(fields.varint(), False), fields.varint()) for _ in range(fields.varint(1024))]
        need(lists and all(length > 0 for _, length in lists), "lists: none, or one of no length")
        return lists


class LeafReader:
    """Reads the nine columns of a leaf side by side."""

    def __init__(self, node, columns):
        self.node, self.columns = node, columns
        self.tags, self.lengths, self.texts, self.modes, self.owners = columns[:5]
        self.seconds, self.nanos, self.contents, self.hashes = columns[5:]
        self.path, self.before, self.ends = b"", Attributes(), {}

    def entry(self):
        tag = self.tags.u8()
        kind, tag, further = tag & 0x0F, tag & ~HAS_FURTHER_FIELD, tag & HAS_FURTHER_FIELD
        need(kind < len(KINDS) and (kind != HARD_LINK or tag == kind), f"leaf: a tag of {tag}")
        entry = Entry(self.front_coded(self.path), kind, Attributes())
        self.path = check_path(entry.path)
        self.read_content(entry)
        if kind != HARD_LINK:
            self.before = entry.attributes = self.attributes(tag)
        if further:
            self.text(64 << 10)  # For later versions.
        if kind == INCOMPLETE:
            entry.kind = DIRECTORY
        return entry

    def front_coded(self, before):
        return before[: self.lengths.varint(len(before))] + self.text(3 << 20)

    def text(self, limit):
        return self.texts.raw(self.lengths.varint(limit))

    def read_content(self, entry):
        contents = self.contents
        if entry.kind == SYMLINK:
            entry.target = self.text(4096)
            need(entry.target and b"\0" not in entry.target, "leaf: the target of a symbolic link")
        elif entry.kind == HARD_LINK:
            entry.target = check_path(self.front_coded(entry.path))
            need(order(entry.target) < order(entry.path), "leaf: a hard link to a later path")
        elif entry.kind == INCOMPLETE:
            entry.incomplete = contents.varint(0xFF)
            need(entry.incomplete, "leaf: a directory that is not complete for no reason")
        elif entry.kind in (CHARACTER, BLOCK):
            entry.device = contents.varint(0xFFFFFFFF), contents.varint(0xFFFFFFFF)
        elif entry.kind == BUNDLED:
            entry.length, entry.link = contents.varint(), self.node.take_link(contents.varint(), True)
            entry.offset = self.ends.get(entry.link.id, 0) + contents.signed()
            self.ends[entry.link.id] = entry.offset + entry.length
            entry.hash = self.hashes.raw(16)
            need(0 <= entry.offset < entry.offset + entry.length <= entry.link.length, "leaf: a range of a bundle")
        elif entry.kind == EXTENTS:
            entry.extents = self.node.read_extents(contents, 32)
            entry.length = sum(extent_bytes(extent) for extent in entry.extents)
        elif entry.kind == LIST:
            entry.length, entry.link = contents.varint(), self.node.take_link(contents.varint(), False)
        need(entry.length < 1 << 63, "leaf: the length of a file")

    def attributes(self, tag):
        a = Attributes(mode=self.modes.varint(0o7777))
        if tag & SAME_OWNER:
            vars(a).update(self.before.owner_and_flags())
        else:
            owners = self.owners
            a.uid, a.gid = owners.varint(0xFFFFFFFF), owners.varint(0xFFFFFFFF)
            a.owner, a.group, a.flags = owners.bytes(255), owners.bytes(255), owners.varint(0xFFFFFFFF)
        if tag & HAS_XATTRS:
            pairs = [(self.owners.bytes(255), self.owners.bytes(64 << 10)) for _ in range(self.owners.varint(1 << 20))]
            rising([name for name, _ in pairs], "extended attributes")
            a.xattrs = dict(pairs)
            need(pairs and all(name and b"\0" not in name for name in a.xattrs), "leaf: extended attributes")
        a.mtime = self.time(self.before.mtime)
        if tag & HAS_BIRTH_TIME:
            a.birth_time = self.time(a.mtime)
        return a

    def time(self, near):
        seconds = (near[0] + self.seconds.signed() + (1 << 63)) % (1 << 64) - (1 << 63)
        return seconds, self.nanos.varint(999_999_999)


def extent_bytes(extent):
    kind, value = extent
    return value.length if kind == DATA else value


def totals_of(node):
    """Entries, files and bytes of a leaf or inner node, and its last path."""
    if node.kind == INNER_NODE:
        sums = tuple(sum(totals[at] for _, totals, _ in node.members) for at in range(3))
        return sums, node.members[-1][0]
    need(node.kind == LEAF_NODE, "tree: a list of extents where entries should be")
    files = [entry.length for entry in node.members if EMPTY <= entry.kind <= LIST]
    return (len(node.members), len(files), sum(files)), node.members[-1].path if node.members else b""


# ---------------------------------------------------------------------------------------------------------------------
# Objects: the repository as a whole


def holds(check, data, name):
    """Whether `check` takes the bytes of an object."""
    try:
        check(data, name)
        return True
    except Damaged:
        return False


def with_digest(data, name):
    """What stands before the digest at the end of a key object or an envelope, if it matches."""
    body, digest = data[:-32], data[-32:]
    need(hash_of(body) == digest, f"{name}: its digest")
    return body


def check_trust(data, name):
    """Whether a trust file has the number of its name, and each signature is one by the key beside it."""
    trust = Trust.parse(data)
    need(trust.number == int(name), f"trust file {name}: has another number")
    for key, signature in trust.signatures:
        need(is_signed(b"lifeboat 1 trust file", trust.body, signature, [key]), f"trust file {name}: a signature")


def check_batch(data, name, log_keys):
    """Whether a batch has the number of its name, the records that its head names, and a signature by a log key."""
    fields = Fields(f"journal batch {name}", data[:HEAD_BYTES])
    fields.begin(b"LBJH")
    fields.raw(16)
    need(fields.u64() == int(name), f"{fields.what}: has another number")
    fields.raw(8 + 32 + 8 + 4 + 4)
    need(fields.digest() == hash_of(data[HEAD_BYTES:-SIGNATURE_BYTES]), f"{fields.what}: its records")
    head, signature = data[:HEAD_BYTES], data[-SIGNATURE_BYTES:]
    need(is_signed(b"lifeboat 1 journal head", head, signature, log_keys), f"{fields.what}: its signature")


class Repository:
    """Everything that is needed to read snapshots: packs, manifests, envelopes, keys; and what proves them."""

    def __init__(self, path, identity, kit_trust, without_journal):
        self.path, self.identity = Path(path), identity
        self.trust = self.journal = None
        if not without_journal:
            trust_files = [Trust.parse(data) for _, data in self.precious("trust", "[0-9]{20}", check_trust)]
            self.trust = believe(trust_files, kit_trust)
            if kit_trust is None and self.trust.recovery_operator != identity.recovery_operator():
                say("note: no recovery kit names the trust file, so the first one is taken on faith")
            log_keys = [key for trust in trust_files for key in trust.log_keys]
            check = functools.partial(check_batch, log_keys=log_keys)
            batches = [data for _, data in self.precious("journal", "[0-9]{20}", check)]
            self.journal = Journal(batches, trust_files)
        self.keys = self.open_keys()
        self.packs = Packs(self.objects("packs", "[0-9a-f]{64}"), self.trust and self.trust.log_keys)
        found = self.precious("manifests", "[0-9a-f]{64}", lambda data, name: Manifest.parse(data, name))
        manifests = [Manifest.parse(data, name) for name, data in found]
        self.manifests = {manifest.id: manifest for manifest in manifests}
        if self.journal:
            self.check_manifests()

    def objects(self, kind, name):
        """The objects of a kind, sorted by name; what has no such name is none."""
        files = (self.path / kind).glob("**/*")
        return sorted(file for file in files if re.fullmatch(name, file.name) and file.is_file())

    def precious(self, kind, name, check):
        """Name and bytes of the objects of a kind that exist twice, sorted by name: of each the copy that `check` takes,
        the first one if it takes both. Where it takes none, the reader goes on without, or fails on its own."""
        pairs = {}
        for file in self.objects(kind, name) + self.objects(f"copies/{kind}", name):
            pairs.setdefault(file.name, []).append(file)
        for object_name, files in sorted(pairs.items()):
            candidates = [file.read_bytes() for file in files]
            good = [data for data in candidates if holds(check, data, object_name)]
            if len(good) < 2:
                say(f"note: {kind}/{object_name}: {len(good)} good of 2 copies")
            yield object_name, (good or candidates)[0]

    def check_manifests(self):
        """Only what the journal names is a snapshot; each is there, and signed by its host."""
        numbers = {id: number for number, id in self.journal.snapshots.items()}
        named = set(numbers)
        self.manifests = {id: manifest for id, manifest in self.manifests.items() if id in named}
        for id in named:
            need(id in self.manifests, f"manifest {id.hex()}: the journal names it, and it is not there")
        for manifest in self.manifests.values():
            what = f"manifest {manifest.id.hex()}"
            need(manifest.repository == self.trust.repository, f"{what}: of another repository")
            need(manifest.host in self.journal.hosts, f"{what}: of a host that was never enrolled")
            message, signature = manifest.data[:-SIGNATURE_BYTES], manifest.data[-SIGNATURE_BYTES:]
            # A host that was enrolled again signs with the key that it had when the snapshot was committed.
            keys = [key for sequence, key in self.journal.keys[manifest.host] if sequence < numbers[manifest.id]]
            need(keys, f"{what}: committed before its host was enrolled")
            need(is_signed(b"lifeboat 1 manifest", message, signature, keys[-1:]), f"{what}: not signed by its host")

    def open_keys(self):
        """By scope: the keys that its key objects hold. A trust file says which secret is the right one."""
        keys = {}
        for name, data in self.precious("keys", r"[0-9a-z-][0-9a-z.-]*", with_digest):
            if not holds(with_digest, data, name):
                continue  # It was named; if it is needed, the scope is.
            fields = Fields(f"key object {name}", with_digest(data, name))
            fields.begin(b"LBKO")
            fields.raw(16)
            kind, values = fields.choice({1: [U32, TEXT, BOOL], 2: [U32]})
            clear, sealed = bytes(fields.data[: fields.at]), fields.bytes()
            fields.end()
            secret = self.identity.open(ROLE_GROUP_SECRET, clear, sealed) if kind == 1 else None
            if secret is None:
                continue
            named = (*values, derive_key("lifeboat 1 secret hash", secret))
            if self.trust is None or named in self.trust.secret_hashes:
                keys.setdefault(values[0], []).append(ScopeKeys(secret))
        need(keys, "this identity opens none of the key objects; is it the right one?")
        return keys

    def manifest_key(self, manifest):
        """The key that one of the manifest's envelopes holds for us."""
        name = manifest.id.hex()
        for envelope, data in self.precious("envelopes", rf"{name}([.-][0-9a-z.-]*)?", with_digest):
            if not holds(with_digest, data, envelope):
                continue
            fields = Fields(f"envelope {envelope}", with_digest(data, envelope))
            fields.begin(b"LBEN")
            fields.raw(16)
            need(fields.digest() == manifest.id, f"{fields.what}: of another manifest")
            clear, sealed = bytes(fields.data[: fields.at]), fields.bytes(128 << 10)
            fields.end()
            key = self.identity.open(ROLE_MANIFEST_KEY, clear, sealed)
            if key is not None:
                return key
        raise Damaged(f"snapshot {name}: this identity opens none of its envelopes")

    def open_record(self, kind, link):
        """The links of a record and its plaintext; any of its copies that opens will do."""
        what = f"{'chunk' if kind == CHUNK else 'node'} {link.id.hex()}"
        records = self.packs.places.get((kind, link.id), [])
        need(records, f"{what}: in no pack")
        need(link.scope in self.keys, f"{what}: no key object opens scope {link.scope}")
        faults = []
        for record, keys in ((record, keys) for record in records for keys in self.keys[link.scope]):
            try:
                links, sealed = split_record(record) if kind == NODE else (b"", record)
                return links, keys.open(kind, link.scope, link.content_hash, links, sealed)
            except Damaged as fault:
                faults.append(str(fault))
        raise Damaged(f"{what}: {faults[0]}")

    @functools.lru_cache(maxsize=64)
    def chunk(self, link):
        plaintext = self.open_record(CHUNK, link)[1]
        need(len(plaintext) == link.length, f"chunk {link.id.hex()}: has another length than its link says")
        return plaintext

    def node(self, link):
        links, plaintext = self.open_record(NODE, link)
        unpacked = [struct.unpack_from("<BI32s", links, at) for at in range(4, len(links), LINK_BYTES)]
        need(all(height < 16 for height, _, _ in unpacked), "node: the height of a link")
        node = Node(unpacked, plaintext)
        need(node.height() == link.height, f"node {link.id.hex()}: has another height than its link says")
        return node


def split_record(record):
    """A node's record: its links with their count, and what is sealed."""
    count = Fields("node record", record).u32()
    need(count <= LINKS_MAX and 4 + count * LINK_BYTES <= len(record), "node record: its number of links")
    end = 4 + count * LINK_BYTES
    return bytes(record[:end]), record[end:]


class Snapshot:
    """One snapshot, opened."""

    def __init__(self, repository, manifest, below):
        self.repository, self.manifest, self.below = repository, manifest, below
        content_hash, _scopes, self.sources, self.gaps = manifest.open(repository.manifest_key(manifest))
        node_id, height, scope = manifest.root
        self.root = Link(height, scope, node_id, content_hash, 0)

    def entries(self):
        """All entries in order, checked; those below the wished path only, with paths from there."""
        found, elsewhere = not self.below, {}
        for entry in self.all_entries():
            if not self.below:
                yield entry
            elif is_within(entry.path, self.below):
                found = True
                yield self.seen_from_below(entry, elsewhere)
        need(found, f"there is no {shown(self.below)} in snapshot {self.manifest.id.hex()[:12]}; --list shows what there is")

    def seen_from_below(self, entry, elsewhere):
        """A copy of an entry with its path from there; a file that is wished alone keeps its name. `elsewhere` are hard
        links into the rest of the tree: the first one becomes the file, further ones lead to it."""
        short = lambda path: path[len(self.below) + 1 :]
        path = short(entry.path)
        if entry.path == self.below and entry.kind != DIRECTORY:
            path = entry.path.rpartition(b"/")[2]
        if entry.kind != HARD_LINK:
            return dataclasses.replace(entry, path=path)
        if entry.target.startswith(self.below + b"/"):
            return dataclasses.replace(entry, path=path, target=short(entry.target))
        first = elsewhere.setdefault(entry.target, path)
        if first != path:
            return dataclasses.replace(entry, path=path, target=first)
        return dataclasses.replace(self.find(entry.target), path=path)

    def find(self, path):
        """The entry of a path."""
        node = self.repository.node(self.root)
        while node and node.kind != LEAF_NODE:
            links = (link for last_path, _totals, link in node.members if order(path) <= order(last_path))
            link = next(links, None)
            node = link and self.repository.node(link)
        entry = next((entry for entry in node.members if entry.path == path), None) if node else None
        need(entry, f"tree: {shown(path)}: a hard link leads to it, and it is not there")
        return entry

    def all_entries(self):
        root = self.repository.node(self.root)
        need(totals_of(root)[0] == self.manifest.counts[:3], "the manifest's counts are not those of its tree")
        last, directories = None, []
        for entry in self.entries_of(root):
            need(last is None or order(last) < order(entry.path), f"tree: out of order at {shown(entry.path)}")
            last = entry.path
            while directories and not is_within(entry.path, directories[-1].path):
                directories.pop()
            above = directories[-1].kind if directories else DIRECTORY
            need(above == DIRECTORY, f"tree: {shown(entry.path)} lies below what is no directory")
            directories.append(entry)
            yield entry

    def entries_of(self, node):
        """Goes down at most 16 levels, since heights fall."""
        if node.kind == LEAF_NODE:
            yield from node.members
            return
        for last_path, totals, link in node.members:
            child = self.repository.node(link)
            need(totals_of(child) == (totals, last_path), "node: not what the node above says of it")
            yield from self.entries_of(child)

    def pieces(self, entry):
        """The content of a file: (DATA, bytes), (ZEROS, count) and (HOLE, count), one after the other."""
        if entry.kind == BUNDLED:
            content = self.repository.chunk(entry.link)[entry.offset : entry.offset + entry.length]
            hashes = [keyed(keys.hash, content)[:16] for keys in self.repository.keys[entry.link.scope]]
            need(entry.hash in hashes, f"{shown(entry.path)}: its hash does not hold")
            yield DATA, content
        elif entry.kind == EXTENTS:
            yield from map(self.piece, entry.extents)
        elif entry.kind == LIST:
            yield from self.pieces_of_list(entry.link, entry.length)

    def pieces_of_list(self, link, length):
        """At most 16 levels, since heights fall."""
        node = self.repository.node(link)
        if node.kind == EXTENTS_NODE:
            need(sum(map(extent_bytes, node.members)) == length, "list: another length than is said above")
            yield from map(self.piece, node.members)
        else:
            need(node.kind == LISTS_NODE, "list: a node of another kind")
            need(sum(bytes for _, bytes in node.members) == length, "list: another length than is said above")
            for below, bytes_below in node.members:
                yield from self.pieces_of_list(below, bytes_below)

    def piece(self, extent):
        kind, value = extent
        return (DATA, self.repository.chunk(value)) if kind == DATA else extent


# ---------------------------------------------------------------------------------------------------------------------
# Listing

ZERO_BYTES = bytes(1 << 20)


def piece_bytes(piece):
    kind, value = piece
    return len(value) if kind == DATA else value


def blocks(pieces):
    """The bytes of these pieces, in blocks that fit into memory."""
    for kind, value in pieces:
        if kind == DATA:
            yield value
            continue
        while value > 0:
            yield ZERO_BYTES[: min(value, len(ZERO_BYTES))]
            value -= len(ZERO_BYTES)


def holes(pieces):
    """Where a file has holes: [offset, bytes], neighbours joined."""
    found, offset = [], 0
    for piece in pieces:
        length = piece_bytes(piece)
        if piece[0] == HOLE and found and sum(found[-1]) == offset:
            found[-1][1] += length
        elif piece[0] == HOLE:
            found.append([offset, length])
        offset += length
    return found


def described(snapshot, entry):
    """An entry as JSON says it. The content of a file is read whole, and all of it but holes is hashed."""
    entry_json = {"path": shown(entry.path), "kind": KINDS[entry.kind]}
    if entry.kind == HARD_LINK:
        return entry_json | {"to": shown(entry.target)}
    a = entry.attributes
    entry_json |= {"mode": f"{a.mode:04o}", "uid": a.uid, "gid": a.gid, "mtime": list(a.mtime)}
    more = {"owner": shown(a.owner), "group": shown(a.group), "flags": a.flags, "birth_time": a.birth_time}
    more |= {"xattrs": {shown(name): value.hex() for name, value in a.xattrs.items()}}
    more |= {"incomplete": [reason for bit, reason in enumerate(REASONS) if entry.incomplete >> bit & 1]}
    entry_json |= {name: value for name, value in more.items() if value}
    if entry.kind == SYMLINK:
        entry_json["target"] = shown(entry.target)
    elif entry.kind in (CHARACTER, BLOCK):
        entry_json["device"] = list(entry.device)
    elif EMPTY <= entry.kind <= LIST:
        hasher = blake3.blake3()
        for block in blocks(piece for piece in snapshot.pieces(entry) if piece[0] != HOLE):
            hasher.update(block)
        entry_json |= {"bytes": entry.length, "blake3": hasher.hexdigest()}
        if found := holes(snapshot.pieces(entry)):
            entry_json["holes"] = found
    return entry_json


def print_list(snapshot, as_json):
    entries = (described(snapshot, entry) for entry in snapshot.entries())
    if as_json:
        gaps = [{"path": shown(path), "reason": reason} for path, reason in snapshot.gaps]
        manifest = snapshot.manifest
        head = {"snapshot": manifest.id.hex(), "host": manifest.host, "source_set": manifest.source_set}
        head |= {"sequence": manifest.sequence, "outcome": OUTCOMES[manifest.outcome], "gaps": gaps}
        head |= {"sources": [shown(path) for path in snapshot.sources]}
        print(json.dumps(head | {"entries": list(entries)}, indent=1))
        return
    for entry in entries:
        owner = f"{entry.get('uid', '')}:{entry.get('gid', '')}"
        more = entry.get("target") or entry.get("to")
        print(f"{entry.get('mode', ''):4} {owner:>11} {entry.get('bytes', ''):>13} {entry['kind']:16} {entry['path']}"
              + (f" -> {more}" if more else ""))  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Files: give back, and compare

GET_FLAGS, SET_FLAGS = 0x80086601, 0x40086602  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS
FLAGS_KEPT = 0x83C4FF
TYPES = {
    DIRECTORY: stat.S_IFDIR, EMPTY: stat.S_IFREG, BUNDLED: stat.S_IFREG, EXTENTS: stat.S_IFREG, LIST: stat.S_IFREG,
    SYMLINK: stat.S_IFLNK, PIPE: stat.S_IFIFO, SOCKET: stat.S_IFSOCK, CHARACTER: stat.S_IFCHR, BLOCK: stat.S_IFBLK,
}  # fmt: skip


class Directory:
    """The files below one directory. A path stays below it, also where it is longer than the system takes at once."""

    STEP_BYTES = 4000

    def __init__(self, root):
        self.top = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        self.parent, self.parent_fd = b"", os.dup(self.top)

    def place(self, path):
        """A path for the system's calls: the entry within a descriptor of its directory. Good until the next call."""
        parent, _, name = path.rpartition(b"/")
        if parent != self.parent:
            self.enter(parent)
        return b"/proc/self/fd/%d/%s" % (self.parent_fd, name or b".")

    def enter(self, path):
        rest = path
        if path.startswith(self.parent + b"/") and self.parent:
            fd, rest = os.dup(self.parent_fd), path[len(self.parent) + 1 :]
        else:
            fd = os.dup(self.top)
        names = rest.split(b"/") if rest else []
        while names:
            step = [names.pop(0)]
            while names and sum(map(len, step)) + len(step) + len(names[0]) < self.STEP_BYTES:
                step.append(names.pop(0))
            below = os.open(b"/".join(step), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = below
        os.close(self.parent_fd)
        self.parent, self.parent_fd = path, fd


def get_flags(place):
    """The inode flags that are kept; 0 where the file system has none."""
    try:
        fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except PermissionError:
        return 0
    try:
        return struct.unpack("i", fcntl.ioctl(fd, GET_FLAGS, bytes(4)))[0] & FLAGS_KEPT
    except OSError:
        return 0
    finally:
        os.close(fd)


def set_flags(place, flags):
    fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        now = struct.unpack("i", fcntl.ioctl(fd, GET_FLAGS, bytes(4)))[0]
        fcntl.ioctl(fd, SET_FLAGS, struct.pack("i", now & ~FLAGS_KEPT | flags))
    finally:
        os.close(fd)


def set_mtime(place, nanoseconds):
    """Sets it, and looks: a file system that cannot keep a time takes another one and says nothing."""
    os.utime(place, ns=(nanoseconds, nanoseconds), follow_symlinks=False)
    if os.lstat(place).st_mtime_ns != nanoseconds:
        raise OSError(errno.ERANGE, os.strerror(errno.ERANGE))


class Restore:
    """Gives a snapshot back into a new or empty directory. What cannot be given back is a loss: named, and counted."""

    def __init__(self, snapshot, target):
        os.makedirs(target, exist_ok=True)
        need(not os.listdir(target), f"{target} is not empty")
        self.snapshot, self.files, self.firsts, self.losses = snapshot, Directory(target), Directory(target), 0

    def run(self):
        """First everything is made; then attributes are set, of directories after what is in them."""
        made, directories = [], {b""}
        for entry in self.snapshot.entries():
            self.make_parents(entry.path, directories)
            if entry.kind == DIRECTORY:
                directories.add(entry.path)
            if self.attempt(entry.path, "not made", self.make, entry) and entry.kind != HARD_LINK:
                made.append((entry.path, entry.kind, entry.attributes))
        for path, kind, attributes in reversed(made):
            self.set_attributes(path, kind, attributes)
        return self.losses

    def attempt(self, path, what, action, *arguments):
        try:
            action(*arguments)
            return True
        except OSError as error:
            self.losses += 1
            say(f"loss: {shown(path)}: {what}: {error.strerror}")
            return False

    def make_parents(self, path, directories):
        """A source set may begin deep: directories that the tree does not name."""
        missing, parent = [], path.rpartition(b"/")[0]
        while path and parent not in directories:
            missing.append(parent)
            parent = parent.rpartition(b"/")[0]
        for directory in reversed(missing):
            os.mkdir(self.files.place(directory), 0o700)
            directories.add(directory)

    def make(self, entry):
        place = self.files.place(entry.path)
        if entry.kind == DIRECTORY:
            if entry.path:
                os.mkdir(place, 0o700)
        elif entry.kind == SYMLINK:
            os.symlink(entry.target, place)
        elif entry.kind == HARD_LINK:
            os.link(self.firsts.place(entry.target), place, follow_symlinks=False)
        elif entry.kind in (PIPE, SOCKET, CHARACTER, BLOCK):
            os.mknod(place, TYPES[entry.kind] | 0o600, os.makedev(*entry.device))
        else:
            self.write(place, entry)

    def write(self, place, entry):
        with open(place, "xb", opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, 0o600)) as file:
            for kind, value in self.snapshot.pieces(entry):
                if kind == HOLE:
                    file.seek(value, os.SEEK_CUR)
                else:
                    for block in blocks([(kind, value)]):
                        file.write(block)
            file.truncate(entry.length)

    def set_attributes(self, path, kind, a):
        """The order matters: a new owner takes away capabilities, an ACL is written over the mode, and what is
        immutable takes nothing more."""
        place = self.files.place(path)
        self.attempt(path, "owner", lambda: os.chown(place, a.uid, a.gid, follow_symlinks=False))
        if kind != SYMLINK:
            self.attempt(path, "mode", lambda: os.chmod(place, a.mode))
        for name, value in a.xattrs.items():
            what = f"extended attribute {shown(name)}"
            self.attempt(path, what, lambda: os.setxattr(place, name, value, follow_symlinks=False))
        self.attempt(path, "mtime", set_mtime, place, a.mtime[0] * 10**9 + a.mtime[1])
        if a.flags:
            self.attempt(path, "inode flags", set_flags, place, a.flags)


class Compare:
    """Compares a directory with a snapshot: every name, every byte, every attribute. Only birth times are left out,
    since nothing can set them."""

    def __init__(self, snapshot, directory):
        self.snapshot, self.files, self.differences = snapshot, Directory(directory), 0

    def run(self):
        names, inodes, directories = {}, {}, []
        for entry in self.snapshot.entries():
            path = entry.path
            while path and path.rpartition(b"/")[2] not in names.setdefault(path.rpartition(b"/")[0], set()):
                parent, _, name = path.rpartition(b"/")
                names[parent].add(name)
                path = parent
            if entry.kind == DIRECTORY:
                directories.append(entry.path)
            try:
                self.compare(entry, inodes)
            except OSError as error:
                self.differ(entry.path, error.strerror)
        for directory in directories:
            self.find_strangers(directory, names.get(directory, set()))
        return self.differences

    def differ(self, path, what):
        self.differences += 1
        say(f"differs: {shown(path)}: {what}")

    def find_strangers(self, directory, expected):
        try:
            found = set(os.listdir(self.files.place(directory + b"/" if directory else b"")))
        except OSError as error:
            return self.differ(directory, error.strerror)
        for name in found - expected:
            self.differ(directory + b"/" + name if directory else name, "not in the snapshot")

    def compare(self, entry, inodes):
        place = self.files.place(entry.path)
        status = os.lstat(place)
        inode = status.st_dev, status.st_ino
        if entry.kind == HARD_LINK:
            if inodes.get(entry.target) != inode:
                self.differ(entry.path, f"not a hard link to {shown(entry.target)}")
            return
        if stat.S_IFMT(status.st_mode) != TYPES[entry.kind]:
            return self.differ(entry.path, f"not a {KINDS[entry.kind]}")
        if status.st_nlink > 1 and entry.kind != DIRECTORY:
            inodes[entry.path] = inode
        self.compare_attributes(entry, place, status)
        if entry.kind == SYMLINK and os.readlink(place) != entry.target:
            self.differ(entry.path, "target")
        if entry.kind in (CHARACTER, BLOCK) and (os.major(status.st_rdev), os.minor(status.st_rdev)) != entry.device:
            self.differ(entry.path, "device")
        if EMPTY <= entry.kind <= LIST:
            self.compare_content(entry, place, status)

    def compare_attributes(self, entry, place, status):
        a = entry.attributes
        found = {"owner": status.st_uid, "group": status.st_gid, "mtime": divmod(status.st_mtime_ns, 10**9)}
        right = {"owner": a.uid, "group": a.gid, "mtime": a.mtime}
        if entry.kind != SYMLINK:
            found["mode"], right["mode"] = stat.S_IMODE(status.st_mode), a.mode
        if entry.kind <= LIST:
            found["inode flags"], right["inode flags"] = get_flags(place), a.flags
        names = map(os.fsencode, os.listxattr(place, follow_symlinks=False))
        found["extended attributes"] = {name: os.getxattr(place, name, follow_symlinks=False) for name in names}
        right["extended attributes"] = a.xattrs
        for what in found:
            if found[what] != right[what]:
                self.differ(entry.path, f"{what}: is {found[what]}, should be {right[what]}")

    def compare_content(self, entry, place, status):
        if status.st_size != entry.length:
            return self.differ(entry.path, f"length: is {status.st_size}, should be {entry.length}")
        with open(place, "rb") as file:
            found, right = found_holes(file.fileno(), status.st_size), holes(self.snapshot.pieces(entry))
            if found != right:
                self.differ(entry.path, f"holes: are {found}, should be {right}")
            file.seek(0)
            for kind, value in self.snapshot.pieces(entry):
                if kind == HOLE and [file.tell(), value] in found:
                    file.seek(value, os.SEEK_CUR)
                    continue
                for block in blocks([(kind, value)]):
                    if file.read(len(block)) != block:
                        return self.differ(entry.path, f"content, before byte {file.tell()}")


def found_holes(fd, length):
    """As `holes` gives them, from the file system."""
    found, offset = [], 0
    while offset < length:
        begin = os.lseek(fd, offset, os.SEEK_HOLE)
        try:
            offset = os.lseek(fd, begin, os.SEEK_DATA) if begin < length else length
        except OSError:  # Nothing but a hole up to the end.
            offset = length
        if begin < length:
            found.append([begin, offset - begin])
    return found


# ---------------------------------------------------------------------------------------------------------------------
# The command


def choose(repository, options):
    """The snapshot that was asked for; None if nothing was."""
    manifests = repository.manifests.values()
    if options.snapshot:
        fitting = [manifest for manifest in manifests if manifest.id.hex().startswith(options.snapshot.lower())]
        need(len(fitting) == 1, f"the ids of {len(fitting)} snapshots begin with {options.snapshot}")
        return fitting[0]
    if options.host is None and options.set is None:
        return None
    hosts = options.host and hosts_of(repository, options.host)
    wished = lambda m: (hosts is None or m.host in hosts) and options.set in (None, m.source_set)
    fitting = [manifest for manifest in manifests if wished(manifest)]
    need(fitting, "there is no such snapshot; without --host and --set all are listed")
    # A checkpoint is not the whole of anything, and a suspect one lacks what the one before it had.
    good = [m for m in fitting if why_not(repository, m) is None]
    need(good, f"none of {len(fitting)} snapshots is good: all are suspect or checkpoints; choose one with --snapshot ID")
    sets = sorted({(m.host, m.source_set) for m in good})
    named = ", ".join(f"--host {host} --set {source_set}" for host, source_set in sets)
    need(len(sets) == 1, f"there are snapshots of several source sets; choose one: {named}")
    return max(good, key=lambda manifest: manifest.sequence)


def hosts_of(repository, text):
    """The numbers of the hosts that are meant: a number, or a name that the journal has."""
    if text.isdecimal():
        return {int(text)}
    need(repository.journal, "the names of hosts are in the journal; without it, give a number to --host")
    named = {number for number, (name, _key) in repository.journal.hosts.items() if name == text}
    names = ", ".join(sorted({name for name, _key in repository.journal.hosts.values()}))
    need(named, f"there is no host {text}; there are: {names}")
    return named


def why_not(repository, manifest):
    """Why a snapshot is not used unless it is named; None if it is good."""
    suspects = repository.journal.suspects if repository.journal else {}
    if manifest.id in suspects:
        return f"SUSPECT: {suspects[manifest.id]}"
    return "checkpoint" if OUTCOMES[manifest.outcome] == "checkpoint" else None


def date_of(repository, manifest):
    """When a snapshot was committed; without a journal, when its backup began, by its host's clock."""
    committed = repository.journal.committed if repository.journal else {}
    time = committed.get(manifest.id, manifest.started)
    try:
        return datetime.fromtimestamp(time // 10**9).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return "unknown date    "


def print_snapshots(repository):
    manifests = sorted(repository.manifests.values(), key=lambda m: (m.host, m.source_set, m.sequence))
    for manifest in manifests:
        name = repository.journal.hosts[manifest.host][0] if repository.journal else ""
        state = why_not(repository, manifest) or OUTCOMES[manifest.outcome]
        print(f"{manifest.id.hex()} {date_of(repository, manifest)} host {manifest.host} {name} {manifest.source_set} "
              f"{manifest.sequence}: {state}, {manifest.counts[0]} entries, {manifest.counts[2]} bytes")  # fmt: skip
    say(f"{len(manifests)} snapshots; dates are in this machine's time zone")


def check_directory(options):
    """A wrong directory must not look like a damaged repository."""
    path = Path(options.repository)
    need(path.is_dir(), f"{path} is not a directory")
    kinds = ["packs", "manifests"] + ([] if options.without_journal else ["journal", "trust"])
    missing = [kind for kind in kinds if not any((path / place / kind).is_dir() for place in ("", "copies"))]
    need(len(missing) < len(kinds), f"{path} is not a Lifeboat repository: name the directory that holds {', '.join(kinds)}")


def read_everything(snapshot):
    """Opens all of it, so all of it is checked; says how much there was."""
    entries = bytes_read = 0
    for entry in snapshot.entries():
        entries += 1
        bytes_read += sum(piece_bytes(piece) for piece in snapshot.pieces(entry))
    print(f"{snapshot.manifest.id.hex()}: {entries} entries, {bytes_read} bytes, all of them good")


def run(options):
    check_directory(options)
    identity, kit_trust = read_identity(options.identity)
    repository = Repository(options.repository, identity, kit_trust, options.without_journal)
    manifest = choose(repository, options)
    if manifest is None:
        need(not (options.list or options.restore or options.compare), "say which snapshot, with --snapshot or --host")
        print_snapshots(repository)
        return 0
    if not options.json:
        say(f"snapshot {manifest.id.hex()[:12]} of {date_of(repository, manifest)}, "
            f"{why_not(repository, manifest) or OUTCOMES[manifest.outcome]}")  # fmt: skip
    snapshot = Snapshot(repository, manifest, unquote_to_bytes(options.path.strip("/")))
    if options.list:
        print_list(snapshot, options.json)
        return 0
    if options.restore:
        losses = Restore(snapshot, os.fsencode(options.restore)).run()
        say(f"{losses} losses")
        return 3 if losses else 0
    if options.compare:
        differences = Compare(snapshot, os.fsencode(options.compare)).run()
        say(f"{differences} differences")
        return 3 if differences else 0
    read_everything(snapshot)
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", metavar="REPOSITORY", help="the directory of a repository")
    parser.add_argument("--identity", required=True, metavar="FILE", help="a recovery kit, or a file with an identity or 24 words; - is standard input")
    parser.add_argument("--snapshot", metavar="ID", help="a snapshot, by the first digits of its id")
    parser.add_argument("--host", metavar="NAME", help="the newest snapshot of this host, by name or number")
    parser.add_argument("--set", metavar="NAME", help="the newest snapshot of this source set")
    parser.add_argument("--path", default="", metavar="PATH", help="only this directory or file; bytes may be written as %%XX")
    parser.add_argument("--without-journal", action="store_true", help="use neither journal nor trust file")
    actions = parser.add_mutually_exclusive_group()
    actions.add_argument("--list", action="store_true", help="list the entries; every content is read and hashed")
    actions.add_argument("--restore", metavar="DIR", help="restore into this new or empty directory")
    actions.add_argument("--compare", metavar="DIR", help="compare a directory with it")
    parser.add_argument("--json", action="store_true", help="print a list as JSON")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Whoever reads a list may stop early.
    try:
        options = parser.parse_args()
        need(MISSING is None, f"{MISSING}\nhint: Python needs the packages blake3, cryptography and zstandard: python3 -m pip "
             "install blake3 cryptography zstandard. For a machine without internet, fetch them elsewhere with pip download")  # fmt: skip
        sys.exit(run(options))
    except (Damaged, OSError) as error:
        say(f"error: {error}")
        sys.exit(1)


# The English words of BIP 39, in the order of their numbers.
WORDS = """
abandon ability able about above absent absorb abstract absurd abuse access accident account accuse achieve acid
acoustic acquire across act action actor actress actual adapt add addict address adjust admit adult advance advice
aerobic affair afford afraid again age agent agree ahead aim air airport aisle alarm album alcohol alert alien all
alley allow almost alone alpha already also alter always amateur amazing among amount amused analyst anchor ancient
anger angle angry animal ankle announce annual another answer antenna antique anxiety any apart apology appear apple
approve april arch arctic area arena argue arm armed armor army around arrange arrest arrive arrow art artefact artist
artwork ask aspect assault asset assist assume asthma athlete atom attack attend attitude attract auction audit august
aunt author auto autumn average avocado avoid awake aware away awesome awful awkward axis baby bachelor bacon badge
bag balance balcony ball bamboo banana banner bar barely bargain barrel base basic basket battle beach bean beauty
because become beef before begin behave behind believe below belt bench benefit best betray better between beyond
bicycle bid bike bind biology bird birth bitter black blade blame blanket blast bleak bless blind blood blossom blouse
blue blur blush board boat body boil bomb bone bonus book boost border boring borrow boss bottom bounce box boy
bracket brain brand brass brave bread breeze brick bridge brief bright bring brisk broccoli broken bronze broom
brother brown brush bubble buddy budget buffalo build bulb bulk bullet bundle bunker burden burger burst bus business
busy butter buyer buzz cabbage cabin cable cactus cage cake call calm camera camp can canal cancel candy cannon canoe
canvas canyon capable capital captain car carbon card cargo carpet carry cart case cash casino castle casual cat
catalog catch category cattle caught cause caution cave ceiling celery cement census century cereal certain chair
chalk champion change chaos chapter charge chase chat cheap check cheese chef cherry chest chicken chief child chimney
choice choose chronic chuckle chunk churn cigar cinnamon circle citizen city civil claim clap clarify claw clay clean
clerk clever click client cliff climb clinic clip clock clog close cloth cloud clown club clump cluster clutch coach
coast coconut code coffee coil coin collect color column combine come comfort comic common company concert conduct
confirm congress connect consider control convince cook cool copper copy coral core corn correct cost cotton couch
country couple course cousin cover coyote crack cradle craft cram crane crash crater crawl crazy cream credit creek
crew cricket crime crisp critic crop cross crouch crowd crucial cruel cruise crumble crunch crush cry crystal cube
culture cup cupboard curious current curtain curve cushion custom cute cycle dad damage damp dance danger daring dash
daughter dawn day deal debate debris decade december decide decline decorate decrease deer defense define defy degree
delay deliver demand demise denial dentist deny depart depend deposit depth deputy derive describe desert design desk
despair destroy detail detect develop device devote diagram dial diamond diary dice diesel diet differ digital dignity
dilemma dinner dinosaur direct dirt disagree discover disease dish dismiss disorder display distance divert divide
divorce dizzy doctor document dog doll dolphin domain donate donkey donor door dose double dove draft dragon drama
drastic draw dream dress drift drill drink drip drive drop drum dry duck dumb dune during dust dutch duty dwarf
dynamic eager eagle early earn earth easily east easy echo ecology economy edge edit educate effort egg eight either
elbow elder electric elegant element elephant elevator elite else embark embody embrace emerge emotion employ empower
empty enable enact end endless endorse enemy energy enforce engage engine enhance enjoy enlist enough enrich enroll
ensure enter entire entry envelope episode equal equip era erase erode erosion error erupt escape essay essence estate
eternal ethics evidence evil evoke evolve exact example excess exchange excite exclude excuse execute exercise exhaust
exhibit exile exist exit exotic expand expect expire explain expose express extend extra eye eyebrow fabric face
faculty fade faint faith fall false fame family famous fan fancy fantasy farm fashion fat fatal father fatigue fault
favorite feature february federal fee feed feel female fence festival fetch fever few fiber fiction field figure file
film filter final find fine finger finish fire firm first fiscal fish fit fitness fix flag flame flash flat flavor
flee flight flip float flock floor flower fluid flush fly foam focus fog foil fold follow food foot force forest
forget fork fortune forum forward fossil foster found fox fragile frame frequent fresh friend fringe frog front frost
frown frozen fruit fuel fun funny furnace fury future gadget gain galaxy gallery game gap garage garbage garden garlic
garment gas gasp gate gather gauge gaze general genius genre gentle genuine gesture ghost giant gift giggle ginger
giraffe girl give glad glance glare glass glide glimpse globe gloom glory glove glow glue goat goddess gold good goose
gorilla gospel gossip govern gown grab grace grain grant grape grass gravity great green grid grief grit grocery group
grow grunt guard guess guide guilt guitar gun gym habit hair half hammer hamster hand happy harbor hard harsh harvest
hat have hawk hazard head health heart heavy hedgehog height hello helmet help hen hero hidden high hill hint hip hire
history hobby hockey hold hole holiday hollow home honey hood hope horn horror horse hospital host hotel hour hover
hub huge human humble humor hundred hungry hunt hurdle hurry hurt husband hybrid ice icon idea identify idle ignore
ill illegal illness image imitate immense immune impact impose improve impulse inch include income increase index
indicate indoor industry infant inflict inform inhale inherit initial inject injury inmate inner innocent input
inquiry insane insect inside inspire install intact interest into invest invite involve iron island isolate issue item
ivory jacket jaguar jar jazz jealous jeans jelly jewel job join joke journey joy judge juice jump jungle junior junk
just kangaroo keen keep ketchup key kick kid kidney kind kingdom kiss kit kitchen kite kitten kiwi knee knife knock
know lab label labor ladder lady lake lamp language laptop large later latin laugh laundry lava law lawn lawsuit layer
lazy leader leaf learn leave lecture left leg legal legend leisure lemon lend length lens leopard lesson letter level
liar liberty library license life lift light like limb limit link lion liquid list little live lizard load loan
lobster local lock logic lonely long loop lottery loud lounge love loyal lucky luggage lumber lunar lunch luxury
lyrics machine mad magic magnet maid mail main major make mammal man manage mandate mango mansion manual maple marble
march margin marine market marriage mask mass master match material math matrix matter maximum maze meadow mean
measure meat mechanic medal media melody melt member memory mention menu mercy merge merit merry mesh message metal
method middle midnight milk million mimic mind minimum minor minute miracle mirror misery miss mistake mix mixed
mixture mobile model modify mom moment monitor monkey monster month moon moral more morning mosquito mother motion
motor mountain mouse move movie much muffin mule multiply muscle museum mushroom music must mutual myself mystery myth
naive name napkin narrow nasty nation nature near neck need negative neglect neither nephew nerve nest net network
neutral never news next nice night noble noise nominee noodle normal north nose notable note nothing notice novel now
nuclear number nurse nut oak obey object oblige obscure observe obtain obvious occur ocean october odor off offer
office often oil okay old olive olympic omit once one onion online only open opera opinion oppose option orange orbit
orchard order ordinary organ orient original orphan ostrich other outdoor outer output outside oval oven over own
owner oxygen oyster ozone pact paddle page pair palace palm panda panel panic panther paper parade parent park parrot
party pass patch path patient patrol pattern pause pave payment peace peanut pear peasant pelican pen penalty pencil
people pepper perfect permit person pet phone photo phrase physical piano picnic picture piece pig pigeon pill pilot
pink pioneer pipe pistol pitch pizza place planet plastic plate play please pledge pluck plug plunge poem poet point
polar pole police pond pony pool popular portion position possible post potato pottery poverty powder power practice
praise predict prefer prepare present pretty prevent price pride primary print priority prison private prize problem
process produce profit program project promote proof property prosper protect proud provide public pudding pull pulp
pulse pumpkin punch pupil puppy purchase purity purpose purse push put puzzle pyramid quality quantum quarter question
quick quit quiz quote rabbit raccoon race rack radar radio rail rain raise rally ramp ranch random range rapid rare
rate rather raven raw razor ready real reason rebel rebuild recall receive recipe record recycle reduce reflect reform
refuse region regret regular reject relax release relief rely remain remember remind remove render renew rent reopen
repair repeat replace report require rescue resemble resist resource response result retire retreat return reunion
reveal review reward rhythm rib ribbon rice rich ride ridge rifle right rigid ring riot ripple risk ritual rival river
road roast robot robust rocket romance roof rookie room rose rotate rough round route royal rubber rude rug rule run
runway rural sad saddle sadness safe sail salad salmon salon salt salute same sample sand satisfy satoshi sauce
sausage save say scale scan scare scatter scene scheme school science scissors scorpion scout scrap screen script
scrub sea search season seat second secret section security seed seek segment select sell seminar senior sense
sentence series service session settle setup seven shadow shaft shallow share shed shell sheriff shield shift shine
ship shiver shock shoe shoot shop short shoulder shove shrimp shrug shuffle shy sibling sick side siege sight sign
silent silk silly silver similar simple since sing siren sister situate six size skate sketch ski skill skin skirt
skull slab slam sleep slender slice slide slight slim slogan slot slow slush small smart smile smoke smooth snack
snake snap sniff snow soap soccer social sock soda soft solar soldier solid solution solve someone song soon sorry
sort soul sound soup source south space spare spatial spawn speak special speed spell spend sphere spice spider spike
spin spirit split spoil sponsor spoon sport spot spray spread spring spy square squeeze squirrel stable stadium staff
stage stairs stamp stand start state stay steak steel stem step stereo stick still sting stock stomach stone stool
story stove strategy street strike strong struggle student stuff stumble style subject submit subway success such
sudden suffer sugar suggest suit summer sun sunny sunset super supply supreme sure surface surge surprise surround
survey suspect sustain swallow swamp swap swarm swear sweet swift swim swing switch sword symbol symptom syrup system
table tackle tag tail talent talk tank tape target task taste tattoo taxi teach team tell ten tenant tennis tent term
test text thank that theme then theory there they thing this thought three thrive throw thumb thunder ticket tide
tiger tilt timber time tiny tip tired tissue title toast tobacco today toddler toe together toilet token tomato
tomorrow tone tongue tonight tool tooth top topic topple torch tornado tortoise toss total tourist toward tower town
toy track trade traffic tragic train transfer trap trash travel tray treat tree trend trial tribe trick trigger trim
trip trophy trouble truck true truly trumpet trust truth try tube tuition tumble tuna tunnel turkey turn turtle twelve
twenty twice twin twist two type typical ugly umbrella unable unaware uncle uncover under undo unfair unfold unhappy
uniform unique unit universe unknown unlock until unusual unveil update upgrade uphold upon upper upset urban urge
usage use used useful useless usual utility vacant vacuum vague valid valley valve van vanish vapor various vast vault
vehicle velvet vendor venture venue verb verify version very vessel veteran viable vibrant vicious victory video view
village vintage violin virtual virus visa visit visual vital vivid vocal voice void volcano volume vote voyage wage
wagon wait walk wall walnut want warfare warm warrior wash wasp waste water wave way wealth weapon wear weasel weather
web wedding weekend weird welcome west wet whale what wheat wheel when where whip whisper wide width wife wild will
win window wine wing wink winner winter wire wisdom wise wish witness wolf woman wonder wood wool word work world
worry worth wrap wreck wrestle wrist write wrong yard year yellow you young youth zebra zero zone zoo
"""


if __name__ == "__main__":
    main()
