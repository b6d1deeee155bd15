"""What public functions take: kinds of arguments, declared above a function by `takes`. Their errors name argument, value and remedy.

Arrays of numbers are checked where they are converted (`port_jax.checks`); here is the rest.
"""

from __future__ import annotations

import functools
import inspect
import math
import os
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple, TypeVar

import numpy as np

__all__ = [
    "EDGES",
    "FUNCTION",
    "KEY",
    "MAPPING",
    "PATH",
    "TEXT",
    "TRUTH",
    "Kind",
    "either",
    "instance",
    "number",
    "numbers",
    "one_of",
    "optional",
    "said",
    "takes",
    "whole",
]

F = TypeVar("F", bound=Callable[..., Any])
Refused = Callable[[type[Exception], str, str], Exception]
"""Makes an error of its class, what was found, and what to give."""
LONGEST = 60
"""Characters of a value in a message."""


class Kind(NamedTuple):
    """fits: whether a value is of this kind. wanted: the kind in words, after "give". error: the class of error otherwise."""

    fits: Callable[[Any], bool]
    wanted: str
    error: type[Exception] = TypeError


def takes(refused: Refused | None = None, **kinds: Kind) -> Callable[[F], F]:
    """A decorator that checks the arguments of these names before a function is called.

    Errors: the kind's, by default TypeError, with "NAME is VALUE; give WANTED"; `refused` makes another error of the parts.
    """

    def decorated(function: F) -> F:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def checked(*args: Any, **named: Any) -> Any:
            try:
                given = signature.bind(*args, **named).arguments
            except TypeError:  # too many, or one is missing: Python says so better
                return function(*args, **named)
            for name, kind in kinds.items():
                if name in given and not kind.fits(given[name]):
                    raise (refused or _refused)(kind.error, f"{name} is {said(given[name])}", kind.wanted)
            return function(*args, **named)

        return checked  # pyright: ignore[reportReturnType]

    return decorated


def said(value: Any) -> str:
    """A value in a message: on one line, and an array by its type and shape."""
    dtype, shape = getattr(value, "dtype", None), getattr(value, "shape", None)
    if dtype is not None and isinstance(shape, tuple):
        return f"an array of type {dtype} and shape {shape}"
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, list, tuple, dict, os.PathLike)):
        text = repr(value).replace("\n", " ")
        return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
    return f"the class {value.__qualname__}" if isinstance(value, type) else f"a {type(value).__qualname__}"


def whole(least: int | None = None) -> Kind:
    """Whole numbers; True and False are none."""
    words = "a whole number" if least is None else f"a whole number of at least {least}"
    return Kind(lambda x: isinstance(_plain(x), Integral) and _real(x) and (least is None or _plain(x) >= least), words, ValueError)


def number(low: float = -math.inf, high: float = math.inf) -> Kind:
    """Finite real numbers from `low` to `high`."""
    ends = f" from {low:g} to {high:g}" if math.isfinite(low + high) else f" of at least {low:g}" if math.isfinite(low) else ""
    return Kind(lambda x: _real(x) and math.isfinite(_plain(x)) and low <= _plain(x) <= high, f"a finite number{ends}", ValueError)


def numbers(words: str, ndim: int) -> Kind:
    """Arrays of real numbers, or lists of one length, with so many axes."""

    def fits(value: Any) -> bool:
        array = _array(value)
        return array is not None and array.ndim == ndim and (array.dtype.kind in "iuf" or not array.size)

    return Kind(fits, words, ValueError)


def one_of(*choices: str) -> Kind:
    """One of these texts."""
    words = " or ".join(map(repr, choices))
    return Kind(lambda x: isinstance(x, str) and x in choices, words, ValueError)


def instance(words: str, *classes: type) -> Kind:
    """Objects of these classes."""
    return Kind(lambda x: isinstance(x, classes), words)


def optional(kind: Kind) -> Kind:
    """What is of this kind, and None."""
    return kind._replace(fits=lambda x: x is None or kind.fits(x), wanted=f"{kind.wanted}, or None")


def either(*kinds: Kind) -> Kind:
    """What is of one of these kinds."""
    return Kind(lambda x: any(kind.fits(x) for kind in kinds), " or ".join(kind.wanted for kind in kinds), kinds[0].error)


def _edges(value: Any) -> bool:
    array = _array(value)
    return array is not None and array.ndim == 2 and len(array) == 2 and (array.dtype.kind in "iu" or not array.size)


def _array(value: Any) -> np.ndarray | None:
    """The array of numpy, if numpy can make one."""
    try:
        return np.asarray(value)
    except Exception:  # each library has errors of its own
        return None


def _plain(value: Any) -> Any:
    """The number in an array without axes, such as jnp.int32(3)."""
    shape = getattr(value, "shape", None)
    array = _array(value) if shape == () and not isinstance(value, np.generic) else None
    return value if array is None or array.dtype.kind not in "iuf" else array[()]


def _real(value: Any) -> bool:
    return isinstance(_plain(value), Real) and not isinstance(value, (bool, np.bool_))


def _refused(error: type[Exception], found: str, wanted: str) -> Exception:
    return error(f"{found}; give {wanted}")


def _key(value: Any) -> bool:
    dtype, shape = str(getattr(value, "dtype", "")), getattr(value, "shape", None)
    return (dtype.startswith("key<") and shape == ()) or (dtype == "uint32" and shape == (2,))


def _path(value: Any) -> bool:
    return isinstance(value, (str, os.PathLike)) and "\0" not in os.fsdecode(value)


EDGES = Kind(_edges, "whole numbers [2, E]: the first node of each edge, and the second", ValueError)
FUNCTION = Kind(callable, "a function")
KEY = Kind(_key, "a random key: jax.random.key(0), for example")
MAPPING = instance("a dictionary", Mapping)
PATH = Kind(_path, "a path, as text or a pathlib.Path")
TEXT = instance("a text", str)
TRUTH = instance("True or False", bool, np.bool_)
