"""TiDHy's training step for `port_jax.training.fit`: regularisers, GradNorm, clipping, and an optimizer of three groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from port_jax.manifolds import Euclidean
from port_jax.models.tidhy import TiDHy
from port_jax.models.tidhy_inference import Inferred, milestones
from port_jax.models.tidhy_losses import Losses, cosines, l1, nuclear
from port_jax.models.tidhy_weights import Balance, balanced, fresh, start
from port_jax.optim.clip import clip_grad_norm
from port_jax.optim.riemannian_adamw import riemannian_adamw
from port_jax.optim.schedules import every, multi_step_lr
from port_jax.training.state import Metrics, Step, TrainState
from port_jax.types import Params

__all__ = ["Regularisers", "Training", "collections", "gradients", "optimizer", "regularisers", "settled", "training_step"]

GROUPS = {"spatial_decoder": "s", "temporal": "t", "temporal_bias": "t", "hypernet": "h", "r2_decoder": "none"}
"""The group of the parameters below each name; the original's optimizer has not got the R2 decoder."""
TASKS = {"spatial_decoder": (True, True, False), "temporal": (False, True, True), "hypernet": (False, False, True)}
"""Which of the three losses GradNorm measures by the parameters below a name, and by no others. A fourth, that of the R2 decoder, is
measured by parameters that it does not depend on: its norm is 0."""
SMALL = 1e-4
"""Entries of the dynamics that `L0_alpha` sets to 0 after a step."""


@dataclass(frozen=True)
class Training:
    """How the model is trained; the names are those of the original's configuration, and so are the defaults.

    grad_norm, grad_alpha, lr_weights: GradNorm, its exponent, and the rate of its weights. carry_r2, not of the original: whether r2 of a
    batch begins where it ended in the batch before; the original keeps that with `stateful`, and never reads it. clip_grad: the largest
    norm of all gradients. cos_eta, Orth_alpha_*, L0_alpha, L1_alpha*, Lnuc_alpha: see `regularisers`. learning_rate_*: of the decoder (s),
    the dynamics (t) and the hypernetwork (h), halved at every fifth of the epochs. weight_decay: of all parameters, and of GradNorm's
    weights. normalize_temporal, normalize_spatial: see `settled`.
    """

    grad_norm: bool = True
    grad_alpha: float = 0.5
    lr_weights: float = 0.01
    carry_r2: bool = False
    clip_grad: float = 500.0
    cos_eta: float = 5.0
    Orth_alpha_r2: float = 5.0
    Orth_alpha_spat: float = 0.0
    L1_alpha: float = 0.0
    L0_alpha: float = 0.0
    Lnuc_alpha: float = 0.0
    L1_alpha_spat: float = 0.0
    L1_alpha_W: float = 0.0
    learning_rate_s: float = 0.01
    learning_rate_t: float = 0.01
    learning_rate_h: float = 0.001
    weight_decay: float = 1e-5
    normalize_temporal: bool = False
    normalize_spatial: bool = False

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Training:
        """Those of `ckpt.settings`, or of a configuration of the original code."""
        return cls(**{field.name: settings[field.name] for field in fields(cls) if field.name in settings})


class Regularisers(NamedTuple):
    """shared: what GradNorm adds to each of the three losses. last: what it adds to the third. Without GradNorm both are added once."""

    shared: Float[Array, ""]
    last: Float[Array, ""]


