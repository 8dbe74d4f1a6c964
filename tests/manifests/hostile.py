"""Hostile shards: headers, images, and ways to generate more."""

import io
import struct
import zlib

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from impure.manifests.base.images import MAX_STORED_SIDE, encode_png, encode_webp
from impure.manifests.collection.samples import Sample
from impure.manifests.collection.shard_id import ShardId
from impure.manifests.collection.storage import Storage
from impure.manifests.collection.storage_profiles import PROFILES
from tests.manifests.stored import write_tar

PIXELS = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
SAMPLES = [Sample(key, PIXELS, PIXELS[::-1], 7, {"key": key}) for key in ("toy__x__a", "toy__x__b")]
END = bytes(1024)
SHARD = ShardId("toy", "pgd", "test", 0)
GIB = 1 << 30


def header(name=b"a.txt", size=0, kind=b"0", *, field=None, magic=b"ustar\x0000", checksum=None):
    """A tar header; `field` stands in for the size's twelve bytes."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:108] = b"0000644\0"
    block[124:136] = field or b"%011o\0" % size
    block[156:157] = kind
    block[257:265] = magic
    return signed(block, checksum)


def signed(block, checksum=None):
    """The header with its checksum."""
    block[148:156] = b" " * 8
    block[148:156] = checksum or b"%06o\0 " % sum(block)
    return bytes(block)


def member(name, data, kind=b"0"):
    return header(name, len(data), kind) + data + bytes(-len(data) % 512)


def valid(storage=Storage(), attack="x"):  # noqa: B008
    """Members of two good samples, as bytes of a tar without its end."""
    made = [each for sample in SAMPLES for each in storage.members(sample, attack)]
    return b"".join(member(name.encode(), data) for name, data in made)


def pax(*records):
    """Extended-header records with their lengths, as `b"key=value"`."""
    lines = []
    for record in records:
        length = len(record) + 3
        length = next(n for n in range(length, length + 9) if len(b"%d " % n) + len(record) + 1 == n)
        lines.append(b"%d %s\n" % (length, record))
    return b"".join(lines)


IGNORED = {
    "pickle": member(b"a.pkl", b"\x80\x04cposix\nsystem\n(S'touch /tmp/impure-was-here'\ntR."),
    "npy with objects": member(b"a.npy", b"\x93NUMPY"),
    "path traversal": member(b"../../toy__x__c.cls", b"1"),
    "absolute name": member(b"/etc/toy__x__c.cls", b"1"),
    "below a folder": member(b"x/toy__x__c.cls", b"1"),
    "no key": member(b".cls", b"1"),
    "symbolic link": header(b"c.txt", kind=b"2"),
    "hard link": header(b"c.txt", kind=b"1"),
    "device": header(b"c.txt", kind=b"3"),
    "folder": header(b"./", kind=b"5"),
    "pipe": header(b"c.txt", kind=b"6"),
    "name that is no UTF-8": member(b"\xff\xfe\x80.png", b"x"),
    "modification time": member(b"PaxHeader", pax(b"mtime=1.5"), b"x"),
    "global comment": member(b"PaxHeader", pax(b"comment=hello"), b"g"),
}
REFUSED = {
    "symbolic link as a member": header(b"c.cls", kind=b"2"),
    "hard link as a member": header(b"c.adv.png", kind=b"1"),
    "device as a member": header(b"c.json", kind=b"4"),
    "link with content": member(b"c.txt", b"/etc/passwd", b"2"),
    "GNU long name": member(b"././@LongLink", b"c.cls\0", b"L"),
    "GNU long name of a GiB": header(b"././@LongLink", GIB, b"L"),
    "GNU long link": header(b"././@LongLink", GIB, b"K"),
    "GNU sparse": header(b"c.cls", 1, b"S"),
    "multi-volume": header(b"c.cls", 1, b"M"),
    "unknown kind": header(b"c.cls", 1, b"A"),
    "extended path": member(b"x", pax(b"path=../../etc/c.cls"), b"x"),
    "extended size": member(b"x", pax(b"mtime=1", b"size=9"), b"x"),
    "negative extended size": member(b"x", pax(b"size=-512"), b"x"),
    "extended link": member(b"x", pax(b"linkpath=/etc/passwd"), b"x"),
    "extended sparse": member(b"x", pax(b"GNU.sparse.major=1", b"GNU.sparse.map=0,1"), b"x"),
    "extended for all": member(b"x", pax(b"path=c.cls"), b"g"),
    "malformed records": member(b"x", b"9" * 600, b"x"),
    "quadratic records": member(b"x", b"1" * 60_000, b"x"),
    "extended header beyond the end": header(b"x", GIB, b"x"),
    "size beyond the end": header(b"c.txt", 0o77777777777),
    "binary size": header(b"c.txt", field=b"\x80" + bytes(10) + b"\x01"),
    "negative binary size": header(b"c.txt", field=struct.pack(">iq", -1, -512)),
    "negative size": header(b"c.txt", field=b"-0000001000\0"),
    "size with an underscore": header(b"c.txt", field=b"0000000_010\0"),
    "size that is no number": header(b"c.txt", field=b"00000000009\0"),
    "no size": header(b"c.txt", field=bytes(12)),
    "wrong checksum": header(b"c.txt", checksum=b"000001\0 "),
    "checksum that is no number": header(b"c.txt", checksum=b"zzzzzzz\0"),
    "old tar": header(b"c.txt", magic=bytes(8)),
    "gzip": b"\x1f\x8b" + bytes(600),
    "key that is no UTF-8": member(b"toy__x__\xff.cls\0", b"1"),
    "key with a line break": member(b"toy\n.cls", b"1"),
    "key twice": member(b"toy__x__b.cls", b"1"),
    "both encodings": member(b"toy__x__d.adv.png", b"") + member(b"toy__x__d.adv.webp", b""),
    "sample without images": member(b"toy__x__c.cls", b"1") + member(b"toy__x__c.json", b"{}"),
    "cut inside a header": b"ustar",
}  # fmt: skip


def png(*chunks, side=4):
    """A PNG of black pixels with more chunks before its pixels."""
    kind = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = b"IDAT" + zlib.compress(bytes(4 * 13))
    parts = [kind, *chunks, pixels, b"IEND"]
    packed = (struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def webp(*chunks):
    body = b"".join(
        kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def animated():
    out = io.BytesIO()
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")] * 50
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    return out.getvalue()


ZEROS = zlib.compress(bytes(48 << 20), 9)
LARGE = encode_webp(np.zeros((8, 8, 3), np.uint8))
IMAGES = {
    "png of 50000 pixels a side": ("png", png(side=50_000)),
    "png of more pixels a side than are read": ("png", png(side=MAX_STORED_SIDE + 1)),
    "png with a bomb of text": ("png", png(b"zTXt" + b"k\0\0" + ZEROS)),
    "png with a bomb of international text": ("png", png(b"iTXt" + b"k\0\x01\0\0\0" + ZEROS)),
    "png with a bomb of a colour profile": ("png", png(b"iCCP" + b"k\0\0" + ZEROS)),
    "png with a million bytes of text": ("png", png(b"tEXt" + b"k\0" + bytes(1 << 20))),
    "png of 16 bits": ("png", png().replace(b"\x08\x02", b"\x10\x02", 1)),
    "png without pixels": ("png", encode_png(PIXELS)[:40]),
    "png that is a webp": ("png", encode_webp(PIXELS)),
    "webp that is a png": ("webp", encode_png(PIXELS)),
    "webp of 16384 pixels a side": ("webp", webp((b"VP8L", b"\x2f\xff\xff\xff\x0f" + bytes(40)))),
    "webp canvas of 50000 pixels a side": (
        "webp", webp((b"VP8X", b"\x02\0\0\0" + struct.pack("<I", 49_999)[:3] * 2), (b"ANIM", bytes(6))),
    ),
    "animated webp": ("webp", animated()),
    "webp cut short": ("webp", LARGE[:-9]),
    "empty": ("png", b""),
}  # fmt: skip


def with_image(path, encoding, data):
    made = [(f"k.clean.{encoding}", data), (f"k.adv.{encoding}", data), ("k.cls", b"1"), ("k.json", b"{}")]
    return write_tar(path, made)


GOOD = [
    valid(Storage(encoding=e, profile=p), a)
    for e in ("png", "webp")
    for p in PROFILES
    for a in ("x", "clean")
]
bytes_of = st.binary(max_size=40)
FIELDS = [(0, 100), (100, 8), (124, 12), (148, 8), (156, 1), (157, 100), (257, 8), (345, 155)]
NAMES = [
    b"toy__x__a.adv.png",
    b"toy__x__c.cls",
    b"c.json",
    b"c.delta.webp",
    b"c.clean.png",
    b"../c.cls",
    b"c",
    b"",
]
CONTENT = [
    b"",
    b"1",
    b"{}",
    encode_png(PIXELS),
    encode_webp(PIXELS),
    b"\x80\x04.",
    png(b"tEXtk\0v"),
    ZEROS[:900],
]


@st.composite
def flipped(draw):
    data = bytearray(draw(st.sampled_from(GOOD)) + END)
    for place, value in draw(
        st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(1, 255)), min_size=1, max_size=8)
    ):
        data[place] ^= value
    return bytes(data)


@st.composite
def cut_and_spliced(draw):
    data, other = draw(st.sampled_from(GOOD)) + END, draw(st.sampled_from(GOOD)) + END
    first, second = sorted(draw(st.tuples(st.integers(0, len(data)), st.integers(0, len(data)))))
    third = draw(st.integers(0, len(other)))
    step = draw(st.sampled_from([1, 512]))
    first, second, third = (place // step * step for place in (first, second, third))
    return draw(
        st.sampled_from(
            [data[:first], data[first:], data[:first] + other[third:], data[:second] + data[first:]]
        )
    )


@st.composite
def edited(draw):
    """Any bytes in any field of any header, under a checksum that is right."""
    data = bytearray(draw(st.sampled_from(GOOD)) + END)
    headers = [at for at in range(0, len(data), 512) if data[at + 257 : at + 262] == b"ustar"]
    for _ in range(draw(st.integers(1, 3))):
        at, (offset, length) = draw(st.sampled_from(headers)), draw(st.sampled_from(FIELDS))
        numbers = st.integers(0, 8**11 - 1).map(lambda n: b"%011o\0" % n)
        value = draw(
            st.one_of(
                bytes_of, numbers, st.sampled_from([*b"0123456789LKSxgXVDM\0"]).map(lambda n: bytes([n]))
            )
        )
        block = data[at : at + 512]
        block[offset : offset + min(length, len(value))] = value[:length]
        data[at : at + 512] = signed(block)
    return bytes(data)


@st.composite
def listed(draw):
    """Random members, some of them good, in random order."""
    kinds = st.sampled_from([b"0"] * 6 + [b"\0", b"1", b"2", b"5", b"x", b"g", b"L"])
    members = st.tuples(st.sampled_from(NAMES), st.sampled_from(CONTENT) | bytes_of, kinds).map(
        lambda each: member(*each)
    )
    whole = st.sampled_from([data[at:end] for data in GOOD for at, end in spans(data)])
    return b"".join(draw(st.lists(members | whole, max_size=12))) + END


def spans(data):
    """Where each member of a valid tar begins and ends."""
    at = 0
    while at < len(data):
        size = int(data[at + 124 : at + 135], 8)
        yield at, at + 512 + -(-size // 512) * 512
        at += 512 + -(-size // 512) * 512


SHARDS = st.one_of(flipped(), cut_and_spliced(), edited(), listed())
