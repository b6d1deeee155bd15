"""Converted checkpoints of ours that somebody has changed: their documents, their arrays, their plan."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from parity_tests.fuzz import archives, seeds, texts
from parity_tests.fuzz.damage import mutated
from parity_tests.fuzz.draw import Random, below, chance, one_of
from parity_tests.fuzz.trial import Case
from parity_tests.weights.files import assembly as a

DOCUMENTS = ("torch", "torch", "torch", "torch", "config", "report")
PARTS = ("plan", "tree", "keys", "arrays", "manifolds", "settings", "constants", "crc32")
"""Of torch.json: what a change goes to rather than to a number somewhere in the tree."""


def _changed(random: Random, document: dict, name: str) -> tuple[str, str]:
    """Other JSON in place of a document, and what was done."""
    pairs, said, times = texts.paired(document), [], 1 + below(random, 2)
    for _ in range(times):
        here = [pair for pair in pairs if isinstance(pair, list) and pair and pair[0] in PARTS]
        if name == "torch" and here and chance(random, 0.6):
            pair = one_of(random, here)
            new, what = texts.changed(random, [pair[1]])
            if len(new):
                pair[1] = new[0]
            said.append(f"{pair[0]}: {what}")
        else:
            pairs, what = texts.changed(random, pairs)
            said.append(what)
    return texts.written(pairs), f"{name}: {'; '.join(said)}"


def documents(random: Random, source: Path, folder: Path) -> Case:
    """The documents of a conversion changed, with the checksums that then belong to them."""
    form, name = one_of(random, list(seeds.CONVERTED)), one_of(random, DOCUMENTS)
    path = seeds.copied(source / form, folder)
    if path.is_dir():
        text, what = _changed(random, json.loads((path / f"{name}.json").read_text()), name)
        (path / f"{name}.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    elif form.endswith(".npz"):
        entries = archives.members(path.read_bytes())
        entry = next(e for e in entries if e.name == f"{name}.json.npy".encode())
        document = json.loads(np.load(io.BytesIO(entry.data)).item())
        text, what = _changed(random, document, name)
        new = io.BytesIO()
        np.save(new, np.array(text.encode("utf-8", "surrogatepass") or b" "))
        entries[entries.index(entry)] = archives.stored(entry.name, new.getvalue())
        path.write_bytes(archives.written(entries))
    else:
        data = path.read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        head = json.loads(data[8 : 8 + length])
        metadata = head["__metadata__"]
        metadata[name], what = _changed(random, json.loads(metadata[name]), name)
        whole = "\0".join(metadata[part] for part in ("config", "report", "torch")).encode("utf-8", "surrogatepass")
        metadata["crc32"] = f"{zlib.crc32(whole):08x}"
        a.safetensors(path, head, data[8 + length :])
    return Case(path, f"{form}, {what}", converted=True)


def _files(path: Path) -> list[Path]:
    """In an order that is the same on every machine: Orbax draws the names of its data."""
    return sorted((found for found in path.rglob("*") if found.is_file()), key=lambda file: (*_said(file, path), file.stat().st_size))


def _said(file: Path, path: Path) -> tuple[str, ...]:
    return tuple("data" if len(part) == 32 else part for part in file.relative_to(path).parts)


def entries(random: Random, source: Path, folder: Path) -> Case:
    """The files of a converted folder: damaged, exchanged, missing, more of them; what is read is what was written."""
    path = seeds.copied(source / "converted", folder)
    said = []
    for _ in range(1 + below(random, 2)):
        if not (files := _files(path)):
            break
        file, kind = one_of(random, files), below(random, 9)
        said.append(f"{kind} at {'/'.join(_said(file, path))}")
        if kind == 0:
            file.write_bytes(mutated(file.read_bytes(), random))
        elif kind == 1:
            file.unlink()
        elif kind == 2:
            file.write_bytes(file.read_bytes()[: below(random, file.stat().st_size + 1)])
        elif kind == 3:
            file.write_bytes(one_of(random, files).read_bytes())
        elif kind == 4:
            file.rename(file.with_name(one_of(random, ("x", "torch.json", "manifest.ocdbt"))))
        elif kind == 5:
            (file.parent / one_of(random, ("more", "more.json", ".hyperport.1.2.3.4.part"))).write_bytes(random.bytes(9))
        elif kind == 6:
            file.unlink()
            one_of(random, (Path.mkdir, os.mkfifo, partial(os.symlink, "nothing"), partial(os.symlink, "/dev/zero")))(file)
        elif kind == 7:
            (path / ".hyperport.new").mkdir(exist_ok=True)
            (path / ".hyperport.new" / file.name).write_bytes(file.read_bytes())
        else:
            directory = path / one_of(random, ("arrays", "arrays/d", "arrays/ocdbt.process_0"))
            if directory.is_dir():
                shutil.rmtree(directory)
                if chance(random, 0.3):
                    directory.write_bytes(b"x")
    return Case(path, "converted: " + "; ".join(said), converted=True, same=_same(source, said))


def _same(source: Path, said: list[str]) -> Any:
    """The numbers, unless torch.json itself may be another one now: in a folder it has no checksum."""
    return None if any("torch.json" in what or what[0] in "347" for what in said) else seeds.arrays(source / "converted")
