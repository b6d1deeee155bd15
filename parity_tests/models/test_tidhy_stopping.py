"""TiDHy's training with the stopping rule beside torch's: each inference ends at the same iteration, and the losses are on one curve.

The rule compares |new - old| / |old| with `tol`. Where torch's own quotient is within rounding of `tol`, a bit decides whether one more
iteration is made. It moves a latent by about `tol` of its length, and losses, which are quadratic in both ends of a difference of latents,
by up to four times that. Nowhere else may a loss differ by more than torch's own drift.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests import draws, slow
from parity_tests.models.cases_tidhy_training import LOSSES, begun, taken_up
from port_jax.models.tidhy_inference import Inference, Nets, Prediction, infer
from reference_torch.models.tidhy_training import Trainer
from weights.checkpoint import Checkpoint

RULE: dict[str, Any] = {"tol": 1e-3, "max_iter": 200}
COARSE: dict[str, Any] = {"tol": 2e-2, "max_iter": 40}
"""For runs whose iterations are long, or which seldom converge to 1e-3; of fewer steps."""


class Run(NamedTuple):
    """The name of a run of `cases_tidhy_training`, settings that differ, and for how many steps it is compared."""

    kind: str
    more: dict[str, Any]
    lengths: tuple[int, ...] = (4, 60)


RUNS: dict[str, Run] = {
    "by batch": Run("GradNorm", {}),
    "by row, without GradNorm": Run("without GradNorm, all regularisers", {"batch_converge": False}),
    "GradNorm inside": Run("GradNorm in training and inside", {}, (4,)),
    "GradNorm inside, coarse": Run("GradNorm in training and inside", COARSE, (12,)),
    "low rank": Run("GradNorm", {"low_rank_temp": True}, (4,)),
    "low rank, by row, thresholds, carried": Run("GradNorm, all regularisers, low rank, carried", COARSE, (20,)),
    "R2 decoder": Run("R2 decoder, clipped", {}),
}
FLIPPED = 4
"""What a stop that comes one iteration sooner or later may move a loss by, as a part of it, in units of `tol`."""
NEAR = 1e-8
"""How near to `tol` torch's quotient has to be, as a part of it, for a stop to be a matter of rounding: far above the drift of a run."""
DRIFT = 1e-8
"""The least that losses may differ by, as a part of them, where no stop did: ten times torch's drift is allowed as well."""


class Curve(NamedTuple):
    """losses: [steps, 3]. ends: [steps, times - 1], the iterations of each inference. near: [steps], how near to `tol` the nearest quotient
    of the step was, as a part of it; torch's alone. tol: that of the run."""

    losses: np.ndarray
    ends: np.ndarray
    near: np.ndarray
    tol: float


def torch_curve(trainer: Trainer, timer: Any, x: torch.Tensor, steps: int) -> Curve:
    """The original's run, whose inferences are observed."""
    module, losses, ends, near = trainer.module, [], [], []
    infer, converged, tol = module.infer, module._converged, module.of["tol"]

    def counted(*given: Any) -> Any:
        found = infer(*given)
        ends[-1].append(found[2])
        return found

    def measured(new: torch.Tensor, old: torch.Tensor, *, together: bool) -> bool:
        axis = None if together else 1
        moved, length = (torch.linalg.vector_norm(z.detach(), dim=axis) for z in (new - old, old))
        near[-1] = min(near[-1], float((moved / (length + 1e-16) / tol - 1).abs().min()))
        return converged(new, old, together=together)

    module.infer, module._converged = counted, measured
    for _ in range(steps):
        ends.append([])
        near.append(np.inf)
        losses.append(trainer.step(x)[:3].numpy())
        timer.step()
    module.infer, module._converged = infer, converged
    return Curve(np.array(losses), np.array(ends), np.array(near), tol)


