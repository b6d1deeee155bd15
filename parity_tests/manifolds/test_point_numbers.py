"""Curvatures that run out of their domain under jit, and curvatures with axes: one rule for all operations, and for stacked models."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parity_tests import draws, slow
from port_jax.distributions import WrappedNormal
from port_jax.graphs import Graph
from port_jax.manifolds import Euclidean, Lorentz, PoincareBall, ProductManifold, Scaled, SphereProjection, Stereographic
from port_jax.models import HGAT
from port_jax.optim import riemannian_adam, riemannian_sgd, sparse_riemannian_sgd

D = 3
SHARED = {
    "dist": lambda m, x, y, u: m.dist(x, y),
    "dist2": lambda m, x, y, u: m.dist2(x, y),
    "dist0": lambda m, x, y, u: m.dist0(x),
    "norm": lambda m, x, y, u: m.norm(x, u),
    "component_inner": lambda m, x, y, u: m.component_inner(x, u),
    "egrad2rgrad": lambda m, x, y, u: m.egrad2rgrad(x, u),
    "projx": lambda m, x, y, u: m.projx(x),
    "retr": lambda m, x, y, u: m.retr(x, u),
    "expmap": lambda m, x, y, u: m.expmap(x, u),
    "expmap0": lambda m, x, y, u: m.expmap0(u),
    "logmap": lambda m, x, y, u: m.logmap(x, y),
    "logmap0": lambda m, x, y, u: m.logmap0(x),
    "geodesic": lambda m, x, y, u: m.geodesic(0.3, x, y),
    "geodesic_unit": lambda m, x, y, u: m.geodesic_unit(0.3, x, u),
    "transp": lambda m, x, y, u: m.transp(x, y, u),
    "transp0": lambda m, x, y, u: m.transp0(x, u),
    "transp0back": lambda m, x, y, u: m.transp0back(x, u),
    "reach": lambda m, x, y, u: m.reach(m.coordinates0(u)) if m.has("reach") else m.dist0(x),
    "mobius_add": lambda m, x, y, u: m.mobius_add(x, y),
    "mobius_sub": lambda m, x, y, u: m.mobius_sub(x, y),
    "mobius_coadd": lambda m, x, y, u: m.mobius_coadd(x, y),
    "mobius_scalar_mul": lambda m, x, y, u: m.mobius_scalar_mul(0.3, x),
    "mobius_matvec": lambda m, x, y, u: m.mobius_matvec(jnp.tri(m.coordinates0(u).shape[-1]), x),
    "mobius_pointwise_mul": lambda m, x, y, u: m.mobius_pointwise_mul(jnp.linspace(0.5, 2, m.coordinates0(u).shape[-1]), x),
    "mobius_fn_apply": lambda m, x, y, u: m.mobius_fn_apply(jnp.sin, x),
    "gyration": lambda m, x, y, u: m.gyration(x, y, y),
    "dist2plane": lambda m, x, y, u: m.dist2plane(x, y, u),
    "descend": lambda m, x, y, u: m.descend(x, u, 0.1),
    "descend_along": lambda m, x, y, u: m.descend_along(x, u, 0.2 * u, 0.9)[1](-0.1)[0],
    "descend_along square": lambda m, x, y, u: m.descend_along(x, u, 0.2 * u, 0.9)[0],
}
ALONE = {  # without a number a point: all pairs, a mean, the numbers themselves
    "dist_to": lambda m, x, y, u: m.dist_to(y)(x[0]),
    "dist2planes": lambda m, x, y, u: m.dist2planes(x, y, u),
    "weighted_midpoint": lambda m, x, y, u: m.weighted_midpoint(x),
    "curvature": lambda m, x, y, u: m.curvature * jnp.ones(1),
    "to_ball": lambda m, x, y, u: m.to_ball(x) if isinstance(m, Lorentz) else m.dist0(x),
    "origin": lambda m, x, y, u: m.origin(*x.shape) if isinstance(m, Lorentz) else m.dist0(x),
}


def arguments(m, n=D):
    """n points, as many more, and tangents; all shapes are [n, 3]."""
    rng = draws.rng(1)
    x, y, u = (0.3 * rng.standard_normal((n, D)) for _ in range(3))
    if not isinstance(m, Lorentz):
        return tuple(jnp.asarray(a) for a in (x, y, u))
    x, y = (m.projx(jnp.asarray(a)) for a in (x, y))
    return x, y, m.proju(x, jnp.asarray(u)).at[:, 0].set(0)


BAD = [(PoincareBall, -0.1), (SphereProjection, -0.1), (Lorentz, -0.1), (Lorentz, 0.0)]


@pytest.mark.parametrize(("kind", "bad"), slow.all_but(BAD[::2], BAD))
def test_a_traced_number_out_of_its_domain_makes_nan(kind, bad):
    """Every operation that depends on it, and derivatives by it; eagerly the constructor raises."""
    with pytest.raises(ValueError, match="finite and positive"):
        kind(bad)
    x, y, u = arguments(kind(0.7))
    operations = SHARED | ALONE

    def every(k):
        return {name: call(kind(k), x, y, u) for name, call in operations.items()}

    fine, found = jax.jit(every)(0.7), jax.jit(every)(bad)
    kept = [name for name in operations if not np.isnan(found[name]).reshape(len(found[name]), -1).any(-1).all()]
    assert not kept, f"not NaN at {bad}: {kept}"
    assert all(np.isfinite(a).all() for a in fine.values()), [name for name, a in fine.items() if not np.isfinite(a).all()]
    slope = jax.jit(jax.grad(lambda k: kind(k).dist(x, y).sum()))
    assert np.isfinite(slope(0.7))
    assert np.isnan(slope(bad))


@pytest.mark.parametrize("kind", slow.all_but({PoincareBall}, [PoincareBall, Lorentz, SphereProjection, Stereographic]))
def test_a_curvature_a_point(kind):
    """`[n, 1]` beside points `[n, d]` is each point's own, where n = d as well; `[n]` is refused by all, not only where n is not d."""
    numbers = jnp.asarray([0.4, 0.7, 1.9])
    x, y, u = arguments(kind(0.7))
    if kind is Lorentz:
        x, y = (jax.vmap(lambda k, a: Lorentz(k).projx(a))(numbers, a) for a in (x, y))
        u = u.at[:, 0].set(0)

    def every(k, x, y, u):
        return {name: call(kind(k), x, y, u) for name, call in SHARED.items()}

    together = jax.jit(every)(numbers[:, None], x, y, u)
    for i in range(D):
        alone = jax.jit(every)(numbers[i], x[i : i + 1], y[i : i + 1], u[i : i + 1])
        for name, want in alone.items():
            np.testing.assert_allclose(together[name][i], want[0], rtol=1e-12, atol=1e-13, err_msg=name)
    leaf = "c" if kind is PoincareBall else "k"
    for name, call in SHARED.items():
        for wrong, says in ((numbers, f"{leaf} has shape (3,); it has to be one number"), (jnp.ones((2, 1)), "does not broadcast against")):
            with pytest.raises(ValueError) as error:
                jax.eval_shape(lambda m, x, y, u: call(m, x, y, u), kind(wrong), x, y, u)  # noqa: B023
            assert says in str(error.value), name


