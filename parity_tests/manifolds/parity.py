"""geoopt as witness: value, vector-Jacobian and Hessian-vector product of operations, curvature included, against port_jax.

Arrays have a leading axis of groups: one curvature and one radius each. JAX computes all groups of all operations in one compiled
function, mapped over groups with vmap; torch computes them one by one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from parity_tests import draws, tolerances
from parity_tests.oracle.derivatives import derivatives

Arrays = Mapping[str, np.ndarray]
ORDERS = ("value", "gradient", "second derivative")
QUANTILES = (0.5, 0.99)
CONDITION = 4
"""Roundings of an operation's intermediate results count as one ulp of its arguments each; what follows one another adds up to a few."""
DIRECTIONS = 4
"""In which a matrix is moved."""


@dataclass(frozen=True)
class Operation:
    """`torch_fn(*args)` and `jax_fn(*args)` of the arrays called `names`; the curvature is the one called "k".

    A function that is given on a submanifold only has no meaning across it: `tangent` keeps the part of a gradient that has.
    """

    torch_fn: Callable[..., Any]
    jax_fn: Callable[..., Any]
    names: tuple[str, ...]
    orders: int = 1
    """0: value only, 1: with gradients, 2: with second derivatives."""
    tangent: Mapping[str, Callable[[np.ndarray], np.ndarray]] = field(default_factory=dict)
    floor: float = 0.0
    """A relative error that the reference has of its own, by an epsilon that it adds; say which where it is set."""
    exact: Callable[..., list] | None = None
    """`exact(k, *rows)` for one point in mpmath: the judge instead of geoopt, where geoopt is beyond the gates itself."""
    judge: Callable[..., list] | None = None
    """The same, asked only where both differ beyond the gate: port_jax then has to be within the gate of it."""
    backward: int = 0
    """Ulp of the argument's norm that the algorithm may move it by: n for eigenvalues and eigenvectors of an n x n matrix (LAPACK
    Users' Guide, section 4.7). Of a few matrices, one side's largest error may be many times the other's by chance."""


def compare(operations: Mapping[str, Operation], arrays: Arrays, rtol: float, f32: bool = True) -> None:
    """Operations on one group, each within `rtol` of the largest entry of the reference in float64; in float32 values no worse than it.

    One group of a few points has too few errors for the gradients' to be compared in float32.
    """
    groups = {name: a[None] for name, a in arrays.items()}
    wrong = compare64(operations, groups, lambda order, group: rtol)
    assert not wrong, "\n".join(wrong)
    values = {name: replace(op, orders=0) for name, op in operations.items()}
    wrong = compare32(values, groups) if f32 else []
    assert not wrong, "\n".join(wrong)


def by_radius(groups: Arrays) -> Callable[[int, int], float]:
    """The gates of `tolerances` at each group's radius."""
    return lambda order, group: tolerances.gate(groups["radius"][group], order)


