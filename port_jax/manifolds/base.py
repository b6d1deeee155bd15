"""The protocol that every manifold follows: geoopt's `Manifold`, with points on the last `ndim` axes.

The file is long because the protocol is read as a whole: all of its defaults follow from the exponential, logarithm and transport.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from port_jax.manifolds.arguments import take_numbers
from port_jax.manifolds.pytrees import pytree

__all__ = ["Coordinates", "Manifold", "Move", "Point", "Tangent", "Verdict", "concrete", "pytree", "require_positive"]

Point = Float[Array, "..."]
Tangent = Float[Array, "..."]
Coordinates = Float[Array, "*batch d"]
Move = Callable[[Array], tuple[Array, Array, Array]]
Verdict = tuple[bool, str | None]


def concrete(value: Any) -> np.ndarray | None:
    """The value as a numpy array, or None if it is traced or not a number."""
    if isinstance(value, (bool, int, float, np.number, np.ndarray)):
        return np.asarray(value)
    if isinstance(value, jax.Array) and not isinstance(value, Tracer):
        return np.asarray(value)
    return None


def require_positive(owner: str, name: str, value: Any, remedy: str) -> None:
    """Raise ValueError if a concrete `value` is not finite and positive."""
    number = concrete(value)
    if number is not None and not (np.isfinite(number).all() and (number > 0).all()):
        raise ValueError(f"{owner}({name}={number}): {name} must be finite and positive; {remedy}")


class Manifold:
    """A Riemannian manifold as a frozen pytree over pure functions.

    The methods have geoopt's names and argument order. In place of geoopt's `dim` it is always the last axis; leading axes
    are a batch and broadcast between points and tangents. An operation that a manifold does not have raises `NotImplementedError`,
    whose message lists the ones it has. All methods, also those of subclasses, take their arguments by the rule of
    `port_jax.manifolds.arguments.take_numbers`: integers become floats, and half precision is computed in float32.
    """

    ndim: ClassVar[int] = 0
    """How many trailing axes make one point: 0 for numbers, 1 for vectors, 2 for matrices."""
    reversible: ClassVar[bool] = False
    """Whether a step of `retr` can be reversed exactly, which samplers need."""
    flat: ClassVar[bool] = False
    """Whether points are plain arrays, which optimizers and layers without geometry can handle."""
    ambient: ClassVar[int] = 0
    """How many coordinates a point has beyond those of `coordinates0`: 1 on the hyperboloid, for time."""
    any_origin: ClassVar[bool] = False
    """Whether `origin` is a choice among equal points, so that nothing should decay towards it."""
    unit: ClassVar[float] = 1.0
    """The Riemannian length of a tangent vector of Euclidean length 1 at the origin: 2 on the ball."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        take_numbers(cls)

    @property
    def name(self) -> str:
        """The class's name."""
        return type(self).__name__

    # Operations that every manifold has to define.

    def inner(self, x: Point, u: Tangent, v: Tangent | None = None, *, keepdim: bool = False) -> Float[Array, "..."]:
        """Riemannian inner product <u, v>_x (v defaults to u); `keepdim` keeps the point's axes with length 1."""
        self._lacks("inner")

    def proju(self, x: Point, u: Tangent) -> Tangent:
        """Orthogonal projection of an ambient vector onto the tangent space at x."""
        self._lacks("proju")

    def projx(self, x: Point) -> Point:
        """Projection of an ambient point onto the manifold."""
        self._lacks("projx")

    def egrad2rgrad(self, x: Point, u: Tangent) -> Tangent:
        """Riemannian gradient from the Euclidean one."""
        self._lacks("egrad2rgrad")

    def retr(self, x: Point, u: Tangent) -> Point:
        """Retraction: a first-order step from x along u that ends on the manifold."""
        self._lacks("retr")

    def transp(self, x: Point, y: Point, v: Tangent) -> Tangent:
        """Transport of v from the tangent space at x to the one at y."""
        self._lacks("transp")

    # Operations that some manifolds have.

    def expmap(self, x: Point, u: Tangent) -> Point:
        """Exponential map."""
        self._lacks("expmap")

    def logmap(self, x: Point, y: Point) -> Tangent:
        """Logarithm: the tangent at x whose exponential is y."""
        self._lacks("logmap")

    def dist(self, x: Point, y: Point, *, keepdim: bool = False) -> Float[Array, "..."]:
        """Geodesic distance."""
        self._lacks("dist")

    def random(self, key: PRNGKeyArray, *size: int, dtype: DTypeLike | None = None, **kwargs: Any) -> Point:
        """Random points of shape `size`. As in the following ones, ValueError for a size that points cannot have."""
        self._lacks("random")

    def random_normal(
        self, key: PRNGKeyArray, *size: int, mean: ArrayLike = 0.0, std: ArrayLike = 1.0, dtype: DTypeLike | None = None
    ) -> Point:
        """Random points of shape `size`, made from normal numbers with this mean and deviation."""
        self._lacks("random_normal")

    def origin(self, *size: int, dtype: DTypeLike | None = None) -> Point:
        """The manifold's canonical point, repeated to shape `size`."""
        self._lacks("origin")

    # Operations that follow from these.

    def dist2(self, x: Point, y: Point, *, keepdim: bool = False) -> Float[Array, "..."]:
        """Squared geodesic distance."""
        return self.dist(x, y, keepdim=keepdim) ** 2

    def norm(self, x: Point, u: Tangent, *, keepdim: bool = False) -> Float[Array, "..."]:
        """Riemannian norm sqrt(<u, u>_x), with gradient 0 at u = 0."""
        square = self.inner(x, u, keepdim=keepdim)
        return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)

    def component_inner(self, x: Point, u: Tangent, v: Tangent | None = None) -> Float[Array, "..."]:
        """Inner product per component for adaptive optimizers: one number for each point, with the point's axes kept at length 1."""
        return self.inner(x, u, v, keepdim=True)

    def expmap_transp(self, x: Point, u: Tangent, v: Tangent) -> tuple[Point, Tangent]:
        """The point exp_x(u), and v transported there."""
        y = self.expmap(x, u)
        return y, self.transp(x, y, v)

    def retr_transp(self, x: Point, u: Tangent, v: Tangent) -> tuple[Point, Tangent]:
        """The point retr_x(u), and v transported there."""
        y = self.retr(x, u)
        return y, self.transp(x, y, v)

    def transp_follow_retr(self, x: Point, u: Tangent, v: Tangent) -> Tangent:
        """v transported along the retraction of u."""
        return self.retr_transp(x, u, v)[1]

    def transp_follow_expmap(self, x: Point, u: Tangent, v: Tangent) -> Tangent:
        """v transported along the geodesic of u."""
        return self.expmap_transp(x, u, v)[1]

    # Around the origin, on manifolds that have one with `expmap0`, `logmap0`, `transp0` and `transp0back`.

    @property
    def curvature(self) -> Any:
        """The sectional curvature, on manifolds where it is one number."""
        self._lacks("curvature")

    def expmap0(self, u: Tangent) -> Point:
        """Exponential map at the origin."""
        self._lacks("expmap0")

    def logmap0(self, x: Point) -> Tangent:
        """Logarithm at the origin."""
        self._lacks("logmap0")

    def transp0(self, y: Point, u: Tangent) -> Tangent:
        """Parallel transport from the origin to y."""
        self._lacks("transp0")

    def transp0back(self, y: Point, u: Tangent) -> Tangent:
        """Parallel transport from y to the origin."""
        self._lacks("transp0back")

    def coordinates0(self, u: Tangent) -> Coordinates:
        """The coordinates of a tangent vector at the origin, as many as the manifold has dimensions."""
        return u

    def from_coordinates0(self, v: Coordinates) -> Tangent:
        """The tangent vector at the origin with these coordinates."""
        return v

    def to_tangent0(self, x: Point) -> Coordinates:
        """log_0(x) in coordinates."""
        return self.coordinates0(self.logmap0(x))

    def from_tangent0(self, v: Coordinates, *, longest: float | None = None) -> Point:
        """exp_0 of the vector with coordinates v, shortened to `longest` as in `reach` where a manifold needs that."""
        return self.expmap0(self.from_coordinates0(v))

    def reach(self, v: Coordinates, longest: float | None = None) -> Float[Array, "*batch 1"]:
        """The r <= 1 with log_0(exp_0(v)) = r v: exp_0(v) stays below a largest distance. No point is computed, and so none is rounded.

        `longest` is that distance in units of the radius, on manifolds without a boundary that limits it.
        """
        self._lacks("reach")

    def within_reach(self, v: Coordinates) -> Coordinates:
        """log_0(exp_0(v)) in coordinates: r v by `reach` where a manifold has it, else `to_tangent0` of `from_tangent0`."""
        return v * self.reach(v) if self.has("reach") else self.to_tangent0(self.from_tangent0(v))

    def mobius_add(self, x: Point, y: Point) -> Point:
        """x (+) y = exp_x(PT_{0->x} log_0 y): y moved by the translation that takes the origin to x."""
        if not self.has("transp0", "logmap0"):
            self._lacks("mobius_add")
        return self.expmap(x, self.transp0(x, self.logmap0(y)))

    @property
    def ball(self) -> Any:
        """The stereographic model to which `to_ball` maps, in which classifiers have their hyperplanes."""
        self._lacks("ball")

    def to_ball(self, x: Point) -> Point:
        """x in the stereographic model `ball`."""
        self._lacks("to_ball")

    # For optimizers: steps and momentum in as few sweeps over a table as possible.

    def descend(self, x: Point, grad: Point, rate: Array | float) -> Point:
        """retr(x, -rate egrad2rgrad(x, grad))."""
        return self.retr(x, -rate * self.egrad2rgrad(x, grad))

    def descend_along(self, x: Point, grad: Point, m: Tangent, b1: Array | float) -> tuple[Float[Array, "..."], Move]:
        """One step in two halves: <r, r>_x for r = egrad2rgrad(x, grad), and a function of the step size c that makes the step.

        With m' = b1 m + (1 - b1) r, that function returns the new point, the change of the point and the new momentum, where the first and
        the last are retr_transp(x, c m', m'). c has the shape of `component_inner`.
        """
        r = self.egrad2rgrad(x, grad)
        momentum = b1 * m + (1 - b1) * r

        def move(c: Array) -> tuple[Point, Point, Tangent]:
            y, transported = self.retr_transp(x, c * momentum, momentum)
            return y, y - x, transported

        return self.component_inner(x, r), move

    def retr_transp_ambient(self, x: Point, u: Tangent, v: Point) -> tuple[Point, Point]:
        """`retr_transp` of an ambient vector v, whose part normal to the manifold is carried along as by geoopt's formulas."""
        return self.retr_transp(x, u, v)

    def beside(self, shape: tuple[int, ...]) -> Manifold:
        """The manifold for a parameter of this shape: curvatures with axes broadcast against it, as `point_numbers.beside` says."""
        return self

    def with_exact_retraction(self) -> Manifold:
        """The manifold with the exponential map as retraction; itself if it has no exponential, or already uses it."""
        return self

    def narrowed(self, x: Point, dtype: DTypeLike) -> Point:
        """The point x rounded to a narrower type, and on the manifold there as far as that type can tell."""
        return x.astype(dtype)

    # For samplers.

    def gradient(self, x: Point, grad: Point) -> Tangent:
        """The Riemannian gradient r in the units of `expmap`: <r, u> is the derivative along exp_x(t u)."""
        return self.egrad2rgrad(x, grad)

    def sqrt_cometric(self, x: Point, noise: Point) -> Tangent:
        """The square root of the inverse metric A = egrad2rgrad applied to ambient noise; A itself would square it.

        On a conformal metric, as assumed here, A is a multiple a of the tangent projection, and its root is A/sqrt(a) with
        a = <A n, A n>/<n, A n> in ambient products.
        """
        mapped = self.egrad2rgrad(x, noise)
        axes = tuple(range(-self.ndim, 0))
        length = jnp.sum(mapped * mapped, axes, keepdims=True)
        along = jnp.sum(noise * mapped, axes, keepdims=True)
        some = length > 0
        return mapped * jnp.where(some, jnp.sqrt(along / jnp.where(some, length, 1)), 0)

    # One point against many.

    def dist_to(self, y: Float[Array, "m *point"]) -> Callable[[Float[Array, "*point"]], Float[Array, " m"]]:
        """A function from one point to its distances to all of y, if possible without an array over pairs and coordinates."""
        return lambda x: self.dist(jnp.expand_dims(x, 0), y)

    # Parts of a compound point; a manifold that is not a product has one.

    def pack_point(self, *parts: Point) -> Point:
        """One array from the parts of a point."""
        if len(parts) != 1:
            raise ValueError(f"{self.name}.pack_point takes 1 array, got {len(parts)}; only products have several parts")
        return parts[0]

    def unpack_tensor(self, x: Point) -> Any:
        """The parts of a point, as `pack_point` takes them: here the array itself."""
        return x

    # Checks of concrete values, outside jit. `explain=True` returns (verdict, reason or None).

    def check_point(self, x: Point, *, explain: bool = False) -> bool | Verdict:
        """Whether x has a shape that points can have."""
        return _answer(self._check_shape(x, "x"), explain)

    def check_vector(self, u: Tangent, *, explain: bool = False) -> bool | Verdict:
        """Whether u has a shape that tangent vectors can have."""
        return _answer(self._check_shape(u, "u"), explain)

    def check_point_on_manifold(self, x: Point, *, explain: bool = False, atol: float = 1e-5, rtol: float = 1e-5) -> bool | Verdict:
        """Whether x lies on the manifold, within the tolerances."""
        return _answer(self._point_verdict(x, atol, rtol), explain)

    def check_vector_on_tangent(
        self, x: Point, u: Tangent, *, ok_point: bool = False, explain: bool = False, atol: float = 1e-5, rtol: float = 1e-5
    ) -> bool | Verdict:
        """Whether u is tangent at x; with `ok_point`, x is not checked."""
        return _answer(self._vector_verdict(x, u, ok_point, atol, rtol), explain)

    def assert_check_point(self, x: Point) -> None:
        """Raise ValueError unless `check_point` holds."""
        self._raise_unless(self._check_shape(x, "x"))

    def assert_check_vector(self, u: Tangent) -> None:
        """Raise ValueError unless `check_vector` holds."""
        self._raise_unless(self._check_shape(u, "u"))

    def assert_check_point_on_manifold(self, x: Point, *, atol: float = 1e-5, rtol: float = 1e-5) -> None:
        """Raise ValueError unless `check_point_on_manifold` holds."""
        self._raise_unless(self._point_verdict(x, atol, rtol))

    def assert_check_vector_on_tangent(
        self, x: Point, u: Tangent, *, ok_point: bool = False, atol: float = 1e-5, rtol: float = 1e-5
    ) -> None:
        """Raise ValueError unless `check_vector_on_tangent` holds."""
        self._raise_unless(self._vector_verdict(x, u, ok_point, atol, rtol))

    # For the manifolds to fill in.

    def _check_shape(self, x: Any, name: str) -> Verdict:
        shape = np.shape(x)
        if len(shape) < self.ndim:
            return False, f"{name} has shape {shape}; a point of {self.name} needs {self.ndim} axes or more"
        if 0 in shape[len(shape) - self.ndim :] and not self.flat:
            return False, f"{name} has shape {shape}; a point of {self.name} needs 1 entry or more"
        return True, None

    def _check_point_on_manifold(self, x: Point, *, atol: float, rtol: float) -> Verdict:
        return True, None

    def _check_vector_on_tangent(self, x: Point, u: Tangent, *, atol: float, rtol: float) -> Verdict:
        return True, None

    def _point_verdict(self, x: Point, atol: float, rtol: float) -> Verdict:
        ok, reason = self._check_shape(x, "x")
        return self._check_point_on_manifold(x, atol=atol, rtol=rtol) if ok else (ok, reason)

    def _vector_verdict(self, x: Point, u: Tangent, ok_point: bool, atol: float, rtol: float) -> Verdict:
        ok, reason = (True, None) if ok_point else self._point_verdict(x, atol, rtol)
        ok, reason = self._check_shape(u, "u") if ok else (ok, reason)
        return self._check_vector_on_tangent(x, u, atol=atol, rtol=rtol) if ok else (ok, reason)

    def _raise_unless(self, verdict: Verdict) -> None:
        ok, reason = verdict
        if not ok:
            raise ValueError(f"not on {self.name}: {reason}")

    def has(self, *operations: str) -> bool:
        """Whether the manifold defines these operations of the protocol itself."""
        return all(getattr(type(self), n) is not getattr(Manifold, n) for n in operations)

    def _lacks(self, operation: str) -> NoReturn:
        has = [n for n in vars(Manifold) if not n.startswith("_") and self.has(n)]
        raise NotImplementedError(f"{self.name} has no {operation}; it has {', '.join(sorted(has))}")


take_numbers(Manifold)


def _answer(verdict: Verdict, explain: bool) -> bool | Verdict:
    return verdict if explain else verdict[0]
