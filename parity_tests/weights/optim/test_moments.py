"""The state beside a parameter is read when it is asked for, in the parameter's layout."""

import numpy as np
import pytest

from weights.files.tensors import deferred
from weights.mapping.entries import Entry
from weights.mapping.rules import TRANSPOSE
from weights.optim.moments import Moments


def test_a_moment_is_read_when_it_is_asked_for():
    reads = []

    def elements() -> np.ndarray:
        reads.append(1)
        return np.arange(6.0).reshape(2, 3)

    entry = Entry("w.weight", "parameter", (2, 3), "float64", "params/w/kernel", TRANSPOSE)
    state = Moments(entry, {"step": 3, "exp_avg": deferred(np.dtype(np.float64), (2, 3), elements)})
    assert len(state) == 2
    assert state.keys() - {"step"} == {"exp_avg"}
    assert "exp_avg" in state
    assert "exp_avg_sq" not in state
    assert state.get("exp_avg_sq") is None
    assert state["step"] == 3
    assert not reads
    assert np.array_equal(state["exp_avg"], [[0, 3], [1, 4], [2, 5]])
    assert not state["exp_avg"].flags.writeable
    assert len(reads) == 2


def test_what_cannot_be_read_is_not_absent():
    """The `get` of a Mapping would take a KeyError, from wherever it came, for a moment that is not there."""

    def fails() -> np.ndarray:
        raise KeyError("elements")

    entry = Entry("w", "parameter", (2,), "float32", "params/w")
    state = Moments(entry, {"exp_avg": deferred(np.dtype(np.float32), (2,), fails)})
    with pytest.raises(KeyError, match="elements"):
        state.get("exp_avg")
