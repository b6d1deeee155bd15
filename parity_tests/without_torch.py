"""Where torch is not installed, a test or a file of tests that imports torch or geoopt is skipped, and the rest runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest


class _Skip(MetaPathFinder):
    """Asked for a module after everybody else, that is, where none has it."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname in ("torch", "geoopt"):
            pytest.skip(f"{fullname} is not installed", allow_module_level=True)
        return None


def skip_what_imports_it() -> None:
    sys.meta_path.append(_Skip())
