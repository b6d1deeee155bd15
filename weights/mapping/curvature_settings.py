"""Curvature is never assumed: it comes from the file's raw tensors, the configuration or the caller, and all of them have to agree."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from weights.errors import Unmatched, Usage
from weights.mapping.settings import WHERE, Settings

ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""geoopt computes log(exp(c) - 1) in float32."""


def softplus(raw: float) -> float:
    """log(1 + exp(raw)) in float64: geoopt's c for its stored isp_c."""
    return max(raw, 0.0) + math.log1p(math.exp(-abs(raw)))


def from_raw(name: str, raw: float) -> float:
    """The curvature that a raw tensor of that name stands for: isp_c and isp_k through softplus, the rest as they are."""
    return softplus(raw) if name in ("isp_c", "isp_k") else raw


def raw_of(name: str, curvature: float) -> float:
    """The raw number of that name that stands for a curvature: the inverse of `from_raw`."""
    return math.log(math.expm1(curvature)) if name in ("isp_c", "isp_k") else curvature


def settle(settings: Settings, raw: Mapping[str, np.ndarray], count: int, name: str = "curvature", *,
           learned: bool = False, read: Callable[[str, float], float] = from_raw) -> list[float]:  # fmt: skip
    """The curvature of each of `count` manifolds. raw: the file's raw tensors by key, in order; empty if it has none. read: what makes a
    curvature of a raw tensor's name and number.

    The model computes with the file's own value. A configuration or an option has to agree with it, up to the rounding of geoopt's
    float32 log(exp(c) - 1), except that the configuration has the start of a `learned` curvature. Raises Unmatched where they
    disagree, Usage where nothing gives a curvature.
    """
    stated = [
        (where, table[name]) for where, table in (("option", settings.given), ("config", settings.config)) if table.get(name) is not None
    ]
    stated = [(where, _numbers(value, count, where)) for where, value in stated]
    if raw:
        if len(raw) != count:
            raise Unmatched(
                f"the file contains {len(raw)} curvatures ({next(iter(raw))!r}, ...); the model has {count} manifolds",
                "Check the configuration",
            )
        values = [read(key.rpartition(".")[2], float(np.asarray(tensor).reshape(-1)[0])) for key, tensor in raw.items()]
        for where, others in stated:
            if learned and where == "config":  # where training began
                continue
            for key, value, other in zip(raw, values, others):
                if abs(value - other) > ROUNDING * (1 + abs(other)):
                    raise Unmatched(
                        f"{key!r} in the file gives curvature {value:.9g}, {WHERE[where]} gives {other:.9g}",
                        "Correct it to the file's value, or set learnable_curvature in the configuration if the curvature was trained",
                    )
        settings.values[name], settings.sources[name] = values, ", ".join(raw)
        settings.in_file.add(name)
        return values
    if len(stated) == 2 and stated[0][1] != stated[1][1]:
        raise Unmatched(f"--curvature is {stated[0][1]}, and the configuration has {stated[1][1]}", "Omit one of them, or correct it")
    if not stated:
        raise Usage("the curvature is neither in the file nor in the configuration", "Give --curvature (curvature=...)")
    where, values = stated[0]
    settings.values[name], settings.sources[name] = values, where
    return values


def unit(settings: Settings, why: str) -> None:
    """Curvature 1 of code that has no other. `why` says so in the error; Unmatched if the caller gives another."""
    given = settings.given.get("curvature")
    if given is not None and _numbers(given, 1, "option") != [1.0]:
        raise Unmatched(f"the curvature given is {given}; {why}", "Omit --curvature (curvature=...)")
    settings.values["curvature"], settings.sources["curvature"] = [1.0], "the original code"


def _numbers(value: Any, count: int, where: str) -> list[float]:
    values = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value] * count
    try:
        numbers = [float(v) for v in values]
    except (TypeError, ValueError):
        raise Usage(f"{WHERE[where]} gives the curvature {value!r}", "Give a number, or one for each manifold") from None
    if len(numbers) == 1:
        numbers *= count
    if len(numbers) != count or not all(math.isfinite(v) for v in numbers):
        raise Usage(
            f"{WHERE[where]} gives the curvature {value!r}; the model has {count} manifolds",
            "Give one finite number, or one for each",
        )
    return numbers


__all__ = ["ROUNDING", "from_raw", "raw_of", "settle", "softplus", "unit"]
