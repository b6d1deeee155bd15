"""TiDHy's training steps against their original: regularisers, each variant of GradNorm, clipping, the three groups, and `fit`."""

import dataclasses
import os
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from parity_tests import draws, slow
from parity_tests.models.cases_tidhy import config_of, module_of, sequences, settings
from parity_tests.models.cases_tidhy_training import (
    AUTHORS,
    EPOCHS,
    LOSSES,
    STEPS,
    TRAINED,
    begun,
    beside,
    distances,
    file_of,
    of_the_authors,
    taken_up,
)
from port_jax.models import TiDHy
from port_jax.models.tidhy_inference import Inference, Inferred
from port_jax.models.tidhy_training import Training, collections, gradients, optimizer, training_step
from port_jax.models.tidhy_weights import Balance, balanced, fresh, start
from port_jax.training import fit, train_state
from reference_torch.models.tidhy_training import Trainer, Weights, optimizer_of
from weights.checkpoint import load
from weights.errors import Unmatched
from weights.mapping.entries import place
from weights.models.tidhy_training import gradnorm, with_gradnorm
from weights.proof.rows import FLOAT64


@pytest.mark.slow  # test_a_run_resumes_bit_by_bit goes on from a file of ours
@pytest.mark.parametrize("name", slow.all_but({"GradNorm, all regularisers, low rank, carried"}, TRAINED))
def test_steps_go_on_from_the_authors_kind_of_file(name: str, tmp_path: Path):
    """Three epochs more, in the last of which the rates are halved: losses, weights of the losses, and parameters."""
    trainer, timer, ckpt, x = begun(name, tmp_path)
    assert ckpt.report["not_converted"].get("optim_dict.1", "it moves no parameter of the model") == "it moves no parameter of the model"
    assert ckpt.report["optimizer"]["scheduler"]["rates_follow"], "the list of schedulers is read, with one optimizer and with two"
    step, state = taken_up(ckpt, trainer)
    if (weighed := trainer.weights).weights is not None and weighed.initial is not None:
        np.testing.assert_array_equal(state.collections["gradnorm"]["weights"], weighed.weights)
        np.testing.assert_array_equal(state.collections["gradnorm"]["initial"], weighed.initial)
        assert (weighed.weights - 1).abs().max() > 1e-3, "other weights than those of a fresh start"
    step, batch = jax.jit(step), jnp.asarray(x.numpy())
    for _ in range(3):
        want = trainer.step(x, STEPS)
        timer.step()
        state, numbers = step(state, batch)
        np.testing.assert_allclose([float(numbers[name]) for name in LOSSES], want[:3], rtol=1e-10)
        np.testing.assert_allclose(numbers["loss"], trainer.total, rtol=1e-10)  # pyright: ignore[reportArgumentType]
    if trainer.weights.weights is not None:
        np.testing.assert_allclose(state.collections["gradnorm"]["weights"], trainer.weights.weights, rtol=1e-10)
    if trainer.carry:
        np.testing.assert_allclose(state.collections["latents"]["r2"], trainer.r2, rtol=1e-9)  # pyright: ignore[reportArgumentType]
    far = distances(ckpt, state.params, trainer.module)
    assert max(far.values()) < 1e-8, far


@pytest.mark.parametrize("balanced", [True, False])
def test_a_list_of_schedulers_is_read_with_two_optimizers_and_with_one(balanced: bool, tmp_path: Path):
    given = settings(grad_norm=balanced)
    module = module_of(given)
    mover, timer = optimizer_of(module, given, EPOCHS)
    trainer = Trainer(module, mover, given)
    trainer.step(torch.as_tensor(sequences(given)), 1)
    timer.step()
    made = file_of(trainer, timer)
    assert len(made["optim_dict"]) == 1 + balanced
    torch.save(made, tmp_path / "x.pth.tar")
    ckpt = load(tmp_path / "x.pth.tar", config=config_of(given))
    told = {"name": "MultiStepLR", "steps": 1, "updates_per_step": 1, "rates_follow": True}
    assert ckpt.report["optimizer"]["scheduler"] == {**told, "updates_per_step_by": "1 update in 1 step of the scheduler"}
    ckpt.export(tmp_path / "back.pth.tar")
    back = torch.load(tmp_path / "back.pth.tar", weights_only=False)
    assert back["sched_dict"] == made["sched_dict"]
    assert [own["param_groups"] for own in back["optim_dict"]] == [own["param_groups"] for own in made["optim_dict"]]


