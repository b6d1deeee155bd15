"""One interface on every manifold: any leading shape, broadcasting, eager, jit and vmap, differentiable curvature, second derivatives."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parity_tests import draws, slow
from parity_tests.manifolds.laws import Case, has
from parity_tests.manifolds.subjects import SUBJECTS, arguments

OPERATIONS = {
    "inner": "xuv",
    "norm": "xu",
    "component_inner": "xuv",
    "proju": "xw",
    "projx": "x",
    "egrad2rgrad": "xw",
    "retr": "xu",
    "expmap": "xu",
    "logmap": "xy",
    "dist": "xy",
    "dist2": "xy",
    "transp": "xyv",
    "transp_follow_retr": "xuv",
    "transp_follow_expmap": "xuv",
    "retr_transp": "xuv",
    "expmap_transp": "xuv",
}
SHARED = {
    "PoincareBall": "retr expmap logmap dist transp",
    "SphereProjection": "retr expmap logmap dist transp",
    "Scaled PoincareBall": "retr logmap dist",
    "Sphere": "logmap transp",
    "ProductManifold": "inner retr_transp dist",
    "StereographicProductManifold": "inner retr_transp logmap dist",
    **{name: "retr retr_transp" for name in SUBJECTS if "Exact" in name},
    **{name: "dist" for name in SUBJECTS if name.endswith((" SM", " LEM", "fone", "finf", "fmin", "wsum"))},
}
"""Subjects that share the code of another, and the operations that are run on them; all operations on the others."""
NAMES = list(SUBJECTS)
TWICE = {
    **dict.fromkeys(("Stereographic", "SymmetricPositiveDefinite AIM"), "expmap dist2 transp"),
    **dict.fromkeys(("Lorentz", "Sphere, intersection", "UpperHalf riem", "Scaled Sphere"), "expmap dist2"),
    **dict.fromkeys(("PoincareBall", "SphereProjection", "Scaled PoincareBall", "Euclidean"), "retr dist2"),
    **dict.fromkeys(("Sphere", "BoundedDomain riem", "UpperHalf fone", "ProductManifold", "StereographicProductManifold"), "dist2"),
    **dict.fromkeys(("CanonicalStiefel", "EuclideanStiefel", "BirkhoffPolytope"), "retr"),
    **{name: "retr" for name in SUBJECTS if "Exact" in name},
}
"""The operations of which second derivatives are compiled, on each class."""
BROADCAST = {
    *("PoincareBall", "Scaled Sphere", "Sphere, intersection", "ProductManifold", "Euclidean of numbers"),
    *("SymmetricPositiveDefinite SM", "UpperHalf wsum", "BoundedDomain finf", "SphereExact, complement"),
}
KEPT = {
    *("PoincareBall", "Scaled PoincareBall", "Sphere", "SphereExact, complement", "CanonicalStiefel", "EuclideanStiefel", "Euclidean"),
}
"""Subjects of `make test`, for broadcasting and for second derivatives."""
EAGER = ("norm", "retr")
"""Operations that are called without jit too, one compilation for each primitive in them."""
# Eager, jit and vmap round differently after fusion; matrix functions of 200 roundings among them.
ROUNDING = 1e-11


@functools.cache
def prepared(name: str):
    """The manifold, and its operations' arguments with two leading axes that differ from one argument to the next."""
    subject = SUBJECTS[name]
    m = subject.build(jnp.asarray(0.7))
    lanes = arguments(subject, 5, [np.log10(0.7)] * 3, 0.6, 0.5)[1:]
    take = lambda *a: {k: getattr(c, k) for c in [Case(subject, m, *a)] for k in "xyuvw"}  # noqa: E731
    a = {k: np.asarray(v) for k, v in jax.jit(jax.vmap(take))(*lanes).items()}
    # x is at rows of a [2, 3] batch that all have the same x, so that tangents stay tangent when they broadcast.
    x = np.broadcast_to(a["x"][:1], (3, *a["x"].shape[1:]))
    u, v = (np.asarray(jax.jit(jax.vmap(m.proju))(x, t)) for t in (a["u"], a["v"]))
    return m, {"x": x[:1], "y": a["y"], "u": u[:, None][:2], "v": v[None], "w": a["w"][None]}


def available(m, only: str | None = None) -> dict[str, str]:
    """Operations that do not refuse, of all or of `only`."""
    chosen = {}
    for operation, kinds in OPERATIONS.items():
        need = {"transp_follow_expmap": "expmap", "expmap_transp": "expmap"}.get(operation, operation)
        if only is not None and operation not in only.split():
            continue
        if has(m, need) or operation in ("norm", "component_inner", "transp_follow_retr", "retr_transp"):
            chosen[operation] = kinds
    return chosen


