"""A port by the name of the Python object that it is: package.module:NAME. It is the person's own code, never named by a file."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from weights.errors import ConversionError, Usage
from weights.mapping.flax_modules import said
from weights.mapping.port import Port

WRITE = "Give --port package.module:NAME, where NAME = weights.Port(...) in package/module.py below the current folder"


def imported(name: str) -> Port:
    """The port of this name, from a module that Python finds in the current folder or among the installed ones.

    Raises Usage where there is no such module or name, where importing it fails, and for what is no port.
    """
    at, _, attribute = name.partition(":")
    if not at or not attribute or at.endswith(".py") or "/" in at:
        hint = at.removesuffix(".py").replace("/", ".") or "module"
        raise Usage(f"--port is {name!r}", f"Write {hint}:{attribute or 'NAME'}: a module as in an import, a colon, and the port's name")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(at)
    except ModuleNotFoundError as error:
        mine = error.name is not None and (at == error.name or at.startswith(f"{error.name}."))
        why = f"there is no module {error.name}" if mine else f"{at} cannot be imported: {said(error)}"
        raise Usage(f"--port is {name!r}, and {why}", WRITE if mine else "Install it, or correct the import") from None
    except ConversionError:
        raise
    except Exception as error:  # a person's code may fail in any way
        raise Usage(f"--port is {name!r}, and {at} cannot be imported: {said(error)}", "Correct the module") from None
    port: Any = getattr(found, attribute, None)
    if not isinstance(port, Port):
        others = [key for key, value in vars(found).items() if isinstance(value, Port)]
        what = "has no such name" if port is None else f"has a {type(port).__name__} there"
        raise Usage(f"--port is {name!r}, and {at} {what}", f"Its ports are {', '.join(others)}" if others else WRITE)
    return port


def modules_of(name: str) -> list[Path]:
    """The files of a port's code: its module, and of all modules that are loaded those in its package and in the current folder."""
    imported(name)
    at = name.partition(":")[0]
    homes = [os.path.join(home, "") for home in (*getattr(sys.modules[at.partition(".")[0]], "__path__", ()), os.getcwd())]
    loaded = [file for module in (sys.modules[at], *sys.modules.values()) if isinstance(file := getattr(module, "__file__", None), str)]
    beside = (file for file in loaded for home in homes if file.startswith(home) and "site-packages" not in file[len(home) :])
    return [*map(Path, loaded[:1]), *map(Path, beside)]


__all__ = ["imported", "modules_of"]
