"""torch.optim.Adam and AdamW -> `port_jax.optim.riemannian_adam` on flat space, which is the same formula."""

from __future__ import annotations

from typing import Any

from weights.optim import riemannian_adam
from weights.optim.riemannian_adam import MOMENTS, without_maximum
from weights.optim.table import Group, OptimizerTable, Trees, number


def build(group: Group, manifolds: Any, order: Any) -> Any:
    """Adam with L2 regularisation."""
    return riemannian_adam.build({**group, "stabilize": None}, manifolds, None)


def build_decoupled(group: Group, manifolds: Any, order: Any) -> Any:
    """AdamW (Loshchilov and Hutter, ICLR 2019): p - lr weight_decay p, then Adam's step."""
    import jax
    import optax

    rate = number(group, "lr") * number(group, "weight_decay")

    def shrink(updates: Any, params: Any) -> Any:
        return jax.tree.map(lambda u, p: u - rate * p, updates, params)

    return optax.chain(build({**group, "weight_decay": 0.0}, manifolds, order), optax.stateless(shrink))


def pack_chain(step: Any, count: Any, trees: Trees) -> Any:
    import optax

    return riemannian_adam.pack(step, count, trees), optax.EmptyState()


def unpack_chain(state: Any) -> tuple[Any, Any, Trees]:
    return riemannian_adam.unpack(state[0])


def unsupported(group: Group) -> str | None:
    return "maximize=True" if group.get("maximize") else None


ADAM = OptimizerTable(
    name="Adam",
    aliases=("adam", "torch.optim.adam"),
    recognise=lambda group: "betas" in group and "stabilize" not in group and not group.get("decoupled_weight_decay"),
    moments=MOMENTS,
    build=build,
    pack=riemannian_adam.pack,
    unpack=riemannian_adam.unpack,
    optional=without_maximum,
    unsupported=unsupported,
)

ADAMW = OptimizerTable(
    name="AdamW",
    aliases=("adamw", "torch.optim.adamw"),
    recognise=lambda group: "betas" in group and "stabilize" not in group and bool(group.get("decoupled_weight_decay")),
    moments=MOMENTS,
    build=build_decoupled,
    pack=pack_chain,
    unpack=unpack_chain,
    optional=without_maximum,
    unsupported=unsupported,
)
