"""Torch files for these tests, and deep equality of what torch.load gives back."""

from __future__ import annotations

import sys

import geoopt
import numpy as np
import torch

from parity_tests import draws
from weights import cli


class Net(torch.nn.Module):
    """A table of points, a linear map, a shared ball, and a buffer."""

    def __init__(self, c: float = 0.7, dtype: torch.dtype = torch.float32):
        super().__init__()
        draws.seed_torch(0)
        self.ball = geoopt.PoincareBall(c=c)
        self.emb = geoopt.ManifoldParameter(0.2 * torch.randn(6, 3), manifold=self.ball)
        self.lin = torch.nn.Linear(3, 2)
        self.register_buffer("seen", torch.arange(3))
        self.to(dtype)

    def loss(self, target: torch.Tensor) -> torch.Tensor:
        return ((self.lin(self.ball.logmap0(self.emb)) - target) ** 2).sum()


class Call:
    """Pickles as a call of a function, as what wants to do harm does."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def trained(optimizer=None, steps: int = 3, dtype: torch.dtype = torch.float32):
    """A Net and its optimizer after some steps."""
    net = Net(dtype=dtype)
    opt = (optimizer or (lambda p: geoopt.optim.RiemannianAdam(p, lr=1e-2)))(net.parameters())
    for step in range(steps):
        opt.zero_grad()
        net.loss(torch.randn(6, 2, generator=draws.generator(step)).to(dtype)).backward()
        opt.step()
    return net, opt


def assert_deep_equal(a, b, at: str = "file") -> None:
    """Types, keys and their order, scalars, and of tensors type, shape, stride, requires_grad and every bit."""
    assert type(a) is type(b), f"{at}: {type(a)} {type(b)}"
    if isinstance(a, torch.Tensor):
        assert (a.dtype, a.shape, a.stride(), a.requires_grad) == (b.dtype, b.shape, b.stride(), b.requires_grad), at
        assert (
            a.detach().contiguous().reshape(-1).view(torch.uint8).equal(b.detach().contiguous().reshape(-1).view(torch.uint8))
            if a.dim()
            else a.equal(b)
        ), at
        if hasattr(a, "manifold"):
            assert_deep_equal(a.manifold, b.manifold, f"{at}.manifold")
    elif isinstance(a, torch.nn.Module):
        assert_deep_equal(a.state_dict(), b.state_dict(), at)
    elif isinstance(a, dict):
        assert list(a) == list(b), f"{at}: {list(a)} {list(b)}"
        assert getattr(a, "_metadata", None) == getattr(b, "_metadata", None), at
        for key in a:
            assert_deep_equal(a[key], b[key], f"{at}[{key!r}]")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), at
        for i, (x, y) in enumerate(zip(a, b)):
            assert_deep_equal(x, y, f"{at}[{i}]")
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype, at
        assert np.array_equal(a, b), at
    else:
        assert a == b or a != a, f"{at}: {a} {b}"


def ties(tree) -> list[list[str]]:
    """Groups of keys of a state_dict that share memory."""
    groups: dict[int, list[str]] = {}
    for key, tensor in tree.items():
        groups.setdefault(tensor.data_ptr(), []).append(key)
    return [g for g in groups.values() if len(g) > 1]


def run(monkeypatch, capsys, *args: str) -> tuple[int, str, str]:
    """hyperport in this process: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["hyperport", *map(str, args)])
    code = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    out = capsys.readouterr()
    return code, out.out, out.err