def regularisers(model: TiDHy, params: Params, options: Training) -> Regularisers:
    """The terms that depend on parameters alone.

    last: cos_eta/mix_dim * sum_{m<n} |cos(V_m, V_n)| + Orth_alpha_r2/r2_dim * sum_{i<j} |cos(h_i, h_j)|, h_i the columns of the
    hypernetwork's first matrix. shared: L1_alpha |T|_1 of the parameter `temporal`, L1_alpha_spat |D|_1 of the decoder's first matrix,
    Lnuc_alpha sum_m |V_m|_*, Orth_alpha_spat mean((D^T D - 1)^2) over the r_dim^2 entries. L1_alpha_W |H|_1 of the hypernetwork's last
    matrix is added without GradNorm only. Slips of the original, which were trained with:

    - L0_alpha is a switch: the number of entries of T that are not 0 is added times **L1_alpha**, without a derivative (see `settled`).
    - With low_rank_temp the cosines are those of rows within each factor T_m, and the nuclear norms those of all numbers of the factors,
      in order, folded into [r_dim, r_dim] matrices.

    Errors: ValueError for Lnuc_alpha where the numbers of low-rank factors do not fill such matrices.
    """
    temporal, hyper = params["temporal"], params["hypernet"]
    decoder = params["spatial_decoder"]["layers_0"]["kernel"]
    last = options.cos_eta / model.mix_dim * cosines(temporal)
    last += options.Orth_alpha_r2 / model.r2_dim * cosines(hyper["layers_0"]["kernel"])
    shared = l1(options.L1_alpha, temporal) + l1(options.L1_alpha_spat, decoder)
    if not options.grad_norm:
        shared += l1(options.L1_alpha_W, hyper["layers_4"]["kernel"])
    if options.L0_alpha:
        shared += options.L1_alpha * jnp.sum(temporal != 0).astype(temporal.dtype)
    if options.Lnuc_alpha:
        if temporal.size % model.r_dim**2:
            raise ValueError(
                f"Lnuc_alpha folds low-rank factors of shape {temporal.shape} into {model.r_dim}x{model.r_dim} matrices, which they do not "
                "fill, and the original has no step then: give Lnuc_alpha=0"
            )
        shared += options.Lnuc_alpha * nuclear(temporal.reshape(-1, model.r_dim, model.r_dim))
    if options.Orth_alpha_spat:
        gap = decoder @ decoder.T - jnp.eye(model.r_dim, dtype=decoder.dtype)
        shared += options.Orth_alpha_spat * jnp.mean(gap**2)
    return Regularisers(shared, last)


def settled(params: Params, options: Training) -> Params:
    """What follows an update: with L0_alpha, entries of the dynamics below 1e-4 become 0; with normalize_temporal its rows have length 1
    (of low-rank factors each of the r_dim rows), with normalize_spatial the columns of the decoder's first matrix, one for each latent.
    """
    temporal, decoder = params["temporal"], params["spatial_decoder"]
    if options.L0_alpha:
        temporal = jnp.where(jnp.abs(temporal) < SMALL, 0, temporal)
    if options.normalize_temporal:
        temporal = _unit(temporal)
    if options.normalize_spatial:
        first = decoder["layers_0"]
        decoder = {**decoder, "layers_0": {**first, "kernel": _unit(first["kernel"])}}
    return {**params, "temporal": temporal, "spatial_decoder": decoder}


