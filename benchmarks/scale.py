"""What a step on split tables, or on a graph in parts, costs each device: `python -m benchmarks.scale` writes scale.json and docs/scale.md.

The devices are simulated, eight in one process. They show numbers, bytes and memory as the compiled program has them; they show no speed.
Exits with 1 if a figure misses its goal.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

from benchmarks import scale_graphs
from benchmarks.collectives import collectives
from benchmarks.report import markdown
from port_jax.manifolds import PoincareBall
from port_jax.optim import sparse_riemannian_adam
from port_jax.training import Plan, SparseStep, TrainState, sparse_step, train_state

RESULTS = Path(__file__).with_name("scale.json")
PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
MARKS = "<!-- scale: written by python -m benchmarks.scale -->", "<!-- end of scale -->"
DEVICES = (1, 2, 4, 8)
ROWS, WIDTH, IDS, STEPS = 1 << 17, 16, 12, 3
LINES = {"fixed": lambda devices: 1024, "grows": lambda devices: 128 * devices}
"""The lines of a batch, of `IDS` rows each: as many on all devices together, and as many on each."""
SLACK = 1024
"""Bytes beside rows and their numbers: the loss, and where a round ends."""
BALL = PoincareBall(0.7)
OPTIMIZER = sparse_riemannian_adam(0.05, manifolds={"points": BALL})
Row = dict[str, Any]


def batch_of(number: int, lines: int) -> np.ndarray:
    """Rows of low numbers are named often, as frequent words are."""
    rng = np.random.default_rng([number, lines])
    return np.minimum((ROWS * rng.random((lines, IDS)) ** 3).astype(np.int32), ROWS - 1)


def loss(rows: Any, batch: Any, key: Any) -> Any:
    """The distances of a line's rows to its first one."""
    found = rows["points"]
    return jnp.mean(BALL.dist2(found[:, :1], found[:, 1:]))


@functools.cache
def begun() -> TrainState:
    """A table of points on one device. Made once: programs that are compiled for other devices round other digits."""
    points = BALL.expmap0(0.1 * jax.random.normal(jax.random.key(0), (ROWS, WIDTH)))
    return train_state({"points": points}, OPTIMIZER, jax.random.key(1))


def step_of(plan: Plan | None) -> SparseStep:
    """A step, with the default capacity."""
    return sparse_step(loss, OPTIMIZER, lambda batch: {"points": batch}, plan=plan)


