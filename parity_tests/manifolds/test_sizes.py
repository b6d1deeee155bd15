"""The sizes of random points and of the origin: those that a manifold cannot have are refused, and the smallest are not."""

from __future__ import annotations

import re
from typing import Any

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import port_jax.manifolds as port
from parity_tests import draws, slow
from port_jax.manifolds.sizes import require_size

SPAN = draws.rng(0).standard_normal((4, 2))
BALL, HYPERBOLOID = port.PoincareBall(0.7), port.Lorentz(1.7)
VECTOR = ([(1,), (2, 3), (0, 3)], {(): "needs 1 axes or more", (0,): "needs 1 entry or more", (2, 0): "needs 1 entry or more"})
NOT_SQUARE = {(): "needs 2 axes", (3,): "needs 2 axes", (2, 3): "have to be equal", (4, 3, 2): "have to be equal", (0, 0): "needs 1 entry"}
SQUARE = ([(1, 1), (2, 3, 3), (0, 2, 2)], NOT_SQUARE)
FRAME = (
    [(1, 1), (3, 3), (4, 3), (2, 4, 1), (0, 3, 2)],
    {(): "needs 2 axes", (3,): "needs 2 axes", (5, 10): "at least as many rows as columns", (3, 0): "needs 1 entry or more"},
)
ROUND = ([(2,), (3, 4), (0, 2)], {(): "needs 1 axes", (0,): "needs 1 entry", (1,): "two points", (3, 1): "two points"})
OF_RANK = ([(2, 2), (3, 2, 2)], {(3, 3): "have to be 2, its rank", (2, 3): "have to be 2", (2,): "needs 2 axes"})

# name -> (manifold, (sizes that it has, smallest first; sizes that it has not, and what the message says))
SIZES: dict[str, tuple[Any, tuple[list[tuple[int, ...]], dict[tuple[int, ...], str]]]] = {
    "Euclidean of numbers": (port.Euclidean(), ([(), (0,), (2, 3)], {})),
    "Euclidean": (port.Euclidean(1), ([(1,), (0,), (2, 3)], {(): "needs 1 axes"})),
    "Euclidean of matrices": (port.Euclidean(2), ([(1, 1), (2, 3, 4)], {(): "needs 2 axes", (3,): "needs 2 axes"})),
    "Stereographic": (port.Stereographic(-0.7), VECTOR),
    "StereographicExact": (port.StereographicExact(0.6), VECTOR),
    "PoincareBall": (BALL, VECTOR),
    "PoincareBallExact": (port.PoincareBallExact(0.7), VECTOR),
    "SphereProjection": (port.SphereProjection(0.6), VECTOR),
    "SphereProjectionExact": (port.SphereProjectionExact(0.6), VECTOR),
    "Lorentz": (HYPERBOLOID, ([(2,), (3, 4), (0, 2)], {(): "needs 1 axes", (1,): "time and at least one space", (3, 1): "time"})),
    "Sphere": (port.Sphere(), ROUND),
    "SphereExact": (port.SphereExact(), ROUND),
    "Sphere, intersection": (
        port.Sphere(SPAN),
        ([(4,), (3, 4)], {(3,): "lies in 4 dimensions, not 3", (2, 1): "lies in 4 dimensions", (): "1 axes"}),
    ),
    "CanonicalStiefel": (port.CanonicalStiefel(), FRAME),
    "EuclideanStiefel": (port.EuclideanStiefel(), FRAME),
    "EuclideanStiefelExact": (port.EuclideanStiefelExact(), FRAME),
    "SymmetricPositiveDefinite": (port.SymmetricPositiveDefinite(), SQUARE),
    "BirkhoffPolytope": (port.BirkhoffPolytope(), SQUARE),
    "UpperHalf": (port.UpperHalf(), SQUARE),
    "UpperHalf of a rank": (port.UpperHalf(rank=2), OF_RANK),
    "BoundedDomain": (port.BoundedDomain(), SQUARE),
    "BoundedDomain of a rank": (port.BoundedDomain(rank=2), OF_RANK),
    "ProductManifold": (
        port.ProductManifold((port.Sphere(), 3), (HYPERBOLOID, 2), (port.Euclidean(), ())),
        ([(6,), (2, 6), (0, 6)], {(5,): "6 entries together", (7,): "6 entries", (6, 1): "6 entries", (): "1 axes"}),
    ),
    "StereographicProductManifold": (
        port.StereographicProductManifold((BALL, 1), (port.Stereographic(0.6), 2)),
        ([(3,), (2, 3)], {(2,): "3 entries together", (4,): "3 entries"}),
    ),
    "Scaled": (port.Scaled(BALL, 2.5), VECTOR),
    "Scaled, twice": (port.Scaled(port.Scaled(port.Sphere(), 2.5), 0.6), ROUND),
}
METHODS = ("origin", "random", "random_normal", "random_uniform", "random_naive", "random_combined", "wrapped_normal")


