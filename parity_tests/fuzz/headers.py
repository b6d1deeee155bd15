"""safetensors with other headers, and indices of shards."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from parity_tests.fuzz import seeds, texts
from parity_tests.fuzz.draw import DTYPES, INTEGERS, Random, below, chance, one_of
from parity_tests.fuzz.trial import Case
from parity_tests.weights.files import assembly as a


def _parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def header(random: Random, source: Path, folder: Path) -> Case:
    """A plain file, or a converted one, with another header."""
    name = one_of(random, ("plain.safetensors", "plain.safetensors", "converted.safetensors"))
    converted = name in seeds.CONVERTED
    given = {} if converted else seeds.GIVEN
    head, data = _parts(seeds.data(source / name))
    if chance(random, 0.2):
        keys = list(head)
        random.shuffle(keys)
        text = texts.respelled(random, {key: head[key] for key in keys})
        path = a.safetensors(folder / name, text.encode(), data)
        return Case(path, f"{name}: keys in another order", given, converted, seeds.arrays(source / name), must=True)
    pairs = texts.paired(head)
    entries = [pair for pair in pairs if pair[0] != "__metadata__"]
    entry, kind, said = one_of(random, entries)[1], below(random, 8), ""
    if kind == 0:
        entry[:] = [[key, one_of(random, DTYPES) if key == "dtype" else value] for key, value in entry]
    elif kind == 1:
        shape = [one_of(random, INTEGERS) for _ in range(below(random, 4))]
        entry[:] = [[key, shape if key == "shape" else value] for key, value in entry]
    elif kind == 2:
        ends = [one_of(random, (*INTEGERS, below(random, 100))) for _ in range(2)]
        entry[:] = [[key, ends if key == "data_offsets" else value] for key, value in entry]
    elif kind == 3:
        entry[:] = one_of(random, entries)[1]
    else:
        pairs, said = texts.changed(random, pairs, 1 + below(random, 2))
    text = texts.written(pairs).encode("utf-8", "surrogatepass")
    if chance(random, 0.1):
        data = one_of(random, (data[: below(random, len(data))], data + b"x", b""))
    path = a.safetensors(folder / name, text, data)
    if chance(random, 0.1):
        path.write_bytes(struct.pack("<Q", one_of(random, (0, 1, len(text) - 1, len(text) + 1, 1 << 39, (1 << 63) - 1))) + text + data)
    return Case(path, f"{name}: header, kind {kind} {said}", given, converted, twice=texts.repeats(pairs))


def shards(random: Random, source: Path, folder: Path) -> Case:
    """An index of two shards."""
    head, data = _parts(seeds.data(source / "plain.safetensors"))
    keys = [key for key in head if key != "__metadata__"]
    where: dict[str, str] = {}
    for name in ("a.safetensors", "b.safetensors"):
        own = [key for key in keys if (key < "l") == (name[0] == "a")]
        part, end, body = {}, 0, b""
        for key in own:
            begin, after = head[key]["data_offsets"]
            part[key] = {**head[key], "data_offsets": [end, end + after - begin]}
            body, end = body + data[begin:after], end + after - begin
        a.safetensors(folder / name, part, body)
        where |= dict.fromkeys(own, name)
    index = {"metadata": {"total_size": len(data)}, "weight_map": where}
    same, must, said, twice = seeds.arrays(source / "plain.safetensors"), chance(random, 0.2), "as it should be", False
    if must:
        random.shuffle(keys)
        text = texts.respelled(random, {**index, "weight_map": {key: where[key] for key in keys}})
    else:
        kind = below(random, 4)
        if kind == 0:
            where[one_of(random, keys)] = one_of(
                random, ("a.safetensors", "c.safetensors", "x.index.json", "../a", "a\0", "\ud800", ".", "/dev/zero", "")
            )
            said = f"{where}"
        elif kind == 1:
            (folder / "b.safetensors").write_bytes(one_of(random, (b"", b"{}", b"PK", seeds.data(source / "tree.pth"))))
            said = "another shard"
        pairs = texts.paired(index)
        if kind > 1:
            pairs, said = texts.changed(random, pairs, 1 + below(random, 2))
        text, twice = texts.written(pairs), texts.repeats(pairs)
    (folder / "x.index.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    return Case(folder / "x.index.json", f"index: {said}", seeds.GIVEN, same=same if must else None, must=must, twice=twice)
