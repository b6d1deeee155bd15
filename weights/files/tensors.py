"""Tensors of a torch file without torch: a storage, and a strided view of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from weights.errors import Refused, Unreadable
from weights.files.dtypes import NUMPY, torch_name

MAX_DIMENSIONS = 32
BLOCK = 16 << 20
"""Bytes of the pieces in which arrays are compared."""


@dataclass(eq=False)
class Storage:
    """A flat block of elements. Two tensors are tied exactly when they share one of these (compared by identity)."""

    dtype: str
    numel: int
    fetch: Callable[[], np.ndarray]
    location: str = "cpu"
    users: int = 0
    untyped: bool = False
    _shared: np.ndarray | None = field(default=None, repr=False)

    def read(self) -> np.ndarray:
        """The elements, 1-D. They are kept if several tensors use them, else read each time."""
        if self._shared is not None:
            return self._shared
        data = self.fetch()
        if self.users > 1:
            self._shared = data
        return data

    def forget(self) -> None:
        """Drops the elements that `read` has kept."""
        self._shared = None


@dataclass(eq=False)
class Tensor:
    """A strided view of a storage. `kind` is "tensor", "parameter", "buffer" or "manifold"; `manifold` the pickled object."""

    storage: Storage
    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int = 0
    requires_grad: bool = False
    kind: str = "tensor"
    manifold: object = None
    cls: str = ""
    """The pickled class of a tensor on a manifold."""

    def array(self) -> np.ndarray:
        """The elements in the tensor's shape, read-only; a view of the storage where its layout allows."""
        flat = self.storage.read()
        if self.dtype != self.storage.dtype:
            flat = flat.view(NUMPY[self.dtype])
        view = window(flat, self)
        view.flags.writeable = False
        return view

    @property
    def numel(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes that its elements take."""
        return self.numel * NUMPY[self.dtype].itemsize

    @property
    def place(self) -> tuple:
        """What two tensors share when they are one: the storage and the view of it."""
        return id(self.storage), self.dtype, self.offset, self.shape, self.stride


def checked(storage: Storage, offset: object, shape: object, stride: object, dtype: str | None = None, **kwargs) -> Tensor:
    """A tensor whose view lies inside its storage; Unreadable or Refused otherwise."""
    dtype = dtype or storage.dtype
    numbers = [
        offset,
        *(shape if isinstance(shape, tuple) else [None]),
        *(stride if isinstance(stride, tuple) else [None]),
    ]
    if not all(type(n) is int and n >= 0 for n in numbers):
        raise Unreadable(
            f"a tensor has offset {_short(offset)}, shape {_short(shape)} and stride {_short(stride)}",
            "The file is damaged",
        )
    assert isinstance(offset, int)
    assert isinstance(shape, tuple)
    assert isinstance(stride, tuple)
    if len(shape) != len(stride) or len(shape) > MAX_DIMENSIONS:
        raise Unreadable(f"a tensor has {len(shape)} dimensions and {len(stride)} strides", "The file is damaged")
    room = storage.numel
    if dtype != storage.dtype:
        if not storage.untyped:
            raise Unreadable(f"a tensor of {dtype} lies on a storage of {storage.dtype}", "The file is damaged")
        room = storage.numel // NUMPY[dtype].itemsize
    numel = math.prod(shape)
    last = offset + sum((n - 1) * s for n, s in zip(shape, stride))
    if (numel and last >= room) or offset > room:
        raise Unreadable(
            f"a tensor of shape {_short(shape)}, stride {_short(stride)} and offset {offset} ends at element {last} of a storage "
            f"with {room}",
            "The file is damaged",
        )
    if numel > max(4 * room, 1 << 26):
        raise Refused(f"a tensor of shape {_short(shape)} repeats a storage of {room} elements", "Save it with .contiguous()")
    storage.users += 1
    return Tensor(storage, dtype, shape, stride, offset, **kwargs)


def window(flat: np.ndarray, tensor: Tensor) -> np.ndarray:
    """The tensor's view of 1-D elements. It is taken of bytes, because numpy does not stride over the types of ml_dtypes."""
    if not tensor.numel:
        return np.empty(tensor.shape, flat.dtype)
    size = flat.dtype.itemsize
    raw = flat.view(f"V{size}") if flat.dtype.kind == "V" or flat.dtype.isbuiltin != 1 else flat
    view = np.lib.stride_tricks.as_strided(raw[tensor.offset :], tensor.shape, [s * size for s in tensor.stride])
    return view.view(flat.dtype)


def buffer(size: int) -> np.ndarray:
    """Uninitialised uint8 [size] at an address that jax adopts without copying."""
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]


def contiguous_stride(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides, in elements, of a row-major tensor as torch gives them."""
    stride, step = [], 1
    for n in reversed(shape):
        stride.append(step)
        step *= max(n, 1)
    return tuple(reversed(stride))


def from_array(array: np.ndarray, **kwargs) -> Tensor:
    """A tensor on its own storage with the elements of an array."""
    array = np.asarray(array)
    name = torch_name(array.dtype)
    storage = Storage(name, array.size, lambda: np.ascontiguousarray(array).reshape(-1), users=1)
    return Tensor(storage, name, array.shape, contiguous_stride(array.shape), **kwargs)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are equal in type, shape and every bit."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return all(x.tobytes() == y.tobytes() for x, y in zip(blocks(a), blocks(b)))


def blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """An array in pieces along its first axes, so that temporaries made of a piece stay small."""
    if array.nbytes <= BLOCK or array.ndim == 0:
        yield array
        return
    rows = BLOCK * len(array) // array.nbytes
    if rows:
        yield from (array[at : at + rows] for at in range(0, len(array), rows))
    else:
        for part in array:
            yield from blocks(part)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


__all__ = ["BLOCK", "Storage", "Tensor", "blocks", "buffer", "checked", "contiguous_stride", "from_array", "same_bits", "window"]
