"""Schedulers of torch that from_torch follows: the rates after some steps are those that torch goes on with."""

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler

from parity_tests import draws
from parity_tests.optim.from_torch.runs import (
    AFTER,
    BEFORE,
    MANIFOLDS,
    PATHS,
    SCHEDULES,
    Reference,
    as_params,
    assert_same_path,
    go_on,
    plain,
)
from port_jax.optim import RiemannianAdamState, from_torch
from port_jax.optim.from_torch import GroupsState, schedulers
from reference_torch.optim.riemannian_adam import RiemannianAdam
from reference_torch.optim.riemannian_sgd import RiemannianSGD


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_schedule_goes_on_too(name):
    metric = draws.rng(2).normal(size=BEFORE + AFTER) if name == "plateau" else None
    run = Reference(lambda p: RiemannianAdam(p, 0.03), SCHEDULES[name], metric=metric)
    start = run.run(BEFORE)
    tx, state = from_torch(
        plain(run.optimizer.state_dict()),
        params=as_params(start),
        names=dict(enumerate(PATHS)),
        manifolds=MANIFOLDS,
        scheduler_state=plain(run.scheduler.state_dict()) | ({"name": "MultiplicativeLR"} if name == "multiplicative" else {}),
        lr_lambda=(lambda n: 1.1 - n / 50) if name == "multiplicative" else lambda n: 1 / (1 + n),
        num_steps=40,
    )
    assert isinstance(state, GroupsState if name in ("plateau", "one cycle", "cyclic") else RiemannianAdamState)
    found, _ = go_on(tx, state, start, BEFORE, AFTER, metric)
    assert_same_path(found, run.run(AFTER), start)


def test_a_scheduler_of_epochs_steps_every_few_updates():
    run = Reference(lambda p: torch.optim.SGD(p, 0.02, 0.5), lambda o: lr_scheduler.ExponentialLR(o, 0.6), ball=False)
    scheduler, run.scheduler = run.scheduler, None
    for _ in range(2):
        run.run(3)
        scheduler.step()
    start = [p.detach().numpy().copy() for p in run.params]
    saved = plain(run.optimizer.state_dict()), plain(scheduler.state_dict())
    for _ in range(2):
        end = run.run(3)
        scheduler.step()
    tx, state = from_torch(saved[0], params=as_params(start), names=PATHS, scheduler_state=saved[1], updates_per_step=3)
    assert_same_path(go_on(tx, state, start, 6, 6)[0], end, start)


def test_momentum_cycles_with_the_rate():
    run = Reference(
        lambda p: RiemannianSGD(p, 0.01, 0.9),
        lambda o: lr_scheduler.OneCycleLR(o, 0.02, 25, base_momentum=0.5, max_momentum=0.9),
    )
    start = run.run(BEFORE)
    tx, state = from_torch(
        plain(run.optimizer.state_dict()),
        params=as_params(start),
        names=PATHS,
        manifolds=MANIFOLDS,
        scheduler_state=plain(run.scheduler.state_dict()),
    )
    assert_same_path(go_on(tx, state, start, BEFORE, AFTER)[0], run.run(AFTER), start)


def test_a_chain_in_a_sequence_is_refused_for_what_torch_does():
    """Its ExponentialLR is one step ahead."""
    run = Reference(
        lambda p: torch.optim.SGD(p, 0.02),
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.ChainedScheduler([lr_scheduler.ConstantLR(o, 0.1, 9), lr_scheduler.ExponentialLR(o, 0.9)]),
                lr_scheduler.ExponentialLR(o, 0.8)], [8],
        ),
        ball=False,
    )  # fmt: skip
    start = run.run(5)
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(0.002 * 0.9**6)
    saved, told = plain(run.optimizer.state_dict()), plain(run.scheduler.state_dict())
    with pytest.raises(ValueError, match="torch's begins with a ChainedScheduler by an ordinary step"):
        from_torch(saved, params=as_params(start), names=PATHS, scheduler_state=told)


def test_points_that_skip_the_first_milestone():
    """HyperbolicCV's script multiplies their rate by 1/gamma just before the first drop. The file has that rate, and later drops follow."""
    point, flat = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimizer = torch.optim.SGD([{"params": [flat]}, {"params": [point], "lr": 0.02}], lr=0.1)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 6, 8], gamma=0.2)

    def epoch(number: int) -> list[float]:
        optimizer.step()
        if number + 1 == 3:
            optimizer.param_groups[1]["lr"] *= 1 / 0.2
        scheduler.step()
        return [group["lr"] for group in optimizer.param_groups]

    for number in range(4):
        epoch(number)
    state = scheduler.state_dict()
    follow = [schedulers.group_schedule(state, group, n) for n, group in enumerate(optimizer.state_dict()["param_groups"])]
    for n, schedule in enumerate(follow):
        schedulers.check_rate(state, schedule, optimizer.param_groups[n], n)
    for number in range(4, 10):
        rates = [schedule.rate.exactly(number + 1) for schedule in follow]
        np.testing.assert_allclose(rates, epoch(number), rtol=1e-12)
    optimizer.param_groups[1]["lr"] = 0.013
    with pytest.raises(ValueError, match="changed by hand"):
        schedulers.check_rate(state, schedulers.group_schedule(state, optimizer.param_groups[1], 1), optimizer.param_groups[1], 1)
