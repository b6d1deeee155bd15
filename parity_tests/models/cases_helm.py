"""Small decoders of HELM-D in general position, their configurations, and what is compared of both sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch

from parity_tests import draws
from parity_tests.models.conversion import randomised
from reference_torch.models.helm import CLIP, HELM, optimizers_of
from weights.models.helm import outputs

VOCABULARY, CONTEXT, EPS = 7, 5, 1e-4
"""With Adam's 1e-8 the bias of attention, whose derivative is rounding, would take steps of that."""
APART = ("token_embed.embedding", "token_embed.add_pos.scale")
"""The points, and one of the numbers that nothing uses."""
CONFIGS: dict[str, dict[str, Any]] = {
    "one block": {"arch": "L1_W6_A2", "c": [1.3, 0.8, 1.7]},
    "two blocks": {"arch": "L2_W10_A2", "c": 0.7},
    "one head": {"arch": "L1_W5_A1", "c": 1.0},
    "three heads": {"arch": "L1_W9_A3", "c": [0.6, 2.1, 0.9]},
}


def config_of(name: str) -> dict[str, Any]:
    """What a program writes beside the file."""
    return {**CONFIGS[name], "vocab_size": VOCABULARY, "context_length": CONTEXT, "lr": 0.01}


def module_of(name: str = "one block", scale: float = 1.0) -> HELM:
    """The module in float64, whose points lie at different distances, and no parameter of which is 0."""
    draws.seed_torch(4)
    config = config_of(name)
    module = HELM(config["arch"], VOCABULARY, CONTEXT, config["c"])
    fixed = [key for key, p in module.named_parameters() if not p.requires_grad]
    randomised(module, scale, 0.15, keep=fixed)
    points = module.token_embed.embedding
    with torch.no_grad():
        points[:, 1:] *= 0.4 + torch.rand(VOCABULARY, 1, dtype=points.dtype)
        points.copy_(module.manifold_in.projx(points))
    return module


def case(name: str = "one block") -> tuple[HELM, dict[str, Any]]:
    """A module and its configuration."""
    return module_of(name), config_of(name)


def tokens() -> np.ndarray:
    """[3, 5], in which every token is, and some are twice in a row."""
    rng = draws.rng(5)
    return np.concatenate([rng.permutation(VOCABULARY), rng.integers(0, VOCABULARY, 8)]).reshape(3, CONTEXT).astype(np.int32)


def theirs(module: Any, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Points before the first block and after the last, and logits."""
    given = {"tokens": torch.as_tensor(tokens()).long()}
    return tuple(outputs({}, lambda method, *args: getattr(module, method)(*args), given).values())


def ours(model: Any, variables: Any, dtype: Any) -> tuple[Any, ...]:
    """The same."""
    given = {"tokens": jnp.asarray(tokens())}
    return tuple(outputs({}, lambda method, *args: model.apply(variables, *args, method=method), given).values())


class Both:
    """The two optimizers of the script as one, whose state is a list."""

    def __init__(self, module: HELM, lr: float = 0.01):
        self.parts = optimizers_of(module, lr, weight_decay=0.1, eps=EPS)

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad()

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def state_dict(self) -> list[dict]:
        return [part.state_dict() for part in self.parts]


class Run:
    """A run of the script: the cross entropy of next tokens, gradients that are cut together, and a scheduler for each optimizer."""

    def __init__(self, name: str = "one block", dtype: torch.dtype = torch.float64, rates: bool = True):
        self.module = module_of(name).to(dtype)
        self.optimizers, self.steps = Both(self.module), 0
        self.schedulers = [torch.optim.lr_scheduler.CosineAnnealingLR(part, 20) for part in self.optimizers.parts] if rates else []

    def go(self, steps: int) -> list[float]:
        """The loss before each step."""
        given, found = torch.as_tensor(tokens()).long(), []
        for _ in range(steps):
            self.optimizers.zero_grad()
            loss = torch.nn.functional.cross_entropy(self.module(given)[:, :-1].flatten(0, 1), given[:, 1:].flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), CLIP)
            self.optimizers.step()
            for scheduler in self.schedulers:
                scheduler.step()
            found.append(float(loss.detach()))
            self.steps += 1
        return found

    def save(self, path: Path) -> None:
        """As the script does."""
        more = {"scheduler_state_dict": [each.state_dict() for each in self.schedulers]} if self.schedulers else {}
        sections = {"model_state_dict": self.module.state_dict(), "optimizer_state_dict": self.optimizers.state_dict(), **more}
        torch.save({"step": self.steps, **sections}, path)