def compare64(operations: Mapping[str, Operation], groups: Arrays, gate: Callable[[int, int], float]) -> list[str]:
    """What lies beyond `gate(order, group)`, as lines of text.

    With `op.exact` the closed form is the reference, and geoopt's error bounds port_jax's as well: twice it, and four ulp. At k = 0
    geoopt's series has no right derivative in k, so that none is compared there (test_limits.py does, with the closed forms).
    """
    found = []
    theirs = {name: _torch_groups(op, groups, np.float64) for name, op in operations.items()}
    have = _jax_groups(operations, theirs)
    for name, op in operations.items():
        for g, (reference, args, cotangents, noise) in enumerate(zip(*theirs[name])):
            want = reference if op.exact is None else derivatives(op.exact, *_exact_arguments(args, cotangents, noise))
            for order in range(op.orders + 1):
                for i, (exact, their) in enumerate(zip(want[order], reference[order], strict=True)):
                    mine, label = _leaf(have[name][order], i, g), ""
                    if order:
                        label = f" by {op.names[i]}"
                        keep = op.tangent.get(op.names[i], lambda a: a)
                        mine, exact, their = keep(mine), keep(exact), keep(their)
                    curvature = order > 0 and op.names[i] == "k"
                    if curvature and args[i] == 0:
                        continue
                    scale = np.abs(exact).max()
                    if curvature:
                        # A sum over points: its terms, by homogeneity about x df/dx / k, are larger than it is.
                        terms = [np.abs(w).max() * np.abs(a).max() for w, a in zip(want[order][1:], args[1:])]
                        scale = max(scale, max(terms) / abs(args[i]))
                    if order == 2 and op.names[0] == "k" and args[0] == 0:
                        # In flat space second derivatives are 0, left by geoopt from terms of the gradient's size that cancel.
                        scale = max(scale, np.abs(want[1][i]).max())
                    bound = (gate(order, g) + op.floor) * max(scale, 1e-3)
                    if op.exact:
                        bound = min(bound, 2 * float(np.abs(their - exact).max()) + 4 * float(np.finfo(np.float64).eps) * scale)
                    error = np.abs(mine - exact).max() if mine.shape == exact.shape else np.inf
                    if not error <= bound and op.judge:
                        exact = derivatives(op.judge, *_exact_arguments(args, cotangents, noise))[order][i]
                        error = np.abs(mine - exact).max() if mine.shape == exact.shape else np.inf
                    if not error <= bound:
                        where = "".join(f" {n}={groups[n][g]}" for n in ("k", "radius") if n in groups)
                        found.append(f"{name}: {ORDERS[order]}[{i}]{label}{where}: {error:.1e} > {bound:.1e} at scale {scale:.1e}")
    return found


def compare32(operations: Mapping[str, Operation], groups: Arrays) -> list[str]:
    """Float32, value and gradient, against float64 of the same numbers: port_jax's error is not beyond twice geoopt's and four ulp.

    Groups of equal curvature and radius are draws of one case. Compared are the median and the 99th percentile of the errors of all its
    points. What has fewer than 100, or makes one result of all points, has one error a draw, its largest, and the median and the
    largest over draws are compared: in a sum over points errors cancel by chance, so that single draws differ by any factor (Lorentz
    expmap by k: quantiles of 60 draws are half of geoopt's, and single draws ten times). Ill-conditioned results lie apart too: what is
    beyond that bound may be off by `CONDITION` times what an ulp of each argument moves the result by. ulp are of the largest entry.
    """
    theirs = {name: _torch_groups(op, groups, np.float32) for name, op in operations.items()}
    have = _jax_groups({name: _first_order(op) for name, op in operations.items()}, theirs)
    cases: dict[tuple, list[tuple]] = {}
    points = {name: min(len(np.atleast_1d(v)) for v in theirs[name][0][0][0]) for name in operations}
    for name, op in operations.items():
        for g, (reference, args, cotangents, _) in enumerate(zip(*theirs[name])):
            truth = _torch(op, [_wide(a) for a in args], [_wide(c) for c in cotangents])
            case = tuple(float(groups[n][g]) for n in ("k", "radius") if n in groups)
            for order in range(min(op.orders, 1) + 1):
                for i, (their, exact) in enumerate(zip(reference[order], truth[order])):
                    mine = _leaf(have[name][order], i, g)
                    curvature = order > 0 and op.names[i] == "k"
                    assert mine.dtype == their.dtype, f"{name}: {ORDERS[order]}[{i}] has dtype {mine.dtype}"
                    if order and op.names[i] in op.tangent:
                        mine, their, exact = (op.tangent[op.names[i]](a) for a in (mine, their, exact))
                    if (curvature and args[i] == 0) or not np.isfinite(their).all():
                        continue
                    ulp = 4 * float(np.finfo(np.float32).eps)
                    room = ulp * float(np.abs(exact).max(initial=0))
                    if curvature:
                        # A sum over points that can cancel; its terms, by homogeneity, are of this size.
                        terms = [np.abs(w * a).sum() for w, a in zip(truth[1][1:], args[1:]) if w.shape == a.shape]
                        room += ulp * max(terms) / abs(float(args[i]))
                    errors = [np.atleast_1d(np.abs(a - exact)) for a in (mine, their)]
                    moved = functools.partial(_moved, op, args, cotangents, order, i, exact)
                    cases.setdefault((name, f"{ORDERS[order]}[{i}]", case), []).append((*(_rows(e) for e in errors), room, moved))
    found = []
    for (name, label, case), each in cases.items():
        op = operations[name]
        mine, their = (np.concatenate([draw[i] for draw in each]) for i in (0, 1))
        room = max(draw[2] for draw in each)
        if mine.size >= 100 and points[name] >= 20:
            moved = functools.cache(lambda each=each: np.concatenate([draw[3]() for draw in each]))
            statistics = {f"p{100 * q:g}": functools.partial(np.quantile, q=q) for q in QUANTILES}
        else:
            mine, their = (np.array([draw[i].max(initial=0) for draw in each]) for i in (0, 1))
            moved = functools.cache(lambda each=each: np.array([draw[3]().max(initial=0) for draw in each]))
            statistics = {"median": np.median, "largest": np.max}
        for what, of in statistics.items():
            error, other = of(mine), of(their)
            if error <= 2 * other + room:
                continue
            condition = of(moved())
            if not error <= 2 * other + room + (CONDITION + op.backward) * condition:
                beyond = f"{error:.1e}, geoopt {other:.1e}, 4 ulp {room:.1e}, condition {condition:.1e}"
                found.append(f"float32 {name}: {label}, {what} of {case}: {beyond}")
    return found


