"""Complex parameters and buffers, and points of matrix manifolds: carried in every form, moved as geoopt moves them, with their metric."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geoopt
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from geoopt.manifolds.siegel.vvd_metrics import SiegelMetricType

import weights
from parity_tests import draws
from parity_tests.weights.helpers import assert_deep_equal
from port_jax import manifolds
from weights.errors import Unmatched, Unreadable, Usage
from weights.proof.verify import failed, verify

SPACES = {"p": (geoopt.UpperHalf, manifolds.UpperHalf), "q": (geoopt.BoundedDomain, manifolds.BoundedDomain)}


class Run:
    """Points of both Siegel spaces in training."""

    def __init__(self) -> None:
        draws.seed_torch(6)
        self.spaces = {key: theirs() for key, (theirs, _) in SPACES.items()}
        start = {key: space.random(4, 2, 2, dtype=torch.complex128) for key, space in self.spaces.items()}
        self.points = {key: geoopt.ManifoldParameter(start[key], manifold=space) for key, space in self.spaces.items()}
        self.optimizer = geoopt.optim.RiemannianSGD(list(self.points.values()), lr=1e-3, momentum=0.9)

    def step(self) -> dict[str, Any]:
        """One step; the gradients before it, as JAX has them: the conjugates of torch's."""
        self.optimizer.zero_grad()
        sum(self.spaces[key].dist(x[:2], x[2:]).sum() for key, x in self.points.items()).backward()  # pyright: ignore[reportAttributeAccessIssue]
        found = {key: jnp.asarray(x.grad.resolve_conj().numpy().copy()) for key, x in self.points.items()}
        self.optimizer.step()
        return found


def assert_comes_back(folder: Path, **options: Any) -> weights.Checkpoint:
    """From a folder and an .npz file, bit for bit; of the types of safetensors from that as well."""
    ckpt = weights.load(folder / "x.pth", arch="tree", **options)
    wide = any(row["dtype"] == "complex128" for row in ckpt.report["tensors"])
    for form in ("out", "out.npz", *([] if wide else ["out.safetensors"])):
        ckpt.save(folder / form)
        weights.restore(folder / form).export(folder / "y.pth", overwrite=True)
        assert_deep_equal(*(torch.load(folder / name, weights_only=False) for name in ("x.pth", "y.pth")))
    return ckpt


def test_points_of_siegel_spaces_go_on_and_come_back(tmp_path: Path):
    """The momentum has the order of the gradients, which are transposed."""
    past = Run()
    for _ in range(3):
        past.step()
    plain = {key: x.detach() for key, x in past.points.items()}
    torch.save({"model": plain, "optimizer": past.optimizer.state_dict()}, tmp_path / "x.pth")
    ckpt = assert_comes_back(tmp_path, manifolds={key: ours() for key, (_, ours) in SPACES.items()})
    params, state = ckpt.variables["params"], ckpt.opt_state
    start = {key: x.detach().numpy().copy() for key, x in past.points.items()}
    for _ in range(3):
        updates, state = ckpt.optimizer.update(past.step(), state, params)
        params = optax.apply_updates(params, updates)
    for key, x in past.points.items():
        theirs = x.detach().numpy()
        assert np.abs(np.asarray(params[key]) - theirs).max() <= 1e-10 * np.abs(theirs - start[key]).max()


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_parameters_and_buffers_are_carried(tmp_path: Path, dtype: torch.dtype):
    draws.seed_torch(7)
    module = torch.nn.Linear(2, 2)
    module.register_buffer("freqs", torch.randn(3, dtype=dtype))
    module.phase = torch.nn.Parameter(torch.randn(3, 2, dtype=dtype))
    torch.save(module, tmp_path / "x.pth")
    ckpt = weights.load(tmp_path / "x.pth", arch="tree")
    assert set(ckpt.constants) == {"freqs"}
    np.testing.assert_array_equal(ckpt.variables["params"]["phase"], module.phase.detach().numpy())
    ckpt.save(tmp_path / "out")
    weights.restore(tmp_path / "out").export(tmp_path / "y.pth")
    assert_deep_equal(*(torch.load(tmp_path / name, weights_only=False) for name in ("x.pth", "y.pth")))
    torch.save({"model": {"w": torch.randn(2, dtype=dtype), "v": torch.ones(2)}, "more": torch.randn(3, dtype=dtype)}, tmp_path / "x.pth")
    assert weights.load(tmp_path / "x.pth", arch="tree").report["not_converted"] == {"more": "JAX has no use for it"}


