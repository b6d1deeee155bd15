"""The operations of a pickle (PEP 307, 3154) that torch files use, each as what it does to the machine's stack."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

from weights.errors import Refused
from weights.files.pickles.machine import MARK, MAX_INTEGER, Machine

_BYTE, _SHORT, _SIGNED, _WORD, _LONG, _DOUBLE = (Struct(form) for form in ("B", "<H", "<i", "<I", "<Q", ">d"))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _string(data: bytes) -> str | bytes:
    """A string of Python 2, which torch decodes as UTF-8; bytes that are none stay bytes."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data


def _decimal(line: bytes) -> int:
    if len(line) > 2 * MAX_INTEGER:
        raise Refused(f"the pickle has an integer of {len(line)} digits", "Save the state_dict alone")
    return int(line.removesuffix(b"L"))


def _integer(line: bytes) -> int | bool:
    return {b"00": False, b"01": True}[line] if line in (b"00", b"01") else _decimal(line)


OPERATIONS: dict[int, Callable[[Machine], object]] = {
    ord(code): operation
    for code, operation in {
        b"\x80": lambda m: m.take(1),  # PROTO
        b"\x95": lambda m: m.take(8),  # FRAME
        b"(": lambda m: m.push(MARK),
        b"0": lambda m: m.stack.pop(),
        b"1": lambda m: m.marked(),
        b"2": lambda m: m.push(m.stack[-1]),
        b"N": lambda m: m.push(None),
        b"\x88": lambda m: m.push(True),
        b"\x89": lambda m: m.push(False),
        b"I": lambda m: m.push(_integer(m.line())),
        b"L": lambda m: m.push(_decimal(m.line())),
        b"F": lambda m: m.push(float(m.line())),
        b"J": lambda m: m.push(m.number(_SIGNED)),
        b"K": lambda m: m.push(m.number(_BYTE)),
        b"M": lambda m: m.push(m.number(_SHORT)),
        b"G": lambda m: m.push(m.number(_DOUBLE)),
        b"\x8a": lambda m: m.push(m.long(m.number(_BYTE))),
        b"\x8b": lambda m: m.push(m.long(m.number(_SIGNED))),
        b"X": lambda m: m.push(_text(m.take(m.number(_WORD)))),
        b"\x8c": lambda m: m.push(_text(m.take(m.number(_BYTE)))),
        b"\x8d": lambda m: m.push(_text(m.take(m.number(_LONG)))),
        b"V": lambda m: m.push(m.line().decode("raw-unicode-escape")),
        b"U": lambda m: m.push(_string(m.take(m.number(_BYTE)))),
        b"T": lambda m: m.push(_string(m.take(m.number(_SIGNED)))),
        b"B": lambda m: m.push(m.take(m.number(_WORD))),
        b"C": lambda m: m.push(m.take(m.number(_BYTE))),
        b"\x8e": lambda m: m.push(m.take(m.number(_LONG))),
        b"\x96": lambda m: m.push(bytearray(m.take(m.number(_LONG)))),
        b"]": lambda m: m.make([]),
        b"}": lambda m: m.make({}),
        b")": lambda m: m.push(()),
        b"\x8f": lambda m: m.make(set()),
        b"l": lambda m: m.make(m.marked()),
        b"d": lambda m: m.dictionary(m.marked()),
        b"t": lambda m: m.tuple_(m.marked()),
        b"\x85": lambda m: m.last(1),
        b"\x86": lambda m: m.last(2),
        b"\x87": lambda m: m.last(3),
        b"a": lambda m: m.append([m.pop()]),
        b"e": lambda m: m.append(m.marked()),
        b"s": lambda m: m.set_items([m.pop(), m.pop()][::-1]),
        b"u": lambda m: m.set_items(m.marked()),
        b"\x90": lambda m: m.add(m.marked()),
        b"p": lambda m: m.put(_decimal(m.line())),
        b"q": lambda m: m.put(m.number(_BYTE)),
        b"r": lambda m: m.put(m.number(_WORD)),
        b"\x94": lambda m: m.put(len(m.memo)),
        b"g": lambda m: m.push(m.memo[_decimal(m.line())]),
        b"h": lambda m: m.push(m.memo[m.number(_BYTE)]),
        b"j": lambda m: m.push(m.memo[m.number(_WORD)]),
        b"c": lambda m: m.global_(m.line().decode(), m.line().decode()),
        b"\x93": lambda m: m.global_(*[m.pop(), m.pop()][::-1]),
        b"R": lambda m: m.reduce(),
        b"\x81": lambda m: m.new_object(),
        b"\x92": lambda m: m.new_object(keyword=True),
        b"b": lambda m: m.build(),
        b"Q": lambda m: m.refer(),
    }.items()
}


__all__ = ["OPERATIONS"]
