"""Bytes of a file changed, without regard to what they mean."""

from __future__ import annotations

from pathlib import Path

from parity_tests.fuzz import seeds
from parity_tests.fuzz.draw import Random, one_of
from parity_tests.fuzz.trial import Case

FILES = (
    "tree.pth",
    "legacy.pth",
    "named.pth",
    "named.legacy.pth",
    "module.pth",
    "module.legacy.pth",
    "plain.safetensors",
    "converted.npz",
    "converted.safetensors",
)


def mutated(data: bytes, random: Random) -> bytes:
    """One to four changes: bytes flipped, set, cut out, inserted, repeated, swapped, or the end lost."""
    out = bytearray(data)
    for _ in range(random.integers(1, 5)):
        at, length = int(random.integers(0, max(len(out), 1))), int(random.integers(1, 17))
        kind = random.integers(0, 7)
        if kind == 0 and out:
            out[at] ^= 1 << int(random.integers(0, 8))
        elif kind == 1 and out:
            out[at] = int(random.choice([0, 1, 0x7F, 0x80, 0xFF, *b"cRbQ.(t}]KMJq"]))
        elif kind == 2:
            del out[at : at + length]
        elif kind == 3:
            out[at:at] = random.bytes(length)
        elif kind == 4:
            out[at:at] = out[at : at + length]
        elif kind == 5:
            other = int(random.integers(0, max(len(out), 1)))
            out[at : at + length], out[other : other + length] = out[other : other + length], out[at : at + length]
        elif random.random() < 0.2:
            del out[at:]
    return bytes(out)


def case(random: Random, source: Path, folder: Path) -> Case:
    """A file of any format with some bytes changed."""
    name = one_of(random, FILES)
    path = folder / name
    path.write_bytes(mutated(seeds.data(source / name), random))
    converted = name in seeds.CONVERTED
    return Case(path, f"bytes of {name}", {} if converted else seeds.given(random), converted, torch=name.endswith(".pth"))
