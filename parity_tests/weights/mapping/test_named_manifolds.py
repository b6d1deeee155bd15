"""Trees whose manifolds a caller names: what the file says of the same curvatures, and balls that layers share and train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geoopt
import jax
import numpy as np
import optax
import pytest
import torch

import weights
from parity_tests import draws
from parity_tests.weights.helpers import assert_deep_equal, run
from port_jax.manifolds import Euclidean, Lorentz, PoincareBall, Stereographic
from weights.errors import Unmatched, Usage
from weights.proof.reading import Said
from weights.proof.verify import failed, unverified, verify

STEPS = 5


class Layer(torch.nn.Module):
    def __init__(self, ball: geoopt.PoincareBall):
        super().__init__()
        self.ball, self.w = ball, torch.nn.Parameter(torch.randn(3, 3, dtype=torch.float64))
        self.b = geoopt.ManifoldParameter(0.2 * torch.randn(3, dtype=torch.float64), manifold=ball)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.ball.mobius_add(self.ball.mobius_matvec(self.w, x), self.b)


class Shared:
    """Two layers on one ball of geoopt, as its users write them, in training."""

    def __init__(self, path: Path, *, learnable: bool = True, optimizer: Any = geoopt.optim.RiemannianAdam, **options: Any):
        draws.seed_torch(4)
        self.ball = geoopt.PoincareBall(c=0.7, learnable=learnable).double()
        self.model = torch.nn.Sequential(Layer(self.ball), Layer(self.ball))
        self.optimizer = optimizer(self.model.parameters(), lr=1e-2, **options)
        for _ in range(3):
            self.step()
        torch.save({"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}, path)

    def step(self) -> dict[str, np.ndarray]:
        """One step; the gradients before it."""
        self.optimizer.zero_grad()
        self.ball.dist0(self.model(0.1 * torch.ones(2, 3, dtype=torch.float64))).sum().backward()
        found = {name: p.grad.numpy().copy() for name, p in self.model.named_parameters() if p.grad is not None}
        self.optimizer.step()
        return found


@pytest.mark.parametrize("optimizer", [geoopt.optim.RiemannianAdam, geoopt.optim.RiemannianSGD], ids=["adam", "sgd"])
def test_a_trained_ball_is_shared_and_points_move_on_it_as_it_is(optimizer: Any, tmp_path: Path):
    """Beside geoopt itself: after each update of the curvature, the points are on the new ball; also after a folder, and back."""
    path = tmp_path / "x.pth"
    original = Shared(path, optimizer=optimizer, **({"momentum": 0.9} if optimizer is geoopt.optim.RiemannianSGD else {}))
    ckpt = weights.load(path, arch="tree", manifolds={"*.b": PoincareBall})
    assert "isp_c" in ckpt.variables["params"]["0"]["ball"]
    c = original.ball.c.item()
    assert float(ckpt.manifolds(ckpt.variables["params"])["1"]["b"].c) == pytest.approx(c, rel=1e-12)
    ckpt.save(tmp_path / "out")
    ckpt = weights.restore(tmp_path / "out")
    ckpt.export(tmp_path / "back.pth")
    assert_deep_equal(torch.load(path), torch.load(tmp_path / "back.pth"))
    params, state = ckpt.variables["params"], ckpt.opt_state
    update = jax.jit(ckpt.optimizer.update)
    for _ in range(STEPS):
        slopes: dict[str, Any] = {"0": {"ball": {}}, "1": {}}
        for key, slope in original.step().items():
            *parents, name = key.split(".")
            (slopes[parents[0]] if len(parents) == 1 else slopes[parents[0]][parents[1]])[name] = slope
        updates, state = update(slopes, state, params)
        params = optax.apply_updates(params, updates)
    theirs = {key: p.detach().numpy() for key, p in original.model.named_parameters()}
    assert abs(original.ball.c.item() - c) > 1e-4
    for key in ("0.w", "0.b", "1.b"):
        layer, name = key.split(".")
        np.testing.assert_allclose(params[layer][name], theirs[key], rtol=0, atol=1e-12)
    np.testing.assert_allclose(params["0"]["ball"]["isp_c"], theirs["0.ball.isp_c"], rtol=0, atol=1e-12)


def test_a_shared_ball_is_verified(tmp_path: Path):
    path = tmp_path / "x.pth"
    Shared(path)
    said = Said(arch="tree", manifolds={"*.b": PoincareBall})
    ckpt = weights.load(path, arch="tree", manifolds={"*.b": PoincareBall})
    rows = verify(ckpt, path, said=said, types=("float64",))
    assert not failed(rows), [row for row in rows if not row.ok]
    assert {"0.ball.isp_c", "0.b", "1.b"} <= {row.what for row in rows if row.level == "step"}
    assert unverified(rows) == ["manifold of 0.b, manifold of 1.b (only an option says so)"]
    taken = verify(ckpt, path, level="settings")
    assert not failed(taken)
    assert "give --manifold" in " ".join(unverified(taken))


def test_a_curvature_that_the_file_contradicts_is_refused(tmp_path: Path):
    path = tmp_path / "x.pth"
    for learnable in (True, False):
        c = Shared(path, learnable=learnable).ball.c.item()
        with pytest.raises(Unmatched, match=r"'0\.b' is given as 0\.2, and in the file '0\.ball\.isp_c' gives 0\.\d+.*Omit the number"):
            weights.load(path, arch="tree", manifolds={"*.b": PoincareBall(0.2)})
        ckpt = weights.load(path, arch="tree", manifolds={"*.b": PoincareBall(c), "*": Euclidean()})
        assert callable(ckpt.manifolds) is learnable


def test_a_point_that_nobody_names_is_refused(tmp_path: Path):
    """The second moment of a point is one number, of a weight it is not. Whoever wants all others flat can say so."""
    path = tmp_path / "x.pth"
    Shared(path)
    with pytest.raises(Usage, match=r"moved '1\.b' as points of a manifold.*--manifold 1\.b=PoincareBall:0\.7.*'\*=Euclidean'"):
        weights.load(path, arch="tree", manifolds={"0.b": PoincareBall})
    ckpt = weights.load(path, arch="tree", manifolds={"0.b": PoincareBall, "*": Euclidean()})
    assert ckpt.report["on_no_manifold"] == ["0.w", "0.ball.isp_c", "1.w", "1.b"]


def test_the_bias_of_two_classes_is_no_point(tmp_path: Path):
    """The gradients of two logits are opposite, so that their squares are equal entry by entry."""
    point = geoopt.ManifoldParameter(torch.tensor([[0.1, 0.2]], dtype=torch.float64), manifold=geoopt.PoincareBall(0.7))
    model = torch.nn.ParameterDict({"emb": point, "bias": torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))})
    optimizer = geoopt.optim.RiemannianAdam(model.parameters(), lr=0.01)
    for value in draws.rng(0).normal(size=3):
        model["emb"].grad, model["bias"].grad = torch.ones_like(point), torch.tensor([value, -value])
        optimizer.step()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path := tmp_path / "x.pth")
    assert weights.load(path, arch="tree", manifolds={"emb": PoincareBall(0.7)}).report["on_no_manifold"] == ["bias"]


@pytest.mark.parametrize(
    ("keys", "named", "found"),
    [
        ({"ball.isp_c": 0.3, "emb": None}, PoincareBall, 0.3),
        ({"ball.isp_c": 0.3, "layer.ball.isp_c": 0.6, "layer.emb": None}, PoincareBall, 0.6),
        ({"other.ball.isp_c": 0.3, "layer.emb": None}, PoincareBall, "no curvature 'isp_c' near 'layer.emb'"),
        ({"a.isp_c": 0.3, "b.isp_c": 0.6, "emb": None}, PoincareBall, "several curvatures for 'emb': a.isp_c is 0.854"),
        ({"a.isp_c": 0.3, "b.isp_c": 0.6, "emb": None}, PoincareBall(0.4), "'emb' is given as 0.4"),
        ({"m.k": -1.3, "emb": None}, Stereographic, -1.3),
        ({"m.k": 1.3, "m.w": 2.0, "emb": None}, Stereographic, "no curvature 'k' near"),
        ({"k": 1.3, "emb": None}, Lorentz, "no curvature 'k' near"),
        ({"other.ball.isp_c": 0.3, "layer.emb": None}, PoincareBall(0.4), 0.4),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_nearest_curvature_of_the_file_is_taken(keys: dict[str, float | None], named: Any, found: float | str, tmp_path: Path):
    """geoopt keeps isp_c = log(exp(c) - 1), and k as it is."""
    state = {key: torch.tensor(0.01 * np.ones((2, 2)) if raw is None else raw, dtype=torch.float64) for key, raw in keys.items()}
    torch.save(state, tmp_path / "x.pth")
    (point,) = [key for key, raw in keys.items() if raw is None]
    if isinstance(found, str):
        with pytest.raises((Usage, Unmatched), match=found):
            weights.load(tmp_path / "x.pth", arch="tree", manifolds={point: named})
        return
    ckpt = weights.load(tmp_path / "x.pth", arch="tree", manifolds={point: named})
    space = jax.tree.leaves(ckpt.manifolds, is_leaf=lambda node: isinstance(node, (PoincareBall, Stereographic)))
    (value,) = [float(getattr(s, "c", getattr(s, "k", 0))) for s in space if not s.flat]
    assert value == pytest.approx(np.log1p(np.exp(found)) if named is PoincareBall else found, rel=1e-15)


def test_a_function_of_the_parameters_is_a_manifold(tmp_path: Path):
    """It cannot be written; a class with the file's curvature can."""
    torch.save({"raw": torch.tensor([0.4]), "emb": 0.1 * torch.ones(3, 2)}, tmp_path / "x.pth")
    ckpt = weights.load(tmp_path / "x.pth", arch="tree", manifolds={"emb": lambda params: PoincareBall.from_raw(params["raw"][0])})
    assert float(ckpt.manifolds(ckpt.variables["params"])["emb"].c) == pytest.approx(np.log1p(np.exp(0.4)), rel=1e-6)
    with pytest.raises(Usage, match="a function of the parameters, which cannot be written"):
        ckpt.save(tmp_path / "out")


