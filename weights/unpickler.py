"""A pickle machine that calls nothing of the file: it builds plain data and inert records (PEP 307, 3154 opcodes)."""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from weights.errors import ConversionError, Refused, Unreadable
from weights.standins import Known, Name, Record
from weights.tensors import Tensor

MAX_BYTES = 64 << 20
MAX_OPERATIONS = 4_000_000
MAX_DEPTH = 200
MAX_EXPANDED = 20_000_000
MAX_INTEGER = 1 << 61  # larger integers as keys could be chosen to collide in Python's hash

_MARK = object()
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
    """Runs one pickle of `data` from `start`; `position` is then its end.

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

    def load(self) -> object:
        """The pickled object. Refused if it would call anything unknown, Unreadable if it is damaged."""
        try:
            return self._run()
        except ConversionError:
            raise
        except _DAMAGE as error:
            raise Unreadable(
                f"the pickle is damaged at byte {self.position} ({type(error).__name__})", "Copy or save it again"
            ) from None

    def _run(self) -> object:
        operations = 0
        data = self.data
        while True:
            if self.position >= self.limit:
                cause = (
                    "ends before its pickle does"
                    if self.limit == len(data)
                    else f"holds a pickle of more than {MAX_BYTES >> 20} MiB"
                )
                raise (Unreadable if self.limit == len(data) else Refused)(f"the file {cause}", "Copy or save it again")
            code = data[self.position]
            self.position += 1
            operations += 1
            if operations > MAX_OPERATIONS:
                raise Refused(
                    f"the pickle takes more than {MAX_OPERATIONS} operations", "Keep the tensors and leave the rest out"
                )
            if code == 0x2E:  # STOP
                if len(self.stack) != 1:
                    raise Unreadable(f"the pickle leaves {len(self.stack)} objects", "The file is damaged")
                return self.stack[0]
            operation = _OPERATIONS.get(code)
            if operation is None:
                raise Refused(
                    f"the pickle uses operation {bytes([code])!r}, which no torch checkpoint needs",
                    "Save it again with torch.save",
                )
            operation(self)

    def take(self, count: int) -> bytes:
        if count < 0 or self.position + count > self.limit:
            raise Unreadable(f"the file ends inside its pickle, at byte {self.position}", "Copy or save it again")
        chunk = bytes(self.data[self.position : self.position + count])
        self.position += count
        return chunk

    def line(self) -> bytes:
        for end in range(self.position, min(self.limit, self.position + 4096)):
            if self.data[end] == 10:
                chunk = bytes(self.data[self.position : end])
                self.position = end + 1
                return chunk
        raise Unreadable(f"a line of the pickle does not end, at byte {self.position}", "The file is damaged")

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def push(self, value: object) -> None:
        self.stack.append(value)

    def marked(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise IndexError
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise IndexError
        return value

    # Composite operations

    def reduce(self) -> None:
        args, function = self.pop(), self.pop()
        if not isinstance(args, tuple):
            raise TypeError
        self.push(called(function, args))

    def new_object(self, keyword: bool = False) -> None:
        named = self.pop() if keyword else {}
        args, cls = self.pop(), self.pop()
        if named:
            raise Refused(
                f"the pickle makes a {cls} with keyword arguments", "Save the state_dict instead of the object"
            )
        if isinstance(cls, Known) and cls.new is not None:
            self.push(cls.new(*args))
        elif isinstance(cls, Name):
            self.push(Record(cls, tuple(args)))
        else:
            raise Refused(f"the pickle makes a {cls}", "Save the state_dict instead of the object")

    def build(self) -> None:
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, Record):
            target.state = state
        elif isinstance(target, OrderedDict):
            if not isinstance(state, dict) or set(state) - {"_metadata"}:
                raise Refused(
                    f"the pickle sets attributes {sorted(map(str, state))} on an OrderedDict", "Save a plain state_dict"
                )
            vars(target).update(state)
        elif isinstance(target, Buildable):
            target.build(state)
        elif isinstance(target, np.ndarray):
            fill(target, state)
        else:
            raise Refused(
                f"the pickle sets the state of a {_kind(target)}", "Save the state_dict instead of the object"
            )

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        table = target.items if isinstance(target, Record) else target
        if not isinstance(table, dict) or len(items) % 2:
            raise TypeError
        for key, value in zip(items[::2], items[1::2]):
            checked_key(key)
            table[key] = value

    def append(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise TypeError
        self.stack[-1].extend(items)

    def add(self, items: list[Any]) -> None:
        for item in items:
            checked_key(item)
        self.stack[-1].update(items)

    def dictionary(self, items: list[Any]) -> None:
        self.push({})
        self.set_items(items)

    def global_(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError
        self.push(self.find(module, name))

    def put(self, index: int) -> None:
        if index < 0 or self.stack[-1] is _MARK:
            raise ValueError
        self.memo[index] = self.stack[-1]

    def last(self, count: int) -> None:
        items = tuple(self.stack[-count:])
        if len(items) != count or _MARK in items:
            raise IndexError
        self.stack[-count:] = [items]


class Buildable:
    """A stand-in that takes its state from the pickle by its own rules."""

    def build(self, state: object) -> None:
        raise NotImplementedError


def called(function: object, args: tuple) -> object:
    """What the pickle gets for calling `function`: data if it is on the list, Refused otherwise."""
    call = getattr(function, "call", None) if isinstance(function, (Known, Buildable)) else None
    if call is None:
        name = function if isinstance(function, (Known, Name)) else _kind(function)
        raise Refused(
            f"the pickle calls {name}, which is not on the reader's list",
            "If the file is trusted, load it in torch and save its state_dict alone",
        )
    return call(*args)


def fill(array: np.ndarray, state: object) -> None:
    """An ndarray's pickled state: version, shape, dtype, Fortran order, bytes."""
    if not (
        isinstance(state, tuple)
        and len(state) == 5
        and hasattr(state[2], "numpy")
        and isinstance(state[4], (bytes, bytearray))
    ):
        raise Refused("a numpy array in the pickle does not hold plain numbers", "Save it as a tensor")
    _, shape, dtype, fortran, data = state
    dtype = dtype.numpy()
    if not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 32:
        raise ValueError
    flat = np.frombuffer(bytes(data), dtype).reshape(shape, order="F" if fortran else "C")
    state = (1, tuple(shape), dtype, bool(fortran), flat.tobytes(order="F" if fortran else "C"))
    array.__setstate__(state)  # pyright: ignore[reportArgumentType]


