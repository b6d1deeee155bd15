"""Processes of one program find each other by arguments or variables, and a single one needs neither."""

from __future__ import annotations

import sys

import jax
import pytest

from parity_tests import processes
from port_jax.training import TrainingError, distributed

OURS = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
CLUSTERS = ("SLURM_JOB_ID", "OMPI_MCA_orte_hnp_uri", "KUBERNETES_SERVICE_HOST")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*OURS, *CLUSTERS):
        monkeypatch.delenv(name, raising=False)


def test_two_processes_find_each_other_twice():
    told = processes.run("parity_tests.training.test_processes", devices=1, processes=2)
    assert [line.split()[-4:] for line in told] == [["0", "2", "0", "2"], ["1", "2", "1", "2"]]


def test_what_is_given_by_halves_is_named(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match="index is 2, and processes is 2; give an index from 0 to 1"):
        distributed("localhost:1", 2, 2)
    with pytest.raises(TypeError, match="address is 8; give a text"):
        distributed(8)  # pyright: ignore[reportArgumentType]
    monkeypatch.setenv("JAX_PROCESS_ID", "two")
    with pytest.raises(ValueError, match="JAX_PROCESS_ID is 'two'; set it to a whole number"):
        distributed()
    monkeypatch.setenv("JAX_PROCESS_ID", "0")
    jax.devices()
    with pytest.raises(TrainingError, match=r"cannot be joined .*; make distributed\(\) the first call"):
        distributed("localhost:1", 2, 1)
    monkeypatch.setenv("JAX_NUM_PROCESSES", "1")
    assert distributed() == (0, 1)


if __name__ == "__main__":
    count, index, port = sys.argv[1:]
    print(*distributed(f"localhost:{port}", int(count), int(index)), *distributed())
