"""What a different optimizer step looks like: one step of Adam's kind in all its usual variants, beside what both sides did."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from weights.files.tensors import Tensor
from weights.proof.causes import Cause
from weights.proof.flax_run import Arrays
from weights.proof.sides import Sides

NEAR = 1e-7
DECAY = {"inside": "decay inside (added to the gradient)", "outside": "decay outside (of the moments, decoupled)", "none": "no decay"}
ROOT = {"outside": "epsilon outside the root", "inside": "epsilon inside the root"}
BIAS = {True: "", False: "no correction of the moments' bias"}
ORDER = {"new": "", "old": "the step taken with the moments before their update"}


@dataclass(frozen=True)
class Before:
    """A parameter before the step: its numbers, its gradient, and what torch's optimizer has for it (lr, betas, eps, decay, moments)."""

    value: np.ndarray
    gradient: np.ndarray
    settings: Mapping[str, Any]
    state: Mapping[str, Any]


def variants(before: Before) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """p' - p by every variant. Adam: m' = b1 m + (1 - b1) g, v' = b2 v + (1 - b2) g^2, -lr m^ / (sqrt(v^) + eps)."""
    one = before.settings
    (b1, b2), lr, eps = one.get("betas", (0.9, 0.999)), float(one["lr"]), float(one.get("eps", 1e-8))
    decay, p, slope = float(one.get("weight_decay", 0.0)), before.value, before.gradient
    m, v = (np.asarray(_number(before.state.get(name, np.zeros_like(p))), np.float64) for name in ("exp_avg", "exp_avg_sq"))
    t = float(np.asarray(_number(before.state.get("step", 0))).reshape(-1)[0]) + 1
    for where, root, corrected, order in itertools.product(DECAY, ROOT, BIAS, ORDER):
        g = slope + decay * p if where == "inside" else slope
        m1, v1 = (b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g) if order == "new" else (m, v)
        c1, c2 = (1 - b1**t, 1 - b2**t) if corrected else (1.0, 1.0)
        size = np.sqrt(v1 / c2 + eps) if root == "inside" else np.sqrt(v1 / c2) + eps
        yield (
            {"decay": where, "root": root, "bias": corrected, "order": order},
            -lr * (m1 / c1 / size + (decay * p if where == "outside" else 0)),
        )


def named(before: Before, theirs: np.ndarray, ours: np.ndarray) -> Cause | None:
    """The variants that both steps are, and in what they differ. None where torch's or the port's step is none of them."""
    found = list(variants(before))
    at_theirs = [kind for kind, step in found if _same(step, theirs)]
    at_ours = [kind for kind, step in found if _same(step, ours)]
    if at_theirs and at_ours:
        pairs = [(a, b) for a in at_theirs for b in at_ours]
        a, b = min(pairs, key=lambda pair: sum(pair[0][name] != pair[1][name] for name in pair[0]))
        words = {"decay": DECAY, "root": ROOT, "bias": BIAS, "order": ORDER}
        differ = [name for name in a if a[name] != b[name]]
        mine = " and ".join(words[name][b[name]] or f"unlike torch, {words[name][a[name]]} is not so" for name in differ)
        other = " and ".join(words[name][a[name]] or "as Adam has it" for name in differ)
        return Cause(f"{mine} in the port; torch has {other}", "Make the transformation with torch's variant") if differ else None
    large = np.abs(theirs) > 1e-3 * np.max(np.abs(theirs), initial=0)
    ratios = ours[large] / theirs[large] if large.any() else np.zeros(0)
    if ratios.size and np.ptp(ratios) <= 1e-5 * abs(float(np.median(ratios))):
        return Cause(
            f"another learning rate: {float(np.median(ratios)):.6g} times torch's", "Check the rate, and where the schedule begins"
        )
    return None


def of_steps(sides: Sides, targets: Arrays) -> Cause | None:
    """The cause at the flat parameters whose first step differs most; what is known where the first steps agree."""
    start, theirs = sides.torch_steps(targets, 0, 1)
    ours = sides.steps(targets, 1)
    zero = {name: np.zeros_like(value) for name, value in targets.items()}
    _, slopes, _ = sides.pull(sides.variables, zero, targets, 1.0)
    told = dict(_told(sides))
    gaps = {key: float(np.max(np.abs(ours[key] - theirs[key]), initial=0)) for key in start if key in told and key not in sides.curved}
    wrong = [key for key in gaps if not _same(theirs[key] - start[key], ours[key] - start[key])]
    if not wrong:
        return Cause(
            "the order of updates after the first step, which agrees: momentum, the count of steps, transport or schedule",
            "Compare the states of both optimizers after one step",
        )
    for key in sorted(wrong, key=lambda key: -gaps[key]):
        settings, state = told[key]
        cause = named(Before(start[key], slopes[key], settings, state), theirs[key] - start[key], ours[key] - start[key])
        if cause is not None:
            return cause
    return None


def _told(sides: Sides) -> Iterator[tuple[str, tuple[Mapping[str, Any], Mapping[str, Any]]]]:
    """What the file's optimizers have for each key."""
    for plan, raw in zip(sides.reading.plans, sides.original.optimizers):
        for group in raw["param_groups"]:
            for index in group["params"]:
                yield plan.keys[index], (group, raw["state"].get(index, {}))


def _number(value: Any) -> Any:
    return value.array() if isinstance(value, Tensor) else value


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    top = float(np.max(np.abs(b), initial=0)) or 1.0
    return bool(np.max(np.abs(a - b), initial=0) <= NEAR * top)


__all__ = ["Before", "named", "of_steps", "variants"]
