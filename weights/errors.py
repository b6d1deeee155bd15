"""The errors of a conversion: each has a cause, a remedy, and an exit code for the shell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

LONGEST = 1500
"""Characters of a cause or of a remedy that a message shows."""


def printable(text: object) -> str:
    """The text with control characters, surrogates and what reverses the direction of writing as escapes: a file may contain any."""
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode("ascii") for c in text)


def shown(value: object, limit: int = 80) -> str:
    """A value of a file for a message, cut off after `limit` characters. The work is bounded, too: a tuple of a few bytes may unfold
    into more text than a machine can hold."""
    text = ""
    for piece in _pieces(value, limit):
        text += piece
        if len(text) > limit:
            return f"{text[: limit - 3]}..."
    return text


def _pieces(value: object, limit: int) -> Iterator[str]:
    """The value's text, bit by bit; of what begins with k brackets, no piece is asked for after the k-th."""
    if isinstance(value, (str, bytes, bytearray)):
        yield repr(value[: limit + 1])
    elif isinstance(value, int) and value.bit_length() > 4 * limit:
        yield f"an integer of {value.bit_length()} bits"
    elif value is None or isinstance(value, (int, float, complex)):
        yield repr(value)
    elif isinstance(value, (list, tuple, set, frozenset, Mapping)):
        first, last = {list: "[]", tuple: "()"}.get(type(value), "{}")
        yield first
        for number, item in enumerate(value):
            yield ", " if number else ""
            yield from _pieces(item, limit)
            if isinstance(value, Mapping):
                yield ": "
                yield from _pieces(value[item], limit)
        yield "," + last if isinstance(value, tuple) and len(value) == 1 else last
    else:
        module, name = getattr(value, "module", None), getattr(value, "name", None)  # a class or function that the file names
        named = isinstance(module, str) and isinstance(name, str)
        yield f"{module}.{name}"[: limit + 1] if named else f"a {type(value).__name__}"


class ConversionError(Exception):
    """A conversion that did not take place. `cause` says what was found and where, `remedy` what to do about it."""

    exit_code = 1

    def __init__(self, cause: str, remedy: str = "", *, path: str | Path | None = None):
        self.cause, self.remedy, self.path = cause, remedy, path
        super().__init__(cause, remedy)

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path is not None else ""
        cause, remedy = (text if len(text) <= LONGEST else f"{text[:LONGEST]}..." for text in (self.cause, self.remedy))
        return printable(f"{where}{cause}" + (f". {remedy}" if remedy else ""))

    def at(self, path: str | Path) -> ConversionError:
        """This error, with `path` as its file unless it names one already."""
        if self.path is None:
            self.path = path
        return self


class Usage(ConversionError):
    """An option is missing, unknown, or contradicts another."""

    exit_code = 2


class Unreadable(ConversionError):
    """Not a checkpoint, or a damaged one."""

    exit_code = 3


class Refused(ConversionError):
    """A file that asks for more than data: code to call, or sizes beyond what it contains."""

    exit_code = 4


class Unmatched(ConversionError):
    """A readable checkpoint that does not fit the architecture, the configuration or the optimizer."""

    exit_code = 5


class NotWritten(ConversionError):
    """The output could not be written; what was there before is still there."""

    exit_code = 6


__all__ = ["ConversionError", "NotWritten", "Refused", "Unmatched", "Unreadable", "Usage", "printable", "shown"]
