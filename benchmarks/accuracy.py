"""Trains HGCN, HGAT and HyboNet on airport, cora and disease_lp in JAX and in torch: `python -m benchmarks.accuracy --data FOLDER`.

Both sides use the same splits, features, training pairs and settings, which are those of the models' own repositories, and each starts
from its own initial values. There is one run for each seed. The report has the test score at the best validation score as the mean and
its 95 % confidence interval over the seeds, whether the means agree (Welch's interval of their difference contains 0), and the seconds of
a run. The score is the ROC AUC for links and the accuracy for classes.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy import stats
from tqdm import tqdm

from benchmarks import accuracy_jax, accuracy_torch, report
from benchmarks.accuracy_problems import CASES, MODELS, problem
from port_jax.memory import keep_pages

RESULTS = Path(__file__).with_name("accuracy.json")
MARKS = "<!-- accuracy: written by python -m benchmarks.accuracy -->", "<!-- end of accuracy -->"


def interval(scores: list[float]) -> float:
    """Half the width of the 95 % confidence interval of the mean."""
    return float(stats.t.ppf(0.975, len(scores) - 1) * np.std(scores, ddof=1) / len(scores) ** 0.5) if len(scores) > 1 else float("nan")


def agree(a: list[float], b: list[float]) -> bool:
    """Whether Welch's 95 % interval of the difference of the means contains 0."""
    if len(a) < 2 or np.std(a) == np.std(b) == 0:
        return bool(np.mean(a) == np.mean(b))
    _, p = stats.ttest_ind(a, b, equal_var=False)
    return bool(p > 0.05)  # pyright: ignore[reportOperatorIssue]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description="Compares test scores of JAX and torch.")
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="folder that contains airport.npz, cora.npz and disease_lp.npz"
    )
    parser.add_argument("--seeds", type=int, default=5, help="runs of each model, graph and side (default: 5)")
    parser.add_argument("--steps", type=int, default=1000, help="largest number of steps of a run (default: 1000)")
    parser.add_argument("--every", type=int, default=5, help="steps between evaluations (default: 5)")
    parser.add_argument("--only", help="run only the cases whose name contains this text, for example HGCN or airport")
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON file to write (default: benchmarks/accuracy.json)")
    args = parser.parse_args()
    torch.set_num_threads(2)
    keep_pages()  # for both sides; `fit` would call it for JAX
    on = report.machine(os.getloadavg()[0], 2)
    jobs = [(m, n, t, s[m]) for n, t, s in CASES for m in MODELS if args.only is None or args.only in f"{m} {n} {t}"]
    rows: list[dict[str, Any]] = []
    with tqdm(total=2 * args.seeds * len(jobs), unit="run", disable=None) as bar:
        for model, name, task, settings in jobs:
            row: dict[str, Any] = {"model": model, "graph": name, "task": task, "steps": args.steps, "machine": on}
            for side, train in (("torch", accuracy_torch.train), ("jax", accuracy_jax.train)):
                scores, seconds = [], []
                for seed in range(args.seeds):
                    bar.set_postfix_str(f"{model} {name} {side}")
                    given = problem(args.data, name, task, model != "HGAT", settings.normalize, seed)
                    start = time.perf_counter()
                    scores.append(train(model, given, settings, seed, args.steps, args.every))
                    seconds.append(time.perf_counter() - start)
                    bar.update()
                row |= {f"{side}_scores": scores, f"{side}_seconds": float(np.median(seconds))}
            rows.append({**row, "agree": agree(row["torch_scores"], row["jax_scores"])})
            args.out.write_text(json.dumps(rows, indent=1))
    shown = Table(*COLUMNS)
    for row in rows:
        shown.add_row(*cells(row))
    Console().print(shown)
    if args.out == RESULTS:
        report.write_page(section(rows), *MARKS)


COLUMNS = ("model", "graph", "score", "torch", "JAX", "means agree", "torch, s", "JAX, s")


def cells(row: dict[str, Any]) -> list[str]:
    """A row of the table: mean and interval of each side, whether the means agree, and the seconds of a run on each side."""
    means = [f"{100 * np.mean(s):.1f} ± {100 * interval(s):.1f}" for s in (row["torch_scores"], row["jax_scores"])]
    score, same = "ROC AUC" if row["task"] == "lp" else "accuracy", "yes" if row["agree"] else "no"
    return [row["model"], row["graph"], score, *means, same, *(f"{row[f'{side}_seconds']:.0f}" for side in ("torch", "jax"))]


def load() -> list[dict[str, Any]]:
    """The rows of accuracy.json."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else []


def section(rows: list[dict[str, Any]]) -> str:
    """The text of docs/speed.md between `MARKS`."""
    if not rows:
        return "\nNo run of this version is recorded yet.\n"
    on = rows[0].get("machine")
    where = report.described(on) if on else "The machine of these runs is not recorded; compare the seconds only with each other."
    return f"\n{len(rows[0]['jax_scores'])} seeds. {where}\n\n{report.markdown(COLUMNS, map(cells, rows))}\n"


if __name__ == "__main__":
    main()
