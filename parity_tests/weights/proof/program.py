"""A small program in torch as people have one, and the recorder beside it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from parity_tests import draws
from parity_tests.models.graph_models import CLASSES, FEATURES
from parity_tests.models.graph_models import NODES as ROWS
from reference_torch.models.hnn import HNN
from weights.proof.witness import script

CONFIG = {"model": "HNN", "task": "nc", "n_classes": CLASSES, "manifold": "PoincareBall", "c": 1.5, "act": "tanh", "num_layers": 3,
          "feat_dim": FEATURES, "dim": 4, "dropout": 0.3, "bias": 1, "r": 1.7, "t": 0.8}  # fmt: skip


def recorder(folder: Path) -> ModuleType:
    """The script as a person has it: a file of its own."""
    (folder / "record_witness.py").write_text(script())
    spec = importlib.util.spec_from_file_location("record_witness", folder / "record_witness.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Program:
    """A classifier of nodes in training, with weight decay, dropout and a schedule; its checkpoint; and what it records."""

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32, **changes: Any):
        draws.seed_torch(3)
        self.config, self.folder, self.path = {**CONFIG, **changes}, folder, folder / "model.pth"
        self.model = HNN(**{name: value for name, value in self.config.items() if name != "model"}).to(dtype)
        self.x = torch.randn(ROWS, FEATURES, dtype=dtype)
        self.labels = torch.arange(ROWS) % CLASSES
        self.pairs = torch.tensor([[0, 1], [2, 3], [4, 0]])
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01, weight_decay=0.01)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 2, 0.5)
        for _ in range(3):
            self.step()
        sections = {"optimizer": self.optimizer.state_dict(), "scheduler": self.scheduler.state_dict()}
        torch.save({"model": self.model.state_dict(), **sections}, self.path)

    def loss(self, logits: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.nll_loss(logits.log_softmax(-1), self.labels)

    def step(self) -> None:
        self.model.train()
        self.optimizer.zero_grad()
        self.loss(self.model(self.x, None)).backward()
        self.optimizer.step()
        self.scheduler.step()

    def record(self, *, steps: int = 4, **options: Any) -> Path:
        out = self.folder / "witness.npz"
        witness = recorder(self.folder).Witness(
            out, self.model, self.path, x=self.x, graph=torch.eye(ROWS).to_sparse(), pairs=self.pairs, **options
        )
        model = self.model
        witness.outputs(
            loss=lambda out: self.loss(out.logits),
            embeddings=lambda i: model.encode(i.x, None),
            scores=lambda i: model.score(model.encode(i.x, None), i.pairs),
            logits=lambda i: model(i.x, None),
        )
        if steps:
            witness.watch(self.optimizer, steps)
            for _ in range(steps + 1):
                self.step()
        return out
