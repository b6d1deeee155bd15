"""What `verify`, a witness and `diff` let pass: nothing a thousand times larger than rounding, in either precision, at any level."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import weights
from parity_tests.models import cases_mlp, small_models
from parity_tests.models.graph_models import X
from parity_tests.weights.helpers import trained
from port_jax import manifolds
from port_jax.manifolds.base import pytree
from weights.checkpoint import Checkpoint, load
from weights.proof import diff
from weights.proof.reading import Said
from weights.proof.sides import Sides
from weights.proof.verify import verify
from weights.proof.witness import Witness
from weights.proof.witnessed import witnessed

SAID = Said(arch="tree", manifolds={"emb": manifolds.PoincareBall(0.7)})
SMALL = 1e-8
"""Ten to a hundred times the gates of float64, and a tenth to a hundredth of a thousand times these gates."""


@pytree
class PoincareBall(manifolds.PoincareBall):
    """Its squared distances are 1e-4 too long in float32, and right in float64."""

    def dist2(self, x: Any, y: Any, *, keepdim: bool = False) -> Any:
        square = super().dist2(x, y, keepdim=keepdim)
        return square * (1 + 1e-4) if square.dtype == jnp.float32 else square


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The file of points and a linear map with geoopt's optimizer, its conversion, and how far `verify` finds the two apart."""
    net, opt = trained(steps=3, dtype=torch.float64)
    path = tmp_path_factory.mktemp("gates") / "model.pth"
    torch.save({"model": net.state_dict(), "optimizer": opt.state_dict()}, path)
    ckpt = load(path, arch="tree", manifolds=SAID.manifolds)
    return SimpleNamespace(path=path, ckpt=ckpt, rows=verify(ckpt, path, said=SAID))


def wrong(tree: SimpleNamespace, ckpt: Checkpoint, **options: Any) -> set[tuple[str, str, str]]:
    return {(row.level, row.dtype, row.what) for row in verify(ckpt, tree.path, said=SAID, **options) if not row.ok}


def moved(ckpt: Checkpoint, change: Any) -> Checkpoint:
    """The checkpoint with its points changed."""
    params = ckpt.variables["params"]
    return replace(ckpt, variables={**ckpt.variables, "params": {**params, "emb": change(params["emb"])}})


def test_a_right_conversion_passes_in_every_parameter_and_the_files_own_optimizer(tree: SimpleNamespace):
    assert not [row for row in tree.rows if not row.ok]
    keys = {"emb", "lin.weight", "lin.bias"}
    for dtype in ("float64", "float32"):
        compared = {level: {row.what for row in tree.rows if (row.level, row.dtype) == (level, dtype)} for level in ("grad", "step")}
        assert compared == {"grad": keys, "step": keys}


def test_a_hundredth_of_a_millionth_is_seen_in_float64(tree: SimpleNamespace):
    found = wrong(tree, moved(tree.ckpt, lambda points: points * (1 + SMALL)), level="grad", types=("float64",))
    assert {("forward", "float64", "emb"), ("forward", "float64", "emb to targets"), ("grad", "float64", "emb")} <= found


def test_steps_that_are_too_long_are_seen(tree: SimpleNamespace):
    """By a hundredth of a millionth in float64, and by a thousandth in float32."""
    update = tree.ckpt.optimizer.update

    def longer(*args: Any, **extra: Any) -> Any:
        updates, state = update(*args, **extra)
        return jax.tree.map(lambda u: (1 + SMALL) * u if u.dtype == jnp.float64 else 1.001 * u, updates), state

    found = wrong(tree, replace(tree.ckpt, optimizer=optax.GradientTransformation(tree.ckpt.optimizer.init, longer)))
    assert found == {("step", dtype, key) for dtype in ("float64", "float32") for key in ("emb", "lin.weight", "lin.bias")}


def test_distances_that_are_wrong_in_float32_alone_are_seen(tree: SimpleNamespace):
    found = wrong(tree, replace(tree.ckpt, manifolds={**tree.ckpt.manifolds, "emb": PoincareBall(0.7)}), level="grad")
    assert found == {("forward", "float32", "emb to targets"), ("grad", "float32", "emb")}


