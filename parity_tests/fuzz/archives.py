"""Zip archives: members in another order, packed, twice, missing, renamed, of wrong sizes and places, inside of each other."""

from __future__ import annotations

import dataclasses
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from parity_tests.fuzz import seeds
from parity_tests.fuzz.draw import TEXTS, Random, below, chance, one_of
from parity_tests.fuzz.trial import Case

WORDS = (0, 1, 2, 8, 12, 14, 45, 99, 0xFFFF)
NUMBERS = (0, 1, 30, 46, 1 << 20, 1 << 31, 0xFFFFFFFE, 0xFFFFFFFF)


@dataclasses.dataclass
class Member:
    """A member, with everything that both of its headers say."""

    name: bytes
    data: bytes
    """As it lies in the file."""
    size: int
    crc: int
    method: int = 0
    flags: int = 0x800
    packed: int | None = None
    offset: int | None = None
    extra: bytes = b""
    inner: bytes | None = None
    """The name in its own header, if that is another one."""


def members(data: bytes) -> list[Member]:
    """Those of an archive, unpacked."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return [stored(info.filename.encode(), file.read(info)) for info in file.infolist()]


def stored(name: bytes, data: bytes) -> Member:
    """A member as it should be."""
    return Member(name, data, len(data), zlib.crc32(data))


def written(entries: list[Member], before: bytes = b"", comment: bytes = b"", end: dict[int, int] | None = None) -> bytes:
    """The archive. `end`: numbers of its last record, by position, that are other ones."""
    out, directory = bytearray(before), b""
    for entry in entries:
        packed = len(entry.data) if entry.packed is None else entry.packed
        name = entry.name if entry.inner is None else entry.inner
        at = len(out) if entry.offset is None else entry.offset
        both = struct.pack("<HHHHIII", entry.flags, entry.method, 0, 33, entry.crc, packed & 0xFFFFFFFF, entry.size & 0xFFFFFFFF)
        out += b"PK\x03\x04" + struct.pack("<H", 20) + both + struct.pack("<HH", len(name), len(entry.extra)) + name + entry.extra
        out += entry.data
        directory += b"PK\x01\x02" + struct.pack("<HH", 20, 20) + both
        directory += struct.pack("<HHHHHII", len(entry.name), len(entry.extra), 0, 0, 0, 0, at & 0xFFFFFFFF) + entry.name + entry.extra
    last = [0, 0, len(entries), len(entries), len(directory), len(out), len(comment)]
    for place, number in (end or {}).items():
        last[place] = number & (0xFFFFFFFF if place in (4, 5) else 0xFFFF)
    return bytes(out) + directory + b"PK\x05\x06" + struct.pack("<HHHHIIH", *last) + comment


def packed(entry: Member) -> Member:
    """The member deflated."""
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    return dataclasses.replace(entry, data=engine.compress(entry.data) + engine.flush(), method=8)


def _shuffle(random: Random, entries: list[Member]) -> None:
    random.shuffle(entries)  # pyright: ignore[reportArgumentType]


def _pack(random: Random, entries: list[Member]) -> None:
    for n in range(len(entries)):
        if chance(random, 0.6):
            entries[n] = packed(entries[n])


def _align(random: Random, entries: list[Member]) -> None:
    for entry in entries:
        size = below(random, 64)
        entry.extra = struct.pack("<HH", 0x4246, size) + bytes(size)


def _top(random: Random, entries: list[Member]) -> None:
    for entry in entries:
        entry.name = b"archive/" + entry.name.partition(b"/")[2]


def _more(random: Random, entries: list[Member]) -> None:
    top = entries[0].name.partition(b"/")[0]
    entries.insert(below(random, len(entries)), stored(top + b"/.data/" + random.bytes(4).hex().encode(), random.bytes(9)))


KEEPING: tuple[Callable[[Random, list[Member]], None], ...] = (_shuffle, _pack, _align, _top, _more)
"""Changes after which the file means what it did."""


def _any(random: Random, entries: list[Member]) -> Member:
    return one_of(random, entries)


def _twice(random: Random, entries: list[Member]) -> None:
    entry = _any(random, entries)
    data = random.bytes(len(entry.data)) if chance(random, 0.5) else entry.data
    entries.insert(below(random, len(entries) + 1), dataclasses.replace(entry, data=data, crc=zlib.crc32(data)))


def _gone(random: Random, entries: list[Member]) -> None:
    entries.remove(_any(random, entries))


def _renamed(random: Random, entries: list[Member]) -> None:
    entry = _any(random, entries)
    text = one_of(random, (*TEXTS, "data.pkl", "constants.pkl", "code/x.py", "data/0", "byteorder", "version")).encode(
        "utf-8", "surrogatepass"
    )
    top = entry.name.partition(b"/")[0]
    entry.name = one_of(random, (text, top + b"/" + text, top + b"/data/" + text))[:65535]
    entry.flags = one_of(random, (0, 0x800))


def _inner(random: Random, entries: list[Member]) -> None:
    _any(random, entries).inner = one_of(random, (b"", b"x", b"../x", b"a/data/0", bytes(40)))


def _sizes(random: Random, entries: list[Member]) -> None:
    entry = _any(random, entries)
    change = one_of(random, (lambda n: n + 1, lambda n: n - 1, lambda n: 0, lambda n: 1 << 31, lambda n: 0xFFFFFFFF, lambda n: n * 2))
    for field in one_of(random, (("size",), ("packed",), ("size", "packed"))):
        setattr(entry, field, max(change(len(entry.data)), 0))


def _sums(random: Random, entries: list[Member]) -> None:
    entry = _any(random, entries)
    entry.crc ^= 1 << below(random, 32)


def _content(random: Random, entries: list[Member]) -> None:
    entry = _any(random, entries)
    data = bytearray(entry.data)
    for _ in range(1 + below(random, 3)):
        if data:
            data[below(random, len(data))] ^= 1 << below(random, 8)
    entry.data = bytes(data)
    if chance(random, 0.5):
        entry.crc = zlib.crc32(data)


def _cut(random: Random, entries: list[Member]) -> None:
    entry = _any(random, entries)
    entry.data = entry.data[: below(random, len(entry.data) + 1)] + random.bytes(below(random, 9))
    if chance(random, 0.7):
        entry.size, entry.crc = len(entry.data), zlib.crc32(entry.data)


def _method(random: Random, entries: list[Member]) -> None:
    entry = _any(random, entries)
    if chance(random, 0.5):
        entry.method = one_of(random, WORDS)
    else:
        entry.flags = one_of(random, (0, 1, 8, 0x41, 0x808, 0x2000, 0xFFFF))


def _place(random: Random, entries: list[Member]) -> None:
    _any(random, entries).offset = one_of(random, (*NUMBERS, below(random, 4000)))


def _extra(random: Random, entries: list[Member]) -> None:
    kind, size = one_of(random, (1, 0x7075, 0x4246, 0xFFFF)), below(random, 40)
    _any(random, entries).extra = struct.pack("<HH", kind, one_of(random, (size, 0, 8, 24, 0xFFFF))) + random.bytes(size)


def _nested(random: Random, entries: list[Member]) -> None:
    entry, whole = _any(random, entries), written(entries)
    entry.data, entry.size, entry.crc = whole, len(whole), zlib.crc32(whole)


def _deep(random: Random, entries: list[Member]) -> None:
    """What unpacks to far more than it is."""
    data = bytes(one_of(random, (1 << 16, 1 << 20, 3 << 20)))
    name = _any(random, entries).name
    entries[:] = [entry for entry in entries if entry.name != name]
    entries.insert(below(random, len(entries) + 1), packed(stored(name, data)))


BREAKING: tuple[Callable[[Random, list[Member]], None], ...] = (
    _twice,
    _gone,
    _renamed,
    _inner,
    _sizes,
    _sums,
    _content,
    _cut,
    _method,
    _place,
    _extra,
    _nested,
    _deep,
)


def case(random: Random, source: Path, folder: Path) -> Case:
    """A torch file or a converted .npz as another archive."""
    name = one_of(random, ("tree.pth", "adam.pth", "named.pth", "module.pth", "converted.npz"))
    entries, converted = members(seeds.data(source / name)), name in seeds.CONVERTED
    keeping = chance(random, 0.25)
    changes = [one_of(random, KEEPING if keeping else (*BREAKING, *BREAKING, *KEEPING)) for _ in range(1 + below(random, 3))]
    if converted:
        changes = [change for change in changes if change not in (_top, _more)]
    if keeping:
        changes.sort(key=lambda change: change is _pack)  # what is packed stays so
        changes = list(dict.fromkeys(changes))
    for change in changes:
        if entries:
            change(random, entries)
    before = comment = b""
    end = {}
    if not keeping and chance(random, 0.15):
        before = random.bytes(below(random, 20))
    if chance(random, 0.1):
        comment = random.bytes(below(random, 20)).replace(b"PK", b"  ")
    if not keeping and chance(random, 0.15):
        end = {below(random, 7): one_of(random, (*NUMBERS, *WORDS))}
    path = folder / name
    path.write_bytes(written(entries, before, comment, end))
    what = f"{name}: {', '.join(change.__name__.strip('_') for change in changes)}{f', its end {end}' if end else ''}"
    same = seeds.arrays(source / name) if keeping else None
    return Case(path, what, {} if converted else seeds.given(random), converted, same, must=keeping, sums=True, torch=not converted)