def jax_curve(ckpt: Checkpoint, trainer: Trainer, x: torch.Tensor, steps: int, **inference: Any) -> Curve:
    """The run that goes on from the file, before the original's has gone on. inference: settings that differ from the file's."""
    given, state = taken_up(ckpt, trainer, None, **inference)
    step, batch, losses, ends = jax.jit(given), jnp.asarray(x.numpy()), [], []
    model = ckpt.model.clone(inference=ckpt.model.inference.__class__(**{**vars(ckpt.model.inference), **inference}))
    count = jax.jit(lambda params, r2: model.apply({"params": params}, batch, r2, method="latents").iterations)
    for _ in range(steps):
        ends.append(count(state.params, state.collections["latents"]["r2"] if trainer.carry else None))
        state, numbers = step(state, batch)
        losses.append([numbers[name] for name in LOSSES])
    return Curve(np.array(losses), np.array(ends), np.full(steps, np.inf), ckpt.model.inference.tol)


def apart(mine: Curve, theirs: Curve) -> np.ndarray:
    """[steps], the largest difference of a loss as a part of it."""
    return (np.abs(mine.losses - theirs.losses) / np.abs(theirs.losses)).max(1)


def strayed(mine: Curve, theirs: Curve, drift: np.ndarray) -> str:
    """How a curve leaves torch's, whose own drift is given by step; empty where it does not."""
    flips = (mine.ends != theirs.ends).any(1)
    first = int(flips.argmax()) if flips.any() else len(flips)
    if first < len(flips) and theirs.near[first] > NEAR:
        return f"an inference of step {first} ends at another iteration, and torch's quotient is {theirs.near[first]:.0e} from tol"
    found = apart(mine, theirs)
    if (beyond := found[:first] > np.maximum(10 * drift, DRIFT)[:first]).any():
        return f"losses differ by {found[:first].max():.1e}, first in step {beyond.argmax()}, where no stop does"
    return f"losses differ by {found.max():.1e}" if (found > np.maximum(10 * drift, FLIPPED * theirs.tol)).any() else ""


WRONG: tuple[dict[str, Any], ...] = (
    {"tol": 10 * RULE["tol"]},
    {"batch_converge": True},
    {"lr_r2": 0.04},
    {"max_iter": 100},
    {"temp_weight": 1.9},
    {"lmda_r": 0.004},
)
LENGTHS = [pytest.param(name, steps, id=f"{name}, {steps} steps") for name, run in RUNS.items() for steps in run.lengths]


@pytest.mark.parametrize(("name", "steps"), slow.all_but(lambda case: case.id == "by row, without GradNorm, 4 steps", LENGTHS))
def test_training_with_the_stopping_rule_follows_torchs(name: str, steps: int, tmp_path: Path):
    """Until a stop flips, which it may only where torch's quotient is within rounding of `tol`, losses differ by no more than torch's own
    do after a start of which every number is moved by one unit in the last place; afterwards by what the rule lets a flip move.
    """
    run = RUNS[name]
    given = {**RULE, **run.more}
    trainer, timer, ckpt, x = begun(run.kind, tmp_path, **given)
    mine = jax_curve(ckpt, trainer, x, steps)
    theirs = torch_curve(trainer, timer, x, steps)
    other, clock, _, _ = begun(run.kind, tmp_path, **given)
    ways = draws.rng(0)
    with torch.no_grad():
        for p in other.module.parameters():
            p.copy_(torch.as_tensor(np.nextafter(p.numpy(), ways.choice([-np.inf, np.inf], p.shape))))
    drift = np.maximum.accumulate(apart(torch_curve(other, clock, x, steps), theirs))
    assert theirs.ends.min() > 1
    assert theirs.ends.min() < given["max_iter"], "the rule stops"
    assert len(np.unique(theirs.ends)) > 1, "at iterations of its own"
    assert not strayed(mine, theirs, drift)


