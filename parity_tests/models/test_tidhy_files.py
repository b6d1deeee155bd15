"""Files of TiDHy as a user has them, in float32: every form verified, the way from file to training and back, and what is refused."""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import weights
from parity_tests import slow
from parity_tests.models.cases_tidhy import config_of, module_of, settings
from parity_tests.models.cases_tidhy_training import STEPS, begun, taken_up
from parity_tests.models.conversion import spoiled
from parity_tests.weights.helpers import assert_deep_equal, run
from port_jax.training import fit
from weights.errors import ConversionError
from weights.mapping.report import NO_USE
from weights.models.tidhy_training import BEGINS, collected, gradnorm

FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "low rank": ("GradNorm", {"low_rank_temp": True}),
    "dynamic bias": ("GradNorm", {"dyn_bias": True}),
    "low rank, dynamic bias, thresholds, all regularisers": ("GradNorm, all regularisers, low rank, carried", {}),
    "GradNorm in training": ("GradNorm", {}),
    "without GradNorm": ("without GradNorm, all regularisers", {}),
    "GradNorm inside": ("GradNorm in training and inside", {}),
    "cross entropy, deep decoder": ("GradNorm", {"loss_type": "BCE", "nonlin_decoder": True, "decoder_hid_dims": [7, 4], "lr_r": 0.002,
                                                 "lr_r2": 0.002}),
    "R2 decoder": ("R2 decoder, clipped", {}),
    "Poisson": ("Poisson", {}),
    "Poisson, R2 decoder": ("Poisson", {"use_r2_decoder": True}),
    "Poisson, R2 decoder, low rank, dynamic bias, GradNorm inside": (
        "Poisson", {"use_r2_decoder": True, "low_rank_temp": True, "dyn_bias": True, "grad_norm_inf": True}),
}  # fmt: skip
"""By name, a run of `cases_tidhy_training` and further settings. Each file says `stateful`, on which no number depends."""


def written(form: str, folder: Path) -> tuple[Any, Any, torch.Tensor]:
    """`last_2.pth.tar`, `config.json` and `expected.npz` of the authors' form, the latter from the original of this project; the run."""
    kind, more = FORMS[form]
    trainer, timer, _, x = begun(kind, folder, torch.float32, **more)
    module = trainer.module
    (folder / "config.json").write_text(json.dumps(config_of(module.of)))
    np.savez(folder / "expected.npz", **recorded(module, x))
    return trainer, timer, x