def checked_key(key: object, depth: int = 0) -> None:
    """Keys whose hashing is bounded: scalars, short tuples of them, and objects compared by identity."""
    if isinstance(key, tuple):
        if len(key) > 64 or depth > 3:
            raise Refused("a dictionary key in the pickle is a large tuple", "Save a plain state_dict")
        for part in key:
            checked_key(part, depth + 1)
    elif type(key) is int:
        if abs(key) >= MAX_INTEGER:
            raise Refused(f"a dictionary key in the pickle is the integer {hex(key)[:40]}", "Save a plain state_dict")
    elif not isinstance(key, (str, bytes, float, complex, bool, type(None), Name, Known, Record, Tensor, np.generic)):
        raise Refused(f"a dictionary key in the pickle is a {_kind(key)}", "Save a plain state_dict")


def checked_tree(root: object) -> None:
    """Refuses nesting beyond 200, cycles of plain containers, expansion beyond bounds, and foreign objects outside modules."""
    size: dict[int, tuple[int, int]] = {}
    stack: list[tuple[object, bool]] = [(root, False)]
    active: set[int] = set()
    while stack:
        node, leaving = stack.pop()
        if isinstance(node, Record):
            if not node.is_module and not _data(node):
                raise Refused(
                    f"the file holds a {node.name}, which is not on the reader's list", "Save the state_dict alone"
                )
            children: list[object] = list(node.items.values()) if not node.is_module else []
        elif isinstance(node, (Name, Known, Buildable)):
            raise Refused(
                f"the file refers to {node if not isinstance(node, Buildable) else _kind(node)}, which is not on the reader's list",
                "Save the state_dict alone",
            )
        elif isinstance(node, dict):
            children = [*node.values(), *(k for k in node if not isinstance(k, (str, int, float)))]
        elif isinstance(node, (list, tuple)):
            children = list(node)
        else:
            continue
        at = id(node)
        if leaving:
            active.discard(at)
            inner = [size.get(id(child), (1, 0)) for child in children]
            total, depth = 1 + sum(n for n, _ in inner), 1 + max((d for _, d in inner), default=0)
            if total > MAX_EXPANDED or depth > MAX_DEPTH:
                raise Refused(
                    f"the pickle nests {depth} deep and unfolds into {total} objects or more", "Save a plain state_dict"
                )
            size[at] = total, depth
        elif at in active:
            raise Refused("a container of the pickle holds itself", "Save a plain state_dict")
        elif at not in size:
            active.add(at)
            stack.append((node, True))
            stack.extend((child, False) for child in children)


