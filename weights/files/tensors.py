"""Tensors of a torch file without torch: a storage, and a strided view of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from weights.errors import Unreadable, shown
from weights.files.budget import MEMORY, Budget
from weights.files.dtypes import NUMPY, torch_name

MAX_DIMENSIONS = 32
MAX_ELEMENTS = 1 << 58
"""More than numpy has, also of a shape in which a 0 stands beside."""
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
    viewed: int = 0
    """Bytes that all different views of it have together."""
    _views: set[tuple] | tuple[()] | tuple[tuple] = ()
    _shared: np.ndarray | None = field(default=None, repr=False)

    def read(self) -> np.ndarray:
        """The elements, 1-D. They are kept if several tensors use them, else read each time."""
        if self._shared is not None:
            return self._shared
        data = self.fetch()
        if self.users > 1:
            self._shared = data
        return data

    @property
    def nbytes(self) -> int:
        """The bytes of its elements."""
        return self.numel * NUMPY[self.dtype].itemsize

    def claimed(self, place: tuple, size: int) -> int:
        """How many bytes a view of this size adds to what all views have beyond the storage; none if another tensor has the same view."""
        if place in self._views:
            return 0
        if len(self._views) == 1:
            self._views = {*self._views}
        if isinstance(self._views, set):
            self._views.add(place)
        else:
            self._views = (place,)
        before = max(self.viewed, self.nbytes)
        self.viewed += size
        return max(self.viewed - before, 0)

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


def checked(
    budget: Budget, storage: Storage, offset: object, shape: object, stride: object, dtype: str | None = None, **kwargs: Any
) -> Tensor:
    """A tensor whose view lies inside its storage; Unreadable or Refused otherwise. What its views repeat of a storage is spent."""
    dtype = dtype or storage.dtype
    if isinstance(shape, tuple) and isinstance(stride, tuple) and (len(shape) != len(stride) or len(shape) > MAX_DIMENSIONS):
        raise Unreadable(f"a tensor has {len(shape)} dimensions and {len(stride)} strides", "The file is damaged")
    numbers = [offset, *(shape if isinstance(shape, tuple) else [None]), *(stride if isinstance(stride, tuple) else [None])]
    if not all(type(n) is int and n >= 0 for n in numbers):
        raise Unreadable(f"a tensor has offset {shown(offset)}, shape {shown(shape)} and stride {shown(stride)}", "The file is damaged")
    assert isinstance(offset, int)
    assert isinstance(shape, tuple)
    assert isinstance(stride, tuple)
    room = storage.numel
    if dtype != storage.dtype:
        if not storage.untyped:
            raise Unreadable(f"a tensor of {dtype} lies on a storage of {storage.dtype}", "The file is damaged")
        room = storage.numel // NUMPY[dtype].itemsize
    tensor = Tensor(storage, dtype, shape, stride, offset, **kwargs)
    last = offset + sum((n - 1) * s for n, s in zip(shape, stride))
    if (tensor.numel and last >= room) or offset > room or math.prod(n or 1 for n in shape) >= MAX_ELEMENTS:
        lies = f"shape {shown(shape)}, stride {shown(stride)} and offset {shown(offset)}"
        raise Unreadable(f"a tensor of {lies} is not inside its storage of {room} elements", "The file is damaged")
    if beyond := storage.claimed(tensor.place, tensor.nbytes):
        budget.spend(MEMORY, beyond, f"a tensor of shape {shown(shape)}, which repeats its storage of {room} elements,")
    storage.users += 1
    return tensor


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
    return deferred(array.dtype, array.shape, lambda: array, **kwargs)


def deferred(dtype: np.dtype, shape: tuple[int, ...], make: Callable[[], np.ndarray], **kwargs) -> Tensor:
    """A tensor on its own storage whose elements are made each time that they are read, and are in memory only then."""
    name = torch_name(dtype)
    storage = Storage(name, math.prod(shape), lambda: np.ascontiguousarray(make()).reshape(-1), users=1)
    return Tensor(storage, name, shape, contiguous_stride(shape), **kwargs)


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


__all__ = [
    "BLOCK",
    "MAX_DIMENSIONS",
    "Storage",
    "Tensor",
    "blocks",
    "buffer",
    "checked",
    "contiguous_stride",
    "deferred",
    "from_array",
    "same_bits",
    "window",
]
