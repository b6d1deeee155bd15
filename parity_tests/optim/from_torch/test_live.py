"""from_torch against the optimizers it translates: stopped after a few steps in torch, gone on with here."""

import jax
import numpy as np
import pytest
from torch.optim import lr_scheduler

from parity_tests.optim.from_torch.runs import (
    AFTER,
    BEFORE,
    MANIFOLDS,
    OPTIMIZERS,
    PATHS,
    SCHEDULES,
    START,
    Reference,
    as_params,
    assert_same_path,
    go_on,
    leaves,
    plain,
)
from port_jax.optim import from_torch
from reference_torch.optim.riemannian_adam import RiemannianAdam


@pytest.mark.parametrize(
    ("name", "before"),
    [(name, BEFORE) for name in OPTIMIZERS] + [(name, 0) for name in ("RiemannianSGD", "SGD", "Adagrad")],
)
def test_goes_on_as_torch_does(name, before):
    run = Reference(OPTIMIZERS[name], ball="Riemannian" in name)
    start = run.run(before)
    saved = plain(run.optimizer.state_dict())
    tx, state = from_torch(saved, params=as_params(start), names=PATHS, manifolds=MANIFOLDS)
    found, _ = go_on(tx, state, start, before, AFTER)
    assert_same_path(found, run.run(AFTER), start)


def test_a_configuration_starts_afresh():
    run = Reference(lambda p: RiemannianAdam(p, 0.03, weight_decay=0.1), lambda o: lr_scheduler.OneCycleLR(o, 0.05, 30))
    tx, state = from_torch(
        {"name": "RiemannianAdam", "lr": 0.03, "weight_decay": 0.1},
        params=as_params(leaves(START)),
        manifolds=MANIFOLDS,
        scheduler_state={"name": "OneCycleLR", "max_lr": 0.05, "total_steps": 30},
    )
    found, _ = go_on(tx, state, leaves(START), 0, AFTER)
    assert_same_path(found, run.run(AFTER), leaves(START))


def test_the_step_of_older_files_is_the_groups():
    """geoopt 0.4.1 and 0.5.0 count in the group; a parameter without gradients has no state."""
    run = Reference(lambda p: RiemannianAdam(p, 0.03))
    start = run.run(BEFORE)
    saved = plain(run.optimizer.state_dict())
    for entry in saved["state"].values():
        del entry["step"]
    saved["param_groups"][0]["step"] = BEFORE
    tx, state = from_torch(saved, params=as_params(start), names=PATHS, manifolds=MANIFOLDS)
    assert [int(n) for n in jax.tree.leaves(state.count)] == [BEFORE] * 3
    assert_same_path(go_on(tx, state, start, BEFORE, AFTER)[0], run.run(AFTER), start)


def adam_state(**changes):
    run = Reference(lambda p: RiemannianAdam(p, 0.03), SCHEDULES["step"])
    run.run(2)
    saved = plain(run.optimizer.state_dict())
    saved.update(changes)
    return saved, plain(run.scheduler.state_dict())


@pytest.mark.parametrize(
    ("change", "given", "message"),
    [
        (lambda s: None, {"names": None}, "give names="),
        (lambda s: None, {"names": PATHS[:2]}, "index 2 of the optimizer has no name"),
        (lambda s: None, {"names": [*PATHS[:2], "layer/kernl"]}, "index 2 is named 'layer/kernl'"),
        (lambda s: None, {"names": [*PATHS[:2], "points"]}, "points has two indices"),
        (lambda s: None, {"manifolds": None}, "RiemannianAdam moves points: give manifolds="),
        (lambda s: None, {"optimizer": "Lion"}, "'Lion' is not translated; known are RiemannianAdam"),
        (lambda s: s["param_groups"][0].pop("betas"), {}, "is not recognised; known are"),
        (lambda s: s["state"][1].update(exp_avg=np.zeros((2, 4))), {}, "exp_avg of layer/kernel has shape"),
        (lambda s: s["state"][1].pop("exp_avg_sq"), {}, "layer/kernel has exp_avg, step but no exp_avg_sq"),
        (lambda s: s["state"][0].update(exp_avg_sq=np.arange(15.0).reshape(5, 3)), {}, "points differs along a point"),
        (lambda s: s["state"].update({9: {"step": 1}}), {}, "state for index 9, which is in no group"),
        (lambda s: s["state"][0].update(square_avg=np.zeros(3)), {}, "points contains square_avg"),
        (lambda s: s["state"][0].pop("step"), {}, "points has no step"),
        (
            lambda s: (s["state"][0].update(step=0), s["param_groups"][0].update(step=12)),
            {},
            "12 steps in param_groups.0. and 2 in the state",
        ),
        (lambda s: s["param_groups"][0].update(lr=0.5), {}, "'lr'\\] is 0.5, its scheduler's after 2 steps"),
        (lambda s: None, {"scheduler_state": {"name": "NoamLR"}}, "'NoamLR' is not translated"),
        (lambda s: None, {"scheduler_state": {"name": "SWALR"}}, r"SWALR has no swa_lr in param_groups\[0\]"),
        (lambda s: None, {"scheduler_state": {"name": "MultiplicativeLR"}}, "give lr_lambda= and num_steps="),
        (lambda s: None, {"scheduler_state": {"gamma": 0.5, "step": 3}}, "has no setting step; it has gamma"),
        (lambda s: None, {"scheduler_state": {"anneal_epochs": 5, "gamma": 1}}, "SWALR has no setting gamma"),
        (lambda s: None, {"scheduler_state": {"name": "LambdaLR"}}, "give lr_lambda="),
        (lambda s: None, {"updates_per_step": 0}, "updates_per_step is 0; give a whole number of at least 1"),
        (lambda s: None, {"updates_per_step": True}, "updates_per_step is True; give"),
    ],
)
def test_what_cannot_be_continued_is_refused(change, given, message):
    saved, scheduler = adam_state()
    change(saved)
    arguments = {"names": PATHS, "manifolds": MANIFOLDS, "scheduler_state": scheduler, **given}
    with pytest.raises(ValueError, match=message):
        from_torch(saved, params=as_params(leaves(START)), **arguments)


def test_a_configuration_with_a_misspelt_setting_is_refused():
    with pytest.raises(ValueError, match="Adam has no setting weight_deacy; it has"):
        from_torch({"name": "Adam", "weight_deacy": 0.1}, params=as_params(leaves(START)))
