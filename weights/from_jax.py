"""A model that was made in JAX beside the file that its torch reference saves, which says all that the parameters do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import numpy as np

from weights.errors import Usage
from weights.mapping.leaves import leaf_of
from weights.models import ARCHITECTURES
from weights.types import Config, Params, TorchModule

NAME = "name"
"""The setting of an optimizer that is not an argument: its class in geoopt or torch."""
FLOATS = ("float64", "float32", "bfloat16", "float16")


def write_reference(path: Path, arch: str, params: Params, settings: Config, optimizer: Config | None) -> None:
    """Writes the file of the architecture's reference with these settings and a fresh optimizer, in the type that holds all parameters.

    Raises Usage where torch or geoopt is not installed, and for an architecture, settings or an optimizer that there are not.
    """
    _require_torch()
    from reference_torch import torch_file

    dtype = str(np.result_type(*(np.asarray(leaf).dtype for leaf in jax.tree.leaves(params) or [np.zeros(0)])))
    if dtype not in FLOATS or any(np.asarray(leaf).dtype.name not in FLOATS for leaf in jax.tree.leaves(params)):
        raise Usage("a parameter is not of a floating-point type", f"Give parameters of {', '.join(FLOATS)}")
    module = _reference(arch, settings)
    with _making():
        torch_file.write(path, module, dtype, None if optimizer is None else _named(optimizer))


def write_fresh(path: Path, parameters: Sequence[tuple[Sequence[int], str]], optimizer: Config) -> None:
    """Writes a file whose "optimizer" is a fresh one over parameters of these shapes and types. Raises Usage as `write_reference`."""
    _require_torch()
    from reference_torch import torch_file

    with _making():
        torch_file.write_fresh(path, parameters, _named(optimizer))


def _require_torch() -> None:
    for library in ("torch", "geoopt"):
        if find_spec(library) is None:
            raise Usage(f"{library} is not installed, and the torch reference needs it", 'Run pip install "hyperport[reference]"')


def _named(optimizer: Config) -> tuple[str, dict[str, Any]]:
    """The class and its arguments."""
    return str(optimizer.get(NAME)), {key: value for key, value in optimizer.items() if key != NAME}


@contextmanager
def _making() -> Iterator[None]:
    try:
        yield
    except (LookupError, TypeError, ValueError) as error:
        raise Usage(
            f"no optimizer can be made from its settings: {error}",
            "Give a class of geoopt or torch and its arguments: {'name': ..., 'lr': ...}",
        ) from None


def _reference(arch: str, settings: Config) -> TorchModule:
    table = ARCHITECTURES.get(arch)
    if table is None or table.torch is None:
        known = ", ".join(name for name, found in ARCHITECTURES.items() if found.torch is not None)
        raise Usage(f"{arch!r} is no architecture with a torch reference", f"Known are {known}")
    try:
        return table.reference(settings)
    except (KeyError, TypeError, ValueError) as error:
        missing = f"there is no {error}" if isinstance(error, KeyError) else error
        raise Usage(f"no {arch} of torch can be made from the settings: {missing}", "Give all of them: those of `ckpt.settings`") from None


def beside(wanted: Any, given: Any, what: str, remedy: str | None = None) -> Any:
    """The given tree in the wanted structure and types; named tuples may be dicts of their fields.

    Raises Usage for other paths or shapes, and for numbers that a type does not hold.
    """
    want, have = leaves(wanted), leaves(given)
    for at in [*want, *(at for at in have if at not in want)]:
        one, two = want.get(at), have.get(at)
        if one is None or two is None or np.shape(one) != np.shape(two) or not np.can_cast(np.asarray(two).dtype, np.asarray(one).dtype):
            raise Usage(
                f"{what} at {at} is {_shown(two)}; with these settings it is {_shown(one)}",
                remedy or f"Give the settings that belong to {what}",
            )
    cast = [leaf_of(np.asarray(have[at], np.asarray(leaf).dtype)) for at, leaf in want.items()]
    return jax.tree.unflatten(jax.tree.structure(wanted), cast)


def leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by their paths."""
    return {jax.tree_util.keystr(at, simple=True, separator="/"): leaf for at, leaf in jax.tree.leaves_with_path(tree)}


def _shown(leaf: Any) -> str:
    return "absent" if leaf is None else f"{np.asarray(leaf).dtype} {list(np.shape(leaf))}"


__all__ = ["NAME", "beside", "leaves", "write_reference"]
