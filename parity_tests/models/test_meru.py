"""MERU, HyCoCLIP and CLIP in Flax against their original: features, losses, gradients, steps, bounds, files, and the authors' numbers."""

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import weights
from parity_tests import draws, slow
from parity_tests.models import cases_meru
from parity_tests.models.cases_meru import BASE, CONFIGS, Run, inputs, module_of, ours, theirs
from parity_tests.models.conversion import check_parity, check_round_trip, check_steps, converted
from parity_tests.weights.helpers import assert_deep_equal, run
from port_jax.manifolds import Lorentz, Sphere
from port_jax.models import MERU
from port_jax.models.meru import padded_tokens
from reference_torch.models.meru import padded, parameter_groups
from weights.checkpoint import load
from weights.errors import ConversionError, Unmatched, Usage
from weights.mapping.entries import flatten
from weights.proof.verify import failed, verify

EPS = 1e-5
"""A softmax does not see the bias of keys, whose gradient is rounding: with Adam's 1e-8, 1e-6 of a step would be made of it."""


@pytest.mark.parametrize("name", slow.all_but({"MERU", "HyCoCLIP"}, CONFIGS))
def test_features_losses_and_gradients(name: str, tmp_path: Path):
    module = module_of(name)
    ckpt = converted(module, CONFIGS[name], tmp_path)
    assert (ckpt.arch, ckpt.model.kind) == ("meru", CONFIGS[name]["class"])
    check_parity(module, ckpt, theirs, ours, radius=0.9)
    check_round_trip(ckpt, tmp_path)


@pytest.mark.slow  # verify takes steps of a file of a run below
@pytest.mark.parametrize("name", slow.all_but({"HyCoCLIP"}, ["HyCoCLIP", "CLIP"]))
def test_steps_of_three_groups(name: str, tmp_path: Path):
    module = module_of(name)
    excluded = ("logit_scale", "curv", "visual_alpha", "textual_alpha")
    optimizer = torch.optim.AdamW(parameter_groups(module, 0.2, excluded=excluded), lr=0.005, betas=(0.9, 0.98), eps=EPS)
    check_steps(module, optimizer, CONFIGS[name], tmp_path, theirs, ours)


def gone_on(ckpt: Any, steps: int) -> tuple[Any, list[float]]:
    """The checkpoint after as many steps in JAX, and the loss before each."""
    given = [jnp.asarray(v) for v in inputs(ckpt.model.kind).values()]

    @jax.jit
    def step(params: Any, state: Any) -> Any:
        value, slopes = jax.value_and_grad(lambda p: ckpt.model.apply({**ckpt.variables, "params": p}, *given)["loss"])(params)
        updates, state = ckpt.optimizer.update(slopes, state, params)
        return value, optax.apply_updates(params, updates), state

    params, state, losses = ckpt.variables["params"], ckpt.opt_state, []
    for _ in range(steps):
        value, params, state = step(params, state)
        losses.append(float(value))
    return dataclasses.replace(ckpt, variables={**ckpt.variables, "params": params}, opt_state=state), losses


OUT_OF_BOUNDS = {"logit_scale": 4.7, "curv": float(np.log(0.7 / 10)) - 0.05, "visual_alpha": 0.1, "textual_alpha": -0.7}