def offered(manifold: Any) -> list[str]:
    """The methods of METHODS that the manifold has itself, or its base."""
    while isinstance(manifold, port.Scaled):
        manifold = manifold.base
    return [m for m in METHODS if getattr(type(manifold), m, None) is not getattr(port.Manifold, m, None)]


def drawn(manifold: Any, method: str, size: tuple[int, ...], length: int, **options: Any) -> Any:
    """What the method returns; a mean that it needs is a vector of this length."""
    if method == "wrapped_normal":
        options["mean"] = manifold.origin(length, **options)
    key = () if method == "origin" else (draws.key(1),)
    return getattr(manifold, method)(*key, *size, **options)


CASES = [(name, method) for name, (manifold, _) in SIZES.items() for method in offered(manifold)]


@pytest.mark.parametrize(("name", "method"), slow.all_but(lambda case: CASES.index(case) % 18 == 0, CASES))  # one helper checks all
def test_wrong_sizes_are_refused_and_the_smallest_are_not(name: str, method: str):
    manifold, (right, wrong) = SIZES[name]
    base = manifold
    while isinstance(base, port.Scaled):
        base = base.base
    dtype = {"dtype": np.complex64} if isinstance(manifold, (port.UpperHalf, port.BoundedDomain)) else {"dtype": np.float32}
    for size in right:
        for options in ({}, dtype):
            made = drawn(manifold, method, size, (1, *size)[-1], **options)
            assert made.shape == size
            assert np.isfinite(made).all()
            assert made.size == 0 or manifold.check_point_on_manifold(made), size
            assert not options or made.dtype == options["dtype"]
    for size, says in wrong.items():
        with pytest.raises(ValueError) as error:
            drawn(manifold, method, size, right[0][-1])
        named = re.escape(f"{base.name}.") + r"\w+: " + re.escape(f"the result has shape {size}; ")
        assert re.match(named, str(error.value)), str(error.value)
        assert says in str(error.value)
        if base is manifold:
            assert str(error.value).startswith(f"{manifold.name}.{method}:")


@pytest.mark.parametrize("size", [((3, 4),), (-1,), (2, -3)])
def test_sizes_that_are_none(size: tuple[Any, ...]):
    for manifold in (BALL, HYPERBOLOID, port.Sphere(), port.Stiefel(), port.Euclidean()):
        with pytest.raises(ValueError, match=r"has to be integers >= 0, one argument for each axis"):
            manifold.origin(*size)
        with pytest.raises(ValueError, match=rf"{manifold.name}.random: the size is"):
            manifold.random(draws.key(0), *size)


