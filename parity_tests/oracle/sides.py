"""What geoopt and port_jax answer at the cases of an operation: values, and vector-Jacobian products in every argument and in k."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import torch
from geoopt.manifolds.lorentz import math as lmath

from parity_tests.oracle.formulas import Formula
from port_jax.manifolds import Euclidean, Lorentz, PoincareBall, Sphere, Stereographic, lorentz_to_poincare, poincare_to_lorentz, trig

Arrays = Sequence[np.ndarray]
Answer = tuple[np.ndarray, dict[str, np.ndarray]]
"""Values [n, m], and the gradient by argument [n, ...]."""


def port_jax(space: str, name: str, formula: Formula, k: np.ndarray, arrays: Arrays, cotangents: np.ndarray) -> Answer:
    """port_jax's answer, compiled; k has a trailing axis of length 1."""

    def call(k: jax.Array, *arguments: jax.Array) -> jax.Array:
        return _call(_JAX[space](k), jnp, space, name, formula, k, arguments)

    def both(k: jax.Array, c: jax.Array, *arguments: jax.Array) -> Any:
        value, pullback = jax.vjp(call, k, *arguments)
        return value, pullback(c[..., : value.shape[-1]])

    value, (dk, *gradients) = jax.jit(both)(k, cotangents, *arrays)
    return np.asarray(value), _by_name(formula, dk, gradients)


def geoopt_(space: str, name: str, formula: Formula, k: np.ndarray, arrays: Arrays, cotangents: np.ndarray) -> Answer:
    """geoopt's answer. Signs of k are not mixed: geoopt then takes other branches."""
    parts = [np.sign(k).ravel() == s for s in (-1, 0, 1)]
    out: Any = None
    for at in parts:
        if not at.any():
            continue
        inputs = [torch.tensor(a[at], requires_grad=True) for a in (k, *arrays)]
        value = _call(_GEOOPT[space](inputs[0]), torch, space, name, formula, inputs[0], inputs[1:])
        c = torch.tensor(cotangents[at][:, : value.shape[-1]])
        gradients = torch.autograd.grad(value, inputs, c, allow_unused=True) if value.requires_grad else [None] * len(inputs)
        gradients = [torch.zeros_like(i) if g is None else g for g, i in zip(gradients, inputs)]
        found = [a.detach().numpy() for a in (value, *gradients)]
        out = out or [np.full((len(k), *f.shape[1:]), np.nan, f.dtype) for f in found]
        for whole, part in zip(out, found):
            whole[at] = part
    return out[0], _by_name(formula, out[1], out[2:])


