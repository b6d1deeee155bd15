"""Where in a person's code a rule or a port is written, so that an error can point there."""

from __future__ import annotations

import sys
from pathlib import Path

OWN = Path(__file__).parent
"""What is written here is not a place: the functions that make rules, and the port's own methods."""


def written() -> str:
    """The file and line of the nearest caller outside of this folder, as file:line; relative to the current folder where it is below."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (frame.f_code.co_filename.startswith("<string>") or Path(frame.f_code.co_filename).parent == OWN):
        frame = frame.f_back
    path = Path(frame.f_code.co_filename)
    here = Path.cwd()
    return f"{path.relative_to(here) if path.is_relative_to(here) else path}:{frame.f_lineno}"


__all__ = ["written"]