@pytest.mark.slow  # the recording's ten steps go on from its file
@pytest.mark.parametrize(
    ("name", "numbers"),
    slow.all_but(lambda case: case[0] == "MERU", [("MERU", OUT_OF_BOUNDS), ("HyCoCLIP", {}), ("CLIP", {"logit_scale": 4.7})]),
    ids=["MERU at its bounds", "HyCoCLIP", "CLIP at its bound"],
)
def test_a_run_goes_on_from_its_file(name: str, numbers: dict[str, float], tmp_path: Path):
    """Through the warm-up, with numbers that the forward pass puts within their bounds: the same losses, tensors, and file."""
    run = Run(name, **numbers)
    for group in run.optimizer.param_groups:
        group["eps"] = EPS
    run.go(2)
    run.save(tmp_path / "checkpoint_00000002.pth")
    weights.load(tmp_path / "checkpoint_00000002.pth", config=CONFIGS[name]).save(tmp_path / "out")
    ckpt = weights.restore(tmp_path / "out")
    told = ckpt.report["optimizer"]
    assert told["indices_by"] == "the architecture's groups"
    assert (told["scheduler"]["name"], told["scheduler"]["rates_follow"]) == ("LinearWarmupCosineDecayLR", True)
    start = {k: v.numpy().copy() for k, v in run.module.state_dict().items()}
    later, losses = gone_on(ckpt, 6)
    np.testing.assert_allclose(losses, run.go(6), rtol=1e-10)
    later.export(tmp_path / "later.pth")
    run.save(tmp_path / "theirs.pth")
    mine, want = (torch.load(tmp_path / name, weights_only=False) for name in ("later.pth", "theirs.pth"))
    for key, tensor in want["model"].items():
        moved = float((tensor.double() - torch.as_tensor(start[key]).double()).abs().max())
        if key in ("visual.pos_embed", "pixel_mean", "pixel_std", "textual.attn_mask"):
            assert moved == 0
        else:
            assert moved > 0, key
        assert float((mine["model"][key].double() - tensor.double()).abs().max()) <= 1e-8 * moved, key
    assert mine["scheduler"].keys() == want["scheduler"].keys()
    assert mine["scheduler"]["last_epoch"] == want["scheduler"]["last_epoch"] == 8
    for a, b in zip(mine["optimizer"]["param_groups"], want["optimizer"]["param_groups"], strict=True):
        assert a["params"] == b["params"]
        assert a["weight_decay"] == b["weight_decay"]
        assert a["lr"] == pytest.approx(b["lr"], rel=1e-12)


def test_a_file_of_a_run_comes_back_bit_by_bit_and_passes_verify(tmp_path: Path):
    run = Run("MERU", **OUT_OF_BOUNDS)
    run.go(3)
    path = tmp_path / "checkpoint_final.pth"
    run.save(path)
    ckpt = load(path, config=BASE)
    ckpt.export(tmp_path / "back.pth")
    assert_deep_equal(*(torch.load(tmp_path / name, weights_only=False) for name in ("checkpoint_final.pth", "back.pth")))
    rows = verify(ckpt, path, types=("float64",))
    assert not failed(rows), [row for row in rows if not row.ok]
    assert {"forward", "grad", "step"} <= {row.level for row in rows}


def test_groups_follow_the_rule_and_its_slip():
    """Gains and biases decay like matrices where their own decay is 0; positions are in no group; order is a module's own first."""
    module = module_of("MERU, c fixed")
    named = {p: key for key, p in module.named_parameters()}
    for given, decays in ((0.0, [0.2, 0.2, 0.0]), (0.05, [0.2, 0.05, 0.0])):
        groups = parameter_groups(module, 0.2, given)
        assert [group["weight_decay"] for group in groups] == decays
    keys = [[named[p] for p in group["params"]] for group in groups]
    assert keys[2] == ["logit_scale", "visual_alpha", "textual_alpha"]
    assert {"visual.cls_token", "textual.posit_embed", "textual.token_embed.weight"} <= {*keys[0]}
    assert {"visual.norm.weight", "textual.resblocks.0.attn.in_proj_bias", "visual.patch_embed.proj.bias"} <= {*keys[1]}
    assert "visual.pos_embed" not in [key for group in keys for key in group]
    ported = weights.models.ARCHITECTURES["meru"]
    assert ported.groups is not None
    assert ported.groups({"learn_curv": False}, list(module.state_dict())) == keys


def test_the_class_is_asked_for_where_keys_do_not_tell(tmp_path: Path):
    path = tmp_path / "x.pth"
    torch.save(module_of("MERU").state_dict(), path)
    bare = {key: value for key, value in BASE.items() if key != "class"}
    with pytest.raises(Usage, match="class is neither"):
        load(path, config=bare)
    assert load(path, config={**bare, "class": "hycoclip"}).model.kind == "HyCoCLIP"
    with pytest.raises(Unmatched, match="has a curvature"):
        load(path, config={**bare, "class": "CLIP"})
    torch.save(module_of("CLIP").state_dict(), path)
    assert load(path, config=bare).model.kind == "CLIP"
    with pytest.raises(Unmatched, match="class is MERU"):
        load(path, config=BASE)
    assert load(path, config={**bare, "class": "CLIPBaseline"}).model.kind == "CLIP"


def test_a_text_transformer_that_is_not_causal_is_refused(tmp_path: Path):
    state = module_of("MERU").state_dict()
    state["textual.attn_mask"] = torch.zeros_like(state["textual.attn_mask"])
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(Unmatched, match="attn_mask"):
        load(tmp_path / "x.pth", config=BASE)


