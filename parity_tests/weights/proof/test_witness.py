"""Conversions beside what a program computed: right ones pass, wrong ones fail, and the recorder leaves the program as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import geoopt
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import weights
from parity_tests.models.graph_models import NODES as ROWS
from parity_tests.weights.helpers import Net, run
from parity_tests.weights.proof.program import Program, recorder
from port_jax.manifolds import PoincareBall
from weights.checkpoint import Checkpoint, load
from weights.errors import Unmatched, Unreadable
from weights.optim.plan import build
from weights.optim.resume import beside
from weights.proof import verify as proof
from weights.proof.authors import of_authors
from weights.proof.reading import Said
from weights.proof.rows import Row
from weights.proof.verify import failed, unverified, verify
from weights.proof.witness import Witness, script
from weights.proof.witnessed import witnessed

FIXTURES = Path(__file__).parents[4] / "shared" / "fixtures"


def rows_of(program: Program, ckpt: Checkpoint, out: Path, level: str = "settings") -> list[Row]:
    return verify(ckpt, program.path, said=Said(config=program.config), witness=Witness.read(out, ckpt), level=level)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A program, what it recorded, and its conversion. Modules are named."""
    program = Program(tmp_path_factory.mktemp("program"))
    before = [p.detach().clone() for p in program.model.parameters()]
    names = [f"encoder.layers.{n}{part}" for n in (0, 1) for part in (".linear", "")]
    out = program.record(modules=names)
    return SimpleNamespace(program=program, out=out, ckpt=load(program.path, config=program.config), before=before, names=names)


@pytest.mark.slow  # as the wrong optimizer below, which is caught
def test_a_right_conversion_agrees_and_is_confirmed(recorded: SimpleNamespace):
    rows = rows_of(recorded.program, recorded.ckpt, recorded.out)
    assert not failed(rows), [row for row in rows if not row.ok]
    keys = [e.key for e in recorded.ckpt.entries]
    told = {(row.dtype, row.what) for row in rows if row.level == "witness"}
    for dtype in ("float32", "float64"):
        assert {(dtype, name) for name in ("embeddings", "scores", "logits", *(f"gradient of {key}" for key in keys))} <= told
    assert {what.partition(",")[0] for _, what in told if ", step " in what} == set(keys)
    assert {what for _, what in told if what.startswith("module ")} == {f"module {name}" for name in recorded.names}
    (left,) = unverified(rows)
    assert left == "dropout (only the configuration says so; outputs in evaluation mode do not depend on it)"


WRONG = [("act", "relu"), ("c", 1.5 * (1 + 1e-7)), ("r", 1.7001), ("t", 0.8001)]


@pytest.mark.slow  # as the wrong optimizer below
@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_setting_that_both_readings_share_is_caught(name: str, value: Any, recorded: SimpleNamespace):
    """The person's configuration is wrong as well: only the program knows. A relative 1e-7 is seen in float64."""
    program = recorded.program
    config = {**program.config, name: value}
    ckpt = load(program.path, config=config)
    rows = verify(ckpt, program.path, said=Said(config=config), witness=Witness.read(recorded.out, ckpt), level="settings")
    assert all(row.ok for row in rows if row.level != "witness")
    wrong = [row for row in rows if not row.ok]
    assert {"float64"} <= {row.dtype for row in wrong}
    assert name in " ".join(unverified(rows))
    if name == "act":
        assert next(row.what for row in wrong if row.what.startswith("module ")) == "module encoder.layers.0, the first to differ"


def changed(ckpt: Checkpoint, **groups: Any) -> Checkpoint:
    assert ckpt.plan is not None
    plan = replace(ckpt.plan, groups=[{**group, **groups} for group in ckpt.plan.groups], scheduler=None)
    transformation, _ = build([plan], ckpt.variables["params"], beside(ckpt.manifolds))
    return replace(ckpt, plans=(plan,), optimizer=transformation)


@pytest.mark.parametrize("change", [{"lr": 0.0100001}, {"betas": [0.9, 0.9991]}, {"weight_decay": 0.0101}], ids=lambda c: next(iter(c)))
def test_a_wrong_optimizer_is_caught_from_the_gradients_alone(change: dict[str, Any], recorded: SimpleNamespace):
    rows = witnessed(changed(recorded.ckpt, **change), Witness.read(recorded.out, recorded.ckpt))
    assert {row.what for row in rows if not row.ok} <= {row.what for row in rows if ", step " in row.what}
    assert any(not row.ok for row in rows)


