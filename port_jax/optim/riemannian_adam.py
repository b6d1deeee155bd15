"""Riemannian Adam (Becigneul and Ganea, ICLR 2019), with the update order of geoopt's `RiemannianAdam`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike
from jaxtyping import Array, Int, PyTree

from port_jax.manifolds.base import Manifold
from port_jax.optim import scalars, trees
from port_jax.optim.scalars import Scalar, ScalarOrSchedule
from port_jax.types import Manifolds, OptState, Params, Updates

__all__ = ["Hyper", "Moments", "RiemannianAdamState", "adam_step", "riemannian_adam", "second_moment"]


class RiemannianAdamState(NamedTuple):
    """State of `riemannian_adam`; every field but `step` is a tree with the structure of the parameters.

    step: updates made, the argument of schedules. count: the number of gradients that each parameter has seen (int32).
    mu: first moments, tangent at the points. nu: second moments in the shape of the manifold's `component_inner`,
    one number per point (`[..., 1]`) for vectors, in float32 at least. nu_max: the largest `nu` so far with `amsgrad`, else None.
    """

    step: Int[Array, ""]
    count: PyTree[Int[Array, ""]]
    mu: PyTree[Array]
    nu: PyTree[Array]
    nu_max: PyTree[Array] | None


def riemannian_adam(
    learning_rate: ScalarOrSchedule = 1e-3,
    b1: Scalar = 0.9,
    b2: Scalar = 0.999,
    eps: Scalar = 1e-8,
    weight_decay: Scalar = 0.0,
    amsgrad: bool = False,
    stabilize: int | None = None,
    *,
    manifolds: Manifolds,
    order: Sequence[str] | None = None,
    raw_eps: bool = False,
) -> optax.GradientTransformation:
    """Adam on manifolds: moments in the tangent space, one second moment per point, the first moment transported.

    With the parameter p on the manifold M, its Euclidean gradient g, and t the number of gradients that p has seen:

        r = M.egrad2rgrad(p, g + weight_decay p)
        m = b1 m + (1 - b1) r
        v = b2 v + (1 - b2) M.component_inner(p, r)              v_hat of the largest v so far with amsgrad
        u = -learning_rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
        p, m = M.retr_transp(p, u, m)

    The updates are new - old: `optax.apply_updates` adds them and lands within one rounding of the coordinate (of p or
    the new point, the larger) of the new point. Transformations after it in an `optax.chain` act on differences of
    points and move them off the manifold; put transformations of gradients (clipping, accumulation) before it. docs/guide/optimizers.md
    says which transformations of optax may stand where.

    Arguments:
        learning_rate: a number, or a schedule of the number of updates before this one.
        weight_decay: L2, added to the Euclidean gradient.
        stabilize: when a parameter's count is a multiple of it, all points are projected (`projx`) and their first
            moments made tangent again (`proju`) after the step.
        manifolds: a tree of manifolds whose paths are those of the parameters or prefixes of them, with `Euclidean()` for
            flat parameters; or a callable from the parameters to such a tree, so that a curvature can itself be a parameter.
        order: the parameters' paths, keys joined by "/", in the order of the updates. Points updated after a curvature
            then move on the new manifold, as in geoopt. Without it all move on the manifolds before the step.
        raw_eps: eps is added to sqrt(v) before the bias correction, the root is (sqrt(v) + eps) / sqrt(1 - b2^t), as in
            geoopt until 0.3.1.

    Gradients of complex parameters (Siegel spaces) are df/dRe + i df/dIm, as in torch: the conjugate of what jax.grad returns.
    Gradients may be None: such a parameter and its state do not change (unless stabilised), and its update is zero. NaN and infinite
    gradients are passed on; `optax.apply_if_finite` skips them. Half-precision parameters move in float32, and stay inside a ball by
    a margin that the rounding of the update does not exceed; their first moments are of their own type, their second moments in float32.

    Errors: ValueError for a hyperparameter out of range, a parameter without a manifold, a manifold without a
    parameter, a shape that the manifold refuses, or a state of other parameters; TypeError for parameters that are
    not floating-point numbers.
    """
    scalars.check_range("learning_rate", learning_rate, 0)
    scalars.check_range("b1", b1, 0, 1)
    scalars.check_range("b2", b2, 0, 1)
    scalars.check_range("eps", eps, 0)
    scalars.check_range("weight_decay", weight_decay, 0)
    if stabilize is not None:
        scalars.check_range("stabilize", stabilize, 1)

    def init(params: Params) -> OptState:
        found = trees.match_manifolds(manifolds, params)
        trees.check_parameters(found, params)
        leaves, structure = jax.tree.flatten(params)
        nu = structure.unflatten([second_moment(M, p) for M, p in zip(found, leaves, strict=True)])
        return RiemannianAdamState(
            step=jnp.zeros([], jnp.int32),
            count=jax.tree.map(lambda p: jnp.zeros([], jnp.int32), params),
            mu=jax.tree.map(jnp.zeros_like, params),
            nu=nu,
            nu_max=jax.tree.map(jnp.zeros_like, nu) if amsgrad else None,
        )

    def update(updates: Updates, state: Any, params: Params = None) -> tuple[Updates, OptState]:
        if params is None:
            raise ValueError("riemannian_adam moves points: call update(gradients, state, params)")
        points, structure = jax.tree.flatten(params)
        gradients = trees.match_gradients(updates, params)
        count, mu, nu = (trees.match_state(getattr(state, name), structure, name) for name in ("count", "mu", "nu"))
        nu_max = trees.match_state(state.nu_max, structure, "nu_max") if amsgrad else trees.nothing(points)
        hyper = Hyper(scalars.at_step(learning_rate, state.step), b1, b2, eps, weight_decay)
        moved = list(points)
        change = [jnp.zeros_like(p) for p in points]
        for i, manifold in trees.in_turn(manifolds, order, params, moved):
            if (grad := gradients[i]) is not None:
                count[i] = count[i] + 1
                moments = Moments(mu[i], nu[i], nu_max[i])
                moved[i], change[i], moments = adam_step(manifold, moved[i], grad, moments, count[i], hyper, raw_eps=raw_eps)
                mu[i], nu[i], nu_max[i] = moments
        if stabilize is not None:
            found = trees.match_manifolds(manifolds, params if order is None else structure.unflatten(moved))
            due = [n % stabilize == 0 for n, g in zip(count, gradients, strict=True) if g is not None]
            moved, mu = trees.stabilized(jnp.any(jnp.array(due, bool)), found, moved, mu, [n > 0 for n in count])
            change = [new - old for new, old in zip(moved, points, strict=True)]
        return structure.unflatten(change), RiemannianAdamState(
            step=state.step + 1,
            count=structure.unflatten(count),
            mu=structure.unflatten(mu),
            nu=structure.unflatten(nu),
            nu_max=structure.unflatten(nu_max) if amsgrad else None,
        )

    return optax.GradientTransformation(init, update)


class Hyper(NamedTuple):
    """The numbers of one step."""

    learning_rate: Scalar
    b1: Scalar
    b2: Scalar
    eps: Scalar
    weight_decay: Scalar


class Moments(NamedTuple):
    """The moments of one parameter."""

    mu: Array
    nu: Array
    nu_max: Array | None


def adam_step(
    manifold: Manifold,
    point: Array,
    grad: Array,
    moments: Moments,
    count: Int[Array, ""],
    hyper: Hyper,
    keep_root: bool = False,
    raw_eps: bool = False,
) -> tuple[Array, Array, Moments]:
    """One step of one parameter: the new point, what was added to the old one to reach it, and the moments.

    `count` includes this step. `keep_root` stores the root of the corrected maximum as `nu_max`, as geoopt's sparse form does.
    `raw_eps`: as in `riemannian_adam`.
    """
    kept, dtype = point.dtype, scalars.working_type(point.dtype)
    point, grad, (m, v, v_max) = jax.tree.map(lambda x: x.astype(_like(x, dtype)), (point, grad, moments))
    rate, b1, b2, eps, decay = (scalars.cast(x, dtype) for x in hyper)
    # r = grad f(p) + decay p, as a Riemannian gradient, and m = b1 m + (1 - b1) r
    if isinstance(decay, jax.Array) or decay != 0:
        grad = grad + decay * point
    square, move = manifold.descend_along(point, grad, m, b1)
    # v = b2 v + (1 - b2) <r, r>_p
    v = b2 * v + (1 - b2) * square
    # AMSGrad takes the maximum before the bias correction
    largest = v if v_max is None else jnp.maximum(v_max, v)
    # u = -rate m_hat / (sqrt(v_hat) + eps)
    correction = scalars.bias_correction(b2, count, dtype)
    root = jnp.sqrt(largest / correction)
    if v_max is not None:
        v_max = root if keep_root else largest
    eps = eps / jnp.sqrt(correction) if raw_eps else eps
    moved, change, m = move(-rate / scalars.bias_correction(b1, count, dtype) / (root + eps))
    new = jax.tree.map(lambda new, old: new.astype(old.dtype), Moments(m, v, v_max), moments)
    if kept == dtype:
        return moved, change, new
    moved = manifold.narrowed(moved, kept)
    return moved, moved - point.astype(kept), new


def second_moment(manifold: Manifold, point: Array) -> Array:
    """Zeros in the shape of the manifold's `component_inner`, in float32 at least.

    In half precision (1 - b2) <r, r> underflows, or b2 v rounds to v: the steps become thirty times too long, or stay short for ever.
    It is complex for flat complex parameters, whose entries geoopt squares as they are.
    """
    like = jax.eval_shape(manifold.component_inner, point, point)
    return jnp.zeros_like(like, _like(like, scalars.working_type(point.dtype)))


def _like(x: Array, dtype: DTypeLike) -> Any:
    """`dtype`, or its real type for a real array beside complex points."""
    return dtype if jnp.issubdtype(x.dtype, jnp.complexfloating) else jnp.finfo(dtype).dtype
