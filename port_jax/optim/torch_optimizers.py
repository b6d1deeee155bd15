"""The table of torch's, geoopt's and repositories' optimizers: settings, buffers, counts, and the transformation of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
import optax

from port_jax.manifolds.euclidean import Euclidean
from port_jax.optim import torch_counts, torch_dialects, torch_rules, trees
from port_jax.optim.riemannian_adam import riemannian_adam
from port_jax.optim.riemannian_adamw import riemannian_adamw
from port_jax.optim.riemannian_line_search import riemannian_line_search
from port_jax.optim.riemannian_sgd import riemannian_sgd
from port_jax.optim.sparse_riemannian_adam import sparse_riemannian_adam
from port_jax.optim.sparse_riemannian_sgd import sparse_riemannian_sgd

Settings = Mapping[str, Any]
Make = Callable[[Settings, Any, Any, Any], Any]
"""(settings, rate, manifolds, order) -> the transformation of one group."""


@dataclass(frozen=True)
class Kind:
    """An optimizer's class.

    defaults: the settings that matter, with torch's defaults. buffers: torch's names of the tensors beside a parameter and
    the state's fields that hold them. counts: the dialect of its step count. make: its transformation. riemannian: whether it
    moves points on manifolds. sparse: whether it takes row gradients, and is a `SparseTransformation`. ignored: entries of
    torch's state that the next step does not read. ours: settings that no torch optimizer has.
    """

    defaults: Settings
    buffers: Mapping[str, str]
    counts: str
    make: Make
    riemannian: bool = False
    sparse: bool = False
    ignored: frozenset[str] = frozenset()
    ours: Settings = field(default_factory=dict)


def _adam(s: Settings, rate: Any, manifolds: Any, order: Any) -> Any:
    (b1, b2), raw = s["betas"], s.get("raw_eps", False)
    arguments = (b1, b2, s["eps"], s["weight_decay"], s["amsgrad"], s.get("stabilize"))
    return riemannian_adam(rate, *arguments, manifolds=manifolds, order=order, raw_eps=raw)


def _flat_adam(s: Settings, rate: Any, manifolds: Any, order: Any) -> Any:
    return _ascending(s, _adam(s, rate, Euclidean(), None))


def _adamw(s: Settings, rate: Any, manifolds: Any, order: Any) -> Any:
    b1, b2 = s["betas"]
    arguments = (b1, b2, s["eps"], s["weight_decay"], s["amsgrad"])
    return _ascending(s, riemannian_adamw(rate, *arguments, manifolds=Euclidean()))


def _hgcn_adam(s: Settings, rate: Any, manifolds: Any, order: Any) -> Any:
    moved = torch_dialects.swapped(manifolds, torch_dialects.hgcn(s.get("axes", {})))
    return _adam({**s, "raw_eps": True}, rate, moved, order)


def _hybonet_adam(s: Settings, rate: Any, manifolds: Any, order: Any) -> Any:
    inner = _adam({**s, "weight_decay": 0.0}, rate, manifolds, order)
    return torch_dialects.split_decay(inner, rate, s["weight_decay"], manifolds)


def _rsgd(s: Settings, rate: Any, manifolds: Any, order: Any) -> Any:
    arguments = (s["momentum"], s["dampening"], s["weight_decay"], s["nesterov"], s["stabilize"])
    return riemannian_sgd(rate, *arguments, manifolds=manifolds, order=order)


def _murp_sgd(s: Settings, rate: Any, manifolds: Any, order: Any) -> Any:
    return riemannian_sgd(rate, manifolds=torch_dialects.swapped(manifolds, torch_dialects.murp), order=order)


def _embedding_sgd(s: Settings, rate: Any, manifolds: Any, order: Any) -> Any:
    moved = torch_dialects.swapped(manifolds, torch_dialects.poincare_embeddings(s["sparse"]))
    return riemannian_sgd(rate, manifolds=moved, order=order)


def _line_search(s: Settings, rate: Any, manifolds: Any, order: Any) -> Any:
    chosen = (s["line_search_method"], s["line_search_params"], s["cg_method"], s["fallback_stepsize"], s["stabilize"])
    return riemannian_line_search(*chosen, manifolds=manifolds)


def _sparse_adam(s: Settings, rate: Any, manifolds: Any, order: Any) -> Any:
    b1, b2 = s["betas"]
    return sparse_riemannian_adam(rate, b1, b2, s["eps"], s["amsgrad"], s["stabilize"], manifolds=manifolds)


def _sparse_sgd(s: Settings, rate: Any, manifolds: Any, order: Any) -> Any:
    return sparse_riemannian_sgd(rate, s["momentum"], s["dampening"], s["nesterov"], s["stabilize"], manifolds=manifolds)


def _of(rule: Callable[..., Any], *names: str) -> Make:
    return lambda s, rate, manifolds, order: _ascending(s, rule(rate, **{name: s[name] for name in names}))


def _ascending(settings: Settings, inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """torch's maximize: the negative gradients."""
    if not settings["maximize"]:
        return inner

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return inner.update(jax.tree.map(lambda g: -g, updates), state, params)

    return optax.GradientTransformation(inner.init, update)