def _data(record: Record) -> bool:
    return isinstance(record.cls, Known) or (
        record.name.startswith("hypll.tensors.") and isinstance(record.attributes.get("tensor"), Tensor)
    )


def _kind(value: object) -> str:
    return type(value).__name__


def _long(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _ascii(data: bytes) -> str | bytes:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        return data


def _integer(line: bytes) -> int | bool:
    return {b"00": False, b"01": True}[line] if line in (b"00", b"01") else int(line)


_OPERATIONS: dict[int, Callable[[Machine], None]] = {
    ord(code): operation
    for code, operation in {
        b"\x80": lambda m: m.take(1),  # PROTO
        b"\x95": lambda m: m.take(8),  # FRAME
        b"(": lambda m: m.push(_MARK),
        b"0": lambda m: m.stack.pop(),
        b"1": lambda m: m.marked(),
        b"2": lambda m: m.push(m.stack[-1]),
        b"N": lambda m: m.push(None),
        b"\x88": lambda m: m.push(True),
        b"\x89": lambda m: m.push(False),
        b"I": lambda m: m.push(_integer(m.line())),
        b"L": lambda m: m.push(int(m.line().rstrip(b"L"))),
        b"F": lambda m: m.push(float(m.line())),
        b"J": lambda m: m.push(m.number("<i")),
        b"K": lambda m: m.push(m.number("B")),
        b"M": lambda m: m.push(m.number("<H")),
        b"G": lambda m: m.push(m.number(">d")),
        b"\x8a": lambda m: m.push(_long(m.take(m.number("B")))),
        b"\x8b": lambda m: m.push(_long(m.take(min(m.number("<i"), 4096)))),
        b"X": lambda m: m.push(_text(m.take(m.number("<I")))),
        b"\x8c": lambda m: m.push(_text(m.take(m.number("B")))),
        b"\x8d": lambda m: m.push(_text(m.take(m.number("<Q")))),
        b"V": lambda m: m.push(m.line().decode("raw-unicode-escape")),
        b"U": lambda m: m.push(_ascii(m.take(m.number("B")))),
        b"T": lambda m: m.push(_ascii(m.take(m.number("<i")))),
        b"B": lambda m: m.push(m.take(m.number("<I"))),
        b"C": lambda m: m.push(m.take(m.number("B"))),
        b"\x8e": lambda m: m.push(m.take(m.number("<Q"))),
        b"\x96": lambda m: m.push(bytearray(m.take(m.number("<Q")))),
        b"]": lambda m: m.push([]),
        b"}": lambda m: m.push({}),
        b")": lambda m: m.push(()),
        b"\x8f": lambda m: m.push(set()),
        b"l": lambda m: m.push(m.marked()),
        b"d": lambda m: m.dictionary(m.marked()),
        b"t": lambda m: m.push(tuple(m.marked())),
        b"\x85": lambda m: m.last(1),
        b"\x86": lambda m: m.last(2),
        b"\x87": lambda m: m.last(3),
        b"a": lambda m: m.append([m.pop()]),
        b"e": lambda m: m.append(m.marked()),
        b"s": lambda m: m.set_items([m.pop(), m.pop()][::-1]),
        b"u": lambda m: m.set_items(m.marked()),
        b"\x90": lambda m: m.add(m.marked()),
        b"p": lambda m: m.put(int(m.line())),
        b"q": lambda m: m.put(m.number("B")),
        b"r": lambda m: m.put(m.number("<I")),
        b"\x94": lambda m: m.put(len(m.memo)),
        b"g": lambda m: m.push(m.memo[int(m.line())]),
        b"h": lambda m: m.push(m.memo[m.number("B")]),
        b"j": lambda m: m.push(m.memo[m.number("<I")]),
        b"c": lambda m: m.global_(m.line().decode(), m.line().decode()),
        b"\x93": lambda m: m.global_(*[m.pop(), m.pop()][::-1]),
        b"R": lambda m: m.reduce(),
        b"\x81": lambda m: m.new_object(),
        b"\x92": lambda m: m.new_object(keyword=True),
        b"b": lambda m: m.build(),
        b"Q": lambda m: m.push(m.persistent(m.pop())),
    }.items()
}
