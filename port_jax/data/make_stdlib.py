"""Makes `stdlib.npz`, the class hierarchy of Python's standard library: `python -m port_jax.data.make_stdlib`.

A child process imports every module of the standard library that can be imported and lists the classes that are then
alive. The result depends on Python's version and platform; the included file was made by CPython 3.11 on Linux.

    names     [N]     module.qualname, sorted
    edges     [2, E]  int32: class edges[0, e] derives directly from class edges[1, e]
    features  [N, F]  float32: what the class body itself contains (see FEATURES), as log(1 + count)
    labels    [N]     int32: the chapter of the library that the class's top-level module belongs to (label_names)
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
import subprocess
import sys
import types
import warnings
from pathlib import Path

__all__ = ["CHAPTERS", "FEATURES", "SKIPPED", "TARGET", "collect", "main"]

TARGET = Path(__file__).with_name("stdlib.npz")

SKIPPED = {
    "antigravity",
    "this",
    "idlelib",
    "test",
    "turtledemo",
    "lib2to3",
    "ensurepip",
    "pip",
    "site",
    "tests",
    "__main__",
}
"""Modules that open windows or browsers, print, install, or contain tests."""

CHAPTERS = {
    "codecs": """
        encodings codecs _multibytecodec""",
    "values": """
        __future__ _abc _collections _contextvars _py_abc _random _sitebuiltins _struct _weakrefset
        abc array bisect builtins calendar collections contextlib copy dataclasses datetime decimal
        enum fractions functools graphlib itertools numbers operator queue random re _sre reprlib
        pprint statistics string struct sys textwrap types typing unicodedata weakref zoneinfo
        _strptime difflib gettext locale time timeit warnings uuid""",
    "language": """
        ast bdb cProfile cmd code codeop dis distutils doctest imp importlib _frozen_importlib
        _frozen_importlib_external inspect _lsprof modulefinder pdb pickletools pkgutil profile
        pstats py_compile pyclbr pydoc rlcompleter runpy symtable tabnanny tokenize _tokenize trace
        traceback tracemalloc unittest venv zipapp zipimport _bootsubprocess cgitb argparse getopt
        optparse logging""",
    "network": """
        _markupbase _socket _ssl asynchat asyncore cgi crypt email ftplib html http imaplib
        ipaddress mailbox mailcap mimetypes nntplib poplib smtpd smtplib socket socketserver ssl
        telnetlib urllib webbrowser wsgiref xmlrpc netrc hmac _hashlib _blake2 _md5 _sha1 _sha256
        _sha3 _sha512 uu""",
    "system": """
        _asyncio _ctypes _io _multiprocessing _pyio _queue _thread _threading_local asyncio
        concurrent ctypes fileinput filecmp grp io mmap multiprocessing nis os pathlib pipes
        platform posix pwd resource sched select selectors shlex shutil signal spwd subprocess
        tempfile termios threading getpass""",
    "interfaces": """
        _curses _curses_panel _tkinter curses tkinter turtle aifc audioop chunk ossaudiodev sndhdr
        sunau wave""",
    "formats": """
        _bz2 _compression _csv _elementtree _json _lzma _pickle binascii bz2 configparser csv dbm
        gzip json lzma pickle plistlib pyexpat shelve sqlite3 tarfile tomllib xdrlib xml zipfile
        zlib""",
}
"""Label -> top-level modules, after the chapters of the Library Reference."""

FEATURES = (
    "methods",
    "private methods",
    "special methods",
    "static and class methods",
    "properties",
    "slots and members",
    "nested classes",
    "other attributes",
    "annotations",
    "arguments of __init__",
    "defines __init__",
    "defines __call__",
    "defines __iter__",
    "defines __eq__",
    "abstract methods",
    "words of documentation",
    "bases",
    "private name",
    "written in C",
)


def main() -> None:
    """Collect the classes in a child process that sees the standard library alone, and write `TARGET`."""
    import numpy as np  # not in the child, which sees the standard library alone

    environment = {"PATH": os.defpath, "PYTHONHASHSEED": "0", "HOME": os.devnull}
    command = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), "--collect"]
    listing = json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout)
    chapters = {module: i for i, modules in enumerate(CHAPTERS.values()) for module in modules.split()}
    unknown = sorted({row["name"].split(".")[0] for row in listing} - chapters.keys())
    if unknown:
        raise SystemExit(f"no chapter for {', '.join(unknown)}: add them to CHAPTERS in {__file__}")
    number = {row["name"]: i for i, row in enumerate(listing)}
    edges = [(number[row["name"]], number[base]) for row in listing for base in row["bases"]]
    arrays = {
        "names": np.array([row["name"] for row in listing]),
        "edges": np.array(edges, np.int32).T,
        "features": np.log1p(np.array([row["features"] for row in listing], np.float32)),
        "labels": np.array([chapters[row["name"].split(".")[0]] for row in listing], np.int32),
        "label_names": np.array(list(CHAPTERS)),
        "feature_names": np.array(FEATURES),
    }
    np.savez_compressed(TARGET, **arrays)
    print(f"{TARGET}: {len(listing)} classes, {len(edges)} edges, {TARGET.stat().st_size} bytes")
    print(dict(zip(CHAPTERS, np.bincount(arrays["labels"]).tolist())))


def collect() -> None:
    """In the child process: import everything, then write one JSON row per class to the standard output."""
    stdout = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # some modules print while being imported
    warnings.simplefilter("ignore")
    todo = [name for name in sorted(sys.stdlib_module_names) if name not in SKIPPED and not name.startswith(("_test", "_xx"))]
    while todo:
        name = todo.pop(0)
        # A module for another system, or one whose C library is missing, may raise anything; it is left out.
        with contextlib.suppress(BaseException):
            module = importlib.import_module(name)
            todo += [f"{name}.{m.name}" for m in pkgutil.iter_modules(getattr(module, "__path__", ())) if m.name not in SKIPPED]
    by_name: dict[str, type] = {}
    for cls in sorted(_all_classes(), key=_name):
        if cls.__module__.split(".")[0] in sys.stdlib_module_names:
            by_name.setdefault(_name(cls), cls)
    rows = []
    for name, cls in by_name.items():
        bases = [b for b in dict.fromkeys(map(_name, cls.__bases__)) if b in by_name and b != name]
        rows.append({"name": name, "bases": bases, "features": _features(cls)})
    with os.fdopen(stdout, "w") as out:
        json.dump(rows, out)


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _all_classes() -> list[type]:
    """object and all its live descendants, each once, in the order of their creation along each branch."""
    seen, todo = {object: None}, [object]
    while todo:
        for child in type.__subclasses__(todo.pop()):
            if child not in seen:
                seen[child] = None
                todo.append(child)
    return list(seen)


def _features(cls: type) -> list[int]:
    body = dict(vars(cls))
    init, words, annotations = body.get("__init__"), body.get("__doc__"), body.get("__annotations__")
    called = [n for n, v in body.items() if callable(v) and not isinstance(v, type | staticmethod | classmethod)]
    special = [n for n in called if n.startswith("__") and n.endswith("__")]
    private = [n for n in called if n.startswith("_") and n not in special]
    bound = [n for n, v in body.items() if isinstance(v, staticmethod | classmethod)]
    properties = [n for n, v in body.items() if isinstance(v, property)]
    slots = [n for n, v in body.items() if isinstance(v, types.MemberDescriptorType | types.GetSetDescriptorType)]
    nested = [n for n, v in body.items() if isinstance(v, type)]
    known = {*called, *bound, *properties, *slots, *nested, "__module__", "__doc__", "__dict__", "__weakref__"}
    return [
        len(called) - len(special) - len(private),
        len(private),
        len(special),
        len(bound),
        len(properties),
        len(slots),
        len(nested),
        len(body.keys() - known),
        len(annotations) if isinstance(annotations, dict) else 0,
        init.__code__.co_argcount if isinstance(init, types.FunctionType) else 0,
        int("__init__" in body),
        int("__call__" in body),
        int("__iter__" in body),
        int("__eq__" in body),
        len(getattr(cls, "__abstractmethods__", ())) if cls is not type else 0,
        len(words.split()) if isinstance(words, str) else 0,
        len(cls.__bases__),
        int(cls.__name__.startswith("_")),
        int(not type.__dict__["__flags__"].__get__(cls) & 1 << 9),  # Py_TPFLAGS_HEAPTYPE: made by a class statement
    ]


if __name__ == "__main__":
    collect() if "--collect" in sys.argv else main()