METRICS: dict[str, tuple[Any, Any]] = {
    "riem": (lambda: geoopt.UpperHalf(), manifolds.UpperHalf()),
    "fone": (lambda: geoopt.BoundedDomain(SiegelMetricType.FINSLER_ONE), manifolds.BoundedDomain("fone")),
    "finf": (lambda: geoopt.UpperHalf(SiegelMetricType.FINSLER_INFINITY), manifolds.UpperHalf("finf")),
    "fmin": (lambda: geoopt.UpperHalf(SiegelMetricType.FINSLER_MINIMUM, rank=2), manifolds.UpperHalf("fmin", 2)),
    "LEM": (lambda: geoopt.SymmetricPositiveDefinite("LEM"), manifolds.SymmetricPositiveDefinite("LEM")),
}


@pytest.mark.parametrize("name", METRICS)
def test_a_pickled_manifold_keeps_its_metric(tmp_path: Path, name: str):
    make, ours = METRICS[name]
    draws.seed_torch(8)
    space = make()
    dtype = torch.float64 if name == "LEM" else torch.complex128
    points = geoopt.ManifoldParameter(space.random(4, 2, 2, dtype=dtype), manifold=space)
    torch.save({"p": points}, tmp_path / "x.pth")
    ckpt = assert_comes_back(tmp_path)
    one, two = (jnp.asarray(points.detach().numpy())[at] for at in (slice(2), slice(2, None)))
    theirs = space.dist(points[:2], points[2:]).detach().numpy()
    np.testing.assert_allclose(np.ravel(ckpt.manifolds["p"].dist(one, two)), theirs.ravel(), rtol=1e-9)
    assert type(ckpt.manifolds["p"]) is type(ours)


def test_what_has_no_counterpart_is_named(tmp_path: Path):
    space = geoopt.UpperHalf(SiegelMetricType.WEIGHTED_SUM, rank=2)
    torch.save({"p": geoopt.ManifoldParameter(torch.zeros(1, 2, 2, dtype=torch.complex64), manifold=space)}, tmp_path / "x.pth")
    with pytest.raises(Unmatched, match=r"UpperHalf in the file has the metric FinslerWeightedSumMetric, which is not read"):
        weights.load(tmp_path / "x.pth", arch="tree")
    torch.save({"w": torch.ones(2, dtype=torch.complex64).to(torch.complex32)}, tmp_path / "x.pth")
    with pytest.raises(Unreadable, match=r"type torch\.complex32, which numpy does not have\. Convert it in torch"):
        weights.load(tmp_path / "x.pth", arch="tree")


@pytest.mark.parametrize("name", ["riem", "LEM"])
def test_verify_compares_what_it_can(tmp_path: Path, name: str):
    space = METRICS[name][0]()
    points = space.random(4, 2, 2, dtype=torch.float64 if name == "LEM" else torch.complex128)
    torch.save({"p": geoopt.ManifoldParameter(points, manifold=space)}, tmp_path / "x.pth")
    ckpt = weights.load(tmp_path / "x.pth", arch="tree")
    assert not failed(verify(ckpt, tmp_path / "x.pth", level="settings"))
    with pytest.raises(Usage, match=r"which the torch side does not have\. Use --level settings"):
        verify(ckpt, tmp_path / "x.pth")
