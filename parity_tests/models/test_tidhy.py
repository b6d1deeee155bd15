"""TiDHy in Flax against its original: prediction, inference of a step and of sequences, losses and their gradients."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy

from parity_tests import draws, slow
from parity_tests.models.cases_tidhy import CONFIG, ROWS, TIMES, VARIANTS, config_of, latents, module_of, ours, sequences, settings, theirs
from parity_tests.models.cases_tidhy_training import AUTHORS, authors_folder, beside, of_the_authors
from parity_tests.models.conversion import check_parity, check_round_trip, converted
from parity_tests.weights.helpers import run
from port_jax.models.tidhy import TiDHy
from port_jax.models.tidhy_inference import Inference, Nets, Prediction, infer, milestones
from port_jax.models.tidhy_losses import spatial
from weights.checkpoint import Checkpoint, load
from weights.errors import Unmatched

QUICK = {"GradNorm inside"}


def pair(tmp_path: Path, name: str = "as it is", **more: Any) -> tuple[Any, Checkpoint]:
    """A module and its conversion."""
    given = settings(name, **more)
    module = module_of(given)
    return module, converted(module, config_of(given), tmp_path)


@pytest.mark.parametrize("name", slow.all_but(QUICK, VARIANTS))
def test_prediction_inference_record_and_losses(name: str, tmp_path: Path):
    module, ckpt = pair(tmp_path, name)
    assert ckpt.arch == "tidhy"
    check_parity(module, ckpt, theirs, ours, single=False)
    check_round_trip(ckpt, tmp_path)


@pytest.mark.parametrize(("together", "tol"), [(True, 0.02), (False, 0.02), (True, 1e-14)], ids=["by batch", "by row", "by max_iter"])
def test_an_inference_ends_by_batch_or_by_row(together: bool, tol: float, tmp_path: Path):
    module, ckpt = pair(tmp_path, batch_converge=together, tol=tol)
    x, (r, r2) = sequences(module.of)[:, 1], latents(module.of)
    want_r, want_r2, count = module.infer(*map(torch.as_tensor, (x, r, r2)))
    found: Any = jax.jit(partial(ckpt.model.apply, method="infer"))(ckpt.variables, x, r, r2)
    assert 1 < count < CONFIG["max_iter"] or (tol < 1e-10 and count == CONFIG["max_iter"])
    assert int(found.iterations) == count
    np.testing.assert_allclose(found.r, want_r, rtol=1e-10)
    np.testing.assert_allclose(found.r2, want_r2, rtol=1e-10)
    first, ends = module.first(torch.as_tensor(x))
    found = jax.jit(partial(ckpt.model.apply, method="first"))(ckpt.variables, x)
    assert int(found.iterations) == ends
    np.testing.assert_allclose(found.r, first, rtol=1e-10)


@pytest.mark.parametrize("tol", [0.03, 0.01])
def test_batch_and_rows_end_at_different_iterations(tol: float):
    """A short row that converges slowly beside a long one that converges fast."""
    scale = jnp.array([1.0, 0.2])
    nets = Nets(lambda r: scale * r, lambda r, r2: Prediction(0 * r, jnp.zeros((2, 2, 2)), r2))
    x, zero = jnp.array([[1.0, 0.0], [0.0, 0.01]]), jnp.zeros((2, 2))
    counts = [int(infer(nets, x, zero, jnp.ones((2, 1)), Inference(tol=tol, batch_converge=how)).iterations) for how in (True, False)]
    assert counts[0] < counts[1]


def test_sequences_mapped_one_by_one(tmp_path: Path):
    """With a fixed number of iterations the same numbers as the batch; with the stopping rule each sequence ends by itself."""
    module, ckpt = pair(tmp_path)
    x = jnp.asarray(sequences(module.of))
    batch: Any = ckpt.model.apply(ckpt.variables, x, steps=10, method="latents")

    def one(x: Any, steps: int | None) -> Any:
        return ckpt.model.apply(ckpt.variables, x[None], rows=ROWS, steps=steps, method="latents")

    each = jax.jit(jax.vmap(partial(one, steps=10)))(x)
    np.testing.assert_allclose(each.r[:, 0], batch.r, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(each.r2[:, 0], batch.r2, rtol=1e-12, atol=1e-14)
    ends = jax.jit(jax.vmap(partial(one, steps=None)))(x).iterations
    alone = [jax.jit(partial(one, steps=None))(sequence).iterations for sequence in x[:2]]
    np.testing.assert_array_equal(ends[:2], alone)
    assert ends.shape == (ROWS, TIMES - 1)


def test_a_linear_model_is_solved():
    """With r2 held and linear maps the minimum is that of a linear system: (W^T W + t I) r = W^T x + t r_bar."""
    rng = draws.rng(4)
    w, v, x, r_p = (rng.normal(size=shape) for shape in ((6, 3), (3, 3), (4, 6), (4, 3)))
    nets = Nets(lambda r: r @ w.T, lambda r, r2: Prediction(r @ v.T, jnp.broadcast_to(v, (4, 3, 3)), r2))
    how = Inference(max_iter=3000, tol=0.0, lr_r=0.05, lr_r2=0.0, temp_weight=1.7)
    found = infer(nets, jnp.asarray(x), jnp.asarray(r_p), jnp.zeros((4, 2)), how)
    want = np.linalg.solve(w.T @ w + 1.7 * np.eye(3), w.T @ x.T + 1.7 * v @ r_p.T).T
    np.testing.assert_allclose(found.r, want, rtol=1e-9)


def test_a_fixed_number_of_iterations_is_differentiable():
    nets = Nets(lambda r: 1.3 * r, lambda r, r2: Prediction(0.7 * r, jnp.zeros((1, 2, 2)), r2))
    how = Inference(max_iter=400, tol=0.0, lr_r=0.1, temp_weight=2.0)
    slope = jax.grad(lambda x: infer(nets, x, jnp.ones((1, 2)), jnp.zeros((1, 1)), how).r.sum())(jnp.ones((1, 2)))
    np.testing.assert_allclose(slope, 1.3 / (1.3**2 + 2.0), rtol=1e-9)


def test_milestones_are_whole_parts():
    assert milestones(2000, 10) == list(range(200, 2000, 200))
    assert milestones(20, 5) == [4, 8, 12, 16]
    assert milestones(9, 10) == []


def test_progress_is_told_from_inside_of_the_scan(tmp_path: Path):
    module, ckpt = pair(tmp_path)
    told: list[int] = []
    x = jnp.asarray(sequences(module.of))
    record = partial(ckpt.model.apply, steps=10, progress=lambda t, _: told.append(int(t)), method="record")
    jax.block_until_ready(jax.jit(record)(ckpt.variables, x))
    jax.effects_barrier()
    assert sorted(told) == list(range(1, TIMES))


def test_networks_compute_in_half_precision(tmp_path: Path):
    """The networks only: latents and losses stay in the type of the sequences, and gradients in that of the parameters."""
    module, ckpt = pair(tmp_path)
    x, params = jnp.asarray(sequences(module.of), jnp.float32), jax.tree.map(jnp.float32, ckpt.variables["params"])

    def loss(model: TiDHy, params: Any) -> Any:
        return jnp.stack(model.apply({"params": params}, x, steps=10)).sum()

    whole, half = (jax.jit(jax.value_and_grad(partial(loss, ckpt.model.clone(dtype=dtype))))(params) for dtype in (None, jnp.bfloat16))
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {jnp.dtype("float32")}
    assert 0 < abs(half[0] - whole[0]) < 0.1 * whole[0]


def test_losses_at_the_ends_of_their_domains():
    """The cross entropy at 0 and 1 is torch's, value and derivative. Beyond it is an error there and NaN here; Poisson's is NaN below 0."""
    p, x = np.array([[0.0, 1.0, 0.3, 1.0]]), np.array([[0.4, 0.7, 1.0, 1.0]])
    given = torch.tensor(p, requires_grad=True)
    want = binary_cross_entropy(given, torch.tensor(x), reduction="sum")
    want.backward()
    have, slopes = jax.value_and_grad(lambda p: spatial("BCE", p, jnp.asarray(x), 1))(jnp.asarray(p))
    np.testing.assert_allclose(have, want.detach(), rtol=1e-14)
    np.testing.assert_allclose(slopes, given.grad, rtol=1e-14)  # pyright: ignore[reportArgumentType]
    for bad in (-0.1, 1.1):
        with pytest.raises(RuntimeError, match="between 0 and 1"):
            binary_cross_entropy(torch.tensor([bad]), torch.tensor([0.5]))
        value, slope = jax.value_and_grad(lambda p: spatial("BCE", p, jnp.array([0.5]), 1))(jnp.array([bad]))
        assert np.isnan([value, slope[0]]).all()
    assert np.isnan(spatial("Poisson", jnp.array([-0.1]), jnp.array([1.0]), 1))


def test_what_cannot_be_is_refused(tmp_path: Path):
    module, ckpt = pair(tmp_path)
    x = jnp.asarray(sequences(module.of))
    with pytest.raises(ValueError, match="r2 has shape"):
        ckpt.model.apply(ckpt.variables, x, jnp.zeros((1, 2)))
    for wrong, why in ((x[..., :1], r"shape \(.*, 1\); this model takes \[sequences, time, \d+\](\n|$)"), (x[0], r"sequence as x\[None\]")):
        for method in ("losses", "record", "latents"):  # a width of 1 would be broadcast
            with pytest.raises(ValueError, match=why):
                ckpt.model.apply(ckpt.variables, wrong, method=method)
    with pytest.raises(ValueError, match=r"takes \[sequences, \d+\]"):
        ckpt.model.apply(ckpt.variables, x, method="first")
    with pytest.raises(ValueError, match="loss_type is 'L3'"):
        ckpt.model.clone(loss_type="L3").apply(ckpt.variables, x)
    inside = ckpt.model.clone(inference=dataclasses.replace(ckpt.model.inference, grad_norm_inf=True))
    with pytest.raises(ValueError, match="whole batch"):
        inside.apply(ckpt.variables, x, rows=4, method="latents")
    for given in ({"use_r2_decoder": True}, {"loss_type": "L3"}):
        with pytest.raises(Unmatched, match=next(iter(given))):
            load(tmp_path / "model.pth", config={**config_of(module.of), **given})


@pytest.mark.parametrize("file", slow.all_but({"tidhy_gradnorm_inference"}, AUTHORS))
def test_losses_and_gradients_of_the_authors(file: str):
    """The authors' own numbers in float32; `test_the_authors_files_by_the_command_line` compares all of them."""
    with jax.enable_x64(False):
        ckpt, z = of_the_authors(file)

        @jax.jit
        def both(params: Any) -> Any:
            return jax.value_and_grad(lambda p: (out := jnp.stack(ckpt.model.apply({"params": p}, z["inputs"]))).sum() + 0 * out[0])(params)

        value, slopes = both(ckpt.variables["params"])
    assert float(value) == pytest.approx(z["losses"].sum(), rel=1e-5)
    for key, have in beside(ckpt, slopes).items():
        want = z[f"grad/{key}"]
        np.testing.assert_allclose(have, want, atol=2e-5 * np.abs(want).max(), err_msg=key)


@pytest.mark.slow  # losses and gradients are compared above
@pytest.mark.parametrize("file", AUTHORS)
def test_the_authors_files_by_the_command_line(file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    folder = authors_folder(file)
    given = ("verify", folder / "full.pth", "--config", folder / "config.json", "--witness", folder / "expected.npz")
    code, out, err = run(monkeypatch, capsys, *given)
    assert code == 0, out + err
    assert "max_iter" not in out.partition("Not verified")[2], "what the witness shows is confirmed"
    assert "clip_grad" in out.partition("Not verified")[2], "what acts in training is not"
