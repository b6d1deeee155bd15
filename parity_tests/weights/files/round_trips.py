"""Files that go there and back: a small network with its optimizer, a table, and what stands in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import weights
from parity_tests import draws
from parity_tests.weights.helpers import assert_deep_equal


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        draws.seed_torch(0)
        self.one, self.two = torch.nn.Linear(3, 2), torch.nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.two(self.one(x).tanh())


def adam(net: torch.nn.Module, *parts: str) -> Any:
    """The state of Adam over the parts' parameters after two steps."""
    modules = [net.get_submodule(part) for part in parts] or [net]
    optimizer = torch.optim.Adam([p for module in modules for p in module.parameters()], lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        net(torch.ones(4, 3)).square().sum().backward()
        optimizer.step()
    return optimizer.state_dict()


def back_and_forth(path: Path, **options: Any) -> weights.Checkpoint:
    """The tree of a file; what export and a converted folder write is the file."""
    ckpt = weights.load(path, arch="tree", **options)
    ckpt.save(path.parent / "c")
    for form in (ckpt, path.parent / "c"):
        weights.export(form, path.parent / "back.pth", overwrite=True)
        assert_deep_equal(torch.load(path), torch.load(path.parent / "back.pth"))
    return ckpt


def saved(path: Path, rows: int = 3) -> Path:
    torch.save({"w": torch.arange(2.0 * rows).reshape(rows, 2)}, path)
    return path


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
