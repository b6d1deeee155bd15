"""One operation against geoopt over groups of cases: value, vector-Jacobian and Hessian-vector product, curvature included.

A group is one curvature and one radius; JAX computes all groups in one compiled function, mapped over them with vmap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from parity_tests import tolerances
from parity_tests.oracle.derivatives import derivatives

Arrays = Sequence[np.ndarray]


@dataclass(frozen=True)
class Operation:
    """`torch_fn(k, *args)` and `jax_fn(k, *args)`; `kinds` names the case array of each argument."""

    torch_fn: Callable[..., torch.Tensor]
    jax_fn: Callable[..., jax.Array]
    kinds: tuple[str, ...]
    orders: int = 2
    """0: value only, 1: with gradients, 2: with second derivatives."""
    floor: float = 0.0
    """A relative error that the reference has of its own, by an epsilon that it adds; say which where it is set."""
    exact: Callable[..., list] | None = None
    """`exact(k, *rows)` for one point in mpmath: the judge instead of geoopt, where geoopt is beyond the gates itself."""


@dataclass(frozen=True)
class Groups:
    """Curvatures [G], radii [G] and per kind one array [G, ...]."""

    k: np.ndarray
    radius: np.ndarray
    arrays: dict[str, np.ndarray]

    def arguments(self, op: Operation) -> list[np.ndarray]:
        return [self.arrays[kind] for kind in op.kinds]


def compare64(op: Operation, groups: Groups, curvature_gradient: bool = True) -> list[str]:
    """What lies beyond the float64 gates, as lines of text.

    With `op.exact` the closed form is the reference, and geoopt's error bounds port_jax's as well: twice it, and four ulp.
    """
    arguments = groups.arguments(op)
    rng = np.random.default_rng(7)
    want, theirs, extra = [], [], []
    for g, k in enumerate(groups.k):
        args = [a[g] for a in arguments]
        noise = [rng.standard_normal(a.shape) for a in args]
        dk = np.asarray(rng.standard_normal() if curvature_gradient else 0.0)
        *reference, cotangent = torch_derivatives(op, k, args, dk, noise, rng)
        theirs.append(reference)
        want.append(reference if op.exact is None else derivatives(op.exact, k, args, cotangent, dk, noise))
        extra.append((cotangent, dk, noise))
    stack = lambda items: jax.tree.map(lambda *a: np.stack(a), *items)  # noqa: E731
    cotangent, dk, noise = stack(extra)
    have = jax_derivatives(op)(groups.k, arguments, cotangent, dk, noise)
    found = []
    for order, label in enumerate(["value", "gradient", "second derivative"][: op.orders + 1]):
        for g in range(len(groups.k)):
            parts = zip(leaves(have[order], g), want[g][order], theirs[g][order], strict=True)
            for i, (mine, exact, their) in enumerate(parts):
                if order and i == 0 and not curvature_gradient:
                    continue
                scale = np.abs(exact).max()
                if order and i == 0:
                    # A sum over points: its terms, by homogeneity about x df/dx / k, are larger than it is.
                    terms = [np.abs(w).max() * np.abs(a[g]).max() for w, a in zip(want[g][order][1:], arguments)]
                    scale = max(scale, max(terms) / abs(groups.k[g] or 1))
                bound = (tolerances.gate(groups.radius[g], order) + op.floor) * max(scale, 1e-3)
                if op.exact:
                    ulp = float(np.finfo(np.float64).eps) * scale
                    bound = min(bound, 2 * float(np.abs(their - exact).max()) + 4 * ulp)
                error = np.abs(mine - exact).max() if mine.shape == exact.shape else np.inf
                if not error <= bound:
                    found.append(f"{label}[{i}] k={groups.k[g]} r={groups.radius[g]}: {error:.1e} > {bound:.1e}")
    return found


def leaves(tree: Any, group: int) -> list[np.ndarray]:
    """The arrays of one group."""
    return [np.asarray(a)[group] for a in jax.tree.leaves(tree)]


def torch_derivatives(op: Operation, k: float, args: Arrays, dk: np.ndarray, noise: Arrays, rng: np.random.Generator):
    """([value], gradients, second derivatives, the random cotangent); gradients start with the curvature's."""
    inputs = [torch.tensor(a, requires_grad=op.orders > 0) for a in (np.asarray(k, args[0].dtype), *args)]
    out = op.torch_fn(*inputs)
    cotangent = rng.standard_normal(tuple(out.shape)).astype(args[0].dtype)
    if op.orders == 0:
        return [out.numpy()], [], [], cotangent
    gradients = torch.autograd.grad(out, inputs, torch.tensor(cotangent), create_graph=op.orders > 1, allow_unused=True)
    gradients = [torch.zeros_like(i) if g is None else g for g, i in zip(gradients, inputs)]
    second = []
    if op.orders > 1:
        total = torch.stack([(g * torch.tensor(n)).sum() for g, n in zip(gradients, [dk, *noise])]).sum()
        second = torch.autograd.grad(total, inputs, allow_unused=True) if total.requires_grad else [None] * len(inputs)
        second = [np.zeros(i.shape) if s is None else s.numpy() for s, i in zip(second, inputs)]
    return [out.detach().numpy()], [g.detach().numpy() for g in gradients], second, cotangent


