"""What a parameter group of a torch or geoopt optimizer means: its class, its transformation, its buffers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from port_jax.manifolds.euclidean import Euclidean
from port_jax.optim import torch_rules, trees
from port_jax.optim.riemannian_adam import riemannian_adam
from port_jax.optim.riemannian_adamw import riemannian_adamw
from port_jax.optim.riemannian_sgd import riemannian_sgd
from port_jax.optim.scalars import Scalar, ScalarOrSchedule


@dataclass(frozen=True)
class Kind:
    """An optimizer's class: the settings that matter with torch's defaults, and its buffers by the state's fields."""

    defaults: Mapping[str, Any]
    buffers: Mapping[str, str] = field(default_factory=dict)
    riemannian: bool = False


_ADAM = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False}
_SGD = {"lr": 1e-3, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False}
_MOMENTS = {"mu": "exp_avg", "nu": "exp_avg_sq", "nu_max": "max_exp_avg_sq"}
KINDS = {
    "RiemannianAdam": Kind({**_ADAM, "stabilize": None}, _MOMENTS, riemannian=True),
    "RiemannianSGD": Kind({**_SGD, "stabilize": None}, {"momentum": "momentum_buffer"}, riemannian=True),
    "Adam": Kind(_ADAM, _MOMENTS),
    "AdamW": Kind({**_ADAM, "weight_decay": 1e-2}, _MOMENTS),
    "SGD": Kind(_SGD),
    "RMSprop": Kind(
        {"lr": 1e-2, "alpha": 0.99, "eps": 1e-8, "weight_decay": 0.0, "momentum": 0.0, "centered": False},
    ),
    "Adagrad": Kind(
        {"lr": 1e-2, "lr_decay": 0.0, "weight_decay": 0.0, "initial_accumulator_value": 0.0, "eps": 1e-10},
    ),
}
# settings that change how torch computes, not what
_INDIFFERENT = {"params", "param_names", "foreach", "fused", "capturable", "differentiable", "initial_lr", "name"}


def recognised(groups: Sequence[Mapping[str, Any]], name: str | None = None) -> str:
    """The optimizer's class: `name`, or what the groups' settings tell."""
    known = f"known are {', '.join(KINDS)}"
    if name is not None:
        if name not in KINDS:
            raise ValueError(
                f"optimizer {name!r} is not translated; {known}; for another, build an optax transformation"
            )
        return name
    keys = set(groups[0])
    geoopt = "stabilize" in keys
    if {"betas", "eps", "amsgrad", "weight_decay"} <= keys:
        if geoopt:
            return "RiemannianAdam"
        if "decoupled_weight_decay" in keys:
            return "AdamW" if groups[0]["decoupled_weight_decay"] else "Adam"
        raise ValueError(
            "these settings are those of Adam and of AdamW in files of older torch: say optimizer='Adam' or 'AdamW'"
        )
    if {"momentum", "dampening", "nesterov"} <= keys:
        return "RiemannianSGD" if geoopt else "SGD"
    if {"alpha", "centered"} <= keys:
        return "RMSprop"
    if {"lr_decay", "initial_accumulator_value"} <= keys:
        return "Adagrad"
    raise ValueError(
        f"an optimizer with the settings {sorted(keys - {'params'})} is not recognised; {known}: say optimizer="
    )


def settled(name: str, group: Mapping[str, Any], strict: bool) -> dict[str, Any]:
    """The settings of a group, torch's defaults where absent; `strict` refuses what the class does not have."""
    defaults = KINDS[name].defaults
    ours = {"maximize": False, **defaults}
    if strict and (unknown := group.keys() - ours.keys() - _INDIFFERENT):
        raise ValueError(f"{name} has no setting {', '.join(sorted(unknown))}; it has {', '.join(ours)}")
    if name in ("Adam", "AdamW") and group.get("decoupled_weight_decay", name == "AdamW") != (name == "AdamW"):
        raise ValueError(
            f"decoupled_weight_decay is {group['decoupled_weight_decay']} in a group of {name}; give the other class"
        )
    return {key: _plain(group.get(key, default)) for key, default in ours.items()}


def build(
    name: str,
    settings: Mapping[str, Any],
    rate: ScalarOrSchedule,
    momentum: Scalar | None,
    manifolds: trees.Manifolds,
    order: Sequence[str] | None,
) -> optax.GradientTransformation:
    """The transformation of a group. `momentum`, where given, is the one of this step (OneCycleLR)."""
    s = dict(settings)
    if "betas" in s:
        b1, b2 = s["betas"]
        s["b1"], s["b2"] = b1 if momentum is None else momentum, b2
    elif "momentum" in s and momentum is not None:
        s["momentum"] = momentum
    adam = ("b1", "b2", "eps", "weight_decay", "amsgrad")
    given = {
        "RiemannianAdam": (*adam, "stabilize"),
        "RiemannianSGD": ("momentum", "dampening", "weight_decay", "nesterov", "stabilize"),
        "Adam": adam,
        "AdamW": adam,
    }.get(name, tuple(KINDS[name].defaults))
    arguments = {key: s[key] for key in given if key != "lr"}
    if name == "RiemannianAdam":
        return riemannian_adam(rate, **arguments, manifolds=manifolds, order=order)
    if name == "RiemannianSGD":
        return riemannian_sgd(rate, **arguments, manifolds=manifolds, order=order)
    make = {
        "Adam": lambda *a, **k: riemannian_adam(*a, **k, manifolds=Euclidean()),
        "AdamW": lambda *a, **k: riemannian_adamw(*a, **k, manifolds=Euclidean()),
        "SGD": torch_rules.sgd,
        "RMSprop": torch_rules.rmsprop,
        "Adagrad": torch_rules.adagrad,
    }[name]
    inner = make(rate, **arguments)
    return _ascending(inner) if s["maximize"] else inner


