"""The machine that a pickle runs on: a stack, a memo, and a place in the bytes. It calls nothing of the file."""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from weights.errors import ConversionError, Refused, Unreadable
from weights.files.pickles.bounds import checked_key
from weights.files.pickles.standins import Buildable, Known, Name, Record, kind

MARK = object()
MAX_BYTES = 64 << 20
MAX_OPERATIONS = 4_000_000
_STOP = 0x2E
_DAMAGE = (
    IndexError,
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    struct.error,
    MemoryError,
    RecursionError,
)


class Machine:
    """Runs one pickle of `data` from `start`; `position` is then its end. The methods after `run` are what operations are made of.

    `find(module, name)` gives what a global stands for; `persistent(id)` what a persistent id stands for.
    """

    def __init__(
        self,
        data: bytes | memoryview,
        find: Callable[[str, str], object],
        persistent: Callable[[object], object],
        start: int = 0,
    ):
        self.data, self.position = memoryview(data), start
        self.limit = min(len(self.data), start + MAX_BYTES)
        self.find, self.persistent = find, persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, operations: Mapping[int, Callable[[Machine], object]]) -> object:
        """The pickled object. Refused if it would call anything unknown, Unreadable if it is damaged."""
        try:
            return self._run(operations)
        except ConversionError:
            raise
        except _DAMAGE as error:
            raise Unreadable(f"the pickle is damaged at byte {self.position} ({type(error).__name__})", "Copy or save it again") from None

    def _run(self, operations: Mapping[int, Callable[[Machine], object]]) -> object:
        done = 0
        data = self.data
        while True:
            if self.position >= self.limit:
                cause = (
                    "ends before its pickle does" if self.limit == len(data) else f"contains a pickle of more than {MAX_BYTES >> 20} MiB"
                )
                raise (Unreadable if self.limit == len(data) else Refused)(f"the file {cause}", "Copy or save it again")
            code = data[self.position]
            self.position += 1
            done += 1
            if done > MAX_OPERATIONS:
                raise Refused(f"the pickle takes more than {MAX_OPERATIONS} operations", "Keep the tensors and leave the rest out")
            if code == _STOP:
                if len(self.stack) != 1:
                    raise Unreadable(f"the pickle leaves {len(self.stack)} objects", "The file is damaged")
                return self.stack[0]
            operation = operations.get(code)
            if operation is None:
                raise Refused(
                    f"the pickle uses operation {bytes([code])!r}, which no torch checkpoint needs",
                    "Save it again with torch.save",
                )
            operation(self)

    # From the bytes

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        if count < 0 or self.position + count > self.limit:
            raise Unreadable(f"the file ends inside its pickle, at byte {self.position}", "Copy or save it again")
        chunk = bytes(self.data[self.position : self.position + count])
        self.position += count
        return chunk

    def line(self) -> bytes:
        """The bytes up to the next line end."""
        for end in range(self.position, min(self.limit, self.position + 4096)):
            if self.data[end] == 10:
                chunk = bytes(self.data[self.position : end])
                self.position = end + 1
                return chunk
        raise Unreadable(f"a line of the pickle does not end, at byte {self.position}", "The file is damaged")

    def number(self, form: str) -> Any:
        """The next number, of a form of `struct`."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    # On the stack

    def push(self, value: object) -> None:
        """Puts a value on the stack."""
        self.stack.append(value)

    def marked(self) -> list[Any]:
        """Takes what lies above the last mark off the stack, and the mark."""
        at = len(self.stack) - 1
        while self.stack[at] is not MARK:
            at -= 1
            if at < 0:
                raise IndexError
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def pop(self) -> Any:
        """Takes the top off the stack."""
        value = self.stack.pop()
        if value is MARK:
            raise IndexError
        return value

    # Composite operations

    def reduce(self) -> None:
        """REDUCE: what calling a function of the list with the arguments on the stack gives."""
        args, function = self.pop(), self.pop()
        if not isinstance(args, tuple):
            raise TypeError
        self.push(_called(function, args))

    def new_object(self, keyword: bool = False) -> None:
        """NEWOBJ: an empty instance or a record of a class."""
        named = self.pop() if keyword else {}
        args, cls = self.pop(), self.pop()
        if named:
            raise Refused(f"the pickle makes a {cls} with keyword arguments", "Save the state_dict instead of the object")
        if isinstance(cls, Known) and cls.new is not None:
            self.push(cls.new(*args))
        elif isinstance(cls, Name):
            self.push(Record(cls, tuple(args)))
        else:
            raise Refused(f"the pickle makes a {cls}", "Save the state_dict instead of the object")

    def build(self) -> None:
        """BUILD: gives the object on the stack its state."""
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, Record):
            target.state = state
        elif isinstance(target, OrderedDict):
            if not isinstance(state, dict) or set(state) - {"_metadata"}:
                raise Refused(f"the pickle sets attributes {sorted(map(str, state))} on an OrderedDict", "Save a plain state_dict")
            vars(target).update(state)
        elif isinstance(target, Buildable):
            target.build(state)
        elif isinstance(target, np.ndarray):
            _fill(target, state)
        else:
            raise Refused(f"the pickle sets the state of a {kind(target)}", "Save the state_dict instead of the object")

    def set_items(self, items: list[Any]) -> None:
        """Puts keys and values, in turn, into the dictionary on the stack."""
        target = self.stack[-1]
        table = target.items if isinstance(target, Record) else target
        if not isinstance(table, dict) or len(items) % 2:
            raise TypeError
        for key, value in zip(items[::2], items[1::2]):
            checked_key(key)
            table[key] = value

    def append(self, items: list[Any]) -> None:
        """Adds to the list on the stack."""
        if type(self.stack[-1]) is not list:
            raise TypeError
        self.stack[-1].extend(items)

    def add(self, items: list[Any]) -> None:
        """Adds to the set on the stack."""
        for item in items:
            checked_key(item)
        self.stack[-1].update(items)

    def dictionary(self, items: list[Any]) -> None:
        """Puts a dictionary of keys and values, in turn, on the stack."""
        self.push({})
        self.set_items(items)

    def global_(self, module: object, name: object) -> None:
        """Puts what a global stands for on the stack."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError
        self.push(self.find(module, name))

    def put(self, index: int) -> None:
        """Remembers the top of the stack under an index."""
        if index < 0 or self.stack[-1] is MARK:
            raise ValueError
        self.memo[index] = self.stack[-1]

    def last(self, count: int) -> None:
        """Makes the last `count` values on the stack one tuple."""
        items = tuple(self.stack[-count:])
        if len(items) != count or MARK in items:
            raise IndexError
        self.stack[-count:] = [items]


