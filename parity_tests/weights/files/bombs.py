"""Files that ask for the time and the memory of a machine, each read in a process of its own: `python -m parity_tests.weights.files.bombs`.

Prints a line of JSON for each: what the reader said, the seconds of processor time, and the MiB of memory over those at the start.
"""

from __future__ import annotations

import io
import json
import os
import resource
import socket
import struct
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from parity_tests.weights.files import assembly as a
from weights.checkpoint import load
from weights.files import npz
from weights.files.config import read_config

MIB = 1 << 20
SECONDS, MEMORY = 20, 4 << 30
"""Where a process is stopped that reads without an end."""
W = a.text("w") + a.tensor()
DEEP = a.twice(60)
FLOATS = a.called("numpy", "dtype", a.text("f4"), b"\x89", b"\x88")
ONE_MIB = a.text("a" * MIB) + a.put(5) + a.POP
Bomb = Callable[[Path], Callable[[], object]]
"""Writes files into a folder, and gives what reads them."""


def _reads(path: Path) -> Callable[[], object]:
    return lambda: load(path, arch="tree")


def _pickle(*body: bytes, **options: object) -> Bomb:
    """A torch file with this pickle."""
    return lambda folder: _reads(a.archive(folder / "x.pth", a.pickled(b"".join(body)), **options))  # pyright: ignore[reportArgumentType]


def _beside(value: bytes) -> Bomb:
    """A value beside a tensor."""
    return _pickle(a.dict_of(W, a.text("x"), value))


def _printed() -> Iterator[tuple[str, Bomb]]:
    """Every place of a pickle of which a message shows the value."""
    hooks = a.called("collections", "OrderedDict")
    shape, stride = a.tuple_of(a.integer(4)), a.tuple_of(a.integer(1))
    rebuilt = partial(a.called, "torch._utils", "_rebuild_tensor_v2")
    where = {
        "a persistent id": DEEP + b"Q",
        "an offset": rebuilt(a.storage(), DEEP, shape, stride, b"\x89", hooks),
        "a shape": rebuilt(a.storage(), a.integer(0), DEEP, DEEP, b"\x89", hooks),
        "marks": rebuilt(a.storage(), a.integer(0), shape, stride, b"\x89", hooks, DEEP),
        "a class": DEEP + a.EMPTY + b"\x81",
        "a class with keywords": DEEP + a.EMPTY + a.dict_of(a.text("k"), a.NONE) + b"\x92",
        "a function": DEEP + a.EMPTY + a.CALL,
        "partial": a.called("functools", "partial", DEEP),
        "getattr": a.called("builtins", "getattr", DEEP, a.text("k")),
        "a storage's type": a.tuple_of(a.text("storage"), DEEP, a.text("0"), a.text("cpu"), a.integer(4)) + b"Q",
        "a storage's key": a.tuple_of(a.text("storage"), a.named("torch", "FloatStorage"), DEEP, a.text("cpu"), a.integer(4)) + b"Q",
        "a numpy type": a.called("numpy.core.multiarray", "scalar", a.called("numpy", "dtype", DEEP), b"C\x04aaaa"),
        "attributes": hooks + a.dict_of(a.text("k"), DEEP) + b"b",
        "an epoch": DEEP,
        "a record": a.called("builtins", "slice", DEEP, DEEP, DEEP),
        "an attribute of a record": a.named("argparse", "Namespace") + a.EMPTY + b"\x81" + a.dict_of(a.text("k"), DEEP) + b"b",
    }
    yield from ((f"prints {name}", _beside(value)) for name, value in where.items())
    yield "prints keys of the old format", lambda folder: _reads(a.legacy(folder / "x.pth", a.dict_of(W), a.list_of(DEEP), bytes(24)))


