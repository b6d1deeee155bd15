"""Changed files, kills and full disks, and a table of what became of each: `python -m parity_tests.fuzz`.

Case N is the same one on every machine. HYPERPORT_SEED=n draws others.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from parity_tests.fuzz import cases, disks, kills


def main() -> None:
    """Runs all parts, and exits with 1 if one of them found a fault."""
    parser = argparse.ArgumentParser(prog="python -m parity_tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="changed files that are read")
    parser.add_argument("--kills", type=int, default=500, help="kills of convert, export and fit")
    parser.add_argument("--disks", type=int, default=disks.TRIES, help="full disks for each command")
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--case", type=int, help="shows this one case, and nothing else")
    parser.add_argument("--keep", type=Path, help="with --case: a folder for its files")
    parser.add_argument("--kind", help="only cases of this kind")
    asked = parser.parse_args()
    if asked.case is not None:
        sys.exit(cases.show(asked.case, asked.keep))
    faults = kills.run(asked.kills) if asked.kills else 0
    faults += disks.run(asked.disks) if asked.disks else 0
    faults += cases.run(range(asked.first, asked.first + asked.cases), asked.kind) if asked.cases else 0
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
