"""Embedding tables of torch do more than look rows up: what the inputs do not show of it is listed, what they show is named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import weights
from parity_tests import draws

SEEN, UNSEEN = np.array([[3, 0, 4], [3, 1, 0]]), np.array([[3, 1, 4], [2, 5, 6]])


class Table(torch.nn.Module):
    """Rows of a table, through a function that bends them."""

    def __init__(self, **settings: Any):
        super().__init__()
        self.embed = torch.nn.Embedding(7, 3, **settings)
        torch.nn.init.normal_(self.embed.weight)  # the row of the padding, too, so that nothing but its gradient tells it

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return torch.sin(self.embed(ids))


class Flax(nn.Module):
    """The same by flax's table, without or with a row that is not trained."""

    stopped: bool = False

    @nn.compact
    def __call__(self, ids: Any) -> Any:
        rows = nn.Embed(7, 3, name="embed")(ids)
        return jnp.sin(jnp.where((ids == 0)[..., None], jax.lax.stop_gradient(rows), rows) if self.stopped else rows)


PORT = weights.Port(Flax(), inputs=SEEN)
# What the table does: the level at which it is compared, what is listed where the inputs do not show it, and what a difference is called.
DONE = {
    "padding_idx": ({"padding_idx": 0}, "grad", "gradient of row 0 of embed.weight (padding_idx", "the gradient of row 0 of embed.weight"),
    "scale_grad_by_freq": ({"scale_grad_by_freq": True}, "grad", "embed.weight (scale_grad_by_freq", "how often a row is looked up"),
    "max_norm": ({"max_norm": 1.2}, "forward", "longer rows of embed.weight (max_norm=1.2", "max_norm=1.2 of embed.weight"),
}


@pytest.mark.parametrize("name", DONE)
def test_what_a_table_does_is_listed_or_named(name: str):
    settings, level, listed, kind = DONE[name]
    draws.seed_torch(7)
    module = Table(**settings)
    quick: dict[str, Any] = {"level": level, "types": ("float64",)}
    with torch.no_grad():
        module.embed.weight[UNSEEN.ravel()] *= 0.1 if name == "max_norm" else 1.0
        module.embed.weight[0] = 2.0
    found = weights.parity(replace(PORT, inputs=UNSEEN), module, **quick)
    assert found.ok, found
    assert listed in str(found)
    wrong = weights.parity(PORT, module, **quick)
    assert not wrong.ok
    assert wrong.cause is not None
    assert kind in wrong.cause.kind
    assert listed not in str(wrong)


@pytest.mark.slow
def test_a_row_of_padding_that_the_port_stops():
    """The remedy is right; gradients that are sparse in torch are compared, and steps where neither side has manifolds or an optimizer."""
    draws.seed_torch(8)
    module = Table(padding_idx=0, sparse=True)
    found = weights.parity(replace(PORT, model=Flax(stopped=True)), module, types=("float64",))
    assert found.ok, found
    assert "sparse gradients of embed.weight" in str(found)
    assert "padding" not in str(found)