def results(m, operations: dict, arrays: dict) -> dict:
    """Each operation's result, as a list of arrays."""
    return {name: jax.tree.leaves(getattr(m, name)(*(arrays[k] for k in kinds))) for name, kinds in operations.items()}


@pytest.mark.parametrize("name", slow.all_but(BROADCAST, NAMES))
def test_broadcasting_eager_jit_and_vmap(name: str):
    """Arguments of leading shapes [1], [3], [2, 1] and [1, 3] give what point by point vmap gives, and an eager call of `EAGER`."""
    m, arrays = prepared(name)
    shape, operations = SUBJECTS[name].shape, available(m, SHARED.get(name))
    n = len(shape)
    lead = {kinds: np.broadcast_shapes(*(arrays[k].shape[: arrays[k].ndim - n] for k in kinds)) for kinds in OPERATIONS.values()}

    def lanes(m, arrays):
        found = {}
        for operation, kinds in operations.items():
            full = [jnp.broadcast_to(arrays[k], lead[kinds] + shape) for k in kinds]
            call = lambda *a, operation=operation: jax.tree.leaves(getattr(m, operation)(*a))  # noqa: E731
            for _ in lead[kinds]:
                call = jax.vmap(call)
            found[operation] = call(*full)
        return found

    jitted, mapped = jax.jit(lambda m, a: (results(m, operations, a), lanes(m, a)))(m, arrays)
    eager = results(m, {o: kinds for o, kinds in operations.items() if o in EAGER}, {k: jnp.asarray(a) for k, a in arrays.items()})
    assert operations
    for operation, kinds in operations.items():
        for one, other, want in zip(jitted[operation], eager.get(operation, jitted[operation]), mapped[operation]):
            assert want.shape[: len(lead[kinds])] == lead[kinds]
            for have, how in ((one, "jit"), (other, "eager")):
                # A point comes back with the leading shape of what it depends on.
                have = jnp.broadcast_to(have, want.shape) if have.ndim == want.ndim or operation.endswith("transp") else have
                assert have.shape == want.shape, f"{operation}, {how}: {have.shape}, vmap {want.shape}"
                size = max(1e-3, float(jnp.max(jnp.abs(want))))
                assert float(jnp.max(jnp.abs(have - want))) <= ROUNDING * size, f"{operation}: {how} and vmap differ"


@pytest.mark.parametrize("name", slow.all_but(lambda name: name in KEPT, TWICE))
def test_second_derivatives_are_finite_and_symmetric(name: str):
    """In the manifold's leaves, in points and tangents: <a, H b> = <b, H a> for the Hessian of random weights of all operations."""
    subject = SUBJECTS[name]
    m, arrays = prepared(name)
    arrays = {k: jnp.asarray(arrays[k].reshape(-1, *subject.shape)[0]) for k in "xyuvw"}
    chosen = available(m, TWICE[name])
    assert chosen

    def total(parameter, arrays):
        m = subject.build(parameter)
        results = [getattr(m, o)(*(arrays[k] for k in kinds)) for o, kinds in chosen.items()]
        weigh = lambda a: jnp.sum(jnp.sin(jnp.arange(1.0, 1 + a.size)).reshape(a.shape) * a)  # noqa: E731
        return sum(weigh(a.real) + (weigh(a.imag) if jnp.iscomplexobj(a) else 0) for a in results)

    rng = draws.rng(4)
    draw = lambda a: rng.standard_normal(a.shape) + (1j * rng.standard_normal(a.shape) if jnp.iscomplexobj(a) else 0)  # noqa: E731
    directions = [jax.tree.map(draw, (jnp.asarray(0.7), arrays)) for _ in range(2)]
    gradient = jax.grad(total, argnums=(0, 1))

    @jax.jit
    def hessian(parameter, arrays, both):
        return jax.vmap(lambda d: jax.jvp(gradient, (parameter, arrays), d))(both)

    both = jax.tree.map(lambda *a: jnp.stack(a), *directions)
    first, second = hessian(jnp.asarray(0.7), arrays, both)
    assert all(np.isfinite(a).all() for a in jax.tree.leaves((first, second)))
    if not first[0][0]:
        assert not name.startswith(("Stereographic", "Lorentz", "Scaled", "Poincare", "SphereProjection")), "no derivative in the curvature"
    products = [
        sum(float(jnp.real(jnp.sum(a * b[i]))) for a, b in zip(jax.tree.leaves(directions[1 - i]), jax.tree.leaves(second))) for i in (0, 1)
    ]
    sizes = [float(jnp.max(jnp.abs(a))) for a in jax.tree.leaves(second)]
    assert abs(products[0] - products[1]) <= 1e-9 * max(sizes) * 10