@pytest.mark.parametrize(("drift", "verified"), [(0.005, True), (0.02, False)])
def test_a_drift_as_large_as_the_way_proves_nothing(recorded: SimpleNamespace, drift: float, verified: bool):
    """The recorder replays steps from the recorded gradients: were these not those that moved the program, all would be drift."""
    seen = Witness.read(recorded.out, recorded.ckpt)
    place = next(at for at in seen.arrays if at.startswith("steps/0/parameters/") and at.endswith("weight"))
    key = place.rpartition("/")[2]
    start = dict(zip((k for k, _ in recorded.program.model.named_parameters()), recorded.before))[key].numpy()
    way = float(np.abs(seen.arrays[place] - start).max())
    first = {at: array for at, array in seen.arrays.items() if not at.startswith(tuple(f"steps/{n}/" for n in range(1, 9)))}
    moved = replace(seen, arrays=first, meta={**seen.meta, "drift": {**seen.meta["drift"], place: drift * way}})
    (row,) = [row for row in witnessed(recorded.ckpt, moved) if row.what.startswith(f"{key}, step 1")]
    assert row.ok
    assert row.verified is verified
    assert ("do its steps use other gradients?" in row.what) is not verified


def test_other_numbers_and_another_order_are_named(recorded: SimpleNamespace, tmp_path: Path):
    witness = Witness.read(recorded.out, recorded.ckpt)
    other = Program(tmp_path)
    other.step()
    torch.save({"model": other.model.state_dict()}, other.path)
    rows = witnessed(load(other.path, config=other.config), witness)
    assert "record it with this checkpoint loaded" in rows[0].what
    assert not rows[0].ok
    assert len(rows) == 1
    turned = replace(witness, meta={**witness.meta, "groups": [witness.meta["groups"][0][::-1]]})
    assert "group 0 has" in next(row.what for row in witnessed(recorded.ckpt, turned) if not row.ok)


def test_a_tree_has_steps_alone(tmp_path: Path):
    """Points of a ball with geoopt's optimizer: no outputs, from the parameters by key."""
    net = Net(c=0.7)
    optimizer = geoopt.optim.RiemannianAdam(net.parameters(), lr=0.02, weight_decay=0.1)

    def step() -> None:
        optimizer.zero_grad()
        net.loss(torch.ones(6, 2)).backward()
        optimizer.step()

    for _ in range(2):
        step()
    path = tmp_path / "net.pth"
    torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict()}, path)
    recorder(tmp_path).Witness(tmp_path / "w.npz", dict(net.named_parameters()), path).watch(optimizer, 5)
    for _ in range(5):
        step()
    manifolds = {"emb": PoincareBall(0.7)}
    ckpt = load(path, arch="tree", manifolds=manifolds)
    seen = Witness.read(tmp_path / "w.npz", ckpt)
    assert not failed(witnessed(ckpt, seen))
    said = Said(arch="tree", manifolds=manifolds)
    assert unverified(verify(ckpt, path, said=said, level="settings")) == ["manifold of emb (only an option says so)"]
    assert unverified(verify(ckpt, path, said=said, witness=seen, level="settings")) == []
    still = replace(seen, meta={**seen.meta, "steps": 0})
    told = unverified(verify(ckpt, path, said=said, witness=still, level="settings"))
    assert "manifold of emb (only an option says so; only steps of the optimizer show it)" in told
    spaces = {**ckpt.manifolds, "emb": PoincareBall(0.71)}  # 1e-3 of the way; in float32 a gate is about 1e-5
    assert ckpt.plan is not None
    wrong = replace(ckpt, manifolds=spaces, optimizer=build(ckpt.plans, ckpt.variables["params"], beside(spaces))[0])
    assert {row.what.partition(",")[0] for row in witnessed(wrong, Witness.read(tmp_path / "w.npz", wrong)) if not row.ok} == {"emb"}


