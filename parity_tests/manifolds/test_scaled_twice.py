"""Scaled manifolds that are scaled again, products of them, and scaled products: every method, of the protocol and of the bases."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import port_jax.manifolds as port
from parity_tests import draws, slow
from port_jax.manifolds import Manifold, Scaled

BATCH, FIRST, SECOND = 3, 2.5, 0.6
BALL, OTHER = port.PoincareBall(0.7), port.Stereographic(0.6)
# name -> (base, shape of a point)
BASES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "PoincareBall": (BALL, (3,)),
    "StereographicExact": (port.StereographicExact(0.6), (3,)),
    "Lorentz": (port.Lorentz(1.7), (4,)),
    "Euclidean": (port.Euclidean(1), (3,)),
    "Sphere": (port.Sphere(), (4,)),
    "CanonicalStiefel": (port.CanonicalStiefel(), (4, 2)),
    "SymmetricPositiveDefinite": (port.SymmetricPositiveDefinite(), (3, 3)),
    "BirkhoffPolytope": (port.BirkhoffPolytope(), (3, 3)),
    "UpperHalf": (port.UpperHalf(), (2, 2)),
    "ProductManifold": (port.ProductManifold((port.Sphere(), 3), (BALL, 2)), (5,)),
    "StereographicProductManifold": (port.StereographicProductManifold((BALL, 3), (OTHER, 2)), (5,)),
}
# The arguments of every method by their names in `arguments`.
CALLS = {
    **dict.fromkeys(("projx", "logmap0", "to_tangent0", "dist0", "lambda_x", "inv_sproj", "antipode", "mobius_neg", "to_ball"), "x"),
    **dict.fromkeys(("unpack_tensor", "logmap0back", "check_point", "check_point_on_manifold", "assert_check_point"), "x"),
    **dict.fromkeys(("assert_check_point_on_manifold", "pack_point", "weighted_midpoint"), "x"),
    **dict.fromkeys(("expmap0", "coordinates0", "check_vector", "assert_check_vector"), "u0"),
    **dict.fromkeys(("from_coordinates0", "from_tangent0", "within_reach"), "c0"),
    "reach": "far",
    **dict.fromkeys(("norm", "retr", "expmap", "check_vector_on_tangent", "assert_check_vector_on_tangent"), "x u"),
    **dict.fromkeys(("proju", "egrad2rgrad", "gradient", "sqrt_cometric"), "x w"),
    **dict.fromkeys(("dist", "dist2", "logmap", "mobius_add", "mobius_sub", "mobius_coadd", "mobius_cosub"), "x y"),
    **dict.fromkeys(("transp_follow_retr", "transp_follow_expmap", "retr_transp", "expmap_transp", "inner", "component_inner"), "x u v"),
    **dict.fromkeys(("transp0", "transp0back"), "x u0"),
    **dict.fromkeys(("dist2plane", "dist2planes"), "x y u"),
    "mobius_fn_apply": "fn x",
    "mobius_fn_apply_chain": "x fn",
    "inner0": "u",
    "transp": "x y v",
    "retr_transp_ambient": "x u w",
    "sproj": "ambient",
    "descend": "x w rate",
    "descend_along": "x w u rate",
    "dist_to": "y",
    "geodesic": "t x y",
    "geodesic_unit": "t x u",
    "gyration": "x y z",
    "mobius_scalar_mul": "t x",
    "mobius_pointwise_mul": "c x",
    "mobius_matvec": "matrix x",
    "take_submanifold_value": "x one",
    "take_submanifold_matrix": "square one",
    "has": "method",
    **dict.fromkeys(("origin", "random", "random_normal", "random_uniform", "random_naive", "random_combined", "wrapped_normal"), "size"),
}
PROPERTIES = {
    *(
        "curvature",
        "ball",
        "radius",
        "k",
        "c",
        "isp_c",
        "projector",
        "max_iter",
        "tol",
        "eps",
        "default_metric",
        "metric",
        "rank",
        "weights",
    ),
    *(
        "ndim",
        "reversible",
        "flat",
        "ambient",
        "any_origin",
        "unit",
        "spherical",
        "manifolds",
        "shapes",
        "slices",
        "n_elements",
        "n_manifolds",
    ),
}
NOT_SCALED = {"name", "narrowed", "from_raw", "from_point", "with_exact_retraction", "isp_k", "beside"}
"""Names of the class itself, and what makes another manifold: it has a test of its own below."""


def arguments(m: Any, shape: tuple[int, ...], dtype: Any) -> dict[str, Any]:
    """Points, tangents and numbers in general position, by the names of `CALLS`."""
    size, rng = (BATCH, *shape), draws.rng(11)
    cast = lambda a: jnp.asarray(a, jnp.result_type(dtype, jnp.complex64) if np.iscomplexobj(a) else dtype)  # noqa: E731
    x, y, z = (m.projx(cast(m.random(draws.key(i), *size))) for i in (1, 2, 3))
    noise = 0.2 * rng.standard_normal((4, *size)) * (1 + 0.5j if np.iscomplexobj(x) else 1)
    u, v = (m.proju(x, cast(n)) for n in noise[:2])
    d, ambient = shape[-1], isinstance(m, port.Lorentz)
    c0 = cast(0.3 * rng.standard_normal((BATCH, d - ambient))) if len(shape) == 1 else u
    u0 = jnp.pad(c0, ((0, 0), (1, 0))) if ambient else c0
    made: dict[str, Any] = {"x": x, "y": y, "z": z, "u": u, "v": v, "w": cast(noise[2]), "c0": c0, "u0": u0, "c": c0}
    made |= {"t": cast(rng.uniform(0.2, 0.9, (BATCH, 1))), "matrix": cast(rng.standard_normal((d - ambient, d - ambient))), "rate": 0.1}
    return made | {
        "fn": jnp.sin,
        "one": 1,
        "method": "expmap0",
        "ambient": cast(0.3 * noise[3]),
        "square": made["matrix"],
        "far": 60 * c0 / jnp.linalg.norm(c0, axis=-1, keepdims=True),
    }


def outcome(m: Any, method: str, a: dict[str, Any]) -> Any:
    """What the method returns, followed into functions that it returns; the type of the error if it has none."""
    try:
        function = getattr(m, method)
        if CALLS[method] == "size":
            options = {"mean": a["x"]} if method == "wrapped_normal" else {"dtype": a["x"].dtype}
            options |= {"std": 0.4} if "std" in inspect.signature(function).parameters else {}
            return function(*(() if method == "origin" else (draws.key(5),)), *a["x"].shape, **options)
        if method == "pack_point":
            parts = m.unpack_tensor(a["x"])
            return function(*(parts if isinstance(parts, tuple) else (parts,)))
        found = function(*(a[name] for name in CALLS[method].split()))
        if method == "descend_along":
            return found[0], found[1](0.3)
        return jax.vmap(found)(a["x"]) if method == "dist_to" else found
    except (NotImplementedError, AttributeError) as error:
        return type(error).__name__


def public(m: Any) -> set[str]:
    return {n for n in {*vars(Manifold), *dir(type(m)), *vars(m)} if not n.startswith("_")}


def differences(one: Any, other: Any, a: dict[str, Any], names: set[str], rtol: float) -> list[str]:
    wrong = []
    for method in sorted(names):
        have, want = outcome(one, method, a), outcome(other, method, a)
        try:
            jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, rtol=rtol, atol=rtol), have, want)
        except (AssertionError, ValueError, TypeError):
            if not (isinstance(want, str) and have == want):
                wrong.append(f"{method}: {have}, {want}")
    return wrong


KEPT = {("PoincareBall", np.float64), ("UpperHalf", np.float32)}


@pytest.mark.parametrize(("name", "dtype"), slow.all_but(KEPT, [(name, dtype) for name in BASES for dtype in (np.float64, np.float32)]))
def test_scaled_twice_is_scaled_by_the_product(name: str, dtype: Any):
    base, shape = BASES[name]
    twice, once = Scaled(Scaled(base, FIRST), SECOND), Scaled(base, FIRST * SECOND)
    names = public(base)
    assert not names - {*CALLS} - PROPERTIES - NOT_SCALED, "a new method: say with which arguments it is called"
    # some hundred roundings in matrix functions
    assert not differences(twice, once, arguments(base, shape, dtype), names & {*CALLS}, 1e-12 if dtype is np.float64 else 2e-5)
    for attribute in names & PROPERTIES:
        have, want = (read(m, attribute) for m in (twice, once))
        assert jax.tree.structure(have) == jax.tree.structure(want)
        for p, q in zip(jax.tree.leaves(have), jax.tree.leaves(want)):
            assert p is q or p == q or np.allclose(p, q, rtol=1e-12, atol=0), attribute


def read(m: Any, attribute: str) -> Any:
    try:
        return getattr(m, attribute)
    except (NotImplementedError, AttributeError) as error:
        return type(error).__name__


@pytest.mark.slow  # as what is scaled twice
def test_what_is_compared_is_not_refused():
    """Most methods give numbers on the bases that have them, and a scale that is lost shows."""
    base, shape = BASES["PoincareBall"]
    a = arguments(base, shape, np.float64)
    refused = {m for m in public(base) & {*CALLS} if isinstance(outcome(Scaled(Scaled(base, FIRST), SECOND), m, a), str)}
    assert refused == {"mobius_fn_apply", "mobius_fn_apply_chain"}
    lost = differences(Scaled(Scaled(base, FIRST), SECOND), Scaled(base, FIRST), a, public(base) & {*CALLS}, 1e-6)
    depends = ("dist", "dist0", "dist2", "dist2plane", "dist2planes", "dist_to", "expmap", "expmap0", "geodesic_unit", "logmap", "reach")
    assert {*depends, "random", "random_normal", "wrapped_normal", "gradient", "retr_transp_ambient"} <= {w.split(":")[0] for w in lost}


@pytest.mark.slow  # as what is scaled twice
@pytest.mark.parametrize("stereographic", [False, True])
def test_a_scaled_product_is_the_product_of_scaled_factors(stereographic: bool):
    """Except for adaptive optimizers' components, and for `random` of a plain product, which has no deviation to scale."""
    kind, factors = (port.StereographicProductManifold, (BALL, OTHER)) if stereographic else (port.ProductManifold, (port.Sphere(), BALL))
    whole = Scaled(kind((factors[0], 3), (factors[1], 2)), FIRST)
    parts = kind((Scaled(factors[0], FIRST), 3), (Scaled(Scaled(factors[1], FIRST / SECOND), SECOND), 2))
    a = arguments(whole.base, (5,), np.float64)
    names = public(whole.base) & {*CALLS} - {"component_inner", "descend_along", "random", "random_combined"}
    assert not differences(parts, whole, a, names - {"mobius_fn_apply", "mobius_fn_apply_chain"}, 1e-12)
    found = {m for m in names if not isinstance(outcome(parts, m, a), str)}
    assert {"dist", "expmap", "logmap", "gradient", "retr_transp", "origin"} <= found
    assert not stereographic or {"expmap0", "geodesic_unit", "wrapped_normal", "dist0", "dist2plane", "mobius_scalar_mul"} <= found


