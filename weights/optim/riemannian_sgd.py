"""geoopt.optim.RiemannianSGD -> `port_jax.optim.riemannian_sgd`."""

from __future__ import annotations

from typing import Any

from weights.optim.table import Group, OptimizerTable, Trees, number


def build(group: Group, manifolds: Any, order: Any) -> Any:
    """The settings of one group, by their torch names."""
    from port_jax.optim import riemannian_sgd

    return riemannian_sgd(
        number(group, "lr"), group["momentum"], group["dampening"], number(group, "weight_decay"), bool(group["nesterov"]),
        group.get("stabilize"), manifolds=manifolds, order=order,
    )  # fmt: skip


def pack(step: Any, count: Any, trees: Trees) -> Any:
    from port_jax.optim.riemannian_sgd import RiemannianSGDState

    return RiemannianSGDState(step, count, trees.get("momentum"))


def unpack(state: Any) -> tuple[Any, Any, Trees]:
    return state.step, state.count, {"momentum": state.momentum}


def keeps_momentum(group: Group) -> bool:
    return bool(group.get("momentum"))


def without_momentum(group: Group) -> frozenset[str]:
    return frozenset() if keeps_momentum(group) else frozenset({"momentum_buffer"})


RIEMANNIAN_SGD = OptimizerTable(
    name="RiemannianSGD",
    aliases=("rsgd", "riemanniansgd", "riemannian_sgd"),
    recognise=lambda group: {"momentum", "stabilize"} <= set(group),
    moments={"momentum_buffer": "momentum"},
    build=build,
    pack=pack,
    unpack=unpack,
    riemannian=True,
    counts="group",
    active=keeps_momentum,
    optional=without_momentum,
)
