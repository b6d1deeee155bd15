"""Hypformer's logits from its formulas at any precision: arrays of mpf, a state_dict's tensors by key, and a configuration.

What each variant of the authors' code computes is written out where it differs; "right" is none of them: the paper's formulas.
"""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
from mpmath import mpf

Rows = Any
"""An array of mpf, a point or vector on its last axis."""

sqrt, sinh, exp, acosh = (np.vectorize(f, otypes=[object]) for f in (mpmath.sqrt, mpmath.sinh, mpmath.exp, mpmath.acosh))
relu = np.vectorize(lambda a: a if a > 0 else mpf(0), otypes=[object])


def total(a: Rows) -> Rows:
    return a.sum(-1, keepdims=True)


def minkowski(a: Rows, b: Rows) -> Rows:
    return total(a[..., 1:] * b[..., 1:]) - a[..., :1] * b[..., :1]


def lift(space: Rows, k: Any) -> Rows:
    return np.concatenate([sqrt(k + total(space * space)), space], -1)


def centroid(a: Rows, k: Any) -> Rows:
    return a * sqrt(k / -minkowski(a, a))


def raised(x: Rows, k: Any, time: int) -> Rows:
    """√k sinh(n/√k) x/n with n² = |x|² - time², 1e-9 where it is less: exp_0 if the time is 0."""
    n = sqrt(np.maximum(total(x * x) - time, mpf(10) ** -9))
    return lift(mpmath.sqrt(k) * sinh(n / mpmath.sqrt(k)) * x / n, k)


def normed(s: Rows, weight: Rows, bias: Rows, mean: Any = None, var: Any = None) -> Rows:
    """(s - mean)/sqrt(var + 1e-5) weight + bias, by default with the moments of each row."""
    mean = total(s) / s.shape[-1] if mean is None else mean
    var = total((s - mean) ** 2) / s.shape[-1] if var is None else var
    return (s - mean) / sqrt(var + mpf(10) ** -5) * weight + bias