def test_names_that_the_model_does_not_have_are_refused(recorded: SimpleNamespace, tmp_path: Path):
    program = recorded.program
    module, model = recorder(tmp_path), program.model
    fresh = Program(tmp_path)
    module.Witness(tmp_path / "w.npz", fresh.model, features=fresh.x).outputs(embeddings=lambda i: fresh.model.encode(i.features, None))
    ckpt = load(fresh.path, config=fresh.config)
    with pytest.raises(Unmatched, match="an input is named 'features'; the model takes x, graph, pairs"):
        witnessed(ckpt, Witness.read(tmp_path / "w.npz", ckpt))
    module.Witness(tmp_path / "w2.npz", fresh.model, x=fresh.x, graph=torch.eye(ROWS)).outputs(
        hidden=lambda i: fresh.model.encode(i.x, None)
    )
    with pytest.raises(Unmatched, match="an output 'hidden'; hnn has embeddings, logits, scores"):
        witnessed(ckpt, Witness.read(tmp_path / "w2.npz", ckpt))
    with pytest.raises(ValueError, match=r"no submodule 'encoder.nothing'"):
        module.Witness(tmp_path / "w3.npz", model, modules=["encoder.nothing"])
    (tmp_path / "notes.npz").write_text("mine")
    with pytest.raises(ValueError, match=r"is not a witness: give another path"):
        module.Witness(tmp_path / "notes.npz", model)
    assert (tmp_path / "notes.npz").read_text() == "mine"


def test_a_witness_that_is_not_there_is_not_one_to_record_again(recorded: SimpleNamespace, tmp_path: Path):
    with pytest.raises(Unreadable, match=r"cannot be opened \(No such file or directory\)\. Give the path of a witness"):
        Witness.read(tmp_path / "w.npz", recorded.ckpt)


@pytest.mark.parametrize("make", [lambda p: p.write_text("no"), lambda p: np.savez(p, a=np.zeros(2)), lambda p: p.mkdir()])
def test_other_files_are_no_witness(make: Callable[[Path], Any], recorded: SimpleNamespace, tmp_path: Path):
    make(tmp_path / "w.npz")
    with pytest.raises(Unreadable, match=r"witness|recording"):
        Witness.read(tmp_path / "w.npz", recorded.ckpt)


def test_the_command_prints_the_script_and_verify_reads_its_witness(recorded: SimpleNamespace, monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "recorder")
    assert (code, out) == (0, script())
    assert weights.witness.__name__ == "Witness"
    program = recorded.program
    (program.folder / "config.json").write_text(json.dumps(program.config))
    asked = ("verify", program.path, "--config", program.folder / "config.json", "--witness", recorded.out, "--json")
    code, out, _ = run(monkeypatch, capsys, *asked)
    assert code == 0
    assert {row["level"] for row in json.loads(out)} == {"bits", "settings", "witness"}


@pytest.mark.slow  # test_node_model.py and test_hybonet.py compare with the same numbers
@pytest.mark.parametrize("file", ["airport_nc_poincare/model.pth", "hybonet_disease_lp_att/full.pth"])
def test_what_the_authors_code_computed_is_a_witness(file: str):
    path = FIXTURES / file
    if not path.exists():
        pytest.skip(f"{path} is not here: the authors' checkpoints are no part of this project")
    ckpt = load(path, config=path.parent / "config.json", optimizer=False)
    witness = Witness.read(path.parent / "expected.npz", ckpt)
    rows = list(of_authors(ckpt, witness))
    assert not failed(rows), [row for row in rows if not row.ok]
    assert any(row.what.startswith("gradient of encoder.layers.0") for row in rows)
    wrong = replace(ckpt, model=ckpt.model.clone(act="tanh"))
    assert failed(list(of_authors(wrong, witness)))


def test_authors_arrays_of_an_unknown_model_are_refused(tmp_path: Path):
    torch.save({"emb": torch.zeros(3, 2)}, tmp_path / "x.pth")
    ckpt = load(tmp_path / "x.pth", arch="tree")
    np.savez(tmp_path / "w.npz", features=np.zeros(3))
    with pytest.raises(Unreadable, match="tree has no names"):
        Witness.read(tmp_path / "w.npz", ckpt)
    module = recorder(tmp_path)
    emb = torch.nn.Parameter(torch.zeros(3, 2))
    module.Witness(tmp_path / "t.npz", {"emb": emb}).outputs(points=lambda i: emb)
    (said,) = [row.what for row in witnessed(ckpt, Witness.read(tmp_path / "t.npz", ckpt)) if not row.verified]
    assert said == "points (a tree of parameters has no outputs)"
    assert jnp.asarray(ckpt.variables["params"]["emb"]).shape == (3, 2)


