"""A sparse adjacency of torch as the graph: the embeddings of the same edges in an .npz, in every layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import weights
from parity_tests import draws
from parity_tests.weights.helpers import run
from weights.errors import Refused, Unreadable, Usage

pytestmark = pytest.mark.filterwarnings("ignore:Sparse")
CONFIG = {"model": "HGCN", "task": "lp", "num_layers": 1, "dim": 3, "feat_dim": 4, "manifold": "PoincareBall", "c": 0.7, "act": "relu"}
NODES = 5


class Case:
    """A model of one layer, a graph, its matrix D^-1 (A + I), which is not symmetric, and features with zeros."""

    def __init__(self, folder: Path):
        draws.seed_torch(2)
        torch.save({"encoder.layers.0.linear.weight": torch.randn(3, 4), "encoder.layers.0.linear.bias": torch.randn(3)}, folder / "x.pth")
        self.folder, self.ckpt = folder, weights.load(folder / "x.pth", config=CONFIG)
        self.ones = torch.zeros(NODES, NODES)
        for a, b in ((0, 1), (1, 2), (2, 3), (0, 2)):
            self.ones[a, b] = self.ones[b, a] = 1
        matrix = self.ones + torch.eye(NODES)
        self.matrix = matrix / matrix.sum(1, keepdim=True)
        self.x = torch.randn(NODES, 4) * (torch.rand(NODES, 4) < 0.7)
        row, column = np.nonzero(self.matrix.numpy())
        np.savez(folder / "g.npz", adj_row=row, adj_col=column, adj_val=self.matrix.numpy()[row, column], features=self.x.numpy())
        self.want = self.points("g.npz")

    def points(self, graph: str) -> np.ndarray:
        return weights.embeddings(self.ckpt, graph=str(self.folder / graph)).points

    def save(self, name: str, **tree: Any) -> str:
        torch.save(tree, self.folder / name)
        return name


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("graphs"))


def twice(matrix: torch.Tensor) -> torch.Tensor:
    """COO with each entry in two parts, in another order."""
    coo = matrix.to_sparse()
    parts = torch.cat([0.25 * coo.values(), 0.75 * coo.values().flip(0)])
    return torch.sparse_coo_tensor(torch.cat([coo.indices(), coo.indices().flip(1)], 1), parts, matrix.shape)


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "COO": lambda m: m.to_sparse(),
    "COO, not coalesced": twice,
    "CSR": lambda m: m.to_sparse_csr(),
    "CSC": lambda m: m.to_sparse_csc(),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_the_same_graph(case: Case, layout: str):
    make = LAYOUTS[layout]
    graph = case.save("g.pth", adj=make(case.matrix), features=case.x)
    np.testing.assert_allclose(case.points(graph), case.want, rtol=1e-5, atol=1e-6)
    deeper = case.save("h.pth", model={"w": torch.ones(2)}, data={"A": make(case.matrix), "B": make(case.ones), "x": make(case.x)})
    np.testing.assert_allclose(case.points(f"{deeper}:data.A"), case.want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(case.points(f"{deeper}:data.B"), case.want, rtol=1e-5, atol=1e-6)  # ones are normalised as in training


@pytest.mark.slow  # Python takes the same files above
def test_the_command_line_takes_it_for_pictures_and_for_verify(case: Case, tmp_path: Path, monkeypatch, capsys):
    """A table of nodes needs no features; a file is no output."""
    monkeypatch.chdir(case.folder)
    Path("c.json").write_text(json.dumps(CONFIG))
    case.save("g.pth", adj=case.ones.to_sparse(), x=case.x, names=[f"n{i}" for i in range(NODES)])
    said = ("--config", "c.json", "--graph", "g.pth:adj")
    code, out, err = run(monkeypatch, capsys, "embed", "x.pth", *said, "--out", tmp_path / "e.csv")
    assert (code, "names: the graph's names" in out) == (0, True), err
    assert run(monkeypatch, capsys, "plot", "x.pth", *said, "--out", tmp_path / "p.png")[0] == 0
    code, out, err = run(monkeypatch, capsys, "verify", "x.pth", *said, "--level", "forward")
    assert code == 0, out + err
    code, _, err = run(monkeypatch, capsys, "embed", "x.pth", *said, "--out", "g.pth", "--force")
    assert (code, "g.pth" in err) == (6, True)


MIXED = [[0, 1], [1, 0]]
REFUSED: dict[str, tuple[Callable[[Case], str], type[Exception], str]] = {
    "two": (lambda c: c.save("b.pth", a=c.ones.to_sparse(), b=c.ones.to_sparse()), Usage, r"has 2 sparse matrices: a, b\. Choose one with"),
    "none there": (lambda c: c.save("b.pth", a=c.ones.to_sparse()) + ":b", Usage, r"no square sparse matrix at 'b'; it has a\. Correct"),
    "no graph": (lambda c: c.save("b.pth", w=torch.ones(2)), Usage, "contains no graph"),
    "no features": (lambda c: c.save("b.pth", a=c.ones.to_sparse()), Usage, r"the graph has none\. Add features"),
    "features of others": (lambda c: c.save("b.pth", a=c.ones.to_sparse(), x=c.x[:4]), Unreadable, "those of 4 nodes, and the graph has 5"),
    "blocks": (lambda c: c.save("b.pth", a=torch.eye(4).to_sparse_bsr((2, 2)), x=c.x[:4]), Usage, r"layout 'torch\.sparse_bsr' is no"),
    "outside": (
        lambda c: c.save("b.pth", a=torch.sparse_coo_tensor(MIXED, [1.0, 1.0], (1, 1), check_invariants=False), x=c.x), Unreadable,
        "reach outside the shape",
    ),
    "a claim": (
        lambda c: c.save("b.pth", a=torch.sparse_coo_tensor(MIXED, [1.0, 1.0], (1 << 30, 1 << 30)), x=c.x), Refused, "bytes of memory",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_graph_is_said(case: Case, name: str):
    make, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        case.points(make(case))
