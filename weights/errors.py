"""The errors of a conversion: each has a cause, a remedy, and an exit code for the shell."""

from __future__ import annotations

from pathlib import Path


def printable(text: object) -> str:
    """The text with control characters, surrogates and what reverses the direction of writing as escapes: a file may contain any."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode("ascii") for c in str(text))


class ConversionError(Exception):
    """A conversion that did not take place. `cause` says what was found and where, `remedy` what to do about it."""

    exit_code = 1

    def __init__(self, cause: str, remedy: str = "", *, path: str | Path | None = None):
        self.cause, self.remedy, self.path = cause, remedy, path
        super().__init__(cause, remedy)

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path is not None else ""
        return printable(f"{where}{self.cause}" + (f". {self.remedy}" if self.remedy else ""))

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


__all__ = ["ConversionError", "NotWritten", "Refused", "Unmatched", "Unreadable", "Usage", "printable"]
