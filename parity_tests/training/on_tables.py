"""Tables split over eight devices move as on one. Run by `test_sparse_step.py`, with eight simulated devices in a process of its own:

XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m parity_tests.training.on_tables NAME
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.collectives import collectives
from parity_tests.training import tables
from parity_tests.training.tables import apart
from port_jax.training import fit, restore
from port_jax.training.exchange import Exchange

ULPS = 4


def moved(step: Any, state: Any, size: int, steps: int = 4) -> tuple[Any, list[dict[str, float]]]:
    """The state after some steps, its rows in their own order, and the numbers of each."""
    run, state, numbers = jax.jit(step), step.shuffled(state), []
    for number in range(steps):
        batch = tables.batch(number, size)
        state, found = run(state, batch if step.plan is None else step.plan.batch(batch))
        numbers.append({name: float(x) for name, x in found.items()})
    return step.unshuffled(state), numbers


def compare(manifold: str, optimizer: str, kind: str, size: int, capacity: int | None, count: int = 8) -> int:
    """Points, moments and losses beside those of one device without a plan; returns the largest number of rounds."""
    alone, expected = moved(tables.step(manifold, optimizer), tables.state(manifold, size, optimizer), size)
    plan = tables.plan(kind, count)
    with jax.set_mesh(plan.mesh):
        step = tables.step(manifold, optimizer, plan=plan, capacity=capacity, shuffle=5)
        found, numbers = moved(step, plan.place(tables.state(manifold, size, optimizer)), size)
    case = (manifold, optimizer, kind, size, capacity, count)
    worst = apart(found.params, alone.params)
    assert worst <= ULPS, (case, worst)
    assert apart(found.opt_state, alone.opt_state, of_array=True) <= ULPS, case
    for a, b in zip(numbers, expected, strict=True):
        # The loss is a mean of terms of both signs, each as large as `largest`, and may be as small as chance makes it.
        near = {"rtol": 1e-13, "atol": 1e-15 * b["largest"], "err_msg": str(case)}
        np.testing.assert_allclose([a["loss"], a["largest"]], [b["loss"], b["largest"]], **near)
    points = found.params["points"]
    assert {shard.data.shape[0] for shard in points.addressable_shards} == {size // count}, case
    assert np.abs(np.asarray(points) - np.asarray(tables.points(manifold, size))).max() > 1e-3
    print(*case, f"{worst:.2f} units in the last place, rounds {[n['rounds'] for n in numbers]}")
    return int(max(n["rounds"] for n in numbers))


def steps() -> None:
    """On the ball also in a table that is much larger than the batch and on another number of devices; `overflow` has the other pairs."""
    assert compare("ball", "adam", "Auto", 4096, None) == 1
    assert compare("ball", "sgd", "Auto", 64, None) == 1
    assert compare("hyperboloid", "adam", "Explicit", 64, None) == 1
    assert compare("product", "sgd", "Auto", 64, None) == 1
    assert compare("ball", "adam", "Auto", 64, None, count=2) == 1


def overflow() -> None:
    """What a pair of devices cannot send at once follows, and rows that several devices name in different rounds move once."""
    assert compare("ball", "adam", "Auto", 64, 1) > 4
    assert compare("ball", "sgd", "Auto", 4096, 2) > 1
    assert compare("hyperboloid", "sgd", "Explicit", 64, 2) > 1
    assert compare("product", "adam", "Auto", 64, 2, count=4) > 1


def memory() -> None:
    """Bytes between devices, and memory, read from the compiled program; the table's own rows never travel."""
    size, count = 1 << 14, 8
    state = tables.state("ball", size)
    for rows, capacity in ((256, None), (2048, None), (256, 3)):
        batch = tables.batch(0, size, rows)
        plan = tables.plan()
        step = tables.step("ball", plan=plan, capacity=capacity)
        compiled = jax.jit(step, donate_argnums=0).lower(plan.place(state), plan.batch(batch)).compile()
        found = collectives(compiled.as_text())
        exchange = Exchange.of("x", count, size // count, batch["ids"].size // count, 5 * 8, capacity)
        limit = count * exchange.capacity * (4 + 2 * 5 * 8) + 1024
        once, again = (sum(one.bytes for one in found if one.repeated is repeated) for repeated in (False, True))
        print(rows, capacity, "first", once, "further", again, "limit", limit)
        assert 0.9 * (limit - 1024) <= once <= limit, (once, limit)
        assert 0 < again <= limit, (again, limit)
        assert not [one for one in found if {size, size // count} & set(one.rows)], found
        total = sum(x.nbytes for x in jax.tree.leaves((state.params, state.opt_state.mu, state.opt_state.nu, state.opt_state.nu_max)))
        stats, given = compiled.memory_analysis(), sum(x.nbytes for x in batch.values()) / count
        assert abs((stats.argument_size_in_bytes - given) / (total / count) - 1) < 0.01, (stats, total, given)
        assert stats.alias_size_in_bytes >= 0.99 * total / count, stats


def training() -> None:
    """`fit`: rows in their own order wherever they are seen, and a run that goes on with other numbers of devices, or on one."""
    size = 64

    def run(steps: int, folder: Path | None, count: int | None, shuffle: int = 5, capacity: int | None = None) -> Any:
        plan = None if count is None else tables.plan(count=count)
        step = tables.step("ball", plan=plan, shuffle=shuffle, capacity=capacity)
        seen = []

        def evaluate(params: Any) -> dict[str, float]:
            seen.append(np.asarray(params["points"]))
            return {"first": float(seen[-1][0, 0])}

        result = fit(
            step, tables.state("ball", size), steps=steps, batches=lambda number: tables.batch(number, size), plan=plan, chunk=3, every=3,
            folder=folder, evaluate=evaluate, monitor="first", progress=False,
        )  # fmt: skip
        return result, seen

    alone, shown = run(6, None, None)
    assert "rounds" not in alone.history.steps
    found, seen = run(6, None, 8)
    assert (found.history.steps["rounds"], found.compilations) == ([1.0] * 6, 1)
    assert len(seen) == len(shown) == 3
    for a, b in zip(seen, shown, strict=True):
        assert apart(a, b) <= ULPS
    assert apart(found.state.params, alone.state.params) <= ULPS
    assert apart(found.state.opt_state, alone.state.opt_state, of_array=True) <= ULPS
    assert apart(found.best, alone.best) <= ULPS
    assert found.best_step == alone.best_step
    np.testing.assert_allclose(found.history.steps["loss"], alone.history.steps["loss"], rtol=1e-13)
    for first, then in ((8, 4), (8, None), (None, 8)):
        with tempfile.TemporaryDirectory() as folder:
            run(3, Path(folder), first)
            saved = restore(folder).state.params["points"]
            assert apart(saved, shown[1]) <= ULPS
            resumed, _ = run(6, Path(folder), then, shuffle=9, capacity=2)
            assert apart(resumed.state.params, alone.state.params) <= ULPS
            assert apart(resumed.best, alone.best) <= ULPS


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    {"steps": steps, "overflow": overflow, "memory": memory, "training": training}[sys.argv[1]]()
