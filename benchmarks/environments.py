"""Environments of other libraries under out/benchmarks/, made when a benchmark needs one and kept.

An environment has pinned packages, and a Python of its own or the project's packages below its own. Nothing is installed into the
environment of the project. What cannot be made has a reason, and the rows that need it say so. `python -m benchmarks.environments` makes
all of them beforehand.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

from benchmarks.case import NotMeasured

OUT = Path(__file__).parent.parent / "out" / "benchmarks"
READY = "made-of.txt"
"""The file in which a finished environment lists its packages."""
PATIENCE = 600.0
"""Seconds after which an installation is given up."""


class Missing(NotMeasured):
    """Why an environment cannot be had."""


class Environment(NamedTuple):
    """Packages with their versions. Without a Python of its own, the environment has those of the project, too."""

    packages: tuple[str, ...]
    python: str = ""


ENVIRONMENTS = {
    "export": Environment(("flatbuffers==25.12.19",)),
    "torch_geometric": Environment(("torch_geometric==2.8.1",)),
    "hyperbolix": Environment(
        ("hyperbolix==1.4.0", "jax==0.10.2", "jaxlib==0.10.2", "flax==0.12.8", "optax==0.2.8", "numpy==2.4.6"), "3.12"
    ),
}


def python_of(name: str) -> str:
    """The interpreter of an environment, which is made first if it is not there. Missing if that fails."""
    wanted, folder = ENVIRONMENTS[name], OUT / name
    python, ready = folder / "bin" / "python", folder / READY
    made_of = "\n".join((*wanted.packages, wanted.python or sys.version))
    if not (ready.exists() and ready.read_text() == made_of and works(str(python), "-c", "")):
        shutil.rmtree(folder, ignore_errors=True)
        make(wanted, folder, python)
        ready.write_text(made_of)
    return str(python)


def make(wanted: Environment, folder: Path, python: Path) -> None:
    """A virtual environment with the packages; one without a Python of its own sees the packages of the project."""
    base = interpreter(wanted.python) if wanted.python else sys.executable
    if not base:
        raise Missing(f"Python {wanted.python} is not on this machine")
    done([base, "-m", "venv", "--without-pip", str(folder)])
    if not wanted.python:
        packages = next(folder.glob("lib/python*/site-packages"))
        (packages / "project.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    done([sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check", *wanted.packages])


def done(command: list[str]) -> None:
    """Runs a command; Missing with the end of its messages if it fails."""
    try:
        found = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{command[0]}: {error}") from None
    if found.returncode:
        lines = [line for line in found.stderr.splitlines() if line.strip() and not line.startswith("WARNING")] or ["no message"]
        raise Missing(f"{' '.join(command[1:4])} failed: {lines[-1].strip()}")


def interpreter(version: str) -> str:
    """A Python of this version on the path or among pyenv's that can make virtual environments; empty without one."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv"))
    candidates = (f"python{version}", *map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python"))))
    return next((python for python in candidates if works(python, "-c", "import venv, ensurepip")), "")


def works(*command: str) -> bool:
    """Whether a command can be run and succeeds."""
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True).returncode == 0
    return False


if __name__ == "__main__":
    for one in ENVIRONMENTS:
        try:
            print(f"{one}: {python_of(one)}", flush=True)
        except Missing as why:
            print(f"{one}: {why}", flush=True)