def _moved(op: Operation, args: list, cotangents: list, order: int, i: int, exact: np.ndarray) -> np.ndarray:
    """By how much each point's result moves, together, where one argument after the other is an ulp of float32 longer.

    With `backward`, where a matrix is moved by an ulp of its norm in the worst of a few directions, if that is more: a longer matrix has
    the same eigenvectors, and eigenvalues that are as near to 0 as before.
    """
    wide, rng = [_wide(a) for a in args], draws.rng(8)
    total = np.zeros(len(_rows(np.atleast_1d(exact))))
    for j, argument in enumerate(wide):
        worst = np.zeros_like(total)
        for other in _an_ulp_away(argument, op.tangent.get(op.names[j]), op.backward, rng):
            result = np.asarray(_torch(op, [other if n == j else a for n, a in enumerate(wide)], [_wide(c) for c in cotangents])[order][i])
            if order and op.names[i] in op.tangent:
                result = op.tangent[op.names[i]](result)
            worst = np.maximum(worst, _rows(np.atleast_1d(np.abs(result - exact))))
        total += worst
    return total


def _an_ulp_away(argument: np.ndarray, tangent: Callable[[np.ndarray], np.ndarray] | None, backward: int, rng: np.random.Generator) -> list:
    """The argument longer by an ulp of float32, and with `backward`, if it has matrices, moved as far in random directions."""
    eps, found = float(np.finfo(np.float32).eps), []
    if backward and argument.ndim > 1:
        for _ in range(DIRECTIONS):
            way = _like(rng, argument)
            way = way if tangent is None else tangent(way)
            size = [np.linalg.norm(a, axis=(-2, -1), keepdims=True) for a in (argument, way)]
            found.append(argument + eps * size[0] / size[1] * way)
    return [argument * (1 + eps), *found]


def _rows(errors: np.ndarray) -> np.ndarray:
    """The largest error of each point: the arrays' first axis counts points."""
    return errors.reshape(errors.shape[0], -1).max(1, initial=0)


def _torch_groups(op: Operation, groups: Arrays, dtype: type) -> tuple[list, list, list, list]:
    """Per group: [values, gradients, second derivatives], arguments, cotangents, directions; in float32 without second derivatives."""
    results, arguments, cotangents, directions = [], [], [], []
    op = op if dtype is np.float64 else _first_order(op)
    rng = draws.rng(7)
    for g in range(len(next(iter(groups.values())))):
        args = [_cast(groups[n][g], dtype) for n in op.names]
        noise = [_like(rng, a) for a in args]
        if op.names[0] == "k" and args[0] == 0:
            noise[0] = np.zeros_like(noise[0])
        with torch.no_grad():
            outputs = [o.numpy() for o in map(torch.Tensor.resolve_conj, _outputs(op.torch_fn(*map(torch.tensor, args))))]
        cotangent = [_like(rng, o) for o in outputs]
        results.append(_torch(op, args, cotangent, noise))
        arguments.append(args)
        cotangents.append(cotangent)
        directions.append(noise)
    return results, arguments, cotangents, directions