def plan_of(devices: int) -> Plan:
    """A mesh of the first devices."""
    mesh = jax.make_mesh((devices,), ("x",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    return Plan(mesh, tables=("points",))


@functools.cache
def alone(lines: int) -> TrainState:
    """The state after some steps on one device without a plan."""
    state, run = jax.tree.map(jnp.copy, begun()), jax.jit(step_of(None), donate_argnums=0)
    for number in range(STEPS):
        state, _ = run(state, batch_of(number, lines))
    return state


def after(plan: Plan, step: SparseStep, run: Any, state: TrainState, lines: int) -> tuple[TrainState, list[float]]:
    """The state after some steps of a compiled program, its rows in their own order, and the rounds of each."""
    state, rounds = step.shuffled(state), []
    for number in range(STEPS):
        state, numbers = run(state, plan.batch(batch_of(number, lines)))
        rounds.append(float(numbers["rounds"]))
    return step.unshuffled(state), rounds


def apart(found: TrainState, expected: TrainState) -> float:
    """The largest difference of points in units in the last place of the largest entry of a row, or of moments in those of the largest of
    all: they are sums of gradients that cancel."""
    worst = 0.0
    for axis, trees in ((-1, (found.params, expected.params)), (None, (found.opt_state, expected.opt_state))):
        for a, b in zip(*map(jax.tree.leaves, trees), strict=True):
            a, b = np.asarray(a), np.asarray(b)
            if b.ndim:
                worst = max(worst, float((np.abs(a - b) / np.spacing(np.abs(b).max(axis, keepdims=True, initial=1e-300))).max()))
    return worst


def measured(kind: str, devices: int) -> Row:
    """One line of the table."""
    lines, plan = LINES[kind](devices), plan_of(devices)
    step = step_of(plan)
    state, batch = plan.place(jax.tree.map(jnp.copy, begun())), plan.batch(batch_of(0, lines))
    total = sum(x.nbytes for x in jax.tree.leaves(state.params)) + sum(x.nbytes for x in jax.tree.leaves(state.opt_state))
    compiled = jax.jit(step, donate_argnums=0).lower(state, batch).compile()
    memory: Any = compiled.memory_analysis()
    found = collectives(compiled.as_text() or "")
    many, rounds = after(plan, step, compiled, state, lines)
    return {
        "batch": kind,
        "devices": devices,
        "lines": lines,
        "bytes": sum(one.bytes for one in found if not one.repeated),
        "bytes_of_a_further_round": sum(one.bytes for one in found if one.repeated),
        "limit": _limit(lines * IDS // devices, devices),
        "rounds": max(rounds),
        "arguments": memory.argument_size_in_bytes - lines * IDS * 4 // devices,
        "share": total / devices,
        "temporaries": memory.temp_size_in_bytes,
        "ulps": apart(many, alone(lines)),
        "whole_rows": sorted({n for one in found for n in one.rows} & {ROWS, ROWS // devices}) if devices > 1 else [],
    }


def _limit(ids: int, devices: int) -> int:
    """The bytes that one round may take: of `ids` numbers on each device."""
    capacity = min(ids, ROWS // devices, -(-3 * ids // (2 * devices)) + 16)
    return devices * capacity * (4 + 2 * WIDTH * 8) + SLACK


def goals(rows: list[Row]) -> dict[str, bool]:
    """Each goal in words, and whether the figures meet it."""
    by = {(row["batch"], row["devices"]): row for row in rows}
    fixed, grows = (lambda devices, of=kind: by[of, devices] for kind in ("fixed", "grows"))
    ratio: Callable[[Any, str], float] = lambda rows, name: rows(8)[name] / rows(2)[name]  # noqa: E731
    return {
        "points and moments within 4 units in the last place of those of one device": all(row["ulps"] <= 4 for row in rows),
        "bytes of a round at most P C (4 + 2 w) + 1 KB": all(
            max(row["bytes"], row["bytes_of_a_further_round"]) <= row["limit"] for row in rows if row["devices"] > 1
        ),
        "one round for each step": all(row["rounds"] == 1 for row in rows),
        "a device has total / P of tables and moments, within 1 %": all(abs(row["arguments"] / row["share"] - 1) < 0.01 for row in rows),
        "no message has as many rows as the table": not any(row["whole_rows"] for row in rows),
        "a fixed batch: bytes of 8 devices at most 0.3 of those of 2": ratio(fixed, "bytes") <= 0.3,
        "a fixed batch per device: bytes of 8 devices at most 1.3 of those of 2": ratio(grows, "bytes") <= 1.3,
        "a fixed batch per device: temporaries of 8 devices at most 1.3 of those of 2": ratio(grows, "temporaries") <= 1.3,
    }


def all_goals(results: Row) -> dict[str, bool]:
    """Those of tables and those of graphs."""
    return {**goals(results["rows"]), **scale_graphs.goals(results["graphs"])}


def section(results: Row) -> str:
    """The text of docs/scale.md between `MARKS`."""
    columns = ("ids", "devices", "bytes", "limit", "a further round", "rounds", "tables and moments", "temporaries", "units apart")
    parts = [f"{results['with']}; {ROWS:,} points of {WIDTH} coordinates on a ball, float64, Riemannian Adam."]
    for kind, title in (("fixed", "One batch, on more and more devices"), ("grows", "As large a batch on each device")):
        lines = []
        for row in (row for row in results["rows"] if row["batch"] == kind):
            sizes = (row["bytes"], row["limit"], row["bytes_of_a_further_round"])
            told = [f"{size:,}" if row["devices"] > 1 else "-" for size in sizes]
            mib = [f"{row[name] / 2**20:.2f} MiB" for name in ("arguments", "temporaries")]
            lines.append([f"{row['lines'] * IDS:,}", str(row["devices"]), *told, f"{row['rounds']:.0f}", *mib, f"{row['ulps']:.1f}"])
        parts += [f"**{title}**", markdown(columns, lines)]
    parts += scale_graphs.section(results["graphs"])
    parts.append(markdown(("goal", "met"), [(goal, "yes" if met else "no") for goal, met in all_goals(results).items()]))
    return "\n" + "\n\n".join(parts) + "\n"


def draw(results: Row) -> None:
    """Bytes and memory over the number of devices, on logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "hyperport"  # the same file for the same figures
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for ax, kind, title in zip(axes, ("fixed", "grows"), ("one batch", "as large a batch on each device"), strict=True):
        rows = [row for row in results["rows"] if row["batch"] == kind]
        for name, label, style in (
            ("arguments", "tables and moments", "C0o-"),
            ("temporaries", "temporaries", "C2o-"),
            ("bytes", "bytes received in a step", "C3o-"),
        ):
            those = [row for row in rows if name != "bytes" or row["devices"] > 1]
            ax.loglog([row["devices"] for row in those], [row[name] / 2**20 for row in those], style, ms=4, label=label)
        ax.set_title(title, fontsize=9)
        ax.set(xlabel="devices", ylabel="MiB on each device", xticks=DEVICES, xticklabels=DEVICES)
        ax.minorticks_off()
    axes[0].legend(fontsize=8)
    fig.savefig(PAGE.with_suffix(".svg"), metadata={"Date": None})
    plt.close(fig)


def load() -> Row:
    """The content of scale.json."""
    return json.loads(RESULTS.read_text())


def between() -> str:
    """The text of docs/scale.md between its marks."""
    return PAGE.read_text().split(MARKS[0])[1].split(MARKS[1])[0]


def _each(measure: Callable[[str, int], Row], kinds: Iterable[str], counts: Iterable[int]) -> list[Row]:
    rows = []
    for kind, devices in itertools.product(kinds, counts):
        rows.append(measure(kind, devices))
        print({name: value for name, value in rows[-1].items() if value != []}, flush=True)
    return rows


def main() -> int:
    """Measures, or with --page writes the page from scale.json. Returns the exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--page", action="store_true", help="measure nothing; write the page from scale.json")
    parser.add_argument("--graphs", action="store_true", help="measure the part on graphs alone")
    options = parser.parse_args()
    if not options.page:
        if "HYPERPORT_SCALE" not in os.environ:
            flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={max(DEVICES)}"
            environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1", "XLA_FLAGS": flags, "HYPERPORT_SCALE": "1"}
            return subprocess.run([sys.executable, "-m", "benchmarks.scale", *sys.argv[1:]], env=environment, check=False).returncode
        rows = load()["rows"] if options.graphs else _each(measured, LINES, DEVICES)
        graphs = _each(scale_graphs.measured, scale_graphs.GRAPHS, scale_graphs.DEVICES)
        where = f"Python {platform.python_version()}, jax {jax.__version__}, simulated devices of one {platform.machine()} processor"
        RESULTS.write_text(json.dumps({"with": where, "rows": rows, "graphs": graphs}, indent=1) + "\n")
    results = load()
    text = PAGE.read_text()
    PAGE.write_text(text.replace(f"{MARKS[0]}{between()}{MARKS[1]}", f"{MARKS[0]}{section(results)}{MARKS[1]}"))
    draw(results)
    missed = [goal for goal, met in all_goals(results).items() if not met]
    print(*(f"missed: {goal}" for goal in missed), f"wrote {PAGE.name}", sep="\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
