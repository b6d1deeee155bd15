"""The machine that a pickle runs on: a stack, a memo, and a place in the bytes. It calls nothing of the file."""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from itertools import zip_longest
from typing import Any

import numpy as np

from weights.errors import ConversionError, Refused, Unreadable, shown
from weights.files.budget import CHARACTERS, DEPTH, MEMORY, OBJECT, STEPS, Budget
from weights.files.pickles.bounds import checked_key
from weights.files.pickles.standins import Buildable, Known, Name, Record, kind

MARK = object()
LINE = 4096
"""Bytes that a line of a pickle has at most."""
MAX_INDEX = 1 << 32
MAX_INTEGER = 255
"""Bytes of an integer: what torch.save writes, and what Python prints."""
_AROUND = 12
"""Objects of the stack among which the key of a tensor is: functions, and arguments that are there before the tensor's."""
_ENTRY = 64
"""Bytes that an entry of a dictionary takes."""
_STOP = 0x2E
_EMPTY = Known("numpy.core.multiarray", "_reconstruct"), (Known("numpy", "ndarray"), (0,), b"b")
"""How a pickle makes the array that it then gives a state."""
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
        budget: Budget,
        start: int = 0,
    ):
        self.data, self.position = memoryview(data), start
        self.find, self.persistent, self.budget = find, persistent, budget
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.depths: dict[int, int] = {}
        """By the ids of tuples that contain tuples, how deep they nest."""

    def run(self, operations: Mapping[int, Callable[[Machine], object]]) -> object:
        """The pickled object. Refused if it would call anything unknown, Unreadable if it is damaged."""
        try:
            return self._run(operations)
        except ConversionError:
            raise
        except _DAMAGE as error:
            raise Unreadable(f"the pickle is damaged at byte {self.position} ({type(error).__name__})", "Copy or save it again") from None

    def _run(self, operations: Mapping[int, Callable[[Machine], object]]) -> object:
        data = self.data
        end = len(data)
        while True:
            if self.position >= end:
                raise Unreadable("the file ends before its pickle does", "Copy or save it again")
            code = data[self.position]
            self.position += 1
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
        start = self.position
        self.position += count
        if count < 0 or self.position > len(self.data):
            raise Unreadable(f"the file ends inside its pickle, at byte {start}", "Copy or save it again")
        return bytes(self.data[start : self.position])

    def line(self) -> bytes:
        """The bytes up to the next line end."""
        chunk, ended, _ = bytes(self.data[self.position : self.position + LINE]).partition(b"\n")
        if not ended:
            raise Unreadable(f"a line of the pickle does not end, at byte {self.position}", "The file is damaged")
        self.position += len(chunk) + 1
        return chunk

    def number(self, form: struct.Struct) -> Any:
        """The next number."""
        found = form.unpack_from(self.data, self.position)[0]
        self.position += form.size
        return found

    def long(self, size: int) -> int:
        """The next integer, of `size` bytes."""
        if size > MAX_INTEGER:
            raise Refused(f"the pickle has an integer of {size} bytes", "Save the state_dict alone")
        return int.from_bytes(self.take(size), "little", signed=True)

    # On the stack

    def push(self, value: object) -> None:
        """Puts a value on the stack."""
        self.stack.append(value)

    def make(self, value: object) -> None:
        """Puts a new container on the stack."""
        self.budget.spend(MEMORY, OBJECT, "its pickle")
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

    def _exchange(self, old: object, new: object) -> None:
        """Puts another value in the place of the top of the stack and of what was remembered of it."""
        self.budget.spend(STEPS, len(self.memo), "its pickle")
        self.budget.spend(MEMORY, OBJECT, "its pickle")
        self.stack[-1] = new
        self.memo |= {index: new for index, value in self.memo.items() if value is old}

    def _without_it(self) -> str:
        """What to do about an object that is not read: of a dictionary, which entry to leave out."""
        key = self._entry()
        if key is None:
            return "If the file is trusted, load it in torch and save its state_dict alone"
        return f"It stands at {shown(key)}: if the file is trusted, load it in torch, remove that entry, and save it again"

    def _entry(self) -> str | None:
        """The key of the outermost dictionary whose value is being made."""
        if len(self.stack) < 3 or not isinstance(self.stack[0], dict) or self.stack[1] is not MARK:
            return None
        found = None
        for key, value in zip_longest(self.stack[2::2], self.stack[3::2]):
            if not isinstance(key, str):
                break
            found = key
            if value is MARK or isinstance(value, (Name, Buildable)) or (isinstance(value, Known) and value.call is not None):
                break
        return found

    # Composite operations

    def reduce(self) -> None:
        """REDUCE: what calling a function of the list with the arguments on the stack gives."""
        args, function = self.pop(), self.pop()
        if not isinstance(args, tuple):
            raise TypeError
        if isinstance(function, Name) and function.makes:
            self.make(Record(function, args, called=True))
            return
        call = getattr(function, "call", None) if isinstance(function, (Known, Buildable)) else None
        if call is None:
            raise Refused(f"the pickle calls {shown(function)}, which is not on the reader's list", self._without_it())
        for given in args:
            if isinstance(given, (str, bytes, bytearray)):
                self.budget.spend(MEMORY, 4 * len(given), "its pickle")
            elif isinstance(given, (list, tuple, dict, set, frozenset)):
                self.budget.spend(STEPS, len(given), "its pickle")
                self.budget.spend(MEMORY, _ENTRY * len(given), "its pickle")
        try:
            made = call(self.budget, *args)
        except ConversionError as error:
            raise self.named(error) from None
        self.make(made)

    def refer(self) -> None:
        """BINPERSID: what the persistent id on the stack stands for."""
        identity = self.pop()
        try:
            found = self.persistent(identity)
        except ConversionError as error:
            raise self.named(error) from None
        self.push(found)

    def named(self, error: ConversionError) -> ConversionError:
        """An error of a tensor, with the key for which the tensor is made: the text nearest on the stack, below functions and marks."""
        for value in reversed(self.stack[-_AROUND:]):
            if isinstance(value, str):
                return type(error)(f"at {shown(value)}, {error.cause}", error.remedy) if error.cause.startswith("a tensor ") else error
        return error

    def new_object(self, keyword: bool = False) -> None:
        """NEWOBJ: an empty instance or a record of a class."""
        named = self.pop() if keyword else {}
        args, cls = self.pop(), self.pop()
        if named:
            raise Refused(f"the pickle makes {shown(cls)} with keyword arguments", "Save the state_dict instead of the object")
        if not isinstance(args, tuple):
            raise TypeError
        if isinstance(cls, Known) and cls.new is not None:
            self.make(cls.new(*args))
        elif isinstance(cls, Name):
            self.budget.spend(MEMORY, OBJECT, "its pickle")
            self.make(Record(cls, args))
        else:
            raise Refused(f"the pickle makes {shown(cls)}", "Save the state_dict instead of the object")

    def build(self) -> None:
        """BUILD: gives the object on the stack its state."""
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, Record):
            target.state = state
        elif isinstance(target, OrderedDict):
            if not isinstance(state, dict) or set(state) - {"_metadata"}:
                raise Refused(f"the pickle sets attributes {shown(state)} on an OrderedDict", "Save a plain state_dict")
            vars(target).update(state)
        elif isinstance(target, Buildable):
            target.build(state)
        elif isinstance(target, np.ndarray):
            if _is_foreign(state):
                self._exchange(target, Record(*_EMPTY, state=state, called=True))
            else:
                _fill(self.budget, target, state)
        else:
            raise Refused(f"the pickle sets the state of a {kind(target)}", "Save the state_dict instead of the object")

    def set_items(self, items: list[Any]) -> None:
        """Puts keys and values, in turn, into the dictionary on the stack."""
        target = self.stack[-1]
        table = target.items if isinstance(target, Record) else target
        if not isinstance(table, dict) or len(items) % 2:
            raise TypeError
        self.budget.spend(MEMORY, _ENTRY * (len(items) // 2), "its pickle")
        for key, value in zip(items[::2], items[1::2]):
            checked_key(key, table, self.budget)
            table[key] = value

    def append(self, items: list[Any]) -> None:
        """Adds to the list on the stack."""
        target = self.stack[-1].listed if isinstance(self.stack[-1], Record) else self.stack[-1]
        if type(target) is not list:
            raise TypeError
        target.extend(items)

    def add(self, items: list[Any]) -> None:
        """Adds to the set on the stack."""
        target = self.stack[-1]
        if type(target) is not set:
            raise TypeError
        self.budget.spend(MEMORY, _ENTRY * len(items), "its pickle")
        for item in items:
            checked_key(item, target, self.budget)
            target.add(item)

    def dictionary(self, items: list[Any]) -> None:
        """Puts a dictionary of keys and values, in turn, on the stack."""
        self.make({})
        self.set_items(items)

    def global_(self, module: object, name: object) -> None:
        """Puts what a global stands for on the stack."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError
        self.budget.spend(CHARACTERS, len(module) + len(name), "its pickle")
        try:
            found = self.find(module, name)
        except Refused as error:
            at = self._entry()
            raise error if at is None else Refused(f"{error.cause} (it stands at {shown(at)})", error.remedy) from None
        self.make(found)

    def put(self, index: int) -> None:
        """Remembers the top of the stack under an index."""
        if not 0 <= index < MAX_INDEX or self.stack[-1] is MARK:
            raise ValueError
        self.budget.spend(MEMORY, _ENTRY, "its pickle")
        self.memo[index] = self.stack[-1]

    def tuple_(self, items: list[Any]) -> None:
        """Puts a tuple on the stack. Refused where it nests too deeply: what refers to the tuple is not unfolded to find that out."""
        made, depth = tuple(items), 1 + max((self.depths.get(id(item), 1) for item in items if type(item) is tuple), default=0)
        if depth > DEPTH:
            raise Refused(f"it nests more than {DEPTH} deep", "Save a plain state_dict")
        if depth > 1:
            self.depths[id(made)] = depth
        else:
            self.depths.pop(id(made), None)  # of a tuple before it in the same place
        self.make(made)

    def last(self, count: int) -> None:
        """Makes the last `count` values on the stack one tuple."""
        items = self.stack[-count:]
        if len(items) != count or any(item is MARK for item in items):
            raise IndexError
        del self.stack[-count:]
        self.tuple_(items)


def _is_foreign(state: object) -> bool:
    """Whether an ndarray's pickled state has other things than numbers, such as text."""
    return isinstance(state, tuple) and len(state) == 5 and getattr(state[2], "is_plain", True) is False


def _fill(budget: Budget, array: np.ndarray, state: object) -> None:
    """An ndarray's pickled state: version, shape, dtype, Fortran order, bytes."""
    if not (isinstance(state, tuple) and len(state) == 5 and hasattr(state[2], "numpy") and isinstance(state[4], (bytes, bytearray))):
        raise Refused("a numpy array in the pickle does not have plain numbers", "Save it as a tensor")
    _, shape, dtype, fortran, data = state
    dtype = dtype.numpy()
    if not isinstance(shape, tuple) or len(shape) > 32 or not all(type(n) is int and n >= 0 for n in shape):
        raise ValueError
    budget.spend(MEMORY, 4 * len(data), "its pickle")
    flat = np.frombuffer(bytes(data), dtype).reshape(shape, order="F" if fortran else "C")
    state = (1, tuple(shape), dtype, bool(fortran), flat.tobytes(order="F" if fortran else "C"))
    array.__setstate__(state)  # pyright: ignore[reportArgumentType]


__all__ = ["MARK", "Machine"]