def jax_derivatives(op: Operation) -> Callable[..., Any]:
    """The same from JAX, compiled, mapped over groups."""

    def one(k: Any, args: Any, cotangent: Any, dk: Any, noise: Any) -> Any:
        primals = (k, *args)
        if op.orders == 0:
            return op.jax_fn(*primals), (), ()
        gradient = lambda *a: jax.vjp(op.jax_fn, *a)[1](cotangent)  # noqa: E731
        value = op.jax_fn(*primals)
        if op.orders == 1:
            return value, gradient(*primals), ()
        first, second = jax.jvp(gradient, primals, (dk, *noise))
        return value, first, second

    return jax.jit(jax.vmap(one))


def compare32(op: Operation, groups: Groups) -> list[str]:
    """Float32, value and gradient: the largest error is not beyond twice geoopt's own and four ulp of the largest entry.

    Groups of equal curvature and radius are draws of one case, and error and bound are medians over them: the largest of a draw is
    that of its one or two points of worst condition, where two roundings of the same number lie apart by any factor.
    """
    single = {kind: a.astype(np.float32) for kind, a in groups.arrays.items()}
    low = Groups(groups.k.astype(np.float32), groups.radius, single)
    op = Operation(op.torch_fn, op.jax_fn, op.kinds, min(op.orders, 1))
    theirs, truth = [], []
    for g, k in enumerate(low.k):
        args = [a[g] for a in low.arguments(op)]
        rng = np.random.default_rng(g)
        theirs.append(torch_derivatives(op, k, args, np.zeros(()), [], rng))
        rng = np.random.default_rng(g)
        truth.append(torch_derivatives(op, float(k), [a.astype(np.float64) for a in args], np.zeros(()), [], rng))
    cotangent = np.stack([t[3] for t in theirs])
    have = jax_derivatives(op)(jnp.asarray(low.k), low.arguments(op), cotangent, low.k, low.arguments(op))
    draws: dict[tuple, list[tuple[float, float]]] = {}
    for order, label in enumerate(["value", "gradient"][: op.orders + 1]):
        for g, (k, radius) in enumerate(zip(low.k, low.radius)):
            for i, (mine, their, exact) in enumerate(zip(leaves(have[order], g), theirs[g][order], truth[g][order])):
                assert mine.dtype == np.float32, f"{label}[{i}] has dtype {mine.dtype}"
                bound = tolerances.no_worse_bound(their, exact) if np.isfinite(their).all() else np.inf
                if order and i == 0:
                    # The curvature's is a sum over points that can cancel; its terms, by homogeneity, are of this size.
                    arguments = [a[g] for a in low.arguments(op)]
                    terms = [np.abs(w * a).sum() for w, a in zip(truth[g][1][1:], arguments) if w.shape == a.shape]
                    bound += 4 * float(np.finfo(np.float32).eps) * max(terms) / abs(float(k))
                error = np.abs(mine - exact).max() if np.isfinite(mine).all() else np.inf
                draws.setdefault((f"{label}[{i}]", float(k), float(radius)), []).append((error, bound))
    found = []
    for (label, k, radius), pairs in draws.items():
        error, bound = np.median(pairs, axis=0)
        worst, ceiling = np.max(pairs, axis=0)
        # The ratio of two normal errors of one size is beyond 16, twice and eight times, in 4 of 100 cases; over all draws, hardly.
        if not (error <= bound and worst <= 8 * ceiling):
            found.append(
                f"float32 {label} k={k} r={radius}: {error:.1e} > {bound:.1e}, medians of {len(pairs)}; {worst:.1e}"
            )
    return found