@pytest.mark.slow  # the parts of it that other programs have are in the first test
def test_curvatures_in_float32_columns_and_layers_that_hand_on_their_graph(tmp_path: Path):
    """As in HGCN's own code: c is a float32 tensor, also in float64; scores are [P, 1]; a layer gives its output and the adjacency."""
    program = Program(tmp_path, c=1.3)
    model = program.model
    for module in model.modules():
        for name, value in vars(module).items():
            if torch.is_tensor(value):
                vars(module)[name] = value.float()
    layer = model.encoder.layers[0]
    layer.register_forward_hook(lambda _, given, result: (result, torch.eye(ROWS)))
    model.encoder.layers[1].register_forward_pre_hook(lambda _, given: (given[0][0], *given[1:]))
    witness = recorder(tmp_path).Witness(
        tmp_path / "w.npz", model, program.path, x=program.x, graph=torch.eye(ROWS), pairs=program.pairs, modules=["encoder.layers.0"]
    )
    witness.outputs(
        embeddings=lambda i: model.encode(i.x, None),
        scores=lambda i: model.score(model.encode(i.x, None), i.pairs)[:, None],
        logits=lambda i: model(i.x, None),
    )
    rows = rows_of(program, load(program.path, config=program.config), tmp_path / "w.npz")
    assert not failed(rows), [row for row in rows if not row.ok]
    what = [row.what for row in rows]
    assert "scores (with curvatures in float32)" in what
    assert "module encoder.layers.0/0" in what
    assert len(unverified(rows)) == 1
    wrong = load(program.path, config={**program.config, "c": 1.3000005})
    assert failed(witnessed(wrong, Witness.read(tmp_path / "w.npz", wrong)))


def test_a_gradient_that_is_zero_but_for_rounding_has_a_gate(recorded: SimpleNamespace):
    """As that of HGCN's last curvature under relu: two roundings of zero have nothing in common, and the drift tells their size."""
    seen = Witness.read(recorded.out, recorded.ckpt)
    key = next(e.key for e in recorded.ckpt.entries if e.key.endswith("bias"))
    what, place = f"gradient of {key}", f"gradients/{key}"

    def agrees(rounding: float, drift: float) -> bool:
        arrays = {**seen.arrays, f"double/{place}": seen.arrays[f"double/{place}"] + rounding}
        moved = replace(seen, arrays=arrays, meta={**seen.meta, "drift": {**seen.meta["drift"], place: drift}})
        (row,) = [row for row in witnessed(recorded.ckpt, moved) if (row.what, row.dtype) == (what, "float64")]
        return row.ok

    finer = float(np.finfo(np.float64).eps) / float(np.finfo(np.float32).eps)
    size = 1e-6 * float(np.abs(seen.arrays[f"double/{place}"]).max())
    assert agrees(size, size / finer)
    assert not agrees(size, size / finer / 20)


def test_what_was_not_recorded_or_cannot_be_compared_is_said(recorded: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A program that ends before its steps, and submodules without torch, which verify --witness does not need."""
    program = Program(tmp_path)
    recorder(tmp_path).Witness(tmp_path / "w.npz", program.model, program.path).watch(program.optimizer, 9)
    program.step()
    ckpt = load(program.path, config=program.config)
    (said,) = [row.what for row in witnessed(ckpt, Witness.read(tmp_path / "w.npz", ckpt)) if not row.verified]
    assert said == "the optimizer's steps (the program ended before the 9 that were to be recorded)"
    monkeypatch.setattr(proof, "find_spec", lambda name: None)
    rows = rows_of(recorded.program, recorded.ckpt, recorded.out)
    assert not failed(rows)
    assert [row.what for row in rows if "needs torch" in row.what] == [f"module {n} (it needs torch and geoopt)" for n in recorded.names]