class Paper:
    """A model of a state_dict and a configuration. variant: the configuration's, or "right"."""

    def __init__(self, of: dict[str, Any], config: dict[str, Any], variant: str):
        self.of, self.config, self.variant = of, config, variant
        self.k_in, self.k_out = mpf(float(of["manifold_in.k"])), mpf(float(of["manifold_out.k"]))
        self.k = mpf(config["k_hidden"]) if variant == "right" else self.k_out
        self.time = 0 if variant == "right" else 1

    def flat(self, key: str, x: Rows) -> Rows:
        return x @ self.of[f"{key}.weight"].T + self.of[f"{key}.bias"]

    def linear(self, key: str, x: Rows, k: Any, goal: Any) -> Rows:
        """A point of k, and in the right formulas the one in the same direction of k'."""
        y = lift(self.flat(f"{key}.linear", x), k)
        return y * mpmath.sqrt(goal / k) if self.variant == "right" else y

    def attention(self, key: str, x: Rows) -> Rows:
        heads, k, found = range(self.config["trans_num_heads"]), self.k, []
        for h in heads:
            q, p = (self.linear(f"{key}.{name}.{h}", x, k, k) for name in ("Wq", "Wk"))
            v = self.linear(f"{key}.Wv.{h}", x, k, k) if self.config["trans_use_weight"] else x
            found.append(self.full(key, q, p, v) if self.config["attention_type"] == "full" else self.focused(key, q, p, v))
        if self.config["attention_type"] == "full":
            return centroid(sum(found) / len(heads), k)
        if self.config["trans_heads_concat"]:
            return lift(self.flat(f"{key}.final_linear", np.concatenate(found, -1)), k)
        return lift(sum(found) / len(heads), k)

    def full(self, key: str, q: Rows, p: Rows, v: Rows) -> Rows:
        product = q[:, 1:] @ p[:, 1:].T - q[:, :1] @ p[:, :1].T
        product = product if self.variant == "Hypformer" else product / self.k
        weights = exp((2 + 2 * product) / self.of[f"{key}.scale"][0] + self.of[f"{key}.bias"].item())
        return centroid((weights / total(weights)) @ v, self.k)

    def focused(self, key: str, q: Rows, p: Rows, v: Rows) -> Rows:
        tiny = mpf(10) ** -6
        size = abs(self.of[f"{key}.norm_scale"].item()) + (tiny if self.variant in ("large", "Hypformer") else 0)

        def phi(x: Rows) -> Rows:
            f = (relu(x[:, 1:]) + tiny) / size
            sharp = f ** mpf(self.config["power_k"])
            return sharp * sqrt(total(f * f) / total(sharp * sharp))

        weights = phi(q) @ phi(p).T
        return weights @ v[:, 1:] / (total(weights) + tiny) + self.flat(f"{key}.v_map_mlp", v[:, 1:])

    def encoded(self, x: Rows) -> Rows:
        config, to = self.config, "trans_conv"
        middle = self.k_in if self.variant == "medium" else self.k
        given = raised(x, self.k_in, self.time)
        h = self.linear(f"{to}.fcs.0", given, self.k_in, self.k)
        if config["add_positional_encoding"]:
            h = centroid((h + self.linear(f"{to}.positional_encoding", given, self.k_in, self.k)) / 2, middle)

        def norm(h: Rows, layer: int) -> Rows:
            keys = (f"{to}.bns.{layer}.layer.{name}" for name in ("weight", "bias"))
            return lift(normed(h[:, 1:], *(self.of[key] for key in keys)), self.k) if config["trans_use_bn"] else h

        h = norm(h, 0)
        h = lift(relu(h[:, 1:]), self.k) if config["trans_use_act"] else h
        for layer in range(config["trans_num_layers"]):
            new = self.attention(f"{to}.convs.{layer}", h)
            h = norm(centroid((new + h) / 2, middle) if config["trans_use_residual"] else new, layer + 1)
        return self.linear(f"{to}.fcs.1", h, self.k, self.k_out)

    def on_graph(self, x: Rows, senders: np.ndarray, receivers: np.ndarray) -> Rows:
        config, to = self.config, "graph_conv"
        count = np.bincount(receivers, minlength=len(x))
        matrix = np.full((len(x), len(x)), mpf(0), object)
        for s, r in zip(senders, receivers, strict=True):
            matrix[r, s] += 1 / mpmath.sqrt(int(count[r]) * int(count[s])) if count[s] else 0

        def after(h: Rows, layer: int, act: int) -> Rows:
            parts = (self.of[f"{to}.bns.{layer}.{name}"] for name in ("weight", "bias", "running_mean", "running_var"))
            h = normed(h, *parts) if config["gnn_use_bn"] else h
            return relu(h) if act else h

        first = h = after(self.flat(f"{to}.fcs.0", x), 0, 1)
        for layer in range(config["gnn_num_layers"]):
            h = matrix @ h
            if config["gnn_use_init"] or config["gnn_use_weight"]:
                h = self.flat(f"{to}.convs.{layer}.W", np.concatenate([h, first], -1) if config["gnn_use_init"] else h)
            h = after(h, layer + 1, config["gnn_use_act"])
            h = h + first if config["gnn_use_residual"] else h
        return h

    def logits(self, x: Rows, senders: np.ndarray, receivers: np.ndarray) -> Rows:
        h, k, share = self.encoded(x), self.k_out, mpf(self.config["graph_weight"])
        z = self.on_graph(x, senders, receivers) if self.config["use_graph"] else None
        if self.config["decoder_type"] == "euc":
            s = h[:, 1:]
            u = mpmath.sqrt(k) * acosh(h[:, :1] / mpmath.sqrt(k)) * s / sqrt(total(s * s))
            logits = self.flat("decode_trans", u)
            return logits if z is None else (1 - share) * logits + share * self.flat("decode_graph", z)
        if z is not None:
            h = centroid((1 - share) * h + share * self.linear("decode_graph", raised(z, k, self.time), k, k), k)
        cls, bias = self.of["decode_trans.cls"], self.of["decode_trans.bias"]
        product = h[:, 1:] @ cls[:, 1:].T - h[:, :1] @ cls[:, :1].T
        square = -2 * k - 2 * (product / k if self.variant == "medium" else product) + bias
        return -relu(square) if self.variant in ("large", "Hypformer") else -square
