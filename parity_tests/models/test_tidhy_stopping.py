"""TiDHy's training with the stopping rule beside torch's: each inference ends at the same iteration, and the losses are on one curve.

The rule compares |new - old| / |old| with `tol`. Where torch's own quotient is within rounding of `tol`, a bit decides whether one more
iteration is made. It moves a latent by about `tol` of its length, and losses, which are quadratic in both ends of a difference of latents,
by up to four times that. Nowhere else may a loss differ by more than torch's own drift.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests import draws, slow
from parity_tests.models.cases_tidhy_training import LOSSES, begun, taken_up
from reference_torch.models.tidhy_training import Trainer
from weights.checkpoint import Checkpoint

TOL = 1e-3
RULE: dict[str, Any] = {"tol": TOL, "max_iter": 200}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "by batch": ("GradNorm", {}),
    "by row, without GradNorm": ("without GradNorm, all regularisers", {"batch_converge": False}),
    "GradNorm inside": ("GradNorm in training and inside", {}),
    "R2 decoder": ("R2 decoder, clipped", {}),
}
FLIPPED = 4 * TOL
"""What a stop that comes one iteration sooner or later may move a loss by, as a part of it."""
NEAR = 1e-8
"""How near to `tol` torch's quotient has to be, as a part of it, for a stop to be a matter of rounding: far above the drift of a run."""
DRIFT = 1e-8
"""The least that losses may differ by, as a part of them, where no stop did: ten times torch's drift is allowed as well."""


class Curve(NamedTuple):
    """losses: [steps, 3]. ends: [steps, times - 1], the iterations of each inference. near: [steps], how near to `tol` the nearest quotient
    of the step was, as a part of it; torch's alone."""

    losses: np.ndarray
    ends: np.ndarray
    near: np.ndarray


def torch_curve(trainer: Trainer, timer: Any, x: torch.Tensor, steps: int) -> Curve:
    """The original's run, whose inferences are observed."""
    module, losses, ends, near = trainer.module, [], [], []
    infer, converged = module.infer, module._converged

    def counted(*given: Any) -> Any:
        found = infer(*given)
        ends[-1].append(found[2])
        return found

    def measured(new: torch.Tensor, old: torch.Tensor, *, together: bool) -> bool:
        axis = None if together else 1
        moved, length = (torch.linalg.vector_norm(z.detach(), dim=axis) for z in (new - old, old))
        near[-1] = min(near[-1], float((moved / (length + 1e-16) / TOL - 1).abs().min()))
        return converged(new, old, together=together)

    module.infer, module._converged = counted, measured
    for _ in range(steps):
        ends.append([])
        near.append(np.inf)
        losses.append(trainer.step(x)[:3].numpy())
        timer.step()
    module.infer, module._converged = infer, converged
    return Curve(np.array(losses), np.array(ends), np.array(near))


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
    return Curve(np.array(losses), np.array(ends), np.full(steps, np.inf))


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
    return f"losses differ by {found.max():.1e}" if (found > np.maximum(10 * drift, FLIPPED)).any() else ""


WRONG: tuple[dict[str, Any], ...] = (
    {"tol": 10 * TOL},
    {"batch_converge": True},
    {"lr_r2": 0.04},
    {"max_iter": 100},
    {"temp_weight": 1.9},
    {"lmda_r": 0.004},
)
LENGTHS = [
    pytest.param(name, steps, id=f"{name}, {steps} steps") for steps in (4, 60) for name in RUNS if (name, steps) != ("GradNorm inside", 60)
]


@pytest.mark.parametrize(("name", "steps"), slow.all_but(lambda case: case.id == "by row, without GradNorm, 4 steps", LENGTHS))
def test_training_with_the_stopping_rule_follows_torchs(name: str, steps: int, tmp_path: Path):
    """Until a stop flips, which it may only where torch's quotient is within rounding of `tol`, losses differ by no more than torch's own
    do after a start of which every number is moved by one unit in the last place; afterwards by what the rule lets a flip move.
    """
    kind, more = RUNS[name]
    trainer, timer, ckpt, x = begun(kind, tmp_path, **RULE, **more)
    mine = jax_curve(ckpt, trainer, x, steps)
    theirs = torch_curve(trainer, timer, x, steps)
    other, clock, _, _ = begun(kind, tmp_path, **RULE, **more)
    ways = draws.rng(0)
    with torch.no_grad():
        for p in other.module.parameters():
            p.copy_(torch.as_tensor(np.nextafter(p.numpy(), ways.choice([-np.inf, np.inf], p.shape))))
    drift = np.maximum.accumulate(apart(torch_curve(other, clock, x, steps), theirs))
    assert theirs.ends.min() > 1
    assert theirs.ends.min() < RULE["max_iter"], "the rule stops"
    assert len(np.unique(theirs.ends)) > 1, "at iterations of its own"
    assert not strayed(mine, theirs, drift)


@pytest.mark.slow  # errors in the code itself are planted by `parity_tests.mutants`
def test_another_rule_or_rate_leaves_the_curve(tmp_path: Path):
    """Each is seen; those that act on most iterations move a loss by more than a flip may."""
    kind, more = RUNS["by row, without GradNorm"]
    trainer, timer, ckpt, x = begun(kind, tmp_path, **RULE, **more)
    theirs, far = torch_curve(trainer, timer, x, 8), {}
    for wrong in WRONG:
        mine = jax_curve(ckpt, trainer, x, 8, **wrong)
        assert strayed(mine, theirs, np.zeros(8)), wrong
        far[next(iter(wrong))] = apart(mine, theirs).max()
    assert min(far["tol"], far["max_iter"]) > FLIPPED, far
