"""A manifold with all its lengths multiplied by a constant."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import Any

import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from port_jax.manifolds.base import Coordinates, Manifold, Point, Tangent, Verdict, pytree, require_positive
from port_jax.manifolds.point_numbers import positive_or_nan, require_one

__all__ = ["SCALING", "UNSCALED", "Scaled"]

Number = Float[Array, "..."]
# Powers of the scale for operations beyond the protocol: for the result, and for named arguments.
SCALING: dict[str, tuple[int, dict[str, int]]] = {
    "dist0": (1, {}),
    "logmap0back": (1, {}),
    "dist2plane": (1, {}),
    "dist2planes": (1, {}),
    "geodesic_unit": (0, {"t": -1}),
    "wrapped_normal": (0, {"std": -1}),
}
UNSCALED = frozenset(("mobius_fn_apply", "mobius_fn_apply_chain"))


@pytree
class Scaled(Manifold):
    """The points of `base` with distances multiplied by `scale`; tangent vectors are in units of the scaled length.

        dist = s base.dist(x, y),   exp_x(u) = base.exp_x(u/s),   log_x(y) = s base.log_x(y)

    `inner` and `norm` are the base's, as in geoopt: they measure a tangent vector in the units in which it is given, so that
    dist(x, exp_x(u)) = norm(x, u). Any other operation of the base is available under its name, scaled as `SCALING` says.
    """

    base: Manifold
    scale: Number | float = 1.0

    def __post_init__(self) -> None:
        require_positive("Scaled", "scale", self.scale, "it multiplies distances")

    @property
    def name(self) -> str:
        """Scaled(base)."""
        return f"Scaled({self.base.name})"

    @property
    def ndim(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The base's number of trailing axes of a point."""
        return self.base.ndim

    @property
    def reversible(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the base is reversible."""
        return self.base.reversible

    @property
    def ambient(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The base's number of further coordinates."""
        return self.base.ambient

    @property
    def any_origin(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether the base's origin is a choice among equal points."""
        return self.base.any_origin

    @property
    def unit(self) -> float:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The base's, as `inner` is."""
        return self.base.unit

    @property
    def log_scale(self) -> Number:
        """log(scale), which geoopt stores for a learnable scale."""
        return jnp.log(jnp.asarray(self.scale))

    def inner(self, x: Point, u: Tangent, v: Tangent | None = None, *, keepdim: bool = False) -> Number:
        """base.⟨u, v⟩_x."""
        return self.base.inner(x, u, v, keepdim=keepdim)

    def norm(self, x: Point, u: Tangent, *, keepdim: bool = False) -> Number:
        """base.|u|_x."""
        return self.base.norm(x, u, keepdim=keepdim)

    def proju(self, x: Point, u: Tangent) -> Tangent:
        """The base's projection."""
        return self.base.proju(x, u)

    def projx(self, x: Point) -> Point:
        """The base's projection."""
        return self.base.projx(x)

    def egrad2rgrad(self, x: Point, u: Tangent) -> Tangent:
        """The base's, as in geoopt, so that optimizers take its steps: `scale` times the gradient in scaled lengths."""
        return self.base.egrad2rgrad(x, u)

    def transp(self, x: Point, y: Point, v: Tangent) -> Tangent:
        """The base's transport, which is linear in v."""
        return self.base.transp(x, y, v)

    def retr(self, x: Point, u: Tangent, **options: Any) -> Point:
        """base.retr_x(u/s)."""
        return self.base.retr(x, self._times(u, -1), **options)

    def expmap(self, x: Point, u: Tangent, **options: Any) -> Point:
        """base.exp_x(u/s)."""
        return self.base.expmap(x, self._times(u, -1), **options)

    def logmap(self, x: Point, y: Point) -> Tangent:
        """s base.log_x(y)."""
        return self._times(self.base.logmap(x, y), 1)

    @property
    def curvature(self) -> Any:
        """The base's, divided by scale²."""
        return self.base.curvature / jnp.asarray(self._scale) ** 2

    def expmap0(self, u: Tangent, **options: Any) -> Point:
        """base.exp_0(u/s)."""
        return self.base.expmap0(self._times(u, -1), **options)

    def logmap0(self, x: Point) -> Tangent:
        """s base.log_0(x)."""
        return self._times(self.base.logmap0(x), 1)

    def transp0(self, y: Point, u: Tangent) -> Tangent:
        """The base's transport, which is linear in u."""
        return self.base.transp0(y, u)

    def transp0back(self, y: Point, u: Tangent) -> Tangent:
        """The base's transport, which is linear in u."""
        return self.base.transp0back(y, u)

    def coordinates0(self, u: Tangent) -> Coordinates:
        """The base's coordinates, which are linear in u."""
        return self.base.coordinates0(u)

    def from_coordinates0(self, v: Coordinates) -> Tangent:
        """The base's tangent vector, which is linear in v."""
        return self.base.from_coordinates0(v)

    def from_tangent0(self, v: Coordinates, *, longest: float | None = None) -> Point:
        """The base's point of v/s."""
        return self.base.from_tangent0(self._times(v, -1), longest=longest)

    def reach(self, v: Coordinates, longest: float | None = None) -> Number:
        """The base's reach of v/s."""
        return self.base.reach(self._times(v, -1), longest)

    def mobius_add(self, x: Point, y: Point, **options: Any) -> Point:
        """The base's sum: a translation keeps its path whatever the unit of length."""
        return self.base.mobius_add(x, y, **options)

    @property
    def ball(self) -> Any:
        """The base's, with its lengths."""
        return self.base.ball

    def to_ball(self, x: Point) -> Point:
        """The base's map, so that distances there are the base's."""
        return self.base.to_ball(x)

    def gradient(self, x: Point, grad: Point) -> Tangent:
        """The base's, divided by scale: the speed of exp_x(t u) is divided by scale, which `egrad2rgrad` does not account for."""
        return self._times(self.base.gradient(x, grad), -1)

    def sqrt_cometric(self, x: Point, noise: Point) -> Tangent:
        """The base's, as `inner` is."""
        return self.base.sqrt_cometric(x, noise)

    def has(self, *operations: str) -> bool:
        """Whether the base has these operations."""
        return self.base.has(*operations)

    def beside(self, shape: tuple[int, ...]) -> Manifold:
        """The base's, at the same scale."""
        base = self.base.beside(shape)
        return self if base is self.base else dataclasses.replace(self, base=base)

    def with_exact_retraction(self) -> Manifold:
        """The base with its exact retraction, at the same scale."""
        return Scaled(self.base.with_exact_retraction(), self.scale)

    def dist(self, x: Point, y: Point, *, keepdim: bool = False) -> Number:
        """s base.dist(x, y)."""
        return self._times(self.base.dist(x, y, keepdim=keepdim), 1)

    def dist2(self, x: Point, y: Point, *, keepdim: bool = False) -> Number:
        """s² base.dist2(x, y)."""
        return self._times(self.base.dist2(x, y, keepdim=keepdim), 2)

    def expmap_transp(self, x: Point, u: Tangent, v: Tangent, **options: Any) -> tuple[Point, Tangent]:
        """base.expmap_transp(x, u/s, v)."""
        return self.base.expmap_transp(x, self._times(u, -1), v, **options)

    def retr_transp(self, x: Point, u: Tangent, v: Tangent, **options: Any) -> tuple[Point, Tangent]:
        """base.retr_transp(x, u/s, v)."""
        return self.base.retr_transp(x, self._times(u, -1), v, **options)

    def retr_transp_ambient(self, x: Point, u: Tangent, v: Point) -> tuple[Point, Point]:
        """base.retr_transp_ambient(x, u/s, v)."""
        return self.base.retr_transp_ambient(x, self._times(u, -1), v)

    def transp_follow_retr(self, x: Point, u: Tangent, v: Tangent, **options: Any) -> Tangent:
        """base.transp_follow_retr(x, u/s, v)."""
        return self.base.transp_follow_retr(x, self._times(u, -1), v, **options)

    def transp_follow_expmap(self, x: Point, u: Tangent, v: Tangent, **options: Any) -> Tangent:
        """base.transp_follow_expmap(x, u/s, v)."""
        return self.base.transp_follow_expmap(x, self._times(u, -1), v, **options)

    def random_normal(
        self, key: PRNGKeyArray, *size: int, mean: ArrayLike = 0.0, std: ArrayLike = 1.0, dtype: DTypeLike | None = None
    ) -> Point:
        """The base's points of deviation std/s, which is std in scaled lengths."""
        return self.base.random_normal(key, *size, mean=mean, std=self._times(std, -1), dtype=dtype)

    def random(self, key: PRNGKeyArray, *size: int, dtype: DTypeLike | None = None, **kwargs: Any) -> Point:
        """`random_normal` where the base has it, else the base's points."""
        draw = self.random_normal if self.has("random_normal") else self.base.random
        return draw(key, *size, dtype=dtype, **kwargs)

    def narrowed(self, x: Point, dtype: DTypeLike) -> Point:
        """The base's."""
        return self.base.narrowed(x, dtype)

    def origin(self, *size: int, dtype: DTypeLike | None = None) -> Point:
        """The base's origin."""
        return self.base.origin(*size, dtype=dtype)

    def pack_point(self, *parts: Point) -> Point:
        """base.pack_point(*parts)."""
        return self.base.pack_point(*parts)

    def unpack_tensor(self, x: Point) -> Any:
        """base.unpack_tensor(x)."""
        return self.base.unpack_tensor(x)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "base":
            raise AttributeError(name)
        if name in UNSCALED:
            raise NotImplementedError(
                f"{self.name} has no {name}: a nonlinear function of tangent vectors depends on their unit. "
                f"Call base.{name}, or go through logmap0 and expmap0"
            )
        found = getattr(self.base, name)
        if name not in SCALING:
            return found
        result_power, argument_powers = SCALING[name]

        # with the signature of what it calls, for a manifold that scales this one
        @functools.wraps(found)
        def scaled(*args: Any, **kwargs: Any) -> Any:
            bound = inspect.signature(found).bind(*args, **kwargs)
            bound.apply_defaults()
            for argument, power in argument_powers.items():
                bound.arguments[argument] = self._times(bound.arguments[argument], power)
            return self._times(found(*bound.args, **bound.kwargs), result_power)

        return scaled

    def _times(self, value: Any, power: int) -> Any:
        if power == 0:
            return value
        value = jnp.asarray(value)
        dtype = value.real.dtype if jnp.issubdtype(value.dtype, jnp.inexact) else jnp.result_type(float)
        return value * jnp.asarray(self._scale, dtype) ** power

    @property
    def _scale(self) -> Any:
        return positive_or_nan(require_one(self.name, "dist", "scale", self.scale))

    def _check_shape(self, x: Any, name: str) -> Verdict:
        return self.base._check_shape(x, name)

    def _check_point_on_manifold(self, x: Point, *, atol: float, rtol: float) -> Verdict:
        return self.base._check_point_on_manifold(x, atol=atol, rtol=rtol)

    def _check_vector_on_tangent(self, x: Point, u: Tangent, *, atol: float, rtol: float) -> Verdict:
        return self.base._check_vector_on_tangent(x, u, atol=atol, rtol=rtol)
