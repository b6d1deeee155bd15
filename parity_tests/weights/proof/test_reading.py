"""What verify reads of a file by itself, beside a conversion that says something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import geoopt
import jax
import numpy as np
import pytest
import torch

from parity_tests import draws
from parity_tests.models import cases_murp
from parity_tests.models.conversion import converted
from parity_tests.models.graph_models import CLASSES, FEATURES
from parity_tests.weights.helpers import Net, run
from port_jax.manifolds import BirkhoffPolytope, PoincareBall
from reference_torch.models.hnn import HNN
from reference_torch.models.murp import MuRP
from weights import models
from weights.checkpoint import load, restore
from weights.errors import ConversionError, Unmatched, Usage
from weights.mapping.probes import ROWS, Draw
from weights.mapping.rules import Layout
from weights.proof import verify as proof
from weights.proof.reading import Said
from weights.proof.verify import Row, failed, summary, unverified, verify

SAID = Said(arch="tree", manifolds={"emb": PoincareBall(0.7)})


class Twins(Net):
    """With two weights of one shape, and groups of its own for them."""

    def __init__(self):
        super().__init__(dtype=torch.float64)
        self.left, self.right = (torch.nn.Parameter(torch.randn(4, 2, dtype=torch.float64)) for _ in "lr")

    def loss(self, target: torch.Tensor) -> torch.Tensor:
        return super().loss(target) + (self.left**2).sum() + (self.right**3).sum()


def made(folder: Path, *, scheduled: bool = True) -> Path:
    """Model, optimizer, scheduler, epoch and names, after seven steps."""
    net = Twins()
    points, flat = [net.emb], [net.lin.weight, net.lin.bias, net.left, net.right]
    optimizer = geoopt.optim.RiemannianAdam(
        [{"params": points, "lr": 2e-2}, {"params": flat, "betas": (0.8, 0.99), "weight_decay": 0.1}], lr=1e-2, amsgrad=True
    )
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5)
    for _ in range(7):
        optimizer.zero_grad()
        net.loss(torch.ones(6, 2, dtype=torch.float64)).backward()
        optimizer.step()
        if scheduled:
            scheduler.step()
    saved = {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 7, "objects": [*"abcdef"]}
    if scheduled:
        saved["scheduler"] = scheduler.state_dict()
    torch.save(saved, folder / "model.pth")
    return folder / "model.pth"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return made(tmp_path)


GROUPS = [["emb"], ["lin.weight", "lin.bias", "left", "right"]]
WHOLE = replace(SAID, groups=GROUPS)


def tampered(file: Path, change: Callable[[dict[str, Any]], None]) -> list[Row]:
    """The first two levels' rows for a converted folder whose description was changed; the arrays and their checksums are as they were."""
    out = file.parent / "out"
    load(file, arch="tree", manifolds=SAID.manifolds, groups=GROUPS).save(out)
    description = json.loads((out / "torch.json").read_text())
    change(description)
    (out / "torch.json").write_text(json.dumps(description))
    return verify(restore(out), file, said=WHOLE, level="settings")


def scaled(group: int, name: str, factor: float) -> Callable[[dict[str, Any]], None]:
    def change(description: dict[str, Any]) -> None:
        old = description["plan"]["groups"][group][name]
        description["plan"]["groups"][group][name] = [factor * x for x in old] if isinstance(old, list) else factor * old

    return change


def exchanged(description: dict[str, Any]) -> None:
    keys = description["plan"]["keys"]
    one, two = (next(i for i, key in keys.items() if key == name) for name in ("left", "right"))
    keys[one], keys[two] = keys[two], keys[one]


def curved(c: float) -> Callable[[dict[str, Any]], None]:
    def change(description: dict[str, Any]) -> None:
        description["manifolds"]["tree"]["emb"]["fields"]["c"] = c

    return change


def another_class(description: dict[str, Any]) -> None:
    description["manifolds"]["tree"]["emb"]["manifold"] = "PoincareBallExact"


def set_in(old: str, new: str, count: int = 1) -> Callable[[dict[str, Any]], None]:
    """Another value in the description of the file's objects, given as its JSON."""

    def change(description: dict[str, Any]) -> None:
        text = json.dumps(description["tree"])
        assert text.count(old) >= 1, text[:2000]
        description["tree"] = json.loads(text.replace(old, new, count))

    return change


def epoch(description: dict[str, Any]) -> None:
    description["epoch"] = 8


PLANTS = {
    "a rate": (scaled(0, "lr", 1.5), "group 0, lr"),
    "betas": (scaled(1, "betas", 0.9), "group 1, betas"),
    "a decay": (scaled(1, "weight_decay", 2.0), "group 1, weight_decay"),
    "the state of two weights": (exchanged, "group 1, parameters"),
    "a curvature": (curved(1.4), "manifold emb"),
    "a curvature's sixth digit": (curved(0.7000007), "manifold emb"),
    "a manifold's class": (another_class, "manifold emb"),
    "the epoch": (epoch, "epoch"),
    "names": (set_in('"a", "b"', '"b", "a"'), "objects"),
    "the scheduler": (set_in('["step_size", 3]', '["step_size", 30]'), "scheduler.step_size"),
}


