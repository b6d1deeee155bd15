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

__all__ = ["Regularisers", "Training", "collections", "gradients", "optimizer", "regularisers", "training_step"]

GROUPS = {"spatial_decoder": "s", "temporal": "t", "temporal_bias": "t", "hypernet": "h"}
"""The group of the parameters below each name."""
TASKS = {"s": (True, True, False), "t": (False, True, True), "h": (False, False, True)}
"""Which of the three losses GradNorm measures by the parameters of a group."""


@dataclass(frozen=True)
class Training:
    """How the model is trained; the names are those of the original's configuration, and so are the defaults.

    grad_norm, grad_alpha, lr_weights: GradNorm, its exponent, and the rate of its weights. stateful: whether r2 of a batch begins where it
    ended in the batch before. clip_grad: the largest norm of all gradients. cos_eta, Orth_alpha_*, L0_alpha, L1_alpha*, Lnuc_alpha: see
    `regularisers`. learning_rate_*: of the decoder (s), the dynamics (t) and the hypernetwork (h), each times learning_rate_gamma at every
    fifth of the epochs. weight_decay: of all parameters, and of GradNorm's weights.
    """

    grad_norm: bool = True
    grad_alpha: float = 0.5
    lr_weights: float = 0.01
    stateful: bool = False
    clip_grad: float = 500.0
    cos_eta: float = 5.0
    Orth_alpha_r2: float = 5.0
    Orth_alpha_spat: float = 0.0
    L1_alpha: float = 0.0
    L0_alpha: float = 0.0
    Lnuc_alpha: float = 0.0
    L1_alpha_spat: float = 0.0
    L1_alpha_r2: float = 0.0
    L1_alpha_W: float = 0.0
    learning_rate_s: float = 0.01
    learning_rate_t: float = 0.01
    learning_rate_h: float = 0.001
    learning_rate_gamma: float = 0.5
    weight_decay: float = 1e-5

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
    hypernetwork's first matrix. shared: L1_alpha |V|_1, L1_alpha_spat of the decoder's first matrix, L1_alpha_r2 of the hypernetwork's
    first and L1_alpha_W of its other matrices, Lnuc_alpha sum_m |V_m|_*, Orth_alpha_spat/r_dim sum |cos| of the decoder's columns, and with
    L0_alpha the number of entries of V that are not 0, times **L1_alpha**: a slip of the original, whose L0_alpha is only a switch.

    The authors' numbers confirm `last`. Of `shared` they say only which terms there are: what each norm is taken of is read from the names
    of the settings, which are 0 in the original's defaults.
    """
    temporal, hyper = params["temporal"], params["hypernet"]
    first, decoder = hyper["layers_0"]["kernel"], params["spatial_decoder"]["layers_0"]["kernel"]
    last = options.cos_eta / model.mix_dim * cosines(temporal.reshape(len(temporal), -1))
    last += options.Orth_alpha_r2 / model.r2_dim * cosines(first)
    shared = l1(options.L1_alpha, temporal) + l1(options.L1_alpha_spat, decoder) + l1(options.L1_alpha_r2, first)
    shared += sum(l1(options.L1_alpha_W, hyper[layer]["kernel"]) for layer in ("layers_3", "layers_4"))
    if options.L0_alpha:
        shared += options.L1_alpha * jnp.sum(temporal != 0).astype(temporal.dtype)
    if options.Lnuc_alpha:
        square = temporal.reshape(-1, model.r_dim, model.r_dim) if not model.low_rank_temp else None
        shared += options.Lnuc_alpha * (jnp.sum(temporal**2) if square is None else nuclear(square))  # |T T^T|_* = |T|^2
    if options.Orth_alpha_spat:
        shared += options.Orth_alpha_spat / model.r_dim * cosines(decoder)
    return Regularisers(shared, last)


def gradients(model: TiDHy, options: Training, params: Params, x: Float[Array, "batch time input"], found: Inferred, balance: Balance
              ) -> tuple[Params, Losses, Float[Array, ""], Balance]:  # fmt: skip
    """The gradients at these latents before clipping, the losses without regularisers, the loss that was differentiated, and the next
    balance, which is the given one without GradNorm."""

    def losses(params: Params) -> tuple[Array, Losses]:
        plain: Any = model.apply({"params": params}, x, found, method="losses_of")
        more = regularisers(model, params, options)
        if options.grad_norm:
            return jnp.stack(plain) + more.shared + jnp.zeros(3, more.last.dtype).at[2].set(more.last), plain
        return jnp.sum(jnp.stack(plain)) + more.shared + more.last, plain

    if not options.grad_norm:
        (total, plain), found_gradients = jax.value_and_grad(losses, has_aux=True)(params)
        return found_gradients, plain, total, balance
    tasks = {name: jax.tree.map(lambda _, group=GROUPS[name]: jnp.array(TASKS[group]), tree) for name, tree in params.items()}
    step = balanced(lambda p: losses(p)[0], params, balance, tasks, options.grad_alpha)
    next_balance = fresh(step, options.lr_weights, options.weight_decay)
    return step.gradients, losses(params)[1], jnp.dot(balance.weights, step.losses), next_balance


def training_step(model: TiDHy, optimizer: optax.GradientTransformation, options: Training, *, steps: int | None = None) -> Step:
    """A step for `fit` on batches [batch, time, input_dim], whose state has the `collections` of these options.

    Latents are inferred at the parameters before the step, and the losses differentiated at these latents; then the gradients are
    clipped, and the optimizer moves. The recorded numbers are the original's: `loss`, which is differentiated, and `spatial_loss_rhat`,
    `spatial_loss_rbar`, `temp_loss` without regularisers. steps: so many iterations of each inference, without the stopping rule.
    """
    clip = clip_grad_norm(options.clip_grad)
    update = optax.with_extra_args_support(optimizer).update

    def step(state: TrainState, x: Any) -> tuple[TrainState, Metrics]:
        before = state.collections.get("latents", {}).get("r2")
        found: Any = model.apply({"params": state.params}, x, before, steps=steps, method="latents")
        balance = Balance(**state.collections["gradnorm"]) if options.grad_norm else start()
        slopes, losses, total, balance = gradients(model, options, state.params, x, found, balance)
        clipped, _ = clip.update(slopes, clip.init(state.params), state.params)
        updates, opt_state = update(clipped, state.opt_state, state.params, value=total)
        params = optax.apply_updates(state.params, updates)
        kept = {"gradnorm": balance._asdict()} if options.grad_norm else {}
        kept |= {"latents": {"r2": found.r2[:, -1]}} if options.stateful else {}
        numbers = {"loss": total, **dict(zip(("spatial_loss_rhat", "spatial_loss_rbar", "temp_loss"), losses, strict=True))}
        return TrainState(params, opt_state, state.step + 1, state.key, kept), numbers

    return step


def collections(
    model: TiDHy, options: Training, batch: int = 0, dtype: Any = jnp.float32, balance: Balance | None = None
) -> dict[str, Any]:
    """What a run keeps beside the parameters: GradNorm's weights and first losses, and the last r2 of `batch` sequences if it is stateful.

    balance: that of a run that goes on. Errors: ValueError for a stateful run without the size of its batches.
    """
    kept: dict[str, Any] = {"gradnorm": (balance or start(dtype))._asdict()} if options.grad_norm else {}
    if options.stateful:
        if batch < 1:
            raise ValueError(f"batch is {batch}; a stateful run keeps r2 of each sequence: give the number of sequences of a batch")
        kept["latents"] = {"r2": jnp.zeros((batch, model.r2_dim), dtype)}
    return kept


def optimizer(options: Training, epochs: int, updates_per_epoch: int = 1) -> optax.GradientTransformation:
    """AdamW for the three groups, whose rates are multiplied by learning_rate_gamma at every fifth of the epochs."""

    def adamw(rate: float) -> optax.GradientTransformation:
        schedule: Any = every(multi_step_lr(rate, milestones(epochs, 5), options.learning_rate_gamma), updates_per_epoch)
        return riemannian_adamw(schedule, weight_decay=options.weight_decay, manifolds=Euclidean())

    def labels(params: Params) -> Any:
        return {name: jax.tree.map(lambda _, group=GROUPS[name]: group, tree) for name, tree in params.items()}

    return optax.partition({group: adamw(getattr(options, f"learning_rate_{group}")) for group in "sth"}, labels)
