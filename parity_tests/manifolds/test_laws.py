"""The laws of Riemannian geometry on every manifold, at points, tangents, curvatures and lengths that Hypothesis draws."""

from __future__ import annotations

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st

import port_jax.manifolds as pm
from parity_tests import draws, slow
from parity_tests.manifolds import laws
from parity_tests.manifolds.law_exceptions import EXCEPTIONS
from parity_tests.manifolds.subjects import SUBJECTS, Subject, arguments
from port_jax.manifolds.base import pytree

LANES = 4
EXAMPLES = 25
EXACT = ("Euclidean", "Euclidean of numbers", "Lorentz", *(name for name in SUBJECTS if "Exact" in name))
"""Manifolds whose retraction is documented as the exponential."""


def laws_of(name: str) -> tuple[str, ...]:
    """The laws to evaluate: all that are not refused outright; the two conditional ones where they are due."""
    subject = SUBJECTS[name]
    projected = any(law == "transport" for law in EXCEPTIONS.get(name, ()))
    chosen = subject.laws or tuple(
        law for law in laws.LAWS if (law != "exact" or name in EXACT) and (law != "vector_transport" or projected)
    )
    return tuple(law for law in chosen if not refused(name, law))


@functools.cache
def refused(name: str, law: str) -> bool:
    """Whether the manifold lacks an operation of the law."""
    try:
        jax.eval_shape(functools.partial(laws.errors, SUBJECTS[name], (law,)), *(a[0] for a in arguments(SUBJECTS[name], 0, [0.0], 1, 1)))
    except NotImplementedError:
        return True
    return False


@functools.cache
def compiled(subject: Subject, chosen: tuple[str, ...]):
    """The chosen laws, mapped over lanes."""
    return jax.jit(jax.vmap(functools.partial(laws.errors, subject, chosen)))


def violations(subject: Subject, chosen: tuple[str, ...], draw: tuple) -> dict[str, str]:
    """The equations that do not hold, each with the worst lane's point."""
    found, where = compiled(subject, chosen)(*draw)
    broken = {}
    for equation, pair in found.items():
        error, bound = np.asarray(pair).T
        wrong = ~(error <= bound)
        if wrong.any():
            lane = int(np.argmax(np.where(wrong, error / bound, 0)))
            point = "".join(f"\n    {name} = {np.asarray(a[lane]).tolist()}" for name, a in where.items())
            broken[equation] = f"{equation}: {error[lane]:.2e} > {bound[lane]:.2e} at parameter {draw[0][lane]:.6g}{point}"
    return broken


def excepted(name: str, equation: str) -> str | None:
    """The key of the exception that covers an equation."""
    known = EXCEPTIONS.get(name, {})
    return next((key for key in (equation, equation.split(":")[0]) if key in known), None)


DRAWS = {
    "seed": st.integers(0, 2**32 - 1),
    # Curvature, squared radius or scale from 1e-3 to 1e3, another one in each lane.
    "exponents": st.lists(st.floats(-3, 3), min_size=LANES, max_size=LANES),
    "spread": st.floats(1e-6, 1.2),
    "length": st.floats(0, 1),
}


KEPT = {"PoincareBallExact", "Lorentz", "BoundedDomain finf", "Euclidean of numbers"}


@pytest.mark.parametrize("name", slow.all_but(KEPT, SUBJECTS))
def test_laws(name: str):
    """Every equation of every law, but for the exceptions, which are seen to be some."""
    chosen = laws_of(name)
    lacking = {law for law in SUBJECTS[name].laws or laws.LAWS if refused(name, law)} - {"exact", "vector_transport"}
    assert lacking <= set(EXCEPTIONS.get(name, {})), f"{name} refuses {lacking}"
    needed = set(lacking)

    # A failure names its point itself: no search for a smaller one.
    @settings(max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate])
    @draws.given(0, **DRAWS)
    def holds(seed: int, exponents: list[float], spread: float, length: float) -> None:
        broken = violations(SUBJECTS[name], chosen, arguments(SUBJECTS[name], seed, exponents, spread, length))
        keys = {equation: excepted(name, equation) for equation in broken}
        needed.update(key for key in keys.values() if key)
        wrong = [text for equation, text in broken.items() if keys[equation] is None]
        assert not wrong, f"{name}: " + "\n".join(wrong)

    holds()
    assert needed == set(EXCEPTIONS.get(name, {})), f"exceptions without need: {set(EXCEPTIONS[name]) - needed}"


def broken(base: type, **methods) -> type:
    """A manifold with one operation replaced."""
    return pytree(type("Broken", (base,), methods))


def _sphere(**methods):
    return "Sphere", broken(pm.Sphere, __init__=pm.Sphere.__init__, **methods)


def _ball(**methods):
    return "PoincareBall", broken(pm.PoincareBall, **methods)


PLANTED = {
    "inner": _sphere(inner=lambda m, x, u, v=None, *, keepdim=False: jnp.sum(u * jnp.roll(u if v is None else v, 1), -1, keepdims=keepdim)),
    "projection": _sphere(proju=lambda m, x, u: u - 2 * jnp.sum(x * u) * x),
    "inverse": _sphere(logmap=lambda m, x, y: pm.Sphere.projx(m, pm.Sphere.logmap(m, x, y))),
    "length": _ball(dist=lambda m, x, y, *, keepdim=False: pm.PoincareBall(1.0).dist(x, y, keepdim=keepdim)),
    "geodesic": _sphere(expmap=lambda m, x, u: m.retr(x, u)),
    "retraction": _sphere(retr=lambda m, x, u: m.projx(x + u + jnp.sum(x) * u)),
    "exact": _sphere(),
    "transport": _ball(transp=lambda m, x, y, v: v * m.lambda_x(x, keepdim=True) / m.lambda_x(y, keepdim=True)),
    "vector_transport": _sphere(transp=lambda m, x, y, v: m.proju(x, v)),
    "gradient": _sphere(egrad2rgrad=lambda m, x, u: 2 * m.proju(x, u)),
    "distance": _ball(dist=lambda m, x, y, *, keepdim=False: pm.PoincareBall.dist2(m, x, y, keepdim=keepdim)),
    "symmetry": _sphere(dist=lambda m, x, y, *, keepdim=False: jnp.max(jnp.abs(x - y))),
}


@pytest.mark.parametrize("law", laws.LAWS)
def test_a_planted_error_is_seen(law: str):
    """A law that its planted error does not break tests nothing; the sound manifold is tested above."""
    name, manifold = PLANTED[law]
    parameters = {"PoincareBall": manifold, "Sphere": lambda p: manifold()}
    subject = replace(SUBJECTS[name], build=parameters[name])
    assert violations(subject, (law,), arguments(subject, 3, [-0.5, 0.3, 1.0, -1.0], 0.8, 0.6))