def recorded(module: Any, x: torch.Tensor) -> dict[str, np.ndarray]:
    """What the authors' code records: one step of inference from r2 = 0, a prediction, a record, the losses, and gradients of their sum."""
    r, _ = module.first(x[:, 0])
    begin = torch.zeros(len(x), module.of["r2_dim"])
    inferred = module.infer(x[:, 1], r, begin)
    prediction, whole = module.predict(r, inferred[1]), module.record(x)
    losses, _ = module.training_losses(x)
    module.zero_grad()
    losses.sum().backward()
    slopes = {f"grad/{key}": p.grad for key, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    found = {"inputs": x, "first/r": r, "inf/r": inferred[0], "inf/r2": inferred[1], "losses": losses, **slopes}
    found |= {f"prediction/{name}": part for name, part in prediction._asdict().items()}
    found |= {f"record/{name}": part for name, part in whole.items()}
    return {name: value.detach().numpy().copy() for name, value in found.items()}


@pytest.mark.slow  # each form is compared with the original, and other models are verified, by `make test`
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_verified_to_the_end(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """By the command line, as a user does, with the steps of the file's own optimizer and what the original has recorded."""
    written(form, tmp_path)
    given = ("verify", tmp_path / "last_2.pth.tar", "--config", tmp_path / "config.json", "--report", tmp_path / "report.json")
    code, out, err = run(monkeypatch, capsys, *given, "--witness", tmp_path / "expected.npz", "--level", "step")
    assert code == 0, out + err
    rows = json.loads((tmp_path / "report.json").read_text())["rows"]
    keys = set(torch.load(tmp_path / "last_2.pth.tar", weights_only=False)["state_dict"])
    for level in ("grad", "step"):
        assert {row["what"] for row in rows if row["level"] == level} == keys, "every parameter is compared"
    assert all(row["gate"] < 0.1 for row in rows if row["level"] in ("forward", "grad", "step")), "a wide gate proves nothing"


@pytest.mark.slow  # each step of the way for itself: tests of the commands, and of training above
def test_from_a_file_to_training_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    form = "low rank, dynamic bias, thresholds, all regularisers"
    trainer, timer, x = written(form, tmp_path)
    monkeypatch.chdir(tmp_path)
    for command, told in {
        "inspect last_2.pth.tar": "tidhy",
        "convert last_2.pth.tar --config config.json --out converted": "it moves no parameter of the model",
        "verify last_2.pth.tar --config config.json --witness expected.npz --converted converted": "comparisons agree",
        "embed converted --format npy --out dynamics.npy": "dynamics.npy",
        "export converted same.pth.tar": "same.pth.tar",
    }.items():
        code, out, err = run(monkeypatch, capsys, *command.split())
        assert (code, told in " ".join(out.split())) == (0, True), f"{command}: {out}{err}"
    assert_deep_equal(*(torch.load(name, weights_only=False) for name in ("last_2.pth.tar", "same.pth.tar")))
    factors = trainer.module.temporal.detach().numpy()
    mixed = np.einsum("mik,mjk->mij", factors, factors).reshape(len(factors), -1)
    np.testing.assert_allclose(np.load("dynamics.npy"), mixed, rtol=1e-6, atol=1e-7)
    ckpt = weights.restore("converted")
    step, state = taken_up(ckpt, trainer)
    result = fit(step, state, steps=3, batch=jnp.asarray(x.numpy()), folder="run", progress=False)
    for _ in range(3):
        trainer.step(x, STEPS)
        timer.step()
    code, out, err = run(monkeypatch, capsys, "export", "run", "back.pth.tar", "--like", "converted")
    assert code == 0, err
    assert "latents/r2" in out, "what has no place in a file is told"
    back = torch.load("back.pth.tar", weights_only=False)
    old = torch.load("last_2.pth.tar", weights_only=False)
    for key, p in trainer.module.named_parameters():
        want, begin = p.detach(), old["state_dict"][key]
        assert (back["state_dict"][key] - want).abs().max() <= 2e-2 * (want - begin).abs().max(), key  # in float32, by Adam
    torch.testing.assert_close(back["model_dict"]["loss_weights"], trainer.weights.weights, rtol=1e-5, atol=0)
    torch.testing.assert_close(back["model_dict"]["l0"], old["model_dict"]["l0"], rtol=0, atol=0)
    assert back["sched_dict"][0]["last_epoch"] == 5
    assert list(result.state.collections) == ["gradnorm", "latents"]


def test_convert_says_what_a_run_begins_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """The weights of the losses and the first losses are no variables, and a run goes on from them; not from one without the other."""
    trainer, _, _, _ = begun("GradNorm", tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("config.json").write_text(json.dumps(config_of(trainer.module.of)))
    code, out, err = run(monkeypatch, capsys, "convert", "last_2.pth.tar", "--config", "config.json", "--out", "converted")
    assert code == 0, err
    told = " ".join(out.split())
    for key in ("loss_weights", "l0"):
        assert f"written again by export: model_dict.{key} ({BEGINS})" in told
    assert f"model_dict.device ({NO_USE})" in told
    kept = gradnorm(weights.restore("converted").source)
    assert kept is not None
    np.testing.assert_array_equal(kept["weights"], trainer.weights.weights)  # pyright: ignore[reportArgumentType]
    np.testing.assert_array_equal(kept["initial"], trainer.weights.initial)  # pyright: ignore[reportArgumentType]
    made = torch.load("last_2.pth.tar", weights_only=False)
    del made["model_dict"]["l0"]
    torch.save(made, "half.pth.tar")
    half = weights.load("half.pth.tar", config="config.json")
    assert gradnorm(half.source) is None
    assert half.report["not_converted"]["model_dict.loss_weights"] == NO_USE
    inside = {"loss_weights": trainer.weights.weights, "l0": trainer.weights.initial}
    torch.save({**made, "args": config_of(trainer.module.of), "model_dict": inside}, "beside.pth.tar")
    assert weights.load("beside.pth.tar").report["not_converted"]["model_dict"] == BEGINS, "it is inside of what is said"


@pytest.mark.parametrize("form", slow.all_but({"without GradNorm"}, ["R2 decoder", "without GradNorm"]))
def test_a_run_leaves_out_what_a_file_has_no_place_for(form: str, tmp_path: Path):
    """The gradients of an R2 decoder; nothing where a run has no collections."""
    kind, more = FORMS[form]
    trainer, _, ckpt, x = begun(kind, tmp_path, **more)
    step, state = taken_up(ckpt, trainer, steps=1)
    fit(step, state, steps=1, batch=jnp.asarray(x.numpy()), folder=tmp_path / "run", progress=False)
    after = ckpt.after(tmp_path / "run")
    left = after.report["run"]["left_out"]
    assert {at.partition("/")[0] for at in left} == ({"r2_decoder"} if form == "R2 decoder" else set())
    assert after.report["run"].get("because") == ("the torch file has no place for them" if left else None)
    after.export(tmp_path / "back.pth.tar")
    back = torch.load(tmp_path / "back.pth.tar", weights_only=False)
    moved = np.abs(back["state_dict"]["temporal"].numpy() - np.asarray(ckpt.variables["params"]["temporal"]))
    assert moved.max() > 0


@pytest.mark.parametrize("low", [False, True])
def test_embed_writes_the_dynamics(low: bool, tmp_path: Path):
    """One in each row; low-rank factors are multiplied out."""
    module = module_of(settings(low_rank_temp=low))
    torch.save(module.state_dict(), tmp_path / "model.pth")
    found = weights.embeddings(weights.load(tmp_path / "model.pth", config=config_of(module.of)))
    want = module.dynamics().detach().reshape(len(found.points), -1)
    np.testing.assert_allclose(found.points, want, rtol=1e-14)
    assert found.points.shape == (module.of["mix_dim"], module.of["r_dim"] ** 2)


WRONG: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "a loss in small letters": ({"loss_type": "poisson"}, ("loss_type is 'poisson'", "MSE, BCE, Poisson")),
    "no loss": ({"loss_type": None}, ("loss_type is None", "MSE, BCE, Poisson")),
    "a part of an iteration": ({"max_iter": 10.5}, ("max_iter is 10.5", "a whole number")),
    "a number as text": ({"tol": "0.01"}, ("tol is '0.01'", "a finite number")),
    "no rate": ({"lr_r": None}, ("lr_r is None", "a finite number")),
    "a rate without an end": ({"lr_r2": float("inf")}, ("lr_r2 is inf", "a finite number")),
    "a word for a switch": ({"batch_converge": "yes"}, ("batch_converge is 'yes'", "true or false")),
    "other latents": ({"r_dim": 9}, ("r_dim is 9", "spatial_decoder.0.weight")),
    "full dynamics": ({"low_rank_temp": False}, ("low_rank_temp is False", "shape of temporal")),
    "another rank": ({"rank": 3}, ("rank is 3", "shape of temporal")),
    "no bias": ({"dyn_bias": False}, ("dyn_bias is False", "according to keys")),
    "no R2 decoder": ({"use_r2_decoder": False}, ("use_r2_decoder is False", "according to keys")),
    "another R2 decoder": ({"r2_decoder_hid_dim": 50}, ("r2_decoder_hid_dim is 50", "R2_Decoder.0.weight")),
    "a deep decoder": ({"nonlin_decoder": True}, ("nonlin_decoder is True", "according to keys")),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_configuration_is_named(name: str, tmp_path: Path):
    """By the setting, the value found, what contradicts it or what it may be, and what to do."""
    given = settings("as it is", low_rank_temp=True, dyn_bias=True, use_r2_decoder=True)
    torch.save(module_of(given).state_dict(), tmp_path / "model.pth")
    wrong, parts = WRONG[name]
    with pytest.raises(ConversionError) as error:
        weights.load(tmp_path / "model.pth", config={**config_of(given), **wrong})
    assert all(part in str(error.value) for part in parts), error.value
    assert error.value.remedy


def test_a_file_without_a_configuration_asks_for_it(tmp_path: Path):
    torch.save(module_of(settings()).state_dict(), tmp_path / "model.pth")
    with pytest.raises(ConversionError, match="neither in the file nor in the configuration") as error:
        weights.load(tmp_path / "model.pth")
    assert "--config" in error.value.remedy


@pytest.mark.parametrize("key", ["temporal", "temporal_bias", "spatial_decoder.3.weight", "R2_Decoder.0.weight", "R2_Decoder.4.weight"])
def test_a_spoiled_key_of_each_part_is_refused(key: str, tmp_path: Path):
    given = settings("as it is", dyn_bias=True, use_r2_decoder=True, nonlin_decoder=True, decoder_hid_dims=[7, 4])
    state = dict(module_of(given).state_dict())
    for how, bad in spoiled(state, key).items():
        if how == "not finite" and state[key].numel() < 4:
            continue  # the fourth number is spoiled
        torch.save(bad, tmp_path / "model.pth")
        with pytest.raises(ConversionError) as error:
            weights.load(tmp_path / "model.pth", config=config_of(given))
        assert str(tmp_path / "model.pth") in str(error.value), how
        assert error.value.remedy, how


@pytest.mark.parametrize("low", [False, True])
def test_dynamics_of_another_number_are_refused(low: bool, tmp_path: Path):
    given = settings(low_rank_temp=low)
    state = dict(module_of(given).state_dict())
    longer = torch.cat([state["temporal"], state["temporal"][:1]])
    torch.save({**state, "temporal": longer}, tmp_path / "model.pth")
    with pytest.raises(ConversionError, match=r"mix_dim|hypernet\.4"):
        weights.load(tmp_path / "model.pth", config=config_of(given))


def test_weights_of_the_losses_of_another_run_are_refused(tmp_path: Path):
    """Four losses of a model with an R2 decoder do not go into the file of one without."""
    _, _, ckpt, _ = begun("GradNorm", tmp_path)
    with pytest.raises(ConversionError, match=r"loss_weights has shape \(4,\)"):
        collected(ckpt.source, {"gradnorm": {"weights": np.ones(4), "initial": np.ones(4)}})