def test_texts_are_cut_and_padded_as_in_the_original():
    rows = [np.arange(1, 12), np.array([3, 10]), np.array([4, 4, 10, 0])]
    want = padded([torch.as_tensor(row) for row in rows], 7)
    np.testing.assert_array_equal(padded_tokens(rows, 7), want)
    assert list(padded_tokens(rows, 7)[0]) == [1, 2, 3, 4, 5, 6, 11]
    with pytest.raises(ValueError, match=r"tokens\[1\]"):
        padded_tokens([[1, 2], []], 7)
    with pytest.raises(TypeError, match="whole numbers"):
        padded_tokens([[1.0, 2.0]], 7)


@pytest.mark.slow  # the recordings have texts of several lengths
def test_what_follows_the_end_of_a_text_changes_nothing(tmp_path: Path):
    ckpt = converted(module_of(), BASE, tmp_path)
    short, long = np.array([[3, 4, 10]]), np.array([[3, 4, 10, 0, 0, 10, 2]])
    found = [np.asarray(ckpt.model.apply(ckpt.variables, tokens, method="encode_text")) for tokens in (short, long)]
    np.testing.assert_allclose(*found, rtol=1e-13)


@pytest.mark.parametrize("name", ["MERU", "CLIP"])
def test_features_are_points_of_their_space(name: str, tmp_path: Path):
    module = module_of(name)
    ckpt = converted(module, CONFIGS[name], tmp_path)
    given = inputs(ckpt.model.kind)
    found = {}
    for kind, method in (("images", "encode_image"), ("tokens", "encode_text")):
        found[kind] = ckpt.model.apply(ckpt.variables, given[kind], method=method)
    space, points = (
        ckpt.model.apply(ckpt.variables, *args, method=method) for method, args in (("space", ()), ("points", (found["images"],)))
    )
    assert isinstance(space, Lorentz if name == "MERU" else Sphere)
    np.testing.assert_allclose(space.projx(points), points, rtol=1e-13)
    embedded = weights.embeddings(ckpt, inputs=given)
    assert embedded.names[: len(points)] == tuple(f"images {n}" for n in range(len(points)))
    np.testing.assert_allclose(embedded.points[: len(points)], points, rtol=1e-12)
    assert len(embedded.points) == len(given["images"]) + len(given["tokens"])
    if name == "MERU":
        assert float(np.asarray(space.k)) == pytest.approx(np.exp(-0.3))
        z = [
            ckpt.model.apply(ckpt.variables, found["images"], method="log_map0"),
            weights.embeddings(ckpt, inputs=given, space="tangent").points,
        ]
        np.testing.assert_allclose(z[1][: len(points)], z[0], rtol=1e-10)
        with pytest.raises(Usage, match="images or tokens"):
            weights.embeddings(ckpt, inputs={"pictures": given["images"]})