def _hashed() -> Iterator[tuple[str, Bomb]]:
    """Keys that are long to hash, and keys that share a hash."""
    pairs = a.list_of(a.tuple_of(DEEP, a.integer(1)))
    for name in ("Counter", "OrderedDict"):
        yield f"hashes a key of {name}", _beside(a.called("collections", name, pairs))
    yield "hashes a key of defaultdict", _beside(a.called("collections", "defaultdict", a.NONE, pairs))
    yield "hashes a key", _beside(a.dict_of(DEEP, a.NONE))
    yield "hashes a member", _beside(a.called("builtins", "set", a.list_of(DEEP)))
    one_hash = [a.called("builtins", "complex", *(b"G" + struct.pack(">d", x) for x in (-1000003.0 * k, k))) for k in range(1, 20_000)]
    yield "numbers of one hash", _beside(a.dict_of(*(key + a.NONE for key in one_hash)))
    yield "numbers of one hash, one by one", _beside(b"}" + b"".join(key + a.NONE + b"s" for key in one_hash))
    yield "members of one hash", _beside(b"\x8f(" + b"".join(one_hash) + b"\x90")
    yield "tuples of one hash", _beside(a.dict_of(*(a.tuple_of(*map(a.integer, pair)) + a.NONE for pair in _pairs_of_one_hash(20_000))))
    yield "integers of one hash", _beside(a.dict_of(*(a.integer(k * ((1 << 61) - 1)) + a.NONE for k in range(1, 20_000))))
    yield "places in the memo of one hash", _beside(a.NONE + b"".join(b"p%d\n" % (k * ((1 << 61) - 1)) for k in range(1, 20_000)))


def _pairs_of_one_hash(count: int) -> list[tuple[int, int]]:
    """Pairs of integers with one hash: for each first number, CPython's hash of tuples (xxHash) solved for the second one."""
    mask, p1, p2, p5 = (1 << 64) - 1, 11400714785074694791, 14029467366897019727, 2870177450012600261
    back1, back2 = pow(p1, -1, 1 << 64), pow(p2, -1, 1 << 64)

    def rotated(x: int, by: int) -> int:
        return ((x << by) | (x >> (64 - by))) & mask

    end = rotated((12345678901234567890 - (2 ^ (p5 ^ 3527539))) * back1 & mask, 33)
    found: list[tuple[int, int]] = []
    first = 0
    while len(found) < count:
        first += 1
        second = (end - rotated((p5 + first * p2) & mask, 31) * p1) * back2 & mask
        if second < (1 << 61) - 1:
            found.append((first, second))
    return found


