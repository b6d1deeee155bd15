"""What every method of a manifold does with its arguments before it computes, and with its results afterwards.

All of it happens in Python and depends on types alone: arrays in single and double precision pass through, and nothing is compiled.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from port_jax.checks import as_numbers, is_half

__all__ = ["ARRAYS", "POINTS", "Numbers", "narrowed", "numbers", "take_numbers"]

ARRAYS = frozenset(
    {
        "a",
        "b1",
        "c",
        "grad",
        "m",
        "mean",
        "noise",
        "p",
        "parts",
        "r",
        "rate",
        "s",
        "std",
        "t",
        "tensors",
        "u",
        "v",
        "w",
        "weights",
        "x",
        "xs",
        "y",
        "z",
    }
)
"""The names of parameters that are arrays of numbers, in the methods of all manifolds."""

POINTS = frozenset(
    {
        "descend",
        "expmap",
        "expmap0",
        "expmap_transp",
        "from_tangent0",
        "geodesic",
        "geodesic_unit",
        "mobius_add",
        "mobius_coadd",
        "mobius_cosub",
        "mobius_fn_apply",
        "mobius_fn_apply_chain",
        "mobius_matvec",
        "mobius_pointwise_mul",
        "mobius_scalar_mul",
        "mobius_sub",
        "projx",
        "random",
        "random_combined",
        "random_naive",
        "random_normal",
        "random_uniform",
        "retr",
        "retr_transp",
        "retr_transp_ambient",
        "to_ball",
        "weighted_midpoint",
        "wrapped_normal",
    }
)
"""The methods whose result, or the first of whose results, is a point: of the manifold, or for `to_ball` of its ball."""

UNTOUCHED = frozenset(("narrowed", "check_point", "check_vector", "assert_check_point", "assert_check_vector"))
"""Methods that look at shapes only, and the one that rounds."""


def take_numbers(cls: type) -> None:
    """Give the public methods that `cls` itself defines one rule for their arguments.

    - What numpy can make an array of numbers is one: lists, torch tensors on the CPU. Anything else is a TypeError that names it.
    - Integers and truth values become floats, of the type of the other arguments or of JAX's default. So nothing is rounded to integers.
    - Half precision is computed in float32, and the results are rounded once; points so that they stay on the manifold. Checks allow for
      the rounding.
    """
    for name, method in list(vars(cls).items()):
        if inspect.isfunction(method) and not name.startswith("_") and name not in UNTOUCHED and "__wrapped__" not in vars(method):
            parameters = list(inspect.signature(method).parameters.values())[1:]
            if any(p.name in ARRAYS or p.name == "dtype" for p in parameters):
                setattr(cls, name, _taking(method, parameters))


def _taking(method: Callable[..., Any], parameters: list[inspect.Parameter]) -> Callable[..., Any]:
    by_place = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), "")
    takes, takes_rest = [name in ARRAYS for name in by_place], rest in ARRAYS
    default = {p.name: p.default for p in parameters}
    is_point = method.__name__ in POINTS

    @functools.wraps(method)
    def with_numbers(self: Any, *args: Any, **kwargs: Any) -> Any:
        at = [i for i in range(len(args)) if (takes[i] if i < len(takes) else takes_rest)]
        named = [key for key in kwargs if key in ARRAYS]
        wanted = kwargs.get("dtype")
        if all(_plain(args[i]) for i in at) and all(_plain(kwargs[key]) for key in named) and (wanted is None or not is_half(wanted)):
            return method(self, *args, **kwargs)
        labels = {i: by_place[i] if i < len(by_place) else f"{rest}[{i - len(by_place)}]" for i in at}
        given = {**{labels[i]: args[i] for i in at}, **{key: kwargs[key] for key in named}}
        given = {key: value for key, value in given.items() if value is not None or default.get(key, inspect.Parameter.empty) is not None}
        # an array that has a default other than None, such as a deviation, does not decide on the type of the result
        typed = {key for key in given if default.get(key) in (None, inspect.Parameter.empty)}
        found = numbers(f"{type(self).__name__}.{method.__name__}", given, typed)
        args = tuple(found.values.get(labels[i], value) if i in labels else value for i, value in enumerate(args))
        kwargs = {key: found.values.get(key, value) for key, value in kwargs.items()}
        kept = found.half
        if wanted is not None and is_half(wanted):
            kept, kwargs["dtype"] = wanted, jnp.float32
        if kept is None:
            return method(self, *args, **kwargs)
        if "atol" in default:
            room = 8 * float(jnp.finfo(kept).eps)
            kwargs |= {key: max(kwargs.get(key, default[key]), room) for key in ("atol", "rtol")}
        result = method(self, *args, **kwargs)
        end = self.ball if method.__name__ == "to_ball" else self
        rounds = end.narrowed if is_point and kwargs.get("project", True) else None
        return narrowed(result, kept, rounds)

    return with_numbers


def _plain(value: Any) -> bool:
    """Whether the value can be passed on as it is: a number of Python's, or an array in single or double precision."""
    if isinstance(value, jax.Array | np.ndarray):
        return value.dtype.kind in "fc" and value.dtype.itemsize >= 4
    return isinstance(value, float | int | complex) and not isinstance(value, bool)


class Numbers(NamedTuple):
    """Arrays by their names, none of them narrower than float32, and the half-precision type that the results have, or None."""

    values: dict[str, Any]
    half: DTypeLike | None


def numbers(where: str, given: dict[str, Any], typed: set[str] | None = None) -> Numbers:
    """The given values as arrays of numbers by the rule of `take_numbers`. `typed`: the names of those that decide on the type."""
    deciding = given if typed is None else {key: given[key] for key in given if key in typed}
    own = [v for v in deciding.values() if isinstance(v, jax.Array | np.ndarray | np.generic) and jnp.issubdtype(v.dtype, jnp.inexact)]
    like = jnp.result_type(*own) if own else None
    found = {key: v if _plain(v) else as_numbers(key, v, where, like) for key, v in given.items()}
    arrays = [found[key] for key in deciding if isinstance(found[key], jax.Array | np.ndarray)]
    kind = jnp.result_type(*arrays) if arrays else None
    wide = {key: v.astype(jnp.float32) if isinstance(v, jax.Array) and is_half(v.dtype) else v for key, v in found.items()}
    return Numbers(wide, kind if kind is not None and is_half(kind) else None)


def narrowed(result: Any, dtype: DTypeLike, rounds: Callable[[Any, Any], Any] | None) -> Any:
    """The arrays of a result in half precision, and those that a function returns; the first one, if it is a point, by `rounds`."""
    if isinstance(result, tuple):
        return tuple(narrowed(part, dtype, rounds if i == 0 else None) for i, part in enumerate(result))
    if isinstance(result, jax.Array) and result.dtype == jnp.float32:
        return result.astype(dtype) if rounds is None else rounds(result, dtype)
    if callable(result):
        return lambda *args: narrowed(result(*(jnp.asarray(a, jnp.float32) for a in args)), dtype, rounds)
    return result
