"""Pickles plain data and tensors as torch.save does (protocol 2), without torch."""

from __future__ import annotations

import struct
from collections import OrderedDict

import numpy as np

from weights.files.dtypes import STORAGE_OF
from weights.files.pickles.standins import Counts, DefaultDict, Known, Name, Record, Size
from weights.files.tensors import Storage, Tensor

# numpy's own module path, which old and new numpy both find.
_MULTIARRAY = "numpy.core.multiarray"


class Pickler:
    """Writes one object. `storages` are then the storages it refers to, in order; their position is their key."""

    def __init__(self) -> None:
        self.out = bytearray(b"\x80\x02")
        self.memo: dict[object, int] = {}
        self.alive: list[object] = []  # ids in the memo stay unique while their objects live
        self.storages: list[Storage] = []
        self.keys: dict[int, str] = {}

    def dump(self, root: object) -> bytes:
        """The pickle of `root`; TypeError for what torch.save could not have written."""
        self.save(root)
        return bytes(self.out) + b"."

    def save(self, value: object) -> None:
        if value is None or value is True or value is False:
            self.out += {None: b"N", True: b"\x88", False: b"\x89"}[value]
        elif type(value) is int:
            self.integer(value)
        elif type(value) is float:
            self.out += b"G" + struct.pack(">d", value)
        elif isinstance(value, str):
            self.text(value)
        elif not self.recall(value):
            self.composite(value)

    def composite(self, value: object) -> None:
        if isinstance(value, Tensor):
            self.tensor(value)
        elif isinstance(value, Size):
            self.call("torch", "Size", (tuple(value),))
        elif isinstance(value, tuple):
            self.tuple_(value)
        elif isinstance(value, list):
            self.out += b"]"
            self.remember(value)
            self.out += b"("
            for item in value:
                self.save(item)
            self.out += b"e"
        elif isinstance(value, dict):
            self.dict_(value)
        elif isinstance(value, Record):
            self.record(value)
        elif isinstance(value, (Name, Known)):
            self.name(value)
        elif isinstance(value, (bytes, bytearray)):
            encoded = ("_codecs", "encode", (bytes(value).decode("latin1"), "latin1"))
            self.call(*encoded) if isinstance(value, bytes) else self.call("__builtin__", "bytearray", (value.decode("latin1"), "latin-1"))
        elif isinstance(value, (set, frozenset)):
            self.call("__builtin__", type(value).__name__, (sorted(value, key=repr),))
        elif isinstance(value, complex) and type(value) is complex:
            self.call("__builtin__", "complex", (value.real, value.imag))
        elif isinstance(value, np.ndarray):
            self.array(value)
        elif isinstance(value, np.generic):
            self.scalar(value)
        else:
            raise TypeError(f"a {type(value).__name__} cannot be written to a torch file")

    # Leaves

    def integer(self, value: int) -> None:
        if 0 <= value < 256:
            self.out += b"K" + bytes([value])
        elif 0 <= value < 65536:
            self.out += b"M" + struct.pack("<H", value)
        elif -(1 << 31) <= value < 1 << 31:
            self.out += b"J" + struct.pack("<i", value)
        else:
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            self.out += b"\x8a" + bytes([len(data)]) + data

    def text(self, value: str) -> None:
        if self.recall(value, ("str", value)):
            return
        data = value.encode("utf-8", "surrogatepass")
        self.out += b"X" + struct.pack("<I", len(data)) + data
        self.remember(value, ("str", value))

    def global_(self, module: str, name: str) -> None:
        key = ("global", module, name)
        if not self.recall(None, key):
            self.out += f"c{module}\n{name}\n".encode()
            self.remember(None, key)

    # Composites

    def tuple_(self, value: tuple) -> None:
        if len(value) > 3:
            self.out += b"("
        for item in value:
            self.save(item)
        self.out += {0: b")", 1: b"\x85", 2: b"\x86", 3: b"\x87"}.get(len(value), b"t")
        if value:
            self.remember(value)

    def dict_(self, value: dict) -> None:
        if isinstance(value, Counts):
            self.call("collections", "Counter", (dict(value),))
            self.remember(value)
            return
        if isinstance(value, OrderedDict):
            self.global_("collections", "OrderedDict")
            self.out += b")R"
        elif isinstance(value, DefaultDict):
            self.global_("collections", "defaultdict")
            self.save((value.factory,))
            self.out += b"R"
        else:
            self.out += b"}"
        self.remember(value)
        self.items(value)
        if isinstance(value, OrderedDict) and vars(value):
            self.save(dict(vars(value)))
            self.out += b"b"

    def items(self, value: dict) -> None:
        if value:
            self.out += b"("
            for key, item in value.items():
                self.save(key)
                self.save(item)
            self.out += b"u"

    def call(self, module: str, name: str, args: tuple) -> None:
        self.global_(module, name)
        self.save(args)
        self.out += b"R"

    def name(self, value: Name | Known) -> None:
        if isinstance(value, Name) and value.owner is not None:
            self.call("__builtin__", "getattr", (value.owner, value.name))
        else:
            self.global_(value.module, value.name)

    def record(self, value: Record) -> None:
        self.name(value.cls)
        self.save(value.args)
        self.out += b"R" if value.called else b"\x81"
        self.remember(value)
        self.items(value.items)
        if value.state is not None:
            self.save(value.state)
            self.out += b"b"

    # Tensors and arrays

    def storage(self, storage: Storage) -> None:
        key = self.keys.get(id(storage))
        if key is None:
            key = self.keys[id(storage)] = str(len(self.storages))
            self.storages.append(storage)
        self.out += b"("
        self.save("storage")
        if storage.untyped:
            self.global_("torch.storage", "UntypedStorage")
        else:
            self.global_("torch", STORAGE_OF.get(storage.dtype, "ByteStorage"))
        for part in (key, storage.location, storage.numel):
            self.save(part)
        self.out += b"tQ"

    def tensor(self, value: Tensor) -> None:
        if value.kind == "manifold" and not value.cls.startswith("geoopt."):
            value = unwrapped_copy(value)
        if value.kind == "manifold":
            self.global_("functools", "partial")
            self.global_("geoopt.tensor", "_rebuild_manifold_tensor")
            self.out += b"\x85R("
            self.global_("geoopt.tensor", "_rebuild_manifold_tensor")
            self.out += b")}"
            self.save("build_fn")
            self.global_("torch._utils", "_rebuild_parameter")
            self.out += b"sNtb("
            self.rebuilt(value)
            self.save(value.requires_grad)
            self.global_("collections", "OrderedDict")
            self.out += b")R}"
            self.global_(*value.cls.rsplit(".", 1))
            self.save(value.manifold)
            self.save(value.requires_grad)
            self.out += b"tR"
        elif value.kind == "parameter":
            self.global_("torch._utils", "_rebuild_parameter")
            self.rebuilt(value, leaf=True)
            self.save(value.requires_grad)
            self.global_("collections", "OrderedDict")
            self.out += b")R\x87R"
        else:
            self.rebuilt(value)
        self.remember(value)

    def rebuilt(self, value: Tensor, leaf: bool = False) -> None:
        """_rebuild_tensor_v2(storage, offset, shape, stride, requires_grad, hooks), or v3 for types without a storage class."""
        third = value.dtype != value.storage.dtype or value.dtype not in STORAGE_OF
        self.global_("torch._utils", "_rebuild_tensor_v3" if third else "_rebuild_tensor_v2")
        self.out += b"("
        self.storage(value.storage)
        for part in (
            value.offset,
            value.shape,
            value.stride,
            False if leaf or value.kind == "manifold" else value.requires_grad,
        ):
            self.save(part)
        self.global_("collections", "OrderedDict")
        self.out += b")R"
        if third:
            self.global_("torch", value.dtype)
        self.out += b"tR"

    def dtype(self, dtype: np.dtype) -> None:
        self.call("numpy", "dtype", (dtype.str[1:], False, True))
        order = dtype.str[0]
        self.save((3, order, None, None, None, -1, -1, 0))
        self.out += b"b"

    def scalar(self, value: np.generic) -> None:
        self.global_(_MULTIARRAY, "scalar")
        self.dtype(value.dtype)
        self.save(value.tobytes())
        self.out += b"\x86R"

    def array(self, value: np.ndarray) -> None:
        self.global_(_MULTIARRAY, "_reconstruct")
        self.global_("numpy", "ndarray")
        self.save((0,))
        self.save(b"b")
        self.out += b"\x87R"
        self.remember(value)
        self.out += b"("
        self.save(1)
        self.save(value.shape)
        self.dtype(value.dtype)
        self.save(False)
        self.save(np.ascontiguousarray(value).tobytes())
        self.out += b"tb"

    # Memo

    def remember(self, value: object, key: object = None) -> None:
        index = self.memo[key or ("id", id(value))] = len(self.memo)
        self.alive.append(value)
        self.out += b"q" + bytes([index]) if index < 256 else b"r" + struct.pack("<I", index)

    def recall(self, value: object, key: object = None) -> bool:
        index = self.memo.get(key or ("id", id(value)))
        if index is None:
            return False
        self.out += b"h" + bytes([index]) if index < 256 else b"j" + struct.pack("<I", index)
        return True


def unwrapped_copy(value: Tensor) -> Tensor:
    """A tensor on a manifold of another library, whose record around it carries the manifold."""
    kind = "parameter" if value.requires_grad else "tensor"
    return Tensor(
        storage=value.storage,
        dtype=value.dtype,
        shape=value.shape,
        stride=value.stride,
        offset=value.offset,
        requires_grad=value.requires_grad,
        kind=kind,
    )
