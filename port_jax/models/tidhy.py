"""TiDHy: timescale demixing by hypernetworks, a model that optimises its latents inside of its forward pass.

x_t is decoded from r_t, and r_t follows r_bar_t = V(r2_t) r_{t-1}, where V(r2) = sum_m w_m(r2) V_m mixes `mix_dim` linear dynamics. Neither
r nor r2 is computed by an encoder: both are inferred at each time step by gradient descent (`port_jax.models.tidhy_inference`). The numbers
are those of elliottabe/TiDHy at commit 70e53c4, the last one on torch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from port_jax.checks import as_numbers
from port_jax.manifolds import Euclidean
from port_jax.models.tidhy_inference import Inference, Inferred, Nets, Prediction, infer, infer_first, infer_sequence
from port_jax.models.tidhy_losses import LOSSES, Losses, spatial, squares
from port_jax.types import ManifoldTree, Params

__all__ = ["Record", "TiDHy"]


class Record(NamedTuple):
    """What `TiDHy.record` finds, [batch, time, ...]. I_bar, I_hat: decoded from the predicted and from the inferred r. R_bar, R_hat,
    R2_hat: the latents. W: the shares of the mixture, 0 at the first step. iterations: [time - 1]."""

    I_bar: Float[Array, "batch time input"]
    I_hat: Float[Array, "batch time input"]
    R_bar: Float[Array, "batch time r"]
    R_hat: Float[Array, "batch time r"]
    R2_hat: Float[Array, "batch time r2"]
    W: Float[Array, "batch time mix"]
    losses: Losses
    iterations: Int[Array, " steps"]


class TiDHy(nn.Module):
    """The model. Parameters `spatial_decoder/layers_i`, `hypernet/layers_i`, `temporal`, with `dyn_bias` `temporal_bias`, and with
    `use_r2_decoder` `r2_decoder/layers_i`.

    input_dim, r_dim, r2_dim, mix_dim, hyper_hid_dim: sizes. low_rank_temp: V_m = T_m T_m^T with T_m of shape [r_dim, rank], in place of a
    full matrix. dyn_bias: the hypernetwork has r_dim more outputs b, and r_bar = V r + b * temporal_bias. nonlin_decoder: the decoder is
    Linear, LayerNorm, ELU, Linear, Linear of widths `decoder_hid_dims`, in place of one linear layer. loss_type: "MSE", "BCE" or
    "Poisson", see `tidhy_losses.spatial`. use_r2_decoder: a network of width `r2_decoder_hid_dim` foretells the next r2 from (r, r2), and
    the inference keeps r2 near to that. inference: how latents are inferred. dtype: the type of the networks' computations, such as
    bfloat16; latents, losses and parameters keep theirs.
    """

    input_dim: int
    r_dim: int = 10
    r2_dim: int = 5
    mix_dim: int = 15
    hyper_hid_dim: int = 50
    loss_type: str = "MSE"
    low_rank_temp: bool = False
    rank: int = 2
    dyn_bias: bool = False
    nonlin_decoder: bool = False
    decoder_hid_dims: tuple[int, int] | None = None
    use_r2_decoder: bool = False
    r2_decoder_hid_dim: int = 50
    inference: Inference = Inference()
    dtype: Any = None

    def setup(self) -> None:
        if self.loss_type not in LOSSES:
            raise ValueError(f"loss_type is {self.loss_type!r}; give one of {', '.join(LOSSES)}")
        wide = self.decoder_hid_dims or (self.hyper_hid_dim, self.hyper_hid_dim)
        linear = [_dense(self.input_dim, self.dtype)]
        deep = [_dense(wide[0], self.dtype), _norm(self.dtype), nn.elu, _dense(wide[1], self.dtype), _dense(self.input_dim, self.dtype)]
        self.spatial_decoder = nn.Sequential(deep if self.nonlin_decoder else linear)
        hidden, outputs = self.hyper_hid_dim, self.mix_dim + (self.r_dim if self.dyn_bias else 0)
        ends = nn.Dense(outputs, use_bias=not self.dyn_bias, dtype=self.dtype, kernel_init=nn.initializers.xavier_normal())
        layers = [_dense(hidden, self.dtype), _norm(self.dtype), nn.elu, _dense(hidden, self.dtype), ends, nn.relu]
        self.hypernet = nn.Sequential(layers)
        shape = (self.mix_dim, self.r_dim, self.rank) if self.low_rank_temp else (self.mix_dim, self.r_dim**2)
        self.temporal = self.param("temporal", lambda key: _orthogonal(key, shape))
        if self.dyn_bias:
            self.temporal_bias = self.param("temporal_bias", nn.initializers.xavier_normal(), (1, self.r_dim), jnp.float32)
        if self.use_r2_decoder:
            within, ends = self.r2_decoder_hid_dim, _dense(self.r2_dim, self.dtype)
            self.r2_decoder = nn.Sequential([_dense(within, self.dtype), _norm(self.dtype), nn.elu, _dense(within, self.dtype), ends])

    def decode(self, r: Float[Array, "*batch r"]) -> Float[Array, "*batch input"]:
        """What the latents look like."""
        return self.spatial_decoder(r).astype(r.dtype)

    def predict(self, r: Float[Array, "*batch r"], r2: Float[Array, "*batch r2"]) -> Prediction:
        """r_bar = V r (+ b * temporal_bias) with V = sum_m w_m V_m and (w, b) = hypernet(r2)."""
        given = self.hypernet(r2).astype(r.dtype)
        w, b = given[..., : self.mix_dim], given[..., self.mix_dim :]
        dynamics = jnp.einsum("...m,mij->...ij", w, self.dynamics().astype(r.dtype))
        moved = jnp.einsum("...ij,...j->...i", dynamics, r)
        return Prediction(moved + b * jnp.broadcast_to(self.temporal_bias[0], b.shape) if self.dyn_bias else moved, dynamics, w)

    def foretell(self, r: Float[Array, "*batch r"], r2: Float[Array, "*batch r2"]) -> Float[Array, "*batch r2"]:
        """The next r2 by the R2 decoder, from both latents."""
        return self.r2_decoder(jnp.concatenate([r, r2], -1)).astype(r.dtype)

    def dynamics(self) -> Float[Array, "mix r r"]:
        """The dynamics V_m that are mixed."""
        if self.low_rank_temp:
            return jnp.einsum("mik,mjk->mij", self.temporal, self.temporal)
        return self.temporal.reshape(self.mix_dim, self.r_dim, self.r_dim)

    def first(self, x: Float[Array, "batch input"], steps: int | None = None) -> Inferred:
        """The latents of the first time step, see `infer_first`. steps: so many iterations, without the stopping rule."""
        x = self._observed(x, "sequences")
        return infer_first(self._nets(), x, jnp.zeros((len(x), self.r_dim), x.dtype), self._how(steps))

    def infer(self, x: Float[Array, "batch input"], r_p: Float[Array, "batch r"], r2: Float[Array, "batch r2"],
              steps: int | None = None) -> Inferred:  # fmt: skip
        """The latents of one time step, from those of the last, see `infer`."""
        return infer(self._nets(), self._observed(x, "sequences"), as_numbers("r_p", r_p), as_numbers("r2", r2), self._how(steps))

    def latents(self, x: Float[Array, "batch time input"], r2: Float[Array, "batch r2"] | None = None, *, rows: int | None = None,
                steps: int | None = None, progress: Callable[..., None] | None = None) -> Inferred:  # fmt: skip
        """The latents of all time steps as training infers them: from r = 0, not from `first`. They have no derivatives by parameters.

        r2: where r2 begins, 0 by default; a stateful model gives the last r2 of the call before. rows, progress: see `infer_sequence`.
        """
        x = self._observed(x)
        r, start = self._start(x, r2)
        return jax.lax.stop_gradient(infer_sequence(self._nets(), x, r, start, self._how(steps), rows, progress))

    def losses(self, x: Float[Array, "batch time input"], r2: Float[Array, "batch r2"] | None = None, steps: int | None = None) -> Losses:
        """The training losses of a batch of sequences: the derivatives are those at fixed latents, as in the original."""
        if self.is_initializing():
            x = self._observed(x)
            latents = jnp.zeros((1, self.r_dim), x.dtype), jnp.zeros((1, self.r2_dim), x.dtype)
            self.predict(*latents)
            if self.use_r2_decoder:
                self.foretell(*latents)
            return Losses(*(jnp.sum(self.decode(jnp.zeros((1, self.r_dim), x.dtype))) for _ in range(3)))
        return self.losses_of(x, self.latents(x, r2, steps=steps))

    def __call__(self, x: Float[Array, "batch time input"], r2: Float[Array, "batch r2"] | None = None, steps: int | None = None) -> Losses:
        """`losses`."""
        return self.losses(x, r2, steps)

    def losses_of(self, x: Float[Array, "batch time input"], found: Inferred) -> Losses:
        """The training losses at these latents of all time steps. r_bar is computed with the new r2; at t = 0, where it is 0, only the
        inferred r is decoded."""
        x, rows = self._observed(x), len(x)
        r_bar = self.predict(found.r[:, :-1], found.r2[:, 1:]).r
        seen = spatial(self.loss_type, self.decode(found.r), x, rows)
        foreseen = spatial(self.loss_type, self.decode(r_bar), x[:, 1:], rows)
        return Losses(seen, foreseen, self.inference.temp_weight * squares(found.r[:, 1:], r_bar, rows))

    def training_losses(self, x: Float[Array, "batch time input"], r2: Float[Array, "batch r2"] | None = None, steps: int | None = None
                        ) -> tuple[Float[Array, " k"], Float[Array, "batch r2"]]:  # fmt: skip
        """The three losses as an array [3], with an R2 decoder [4] by its own, with derivatives at fixed latents; and the last r2, with
        which the next call of a stateful model begins."""
        found = self.latents(x, r2, steps=steps)
        losses = jnp.stack(self.losses_of(x, found))
        return jnp.append(losses, self.r2_loss_of(found)) if self.use_r2_decoder else losses, found.r2[:, -1]

    def r2_loss_of(self, found: Inferred) -> Float[Array, ""]:
        """sum_t |r2_t - foretell(r_{t-1}, r2_{t-1})|^2 / rows."""
        return squares(found.r2[:, 1:], self.foretell(found.r[:, :-1], found.r2[:, :-1]), len(found.r2))

    def record(self, x: Float[Array, "batch time input"], r2: Float[Array, "batch r2"] | None = None, steps: int | None = None,
               progress: Callable[..., None] | None = None) -> Record:  # fmt: skip
        """The latents of sequences, and what they say: as `latents`, but from r_1 = `first`.

        Here r_bar is computed with the r2 of the step before, and the loss of r_bar counts t = 0 too, where it is 0; so the losses differ
        from those of training. W belongs to the new r2.
        """
        x = self._observed(x)
        nets, rows = self._nets(), len(x)
        begin = infer_first(nets, x[:, 0], jnp.zeros((rows, self.r_dim), x.dtype), self._how(steps)).r
        _, start = self._start(x, r2)
        found = infer_sequence(nets, x, begin, start, self._how(steps), progress=progress)
        found = jax.lax.stop_gradient(found)
        r_bar = self.predict(found.r[:, :-1], found.r2[:, :-1]).r
        w = self.predict(found.r[:, :-1], found.r2[:, 1:]).w
        r_bar, w = (jnp.concatenate([jnp.zeros_like(a[:, :1]), a], 1) for a in (r_bar, w))
        bar, hat = self.decode(r_bar), self.decode(found.r)
        temporal = self.inference.temp_weight * squares(found.r[:, 1:], r_bar[:, 1:], rows)
        losses = Losses(spatial(self.loss_type, hat, x, rows), spatial(self.loss_type, bar, x, rows), temporal)
        return Record(bar, hat, r_bar, found.r, found.r2, w, losses, found.iterations)

    def manifolds(self, params: Params) -> ManifoldTree:
        """All flat."""
        return {name: Euclidean() for name in params}

    def _nets(self) -> Nets:
        """Both maps as functions that transformations of JAX may be given, with parameters that have no derivative."""
        free, variables = self.clone(parent=None, name=None), jax.lax.stop_gradient(dict(self.variables))

        def decode(r: Array) -> Any:
            return free.apply(variables, r, method="decode")

        def predict(r: Array, r2: Array) -> Any:
            return free.apply(variables, r, r2, method="predict")

        def foretell(r: Array, r2: Array) -> Any:
            return free.apply(variables, r, r2, method="foretell")

        return Nets(decode, predict, foretell if self.use_r2_decoder else None)

    def _observed(self, x: Any, *axes: str) -> Array:
        """What is compared with decoded latents, where another width would be broadcast."""
        x, axes = as_numbers("x", x), axes or ("sequences", "time")
        if x.ndim != len(axes) + 1 or x.shape[-1] != self.input_dim:
            alone = "; give a single sequence as x[None]" if x.shape[1:] == (self.input_dim,) else ""
            raise ValueError(f"x has shape {x.shape}; this model takes [{', '.join(axes)}, {self.input_dim}]{alone}")
        return x

    def _how(self, steps: int | None) -> Inference:
        how = dataclasses.replace(self.inference, loss_type=self.loss_type)
        return how if steps is None else dataclasses.replace(how, max_iter=steps, tol=0.0)

    def _start(self, x: Array, r2: Any) -> tuple[Array, Array]:
        r = jnp.zeros((len(x), self.r_dim), x.dtype)
        if r2 is None:
            return r, jnp.zeros((len(x), self.r2_dim), x.dtype)
        r2 = as_numbers("r2", r2)
        if r2.shape != (len(x), self.r2_dim):
            raise ValueError(
                f"r2 has shape {r2.shape}; a batch of {len(x)} sequences takes {(len(x), self.r2_dim)}: give r2=None to begin anew"
            )
        return r, r2.astype(x.dtype)


def _dense(features: int, dtype: Any) -> nn.Dense:
    return nn.Dense(features, dtype=dtype, kernel_init=nn.initializers.xavier_normal())


def _norm(dtype: Any) -> nn.LayerNorm:
    """torch's, whose variance is computed in two passes."""
    return nn.LayerNorm(epsilon=1e-5, dtype=dtype, use_fast_variance=False)


def _orthogonal(key: Array, shape: tuple[int, ...]) -> Array:
    """torch's `orthogonal_`: of the first axis beside all others."""
    return nn.initializers.orthogonal()(key, (shape[0], math.prod(shape[1:])), jnp.float32).reshape(shape)
