"""Euclidean modules of torch that flax has in another form: attention and recurrent layers with torch's own parameters, and batch norm.

flax splits the projections of attention into one kernel each, and sums the two biases of a recurrent cell, so that a torch file could not
be written again. Here every parameter has torch's name, shape and meaning. Sequences are [*batch, length, features]: torch's with
`batch_first=True`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Bool, Float

__all__ = ["GRU", "LSTM", "BatchNorm", "MultiheadAttention", "attend"]

_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform", in_axis=-1, out_axis=-2)
Carry = tuple[Array, ...]
Step = Callable[[Carry, Array, Array], tuple[Carry, Array]]


class BatchNorm(nn.BatchNorm):
    """flax's BatchNorm with torch's running variance and torch's defaults (torch.nn.BatchNorm1d to 3d, channels last).

    Both normalise a batch of N numbers per channel by its variance over N. For the running variance, torch multiplies that by N/(N - 1).
    `momentum` is flax's, the weight of the old statistics: 1 - 0.1. ValueError in training where N is 1, as in torch.
    """

    momentum: float = 0.9

    def __call__(
        self, x: Float[Array, "*batch c"], use_running_average: bool | None = None, *, mask: Bool[Array, "*batch c"] | None = None
    ) -> Float[Array, "*batch c"]:
        """As flax's. Positions where `mask` is False are not counted."""
        still = nn.merge_param("use_running_average", self.use_running_average, use_running_average)
        old = self.get_variable("batch_stats", "var")
        y = super().__call__(x, use_running_average, mask=mask)
        if still or old is None or self.is_initializing() or not self.is_mutable_collection("batch_stats"):
            return y
        if mask is None and x.size <= x.shape[-1]:
            raise ValueError(f"BatchNorm in training: x has shape {x.shape}, one number per channel; pass a batch of two or more")
        rows = x.size // x.shape[-1] if mask is None else jnp.broadcast_to(mask, x.shape).sum() / x.shape[-1]
        new = self.get_variable("batch_stats", "var")
        self.put_variable("batch_stats", "var", new + (new - self.momentum * old) / (rows - 1))
        return y


class MultiheadAttention(nn.Module):
    """softmax(q k^T / sqrt(d)) v for each head, between linear maps (torch.nn.MultiheadAttention; arXiv 1706.03762, section 3.2.2).

    Parameters: `in_proj_weight` [3 features, features] and `in_proj_bias` for queries, keys and values, one below the other; `out_proj`,
    a Dense. Returns the output and the weights of attention, averaged over the heads.
    """

    features: int
    heads: int
    dtype: Any = None
    """The type of the products of matrices, such as bfloat16; the softmax is computed in float32 at least."""

    @nn.compact
    def __call__(
        self,
        query: Float[Array, "*batch l d"],
        key: Float[Array, "*batch s d"],
        value: Float[Array, "*batch s d"],
        mask: Bool[Array, "*#batch l s"] | None = None,
    ) -> tuple[Float[Array, "*batch l d"], Float[Array, "*batch l s"]]:
        """`mask` is True where a query must not see a key, as torch's `attn_mask` is."""
        if self.features % self.heads:
            raise ValueError(f"features: found {self.features}, which {self.heads} heads do not divide; take a multiple of heads")
        weight = self.param("in_proj_weight", nn.initializers.xavier_uniform(in_axis=-1, out_axis=-2), (3 * self.features, self.features))
        bias = self.param("in_proj_bias", nn.initializers.zeros, (3 * self.features,))
        query, key, value, weight, bias = promote_dtype(query, key, value, weight, bias, dtype=self.dtype)
        maps = zip(jnp.split(weight, 3), jnp.split(bias, 3), (query, key, value))
        q, k, v = (jnp.einsum("oi,...i->...o", w, x) + b.reshape((1,) * (x.ndim - 1) + b.shape) for w, b, x in maps)
        seen, attention = attend(q, k, v, self.heads, mask)
        return nn.Dense(self.features, dtype=self.dtype, name="out_proj")(seen), attention.mean(-3)


def attend(q: Float[Array, "*batch l d"], k: Float[Array, "*batch s d"], v: Float[Array, "*batch s d"], heads: int,
           mask: Bool[Array, "*#batch l s"] | None = None) -> tuple[Float[Array, "*batch l d"], Float[Array, "*batch h l s"]]:  # fmt: skip
    """softmax(q k^T / sqrt(e)) v for each head of e = d / heads features, and the weights; `mask` is True where nothing is seen.

    The softmax is computed in float32 at least.
    """
    q, k, v = (x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads) for x in (q, k, v))
    scores = jnp.einsum("...lhd,...shd->...hls", q, k) / q.shape[-1] ** 0.5
    scores = scores.astype(jnp.promote_types(scores.dtype, jnp.float32))
    if mask is not None:
        scores = jnp.where(jnp.expand_dims(mask, -3), -jnp.inf, scores)
    weights = nn.softmax(scores)
    seen = jnp.einsum("...hls,...shd->...lhd", weights.astype(v.dtype), v)
    return seen.reshape(*seen.shape[:-2], -1), weights


