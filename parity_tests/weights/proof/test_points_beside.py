"""Manifolds of a port that are not those of the torch module: they are compared without a step, and named with what to write."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

import weights
from examples.own_model.original import Net as Original
from examples.own_model.original import trained
from examples.own_model.port import PORT
from port_jax.manifolds import Euclidean, PoincareBall
from weights.proof.parity import Parity
from weights.proof.points_beside import Space
from weights.proof.rows import Row

BALL, PATHS = PoincareBall(0.7), ("first/bias", "second/bias", "planes/points")
QUICK: dict[str, Any] = {"level": "forward", "types": ("float64",)}


@pytest.fixture(scope="module")
def original() -> Original:
    """Trained a little, so that its curvature is no longer that with which it began."""
    return trained(4)[0]


# What the port says, and what the error says that it is.
WRONG = {
    "flat": (
        dict.fromkeys(PATHS, Euclidean()),
        r"first.bias lies on Euclidean\(\) in the port, on PoincareBall\([\d.]+, trained\)",
    ),
    "not trained": (dict.fromkeys(PATHS, BALL), r"first.bias lies on PoincareBall\(0.7\) in the port, on PoincareBall\([\d.]+, trained\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_other_manifolds_are_named_without_a_step(name: str, original: Original):
    spaces, kind = WRONG[name]
    found = weights.parity(replace(PORT, manifolds=spaces, train=None), original, **QUICK)
    assert [row.what.partition(":")[0] for row in found.rows if not row.ok] == [
        f"manifold of {key}" for key in ("first.bias", "second.bias", "planes.points")
    ]
    assert found.cause is not None
    assert re.search(kind, found.cause.kind)
    assert 'manifolds=lambda params: {"first/bias": PoincareBall.from_raw(params["ball"]["isp_c"])' in found.cause.remedy


def test_the_same_manifolds_are_compared(original: Original):
    found = weights.parity(replace(PORT, train=None), original, **QUICK)
    assert found.ok, found
    assert any(row.what == "manifolds of 3 parameters, as the torch module has them" for row in found.rows)
    alone = weights.parity(PORT, original, level="settings")
    assert "Not verified: manifold of first.bias (only the port says PoincareBall(" in str(alone)


def test_the_first_step_that_differs():
    trail = tuple((n, 1e-12 if n < 3 else 1e-3, 1e-13) for n in range(1, 5))
    rows = [Row("step", "float64", key, 1e-3, 1e-10, False, trail=trail[at:]) for key, at in (("a", 0), ("b", 2), ("c", 2))]
    assert "The first step that differs is 3: a, b, c." in str(Parity(rows))
    assert "The first step" not in str(Parity([]))


def test_spaces_in_words():
    assert str(Space("PoincareBall", 0.66087123, True)) == "PoincareBall(0.660871, trained)"
    assert Space("PoincareBall", 0.7, True).same(Space("PoincareBall", 0.7)) is False
    assert Space("Stereographic", -0.7).same(Space("PoincareBall", 0.7))
    assert Space("Stereographic", 0.7).same(Space("PoincareBall", 0.7)) is False
    assert Space("PoincareBallExact", 0.7).same(Space("PoincareBall", 0.7)) is False
    assert Space("Lorentz", 0.7).same(Space("PoincareBall", 0.7)) is False
    assert Space("Lorentz", 1.0).same(Space("Lorentz", 2.0)) is False
    assert Space("Sphere").same(Space("Sphere"))
    assert Space("Scaled").same(Space("Scaled")) is None
