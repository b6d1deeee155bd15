"""Files put together by hand: pickles operation by operation, zip archives entry by entry, safetensors from any header."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

EMPTY = b")"
NONE = b"N"
POP = b"0"
CALL = b"R"


def text(value: str | bytes) -> bytes:
    """A str."""
    data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def integer(n: int) -> bytes:
    """An int, as torch writes it."""
    if 0 <= n < 256:
        return b"K" + bytes([n])
    if -(1 << 31) <= n < 1 << 31:
        return b"J" + struct.pack("<i", n)
    data = n.to_bytes(n.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def blob(data: bytes) -> bytes:
    """A bytes object."""
    return b"B" + struct.pack("<I", len(data)) + data


def tuple_of(*parts: bytes) -> bytes:
    """A tuple of what these leave."""
    return b"(" + b"".join(parts) + b"t"


def list_of(*parts: bytes) -> bytes:
    """A list of what these leave."""
    return b"](" + b"".join(parts) + b"e"


def dict_of(*parts: bytes) -> bytes:
    """A dict of keys and values in turn."""
    return b"}(" + b"".join(parts) + b"u"


def named(module: str, name: str) -> bytes:
    """A class or function by name."""
    return f"c{module}\n{name}\n".encode()


def called(module: str, name: str, *args: bytes) -> bytes:
    """What a function of that name makes of the arguments."""
    return named(module, name) + tuple_of(*args) + CALL


def put(index: int) -> bytes:
    """Remembers the top of the stack."""
    return b"r" + struct.pack("<I", index)


def get(index: int) -> bytes:
    """What was remembered."""
    return b"j" + struct.pack("<I", index)


def storage(key: str = "0", numel: int = 4, kind: str = "FloatStorage") -> bytes:
    """A storage of the file."""
    return tuple_of(text("storage"), named("torch", kind), text(key), text("cpu"), integer(numel)) + b"Q"


def tensor(
    key: str = "0", numel: int = 4, *, kind: str = "FloatStorage", offset: int = 0, shape: tuple = (4,), stride: tuple = (1,)
) -> bytes:
    """A view of a storage."""
    sizes = (tuple_of(*map(integer, part)) for part in (shape, stride))
    return called(
        "torch._utils",
        "_rebuild_tensor_v2",
        storage(key, numel, kind),
        integer(offset),
        *sizes,
        b"\x89",
        called("collections", "OrderedDict"),
    )


def module(*children: bytes, parameters: bytes = b"", beside: bytes = b"") -> bytes:
    """A torch.nn.Module with children and parameters, names and values in turn, and other attributes."""
    parts = text("_parameters"), dict_of(parameters), text("_buffers"), dict_of(), text("_modules"), dict_of(*children)
    return named("mine", "Module") + EMPTY + b"\x81" + dict_of(*parts, beside) + b"b"


def twice(depth: int, kind: str = "tuple") -> bytes:
    """A tuple or list that contains another one twice, which contains another one twice, and so on: 2**depth at the bottom."""
    first, begin, end = (EMPTY, b"(", b"t") if kind == "tuple" else (b"]", b"](", b"e")
    out = first + put(1000) + POP
    for level in range(1, depth + 1):
        out += begin + 2 * get(999 + level) + end + put(1000 + level) + (POP if level < depth else b"")
    return out


def pickled(body: bytes) -> bytes:
    """A whole pickle."""
    return b"\x80\x02" + body + b"."


def archive(path: Path, pickle: bytes, storages: Mapping[str, bytes] | None = None, packed: bool = False, **entries: bytes) -> Path:
    """A torch file with this pickle, storages, and further entries by their whole names."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as file:
        file.writestr("a/data.pkl", pickle)
        file.writestr("a/byteorder", b"little")
        for key, data in ({"0": b"\0" * 16} if storages is None else storages).items():
            file.writestr(f"a/data/{key}", data)
        file.writestr("a/version", b"3\n")
        for name, data in entries.items():
            file.writestr(name, data)
    return path


MAGIC = 0x1950A86A20F9469CFC6C


def legacy(path: Path, root: bytes, keys: bytes, data: bytes) -> Path:
    """A torch file from before 1.6."""
    system = dict_of(text("little_endian"), b"\x88")
    path.write_bytes(b"".join(map(pickled, (integer(MAGIC), integer(1001), system, root, keys))) + data)
    return path


def safetensors(path: Path, header: object, data: bytes = b"") -> Path:
    """A safetensors file with this header: JSON, or its bytes."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + data)
    return path