@pytest.mark.slow  # test_embeddings.py embeds rows of images and texts
def test_rows_need_no_batch_or_have_several_axes(tmp_path: Path):
    """One image and one text give one row; axes before them stay."""
    ckpt = converted(module_of("MERU"), CONFIGS["MERU"], tmp_path)
    given = inputs("MERU")
    for method, rows in (("encode_image", given["images"]), ("encode_text", given["tokens"])):
        rows = jnp.asarray(rows[:4])
        want = ckpt.model.apply(ckpt.variables, rows, method=method)
        one = ckpt.model.apply(ckpt.variables, rows[1], method=method)
        square = ckpt.model.apply(ckpt.variables, rows.reshape(2, 2, *rows.shape[1:]), method=method)
        assert one.shape == want.shape[1:]
        np.testing.assert_allclose(one, want[1], rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(square.reshape(want.shape), want, rtol=1e-10, atol=1e-12)


def test_classes_and_the_way_to_the_root(tmp_path: Path):
    """The mean of prompts before they are lifted, and points on the geodesic to the origin."""
    for name in ("MERU", "CLIP"):
        module = module_of(name)
        ckpt = converted(module, CONFIGS[name], tmp_path)
        prompts = inputs("CLIP", rows=6)["tokens"].reshape(2, 3, -1)
        z = torch.stack([module.encode_text(torch.as_tensor(row).long(), name == "CLIP") for row in prompts])
        want = module.lift_text(z.mean(1)).detach()
        np.testing.assert_allclose(ckpt.model.apply(ckpt.variables, prompts, method="classifier"), want, rtol=1e-12)
    ckpt = converted(module_of("MERU"), BASE, tmp_path)
    x = ckpt.model.apply(ckpt.variables, inputs("MERU")["images"], method="encode_image")
    way = ckpt.model.apply(ckpt.variables, x, 5, method="to_root")
    np.testing.assert_allclose(way[0], x, rtol=1e-12)
    assert not np.any(np.asarray(way[-1]))
    space = Lorentz(np.exp(-0.3))
    points = [ckpt.model.apply(ckpt.variables, row, method="points") for row in way]
    steps = np.array([space.dist(a, b) for a, b in itertools.pairwise(points)])
    np.testing.assert_allclose(steps, np.broadcast_to(space.dist0(points[0]) / 4, steps.shape), rtol=1e-9)


def test_what_cannot_be_is_refused(tmp_path: Path):
    ckpt = converted(module_of("MERU"), BASE, tmp_path)
    given, call = inputs("HyCoCLIP"), ckpt.model.apply
    with pytest.raises(TypeError, match="images / 255"):
        call(ckpt.variables, np.zeros((1, 3, 16, 16), np.uint8), method="encode_image")
    with pytest.raises(ValueError, match=r"takes \[\.\.\., 3, 16, 16\]"):
        call(ckpt.variables, np.zeros((1, 16, 16, 3)), method="encode_image")
    with pytest.raises(ValueError, match="padded_tokens"):
        call(ckpt.variables, np.ones((1, 8), int), method="encode_text")
    with pytest.raises(ValueError, match="box_tokens: MERU takes neither"):
        call(ckpt.variables, *given.values())
    with pytest.raises(ValueError, match="belong together"):
        call(ckpt.variables, given["images"], given["tokens"][:2])
    with pytest.raises(ValueError, match="kind"):
        MERU("SigLIP")
    with pytest.raises(ValueError, match="curv_init"):
        MERU(curv_init=0.0)
    flat = converted(module_of("CLIP"), CONFIGS["CLIP"], tmp_path)
    with pytest.raises(ValueError, match="no curvature"):
        flat.model.apply(flat.variables, np.ones((1, 5)), method="half_aperture")


def test_commands_take_files_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    run_ = Run("HyCoCLIP")
    run_.go(2)
    path, config = tmp_path / "checkpoint_00000002.pth", tmp_path / "config.json"
    run_.save(path)
    config.write_text(json.dumps(CONFIGS["HyCoCLIP"]))
    np.savez(tmp_path / "batch.npz", **inputs("HyCoCLIP"))
    for command in (
        ["inspect", path, "--config", config],
        ["convert", path, "--config", config, "--out", tmp_path / "converted"],
        ["embed", tmp_path / "converted", "--inputs", tmp_path / "batch.npz", "--out", tmp_path / "points.csv"],
        ["export", tmp_path / "converted", tmp_path / "back.pth"],
    ):
        code, out, err = run(monkeypatch, capsys, *command)
        assert code == 0, out + err
    assert_deep_equal(*(torch.load(p, weights_only=False) for p in (path, tmp_path / "back.pth")))
    assert len((tmp_path / "points.csv").read_text().splitlines()) == 1 + 2 * cases_meru.ROWS
    code, _, err = run(monkeypatch, capsys, "embed", tmp_path / "converted", "--out", tmp_path / "none.csv")
    assert code != 0
    assert "--inputs" in err


def test_a_model_that_begins_in_jax_becomes_a_file(tmp_path: Path):
    ckpt = converted(module_of("MERU").float(), BASE, tmp_path)
    given = {k: jnp.asarray(v, jnp.float32) if v.dtype.kind == "f" else v for k, v in inputs("MERU").items()}
    fresh = jax.jit(ckpt.model.init)(draws.key(0), *given.values())
    assert {path: leaf.shape for path, leaf in flatten(fresh).items()} == {p: np.shape(a) for p, a in flatten(ckpt.variables).items()}
    made = weights.Checkpoint.of("meru", fresh["params"], dict(ckpt.settings), optimizer={"name": "AdamW", "lr": 1e-3})
    made.export(tmp_path / "made.pth")
    state = torch.load(tmp_path / "made.pth", weights_only=True)["model"]
    assert list(state) == list(module_of("MERU").state_dict())
    assert not state["visual.pos_embed"][0, 0].any()


@pytest.mark.parametrize("how", ["the colours", "the class token's position"])
def test_spoiled_fixed_tensors_are_refused(how: str, tmp_path: Path):
    state = dict(module_of("MERU").state_dict())
    if how == "the colours":
        del state["pixel_std"]
    else:
        state["visual.pos_embed"] = state["visual.pos_embed"][:, 1:]
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(ConversionError):
        load(tmp_path / "x.pth", config=BASE)
