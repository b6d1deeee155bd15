"""A translated optimizer takes the steps that its original would have taken, defects of geoopt's own classes included."""

from __future__ import annotations

import warnings
from typing import Any

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from parity_tests import draws, slow
from parity_tests.optim.from_torch.originals import (
    ADAM,
    AFTER,
    BEFORE,
    DENSE,
    SGD,
    Run,
    copies,
    given,
    go_on,
    loaded,
    missed,
    over,
    parameter,
)
from parity_tests.optim.from_torch.runs import plain
from parity_tests.optim.spaces import ORIGINALS, Space
from port_jax import manifolds as port
from port_jax.optim import from_torch, riemannian_adam, to_torch
from port_jax.optim.from_torch import defects
from port_jax.optim.from_torch.kinds import KINDS
from reference_torch.optim import riemannian_adam as old_classes

REAL = {name: space for name, space in ORIGINALS.items() if not np.iscomplexobj(space.start)}
ROWS = {name: space.table() for name, space in REAL.items() if space.rows}
DTYPES = (np.float64, np.float32)


KEPT = {("groups", np.float64)}


@pytest.mark.parametrize(("name", "dtype"), slow.all_but(KEPT, [(name, dtype) for name in DENSE for dtype in DTYPES]))
def test_goes_on_as_geoopts_own_classes_do(name: str, dtype: Any):
    wrong = missed(DENSE[name], dtype)
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow  # weights/optim/test_optimizers.py goes on with maxima
@pytest.mark.parametrize("dtype", DTYPES)
def test_amsgrad_goes_on_as_geoopts_own_classes_do(dtype: Any):
    """Where points are real: torch has no maximum of complex numbers."""
    wrong = missed(over(ADAM, lr=3e-3, amsgrad=True, stabilize=2), dtype, REAL)
    assert not wrong, "\n".join(wrong)


SPARSE_ADAM, SPARSE_SGD = geoopt.optim.SparseRiemannianAdam, geoopt.optim.SparseRiemannianSGD
SPARSE = {
    "adam": over(SPARSE_ADAM, lr=3e-3, betas=(0.8, 0.95), stabilize=3),
    "amsgrad": over(SPARSE_ADAM, lr=3e-3, amsgrad=True),
    "sgd": over(SPARSE_SGD, lr=1e-3, momentum=0.9, dampening=0.1, stabilize=3),
    "nesterov": over(SPARSE_SGD, lr=1e-3, momentum=0.9, nesterov=True),
}


@pytest.mark.slow  # as whole tables above
@pytest.mark.parametrize(("name", "dtype"), [(name, dtype) for name in SPARSE for dtype in DTYPES])
def test_rows_go_on_as_geoopts_own_classes_do(name: str, dtype: Any):
    wrong = missed(SPARSE[name], dtype, ROWS)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("kind", [ADAM, SGD])
def test_short_steps_on_the_hyperboloid_are_geoopts(kind: Any):
    """Below 1e-4 geoopt raises lengths, by a hundredth of the way at this rate; float64, as 5e-9 is less than a rounding of float32."""
    spaces = {name: space for name, space in ORIGINALS.items() if "Lorentz" in name}
    settings = {"momentum": 0.9} if kind is SGD else {}
    wrong = missed(over(kind, lr=1e-5, stabilize=7, **settings), np.float64, spaces)
    assert not wrong, "\n".join(wrong)


def test_the_double_dialect_stabilizes_as_geoopt_does():
    """geoopt until 0.3.1, whose counts go up by two for each parameter, so that stabilising is not the transformation's own."""
    spaces = {name: ORIGINALS[name] for name in ("CanonicalStiefel", "BirkhoffPolytope")}
    wrong = missed(over(old_classes.OldGeoopt, lr=3e-3, stabilize=4), np.float64, spaces, said="RiemannianAdam")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow  # weights/optim/test_resumed_defects.py goes there and back, too