def _unit(rows: Array) -> Array:
    return rows / jnp.maximum(jnp.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def gradients(model: TiDHy, options: Training, params: Params, x: Float[Array, "batch time input"], found: Inferred, balance: Balance
              ) -> tuple[Params, Losses, Float[Array, ""], Balance]:  # fmt: skip
    """The gradients at these latents before clipping, the losses without regularisers, the loss that was differentiated, and the next
    balance, which is the given one without GradNorm.

    Errors: ValueError for a model with an R2 decoder without GradNorm: the original's step ends with a NameError.
    """
    if model.use_r2_decoder and not options.grad_norm:
        raise ValueError(
            "use_r2_decoder is trained with grad_norm only, the original has no step without it: give Training(grad_norm=True)"
        )

    def slow(params: Params) -> Any:
        return model.apply({"params": params}, found, method="r2_loss_of")

    def losses(params: Params) -> tuple[Array, Losses]:
        plain: Any = model.apply({"params": params}, x, found, method="losses_of")
        more = regularisers(model, params, options)
        if options.grad_norm:
            three = jnp.stack(plain) + more.shared + jnp.zeros(3, more.last.dtype).at[2].set(more.last)
            return (jnp.append(three, slow(params)) if model.use_r2_decoder else three), plain
        return jnp.sum(jnp.stack(plain)) + more.shared + more.last, plain

    if not options.grad_norm:
        (total, plain), found_gradients = jax.value_and_grad(losses, has_aux=True)(params)
        return found_gradients, plain, total, balance
    beyond, none = (False,) * (len(balance.weights) - 3), (False,) * 3
    tasks = {name: jax.tree.map(lambda _, name=name: jnp.array(TASKS.get(name, none) + beyond), tree) for name, tree in params.items()}
    step = balanced(lambda p: losses(p)[0], params, balance, tasks, options.grad_alpha)
    next_balance = fresh(step, options.lr_weights, options.weight_decay)
    return step.gradients, losses(params)[1], jnp.dot(balance.weights, step.losses), next_balance


def training_step(model: TiDHy, optimizer: optax.GradientTransformation, options: Training, *, steps: int | None = None) -> Step:
    """A step for `fit` on batches [batch, time, input_dim], whose state has the `collections` of these options.

    Latents are inferred at the parameters before the step, and the losses differentiated at these latents; then the gradients are
    clipped, the optimizer moves, and `settled` follows. An R2 decoder is not moved; the original never clears its gradients, so that those
    of all steps add up below the norm that is clipped, and here they are a collection of the state. The recorded numbers are the
    original's: `loss`, which is differentiated, and `spatial_loss_rhat`, `spatial_loss_rbar`, `temp_loss` without regularisers. steps: so
    many iterations of each inference, without the stopping rule.
    """
    clip: Any = clip_grad_norm(options.clip_grad)
    update = optax.with_extra_args_support(optimizer).update

    needed = {"gradnorm": options.grad_norm, "r2_decoder": model.use_r2_decoder, "latents": options.carry_r2}

    def step(state: TrainState, x: Any) -> tuple[TrainState, Metrics]:
        if missing := [name for name, on in needed.items() if on and name not in state.collections]:
            raise ValueError(
                f"the state has no collection {' and no '.join(missing)}; give train_state what "
                "port_jax.models.tidhy_training.collections(model, options) returns as its collections"
            )
        before = state.collections.get("latents", {}).get("r2")
        found: Any = model.apply({"params": state.params}, x, before, steps=steps, method="latents")
        balance = Balance(**state.collections["gradnorm"]) if options.grad_norm else start()
        slopes, losses, total, balance = gradients(model, options, state.params, x, found, balance)
        if model.use_r2_decoder:
            slopes = {**slopes, "r2_decoder": jax.tree.map(jnp.add, slopes["r2_decoder"], state.collections["r2_decoder"])}
        clipped, _ = clip.update(slopes, clip.init(state.params), state.params)
        updates, opt_state = update(clipped, state.opt_state, state.params, value=total)
        params = settled(optax.apply_updates(state.params, updates), options)
        kept = {"gradnorm": balance._asdict()} if options.grad_norm else {}
        kept |= {"latents": {"r2": found.r2[:, -1]}} if options.carry_r2 else {}
        kept |= {"r2_decoder": clipped["r2_decoder"]} if model.use_r2_decoder else {}
        numbers = {"loss": total, **dict(zip(("spatial_loss_rhat", "spatial_loss_rbar", "temp_loss"), losses, strict=True))}
        return TrainState(params, opt_state, state.step + 1, state.key, kept), numbers

    return step


def collections(
    model: TiDHy, options: Training, batch: int = 0, dtype: Any = jnp.float32, balance: Balance | None = None
) -> dict[str, Any]:
    """What a run keeps beside the parameters: GradNorm's weights and first losses, the gradients of an R2 decoder, and with `carry_r2` the
    last r2 of `batch` sequences.

    balance: that of a run that goes on. Errors: ValueError for `carry_r2` without the size of the batches.
    """
    begins = balance or start(dtype, 4 if model.use_r2_decoder else 3)
    kept: dict[str, Any] = {"gradnorm": begins._asdict()} if options.grad_norm else {}
    if model.use_r2_decoder:
        shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2, model.input_dim), dtype))["params"]["r2_decoder"]
        kept["r2_decoder"] = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, dtype), shapes)
    if options.carry_r2:
        if batch < 1:
            raise ValueError(f"batch is {batch}; a run with carry_r2 keeps r2 of each sequence: give the number of sequences of a batch")
        kept["latents"] = {"r2": jnp.zeros((batch, model.r2_dim), dtype)}
    return kept


def optimizer(options: Training, epochs: int, updates_per_epoch: int = 1) -> optax.GradientTransformation:
    """AdamW for the three groups, whose rates are halved at every fifth of the epochs. An R2 decoder stays."""

    def adamw(rate: float) -> optax.GradientTransformation:
        schedule: Any = every(multi_step_lr(rate, milestones(epochs, 5), 0.5), updates_per_epoch)
        return riemannian_adamw(schedule, weight_decay=options.weight_decay, manifolds=Euclidean())

    def labels(params: Params) -> Any:
        return {name: jax.tree.map(lambda _, group=GROUPS[name]: group, tree) for name, tree in params.items()}

    movers = {group: adamw(getattr(options, f"learning_rate_{group}")) for group in "sth"}
    return optax.partition({**movers, "none": optax.set_to_zero()}, labels)
