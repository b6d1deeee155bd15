"""The table of options that the optimizers are compared over: every pair of values of two options occurs in a row.

Each row runs on every manifold that the optimizer has there, so that each option meets each manifold too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest

from parity_tests import slow
from port_jax.optim import (
    riemannian_adam,
    riemannian_adamw,
    riemannian_sgd,
    sparse_riemannian_adam,
    sparse_riemannian_sgd,
)
from reference_torch.optim.riemannian_adam import RiemannianAdam
from reference_torch.optim.riemannian_adamw import RiemannianAdamW
from reference_torch.optim.riemannian_sgd import RiemannianSGD
from reference_torch.optim.sparse_riemannian_adam import SparseRiemannianAdam
from reference_torch.optim.sparse_riemannian_sgd import SparseRiemannianSGD


class Row(NamedTuple):
    """An optimizer and its options by their names in torch; what is not named has its default."""

    optimizer: str
    options: Mapping[str, Any]

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.options.items())


class Kind(NamedTuple):
    """theirs(parameters, options), ours(options, manifolds); moments: torch's key -> the field of our state.

    values: the options that vary and the values each takes, the default first.
    """

    theirs: Callable[[Any, Mapping[str, Any]], Any]
    ours: Callable[[Mapping[str, Any], Any], Any]
    moments: Mapping[str, str]
    values: Mapping[str, tuple]


def of_geoopt(optimizer: type) -> Callable[[Any, Mapping[str, Any]], Any]:
    def make(parameters: Any, options: Mapping[str, Any]) -> Any:
        # SparseRiemannianAdam takes stabilize in a group only.
        return optimizer([{"params": parameters, "stabilize": options.get("stabilize")}], **_without(options, "stabilize"))

    return make


def of_port(make: Callable[..., Any]) -> Callable[[Mapping[str, Any], Any], Any]:
    def made(options: Mapping[str, Any], manifolds: Any) -> Any:
        betas = dict(zip(("b1", "b2"), options.get("betas", ())))
        return make(options["lr"], **betas, **_without(options, "lr", "betas"), manifolds=manifolds)

    return made


def _without(options: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {k: v for k, v in options.items() if k not in names}


ADAM = {
    "lr": (1e-2, 3e-2),
    "betas": ((0.9, 0.999), (0.8, 0.95)),
    "eps": (1e-8, 1e-3),
    "weight_decay": (0.0, 0.1),
    "amsgrad": (False, True),
    "stabilize": (None, 3),
}
SGD = {
    "lr": (5e-4, 1e-3),
    "momentum": (0.0, 0.9),
    "dampening": (0.0, 0.3),
    "weight_decay": (0.0, 0.1),
    "nesterov": (False, True),
    "stabilize": (None, 4),
}
ADAM_STATE = {"exp_avg": "mu", "exp_avg_sq": "nu", "max_exp_avg_sq": "nu_max"}
SGD_STATE = {"momentum_buffer": "momentum"}

KINDS = {
    "Adam": Kind(of_geoopt(RiemannianAdam), of_port(riemannian_adam), ADAM_STATE, ADAM),
    "SGD": Kind(of_geoopt(RiemannianSGD), of_port(riemannian_sgd), SGD_STATE, SGD),
    "SparseAdam": Kind(
        of_geoopt(SparseRiemannianAdam),
        of_port(sparse_riemannian_adam),
        ADAM_STATE,
        _without(ADAM, "weight_decay"),
    ),
    "SparseSGD": Kind(
        of_geoopt(SparseRiemannianSGD),
        of_port(sparse_riemannian_sgd),
        SGD_STATE,
        _without(SGD, "weight_decay"),
    ),
    "AdamW": Kind(of_geoopt(RiemannianAdamW), of_port(riemannian_adamw), ADAM_STATE, {**ADAM, "weight_decay": (1e-2, 0.3)}),
}

IMPOSSIBLE = (
    {"nesterov": True, "momentum": 0.0},  # refused
    {"nesterov": True, "dampening": 0.3},  # refused
    {"momentum": 0.0, "dampening": 0.3},  # dampening of nothing
)
"""Pairs that no row can hold."""

ROWS = (
    Row("Adam", {"lr": 3e-2}),
    Row("Adam", {"lr": 1e-2, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    Row("Adam", {"lr": 3e-2, "betas": (0.8, 0.95), "weight_decay": 0.1, "amsgrad": True, "stabilize": 3}),
    Row("Adam", {"lr": 1e-2, "amsgrad": True}),
    Row("Adam", {"lr": 3e-2, "eps": 1e-3, "amsgrad": True}),
    Row("Adam", {"lr": 1e-2, "betas": (0.8, 0.95), "stabilize": 3}),
    Row("Adam", {"lr": 1e-2, "eps": 1e-3, "stabilize": 3}),
    Row("Adam", {"lr": 3e-2, "weight_decay": 0.1}),
    Row("SGD", {"lr": 1e-3}),
    Row("SGD", {"lr": 5e-4, "weight_decay": 0.1, "stabilize": 4}),
    Row("SGD", {"lr": 5e-4, "momentum": 0.9}),
    Row("SGD", {"lr": 1e-3, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    Row("SGD", {"lr": 5e-4, "momentum": 0.9, "dampening": 0.3, "stabilize": 4}),
    Row("SGD", {"lr": 1e-3, "momentum": 0.9, "nesterov": True, "stabilize": 4}),
    Row("SGD", {"lr": 5e-4, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    Row("SparseAdam", {"lr": 3e-2}),
    Row("SparseAdam", {"lr": 1e-2, "betas": (0.8, 0.95), "eps": 1e-3}),
    Row("SparseAdam", {"lr": 3e-2, "betas": (0.8, 0.95), "amsgrad": True, "stabilize": 3}),
    Row("SparseAdam", {"lr": 1e-2, "amsgrad": True}),
    Row("SparseAdam", {"lr": 3e-2, "eps": 1e-3, "amsgrad": True}),
    Row("SparseAdam", {"lr": 1e-2, "eps": 1e-3, "stabilize": 3}),
    Row("SparseSGD", {"lr": 1e-3}),
    Row("SparseSGD", {"lr": 5e-4, "stabilize": 4}),
    Row("SparseSGD", {"lr": 5e-4, "momentum": 0.9}),
    Row("SparseSGD", {"lr": 1e-3, "momentum": 0.9, "dampening": 0.3}),
    Row("SparseSGD", {"lr": 5e-4, "momentum": 0.9, "dampening": 0.3, "stabilize": 4}),
    Row("SparseSGD", {"lr": 1e-3, "momentum": 0.9, "nesterov": True, "stabilize": 4}),
    Row("SparseSGD", {"lr": 5e-4, "momentum": 0.9, "nesterov": True}),
    Row("AdamW", {"lr": 3e-2, "weight_decay": 1e-2}),
    Row("AdamW", {"lr": 1e-2, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.3}),
    Row("AdamW", {"lr": 3e-2, "betas": (0.8, 0.95), "weight_decay": 0.3, "amsgrad": True, "stabilize": 3}),
    Row("AdamW", {"lr": 1e-2, "weight_decay": 1e-2, "amsgrad": True}),
    Row("AdamW", {"lr": 3e-2, "eps": 1e-3, "weight_decay": 1e-2, "amsgrad": True}),
    Row("AdamW", {"lr": 1e-2, "betas": (0.8, 0.95), "weight_decay": 1e-2, "stabilize": 3}),
    Row("AdamW", {"lr": 1e-2, "eps": 1e-3, "weight_decay": 1e-2, "stabilize": 3}),
    Row("AdamW", {"lr": 3e-2, "weight_decay": 0.3}),
)


def values_of(row: Row) -> dict[str, Any]:
    """The value of each option of the row's optimizer."""
    return {name: row.options.get(name, values[0]) for name, values in KINDS[row.optimizer].values.items()}


def rows_of(optimizer: str) -> list[Row]:
    return [row for row in ROWS if row.optimizer == optimizer]


def cases(*optimizers: str, kept: tuple[str, ...]) -> Any:
    """The rows as the parameter `row`; those that are not `kept`, by name, are left to `make test-slow`."""
    rows = [pytest.param(row, id=str(row)) for optimizer in optimizers for row in rows_of(optimizer)]
    if unknown := set(kept) - {row.id for row in rows}:
        raise ValueError(f"{optimizers} have no row {unknown}")
    return pytest.mark.parametrize("row", slow.all_but(lambda row: row.id in kept, rows))


def uncovered() -> list[str]:
    """Pairs of values of two options that occur in no row of their optimizer."""
    missing = []
    for name, kind in KINDS.items():
        rows = [values_of(row) for row in rows_of(name)]
        pairs = [{a: x, b: y} for a, xs in kind.values.items() for b, ys in kind.values.items() for x in xs for y in ys if a < b]
        missing += [f"{name}: {pair}" for pair in pairs if pair not in IMPOSSIBLE and not any(pair.items() <= r.items() for r in rows)]
    return missing