def test_the_command_line_takes_the_files_curvature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Without a number, `PoincareBall` used to be the ball of curvature 1."""
    Shared(tmp_path / "x.pth")
    asked = ("convert", tmp_path / "x.pth", "--arch", "tree", "--out", tmp_path / "out", "--manifold")
    code, _, _ = run(monkeypatch, capsys, *asked, "*.b=PoincareBall")
    assert code == 0
    code, _, err = run(monkeypatch, capsys, *asked, "0.b=PoincareBall", "--manifold", "0.b=Euclidean", "--force")
    assert code == 2
    assert "names '0.b' twice" in err
    torch.save({"emb": torch.zeros(3, 2)}, tmp_path / "y.pth")
    code, _, err = run(
        monkeypatch, capsys, "convert", tmp_path / "y.pth", "--arch", "tree", "--out", tmp_path / "y", "--manifold", "emb=PoincareBall"
    )
    assert code == 2
    assert "--manifold emb=PoincareBall:NUMBER" in err


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3)])
def test_a_table_without_numbers_is_carried(shape: tuple[int, ...], tmp_path: Path):
    """A ball of no dimension has one point, and a table of no rows has none: neither is off its manifold."""
    torch.save({"emb": torch.zeros(shape)}, tmp_path / "x.pth")
    ckpt = weights.load(tmp_path / "x.pth", arch="tree", manifolds={"emb": PoincareBall(0.7)})
    ckpt.export(tmp_path / "y.pth")
    assert torch.load(tmp_path / "y.pth")["emb"].shape == shape


def test_a_pickled_ball_without_curvature_is_named(tmp_path: Path):
    """isp_c so small that softplus gives 0: no ball has it."""
    ball = geoopt.PoincareBall(0.7)
    point = geoopt.ManifoldParameter(torch.zeros(2, 3), manifold=ball)
    ball.isp_c.data = torch.tensor(-2000.0)
    torch.save({"emb": point}, tmp_path / "x.pth")
    with pytest.raises(Unmatched, match="the curvature 'isp_c' of a PoincareBall in the file is -2000"):
        weights.load(tmp_path / "x.pth", arch="tree")
