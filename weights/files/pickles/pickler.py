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
        self._save(root)
        return bytes(self.out) + b"."

    def _save(self, value: object) -> None:
        if value is None or value is True or value is False:
            self.out += {None: b"N", True: b"\x88", False: b"\x89"}[value]
        elif type(value) is int:
            self._integer(value)
        elif type(value) is float:
            self.out += b"G" + struct.pack(">d", value)
        elif isinstance(value, str):
            self._text(value)
        elif not self._recall(value):
            self._composite(value)

    def _composite(self, value: object) -> None:
        if isinstance(value, Tensor):
            self._tensor(value)
        elif isinstance(value, Size):
            self._call("torch", "Size", (tuple(value),))
        elif isinstance(value, tuple):
            self._tuple(value)
        elif isinstance(value, list):
            self.out += b"]"
            self._remember(value)
            self._appended(value)
        elif isinstance(value, dict):
            self._dict(value)
        elif isinstance(value, Record):
            self._record(value)
        elif isinstance(value, (Name, Known)):
            self._name(value)
        elif isinstance(value, (bytes, bytearray)):
            encoded = ("_codecs", "encode", (bytes(value).decode("latin1"), "latin1"))
            self._call(*encoded) if isinstance(value, bytes) else self._call(
                "__builtin__", "bytearray", (value.decode("latin1"), "latin-1")
            )
        elif isinstance(value, (set, frozenset)):
            self._call("__builtin__", type(value).__name__, (sorted(value, key=repr),))
        elif isinstance(value, complex) and type(value) is complex:
            self._call("__builtin__", "complex", (value.real, value.imag))
        elif isinstance(value, np.ndarray):
            self._array(value)
        elif isinstance(value, np.generic):
            self._scalar(value)
        else:
            raise TypeError(f"a {type(value).__name__} cannot be written to a torch file")

    # Leaves

    def _integer(self, value: int) -> None:
        if 0 <= value < 256:
            self.out += b"K" + bytes([value])
        elif 0 <= value < 65536:
            self.out += b"M" + struct.pack("<H", value)
        elif -(1 << 31) <= value < 1 << 31:
            self.out += b"J" + struct.pack("<i", value)
        else:
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            self.out += b"\x8a" + bytes([len(data)]) + data

    def _text(self, value: str) -> None:
        if self._recall(value, ("str", value)):
            return
        data = value.encode("utf-8", "surrogatepass")
        self.out += b"X" + struct.pack("<I", len(data)) + data
        self._remember(value, ("str", value))

    def _global(self, module: str, name: str) -> None:
        key = ("global", module, name)
        if not self._recall(None, key):
            self.out += f"c{module}\n{name}\n".encode()
            self._remember(None, key)

    # Composites

    def _tuple(self, value: tuple) -> None:
        if len(value) > 3:
            self.out += b"("
        for item in value:
            self._save(item)
        self.out += {0: b")", 1: b"\x85", 2: b"\x86", 3: b"\x87"}.get(len(value), b"t")
        if value:
            self._remember(value)

    def _dict(self, value: dict) -> None:
        if isinstance(value, Counts):
            self._call("collections", "Counter", (dict(value),))
            self._remember(value)
            return
        if isinstance(value, OrderedDict):
            self._global("collections", "OrderedDict")
            self.out += b")R"
        elif isinstance(value, DefaultDict):
            self._global("collections", "defaultdict")
            self._save((value.factory,))
            self.out += b"R"
        else:
            self.out += b"}"
        self._remember(value)
        self._items(value)
        if isinstance(value, OrderedDict) and vars(value):
            self._save(dict(vars(value)))
            self.out += b"b"

    def _appended(self, value: list) -> None:
        self.out += b"("
        for item in value:
            self._save(item)
        self.out += b"e"

    def _items(self, value: dict) -> None:
        if value:
            self.out += b"("
            for key, item in value.items():
                self._save(key)
                self._save(item)
            self.out += b"u"

    def _call(self, module: str, name: str, args: tuple) -> None:
        self._global(module, name)
        self._save(args)
        self.out += b"R"

    def _name(self, value: Name | Known) -> None:
        if isinstance(value, Name) and value.owner is not None:
            self._call("__builtin__", "getattr", (value.owner, value.name))
        else:
            self._global(value.module, value.name)

    def _record(self, value: Record) -> None:
        self._name(value.cls)
        self._save(value.args)
        self.out += b"R" if value.called else b"\x81"
        self._remember(value)
        if value.listed:
            self._appended(value.listed)
        self._items(value.items)
        if value.state is not None:
            self._save(value.state)
            self.out += b"b"

    # Tensors and arrays

    def _storage(self, storage: Storage) -> None:
        key = self.keys.get(id(storage))
        if key is None:
            key = self.keys[id(storage)] = str(len(self.storages))
            self.storages.append(storage)
        self.out += b"("
        self._save("storage")
        typed = not storage.untyped and storage.dtype in STORAGE_OF
        self._global(*(("torch", STORAGE_OF[storage.dtype]) if typed else ("torch.storage", "UntypedStorage")))
        for part in (key, storage.location, storage.numel if typed else storage.nbytes):
            self._save(part)
        self.out += b"tQ"

    def _tensor(self, value: Tensor) -> None:
        if value.kind == "manifold" and not value.cls.startswith("geoopt."):
            value = _unwrapped_copy(value)
        if value.kind == "manifold":
            self._global("functools", "partial")
            self._global("geoopt.tensor", "_rebuild_manifold_tensor")
            self.out += b"\x85R("
            self._global("geoopt.tensor", "_rebuild_manifold_tensor")
            self.out += b")}"
            self._save("build_fn")
            self._global("torch._utils", "_rebuild_parameter")
            self.out += b"sNtb("
            self._rebuilt(value)
            self._save(value.requires_grad)
            self._global("collections", "OrderedDict")
            self.out += b")R}"
            self._global(*value.cls.rsplit(".", 1))
            self._save(value.manifold)
            self._save(value.requires_grad)
            self.out += b"tR"
        elif value.kind == "parameter":
            self._global("torch._utils", "_rebuild_parameter")
            self._rebuilt(value, leaf=True)
            self._save(value.requires_grad)
            self._global("collections", "OrderedDict")
            self.out += b")R\x87R"
        else:
            self._rebuilt(value)
        self._remember(value)

    def _rebuilt(self, value: Tensor, leaf: bool = False) -> None:
        """_rebuild_tensor_v2(storage, offset, shape, stride, requires_grad, hooks), or v3 for types without a storage class."""
        third = value.dtype != value.storage.dtype or value.dtype not in STORAGE_OF
        self._global("torch._utils", "_rebuild_tensor_v3" if third else "_rebuild_tensor_v2")
        self.out += b"("
        self._storage(value.storage)
        for part in (
            value.offset,
            value.shape,
            value.stride,
            False if leaf or value.kind == "manifold" else value.requires_grad,
        ):
            self._save(part)
        self._global("collections", "OrderedDict")
        self.out += b")R"
        if third:
            self._global("torch", value.dtype)
        self.out += b"tR"

    def _dtype(self, dtype: np.dtype) -> None:
        self._call("numpy", "dtype", (dtype.str[1:], False, True))
        order = dtype.str[0]
        self._save((3, order, None, None, None, -1, -1, 0))
        self.out += b"b"

    def _scalar(self, value: np.generic) -> None:
        self._global(_MULTIARRAY, "scalar")
        self._dtype(value.dtype)
        self._save(value.tobytes())
        self.out += b"\x86R"

    def _array(self, value: np.ndarray) -> None:
        self._global(_MULTIARRAY, "_reconstruct")
        self._global("numpy", "ndarray")
        self._save((0,))
        self._save(b"b")
        self.out += b"\x87R"
        self._remember(value)
        self.out += b"("
        self._save(1)
        self._save(value.shape)
        self._dtype(value.dtype)
        self._save(False)
        self._save(np.ascontiguousarray(value).tobytes())
        self.out += b"tb"

    # Memo

    def _remember(self, value: object, key: object = None) -> None:
        index = self.memo[key or ("id", id(value))] = len(self.memo)
        self.alive.append(value)
        self.out += b"q" + bytes([index]) if index < 256 else b"r" + struct.pack("<I", index)

    def _recall(self, value: object, key: object = None) -> bool:
        index = self.memo.get(key or ("id", id(value)))
        if index is None:
            return False
        self.out += b"h" + bytes([index]) if index < 256 else b"j" + struct.pack("<I", index)
        return True


def _unwrapped_copy(value: Tensor) -> Tensor:
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


__all__ = ["Pickler"]