@pytest.mark.slow  # errors in the code itself are planted by `parity_tests.mutants`
def test_another_rule_or_rate_leaves_the_curve(tmp_path: Path):
    """Each is seen; those that act on most iterations move a loss by more than a flip may."""
    run = RUNS["by row, without GradNorm"]
    trainer, timer, ckpt, x = begun(run.kind, tmp_path, **RULE, **run.more)
    theirs, far = torch_curve(trainer, timer, x, 8), {}
    for wrong in WRONG:
        mine = jax_curve(ckpt, trainer, x, 8, **wrong)
        assert strayed(mine, theirs, np.zeros(8)), wrong
        far[next(iter(wrong))] = apart(mine, theirs).max()
    assert min(far["tol"], far["max_iter"]) > FLIPPED * RULE["tol"], far


SCALE, MIX = np.array([1.0, 0.6, 1.4]), 0.8
NETS = Nets(lambda r: jnp.asarray(SCALE) * r, lambda r, r2: Prediction(MIX * r2, jnp.zeros((*r.shape, 3)), r2))
HOW = Inference(max_iter=60, lr_r=0.05, lr_r2=0.1, temp_weight=1.3)


def by_hand(x: np.ndarray, r2: np.ndarray, tol: float, *, after: bool = False) -> tuple[np.ndarray, np.ndarray, int]:
    """The latents of (|SCALE r - x|^2 + 1.3 |r - MIX r2|^2) / rows and the number of iterations, in numpy.

    after: whether a move is measured by the length after it, which is wrong.
    """
    latents, momenta = [np.zeros_like(r2), r2], [np.zeros_like(r2), np.zeros_like(r2)]
    for done in range(60):
        r, gap = latents[0], latents[0] - MIX * latents[1]
        slopes = (2 * SCALE * (SCALE * r - x) + 2.6 * gap) / len(x), -2.6 * MIX * gap / len(x)
        rates = 0.05 * 0.5 ** (done // 6), 0.1  # halved at every tenth of 60, for r alone
        parts = []
        for k in range(2):
            momenta[k] = 0.9 * momenta[k] + slopes[k]
            old, latents[k] = latents[k], latents[k] - rates[k] * (slopes[k] + 0.9 * momenta[k])
            parts.append(np.linalg.norm(latents[k] - old) / (np.linalg.norm(latents[k] if after else old) + 1e-16))
        if max(parts) < tol:
            return latents[0], latents[1], done + 1
    return latents[0], latents[1], 60


def problem(scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Observations, and where r2 begins."""
    rng = draws.rng(9)
    return scale * rng.normal(size=(4, 3)), rng.normal(size=(4, 3))


@pytest.mark.parametrize("tol", [0.9, 0.2, 0.05])
def test_an_inference_by_hand(tol: float):
    """Momentum, schedules and the rule. With a large `tol` the length after a move gives another end than the length before it."""
    x, r2 = problem()
    want_r, want_r2, count = by_hand(x, r2, tol)
    assert 1 < count < 60
    assert tol < 0.9 or by_hand(x, r2, tol, after=True)[2] < count
    found = jax.jit(lambda x, r2: infer(NETS, x, 0 * r2, r2, dataclasses.replace(HOW, tol=tol)))(x, r2)
    assert int(found.iterations) == count
    np.testing.assert_allclose(found.r, want_r, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.r2, want_r2, rtol=1e-12, atol=1e-14)


def test_one_program_ends_where_its_numbers_say_and_runs_without_compilation_too():
    """Shapes are known when it is compiled, the number of iterations is not. Without compilation it is Python's loop, for a debugger."""

    def inferred(x: Any, r2: Any) -> Any:
        return infer(NETS, x, 0 * r2, r2, dataclasses.replace(HOW, tol=0.1))

    compiled, ends = jax.jit(inferred), []
    for scale in (1.0, 0.2, 5.0):
        given = problem(scale)
        ends.append(int(compiled(*given).iterations))
        assert ends[-1] == by_hand(*given, 0.1)[2]
    assert len(set(ends)) > 1
    assert compiled._cache_size() <= 1  # 0 where a long process has given it up
    with jax.disable_jit():
        plain = inferred(*problem())
    assert int(plain.iterations) == ends[0]
    np.testing.assert_allclose(plain.r, compiled(*problem()).r, rtol=1e-12, atol=1e-14)