def resumed(
    name: str, blank: Any, group: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], paths: Sequence[str]
) -> Any:
    """The state of a group: `blank`, as its transformation begins, with the numbers of the group's entries.

    entries, paths: torch's state of each parameter, {} where there is none, and the parameter's path, in the order of
    the flattened parameters. Raises ValueError for a buffer that does not fit, one that is missing, one left over.
    """
    kept = (
        blank.buffers
        if isinstance(blank, torch_rules.TorchState)
        else {key: getattr(blank, key) for key in KINDS[name].buffers if getattr(blank, key) is not None}
    )
    names = {key: KINDS[name].buffers.get(key, key) for key in kept}
    for entry, path in zip(entries, paths, strict=True):
        odd = [key for key in entry if key not in (*names.values(), "step") and entry[key] is not None]
        if odd:
            raise ValueError(f"the state of {path} holds {', '.join(odd)}, which {name} with these settings has not")
    filled = {}
    for key, tree in kept.items():
        leaves, structure = jax.tree.flatten(tree)
        filled[key] = structure.unflatten(
            [_fitted(e, names[key], leaf, p) for e, leaf, p in zip(entries, leaves, paths, strict=True)]
        )
    counts = [_count(name, entry, group, path, bool(kept)) for entry, path in zip(entries, paths, strict=True)]
    structure = jax.tree.structure(blank.count)
    step = int(_plain(group.get("step", 0))) or max(counts, default=0)
    state = blank._replace(
        count=structure.unflatten([jnp.asarray(n, jnp.int32) for n in counts]), step=jnp.asarray(step, jnp.int32)
    )
    return state._replace(buffers=filled) if isinstance(blank, torch_rules.TorchState) else state._replace(**filled)


def _count(name: str, entry: Mapping[str, Any], group: Mapping[str, Any], path: str, buffered: bool) -> int:
    """The gradients a parameter has seen: its own step; else its group's, as in geoopt before 0.5.1 and its SGD."""
    own = int(_plain(entry.get("step", 0)))
    if own or not (entry or name == "RiemannianSGD"):
        return own
    if name == "SGD":
        return 1  # torch's SGD counts nothing; what matters is that the momentum has begun
    if name == "RiemannianSGD" and buffered and not entry:
        return 0
    if "step" in entry and int(_plain(group.get("step", 0))):
        raise ValueError(
            f"the state of {path} counts 0 steps and its group {group['step']}: geoopt until 0.3.1 counted twice a "
            "parameter; weights.load converts such files"
        )
    if "step" in entry:
        return own
    if "step" not in group:
        raise ValueError(f"the state of {path} has no step, and neither has its group: no bias correction follows")
    return int(_plain(group["step"]))


def _fitted(entry: Mapping[str, Any], name: str, leaf: Array, path: str) -> Array:
    """A buffer in the shape and type of `leaf`; a second moment that repeats one number a point is that number."""
    value = entry.get(name)
    if value is None:
        if entry.keys() - {"step"}:
            raise ValueError(f"the state of {path} has {', '.join(sorted(entry))} but no {name}")
        return leaf
    value = np.asarray(value)
    if name.endswith("exp_avg_sq") and value.ndim == leaf.ndim and value.shape != leaf.shape:
        first = value[tuple(slice(0, 1) if n == 1 else slice(None) for n in leaf.shape)]
        # torch's vector and scalar lanes round differently, and the moment remembers some ten steps
        if not np.allclose(first, value, rtol=100 * np.finfo(value.dtype).eps, atol=0, equal_nan=True):
            raise ValueError(
                f"{name} of {path} differs along a point, where geoopt keeps one number: another optimizer's state, or "
                "the parameter is on Euclidean()"
            )
        value = first
    if value.shape != leaf.shape:
        raise ValueError(
            f"{name} of {path} has shape {value.shape}, the parameter needs {leaf.shape}: wrong names, or a layout to "
            "change before (the converter does)"
        )
    return jnp.asarray(value, leaf.dtype)


def _ascending(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return inner.update(jax.tree.map(jnp.negative, updates), state, params)

    return optax.GradientTransformation(inner.init, update)


def _plain(value: Any) -> Any:
    """A zero-dimensional array as a Python number, so that it promotes nothing."""
    if isinstance(value, tuple | list):
        return tuple(_plain(x) for x in value)
    return value.item() if isinstance(value, np.ndarray | np.generic | jax.Array) else value
