"""A training loop for jitted steps: many steps per call, evaluation, early stopping, checkpoints, resumption.

For example:

    step = gradient_step(loss, optimizer)                  # loss(params, batch, key) -> a number, or (a number, more numbers)
    state = train_state(params, optimizer, jax.random.key(0))
    result = fit(step, state, steps=500, batch=(x, graph), evaluate=evaluate, monitor="auc", folder="run/")
    result.best, result.history.plot("losses.png")
    restore("run/", "best").state.params                   # also later, and without the program above
"""

from port_jax.training.checkpoints import Saved, restore
from port_jax.training.fit import Fit, fit
from port_jax.training.history import History
from port_jax.training.plan import Plan
from port_jax.training.processes import distributed
from port_jax.training.sparse import SparseStep, sparse_step
from port_jax.training.stacked import StackedBatches, mean_over_batches
from port_jax.training.state import Step, TrainingError, TrainState, gradient_step, train_state

__all__ = [
    "Fit",
    "History",
    "Plan",
    "Saved",
    "SparseStep",
    "StackedBatches",
    "Step",
    "TrainState",
    "TrainingError",
    "distributed",
    "fit",
    "gradient_step",
    "mean_over_batches",
    "restore",
    "sparse_step",
    "train_state",
]
