"""Steps on several batches at once: one or more for each device, the same numbers on any number of devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import Array, PyTree

from port_jax.arguments import FUNCTION, instance, optional, takes, whole
from port_jax.training.plan import Plan
from port_jax.training.state import Metrics, TrainingError

__all__ = ["StackedBatches", "mean_over_batches"]


class StackedBatches:
    """Several batches as one step's, along a new first axis: batch number i of step s is `batches(s * count + i)`.

        batches = StackedBatches(NeighborSampler(graph, fanouts=(10, 10), batch_size=256), count=8)
        step = gradient_step(mean_over_batches(loss, plan), optimizer)
        fit(step, state, steps=10 * batches.steps_per_epoch, batches=batches, plan=plan)

    In several processes, each makes its own of them alone, as `fit` expects with a plan: the first process the first ones. `count` belongs
    to the run and not to the machine: with the same count, runs on one device and on eight make the same steps.

    Errors: TrainingError if the number of processes does not divide `count`. TypeError for batches that are no function of a number.
    """

    @takes(batches=FUNCTION, count=whole(1))
    def __init__(self, batches: Callable[[int], Any], count: int):
        self.batches, self.count = batches, count

    @property
    def steps_per_epoch(self) -> int:
        """The number of steps in which every batch of an epoch occurs; for batches that have such a number themselves."""
        of_one = getattr(self.batches, "steps_per_epoch", None)
        if of_one is None:
            raise AttributeError("batches has no steps_per_epoch, so that steps of several have none; give it one, or count them yourself")
        return -(-of_one // self.count)

    def __call__(self, number: int) -> PyTree[np.ndarray]:
        """This process's batches of step `number`, counted from 0."""
        each, left = divmod(self.count, jax.process_count())
        if left:
            raise TrainingError(f"count is {self.count}, which {jax.process_count()} processes do not divide; give a multiple")
        first = number * self.count + jax.process_index() * each
        return jax.tree.map(lambda *found: np.stack(found), *(self.batches(first + i) for i in range(each)))


@takes(loss=FUNCTION, plan=optional(instance("a port_jax.training.Plan", Plan)))
def mean_over_batches(loss: Callable[..., Any], plan: Plan | None = None) -> Callable[[Any, Any, Any], tuple[Array, Metrics]]:
    """The loss of a step on stacked batches, for `gradient_step`: the mean of `loss(params, batch, key)` over them, and of other numbers.

    With a plan each device computes the losses of its own batches, one after the other, and of what is computed only the means and the
    gradients of parameters cross devices: one all-reduce of the parameters' size a step. Each device has all parameters. The key of batch
    i is the step's, folded with i, on whichever device it is.

    Errors: TrainingError if the plan's devices do not divide the batches, or the plan splits tables. TypeError for a loss with collections.
    """
    if plan is not None and plan.tables:
        raise TrainingError(
            f"plan splits {', '.join(plan.tables)}, and batches of their own need whole parameters on each device; give Plan(mesh), or "
            "sparse_step a loss of the whole batch"
        )

    def local(params: Any, batches: Any, key: Any) -> Any:
        place, batches = 0, jax.tree.map(jnp.asarray, batches)
        if plan is not None:
            place = jax.lax.axis_index(plan.rows)
            # Each device has its own gradients, which are added up once: not wherever an operation takes a parameter, in its shape.
            params = jax.lax.pcast(params, plan.rows, to="varying")
        each = len(jax.tree.leaves(batches)[0])

        def one(i: Any) -> tuple[Array, Metrics]:
            found = loss(params, jax.tree.map(lambda x: x[i], batches), jax.random.fold_in(key, place * each + i))
            found = found if isinstance(found, tuple) else (found, {})
            if len(found) != 2:
                raise TypeError(f"the loss returned {len(found)} values; return a number, or a number and other numbers by name")
            return found

        found = jax.tree.map(lambda x: x[None], one(0)) if each == 1 else jax.lax.map(one, jnp.arange(each))
        means = jax.tree.map(lambda x: jnp.mean(x, axis=0), found)
        return means if plan is None else jax.lax.pmean(means, plan.rows)

    def whole(params: Any, batches: Any, key: Any, *collections: Any) -> tuple[Array, Metrics]:
        if collections:
            raise TypeError("the state has collections, which differ from batch to batch; a step of several batches has none")
        if plan is None:
            return local(params, batches, key)
        for x in jax.tree.leaves(batches):
            plan.require_divided("an array of the stacked batches", jnp.shape(x))
        split, everywhere = plan.split.spec, PartitionSpec()
        return jax.shard_map(local, mesh=plan.mesh, in_specs=(everywhere, split, everywhere), out_specs=everywhere)(params, batches, key)

    return whole
