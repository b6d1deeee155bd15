"""from_torch against the optimizers it translates: stopped after a few steps in torch, gone on with here."""

import itertools
import warnings

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from torch.optim import lr_scheduler

from parity_tests import draws
from port_jax.manifolds import Euclidean, PoincareBall, Stereographic
from port_jax.optim.from_torch import GroupsState, from_torch
from port_jax.optim.riemannian_adam import RiemannianAdamState

RNG = draws.stream(11)
START = {
    "points": 0.4 * RNG.normal(size=(5, 3)) / np.sqrt(3),
    "layer": {"kernel": RNG.normal(size=(4, 2)), "bias": RNG.normal(size=2)},
}
PATHS = ["points", "layer/kernel", "layer/bias"]  # torch's order, which is not the sorted one
CURVATURE = 0.7
MANIFOLDS = {"points": PoincareBall(CURVATURE), "layer": Euclidean()}
BEFORE, AFTER = 7, 13


def targets():
    rng = draws.rng(5)
    return [rng.normal(size=s) for s in ((5, 3), (4, 2), (2,))]


TARGETS = targets()


def leaves(tree):
    return [tree["points"], tree["layer"]["kernel"], tree["layer"]["bias"]]


def gradients(points, step):
    """Gradients that any framework's arrays give: of quartics, with noise by step so that no two are alike."""
    noise = draws.rng(100 + step)
    return [4 * (p - 0.3 * t) ** 3 + 0.5 * t + 0.3 * noise.normal(size=t.shape) for p, t in zip(points, TARGETS)]


class Reference:
    """A torch run of three parameters, one on a ball."""

    def __init__(self, make, schedule=None, ball=True, metric=None):
        manifold = geoopt.PoincareBall(torch.tensor(CURVATURE, dtype=torch.float64))
        first = torch.tensor(START["points"])
        points = geoopt.ManifoldParameter(first, manifold=manifold) if ball else torch.nn.Parameter(first)
        rest = [torch.nn.Parameter(torch.tensor(x)) for x in leaves(START)[1:]]
        self.params = [points, *rest]
        self.optimizer = make(self.params)
        self.scheduler = schedule(self.optimizer) if schedule else None
        self.metric = metric
        self.steps = 0

    def run(self, steps):
        for _ in range(steps):
            with torch.no_grad():
                values = [p.detach().numpy().copy() for p in self.params]
            for p, g in zip(self.params, gradients(values, self.steps)):
                p.grad = torch.tensor(g)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.optimizer.step()
                if self.scheduler is not None:
                    self.scheduler.step(*([self.metric[self.steps]] if self.metric is not None else []))
            self.steps += 1
        return [p.detach().numpy().copy() for p in self.params]


def plain(tree):
    """A state_dict without torch in it."""
    if isinstance(tree, torch.Tensor):
        return tree.detach().numpy().copy()
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    return type(tree)(plain(x) for x in tree) if isinstance(tree, (list, tuple)) else tree


def as_params(values):
    return {
        "points": jnp.asarray(values[0]),
        "layer": {"kernel": jnp.asarray(values[1]), "bias": jnp.asarray(values[2])},
    }


def go_on(tx, state, values, start, steps, metric=None):
    params = as_params(values)
    move = jax.jit(tx.update)
    for step in range(start, start + steps):
        grads = as_params(gradients([np.asarray(x) for x in leaves(params)], step))
        extra = {} if metric is None else {"value": metric[step]}
        updates, state = move(grads, state, params, **extra)
        params = optax.apply_updates(params, updates)
    assert move._cache_size() <= 1  # 0 where a long process has given it up
    return [np.asarray(x) for x in leaves(params)], state


def assert_same_path(found, expected, start):
    """Equal within 1e-10 of the displacement."""
    for name, x, y, p in zip(PATHS, found, expected, start):
        moved = np.abs(y - p).max()
        assert moved > 1e-4
        np.testing.assert_allclose(x, y, rtol=0, atol=1e-10 * moved, err_msg=name)