def test_what_does_not_fit_the_size():
    """A mean, a deviation, curvatures or subspaces of a larger batch would give more points than asked for, from the same numbers."""
    means = BALL.origin(2, 3)
    assert geoopt.PoincareBall().wrapped_normal(3, mean=torch.zeros(2, 3)).shape == (2, 3)
    with pytest.raises(ValueError, match=r"PoincareBall.wrapped_normal: the result has shape \(3,\); mean has shape \(2, 3\), which"):
        BALL.wrapped_normal(draws.key(0), 3, mean=means)
    with pytest.raises(ValueError, match=r"Lorentz.wrapped_normal: .* mean has shape \(2, 4\)"):
        HYPERBOLOID.wrapped_normal(draws.key(0), 3, 4, mean=HYPERBOLOID.origin(2, 4))
    for manifold in (BALL, HYPERBOLOID, port.Euclidean(1)):
        with pytest.raises(ValueError, match=rf"{manifold.name}.random_normal: .* std has shape \(2, 1\)"):
            manifold.random_normal(draws.key(0), 4, std=np.ones((2, 1)))
        assert manifold.random_normal(draws.key(0), 2, 4, std=np.array([[0.1], [0.2]])).shape == (2, 4)
    with pytest.raises(ValueError):
        HYPERBOLOID.wrapped_normal(draws.key(0), 4, mean=HYPERBOLOID.origin(4), std=np.ones((2, 3)))
    for manifold in (port.PoincareBall(np.array([[0.7], [1.9]])), port.Lorentz(np.array([[0.7], [1.9]]))):
        for call in (manifold.origin, lambda *size, m=manifold: m.random_normal(draws.key(0), *size)):
            with pytest.raises(ValueError, match=rf"{manifold.name}.\w+: the result has shape \(3, 4\); k has shape \(2, 1\)"):
                call(3, 4)
            assert manifold.check_point_on_manifold(call(5, 2, 4))
    spheres = port.Sphere(draws.rng(1).standard_normal((2, 4, 3)))
    for call in (spheres.origin, lambda *size: spheres.random(draws.key(0), *size)):
        with pytest.raises(ValueError, match=r"the batch of projectors has shape \(2, 4\)"):
            call(4)
        assert spheres.check_point_on_manifold(call(5, 2, 4))


def test_what_can_be_broadcast():
    """Shapes of fewer axes, and axes of 1, as numpy broadcasts them; axes that the size has not cannot be 1 either."""
    for shape in ((), (1,), (3,), (1, 1), (4, 1), (1, 3), (4, 3), (1, 4, 3), (2, 4, 3)):
        require_size(BALL, "origin", (2, 4, 3), k=np.zeros(shape))
    for shape in ((2,), (4, 4), (3, 1, 1), (1, 1, 1, 3)):
        with pytest.raises(ValueError, match="cannot be broadcast to it"):
            require_size(BALL, "origin", (2, 4, 3), k=np.zeros(shape))


def test_sizes_are_known_under_jit():
    made = jax.jit(lambda c, key: port.PoincareBall(c).random(key, 2, 3) + port.PoincareBall(c).origin(3))(0.7, draws.key(0))
    assert made.shape == (2, 3)
    with pytest.raises(ValueError, match=r"Lorentz.origin: the result has shape \(1,\)"):
        jax.jit(lambda k: port.Lorentz(k).origin(1))(jnp.asarray(0.7))


def test_what_geoopt_refuses_is_refused():
    """And what geoopt returns in another size than it was asked for: 5 x 5 for 5 x 10 by its SymmetricPositiveDefinite."""
    assert geoopt.SymmetricPositiveDefinite().origin(5, 10).shape == (5, 5)
    assert geoopt.UpperHalf().origin(2, 3, 3).shape == (2, 3)
    refused = {
        (geoopt.Sphere(), port.Sphere(), "random_uniform"): (1,),
        (geoopt.CanonicalStiefel(), port.CanonicalStiefel(), "random_naive"): (5, 10),
        (geoopt.Euclidean(1), port.Euclidean(1), "random_normal"): (),
        (geoopt.BirkhoffPolytope(), port.BirkhoffPolytope(), "random_naive"): (2, 3),
        (geoopt.PoincareBall(), port.PoincareBall(), "random_normal"): (),
    }
    for (theirs, ours, method), size in refused.items():
        with pytest.raises(ValueError):
            getattr(theirs, method)(size)
        with pytest.raises(ValueError):
            getattr(ours, method)(draws.key(0), *size)
    # geoopt takes these.
    taken = {
        (geoopt.Lorentz(), port.Lorentz()): (1,),
        (geoopt.PoincareBall(), port.PoincareBall()): (0,),
        (geoopt.UpperHalf(rank=2), port.UpperHalf(rank=2)): (3, 3),
    }
    for (theirs, ours), size in taken.items():
        assert tuple(theirs.origin(*size).shape) == size
        with pytest.raises(ValueError):
            ours.origin(*size)


def test_every_class_and_every_method_is_in_the_table():
    classes = {name for name in port.__all__ if isinstance(getattr(port, name), type) and issubclass(getattr(port, name), port.Manifold)}
    assert classes - {"Manifold"} == {type(manifold).__name__ for manifold, _ in SIZES.values()}
    found = {m for name in classes for m in dir(getattr(port, name)) if m.startswith("random") or m in ("origin", "wrapped_normal")}
    assert found == set(METHODS)
