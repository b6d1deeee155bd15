"""Compares every pair of the suite in one pass, and writes out/parity/index.html with index.json beside it.

    python -m parity_tests.report [--out out/parity] [--only models --only layers --only optimizers]

Exit code 1 if a comparison failed. It takes some minutes, most of them compilation; `make accuracy` and `make trajectories` measure more.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

import parity_tests.conftest  # noqa: F401  (float64 and the settings of the reference)
from parity_tests.report import documents, layers, models, optimizers
from weights.proof.report import Pair, Report, environment, now, unconfirmed
from weights.proof.report_page import write

KINDS = {"models": models.pairs, "layers": layers.pairs, "optimizers": optimizers.pairs}


def made(pairs: list[Pair]) -> Report:
    """The report of pairs, with accuracy and differences from the documents."""
    return Report(
        title="Parity of port_jax with torch and geoopt",
        made=now(),
        pairs=tuple(pairs),
        accuracy=tuple(documents.accuracy()),
        differences=tuple(documents.differences()),
        open=(*unconfirmed(pairs), *documents.not_covered(pairs)),
        environment=environment(),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out", "parity"), help="folder to write (default: out/parity)")
    parser.add_argument("--only", choices=KINDS, action="append", help="pairs of this kind only; can be repeated")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    pairs: list[Pair] = []
    for kind in options.only or KINDS:
        for pair in (bar := tqdm(KINDS[kind](), desc=kind, unit="pair", disable=None)):
            bar.set_postfix_str(pair.name)
            pairs.append(pair)
    report = made(pairs)
    for path in write(report, html=options.out / "index.html", overwrite=True):
        print(f"Wrote {path}.")
    print(report.summary.partition(" Not verified")[0])
    return int(not report.ok)


if __name__ == "__main__":
    sys.exit(main())