OPTIMIZERS = {
    "RiemannianAdam": lambda p: geoopt.optim.RiemannianAdam(p, 0.03, (0.8, 0.97), 1e-6, 0.1),
    "RiemannianAdam amsgrad stabilized": lambda p: geoopt.optim.RiemannianAdam(p, 0.03, amsgrad=True, stabilize=4),
    "RiemannianSGD": lambda p: geoopt.optim.RiemannianSGD(p, 0.01, 0.8, 0.1, 0.05, stabilize=4),
    "RiemannianSGD nesterov": lambda p: geoopt.optim.RiemannianSGD(p, 0.01, 0.8, nesterov=True),
    "RiemannianSGD plain": lambda p: geoopt.optim.RiemannianSGD(p, 0.01),
    "Adam": lambda p: torch.optim.Adam(p, 0.03, (0.8, 0.97), 1e-4, 0.1),
    "Adam amsgrad maximize": lambda p: torch.optim.Adam(p, 0.003, amsgrad=True, maximize=True),
    "AdamW": lambda p: torch.optim.AdamW(p, 0.03, (0.8, 0.97), 1e-4, 0.3),
    "SGD": lambda p: torch.optim.SGD(p, 0.01, 0.8, 0.3, 0.05),
    "SGD nesterov": lambda p: torch.optim.SGD(p, 0.01, 0.8, 0, 0.05, nesterov=True),
    "SGD plain": lambda p: torch.optim.SGD(p, 0.01, weight_decay=0.2),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 0.02, 0.9, 1e-3, 0.05),
    "RMSprop centered": lambda p: torch.optim.RMSprop(p, 0.02, 0.9, 1e-3, 0, 0.7, centered=True),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 0.05, 0.1, 0.03, 0.2, eps=1e-3),
}


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


SCHEDULES = {
    "step": lambda o: lr_scheduler.StepLR(o, 4, 0.5),
    "multi step": lambda o: lr_scheduler.MultiStepLR(o, [3, 9, 9], 0.5),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "linear": lambda o: lr_scheduler.LinearLR(o, 0.2, 0.9, 10),
    "constant": lambda o: lr_scheduler.ConstantLR(o, 0.2, 10),
    "polynomial": lambda o: lr_scheduler.PolynomialLR(o, 30, 2.0),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 9, 1e-3),
    "warm restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3, 2, 1e-3),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 0.05, 25, three_phase=True),
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda n: 1 / (1 + n)),
    "multiplicative": lambda o: lr_scheduler.MultiplicativeLR(o, lambda n: 1.1 - n / 50),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.05, 3, 5, "exp_range", 0.95, base_momentum=0.6),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1, factor=0.5, cooldown=1),
    "sequence": lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.LinearLR(o, 0.1, 1.0, 5), lr_scheduler.CosineAnnealingLR(o, 8)], [5]),
    "chain": lambda o: lr_scheduler.ChainedScheduler([lr_scheduler.LinearLR(o, 0.1, 1.0, 5), lr_scheduler.CosineAnnealingLR(o, 8, 1e-3)]),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_schedule_goes_on_too(name):
    metric = draws.rng(2).normal(size=BEFORE + AFTER) if name == "plateau" else None
    run = Reference(lambda p: geoopt.optim.RiemannianAdam(p, 0.03), SCHEDULES[name], metric=metric)
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
        lambda p: geoopt.optim.RiemannianSGD(p, 0.01, 0.9),
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


GROUPED = {
    "RiemannianAdam": lambda p: geoopt.optim.RiemannianAdam(
        [
            {"params": [p[2]], "weight_decay": 0.0, "lr": 0.01},
            {"params": [p[0], p[1]], "betas": (0.7, 0.9), "weight_decay": 0.2, "stabilize": 3},
        ],
        lr=0.04,
    ),
    "AdamW": lambda p: torch.optim.AdamW(
        [{"params": [p[1]], "weight_decay": 0.5}, {"params": [p[2]], "lr": 0.02, "amsgrad": True}], lr=0.04
    ),
}


@pytest.mark.parametrize(("name", "scheduled"), itertools.product(GROUPED, [False, True]))
def test_groups_keep_their_own_settings(name, scheduled):
    """In the second case `points` is in no group and stays."""
    run = Reference(GROUPED[name], (lambda o: lr_scheduler.StepLR(o, 4, 0.5)) if scheduled else None, ball=name == "RiemannianAdam")
    start = run.run(BEFORE)
    names = ["layer/bias", "points", "layer/kernel"] if name == "RiemannianAdam" else ["layer/kernel", "layer/bias"]
    tx, state = from_torch(
        plain(run.optimizer.state_dict()),
        params=as_params(start),
        names=names,
        manifolds=MANIFOLDS,
        scheduler_state=plain(run.scheduler.state_dict()) if scheduled else None,
    )
    found, _ = go_on(tx, state, start, BEFORE, AFTER)
    expected = run.run(AFTER)
    if name == "AdamW":
        assert np.array_equal(found[0], start[0])
        found, expected, start = found[1:], expected[1:], start[1:]
    assert_same_path(found, expected, start)