def _called(function: object, args: tuple) -> object:
    """What the pickle gets for calling `function`: data if it is on the list, Refused otherwise."""
    call = getattr(function, "call", None) if isinstance(function, (Known, Buildable)) else None
    if call is None:
        name = function if isinstance(function, (Known, Name)) else kind(function)
        raise Refused(
            f"the pickle calls {name}, which is not on the reader's list",
            "If the file is trusted, load it in torch and save its state_dict alone",
        )
    return call(*args)


def _fill(array: np.ndarray, state: object) -> None:
    """An ndarray's pickled state: version, shape, dtype, Fortran order, bytes."""
    if not (isinstance(state, tuple) and len(state) == 5 and hasattr(state[2], "numpy") and isinstance(state[4], (bytes, bytearray))):
        raise Refused("a numpy array in the pickle does not have plain numbers", "Save it as a tensor")
    _, shape, dtype, fortran, data = state
    dtype = dtype.numpy()
    if not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 32:
        raise ValueError
    flat = np.frombuffer(bytes(data), dtype).reshape(shape, order="F" if fortran else "C")
    state = (1, tuple(shape), dtype, bool(fortran), flat.tobytes(order="F" if fortran else "C"))
    array.__setstate__(state)  # pyright: ignore[reportArgumentType]


__all__ = ["MARK", "Machine"]
