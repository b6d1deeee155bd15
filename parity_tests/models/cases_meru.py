"""Small models of MERU, HyCoCLIP and CLIP in general position, with the authors' configuration, and what is compared of both sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch

from parity_tests import draws
from parity_tests.models.conversion import randomised
from reference_torch.models.meru import MERU, optimizer_of
from weights.models.meru import outputs

ROWS = 4
BASE: dict[str, Any] = {
    "image_size": 16, "patch_size": 8, "width": 12, "depth": 2, "heads": 3, "embed_dim": 5, "batch": ROWS, "lr": 0.01, "curv_init": 0.7,
    "learn_curv": True, "entail_weight": 0.3, "textual": {"arch": "L2_W8_A2", "vocab_size": 11, "context_length": 7}, "class": "MERU",
}  # fmt: skip
FLAT = {key: value for key, value in BASE.items() if key not in ("curv_init", "learn_curv", "entail_weight")}
CONFIGS: dict[str, dict[str, Any]] = {
    "MERU": BASE,
    "HyCoCLIP": {**BASE, "class": "HyCoCLIP", "depth": 1, "textual": {**BASE["textual"], "arch": "L1_W8_A2"}},
    "CLIP": {**FLAT, "class": "CLIP"},
    "MERU, c fixed": {**BASE, "learn_curv": False, "depth": 1, "patch_size": 4},
}


def settings_of(config: dict[str, Any]) -> dict[str, Any]:
    """The names of the reference."""
    layers, width, heads = (int(part[1:]) for part in config["textual"]["arch"].split("_"))
    sizes = {"textual_layers": layers, "textual_width": width, "textual_heads": heads}
    return {**config, **sizes, **{name: config["textual"][name] for name in ("vocab_size", "context_length")}}


def module_of(name: str = "MERU", **more: Any) -> MERU:
    """A module in float64, whose numbers are within their bounds."""
    draws.seed_torch(3)
    module = randomised(MERU(settings_of({**CONFIGS[name], **more})), 1.0, 0.15, keep=("visual.pos_embed", "logit_scale"))
    with torch.no_grad():
        module.pixel_mean.add_(0.03)  # pyright: ignore[reportCallIssue]
        for key, value in (("curv", 0.3), ("visual_alpha", -0.4), ("textual_alpha", -0.7)):
            if key in dict(module.named_parameters()):
                getattr(module, key).fill_(value)
    return module  # pyright: ignore[reportReturnType]


def case(name: str = "MERU") -> tuple[MERU, dict[str, Any]]:
    """A module and its configuration."""
    return module_of(name), CONFIGS[name]


def inputs(kind: str, size: int = 16, rows: int = ROWS, length: int = 7, last: int = 10, seed: int = 5) -> dict[str, np.ndarray]:
    """Images, texts of lengths 2 and more that the largest id ends, and boxes for HyCoCLIP."""
    rng = draws.rng(seed)
    found: dict[str, np.ndarray] = {}
    for box in ("", "box_")[: 1 + (kind == "HyCoCLIP")]:
        tokens = np.zeros((rows, length), np.int32)
        for row, text in enumerate(tokens):
            end = 2 + (row + len(box)) % (length - 1)
            text[:end] = [*rng.integers(1, last, end - 1), last]
        found |= {f"{box}images": rng.random((rows, 3, size, size)), f"{box}tokens": tokens}
    return found


def theirs(module: Any, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """All that the probe has: features, what the space says of them, losses."""
    given = {k: torch.as_tensor(v, dtype=dtype if v.dtype.kind == "f" else torch.long) for k, v in inputs(module.of["class"]).items()}
    return tuple(outputs(module.of, lambda method, *args: getattr(module, method)(*args), given).values())


def ours(model: Any, variables: Any, dtype: Any) -> tuple[Any, ...]:
    """The same."""
    given = {k: jnp.asarray(v, dtype if v.dtype.kind == "f" else None) for k, v in inputs(model.kind).items()}
    return tuple(outputs({"class": model.kind}, lambda method, *args: model.apply(variables, *args, method=method), given).values())


class Run:
    """A run of the original: its loss on one batch, its optimizer and its scheduler, saved as its script does."""

    def __init__(self, name: str, dtype: torch.dtype = torch.float64, **numbers: float):
        self.module, self.kind, self.steps = module_of(name).to(dtype), CONFIGS[name]["class"], 0
        self.optimizer, self.scheduler = optimizer_of(self.module, 0.02, total_steps=20, warmup_steps=3)
        with torch.no_grad():
            for key, value in numbers.items():
                getattr(self.module, key).fill_(value)

    def go(self, steps: int) -> list[float]:
        """The loss before each step."""
        dtype = self.module.logit_scale.dtype
        given = [torch.as_tensor(v).to(dtype if v.dtype.kind == "f" else torch.long) for v in inputs(self.kind).values()]
        found = []
        for _ in range(steps):
            self.optimizer.zero_grad()
            loss = self.module(*given)["loss"]
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            found.append(float(loss.detach()))
            self.steps += 1
        return found

    def save(self, path: Path) -> None:
        sections = {"model": self.module, "optimizer": self.optimizer, "scheduler": self.scheduler}
        torch.save({**{name: part.state_dict() for name, part in sections.items()}, "scaler": {}, "iteration": self.steps}, path)