def test_the_exact_retraction_of_a_scaled_scaled_ball():
    twice = Scaled(Scaled(BALL, FIRST), SECOND).with_exact_retraction()
    a = arguments(BALL, (3,), np.float64)
    np.testing.assert_allclose(twice.retr(a["x"], a["u"]), BALL.expmap(a["x"], a["u"] / (FIRST * SECOND)), rtol=1e-13)
    assert twice.reversible


def test_options_of_the_base():
    """`project=False` and the like, as geoopt's Scaled takes them."""
    a = arguments(BALL, (3,), np.float64)
    far = 40 * a["u"]
    for m in (Scaled(BALL, FIRST), Scaled(Scaled(BALL, FIRST / SECOND), SECOND)):
        for method in ("expmap", "expmap_transp", "transp_follow_expmap", "geodesic_unit"):
            args = {"expmap": (a["x"], far), "geodesic_unit": (40 * a["t"], a["x"], a["u"])}.get(method, (a["x"], far, a["v"]))
            plain = (args[0] / FIRST, *args[1:]) if method == "geodesic_unit" else (args[0], args[1] / FIRST, *args[2:])
            have, want = getattr(m, method)(*args, project=False), getattr(BALL, method)(*plain, project=False)
            # near the boundary the rounding of u/s, 1e-16 of coordinates of size 1, is amplified
            jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, rtol=1e-9, atol=1e-12), have, want)