class LSTM(nn.Module):
    """i, f, o = sigmoid, g = tanh of W_ih x + b_ih + W_hh h + b_hh; c' = f c + i g; h' = o tanh(c') (torch.nn.LSTM).

    Parameters of layer k: `weight_ih_l{k}` [4 features, in], `weight_hh_l{k}` [4 features, features], `bias_ih_l{k}` and `bias_hh_l{k}`, in
    the order i, f, g, o; with `bidirectional` the same with the ending `_reverse`. Returns the outputs of the last layer, and the last
    (h, c) of each layer and direction, [layers, *batch, features]. States begin at zero.
    """

    features: int
    layers: int = 1
    bidirectional: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "*batch l in"]) -> tuple[Float[Array, "*batch l out"], tuple[Array, Array]]:
        def step(carry: Carry, gates: Array, recurrent: Array) -> tuple[Carry, Array]:
            i, f, g, o = jnp.split(gates + recurrent, 4, -1)
            c = nn.sigmoid(f) * carry[1] + nn.sigmoid(i) * jnp.tanh(g)
            h = nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        out, (h, c) = _stacked(self, x, step, gates=4, carried=2)
        return out, (h, c)


class GRU(nn.Module):
    """r, z = sigmoid(W x + b + U h + u); n = tanh(W_n x + b_n + r (U_n h + u_n)); h' = (1 - z) n + z h (torch.nn.GRU).

    Parameters as those of `LSTM`, with 3 features in the order r, z, n. Returns the outputs of the last layer, and the last h of each.
    """

    features: int
    layers: int = 1
    bidirectional: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "*batch l in"]) -> tuple[Float[Array, "*batch l out"], Array]:
        def step(carry: Carry, gates: Array, recurrent: Array) -> tuple[Carry, Array]:
            (r, z, n), (from_r, from_z, from_n) = jnp.split(gates, 3, -1), jnp.split(recurrent, 3, -1)
            z = nn.sigmoid(z + from_z)
            h = (1 - z) * jnp.tanh(n + nn.sigmoid(r + from_r) * from_n) + z * carry[0]
            return (h,), h

        out, (h,) = _stacked(self, x, step, gates=3, carried=1)
        return out, h


def _stacked(module: LSTM | GRU, x: Array, step: Step, gates: int, carried: int) -> tuple[Array, Carry]:
    """All layers and directions: the outputs, and the last states [layers and directions, *batch, features]."""
    last: list[Carry] = []
    for layer in range(module.layers):
        found = []
        for ending in ("", "_reverse")[: 1 + module.bidirectional]:
            carry, out = _direction(module, x, step, f"l{layer}{ending}", gates, carried)
            last.append(carry)
            found.append(out)
        x = jnp.concatenate(found, -1)
    return x, tuple(jnp.stack(states) for states in zip(*last))


def _direction(module: LSTM | GRU, x: Array, step: Step, name: str, gates: int, carried: int) -> tuple[Carry, Array]:
    size = gates * module.features
    w_ih, w_hh, b_ih, b_hh = (
        module.param(f"{kind}_{name}", init, shape)
        for kind, init, shape in (
            ("weight_ih", _uniform, (size, x.shape[-1])),
            ("weight_hh", _uniform, (size, module.features)),
            ("bias_ih", nn.initializers.zeros, (size,)),
            ("bias_hh", nn.initializers.zeros, (size,)),
        )
    )

    def along(carry: Carry, at: Array) -> tuple[Carry, Array]:
        recurrent = jnp.einsum("oi,...i->...o", w_hh, carry[0])
        return step(carry, at, recurrent + b_hh.reshape((1,) * (recurrent.ndim - 1) + b_hh.shape))

    rows = jnp.einsum("oi,...i->...o", w_ih, x)
    rows = jnp.moveaxis(rows + b_ih.reshape((1,) * (rows.ndim - 1) + b_ih.shape), -2, 0)
    zero = jnp.zeros((*x.shape[:-2], module.features), rows.dtype)
    carry, out = jax.lax.scan(along, (zero,) * carried, rows, reverse=name.endswith("_reverse"))
    return carry, jnp.moveaxis(out, 0, -2)