@pytest.mark.slow  # three steps are compared above
def test_a_hundred_steps_within_ten_times_torchs_own_drift(tmp_path: Path):
    """Drift: the same steps from a start of which every number is moved by one unit in the last place."""
    trainer, _, ckpt, x = begun("GradNorm", tmp_path)
    step, state = taken_up(ckpt, trainer)
    ends = []
    for nudge in range(3):
        other, clock, _, _ = begun("GradNorm", tmp_path)
        ways = draws.rng(nudge)
        with torch.no_grad():
            for p in other.module.parameters() if nudge else ():
                p.copy_(torch.as_tensor(np.nextafter(p.numpy(), ways.choice([-np.inf, np.inf], p.shape))))
        for _ in range(100):
            other.step(x, STEPS)
            clock.step()
        ends.append({key: p.detach().numpy().copy() for key, p in other.module.named_parameters()})
    step, batch = jax.jit(step), jnp.asarray(x.numpy())
    for _ in range(100):
        state, _ = step(state, batch)
    mine, start = beside(ckpt, state.params), beside(ckpt, ckpt.variables["params"])
    for key, want in ends[0].items():
        drift = max(np.abs(end[key] - want).max() for end in ends[1:])
        assert np.abs(mine[key] - want).max() <= max(10 * drift, FLOAT64["step"] * np.abs(want - start[key]).max()), key


def test_gradnorm_of_quadratic_losses_by_hand():
    """L_i = a_i/2 |p|^2: g_i = w_i a_i |p|, so that the gradient of sum |g_i - target_i| is sum_i sign_i w_i a_i p/|p|."""
    a, p, w = np.array([1.0, 2.0, 4.0]), np.array([0.6, -0.8]), np.array([0.5, 1.0, 1.5])
    initial = np.array([1.0, 1.5, 0.4])
    found = balanced(lambda p: jnp.asarray(a) / 2 * jnp.sum(p * p), jnp.asarray(p), Balance(jnp.asarray(w), jnp.asarray(initial)),
                     jnp.array([True, True, True]), 0.7)  # fmt: skip
    ratio = a / 2 / initial
    lengths = w * a
    sign = np.sign(lengths - lengths.mean() * (ratio / ratio.mean()) ** 0.7)
    np.testing.assert_allclose(found.gradients, (lengths.sum() + (sign * lengths).sum()) * p, rtol=1e-13)
    np.testing.assert_allclose(found.slope, sign * a, rtol=1e-13)
    moved = np.exp(w * (1 - 0.01 * 0.1) - 0.01 * sign)
    np.testing.assert_allclose(fresh(found, 0.01, 0.1).weights, 3 * moved / moved.sum(), rtol=1e-7)


def test_gradnorm_where_a_gradient_is_zero_is_finite():
    """The second loss depends on nothing: its norm is 0 and has no derivative, as in torch."""

    def losses(p: Any) -> Any:
        return jnp.stack([jnp.sum(p**2), jnp.sum(0 * p) + 1])

    tasks = jnp.array([True, True])
    found = balanced(losses, jnp.ones(2), start(jnp.float64, 2), tasks, 0.5)
    p = torch.ones(2, dtype=torch.float64, requires_grad=True)
    given = Weights(0.01, 0.5, 0.0)
    (want,) = given.step(torch.stack([(p**2).sum(), (0 * p).sum() + 1]), [[p], [p]], [p])
    np.testing.assert_allclose(found.gradients, want, rtol=1e-12)
    np.testing.assert_allclose(fresh(found, 0.01, 0.0).weights, given.weights, rtol=1e-12)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("variant", ["as it is", "R2 decoder"])
def test_an_optimizer_of_three_groups_is_torchs(variant: str, tmp_path: Path):
    """From a fresh start, over milestones of the schedule, by gradients alone. An R2 decoder stays."""
    given = settings(variant)
    module = module_of(given)
    torch.save(module.state_dict(), tmp_path / "model.pth")
    ckpt = load(tmp_path / "model.pth", config=config_of(given))
    mover, timer = optimizer_of(module, given, EPOCHS)
    tx, params = optimizer(Training.of(given), EPOCHS), ckpt.variables["params"]
    state, rng = tx.init(params), draws.rng(0)
    update = jax.jit(tx.update)
    for _ in range(5):
        slopes: dict[str, Any] = {entry.key: rng.normal(size=entry.shape) for entry in ckpt.entries}
        tree: dict[str, Any] = {}
        for entry in ckpt.entries:
            place(tree, str(entry.path).removeprefix("params/"), jnp.asarray(entry.layout.forward(slopes[entry.key])))
        for key, p in module.named_parameters():
            p.grad = torch.as_tensor(slopes[key])
        mover.step()
        timer.step()
        updates, state = update(tree, state, params)
        params: Any = optax.apply_updates(params, updates)
    assert max(distances(ckpt, params, module).values()) < 1e-10