def test_all_pairs_have_one_curvature():
    x, y, u = arguments(PoincareBall(0.7))
    for method, call in (("dist_to", lambda m: m.dist_to(y)), ("dist2planes", lambda m: m.dist2planes(x, y, u))):
        with pytest.raises(ValueError, match=rf"PoincareBall.{method}: c has shape \(3, 1\)"):
            call(PoincareBall(jnp.ones((3, 1))))
    with pytest.raises(ValueError, match=r"Lorentz.dist_to: k has shape \(3, 1\)"):
        Lorentz(jnp.ones((3, 1))).dist_to(y)


@pytest.mark.slow  # as the other methods on a curvature a point
def test_a_wrapped_normal_on_a_curvature_a_point():
    numbers, points = jnp.asarray([0.4, 0.7, 1.9]), arguments(PoincareBall(0.7))
    mean, x, _ = points
    together = WrappedNormal(PoincareBall(numbers[:, None]), mean, 0.3).log_prob(x)
    alone = [WrappedNormal(PoincareBall(c), m, 0.3).log_prob(a) for c, m, a in zip(numbers, mean, x)]
    np.testing.assert_allclose(together, jnp.stack(alone), rtol=1e-13)


def test_a_scale_is_one_positive_number():
    x, y, _ = arguments(PoincareBall(0.7))
    assert np.isnan(jax.jit(lambda s: Scaled(PoincareBall(0.7), s).dist(x, y))(-1.0)).all()
    with pytest.raises(ValueError, match=r"scale has shape \(3,\); it has to be one number"):
        Scaled(PoincareBall(0.7), np.ones(3)).dist(x, y)


def ball(raw):
    return PoincareBall.from_raw(raw)


def hyperboloid(raw):
    return Lorentz.from_raw(raw)


def product(raw):
    return ProductManifold((PoincareBall.from_raw(raw), 1), (Scaled(PoincareBall.from_raw(2 * raw), 1.4), 2))


def steps(optimizer, params, grads):
    def run(params, grads):
        state = optimizer.init(params)
        for _ in range(2):
            updates, state = optimizer.update(grads, state, params)
            params = jax.tree.map(jnp.add, params, updates)
        return params

    return jax.jit(run)(params, grads)


SIZES = [(3, 3), (2, 4), (1, 4)]
STACKS = [(m, *size) for m in ((ball, riemannian_adam), (hyperboloid, riemannian_sgd), (product, riemannian_adam)) for size in SIZES]
QUICK = {(STACKS[0][0], 3, 3)}