_ROWS = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "amsgrad": False}
_ADAM = {**_ROWS, "weight_decay": 0.0}
_BALLS = {"lr": 1e-3, "momentum": 0.0, "dampening": 0.0, "nesterov": False, "stabilize": None}
_SGD = {"lr": 1e-3, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False, "maximize": False}
_RMSPROP = {"lr": 1e-2, "alpha": 0.99, "eps": 1e-8, "weight_decay": 0.0, "momentum": 0.0, "centered": False, "maximize": False}
_ADAGRAD = {
    "lr": 1e-2, "lr_decay": 0.0, "weight_decay": 0.0, "initial_accumulator_value": 0.0, "eps": 1e-10, "maximize": False,
}  # fmt: skip
_SEARCH = {
    "line_search_method": "armijo", "line_search_params": None, "cg_method": "steepest", "cg_kwargs": None,
    "fallback_stepsize": 1.0, "stabilize": None,
}  # fmt: skip
_MOMENTS = {"exp_avg": "mu", "exp_avg_sq": "nu", "max_exp_avg_sq": "nu_max"}
_MOMENTUM = {"momentum_buffer": "momentum"}
_FLAT_MOMENTUM = {"momentum_buffer": "momentum_buffer"}
_CARRIED = {"grad": "grad", "grad_transported": "transported_grad", "search_transported": "transported_direction"}
_TRIALS = frozenset({
    "grad", "grad_transported", "search_transported", "search_direction", "new_point", "new_grad", "der_phi", "prev_grad",
    "prev_grad_norm_squared",
})  # fmt: skip
_BY, _IN, _NO = torch_counts.PARAMETER, torch_counts.GROUP, torch_counts.NONE