def test_where_torchs_own_steps_diverge_both_sides_take_a_part_of_the_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With plain descent, whose way is as long as the loss is strong: steps on the whole loss beside a tenth would be seen."""
    module, config = small_models.CASES["mlp"][0]()
    optimizer = torch.optim.SGD(module.parameters(), 0.05)
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizer.step()
    torch.save({"model": module.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "x.pth")
    walk = Sides.torch_walk

    def diverging(sides: Sides, *given: Any, **options: Any) -> Any:
        for arrays in walk(sides, *given, **options):
            yield arrays if sides.strength < 1 else {key: np.full_like(array, np.nan) for key, array in arrays.items()}

    monkeypatch.setattr(Sides, "torch_walk", diverging)
    ckpt = load(tmp_path / "x.pth", config=config, arch="mlp")
    rows = verify(ckpt, tmp_path / "x.pth", said=Said(config=config, arch="mlp"), types=("float64",))
    steps = [row for row in rows if row.level == "step"]
    assert steps
    for row in steps:
        assert row.ok, row
        assert row.what.endswith(" (0.1 of the loss: with all of it torch's own steps are not finite)")


def test_what_is_not_a_number_is_wrong(tree: SimpleNamespace):
    found = wrong(tree, moved(tree.ckpt, lambda points: points.at[0, 0].set(jnp.nan)), level="forward", types=("float64",))
    assert {("forward", "float64", "emb"), ("forward", "float64", "emb to targets")} <= found


def test_the_torch_side_is_on_the_manifold_that_the_reading_says(tree: SimpleNamespace):
    other = replace(tree.ckpt, manifolds={**tree.ckpt.manifolds, "emb": manifolds.PoincareBall(0.7001)})
    assert ("forward", "float64", "emb to targets") in wrong(tree, other, level="forward", types=("float64",))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """What a small program in float32 computed, and the conversion of its checkpoint."""
    folder, config = tmp_path_factory.mktemp("witness"), cases_mlp.FRAME.config("classes")
    module = cases_mlp.FRAME.module(config).float()
    optimizer, x = torch.optim.Adam(module.parameters(), lr=0.01), torch.as_tensor(X).float()
    torch.save({"model": module.state_dict(), "optimizer": optimizer.state_dict()}, folder / "model.pth")
    witness = weights.witness(folder / "w.npz", module, folder / "model.pth", x=x, graph=torch.eye(len(x)))
    witness.outputs(embeddings=lambda i: module.encode(i.x, None), logits=lambda i: module(i.x, None))
    witness.watch(optimizer, 3)
    for _ in range(3):
        optimizer.zero_grad()
        (module(x, None) ** 2).sum().backward()
        optimizer.step()
    ckpt = load(folder / "model.pth", config=config)
    return SimpleNamespace(ckpt=ckpt, witness=Witness.read(folder / "w.npz", ckpt))


@pytest.mark.parametrize(
    "place", ["outputs/logits", "gradients/decoder.cls.linear.weight", "steps/2/parameters/encoder.layers.0.linear.weight"]
)
def test_a_ten_thousandth_of_what_a_program_computed_is_seen(place: str, recorded: SimpleNamespace):
    """In its own precision; at the last step alone, too."""
    seen, ckpt = recorded.witness, recorded.ckpt
    assert not [row for row in witnessed(ckpt, seen) if not row.ok]
    other = replace(seen, arrays={**seen.arrays, place: seen.arrays[place] * np.float32(1 + 1e-4)})
    name = place.rpartition("/")[2]
    (what,) = [row.what for row in witnessed(ckpt, other) if not row.ok]
    assert what == {"outputs": name, "gradients": f"gradient of {name}", "steps": f"{name}, step 3"}[place.partition("/")[0]]


def test_a_difference_of_one_unit_and_a_key_of_one_file_alone_are_shown(tmp_path: Path):
    w = torch.arange(1.0, 7.0).reshape(2, 3)
    near = torch.nextafter(w, torch.full_like(w, np.inf)).where(w == 4, w)
    torch.save({"w": w}, tmp_path / "a.pth")
    torch.save({"w": near, "v": w}, tmp_path / "b.pth")
    rows = {row.key: row for row in diff.compare(tmp_path / "a.pth", tmp_path / "b.pth")}
    assert set(rows) == {"w", "v"}
    assert not any(row.equal for row in rows.values())
    assert (rows["w"].ulp, rows["w"].where, rows["v"].a) == (1, [1, 0], "absent")


@pytest.mark.parametrize(("apart", "longer"), [(1.2e-7, None), (1e-4, None), (1.2e-7, {"emb": 1e-6}), (1.2e-7, {"lin.weight": 1e-8})])
def test_second_moments_of_a_row_are_one_number_but_for_rounding(tmp_path: Path, apart: float, longer: dict[str, float] | None):
    """torch rounds the last entries of a float32 array otherwise than those before: ten steps of 50 points were refused for it.

    Moments that are farther apart are seen, and so are points that move a millionth too far, or other parameters a hundredth of that.
    """
    net, opt = trained(steps=4)
    saved = opt.state_dict()
    (rows,) = [state["exp_avg_sq"] for state in saved["state"].values() if state["exp_avg_sq"].shape == net.emb.shape]
    rows[:, 1:] *= 1 + apart
    torch.save({"model": net.state_dict(), "optimizer": saved}, tmp_path / "x.pth")
    ckpt = load(tmp_path / "x.pth", arch="tree", manifolds=SAID.manifolds)
    if longer:
        ckpt = replace(ckpt, optimizer=optax.GradientTransformation(ckpt.optimizer.init, too_far(ckpt.optimizer.update, longer)))
    rows = verify(ckpt, tmp_path / "x.pth", said=SAID, types=("float64",))
    found = {row.what: row for row in rows if row.level == "step"}
    wrong = set(longer or ()) | ({"emb"} if apart > 1e-6 else set())
    assert {name for name, row in found.items() if not row.ok} == wrong
    assert found["emb"].error > 1e-9


def too_far(update: Any, by: dict[str, float]) -> Any:
    """An update by which the parameters of these keys move a part of their way too far."""

    def longer(*args: Any, **extra: Any) -> Any:
        updates, state = update(*args, **extra)
        name = lambda path: jax.tree_util.keystr(path, simple=True, separator=".")  # noqa: E731
        return jax.tree_util.tree_map_with_path(lambda path, u: (1 + by.get(name(path), 0.0)) * u, updates), state

    return longer


def test_two_conversions_on_other_manifolds_differ(tmp_path: Path):
    """Their tensors are equal bit by bit: only the conversions say on which ball the points are."""
    torch.save({"emb": 0.3 * torch.ones(3, 2), "b": torch.ones(2)}, tmp_path / "x.pth")
    for name, space in (("a", manifolds.PoincareBall(0.7)), ("b", manifolds.PoincareBall(0.7)), ("c", manifolds.PoincareBall(1.4))):
        load(tmp_path / "x.pth", arch="tree", manifolds={"emb": space}).save(tmp_path / name)
    assert all(row.equal for row in diff.compare(tmp_path / "a", tmp_path / "b"))
    (row,) = [row for row in diff.compare(tmp_path / "a", tmp_path / "c") if not row.equal]
    assert row.key == "manifold emb"
    assert "0.7" in row.a
    assert "1.4" in row.b