def _by_name(formula: Formula, dk: Any, gradients: Sequence[Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(g) for name, g in zip((*formula.kinds, "k"), (*gradients, dk))}


def _call(manifold: Any, xp: Any, space: str, name: str, formula: Formula, k: Any, arguments: Sequence[Any]) -> Any:
    if space == "lorentz":
        out = _hyperboloid(manifold, xp, name, formula, k, arguments)
        return out[..., 1:] if formula.space_part else out
    if space == "unit_sphere":
        return _unit_sphere(manifold, name, formula, arguments)
    if name == "inner" and space == "euclidean" and xp is torch:
        arguments = [a.contiguous() for a in arguments]
    return getattr(manifold, name)(*arguments, **formula.options)


def _hyperboloid(manifold: Any, xp: Any, name: str, formula: Formula, k: Any, arguments: Sequence[Any]) -> Any:
    """Points and tangents are given by their space parts, so that every argument is exact; each side finds their time coordinates."""
    join = (lambda t, a: jnp.concatenate([t, a], -1)) if xp is jnp else (lambda t, a: torch.cat([t, a], -1))
    if name == "poincare_to_lorentz":
        return manifold.poincare_to_lorentz(arguments[0], k)
    over = trig.over if xp is jnp else torch.div  # the derivative of JAX's division squares the divisor, which overflows
    x: Any = None
    lifted = []
    for kind, a in zip(formula.kinds, arguments):
        if kind in ("x", "y"):
            lifted.append(manifold.projx(join(0 * a[..., :1], a)))
            x = lifted[-1] if kind == "x" else x
        elif kind == "u0":
            lifted.append(join(0 * a[..., :1], a))
        elif kind in ("u", "u2", "e"):
            lifted.append(join((over(x[..., 1:], x[..., :1]) * a).sum(-1, keepdims=True), a))
        else:
            lifted.append(a)
    if name == "lorentz_to_poincare":
        return manifold.lorentz_to_poincare(x, k)
    return getattr(manifold, name)(*lifted, **formula.options)


def _unit_sphere(manifold: Any, name: str, formula: Formula, arguments: Sequence[Any]) -> Any:
    """Points are normalised and tangents made tangent by each side, as rounded ones are neither."""
    if name in ("projx", "proju", "egrad2rgrad"):
        x, *rest = arguments
        return manifold.projx(x) if not rest else getattr(manifold, name)(manifold.projx(x), *rest)
    x, lifted = None, []
    for kind, a in zip(formula.kinds, arguments):
        lifted.append(manifold.projx(a) if kind in ("x", "y") else manifold.proju(x, a))
        x = lifted[0]
    return getattr(manifold, name)(*lifted, **formula.options)


class _JaxLorentz(Lorentz):
    """With geoopt's two maps to the unit ball as methods."""

    lorentz_to_poincare = staticmethod(lorentz_to_poincare)
    poincare_to_lorentz = staticmethod(poincare_to_lorentz)


def _geoopt_lorentz(k: torch.Tensor) -> Any:
    """geoopt's methods by its functions: with a curvature a point its projx makes a table of all pairs."""

    def projx(x: torch.Tensor) -> torch.Tensor:
        space = x[..., 1:]
        return torch.cat([torch.sqrt(k + torch.norm(space, p=2, dim=-1, keepdim=True) ** 2), space], -1)

    proju = lambda x, v: lmath.project_u(x, v, k=k)  # noqa: E731
    return SimpleNamespace(
        projx=projx,
        proju=proju,
        inner=lambda x, u, v, keepdim: lmath.inner(u, v, keepdim=keepdim),
        norm=lambda x, u, keepdim: lmath.norm(u, keepdim=keepdim),
        egrad2rgrad=lambda x, a: lmath.egrad2rgrad(x, a.clone(), k=k),
        dist=lambda x, y, keepdim: lmath.dist(x, y, k=k, keepdim=keepdim),
        dist2=lambda x, y, keepdim: lmath.dist(x, y, k=k, keepdim=keepdim) ** 2,
        dist0=lambda x, keepdim: lmath.dist0(x, k=k, keepdim=keepdim),
        expmap=lambda x, u: projx(lmath.expmap(x, proju(x, u), k=k)),
        expmap0=lambda u: projx(lmath.expmap0(u, k=k)),
        geodesic_unit=lambda t, x, u: projx(lmath.geodesic_unit(t, x, u, k=k)),
        logmap=lambda x, y: lmath.logmap(x, y, k=k),
        logmap0=lambda y: lmath.logmap0(y, k=k),
        logmap0back=lambda x: lmath.logmap0back(x, k=k),
        transp=lambda x, y, v: lmath.parallel_transport(x, y, v, k=k),
        transp0=lambda y, v: lmath.parallel_transport0(y, v, k=k),
        transp0back=lambda x, v: lmath.parallel_transport0back(x, v, k=k),
        lorentz_to_poincare=lmath.lorentz_to_poincare,
        poincare_to_lorentz=lmath.poincare_to_lorentz,
    )


def _geoopt_stereographic(k: torch.Tensor) -> Any:
    manifold = geoopt.Stereographic(k.detach().clone())
    del manifold._parameters["k"]
    object.__setattr__(manifold, "k", k)
    return manifold


_JAX: dict[str, Callable[..., Any]] = {
    "ball": lambda k: PoincareBall(-k),
    "flat": Stereographic,
    "sphere": Stereographic,
    "lorentz": _JaxLorentz,
    "unit_sphere": lambda k: Sphere(),
    "euclidean": lambda k: Euclidean(1),
}
_GEOOPT: dict[str, Callable[..., Any]] = {
    "ball": _geoopt_stereographic,
    "flat": _geoopt_stereographic,
    "sphere": _geoopt_stereographic,
    "lorentz": _geoopt_lorentz,
    "unit_sphere": lambda k: geoopt.Sphere(),
    "euclidean": lambda k: geoopt.Euclidean(1),
}
