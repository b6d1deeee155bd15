"""What every class says to wrong shapes, points off the manifold and impossible parameters: argument, value and remedy."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import port_jax.manifolds as pm
from parity_tests import draws

EYE = np.eye(3)
SPAN = draws.rng(0).standard_normal((4, 2))

CONSTRUCTORS = {
    "Stereographic, k": (lambda: pm.Stereographic(float("nan")), "Stereographic(k=nan): the curvature must be finite"),
    "StereographicExact, k": (lambda: pm.StereographicExact(np.inf), "StereographicExact(k=inf)"),
    "PoincareBall, sign": (lambda: pm.PoincareBall(-0.7), "PoincareBall(c=-0.7): c must be finite and positive; c is minus the curvature"),
    "PoincareBallExact, sign": (lambda: pm.PoincareBallExact(0), "PoincareBallExact(c=0)"),
    "SphereProjection, sign": (lambda: pm.SphereProjection(-0.7), "PoincareBall(c=0.7)"),
    "SphereProjectionExact, sign": (lambda: pm.SphereProjectionExact(-1.0), "SphereProjectionExact(k=-1.0)"),
    "Lorentz, sign": (lambda: pm.Lorentz(-0.7), "Lorentz(k=-0.7): k must be finite and positive; k is a squared radius"),
    "one of many curvatures": (lambda: pm.Lorentz(jnp.array([[1.0], [-2.0]])), "-2."),
    "Euclidean": (lambda: pm.Euclidean(-1), "ndim is the number of trailing axes of a point, an integer >= 0"),
    "Sphere, both": (lambda: pm.Sphere(SPAN, SPAN), "intersection and complement are both given; give one"),
    "SphereExact, both": (lambda: pm.SphereExact(SPAN, SPAN), "SphereExact: intersection and complement are both given; give one"),
    "Sphere, a line": (lambda: pm.Sphere(intersection=SPAN[:, :1]), "dimension 1, in which the sphere is at most two points"),
    "SymmetricPositiveDefinite": (lambda: pm.SymmetricPositiveDefinite("aim"), "is 'aim'; it has to be one of 'AIM', 'SM', 'LEM'"),
    "BirkhoffPolytope": (lambda: pm.BirkhoffPolytope(tol=-1.0), "tol is -1.0; it has to be 0 or more"),
    "UpperHalf, metric": (lambda: pm.UpperHalf("best"), "metric is 'best'; it has to be one of 'riem'"),
    "BoundedDomain, rank": (lambda: pm.BoundedDomain("wsum"), "rank is None; metric 'wsum' needs the matrices' size, 2 or more"),
    "UpperHalf, weights": (lambda: pm.UpperHalf("wsum", 2, np.ones(3)), "weights have shape (3,); rank=2 needs (2,)"),
    "ProductManifold, none": (lambda: pm.ProductManifold(), "no factor is given; pass pairs (manifold, shape of a point)"),
    "ProductManifold, shape": (lambda: pm.ProductManifold((pm.Stiefel(), (2, 3))), "as many rows as columns"),
    "StereographicProductManifold": (lambda: pm.StereographicProductManifold((pm.Lorentz(), 3)), "factor 0 is Lorentz; every factor has"),
    "Scaled, sign": (lambda: pm.Scaled(pm.Sphere(), -2.0), "Scaled(scale=-2.0): scale must be finite and positive"),
    "Scaled, zero": (lambda: pm.Scaled(pm.Sphere(), 0), "it multiplies distances"),
}

BALL, HYPERBOLOID, SPHERE = pm.PoincareBall(0.7), pm.Lorentz(2.0), pm.Sphere()
PRODUCT = pm.ProductManifold((BALL, 2), (SPHERE, 3))
SHAPES = {
    "Euclidean": (pm.Euclidean(2), np.ones(3), "needs 2 axes or more"),
    "Stereographic": (pm.Stereographic(-0.7), np.float64(0.1), "x has shape (); a point of Stereographic needs 1 axes or more"),
    "PoincareBall": (BALL, np.float64(0.1), "needs 1 axes or more"),
    "SphereProjection": (pm.SphereProjection(0.7), np.float64(0.1), "needs 1 axes or more"),
    "Lorentz": (HYPERBOLOID, np.ones((4, 1)), "the last axis needs the time and at least one space coordinate"),
    "Sphere": (SPHERE, np.ones((4, 1)), "the sphere of R^1 is two points"),
    "Sphere, subspace": (pm.Sphere(SPAN), np.ones(3), "x has shape (3,); the subspace lies in 4 dimensions, not 3"),
    "CanonicalStiefel": (pm.CanonicalStiefel(), np.ones((2, 3)), "at least as many rows as columns"),
    "EuclideanStiefel": (pm.EuclideanStiefel(), np.ones(3), "needs 2 axes or more"),
    "SymmetricPositiveDefinite": (pm.SymmetricPositiveDefinite(), np.ones((2, 3)), "last two axes have to be equal"),
    "BirkhoffPolytope": (pm.BirkhoffPolytope(), np.ones((2, 3)), "last two axes have to be equal"),
    "UpperHalf": (pm.UpperHalf("fmin", 3), 1j * np.eye(2), "have to be 3, its rank"),
    "BoundedDomain": (pm.BoundedDomain(), np.ones((2, 3)), "have to be equal"),
    "ProductManifold": (PRODUCT, np.ones(4), "the factors' points have 5 entries together"),
    "StereographicProductManifold": (pm.StereographicProductManifold((BALL, 2)), np.ones(4), "2 entries together"),
    "Scaled": (pm.Scaled(SPHERE, 2.0), np.ones((4, 1)), "the sphere of R^1 is two points"),
}
OFF = {
    "PoincareBall": (BALL, np.array([0.9, 0.9]), "x has norm 1.27"),
    "Stereographic": (pm.Stereographic(-4.0), np.array([0.5, 0.1]), "inside the ball of radius 0.5"),
    "Lorentz": (HYPERBOLOID, np.ones(3), "x0 is 1 and should be 2, the root of k + |xs|²"),
    "Lorentz, time": (HYPERBOLOID, np.array([-(2**0.5), 0.0, 0.0]), "x0 is -1.4142136 and should be positive"),
    "Sphere": (SPHERE, np.ones(4), "x has norm 2, not 1"),
    "Sphere, subspace": (pm.Sphere(np.eye(4)[:, :2]), np.eye(4)[3], "away from the subspace"),
    "CanonicalStiefel": (pm.CanonicalStiefel(), 2 * EYE, "XᵀX differs from I by 3"),
    "EuclideanStiefelExact": (pm.EuclideanStiefelExact(), 2 * EYE, "XᵀX differs from I by 3"),
    "SymmetricPositiveDefinite": (pm.SymmetricPositiveDefinite(), -EYE, "eigenvalue -1, which is not positive"),
    "BirkhoffPolytope": (pm.BirkhoffPolytope(), 2 * EYE, "a row of x sums to 2, not 1"),
    "UpperHalf": (pm.UpperHalf(), -1j * EYE, "Im x has the eigenvalue -1"),
    "BoundedDomain": (pm.BoundedDomain(), 2 * EYE + 0j, "singular value 2, which is not below 1"),
    "ProductManifold": (PRODUCT, np.full(5, 0.1), "factor 1, Sphere: x has norm"),
    "Scaled": (pm.Scaled(SPHERE, 2.0), np.ones(4), "x has norm 2, not 1"),
}
# A point, and a vector that is not tangent there.
TANGENTS = {
    "Lorentz": (HYPERBOLOID, np.array([2**0.5, 0, 0]), np.ones(3), "proju(x, u) makes u tangent"),
    "Sphere": (SPHERE, EYE[0], EYE[0], "<x, u> is 1, not 0"),
    "CanonicalStiefel": (pm.CanonicalStiefel(), EYE, EYE, "UᵀX + XᵀU is 2, not 0"),
    "EuclideanStiefel": (pm.EuclideanStiefel(), EYE, EYE, "UᵀX + XᵀU is 2, not 0"),
    "SymmetricPositiveDefinite": (pm.SymmetricPositiveDefinite(), EYE, np.triu(np.ones((3, 3))), "u is not symmetric"),
    "BirkhoffPolytope": (pm.BirkhoffPolytope(), np.full((3, 3), 1 / 3), EYE, "a row of u sums to 1, not 0"),
    "UpperHalf": (pm.UpperHalf(), 1j * EYE, np.triu(np.ones((3, 3))) + 0j, "u is not symmetric"),
    "BoundedDomain": (pm.BoundedDomain(), 0j * EYE, np.triu(np.ones((3, 3))) + 0j, "u is not symmetric"),
    "ProductManifold": (PRODUCT, np.array([0, 0, 1.0, 0, 0]), np.ones(5), "factor 1, Sphere: <x, u> is 1, not 0"),
    "Scaled": (pm.Scaled(SPHERE, 2.0), EYE[0], EYE[0], "<x, u> is 1, not 0"),
}


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_impossible_parameters(name: str):
    build, says = CONSTRUCTORS[name]
    with pytest.raises((ValueError, TypeError)) as error:
        build()
    assert says in str(error.value)


@pytest.mark.parametrize("name", SHAPES)
def test_wrong_shapes(name: str):
    """Said by every check, before it looks at numbers; tangents are told with their own name."""
    manifold, x, says = SHAPES[name]
    for check in (manifold.check_point, manifold.check_point_on_manifold):
        ok, reason = check(x, explain=True)
        assert not ok
        assert says in reason
        assert not check(x)
    assert "u has shape" in manifold.check_vector(x, explain=True)[1]
    with pytest.raises(ValueError) as error:
        manifold.assert_check_point(x)
    assert says in str(error.value)
    assert manifold.name.split(",")[0] in str(error.value)


@pytest.mark.parametrize("name", OFF)
def test_points_off_the_manifold(name: str):
    manifold, x, says = OFF[name]
    for array in (x, jnp.asarray(x)):
        ok, reason = manifold.check_point_on_manifold(array, explain=True)
        assert not ok
        assert says in reason
    with pytest.raises(ValueError) as error:
        manifold.assert_check_point_on_manifold(x)
    assert says in str(error.value)
    assert manifold.check_point(x)


@pytest.mark.parametrize("name", TANGENTS)
def test_vectors_off_the_tangent_space(name: str):
    manifold, x, u, says = TANGENTS[name]
    assert manifold.check_point_on_manifold(x)
    for arrays in ((x, u), (jnp.asarray(x), jnp.asarray(u))):
        ok, reason = manifold.check_vector_on_tangent(*arrays, explain=True)
        assert not ok
        assert says in reason
    with pytest.raises(ValueError) as error:
        manifold.assert_check_vector_on_tangent(x, u)
    assert says in str(error.value)
    assert manifold.check_vector_on_tangent(x, 0 * u)


def test_every_class_is_in_the_tables():
    classes = {name for name in pm.__all__ if isinstance(getattr(pm, name), type) and issubclass(getattr(pm, name), pm.Manifold)}
    parents = {"PoincareBallExact", "SphereProjectionExact", "StereographicExact", "SphereExact", "EuclideanStiefelExact", "Manifold"}
    assert classes - parents == {type(row[0]).__name__ for row in SHAPES.values()}


def test_what_is_missing_is_refused_with_what_there_is():
    refusals = {
        "Sphere has no mobius_add; it has": lambda: pm.Sphere().mobius_add(EYE[0], EYE[1]),
        "CanonicalStiefel has no logmap; it has": lambda: pm.Stiefel().logmap(EYE, EYE),
        "BirkhoffPolytope has no dist; it has": lambda: pm.BirkhoffPolytope().dist(EYE, EYE),
        "UpperHalf has no expmap; it has": lambda: pm.UpperHalf().expmap(EYE, EYE),
    }
    for says, call in refusals.items():
        with pytest.raises(NotImplementedError, match=says):
            call()