def test_points_follow_a_curvature_of_an_earlier_group():
    manifold = geoopt.Stereographic(torch.tensor(-0.8, dtype=torch.float64), learnable=True)
    point = geoopt.ManifoldParameter(torch.tensor(START["points"]), manifold=manifold)
    optimizer = geoopt.optim.RiemannianAdam([{"params": [manifold.k], "lr": 0.05}, {"params": [point]}], lr=0.02)
    rng = draws.rng(8)
    grads = [(rng.normal(), rng.normal(size=(5, 3))) for _ in range(12)]

    def move(some):
        for a, b in some:
            manifold.k.grad, point.grad = torch.tensor(a, dtype=torch.float64), torch.tensor(b)
            optimizer.step()

    def current():
        return {"k": jnp.asarray(manifold.k.detach().numpy().copy()), "x": jnp.asarray(point.detach().numpy().copy())}

    move(grads[:5])
    params = current()
    tx, state = from_torch(
        plain(optimizer.state_dict()),
        params=params,
        names=["k", "x"],
        manifolds=lambda p: {"k": Euclidean(), "x": Stereographic(p["k"])},
    )
    for a, b in grads[5:]:
        updates, state = tx.update({"k": jnp.asarray(a), "x": jnp.asarray(b)}, state, params)
        params = optax.apply_updates(params, updates)
    move(grads[5:])
    np.testing.assert_allclose(params["k"], current()["k"], rtol=1e-12)
    np.testing.assert_allclose(params["x"], current()["x"], rtol=0, atol=1e-11)


def test_a_configuration_starts_afresh():
    run = Reference(lambda p: geoopt.optim.RiemannianAdam(p, 0.03, weight_decay=0.1), lambda o: lr_scheduler.OneCycleLR(o, 0.05, 30))
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
    run = Reference(lambda p: geoopt.optim.RiemannianAdam(p, 0.03))
    start = run.run(BEFORE)
    saved = plain(run.optimizer.state_dict())
    for entry in saved["state"].values():
        del entry["step"]
    saved["param_groups"][0]["step"] = BEFORE
    tx, state = from_torch(saved, params=as_params(start), names=PATHS, manifolds=MANIFOLDS)
    assert [int(n) for n in jax.tree.leaves(state.count)] == [BEFORE] * 3
    assert_same_path(go_on(tx, state, start, BEFORE, AFTER)[0], run.run(AFTER), start)


def adam_state(**changes):
    run = Reference(lambda p: geoopt.optim.RiemannianAdam(p, 0.03), SCHEDULES["step"])
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
        (lambda s: s["state"][0].update(square_avg=np.zeros(3)), {}, "points holds square_avg"),
        (lambda s: s["state"][0].pop("step"), {}, "points has no step"),
        (lambda s: (s["state"][0].update(step=0), s["param_groups"][0].update(step=12)), {}, "12 steps in param_groups.0. and 2 beside"),
        (lambda s: s["param_groups"][0].update(lr=0.5), {}, "'lr'\\] is 0.5, its scheduler's after 2 steps"),
        (lambda s: None, {"scheduler_state": {"name": "SWALR"}}, "'SWALR' is not translated"),
        (lambda s: None, {"scheduler_state": {"name": "MultiplicativeLR"}}, "give lr_lambda= and num_steps="),
        (lambda s: None, {"scheduler_state": {"gamma": 0.5, "step": 3}}, "has no setting step; it has gamma"),
        (lambda s: None, {"scheduler_state": {"anneal_epochs": 5, "gamma": 1}}, "add its class as 'name'"),
        (lambda s: None, {"scheduler_state": {"name": "LambdaLR"}}, "give lr_lambda="),
    ],
)
def test_what_cannot_be_continued_is_refused(change, given, message):
    saved, scheduler = adam_state()
    change(saved)
    arguments = {"names": PATHS, "manifolds": MANIFOLDS, "scheduler_state": scheduler, **given}
    with pytest.raises(ValueError, match=message):
        from_torch(saved, params=as_params(leaves(START)), **arguments)


def test_settings_of_adam_in_older_files_do_not_tell_adam_from_adamw():
    run = Reference(lambda p: torch.optim.Adam(p, 0.03, weight_decay=0.1), ball=False)
    saved = plain(run.optimizer.state_dict())
    del saved["param_groups"][0]["decoupled_weight_decay"]
    with pytest.raises(ValueError, match="say optimizer='Adam' or 'AdamW'"):
        from_torch(saved, params=as_params(leaves(START)), names=PATHS)
    from_torch(saved, params=as_params(leaves(START)), names=PATHS, optimizer="AdamW")


def test_a_configuration_with_a_misspelt_setting_is_refused():
    with pytest.raises(ValueError, match="Adam has no setting weight_deacy; it has"):
        from_torch({"name": "Adam", "weight_deacy": 0.1}, params=as_params(leaves(START)))