@pytest.mark.parametrize("before", [0, BEFORE])
@pytest.mark.parametrize("name", ["adam stabilized", "sgd stabilized"])
def test_torch_takes_it_back_and_goes_on(name: str, before: int):
    """Some steps in torch, some in JAX, and more in torch again: those of one run in torch."""
    starts = {n: space.start for n, space in ORIGINALS.items()}
    run = Run(ORIGINALS, DENSE[name], np.float64, starts)
    run = run.run(before) if before else run
    saved, known = plain(run.optimizer.state_dict()), given(run)
    went = go_on(run, 6)
    back, _ = to_torch(went.state, saved, **known)
    again = loaded(DENSE[name], back, went.points, ORIGINALS, before + 6).run(6).values()
    begun, want = run.values(), run.run(12).values()
    for n, found in again.items():
        np.testing.assert_allclose(found, want[n], rtol=0, atol=1e-10 * np.abs(want[n] - begun[n]).max(), err_msg=n)


class Search:
    """A quartic at targets off the points, so that the search has to shorten steps; `names` are of ORIGINALS, with all their points.

    The first step that is tried is as long as the gradient: of 4 at most, or on a hyperboloid the quartic at its end exceeds all numbers.
    """

    def __init__(self, names: tuple[str, ...], **settings: Any):
        self.spaces = {name: ORIGINALS[name].table() for name in names}
        self.points = {name: parameter(space, space.start, np.float64) for name, space in self.spaces.items()}
        rng = draws.rng(31)
        self.targets = {n: s.start + 0.4 * rng.standard_normal(s.start.shape) for n, s in self.spaces.items()}
        self.optimizer = geoopt.optim.RiemannianLineSearch(list(self.points.values()), **settings)
        self.sign = self.scale = 1.0
        self.closure()
        with torch.no_grad():
            spaces = {n: getattr(p, "manifold", geoopt.Euclidean()) for n, p in self.points.items()}
            slopes = {n: space.egrad2rgrad(self.points[n], self.points[n].grad) for n, space in spaces.items()}
            length = sum(float(space.inner(self.points[n], slopes[n]).sum()) for n, space in spaces.items()) ** 0.5
        self.scale = min(1.0, 4 / length)

    def loss(self, points: Any, targets: Any) -> Any:
        return self.scale * sum(((points[n] - t) ** 4).sum() + 0.3 * ((points[n] - t) ** 2).sum() for n, t in targets.items())

    def closure(self) -> float:
        self.optimizer.zero_grad()
        loss = self.loss(self.points, {n: torch.tensor(t) for n, t in self.targets.items()})
        (self.sign * loss).backward()
        return loss.item()

    def step(self, **call: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.optimizer.step(self.closure, **call)

    def values(self) -> dict[str, np.ndarray]:
        return {n: p.detach().numpy().copy() for n, p in self.points.items()}

    def resumed(self) -> Any:
        """(a step in JAX, parameters, state)."""
        size = self.optimizer.last_step_size
        saved = plain(self.optimizer.state_dict())
        saved |= {"old_phi0": self.optimizer.old_phi0, "last_step_size": None if size is None else float(size)}
        params = {n: jnp.asarray(p) for n, p in self.values().items()}
        manifolds = {n: s.of_port(np.float64) for n, s in self.spaces.items()}
        tx, state = from_torch(saved, params=params, names=list(params), manifolds=manifolds)

        def value_fn(p: Any) -> Any:
            return self.loss(p, {n: jnp.asarray(t) for n, t in self.targets.items()})

        @jax.jit
        def move(params: Any, state: Any) -> Any:
            grad = jax.tree.map(lambda g: self.sign * g, jax.grad(value_fn)(params))
            updates, state = tx.update(grad, state, params, value_fn=value_fn)
            return optax.apply_updates(params, updates), state

        return move, params, state


SEARCHES = [
    (("PoincareBall",), "armijo", "fr"),
    (("PoincareBall", "Sphere"), "wolfe", "pr"),
    (("Stereographic", "Scaled(Stereographic)"), "armijo", "pr"),
    (("SphereProjection", "SphereExact"), "wolfe", "fr"),
    (("PoincareBallExact", "Euclidean"), "wolfe", "steepest"),
    (("Lorentz(5)", "Scaled(Lorentz)"), "armijo", "fr"),
    (("Lorentz(0.3)",), "wolfe", "pr"),
    (("CanonicalStiefel",), "wolfe", "fr"),
    (("CanonicalStiefel", "EuclideanStiefel"), "armijo", "pr"),
    (("EuclideanStiefelExact", "SymmetricPositiveDefinite"), "wolfe", "pr"),
    (("BirkhoffPolytope",), "wolfe", "pr"),
    (("ProductManifold", "StereographicProductManifold"), "wolfe", "fr"),
]


@pytest.mark.parametrize(("names", "method", "cg"), slow.all_but((SEARCHES[1], SEARCHES[5], SEARCHES[7], SEARCHES[10]), SEARCHES))
def test_a_search_goes_on_as_geoopts_own_classes_do(names: tuple[str, ...], method: str, cg: str):
    """Batches on balls, whose pairs of points geoopt counts, too. With `stabilize`, geoopt's search raises."""
    run = Search(names, line_search_method=method, cg_method=cg)
    for _ in range(2):
        run.step()
    begun, (move, params, state) = run.values(), run.resumed()
    for _ in range(3):
        run.step()
        params, state = move(params, state)
        # The searches of both stop at the first step that satisfies their conditions; what they interpolate amplifies rounding.
        np.testing.assert_allclose(state.step_size, run.optimizer.last_step_size or 0.0, rtol=1e-7)
    for name, want in run.values().items():
        np.testing.assert_allclose(params[name], want, rtol=0, atol=1e-7 * np.abs(want - begun[name]).max(), err_msg=name)


def test_a_wolfe_search_that_has_found_nothing_stays_where_it_is():
    """geoopt begins the next search at 0; a search that a person makes begins at 1 (`test_riemannian_line_search.py`)."""
    run = Search(("Sphere",), line_search_method="wolfe", cg_method="fr")
    run.step()
    run.sign = -1.0  # uphill: nothing is found
    run.step(recompute_gradients=True)
    assert run.optimizer.last_step_size is None
    run.sign = 1.0
    begun, (move, params, state) = run.values(), run.resumed()
    for _ in range(3):
        run.step(recompute_gradients=True)
        params, state = move(params, state)
        assert run.optimizer.last_step_size is None
        assert not bool(state.found)
    np.testing.assert_array_equal(run.values()["Sphere"], begun["Sphere"])
    np.testing.assert_array_equal(params["Sphere"], begun["Sphere"])


@pytest.mark.slow  # test_a_search_with_stabilize_which_geoopt_refuses_keeps_its_direction is one of them
def test_what_geoopt_refuses_goes_on():
    """No run of geoopt's gets there; a configuration does, and is moved as by port_jax's own optimizer."""
    batch = Space(lambda _: geoopt.UpperHalf(), lambda _: port.UpperHalf(), np.stack([ORIGINALS["UpperHalf"].start] * 3))
    for space, settings in ((ORIGINALS["UpperHalf"], {"amsgrad": True}), (ORIGINALS["BoundedDomain"], {"amsgrad": True}), (batch, {})):
        run = Run({"x": space}, over(ADAM, lr=1e-2, **settings), np.float64, {"x": space.start})
        with pytest.raises(RuntimeError, match=r"maximum not implemented for complex|must match the size"):
            run.run(2)
    point = Run({"x": ORIGINALS["UpperHalf"]}, over(SGD, lr=1.0), np.float64, {"x": ORIGINALS["UpperHalf"].start}).points["x"]
    search = geoopt.optim.RiemannianLineSearch([point])

    def closure() -> float:
        search.zero_grad()
        loss = (point * point.conj()).real.sum()
        loss.backward()
        return loss.item()

    with pytest.raises(TypeError, match="not supported between instances of 'complex'"):
        search.step(closure)
    params, grad = {"x": jnp.asarray(batch.start)}, {"x": jnp.asarray(draws.rng(1).standard_normal(batch.start.shape) + 0j)}
    manifolds = {"x": port.UpperHalf()}
    translated, _ = from_torch({"name": "RiemannianAdam", "lr": 1e-2, "amsgrad": True}, params=params, manifolds=manifolds)
    new = riemannian_adam(1e-2, amsgrad=True, manifolds=manifolds)
    (found, _), (want, _) = (tx.update(grad, tx.init(params), params) for tx in (translated, new))
    np.testing.assert_array_equal(found["x"], want["x"])


def test_a_search_with_stabilize_which_geoopt_refuses_keeps_its_direction():
    names, settings = ("CanonicalStiefel",), {"cg_method": "fr", "line_search_method": "wolfe"}
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        Search(names, **settings, stabilize=1).step()
    ends = []
    for stabilize in (None, 1):
        run = Search(names, **settings)
        run.step()
        run.optimizer.param_groups[0]["stabilize"] = stabilize
        move, params, state = run.resumed()
        ends.append(move(params, state))
    (plainly, before), (projected, after) = ends
    np.testing.assert_allclose(projected["CanonicalStiefel"], plainly["CanonicalStiefel"], rtol=0, atol=1e-14)
    np.testing.assert_array_equal(after.transported_direction["CanonicalStiefel"], before.transported_direction["CanonicalStiefel"])


def test_only_what_geoopt_has_wrong_is_replaced():
    """By a class of the same name; the rest is the manifold that was given, so that its fused steps stay."""
    for name, space in ORIGINALS.items():
        manifold = space.of_port(np.float64)
        new = defects.as_in_geoopt(manifold, search=False)
        wrong = any(part in name for part in ("Canonical", "Birkhoff", "Upper", "Bounded", "Lorentz")) or name == "ProductManifold"
        assert (new is not manifold) == wrong, name
        assert type(new).__name__ == type(manifold).__name__
        assert bool(defects.sentences(KINDS["RiemannianAdam"], {}, [manifold])) == wrong
        assert not defects.sentences(KINDS["hgcn.RiemannianAdam"], {}, [manifold])


def test_a_new_optimizer_is_right_where_a_translated_one_is_geoopts():
    """After a stabilised step the momentum of a new one is its own projection; that of the other is doubled in the span of the frame."""
    x = ORIGINALS["CanonicalStiefel"].start
    params, grad = {"x": jnp.asarray(x)}, {"x": jnp.asarray(draws.rng(1).standard_normal(x.shape))}
    manifolds = {"x": port.CanonicalStiefel()}
    translated, _ = from_torch({"name": "RiemannianAdam", "lr": 1e-2, "stabilize": 1}, params=params, manifolds=manifolds)
    new = riemannian_adam(1e-2, stabilize=1, manifolds=manifolds)
    (change, right), (same, wrong) = (tx.update(grad, tx.init(params), params) for tx in (new, translated))
    np.testing.assert_array_equal(change["x"], same["x"])
    at = np.asarray(x + change["x"])
    inside = at @ (at.swapaxes(-1, -2) @ np.asarray(right.mu["x"]))
    np.testing.assert_allclose(wrong.mu["x"] - right.mu["x"], inside, rtol=0, atol=1e-14)
    assert np.abs(inside).max() > 1e-3


def test_a_nudge_is_one_rounding_of_every_coordinate():
    for space in ORIGINALS.values():
        first, *rest = copies(space.start, np.float64)
        for copy in rest:
            assert (np.abs((copy - first).view(np.float64)) > 0).all()
            np.testing.assert_allclose(copy, first, rtol=0, atol=2.3e-16 * np.abs(first).max())
    assert isinstance(ORIGINALS["UpperHalf"], Space)
    assert AFTER > 6
