"""TiDHy's inference: latents found by gradient descent inside of the forward pass. Pure functions of a model's two maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from port_jax.manifolds import Euclidean
from port_jax.models.tidhy_losses import l1, sparse, spatial, squares
from port_jax.models.tidhy_weights import Balance, balanced, begun, fresh, start
from port_jax.optim.riemannian_adamw import riemannian_adamw
from port_jax.optim.schedules import multi_step_lr

__all__ = ["Inference", "Inferred", "Nets", "Prediction", "infer", "infer_first", "infer_sequence", "milestones"]

TINY = 1e-16
"""Added to the length of the old latents, so that a start at 0 is never converged."""
ZERO = 1e-6
"""What `grad_norm_inf` puts in the place of losses that are 0 in the first iteration of a time step."""
TASKS = ((True, True), (True, False), (False, True))
"""Which of the latents (r, r2) each of the three losses of `grad_norm_inf` is differentiated by."""


class Prediction(NamedTuple):
    """r: [*batch, r_dim], what the dynamics say of the next latents. V: [*batch, r_dim, r_dim], the dynamics. w: [*batch, mix_dim], the
    shares of the mixture in them."""

    r: Float[Array, "*batch r"]
    V: Float[Array, "*batch r r"]
    w: Float[Array, "*batch mix"]


class Nets(NamedTuple):
    """A model's maps at fixed parameters. decode: r -> x. predict: (r, r2) -> `Prediction`. foretell: (r, r2) -> the next r2, or None."""

    decode: Callable[[Array], Array]
    predict: Callable[[Array, Array], Prediction]
    foretell: Callable[[Array, Array], Array] | None = None


class Inferred(NamedTuple):
    """The latents of one time step, and how many iterations they took."""

    r: Float[Array, "batch r"]
    r2: Float[Array, "batch r2"]
    iterations: Int[Array, ""]


@dataclass(frozen=True)
class Inference:
    """How latents are inferred; the names are those of the original's configuration, and so are the defaults.

    max_iter, tol: an inference ends when no latent moves by more than the part `tol` of its length, or after `max_iter` iterations; with
    tol 0 it always makes `max_iter`, and can then be differentiated. batch_converge: whether r and r2 of the whole batch are measured
    together, or each row has to have converged. lr_r, lr_r2: rates of SGD with Nesterov momentum 0.9. temp_weight: that of the temporal
    loss. L1_inf_r, L1_inf_r2, L1_inf_w: those of the sums of absolute values, which are not divided by the batch. lmda_r, lmda_r2: the
    thresholds of soft thresholding after each iteration; 0 for none. grad_norm_inf, grad_alpha_inf, lr_weights_inf: whether GradNorm
    balances the three losses inside of the inference, its exponent, and the rate of its weights.
    """

    max_iter: int = 2000
    tol: float = 0.01
    batch_converge: bool = True
    lr_r: float = 0.2
    lr_r2: float = 0.2
    temp_weight: float = 2.0
    loss_type: str = "MSE"
    L1_inf_r: float = 0.0
    L1_inf_r2: float = 0.0
    L1_inf_w: float = 0.0
    lmda_r: float = 0.0
    lmda_r2: float = 0.0
    grad_norm_inf: bool = False
    grad_alpha_inf: float = 1.0
    lr_weights_inf: float = 0.005


class _Carry(NamedTuple):
    count: Int[Array, ""]
    done: Bool[Array, ""]
    latents: tuple[Array, Array]
    momenta: Any
    balance: Balance


def milestones(length: int, parts: int) -> list[int]:
    """The counts from which a rate is halved: the multiples of length/parts below `length`, as whole numbers."""
    every = length // parts
    return list(range(every, length, every)) if every else []


def infer(nets: Nets, x: Float[Array, "batch input"], r_p: Float[Array, "batch r"], r2: Float[Array, "batch r2"], how: Inference,
          rows: int | None = None) -> Inferred:  # fmt: skip
    """One time step: argmin over r, r2 of spatial(decode(r), x) + temp_weight |r - predict(r_p, r2)|^2 + L1 terms, by descent from
    r = 0 and the given r2.

    The rate of r is halved at every tenth of `max_iter`, that of r2 never, as in the original. rows: how many rows the losses are divided
    by, where x has only some of them (one sequence under `jax.vmap`): rates act on the mean over the batch. With `grad_norm_inf` the
    descent direction is that of sum w_i L_i plus the derivative of GradNorm's own loss, which has second derivatives of the maps; the
    weights get a fresh AdamW (decay 0.01) in each iteration and begin at 1 in each time step. Its losses have neither temp_weight nor
    L1 terms nor that of the R2 decoder, which without it adds |r2 - stop(foretell(r, r2))|^2 by the latents of the iteration.

    Errors: ValueError for `grad_norm_inf` with `rows`, as its norms are those of the whole batch.
    """
    if how.grad_norm_inf and rows is not None:
        raise ValueError("grad_norm_inf balances a whole batch: infer its sequences together, without rows= and without vmap over them")
    slow = multi_step_lr(how.lr_r, milestones(how.max_iter, 10), 0.5)
    movers = tuple(optax.sgd(rate, momentum=0.9, nesterov=True) for rate in (slow, how.lr_r2))
    slopes = partial(_balanced_slopes if how.grad_norm_inf else _slopes, nets, x, r_p, how, rows or len(x))
    r = jnp.zeros_like(r_p)

    def step(now: _Carry) -> _Carry:
        found, balance = slopes(now.latents, now.balance)
        updates, momenta = zip(*(mover.update(g, m) for mover, g, m in zip(movers, found, now.momenta, strict=True)))
        moved = (old + u for old, u in zip(now.latents, updates, strict=True))
        new = tuple(sparse(latent, lmda) for latent, lmda in zip(moved, (how.lmda_r, how.lmda_r2), strict=True))
        done = jnp.array([_converged(a, b, how.tol, how.batch_converge) for a, b in zip(new, now.latents, strict=True)]).all()
        return _Carry(now.count + 1, done, (new[0], new[1]), momenta, balance)

    momenta = tuple(mover.init(latent) for mover, latent in zip(movers, (r, r2), strict=True))
    end = _repeated(step, _Carry(jnp.zeros((), jnp.int32), jnp.zeros((), bool), (r, r2), momenta, start(r.dtype)), how)
    return Inferred(*end.latents, end.count)


