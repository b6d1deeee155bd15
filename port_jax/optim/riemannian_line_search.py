"""Line search on manifolds with conjugate directions, with the choices of geoopt's `RiemannianLineSearch`."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

from port_jax.manifolds.base import Manifold
from port_jax.optim import scalars, trees
from port_jax.optim.step_sizes import Line, StepSize, armijo, strong_wolfe
from port_jax.types import Manifolds, OptState, Params, Updates

__all__ = [
    "BETAS",
    "NAMES",
    "SEARCHES",
    "Conjugacy",
    "RiemannianLineSearchState",
    "fletcher_reeves",
    "polak_ribiere",
    "riemannian_line_search",
]

SEARCHES = {"armijo": armijo, "wolfe": strong_wolfe}
_OTHERWISE_ROUNDED = 64
"""Units of rounding by which two programs may compute one value differently."""
NAMES = {"constant": "steepest", "fletcher-reeves": "fr", "polak-ribiere": "pr"}


class RiemannianLineSearchState(NamedTuple):
    """State of `riemannian_line_search`; the trees have the structure of the parameters, or are None if the directions do not need them.

    count: searches made. step_size: what the last search found, 0 if found is False. trials: the number of evaluations of
    value_fn in it. moved: whether the parameters moved after it. old_value: the value at its start. grad: the Riemannian
    gradient there.
    transported_grad, transported_direction: gradient and direction of the last step taken, tangent at its end.
    """

    count: Int[Array, ""]
    step_size: Float[Array, ""]
    found: Bool[Array, ""]
    trials: Int[Array, ""]
    moved: Bool[Array, ""]
    old_value: Float[Array, ""]
    grad: PyTree[Array] | None
    transported_grad: PyTree[Array] | None
    transported_direction: PyTree[Array] | None


class Conjugacy(NamedTuple):
    """The input of a rule for beta: lists over the parameters that have a gradient, all tangent at the start of the search.

    Only old_grad, the gradient of the previous search, is not transported.
    """

    inner: Callable[[Sequence[Array], Sequence[Array]], Float[Array, ""]]
    grad: list[Array]
    old_grad: list[Array]
    transported_grad: list[Array]
    transported_direction: list[Array]


def fletcher_reeves(c: Conjugacy) -> Float[Array, ""]:
    """beta = <g, g> / <g_old, g_old>, both in the metric at the new point, as in geoopt."""
    return c.inner(c.grad, c.grad) / c.inner(c.old_grad, c.old_grad)


def polak_ribiere(c: Conjugacy) -> Float[Array, ""]:
    """beta = <g, g - T g_old> / <g_old, g_old>, in the metric at the new point, as in geoopt."""
    change = [g - t for g, t in zip(c.grad, c.transported_grad, strict=True)]
    return c.inner(c.grad, change) / c.inner(c.old_grad, c.old_grad)


BETAS: dict[str, Callable[[Conjugacy], Any] | None] = {"steepest": None, "fr": fletcher_reeves, "pr": polak_ribiere}


def riemannian_line_search(
    line_search_method: str | Callable[..., StepSize] = "armijo",
    line_search_params: Mapping[str, Any] | None = None,
    cg_method: str | Callable[[Conjugacy], Any] = "steepest",
    fallback_stepsize: float = 1.0,
    stabilize: int | None = None,
    *,
    manifolds: Manifolds,
    as_geoopt: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """A step along the retraction of a descent direction, with the length that a search finds; one length for all parameters.

    With points p, Riemannian gradients g and the direction d_old of the last step taken, T its transport along it:

        d = -g + beta T d_old                        d = -g if that does not descend
        phi(a) = value_fn(retr_p(a d))               phi'(a) = <grad value_fn, T_{a d} d> there
        p = retr_p(a d), a from `step_sizes.armijo` or `step_sizes.strong_wolfe`

    Use it like optax's line searches: `update(gradients, state, params, value=, grad=, value_fn=)`; further keywords are
    passed to value_fn by name. `value` is computed if it is not given. The directions are made from the gradients that
    arrive (another transformation may come before), and phi'(0) from `grad`, by default the same gradients. There are two
    more keywords, booleans that may be traced: with `force_step`, a search that finds nothing takes `fallback_stepsize`
    (otherwise the parameters do not move); with `no_step`, the state has the step size and the parameters do not move. The
    updates are new - old, as in `riemannian_adam`. There is no reverse-mode derivative, as the number of trials is not fixed.

    Arguments:
        line_search_method: "armijo", "wolfe", or a function (line: step_sizes.Line, **params) -> step_sizes.StepSize.
        line_search_params: c1 (1e-4), amax, and amin for armijo or c2 (0.9) for wolfe.
        cg_method: "steepest", "fr" (Fletcher-Reeves), "pr" (Polak-Ribiere), or a function Conjugacy -> beta. A beta that
            is not finite counts as 0.
        stabilize: after every `stabilize`-th search, points are projected and transported directions made tangent.
        manifolds: as in `riemannian_adam`.
        as_geoopt: for runs that geoopt has begun. After a search that moved nothing, wolfe begins at 0 and never finds anything again; it
            takes phi'(0) from the point and direction after a step of length 0, which `retr_transp`, `projx` and `proju` may have changed.
            `stabilize`, with which geoopt raises, leaves the transported directions as they are.

    A search from a value or slope that is not finite finds nothing and is not forced; trials that are not finite count as
    too long. After a search that moved nothing the next one begins at 1, where geoopt's wolfe begins at 0 and never finds
    anything again (unless `as_geoopt`). Gradients may be None: those parameters do not move.

    Errors: ValueError for an unknown method or parameter, numbers out of range, calls without params or value_fn, and
    those of a tree of manifolds in `riemannian_adam`.
    """
    search = _search(line_search_method, dict(line_search_params or {}))
    rule = NAMES.get(cg_method, cg_method) if isinstance(cg_method, str) else cg_method
    if not callable(rule) and rule not in BETAS:
        raise ValueError(f"cg_method is {cg_method!r}; known are {', '.join([*BETAS, *NAMES])}, or give a function")
    beta_of = rule if callable(rule) else BETAS[rule]
    keeps_grad = beta_of not in (None, fletcher_reeves)
    projects = line_search_method != "armijo"
    scalars.check_range("fallback_stepsize", fallback_stepsize, 0)
    if stabilize is not None:
        scalars.check_range("stabilize", stabilize, 1)

    def init(params: Params) -> OptState:
        trees.check_parameters(trees.match_manifolds(manifolds, params), params)
        zeros = jax.tree.map(lambda p: jnp.zeros_like(p, scalars.working_type(p.dtype)), params)
        nought, number = jnp.zeros([], jnp.int32), jnp.zeros([], _number_type(jax.tree.leaves(params)))
        conjugate = beta_of is not None
        return RiemannianLineSearchState(
            count=nought,
            step_size=number,
            found=jnp.array(False),
            trials=nought,
            moved=jnp.array(False),
            old_value=number,
            grad=zeros if conjugate else None,
            transported_grad=zeros if keeps_grad else None,
            transported_direction=zeros if conjugate else None,
        )

    def update(
        updates: Updates,
        state: Any,
        params: Params = None,
        *,
        value: Any = None,
        grad: Any = None,
        value_fn: Callable[..., Any] | None = None,
        force_step: bool | Bool[Array, ""] = False,
        no_step: bool | Bool[Array, ""] = False,
        **extra: Any,
    ) -> tuple[Updates, OptState]:
        if params is None or value_fn is None:
            raise ValueError("riemannian_line_search evaluates points: call update(gradients, state, params, value=, grad=, value_fn=)")
        leaves, structure = jax.tree.flatten(params)
        steering = trees.match_gradients(updates, params)
        true = steering if grad is None else trees.match_gradients(grad, params)
        live = [i for i, g in enumerate(steering) if g is not None]
        matched = trees.match_manifolds(manifolds, params)
        ms = [matched[i] for i in live]
        ps = [leaves[i].astype(scalars.working_type(leaves[i].dtype)) for i in live]
        number = _number_type(leaves)

        def objective(points: list[Array]) -> Float[Array, ""]:
            full = list(leaves)
            for i, p in zip(live, points, strict=True):
                full[i] = p.astype(leaves[i].dtype)
            return jnp.asarray(value_fn(structure.unflatten(full), **_named(value_fn, extra))).astype(number)

        def rgrads(grads: Sequence[Any]) -> list[Array]:
            return [m.egrad2rgrad(p, g.astype(p.dtype)) for m, p, g in zip(ms, ps, grads, strict=True)]

        def inner(u: Sequence[Array], v: Sequence[Array], at: Sequence[Array] = ps) -> Float[Array, ""]:
            return _inner(ms, at, u, v).astype(number)

        def kept(tree: Any, name: str) -> list[Array]:
            found = trees.match_state(tree, structure, name)
            return [found[i] for i in live]

        g = rgrads([steering[i] if true[i] is None else true[i] for i in live])
        d = [-u for u in (g if true is steering else rgrads([steering[i] for i in live]))]
        if beta_of is not None:
            carried = kept(state.transported_direction, "transported_direction")
            carried_grad = kept(state.transported_grad, "transported_grad") if keeps_grad else g
            beta = jnp.asarray(beta_of(Conjugacy(inner, g, kept(state.grad, "grad"), carried_grad, carried)))
            beta = jnp.where(jnp.isfinite(beta), beta, 0)
            d = [u + beta.astype(u.dtype) * t for u, t in zip(d, carried, strict=True)]
        # Not a descent direction: use steepest descent.
        descends = inner(g, d) < 0
        d = [jnp.where(descends, u, -r) for u, r in zip(d, g, strict=True)]

        def along(a: Float[Array, ""]) -> list[Array]:
            return [a.astype(jnp.finfo(u.dtype).dtype) * u for u in d]

        def value_at(a: Float[Array, ""]) -> Float[Array, ""]:
            points = [m.retr(p, u) for m, p, u in zip(ms, ps, along(a), strict=True)]
            return objective([m.projx(q) for m, q in zip(ms, points, strict=True)] if projects else points)

        def both_at(a: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
            ends = [m.retr_transp(p, u, v) for m, p, u, v in zip(ms, ps, along(a), d, strict=True)]
            points = [m.projx(q) for m, (q, _) in zip(ms, ends, strict=True)]
            carried = [m.proju(q, t) for m, q, (_, t) in zip(ms, points, ends, strict=True)]
            phi, grads = jax.value_and_grad(objective)(points)
            # complex gradients in the form that `update` takes
            there = [m.egrad2rgrad(q, jnp.conj(r)) for m, q, r in zip(ms, points, grads, strict=True)]
            return phi, inner(there, carried, points)

        start = objective(ps) if value is None else jnp.asarray(value).astype(number)
        slope = inner(g, d)
        old, known = state.old_value, state.moved
        if as_geoopt:
            # Where nothing has moved, the value is the old one, which another program may have rounded otherwise.
            same = ~known & (jnp.abs(start - old) <= _OTHERWISE_ROUNDED * jnp.finfo(number).eps * jnp.abs(start))
            old, known = jnp.where(same, start, old), known | (state.trials > 0)
        first = both_at(jnp.zeros_like(slope))[1] if as_geoopt and projects else slope
        result = search(Line(value_at, both_at, start, first, old, known))
        taken = jnp.where(result.found, result.step_size, fallback_stepsize).astype(number)
        moves = (result.found | (jnp.asarray(force_step) & jnp.isfinite(start) & jnp.isfinite(slope))) & ~jnp.asarray(no_step)

        steps = along(taken)
        ends = [m.retr(p, u) for m, p, u in zip(ms, ps, steps, strict=True)]
        ends = [m.projx(q) for m, q in zip(ms, ends, strict=True)] if projects else ends
        ends = [jnp.where(moves, q, p) for q, p in zip(ends, ps, strict=True)]

        def carry(tree: Any, tangents: list[Array]) -> Any:
            """The tangents transported along the step if it is taken, else the tree."""
            flat = jax.tree.leaves(tree)
            for i, m, p, u, v in zip(live, ms, ps, steps, tangents, strict=True):
                flat[i] = jnp.where(moves, m.transp_follow_retr(p, u, v), flat[i])
            return structure.unflatten(flat)

        count = state.count + 1
        grads_now = directions = directions_grad = None
        if beta_of is not None:
            flat = jax.tree.leaves(state.grad)
            for i, r in zip(live, g, strict=True):
                flat[i] = r
            grads_now, directions = structure.unflatten(flat), carry(state.transported_direction, d)
            directions_grad = carry(state.transported_grad, g) if keeps_grad else None
        if stabilize is not None:
            flat = trees.nothing(leaves) if directions is None else jax.tree.leaves(directions)
            tangents = [None for _ in live] if as_geoopt else [flat[i] for i in live]
            ends, tangents = trees.stabilized(count % stabilize == 0, ms, ends, tangents, [True for _ in live])
            if directions is not None and not as_geoopt:
                for i, t in zip(live, tangents, strict=True):
                    flat[i] = t
                directions = structure.unflatten(flat)
        change = [jnp.zeros_like(p) for p in leaves]
        for i, q, p in zip(live, ends, ps, strict=True):
            dtype = leaves[i].dtype
            change[i] = q - p if p.dtype == dtype else matched[i].narrowed(q, dtype) - leaves[i]
        return structure.unflatten(change), RiemannianLineSearchState(
            count=count,
            step_size=jnp.asarray(result.step_size).astype(number),
            found=result.found,
            trials=result.trials,
            moved=moves,
            old_value=start,
            grad=grads_now,
            transported_grad=directions_grad,
            transported_direction=directions,
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _search(method: str | Callable[..., StepSize], params: dict[str, Any]) -> Callable[[Line], StepSize]:
    """The search with its parameters, which are checked if the search is a known one."""
    if callable(method):
        return functools.partial(method, **params)
    if method not in SEARCHES:
        raise ValueError(f"line_search_method is {method!r}; known are {', '.join(SEARCHES)}, or give a function")
    known = [p for p in inspect.signature(SEARCHES[method]).parameters if p != "line"]
    if unknown := [p for p in params if p not in known]:
        raise ValueError(f"line_search_params has {', '.join(unknown)}; {method} takes {', '.join(known)}")
    c1 = params.get("c1", 1e-4)
    scalars.check_range("c1", c1, 0, 1)
    scalars.check_range("c2", params.get("c2", 0.9), c1, 1)
    for name in ("amin", "amax"):
        if params.get(name) is not None:
            scalars.check_range(name, params[name], 0)
    return functools.partial(SEARCHES[method], **params)


def _number_type(leaves: Sequence[Array]) -> Any:
    """The real type of values, slopes and step sizes: that of the widest parameter, float32 at least."""
    return jnp.finfo(jnp.result_type(jnp.float32, *(p.dtype for p in leaves))).dtype


def _inner(manifolds: Sequence[Manifold], points: Sequence[Array], u: Sequence[Array], v: Sequence[Array]) -> Float[Array, ""]:
    """<u, v> on the product of the manifolds."""
    parts = (jnp.sum(jnp.real(m.inner(p, a, b))) for m, p, a, b in zip(manifolds, points, u, v, strict=True))
    return functools.reduce(operator.add, parts)


def _named(function: Callable[..., Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """The further keywords that are parameters of the function."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return dict(extra)
    return {p.name: extra[p.name] for p in parameters if p.name in extra}