@pytest.mark.parametrize("name", PLANTS)
def test_a_tampered_conversion_is_seen(name: str, tmp_path: Path):
    """A rate is changed without a scheduler, which would contradict it."""
    change, what = PLANTS[name]
    wrong = [row.what for row in tampered(made(tmp_path, scheduled=name != "a rate"), change) if not row.ok]
    assert any(what in text for text in wrong), wrong


def test_a_right_conversion_has_no_differences_and_what_an_option_says_is_named(file: Path):
    rows = tampered(file, lambda description: None)
    assert not failed(rows)
    assert unverified(rows) == ["manifold of emb (only an option says so)"]
    assert summary(rows).startswith(f"All {len(rows) - 1} comparisons agree. Not verified: manifold of emb")


def broken(at: str) -> Callable[[dict[str, Any]], None]:
    def change(description: dict[str, Any]) -> None:
        plan = description["plan"]
        if at == "keys":
            del plan["keys"][next(iter(plan["keys"]))]
        elif at == "parts":
            plan["parts"][0], plan["parts"][1] = plan["parts"][1], plan["parts"][0]
        elif at == "table":
            plan["table"] = "torch.optim.Adam"
        else:
            description["optimizer_at"] = ["model"]

    return change


@pytest.mark.parametrize("at", ["keys", "parts", "table", "optimizer_at"])
def test_a_conversion_that_gives_no_file_fails(at: str, file: Path):
    """The description contradicts itself: it is refused when it is read, or fails in rows, never in another way."""
    try:
        rows = tampered(file, broken(at))
    except ConversionError:
        return
    assert failed(rows)


def test_a_count_that_no_file_has_is_seen(file: Path):
    """A group's own step is not written by a file whose rates are constant."""
    path = made(file.parent, scheduled=False)
    ckpt = load(path, arch="tree", manifolds=SAID.manifolds, groups=GROUPS)
    leaves, structure = jax.tree.flatten(ckpt.opt_state)
    counts = [n for n, leaf in enumerate(leaves) if not np.ndim(leaf)]
    assert counts
    for n in counts:
        moved = [leaf + 1 if i == n else leaf for i, leaf in enumerate(leaves)]
        rows = verify(replace(ckpt, opt_state=jax.tree.unflatten(structure, moved)), path, said=WHOLE, level="settings")
        assert any(row.what.startswith("the optimizer's state") for row in rows if not row.ok), n


def test_another_configuration_and_another_file_are_named(tmp_path: Path):
    path, config = hnn(tmp_path)
    ckpt = load(path, config={**config, "patience": 100})
    wrong = [row.what for row in verify(ckpt, path, said=Said(config=config), level="settings") if not row.ok]
    assert wrong[1:] == ["configuration, patience: 100 in the conversion, absent in the new reading"]
    ckpt.report["sha256"] = "0" * 64
    told = unverified(verify(ckpt, path, said=Said(config=ckpt.config), level="settings"))
    assert any(text.startswith("the file's hash (the conversion was made of '000") for text in told), told


def test_what_nobody_says_is_taken_from_the_conversion_and_named(file: Path):
    ckpt = load(file, arch="tree", manifolds=SAID.manifolds, groups=GROUPS)
    rows = verify(ckpt, file, level="settings")
    assert not failed(rows)
    told = " ".join(unverified(rows))
    for part in ("manifold of emb", "give --manifold", "groups", "give --group"):
        assert part in told
    assert told in summary(rows).replace("; ", " ")
    left_out = load(file, arch="tree", manifolds=SAID.manifolds, optimizer=False)
    assert "optimizer (left out of the conversion)" in unverified(verify(left_out, file, said=SAID, level="settings"))


def hnn(folder: Path) -> tuple[Path, dict[str, Any]]:
    config = {"model": "HNN", "task": "nc", "n_classes": CLASSES, "manifold": "PoincareBall", "c": 1.5, "act": "tanh", "num_layers": 2,
              "feat_dim": FEATURES, "dim": 4, "dropout": 0.1, "bias": 1}  # fmt: skip
    module = HNN(**{name: value for name, value in config.items() if name != "model"})
    converted(module, config, folder)
    return folder / "model.pth", config


@pytest.mark.parametrize(("name", "value"), [("c", 1.65), ("act", "relu"), ("c", 1.5000015)])
def test_a_wrong_configuration_is_seen_where_verify_has_the_right_one(name: str, value: Any, tmp_path: Path):
    path, config = hnn(tmp_path)
    ckpt = load(path, config={**config, name: value})
    rows = verify(ckpt, path, said=Said(config=config), level="settings")
    assert any(row.what.startswith(f"{name}: {value!r}") for row in rows if not row.ok)
    told = " ".join(unverified(verify(ckpt, path, level="settings")))
    assert name in told
    assert "only the configuration says so" in told
    assert "give --config" in told