@cache
def small(dtype: Any = None) -> tuple[Any, Any, Any]:
    """A step and a state in float32 that the tests of `fit` share; the batch. dtype: that of the networks."""
    model, options = small_model(dtype), Training(carry_r2=True)
    tx = optimizer(options, epochs=10)
    x = jnp.asarray(draws.rng(1).normal(size=(4, 3, 4)), jnp.float32)
    params = jax.tree.map(jnp.float32, model.init(draws.key(0), x)["params"])
    state = train_state(params, tx, draws.key(2), collections=collections(model, options, 4))
    return training_step(model, tx, options), state, x


def small_model(dtype: Any = None, tol: float = 0.0, max_iter: int = 10) -> TiDHy:
    """With a fixed number of iterations, or the stopping rule."""
    return TiDHy(4, 3, 2, 3, 5, dtype=dtype, inference=Inference(max_iter=max_iter, tol=tol, lr_r=0.05, lr_r2=0.05))


@pytest.mark.slow  # training/test_fit.py and test_checkpoints.py resume other states
def test_a_run_resumes_bit_by_bit(tmp_path: Path):
    """The optimizer, GradNorm's weights and r2 are all in the state."""
    step, state, x = small()
    whole = fit(step, state, steps=6, batch=x, chunk=3, every=3, progress=False)
    assert len(set(whole.history.steps["loss"])) == 6, "the run moves"
    for end in (3, 6):
        parts = fit(step, state, steps=end, batch=x, chunk=3, every=3, folder=tmp_path / "run", progress=False)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), parts.state[:3], whole.state[:3]))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), parts.state.collections, whole.state.collections))


@pytest.mark.slow  # losses and gradients in half precision are those of a test of the model
def test_a_run_in_half_precision_keeps_its_state_in_single():
    """Parameters, moments, weights of the losses and latents; the losses of the first steps are near those of float32."""
    curves = []
    for dtype in (None, jnp.bfloat16):
        step, state, x = small(dtype)
        found = fit(step, state, steps=3, batch=x, progress=False)
        assert jax.tree.all(jax.tree.map(lambda a, b: a.dtype == b.dtype, found.state, state))
        curves.append(np.stack([found.history.steps[name] for name in ("loss", *LOSSES)]))
    assert 0 < np.abs(curves[1] / curves[0] - 1).max() < 0.1


@pytest.mark.slow  # the schedules of the original are compared with torch's above
def test_a_schedule_of_optax_moves_a_run():
    """One that warms up from 0: the first step moves nothing, and the second does."""
    _, state, x = small()
    tx = optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 0.01, 2, 10))
    step = jax.jit(training_step(small_model(), tx, Training(carry_r2=True), steps=1))
    states = [train_state(state.params, tx, draws.key(2), collections=state.collections)]
    for _ in range(2):
        states.append(step(states[-1], x)[0])
    moved = [jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), new.params, old.params) for old, new in pairwise(states)]
    assert max(jax.tree.leaves(moved[0])) == 0
    assert max(jax.tree.leaves(moved[1])) > 0


def test_parameters_begin_in_single_precision():
    """All of them, also where 64 bits are enabled, as here: `fit` refuses a state whose types a step changes."""
    model = TiDHy(4, 3, 2, 3, 5, dyn_bias=True, use_r2_decoder=True)
    made = jax.eval_shape(lambda: model.init(draws.key(0), jnp.zeros((2, 3, 4), jnp.float32)))
    assert {leaf.dtype for leaf in jax.tree.leaves(made)} == {jnp.dtype("float32")}


def test_a_run_that_carries_r2_asks_for_its_batch():
    with pytest.raises(ValueError, match="give the number of sequences"):
        collections(TiDHy(4, 3, 2, 3, 5), Training(carry_r2=True))


def test_a_state_without_its_collections_is_refused():
    step, state, x = small()
    with pytest.raises(ValueError, match=r"no collection gradnorm and no latents; give train_state what .*collections\(model, options\)"):
        step(state._replace(collections={}), x)


def test_an_r2_decoder_without_gradnorm_has_no_step():
    """As in the original, whose step ends with a NameError."""
    given = settings("R2 decoder", grad_norm=False)
    module = module_of(given)
    with pytest.raises(ValueError, match="trained with grad_norm only"):
        Trainer(module, optimizer_of(module, given, EPOCHS)[0], given)
    model, found = small_model().clone(use_r2_decoder=True), Inferred(*(jnp.zeros((4, 3, n)) for n in (3, 2)), jnp.ones(2, int))
    with pytest.raises(ValueError, match=r"give Training\(grad_norm=True\)"):
        gradients(model, Training(grad_norm=False), {}, jnp.zeros((4, 3, 4)), found, start())


