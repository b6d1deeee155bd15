"""Runs of torch's optimizers, stopped after a few steps, and the same steps from there on in JAX."""

import warnings

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR

from parity_tests import draws
from port_jax.manifolds import Euclidean, PoincareBall
from reference_torch.optim.riemannian_adam import RiemannianAdam
from reference_torch.optim.riemannian_sgd import RiemannianSGD
from reference_torch.optim.schedules import LinearWarmupCosineDecayLR

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
    "RiemannianAdam": lambda p: RiemannianAdam(p, 0.03, (0.8, 0.97), 1e-6, 0.1),
    "RiemannianAdam amsgrad stabilized": lambda p: RiemannianAdam(p, 0.03, amsgrad=True, stabilize=4),
    "RiemannianSGD": lambda p: RiemannianSGD(p, 0.01, 0.8, 0.1, 0.05, stabilize=4),
    "RiemannianSGD nesterov": lambda p: RiemannianSGD(p, 0.01, 0.8, nesterov=True),
    "RiemannianSGD plain": lambda p: RiemannianSGD(p, 0.01),
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
    "warm-up and cosine": lambda o: LinearWarmupCosineDecayLR(o, 30, 5),
    "averaging": lambda o: SWALR(o, 0.01, 12),
    "averaging, linear": lambda o: SWALR(o, 0.05, 5, "linear"),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.05, 3, 5, "exp_range", 0.95, base_momentum=0.6),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1, factor=0.5, cooldown=1),
    "sequence": lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.LinearLR(o, 0.1, 1.0, 5), lr_scheduler.CosineAnnealingLR(o, 8)], [5]),
    "chain": lambda o: lr_scheduler.ChainedScheduler([lr_scheduler.LinearLR(o, 0.1, 1.0, 5), lr_scheduler.CosineAnnealingLR(o, 8, 1e-3)]),
}
