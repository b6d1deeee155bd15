"""geoopt.optim.RiemannianAdam, and the copies of it in other repositories -> `port_jax.optim.riemannian_adam`."""

from __future__ import annotations

from typing import Any

from weights.optim.table import Group, OptimizerTable, Trees, number


def build(group: Group, manifolds: Any, order: Any) -> Any:
    """The settings of one group, by their torch names."""
    from port_jax.optim import riemannian_adam

    b1, b2 = group["betas"]
    return riemannian_adam(
        number(group, "lr"), b1, b2, group["eps"], number(group, "weight_decay"), bool(group["amsgrad"]), group.get("stabilize"),
        manifolds=manifolds, order=order,
    )  # fmt: skip


def pack(step: Any, count: Any, trees: Trees) -> Any:
    from port_jax.optim.riemannian_adam import RiemannianAdamState

    return RiemannianAdamState(step, count, trees["mu"], trees["nu"], trees.get("nu_max"))


def unpack(state: Any) -> tuple[Any, Any, Trees]:
    return state.step, state.count, {"mu": state.mu, "nu": state.nu, "nu_max": state.nu_max}


def without_maximum(group: Group) -> frozenset[str]:
    return frozenset() if group.get("amsgrad") else frozenset({"max_exp_avg_sq"})


MOMENTS = {"exp_avg": "mu", "exp_avg_sq": "nu", "max_exp_avg_sq": "nu_max"}

RIEMANNIAN_ADAM = OptimizerTable(
    name="RiemannianAdam",
    aliases=("radam", "riemannianadam", "riemannian_adam"),
    recognise=lambda group: {"betas", "stabilize"} <= set(group),
    moments=MOMENTS,
    build=build,
    pack=pack,
    unpack=unpack,
    riemannian=True,
    optional=without_maximum,
)
