"""The transformations of the kinds: torch's settings as arguments of the port's optimizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax

from port_jax.manifolds.euclidean import Euclidean
from port_jax.optim.from_torch import repositories
from port_jax.optim.from_torch.hypll import first_gradient_sgd
from port_jax.optim.from_torch.real_parts import by_real_parts
from port_jax.optim.from_torch.sections import Settings
from port_jax.optim.riemannian_adam import riemannian_adam
from port_jax.optim.riemannian_adamw import riemannian_adamw
from port_jax.optim.riemannian_line_search import riemannian_line_search
from port_jax.optim.riemannian_sgd import riemannian_sgd
from port_jax.optim.sparse_riemannian_adam import sparse_riemannian_adam
from port_jax.optim.sparse_riemannian_sgd import sparse_riemannian_sgd
from port_jax.types import Manifolds, OptState, Params, Updates

__all__ = [
    "Make",
    "adam",
    "by_rule",
    "embedding_sgd",
    "flat_adam",
    "flat_adamw",
    "hgcn_adam",
    "hybonet_adam",
    "hypll_adam",
    "hypll_sgd",
    "line_search",
    "murp_sgd",
    "sgd",
    "sparse_adam",
    "sparse_sgd",
]

Make = Callable[[Settings, Any, Any, Any], Any]
"""(settings, rate, manifolds, order) -> the transformation of one group."""


def adam(s: Settings, rate: Any, manifolds: Manifolds, order: Any) -> Any:
    """geoopt's RiemannianAdam; with `raw_eps` that of its versions until 0.3.1."""
    (b1, b2), raw = s["betas"], s.get("raw_eps", False)
    arguments = (b1, b2, s["eps"], s["weight_decay"], s["amsgrad"], s.get("stabilize"))
    return riemannian_adam(rate, *arguments, manifolds=manifolds, order=order, raw_eps=raw)


def flat_adam(s: Settings, rate: Any, manifolds: Manifolds, order: Any) -> Any:
    """torch's Adam, and a group with decoupled decay in it."""
    if s.get("decoupled", False):
        return flat_adamw(s, rate, manifolds, order)
    return _flat(s, adam(s, rate, Euclidean(), None))


def flat_adamw(s: Settings, rate: Any, manifolds: Manifolds, order: Any) -> Any:
    """torch's AdamW, and a group without decoupled decay in it."""
    if not s.get("decoupled", True):
        return flat_adam(s, rate, manifolds, order)
    b1, b2 = s["betas"]
    arguments = (b1, b2, s["eps"], s["weight_decay"], s["amsgrad"])
    return _flat(s, riemannian_adamw(rate, *arguments, manifolds=Euclidean()))


def hgcn_adam(s: Settings, rate: Any, manifolds: Manifolds, order: Any) -> Any:
    """HGCN's RiemannianAdam: see `repositories.summed`."""
    moved = repositories.swapped(manifolds, repositories.summed("hgcn.RiemannianAdam", s.get("axes", {})))
    return adam({**s, "raw_eps": True}, rate, moved, order)


def hybonet_adam(s: Settings, rate: Any, manifolds: Manifolds, order: Any) -> Any:
    """The RiemannianAdam of fully-hyperbolic-nn: see `repositories.split_decay`."""
    inner = adam({**s, "weight_decay": 0.0}, rate, manifolds, order)
    return repositories.split_decay(inner, rate, s["weight_decay"], manifolds)


def hypll_adam(s: Settings, rate: Any, manifolds: Manifolds, order: Any) -> Any:
    """HypLL's RiemannianAdam: see `repositories.summed`."""
    moved = repositories.swapped(manifolds, repositories.summed("hypll.RiemannianAdam", s.get("axes", {})))
    return adam(s, rate, moved, order)


def hypll_sgd(s: Settings, rate: Any, manifolds: Manifolds, order: Any) -> Any:
    """HypLL's RiemannianSGD: geoopt's on exact geodesics without a momentum, see `from_torch.hypll` with one."""
    moved = repositories.swapped(manifolds, repositories.exact("hypll.RiemannianSGD"))
    arguments = (s["momentum"], s["dampening"], s["weight_decay"], s["nesterov"])
    kept = isinstance(s["momentum"], jax.Array) or s["momentum"] > 0
    return (first_gradient_sgd if kept else riemannian_sgd)(rate, *arguments, manifolds=moved, order=order)


def sgd(s: Settings, rate: Any, manifolds: Manifolds, order: Any) -> Any:
    """geoopt's RiemannianSGD."""
    arguments = (s["momentum"], s["dampening"], s["weight_decay"], s["nesterov"], s["stabilize"])
    return riemannian_sgd(rate, *arguments, manifolds=manifolds, order=order)


def murp_sgd(s: Settings, rate: Any, manifolds: Manifolds, order: Any) -> Any:
    """MuRP's RiemannianSGD: see `repositories.exact`."""
    return riemannian_sgd(rate, manifolds=repositories.swapped(manifolds, repositories.exact("murp.RiemannianSGD")), order=order)


def embedding_sgd(s: Settings, rate: Any, manifolds: Manifolds, order: Any) -> Any:
    """The RiemannianSGD of poincare-embeddings: see `repositories.poincare_embeddings`."""
    moved = repositories.swapped(manifolds, repositories.poincare_embeddings(s["sparse"]))
    return riemannian_sgd(rate, manifolds=moved, order=order)


def line_search(s: Settings, rate: Any, manifolds: Manifolds, order: Any) -> Any:
    """geoopt's RiemannianLineSearch, which has no rate."""
    chosen = (s["line_search_method"], s["line_search_params"], s["cg_method"], s["fallback_stepsize"], s["stabilize"])
    return riemannian_line_search(*chosen, manifolds=manifolds, as_geoopt=True)


def sparse_adam(s: Settings, rate: Any, manifolds: Manifolds, order: Any) -> Any:
    """geoopt's SparseRiemannianAdam."""
    b1, b2 = s["betas"]
    return sparse_riemannian_adam(rate, b1, b2, s["eps"], s["amsgrad"], s["stabilize"], manifolds=manifolds)


def sparse_sgd(s: Settings, rate: Any, manifolds: Manifolds, order: Any) -> Any:
    """geoopt's SparseRiemannianSGD."""
    return sparse_riemannian_sgd(rate, s["momentum"], s["dampening"], s["nesterov"], s["stabilize"], manifolds=manifolds)


def by_rule(rule: Callable[..., Any], *names: str) -> Make:
    """A transformation of `rules` that takes these settings by name."""
    return lambda s, rate, manifolds, order: _flat(s, rule(rate, **{name: s[name] for name in names}))


def _flat(settings: Settings, inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """What torch's own classes share: complex parameters move by their parts, and with maximize along the negative gradients."""
    inner = by_real_parts(inner)
    if not settings["maximize"]:
        return inner

    def update(updates: Updates, state: Any, params: Params = None) -> tuple[Updates, OptState]:
        return inner.update(jax.tree.map(lambda g: -g, updates), state, params)

    return optax.GradientTransformation(inner.init, update)