SHARDED = """
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from parity_tests.models.test_tidhy_training import small, small_model
step, state, x = small()
assert jax.device_count() == 4
mesh = jax.make_mesh((4,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
parted = jax.device_put(x, NamedSharding(mesh, PartitionSpec("batch")))
shared = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
(one, a), (four, b) = jax.jit(step)(state, x), jax.jit(step)(shared, parted)
np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-5)
for p, q in zip(jax.tree.leaves(one.params), jax.tree.leaves(four.params)):
    np.testing.assert_allclose(p, q, rtol=1e-3, atol=1e-5)
rule = small_model(tol=0.02, max_iter=60)
ends = jax.jit(lambda params, x: rule.apply({"params": params}, x, rows=4, method="latents").iterations)
np.testing.assert_array_equal(ends(shared.params, parted), ends(state.params, x))
alone = np.stack([ends(state.params, x[n : n + 1]) for n in range(4)])
assert (alone != ends(state.params, x)).any(1).sum() > 1, "a device that looked at its own sequence would end elsewhere"
"""


@pytest.mark.slow  # the same step on one device is compared with torch above
def test_a_batch_over_four_devices():
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    root = Path(__file__).parents[2]
    found = subprocess.run([sys.executable, "-c", SHARDED], cwd=root, env={**os.environ, **environment, "PYTHONPATH": str(root)},
                           capture_output=True, text=True, timeout=600)  # fmt: skip
    assert found.returncode == 0, found.stderr[-2000:]


def test_the_weights_of_the_losses_go_back(tmp_path: Path):
    trainer, _, ckpt, _ = begun("GradNorm", tmp_path)
    kept = gradnorm(ckpt.source)
    assert kept is not None
    np.testing.assert_array_equal(kept["weights"], trainer.weights.weights)  # pyright: ignore[reportArgumentType]
    new = dataclasses.replace(ckpt, source=with_gradnorm(ckpt.source, [0.5, 1.0, 1.5], kept["initial"]))
    new.save(tmp_path / "out")
    new.export(tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=False)
    assert back["model_dict"]["loss_weights"].tolist() == [0.5, 1.0, 1.5]
    assert back["optim_dict"][1] == torch.load(tmp_path / "last_2.pth.tar", weights_only=False)["optim_dict"][1]
    with pytest.raises(Unmatched, match="l0 has shape"):
        with_gradnorm(ckpt.source, [1.0, 1.0, 1.0], [1.0])
    torch.save({"state_dict": trainer.module.state_dict()}, tmp_path / "bare.pth")
    bare = load(tmp_path / "bare.pth", config=config_of(settings()))
    assert gradnorm(bare.source) is None
    with pytest.raises(Unmatched, match="model_dict"):
        with_gradnorm(bare.source, [1.0, 1.0, 1.0], [1.0, 1.0, 1.0])


@pytest.mark.slow  # the same with the original of this project above
@pytest.mark.parametrize("file", AUTHORS)
def test_four_epochs_of_the_authors(file: str):
    """One batch an epoch, from the file, in float32.

    An inference may end one iteration earlier or later after some of them: r then differs by `tol`, 1e-3 of it, and losses, which are
    quadratic in both ends of a difference of them, by up to four times that.
    """
    with jax.enable_x64(False):
        ckpt, z = of_the_authors(file)
        options, kept = Training.of(ckpt.settings), gradnorm(ckpt.source)
        extra = collections(ckpt.model, options, balance=Balance(**kept) if kept else None)
        state = train_state(ckpt.variables["params"], ckpt.optimizer, draws.key(0), ckpt.opt_state, extra)
        step = jax.jit(training_step(ckpt.model, ckpt.optimizer, options))
        for epoch in range(4):
            state, numbers = step(state, z["inputs"])
            for name in LOSSES:
                assert float(numbers[name]) == pytest.approx(z[f"resume/{name}"][epoch], rel=4e-3), (epoch, name)
            if options.grad_norm:
                assert float(numbers["loss"]) == pytest.approx(z["resume/weighted_loss"][epoch], rel=4e-3)
    if options.grad_norm:  # the recorded weights of the other epochs were moved in place by the next
        np.testing.assert_allclose(state.collections["gradnorm"]["weights"], z["resume/weights"][-1], rtol=1e-3)
    mine, before = beside(ckpt, state.params), beside(ckpt, ckpt.variables["params"])
    for key in mine:
        want = z[f"after4/{key}"]
        assert np.abs(mine[key] - want).max() <= 2e-2 * np.abs(want - before[key]).max(), key
