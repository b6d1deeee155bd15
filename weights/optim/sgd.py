"""torch.optim.SGD -> optax: decayed weights, a trace that starts with the first gradient, the learning rate."""

from __future__ import annotations

from typing import Any

from weights.optim.riemannian_sgd import keeps_momentum, without_momentum
from weights.optim.table import Group, OptimizerTable, Trees, number


def build(group: Group, manifolds: Any, order: Any) -> Any:
    """d = g + weight_decay p; b = momentum b + d, from b = 0; p - lr b, or p - lr (d + momentum b) with nesterov."""
    import optax

    trace = optax.trace(group["momentum"], bool(group["nesterov"])) if keeps_momentum(group) else optax.identity()
    return optax.chain(
        optax.add_decayed_weights(number(group, "weight_decay")), trace, optax.scale(-number(group, "lr"))
    )


def pack(step: Any, count: Any, trees: Trees) -> Any:
    import optax

    momentum = trees.get("momentum")
    return (
        optax.EmptyState(),
        optax.EmptyState() if momentum is None else optax.TraceState(momentum),
        optax.EmptyState(),
    )


def unpack(state: Any) -> tuple[Any, Any, Trees]:
    return None, None, {"momentum": getattr(state[1], "trace", None)}


def unsupported(group: Group) -> str | None:
    if group.get("maximize"):
        return "maximize=True"
    return f"dampening={group['dampening']}" if group.get("momentum") and group.get("dampening") else None


SGD = OptimizerTable(
    name="SGD",
    aliases=("sgd", "torch.optim.sgd"),
    recognise=lambda group: "momentum" in group and "stabilize" not in group,
    moments={"momentum_buffer": "momentum"},
    build=build,
    pack=pack,
    unpack=unpack,
    counts="none",
    active=keeps_momentum,
    optional=without_momentum,
    unsupported=unsupported,
)