def test_the_torch_side_is_built_from_the_new_reading(tmp_path: Path):
    """A wrong curvature gives other numbers, too: a torch side with the settings of the conversion would agree with it."""
    path, config = hnn(tmp_path)
    rows = verify(load(path, config={**config, "c": 1.65}), path, said=Said(config=config), level="forward", types=("float64",))
    assert {row.what for row in rows if row.level == "forward" and not row.ok} == {"embeddings", "scores"}


def test_torchs_optimizer_has_the_groups_of_the_new_reading(file: Path):
    """States of two weights exchanged give other steps: an optimizer with the keys of the conversion would take the same."""
    exchanged = [["emb"], ["lin.weight", "lin.bias", "right", "left"]]
    ckpt = load(file, arch="tree", manifolds=SAID.manifolds, groups=exchanged)
    rows = verify(ckpt, file, said=WHOLE, types=("float64",))
    assert {row.what for row in rows if row.level == "step" and not row.ok} == {"left", "right"}


def test_what_is_said_is_used(tmp_path: Path):
    path, config = hnn(tmp_path)
    ckpt = load(path, config=config)
    with pytest.raises(Unmatched):
        verify(ckpt, path, said=Said(config=config, arch="mlp"), level="settings")
    with pytest.raises(Unmatched, match="curvature"):
        verify(ckpt, path, said=Said(config=config, curvature=0.4), level="settings")


def test_the_command_line_reads_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    path, config = hnn(tmp_path)
    for name, told in (("right", config), ("wrong", {**config, "c": 0.3})):
        (tmp_path / f"{name}.json").write_text(json.dumps(told))
    load(path, config=tmp_path / "wrong.json").save(tmp_path / "out")
    asked = ("verify", path, "--converted", tmp_path / "out", "--level", "settings", "--config")
    code, out, _ = run(monkeypatch, capsys, *asked, tmp_path / "right.json")
    assert code == 1
    assert "FAILED" in out
    code, out, _ = run(monkeypatch, capsys, *asked, tmp_path / "wrong.json", "--report", tmp_path / "report.json")
    assert code == 0
    assert "Not verified" in " ".join(out.split())
    report = json.loads((tmp_path / "report.json").read_text())
    assert "hyperport recorder" in report["summary"]
    assert any(not row["verified"] for row in report["rows"])


def test_without_torch_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, config = hnn(tmp_path)
    ckpt = load(path, config=config)
    monkeypatch.setattr(proof, "find_spec", lambda name: None)
    verify(ckpt, path, level="settings")
    with pytest.raises(Usage, match=r"torch is not installed.*hyperport\[reference\]"):
        verify(ckpt, path, level="forward")


def test_every_row_of_a_table_is_compared():
    draw = Draw(0)
    first, second = draw.covering(200, 3)
    assert set(first) == set(range(200))
    assert len(first) == len(second) == 200
    assert set(second) == {0, 1, 2}
    for size in (2, 5, 7, 33, 400):
        rows = draw.distinct(size, 5)
        assert set(rows.flat) == set(range(size))
        assert len(rows) >= ROWS
        assert all(len(set(row)) == min(size, 5) for row in rows)


def test_two_relations_that_the_table_exchanges_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The layout exchanges two rows both ways, so that the exported file is the same bit by bit."""

    def swap(a: np.ndarray, *_: Any) -> np.ndarray:
        return a[[1, 0, *range(2, len(a))]]

    table = models.ARCHITECTURES["murp"]
    rules = table.rules

    def exchanging(settings: Any) -> list[Any]:
        return [replace(r, layout=Layout("exchanged", swap, swap)) if r.key == "rvh.weight" else r for r in rules(settings)]

    converted(cases_murp.module_of(MuRP), {}, tmp_path)
    monkeypatch.setitem(models.ARCHITECTURES, "murp", replace(table, rules=exchanging))
    rows = verify(load(tmp_path / "model.pth"), tmp_path / "model.pth", level="forward", types=("float64",))
    assert {row.what for row in rows if not row.ok} == {"scores"}


def test_a_fresh_optimizer_has_geoopts_defects_on_both_sides(tmp_path: Path):
    """geoopt multiplies a momentum on the polytope by its point; a tree without an optimizer is verified with a fresh one."""
    point = geoopt.BirkhoffPolytope().projx(torch.tensor(draws.rng(6).uniform(0.2, 0.5, (2, 3, 3))))
    torch.save({"p": point}, tmp_path / "x.pth")
    manifolds = {"p": BirkhoffPolytope()}
    ckpt = load(tmp_path / "x.pth", arch="tree", manifolds=manifolds)
    rows = verify(ckpt, tmp_path / "x.pth", said=Said(arch="tree", manifolds=manifolds), types=("float64",))
    assert not failed(rows), [row for row in rows if not row.ok]
    assert any(row.level == "step" for row in rows)