def _unfolded() -> Iterator[tuple[str, Bomb]]:
    """One object in many places."""
    yield "modules that share modules", _pickle(_shared_modules(60))
    yield "modules that share modules, to 2**15", _pickle(_shared_modules(15))
    yield "a module inside of itself", _pickle(_module_in_itself())
    yield "lists deep inside of a module", _pickle(a.module(parameters=W, beside=a.text("k") + b"](" * 5000 + b"e" * 5000))
    yield "one text in many places", _pickle(ONE_MIB, a.dict_of(W, a.text("x"), a.list_of(a.get(5) * 50_000)))
    yield "one key in many places", _pickle(ONE_MIB, a.dict_of(W, a.text("x"), a.list_of(*[a.dict_of(a.get(5), a.NONE)] * 5000)))
    yield "one text encoded", _pickle(ONE_MIB, a.dict_of(W, a.text("x"), a.list_of(*[a.called("_codecs", "encode", a.get(5))] * 3000)))
    yield "one text as names", _pickle(ONE_MIB, a.dict_of(W, a.text("x"), a.list_of(*[a.get(5) * 2 + b"\x93"] * 3000)))
    yield "one text listed", _pickle(ONE_MIB, a.dict_of(W, a.text("x"), a.list_of(*[a.called("builtins", "list", a.get(5))] * 300)))
    entries = a.dict_of(*(a.integer(k) + a.NONE for k in range(20_000))) + a.put(5) + a.POP
    yield "one dictionary copied", _pickle(entries, a.dict_of(W, a.text("x"), a.list_of(*[a.called("builtins", "dict", a.get(5))] * 3000)))
    numbers = a.blob(bytes(MIB)) + a.put(5) + a.POP + FLOATS + a.put(6) + a.POP
    array = a.called("numpy.core.numeric", "_frombuffer", a.get(5), a.get(6), a.tuple_of(a.integer(MIB // 4)), a.text("C"))
    yield "one array made again", _pickle(numbers, a.dict_of(W, a.text("x"), a.list_of(*[array] * 2000)))
    yield (
        "a text as a shape",
        _beside(
            a.called(
                "numpy.core.numeric", "_frombuffer", b"C\x04aaaa", FLOATS, a.tuple_of(a.text("a" * 9999), a.integer(10**9)), a.text("C")
            )
        ),
    )
    sizes = a.tuple_of(*[a.integer(1)] * 100_000) + a.put(5) + a.POP
    long = a.called("torch._utils", "_rebuild_tensor_v2", a.storage(), a.integer(0), a.get(5), a.get(5), b"\x89", a.NONE)
    yield "a shape of 100,000 numbers", _pickle(sizes, a.dict_of(a.text("w"), long))


def _shared_modules(depth: int) -> bytes:
    out = a.module(parameters=W) + a.put(500) + a.POP
    for level in range(1, depth + 1):
        below = a.get(499 + level)
        out += a.module(a.text("a"), below, a.text("b"), below) + a.put(500 + level) + (a.POP if level < depth else b"")
    return out


def _module_in_itself() -> bytes:
    parts = a.text("_parameters"), a.dict_of(W), a.text("_buffers"), a.dict_of(), a.text("_modules"), a.dict_of(a.text("a"), a.get(9))
    return a.named("mine", "Module") + a.EMPTY + b"\x81" + a.put(9) + a.dict_of(*parts) + b"b"


def _claimed() -> Iterator[tuple[str, Bomb]]:
    """Sizes that a file claims, and what it unpacks to."""
    yield "a storage of one number for a tensor of 1e9", _pickle(a.dict_of(a.text("w"), a.tensor(numel=1, shape=(10**9,), stride=(0,))))
    each = [a.text(f"w{k}") + a.tensor(str(k), 1, kind="DoubleStorage", shape=(1 << 22,), stride=(0,)) for k in range(40)]
    yield "forty such tensors of 32 MiB", _pickle(a.dict_of(*each), storages={str(k): bytes(8) for k in range(40)})
    views = [a.text(f"w{k}") + a.tensor(numel=MIB, offset=k, shape=(MIB - k,)) for k in range(500)]
    yield "many views of one storage", _pickle(a.dict_of(*views), storages={"0": bytes(4 * MIB)})
    parts = [a.text(f"w{k}") + a.tensor(str(k), 5 * MIB, shape=(5 * MIB,)) for k in range(8)]
    yield "eight entries of 20 MiB", _pickle(a.dict_of(*parts), packed=True, storages=dict.fromkeys("01234567", bytes(20 * MIB)))
    yield "a pickle of 160 MiB", _pickle(a.dict_of(W, a.text("x"), a.text(bytes(160 * MIB))), packed=True)
    yield "an archive that is all directory", _directory
    yield "an .npz that unpacks to 160 MiB", _packed_npz
    yield "an .npz that claims 2**40 numbers", _claiming_npz
    yield "three million lists", _beside(b"(" + b"]" * 3_000_000 + b"l")
    yield "three million sets", _beside(b"(" + b"\x8f" * 3_000_000 + b"l")
    yield "three million tuples inside of each other", _beside(a.NONE + b"\x85" * 3_000_000)


def _directory(folder: Path) -> Callable[[], object]:
    count = 500_000
    entries = b"".join(b"PK\x01\x02" + bytes(24) + struct.pack("<HHHHHII", 6, 0, 0, 0, 0, 0, 0) + b"%06x" % k for k in range(count))
    before = b"PK\x03\x04" + bytes(26)
    wide = b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, count, len(entries), len(before))
    where = b"PK\x06\x07" + struct.pack("<IQI", 0, len(before) + len(entries), 1)
    last = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    (folder / "x.pth").write_bytes(before + entries + wide + where + last)
    return _reads(folder / "x.pth")


def _npy(shape: tuple[int, ...], data: bytes) -> bytes:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return head.getvalue() + data


def _packed_npz(folder: Path) -> Callable[[], object]:
    with zipfile.ZipFile(folder / "x.npz", "w", zipfile.ZIP_DEFLATED) as file:
        for k in range(8):
            file.writestr(f"a{k}.npy", _npy((20 * MIB,), bytes(20 * MIB)))
    return partial(npz.check, folder / "x.npz")


def _claiming_npz(folder: Path) -> Callable[[], object]:
    with zipfile.ZipFile(folder / "x.npz", "w") as file:
        file.writestr("a.npy", _npy((1 << 40,), bytes(8)))
    return partial(npz.check, folder / "x.npz")


def _json() -> Iterator[tuple[str, Bomb]]:
    """Headers, indices of shards, configurations."""

    def header(data: bytes) -> Bomb:
        return lambda folder: _reads(a.safetensors(folder / "x.safetensors", data))

    def index(data: bytes) -> Bomb:
        return lambda folder: _reads(_written(folder / "x.index.json", data))

    def config(data: bytes) -> Bomb:
        return lambda folder: partial(read_config, _written(folder / "c.json", data), None)

    size = 63 * MIB
    yield "a header of 63 MiB", header(b"{" + b" " * size + b"}")
    for name, form in (("a header", header), ("an index", index), ("a configuration", config)):
        yield f"{name} of ten million lists", form(b'{"a":[' + b"[]," * 10_000_000 + b"1]}")
        yield f"{name} that is deep", form(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)
        yield f"{name} that is 300 deep", form(b'{"a":' + b"[" * 300 + b"]" * 300 + b"}")
        yield f"{name} with a number of a million digits", form(b'{"a":' + b"1" * 1_000_000 + b"}")
        yield f"{name} with a key twice", form(b'{"a":{"b":1,"b":2}}')
    entry = b'{"dtype":"F32","shape":[%s],"data_offsets":[0,0]}' % b",".join([b"%d" % (1 << 59)] * 100_000)
    yield "a header with a shape of 100,000 numbers", header(b'{"a":' + entry + b"}")
    yield "a header with a key of 16 MiB", header(b'{"%s":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' % (b"k" * (16 * MIB)))
    yield "an index that names itself", index(b'{"weight_map":{"w":"x.index.json"}}')
    yield (
        "an index that names another",
        lambda folder: (
            _written(folder / "y.index.json", b'{"weight_map":{"w":"x.index.json"}}')
            and index(b'{"weight_map":{"w":"y.index.json"}}')(folder)
        ),
    )
    yield "an index that names a pipe", lambda folder: os.mkfifo(folder / "p") or index(b'{"weight_map":{"w":"p"}}')(folder)


def _names() -> Iterator[tuple[str, Bomb]]:
    """Long keys and long numbers."""
    yield "a key of 16 MiB", _pickle(a.dict_of(a.text(b"k" * (16 * MIB)), a.tensor()))
    yield "a key of a million parts", _pickle(a.dict_of(a.text(b"k." * 1_000_000), a.tensor()))
    many = [a.text(f"k{k}." + "a." * 400) + a.tensor() for k in range(1000)]
    yield "a thousand keys of 400 parts", _pickle(a.dict_of(*many))
    yield "an integer of 50 MB", _beside(b"\x8b" + struct.pack("<i", 50_000_000) + bytes(50_000_000))
    yield "an integer of 4000 digits", _beside(b"L" + b"1" * 4000 + b"L\n")


def _opened() -> Iterator[tuple[str, Bomb]]:
    """What is no file."""

    def pipe(folder: Path) -> Path:
        os.mkfifo(folder / "p")
        return folder / "p"

    def plug(folder: Path) -> Path:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(str(folder / "s"))
        return folder / "s"

    for name, make in (("a pipe", pipe), ("a socket", plug), ("a device", lambda folder: Path("/dev/zero"))):
        yield name, lambda folder, make=make: _reads(make(folder))
        yield f"{name} as configuration", lambda folder, make=make: partial(read_config, make(folder), None)
        yield f"{name} as .npz", lambda folder, make=make: partial(npz.check, make(folder))


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def bombs() -> Iterator[tuple[str, Bomb]]:
    """All, by name."""
    for kind in (_printed, _hashed, _unfolded, _claimed, _json, _names, _opened):
        yield from kind()


def tried(bomb: Bomb) -> dict[str, object]:
    """What becomes of one that is read in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        reads = bomb(Path(folder))
        output, given = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(given, json.dumps(_told(reads)).encode())
            finally:
                os._exit(0)
        os.close(given)
        with os.fdopen(output) as pipe:
            said = pipe.read()
        _, status = os.waitpid(child, 0)
    return json.loads(said) if said else {"error": f"the process ended with {status}", "message": "", "seconds": SECONDS, "memory": 0}


def _told(reads: Callable[[], object]) -> dict[str, object]:
    pages, resident = (int(word) * resource.getpagesize() for word in Path("/proc/self/statm").read_text().split()[:2])
    resource.setrlimit(resource.RLIMIT_AS, (pages + MEMORY, pages + MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    start = time.process_time()
    try:
        reads()
        error, message = "", ""
    except BaseException as raised:
        error, message = type(raised).__name__, str(raised)[:5000]
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return {"error": error, "message": message, "seconds": round(seconds, 2), "memory": (peak - resident) >> 20}


def main(*parts: str) -> None:
    """Tries those whose names contain one of the parts, or all."""
    for name, bomb in bombs():
        if not parts or any(part in name for part in parts):
            print(json.dumps({"name": name, **tried(bomb)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