@pytest.mark.parametrize(("space", "members", "n"), slow.all_but(QUICK, STACKS))
def test_stacked_models_step_as_each_alone(space, members, n):
    """Curvatures `[members]` beside points `[members, n, 3]`, also where there are as many members as coordinates."""
    manifold, make = space
    rng = draws.rng(2)
    raw = jnp.asarray(rng.standard_normal(members))
    emb = jnp.asarray(0.2 * rng.standard_normal((members, n, D)))
    if manifold is hyperboloid:
        emb = jax.vmap(lambda k, a: hyperboloid(k).projx(a))(raw, emb)
    params = {"emb": emb, "raw": raw}
    grads = jax.tree.map(lambda a: jnp.asarray(rng.standard_normal(a.shape)), params)
    for order in (None, ["raw", "emb"])[: 1 + (members == n)]:
        optimizer = make(0.05, manifolds=lambda p: {"emb": manifold(p["raw"]), "raw": Euclidean()}, order=order)
        together = steps(optimizer, params, grads)
        for i in range(members):
            alone = steps(optimizer, *(jax.tree.map(lambda a: a[i], tree) for tree in (params, grads)))  # noqa: B023
            np.testing.assert_allclose(together["emb"][i], alone["emb"], rtol=1e-12, atol=1e-14)


@pytest.mark.slow  # a curvature for each point above
@pytest.mark.parametrize("kind", slow.all_but({"PoincareBall"}, ["PoincareBall", "Lorentz"]))
def test_an_ensemble_of_nn_vmap(kind):
    """HGAT with trained curvatures that differ, its own `manifolds`, two members and points of two coordinates."""
    graph = Graph.from_edges([0, 1, 2, 3], [1, 2, 3, 0], num_nodes=5)
    features = draws.rng(3).standard_normal((5, 4)).astype(np.float32)
    options = {"in_features": 4, "features": (3, 2), "heads": 1, "num_classes": 2, "classifier": "hyperplanes", "manifold": kind}
    alone = HGAT(**options, learnable_curvature=True)
    split = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
    both = nn.vmap(HGAT, in_axes=(None, None), axis_size=2, **split)(**options, learnable_curvature=True)
    params = jax.jit(both.init)(draws.key(0), features, graph)["params"]
    apart = lambda path, a: a.at[1].add(2.0) if path[-1].key in ("isp_c", "k") else a  # noqa: E731
    params = jax.tree_util.tree_map_with_path(apart, params)
    grads = jax.jit(jax.grad(lambda p: (both.apply({"params": p}, features, graph) ** 2).sum()))(params)
    together = steps(riemannian_adam(1e-2, manifolds=both.manifolds), params, grads)
    for i in range(2):
        own = steps(riemannian_adam(1e-2, manifolds=alone.manifolds), *(jax.tree.map(lambda a: a[i], tree) for tree in (params, grads)))  # noqa: B023
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a[i], b, rtol=1e-5, atol=1e-6), together, own)  # noqa: B023


def test_shapes_that_optimizers_refuse():
    table = jnp.zeros((4, 3))
    cases = {
        (3,): r"parameter emb: PoincareBall: c has shape \(3,\) beside a parameter of shape \(4, 3\)",
        (3, 1): r"or \(4, 1\) for one number a point",
        (4, 2): "it has to be one number",
    }
    for shape, says in cases.items():
        with pytest.raises(ValueError, match=says):
            riemannian_sgd(0.1, manifolds={"emb": PoincareBall(jnp.ones(shape))}).init({"emb": table})
    with pytest.raises(ValueError, match=r"first and last axes both fit; .*: \(4, 1, 1\) or \(1, 4, 1\)"):
        riemannian_sgd(0.1, manifolds=PoincareBall(jnp.ones((4, 1)))).init(jnp.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match="sparse optimizers take one number"):
        sparse_riemannian_sgd(0.1, manifolds={"emb": PoincareBall(jnp.ones((4, 1)))}).init({"emb": table})
    for shape in ((4, 1), (1,), (4,)):
        riemannian_sgd(0.1, manifolds={"emb": PoincareBall(jnp.ones(shape))}).init({"emb": table})


def test_the_search_for_nan_passes_a_right_number():
    """With jax_debug_nans, each operation is looked at where nothing is compiled: none of a right curvature's makes NaN."""
    with jax.debug_nans(True), jax.disable_jit():
        slope = jax.grad(lambda raw: PoincareBall.from_raw(raw).dist0(np.array([0.1, 0.2])))(jnp.asarray(0.3))
        assert np.isfinite(slope)
        with pytest.raises(FloatingPointError):
            jax.grad(lambda c: PoincareBall(c).dist0(np.array([0.1, 0.2])))(jnp.asarray(-0.3))