def _torch(op: Operation, args: Sequence, cotangents: Sequence, noise: Sequence | None = None) -> list[list[np.ndarray]]:
    inputs = [torch.tensor(a, requires_grad=op.orders > 0) for a in args]
    outputs = _outputs(op.torch_fn(*inputs))
    gradients, second = [], []
    if op.orders:
        twice = op.orders > 1 and noise is not None
        seeds = [torch.tensor(c) for c in cotangents]
        gradients = torch.autograd.grad(outputs, inputs, seeds, create_graph=twice, allow_unused=True)
        gradients = [torch.zeros_like(i) if g is None else g for g, i in zip(gradients, inputs)]
        if twice and noise is not None:
            total = torch.stack([(g * torch.tensor(n)).sum() for g, n in zip(gradients, noise)]).sum()
            second = torch.autograd.grad(total, inputs, allow_unused=True) if total.requires_grad else [None] * len(inputs)
            second = [torch.zeros_like(i) if s is None else s for s, i in zip(second, inputs)]
    return [[a.detach().resolve_conj().numpy() for a in part] for part in (outputs, gradients, second)]


def _jax_groups(operations: Mapping[str, Operation], theirs: Mapping[str, tuple]) -> dict[str, Any]:
    """The same from JAX for all operations, compiled once: mapped over many groups, traced in half the time as it is for one."""

    def one(op: Operation, args: Any, cotangents: Any, noise: Any) -> Any:
        def function(*a: Any) -> list:
            return _outputs(op.jax_fn(*a))

        if op.orders == 0:
            return function(*args), [], []
        # torch's gradient of a complex argument is the conjugate of JAX's, and its cotangent of a complex result too.
        pull = lambda *a: [jnp.conj(g) for g in jax.vjp(function, *a)[1]([jnp.conj(c) for c in cotangents])]  # noqa: E731
        if op.orders == 1:
            return function(*args), pull(*args), []
        return function(*args), *jax.jvp(pull, tuple(args), tuple(noise))

    def all_of(inputs: dict[str, Any]) -> dict[str, Any]:
        return {name: one(op, *inputs[name]) for name, op in operations.items()}

    if all(len(t[0]) == 1 for t in theirs.values()):
        found = jax.jit(all_of)({name: tuple(theirs[name][i][0] for i in (1, 2, 3)) for name in operations})
        return jax.tree.map(lambda a: np.asarray(a)[None], found)
    stack = lambda lists: [np.stack(a) for a in zip(*lists)]  # noqa: E731
    return jax.jit(jax.vmap(all_of))({name: tuple(stack(theirs[name][i]) for i in (1, 2, 3)) for name in operations})


def _exact_arguments(args: list, cotangents: list, noise: list) -> tuple:
    return float(args[0]), args[1:], cotangents[0], float(noise[0]), noise[1:]


def _first_order(op: Operation) -> Operation:
    return replace(op, orders=min(op.orders, 1))


def _leaf(parts: Any, i: int, group: int) -> np.ndarray:
    return np.asarray(parts[i])[group]


def _outputs(result: Any) -> list:
    return list(result) if isinstance(result, tuple | list) else [result]


def _like(rng: np.random.Generator, array: np.ndarray) -> np.ndarray:
    draw = rng.standard_normal(array.shape)
    return np.asarray(draw + 1j * rng.standard_normal(array.shape) if np.iscomplexobj(array) else draw, array.dtype)


def _cast(array: np.ndarray, dtype: type) -> np.ndarray:
    return np.asarray(array, np.result_type(dtype, np.complex64) if np.iscomplexobj(array) else dtype)


def _wide(array: np.ndarray) -> np.ndarray:
    return _cast(array, np.float64)