KINDS = {
    "RiemannianAdam": Kind({**_ADAM, "stabilize": None}, _MOMENTS, _BY, _adam, True),
    "hgcn.RiemannianAdam": Kind(_ADAM, _MOMENTS, torch_counts.DOUBLE, _hgcn_adam, True, ours={"axes": {}}),
    "hybonet.RiemannianAdam": Kind({**_ADAM, "stabilize": None}, _MOMENTS, _IN, _hybonet_adam, True),
    "RiemannianSGD": Kind({**_BALLS, "weight_decay": 0.0}, _MOMENTUM, _IN, _rsgd, True),
    "murp.RiemannianSGD": Kind({"lr": 1e-3}, {}, _NO, _murp_sgd, True),
    "poincare_embeddings.RiemannianSGD": Kind({"lr": 1e-3}, {}, _NO, _embedding_sgd, True, ours={"sparse": False}),
    "SparseRiemannianAdam": Kind({**_ROWS, "stabilize": None}, _MOMENTS, _BY, _sparse_adam, True, True),
    "SparseRiemannianSGD": Kind(_BALLS, _MOMENTUM, _IN, _sparse_sgd, True, True),
    "RiemannianLineSearch": Kind(_SEARCH, _CARRIED, _IN, _line_search, True, ignored=_TRIALS),
    "Adam": Kind({**_ADAM, "maximize": False}, _MOMENTS, _BY, _flat_adam),
    "AdamW": Kind({**_ADAM, "weight_decay": 1e-2, "maximize": False}, _MOMENTS, _BY, _adamw),
    "SGD": Kind(_SGD, _FLAT_MOMENTUM, _NO, _of(torch_rules.sgd, "momentum", "dampening", "weight_decay", "nesterov")),
    "RMSprop": Kind(
        _RMSPROP,
        {"square_avg": "square_avg", "grad_avg": "grad_avg", **_FLAT_MOMENTUM},
        _BY,
        _of(torch_rules.rmsprop, "alpha", "eps", "weight_decay", "momentum", "centered"),
    ),
    "Adagrad": Kind(
        _ADAGRAD,
        {"sum": "sum"},
        _BY,
        _of(torch_rules.adagrad, "lr_decay", "weight_decay", "initial_accumulator_value", "eps"),
    ),
}
# settings that change how torch computes, or what it keeps for itself, and not the steps
_INDIFFERENT = {
    "params", "param_names", "foreach", "fused", "capturable", "differentiable", "initial_lr", "name", "step",
    "decoupled_weight_decay", "compute_derphi", "transport_grad", "transport_search_direction", "rgrad", "expm",
}  # fmt: skip


def settled(
    name: str, group: Settings, strict: bool = False, dialect: str | None = None, axes: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """The settings of a group, torch's defaults where absent; `strict` refuses what the class does not have.

    dialect: of the step count, which tells geoopt's versions apart. axes: see `torch_dialects.hgcn`.

    Raises ValueError for a setting that the class has not, and for one that has no counterpart.
    """
    kind = KINDS[name]
    ours = {**kind.defaults, **kind.ours}
    if strict and (unknown := group.keys() - ours.keys() - _INDIFFERENT):
        raise ValueError(f"{name} has no setting {', '.join(sorted(unknown))}; it has {', '.join(ours)}")
    if name in ("Adam", "AdamW") and group.get("decoupled_weight_decay", name == "AdamW") != (name == "AdamW"):
        raise ValueError(f"decoupled_weight_decay is {group['decoupled_weight_decay']} in a group of {name}; give the other class")
    if group.get("maximize") and "maximize" not in ours:
        raise ValueError(f"maximize=True in a group of {name}, whose step takes no notice of it: set it to False")
    if group.get("cg_kwargs"):
        raise ValueError(f"cg_kwargs is {group['cg_kwargs']!r}; build riemannian_line_search with a function as cg_method")
    for key in ("line_search_method", "cg_method"):
        if key in ours and not isinstance(group.get(key, ""), str):
            raise ValueError(f"{key} is a function, which no file holds; build riemannian_line_search with it")
    settings = {key: plain(group.get(key, default)) for key, default in ours.items()}
    settings |= {"raw_eps": True} if dialect == torch_counts.DOUBLE else {}
    return settings | ({"axes": dict(axes or {})} if "axes" in settings else {})


def build(name: str, settings: Settings, rate: Any, momentum: Any, manifolds: trees.Manifolds, order: Sequence[str] | None) -> Any:
    """The transformation of a group. `momentum`, where given, is the one of this step (OneCycleLR, CyclicLR)."""
    s = dict(settings)
    if momentum is not None:
        s |= {"betas": (momentum, s["betas"][1])} if "betas" in s else {"momentum": momentum}
    return KINDS[name].make(s, rate, manifolds, order)


def keeps_buffers(name: str, settings: Settings) -> bool:
    """Whether parameters that move with these settings leave a state behind."""
    kind = KINDS[name]
    return bool(kind.buffers) and not (set(kind.buffers) == {"momentum_buffer"} and not settings["momentum"])


def plain(value: Any) -> Any:
    """A zero-dimensional array as a Python number, so that it promotes nothing."""
    if isinstance(value, tuple | list):
        return tuple(plain(x) for x in value)
    return value.item() if isinstance(value, np.ndarray | np.generic | jax.Array) else value