def infer_first(
    nets: Nets, x: Float[Array, "batch input"], r: Float[Array, "batch r"], how: Inference, rows: int | None = None
) -> Inferred:
    """The latents of the first time step, which nothing predicts: argmin of spatial(decode(r), x) by AdamW (decay 0.01) from r = 0.

    Every row has to converge, whatever `batch_converge` says, as in the original. r: an array of the latents' shape and type.
    """
    mover = riemannian_adamw(how.lr_r, weight_decay=0.01, manifolds=Euclidean())
    r, count = jnp.zeros_like(r), rows or len(x)
    slope = jax.grad(lambda r: spatial(how.loss_type, nets.decode(r), x, count))

    def step(now: _Carry) -> _Carry:
        (old, none), state = now.latents, now.momenta
        update, state = mover.update(slope(old), state, old)
        new = old + jnp.asarray(update)
        return _Carry(now.count + 1, _converged(new, old, how.tol, False), (new, none), state, now.balance)

    carry = _Carry(jnp.zeros((), jnp.int32), jnp.zeros((), bool), (r, r[:, :0]), mover.init(r), start(r.dtype))
    end = _repeated(step, carry, how)
    return Inferred(*end.latents, end.count)


def infer_sequence(nets: Nets, x: Float[Array, "batch time input"], r: Float[Array, "batch r"], r2: Float[Array, "batch r2"],
                   how: Inference, rows: int | None = None, progress: Callable[..., None] | None = None) -> Inferred:  # fmt: skip
    """The latents of all time steps, r [batch, time, r_dim] and r2 [batch, time, r2_dim], from those of the first; iterations [time - 1].

    A `lax.scan` over time. progress: is called on the host with the number of each time step when it is done.
    """

    def step(carry: tuple[Array, Array], given: tuple[Array, Array]) -> tuple[tuple[Array, Array], Inferred]:
        number, now = given
        found = infer(nets, now, *carry, how, rows)
        if progress is not None:
            jax.debug.callback(progress, number, found.iterations)
        return (found.r, found.r2), found

    numbers = jnp.arange(1, x.shape[1])
    _, found = jax.lax.scan(step, (r, r2), (numbers, jnp.swapaxes(x, 0, 1)[1:]))
    whole = (jnp.concatenate([first[:, None], jnp.swapaxes(later, 0, 1)], 1) for first, later in ((r, found.r), (r2, found.r2)))
    inferred_r, inferred_r2 = whole
    return Inferred(inferred_r, inferred_r2, found.iterations)


def _slopes(nets: Nets, x: Array, r_p: Array, how: Inference, rows: int, latents: tuple[Array, Array], balance: Balance) -> Any:
    """The derivatives of the energy."""

    def energy(latents: tuple[Array, Array]) -> Array:
        r, r2 = latents
        found = nets.predict(r_p, r2)
        value = spatial(how.loss_type, nets.decode(r), x, rows) + how.temp_weight * squares(r, found.r, rows)
        if nets.foretell is not None:
            value += squares(r2, jax.lax.stop_gradient(nets.foretell(r, r2)), rows)
        return value + l1(how.L1_inf_r, r) + l1(how.L1_inf_r2, r2) + l1(how.L1_inf_w, found.w)

    return jax.grad(energy)(latents), balance


def _balanced_slopes(nets: Nets, x: Array, r_p: Array, how: Inference, rows: int, latents: tuple[Array, Array], balance: Balance) -> Any:
    """The same with GradNorm over (spatial, temporal, temporal), and its next weights."""

    def losses(latents: tuple[Array, Array]) -> Array:
        r, r2 = latents
        temporal = squares(r, nets.predict(r_p, r2).r, rows)
        found = jnp.stack([spatial(how.loss_type, nets.decode(r), x, rows), temporal, temporal])
        return jnp.where((found == 0) & ~begun(balance), jnp.asarray(ZERO, found.dtype), found)

    tasks = tuple(jnp.array(column) for column in zip(*TASKS, strict=True))
    step = balanced(losses, latents, balance, tasks, how.grad_alpha_inf)
    return step.gradients, fresh(step, how.lr_weights_inf, 0.01)


def _converged(new: Array, old: Array, tol: float, together: bool) -> Bool[Array, ""]:
    """Whether |new - old| / |old| < tol, of the whole batch or of every row."""
    moved, length = (jnp.sqrt(jnp.sum(a * a, axis=None if together else -1)) for a in (new - old, old))
    return jnp.all(moved / (length + TINY) < tol)


def _repeated(step: Callable[[_Carry], _Carry], carry: _Carry, how: Inference) -> _Carry:
    """Iterations until all is done, or a fixed number of them."""
    if how.tol == 0:
        return jax.lax.scan(lambda now, _: (step(now), None), carry, length=how.max_iter)[0]
    return jax.lax.while_loop(lambda now: ~now.done & (now.count < how.max_iter), step, carry)
