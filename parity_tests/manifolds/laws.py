"""What has to hold on a Riemannian manifold, as equations between port_jax's operations at points in general position.

A law is a function of a manifold and a `Case` and yields equations (name, left, right, size): both sides agree to rounding, which is
`ROUNDING` ulp of the largest of the sides and `size`, times the case's condition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp

from parity_tests.manifolds.subjects import Subject

Array = Any
Equation = tuple[str, Array, Array, Array]

ROUNDING = 2000
"""A side of a law is up to ten operations one after another, each a few hundred roundings with the matrix functions in it."""
DIFFERENCE = 1e-10
"""Error of the fourth-order difference at STEP: STEP⁴/30 of a fifth derivative below 10², and rounding over STEP."""
STEP = 1e-3


class Case:
    """Points x, y, z; tangents u, v at x; an ambient vector w; the geodesic of u. What laws share is computed once.

    `noise` is `[7, *shape]` normal numbers; points are made from them times `spread`, u has the length `length` times the subject's
    reach. Rows of arguments go through an operation together, by vmap: each operation is compiled once or twice for all laws.
    """

    def __init__(self, s: Subject, m: Any, noise: Array, matrix: Array, spread: Array, length: Array) -> None:
        self.s, self.m, self.w, self.noise, self.matrix = s, m, noise[5], noise[6], matrix
        self.radius, self.unit = (jnp.asarray(f(m), float) for f in (s.radius, s.unit))
        self.x, self.y, self.z = jax.vmap(partial(s.point, m))(jnp.concatenate([spread * noise[:2], noise[2:3]]))
        tangents = jax.vmap(partial(m.proju, self.x))(noise[3:5])
        sizes = jax.vmap(lambda t: m.norm(self.x, t, keepdim=True))(tangents)
        u, self.v = tangents / sizes * self.radius
        self.u = length * s.reach * u

    @cached_property
    def path(self) -> tuple[Array, Array]:
        """Points and velocities of t -> exp_x(tu) at 0, 1/2 and 1."""
        return jax.vmap(lambda t: velocity(lambda t: self.m.expmap(self.x, t * self.u), t))(jnp.array([0, 0.5, 1]))

    @cached_property
    def end(self) -> Array:
        """exp_x(u), or retr_x(u) where there is no exponential."""
        return self.path[0][2] if has(self.m, "expmap") else self.m.retr(self.x, self.u)

    @cached_property
    def dist(self) -> dict[str, Array]:
        """Distances, by the names of the points."""
        at = {"x": self.x, "y": self.y, "z": self.z, "e": self.end}
        pairs = ("xy", "yz", "xz", "xe", "yx", "xx")
        found = jax.vmap(self.m.dist)(*(jnp.stack([at[pair[i]] for pair in pairs]) for i in (0, 1)))
        return dict(zip(pairs, found))

    @cached_property
    def logs(self) -> Array:
        """Logarithms at x of `end` and of y."""
        return jax.vmap(partial(self.m.logmap, self.x))(jnp.stack([self.end, self.y]))

    @cached_property
    def coordinates(self) -> Array:
        """The largest coordinate of the points."""
        return jnp.max(jnp.abs(jnp.stack([self.x, self.y, self.z, self.end])))

    @cached_property
    def condition(self) -> Array:
        """How many times longer, squared, the same step in coordinates is at one point of the case than at another."""
        points = jnp.stack([self.x, self.y, self.z, self.end])
        stretch = jnp.linalg.eigvalsh(jax.vmap(partial(metric, self.s, self.m))(points))
        return jnp.max(stretch) / jnp.min(stretch)

    @cached_property
    def nearness(self) -> Array:
        """1/(1 - d(x, y)/cut)²: what the logarithm of y is worse conditioned by where the cut locus is near."""
        return 1 / (1 - jnp.minimum(self.dist["xy"] / jnp.asarray(self.s.cut(self.m), float), 1 - 1e-7)) ** 2


def has(m: Any, operation: str) -> bool:
    """Whether the manifold overrides the protocol's refusal."""
    from port_jax.manifolds import Manifold, Scaled

    m = m.base if isinstance(m, Scaled) else m
    return getattr(type(m), operation) is not getattr(Manifold, operation)


def basis(s: Subject, m: Any, x: Array) -> Array:
    """Ambient vectors `[dimension, *shape]` that span the tangent space at x and are orthonormal as coordinates."""
    size = x.size * (2 if jnp.iscomplexobj(x) else 1)
    project = lambda w: flat(m.proju(x, unflat(w, x)))  # noqa: E731
    vectors = jnp.linalg.svd(jax.vmap(project, out_axes=1)(jnp.eye(size)))[0]
    return jax.vmap(lambda w: unflat(w, x))(vectors[:, : s.dimension].T)


def metric(s: Subject, m: Any, x: Array) -> Array:
    """⟨eᵢ, eⱼ⟩ on `basis`."""
    e = basis(s, m, x)
    return jax.vmap(lambda a: jax.vmap(lambda b: m.inner(x, a, b))(e))(e).reshape(s.dimension, s.dimension)


def flat(x: Array) -> Array:
    """Real coordinates in one row."""
    return jnp.concatenate([x.real.ravel(), x.imag.ravel()]) if jnp.iscomplexobj(x) else x.ravel()


def unflat(w: Array, like: Array) -> Array:
    """The array whose `flat` is w."""
    if not jnp.iscomplexobj(like):
        return w.reshape(like.shape)
    return jax.lax.complex(w[: like.size], w[like.size :]).reshape(like.shape)


def velocity(curve: Callable[[Array], Array], t: Array) -> tuple[Array, Array]:
    """The curve's point and derivative at t."""
    return jax.jvp(curve, (t,), (jnp.ones_like(t),))


def inner(m: Any, c: Case) -> Iterator[Equation]:
    """⟨ , ⟩ is symmetric, bilinear and positive; norm² and component_inner are it."""
    left, right = jnp.stack([c.u, c.u, c.v, c.v, c.u + 0.7 * c.v]), jnp.stack([c.u, c.v, c.v, c.u, c.v])
    uu, uv, vv, vu, mixed = jax.vmap(partial(m.inner, c.x))(left, right)
    size = jnp.sqrt(uu * vv) + vv
    yield "symmetric", uv, vu, size
    yield "bilinear", mixed, uv + 0.7 * vv, size
    yield "positive", jnp.minimum(vv, 0), 0 * vv, vv
    yield "norm", m.norm(c.x, c.u) ** 2, uu, uu
    yield "component_inner", _total(m, m.component_inner(c.x, c.u, c.v)), jnp.sum(uv), size


def _total(m: Any, product: Array) -> Array:
    """The sum over components; a product of manifolds repeats each factor's number over its part."""
    parts = [product] if not hasattr(m, "manifolds") else [product[s] for s in m.slices]
    flat_factor = lambda i: hasattr(m, "manifolds") and m.manifolds[i].name == "Euclidean"  # noqa: E731
    return sum(jnp.sum(p) if flat_factor(i) or not hasattr(m, "manifolds") else p[0] for i, p in enumerate(parts))


def projection(m: Any, c: Case) -> Iterator[Equation]:
    """projx and proju are idempotent and leave what is on the manifold; proju is orthogonal."""
    size = jnp.max(jnp.abs(c.w))
    near = m.projx(c.x + 0.3 * c.coordinates * c.w / (1 + size))
    yield "projx", jax.vmap(m.projx)(jnp.stack([near, c.x])), jnp.stack([near, c.x]), c.coordinates
    once = m.proju(c.x, c.w)
    yield "proju", jax.vmap(partial(m.proju, c.x))(jnp.stack([once, c.v])), jnp.stack([once, c.v]), size
    away, whole = jax.vmap(partial(m.inner, c.x))(jnp.stack([c.w - once, once]), jnp.stack([c.v, once]))
    long = jnp.sqrt(whole) * m.norm(c.x, c.v) * jnp.sqrt(c.condition)
    yield "proju is orthogonal", away, 0 * long, long


def inverse(m: Any, c: Case) -> Iterator[Equation]:
    """log_x exp_x u = u, exp_x log_x y = y."""
    yield "log exp", c.logs[0], c.u, c.coordinates * c.unit
    yield "exp log", m.expmap(c.x, c.logs[1]), c.y, c.coordinates * c.nearness


def length(m: Any, c: Case) -> Iterator[Equation]:
    """d(x, exp_x u) = ‖u‖, and ‖log_x y‖ = d(x, y)."""
    straight, log = jax.vmap(partial(m.norm, c.x))(jnp.stack([c.u, c.logs[1]]))
    yield "dist of exp", c.dist["xe"], straight, c.radius
    yield "norm of log", log, c.dist["xy"], c.radius * c.nearness


def geodesic(m: Any, c: Case) -> Iterator[Equation]:
    """t → exp_x(tu) starts at x along u, has constant speed, and its second half is the geodesic of its velocity there."""
    points, velocities = c.path
    yield "start", points[0], c.x, c.coordinates
    yield "velocity at the start", c.unit * velocities[0], c.u, c.coordinates * c.unit
    yield "speed", jax.vmap(m.norm)(points, c.unit * velocities), m.norm(c.x, c.u), c.radius
    yield "second half", m.expmap(points[1], 0.5 * c.unit * velocities[1]), points[2], c.coordinates


def retraction(m: Any, c: Case) -> Iterator[Equation]:
    """retr_x(0) = x, its derivative at 0 is the identity, and it stays on the manifold."""
    start, first = velocity(lambda t: m.retr(c.x, t * c.v), jnp.zeros(()))
    yield "start", start, c.x, c.coordinates
    yield "velocity", c.unit * first, c.v, c.coordinates * c.unit + jnp.max(jnp.abs(c.v))
    end = m.retr(c.x, c.u)
    yield "on the manifold", m.projx(end), end, c.coordinates


def exact(m: Any, c: Case) -> Iterator[Equation]:
    """The retraction is the exponential, and what is transported along with it too."""
    yield "retr", m.retr(c.x, c.u), c.end, c.coordinates
    for name, a, b in zip(("point", "vector"), m.retr_transp(c.x, c.u, c.v), m.expmap_transp(c.x, c.u, c.v)):
        yield f"retr_transp, {name}", a, b, c.coordinates


def transport(m: Any, c: Case) -> Iterator[Equation]:
    """Transport is linear, an isometry, carries a geodesic's velocity to its velocity, and is undone on the way back."""
    u, v, mixed = jax.vmap(partial(m.transp_follow_expmap, c.x, c.u))(jnp.stack([c.u, c.v, c.v - 0.3 * c.u]))
    size = jnp.max(jnp.abs(jnp.stack([c.u, c.v, u, v])))
    yield "linear", mixed, v - 0.3 * u, size
    at = jnp.stack([c.end, c.end, c.x, c.x])
    uv, vv, uv0, vv0 = jax.vmap(m.inner)(at, jnp.stack([u, v, c.u, c.v]), jnp.stack([v, v, c.v, c.v]))
    yield "isometry", jnp.stack([uv, vv]), jnp.stack([uv0, vv0]), vv0
    yield "velocity", u, c.unit * c.path[1][2], c.coordinates * c.unit
    if has(m, "transp"):
        ways = jnp.stack([c.x, c.end, c.x]), jnp.stack([c.end, c.x, c.x]), jnp.stack([c.v, v, c.v])
        yield "by end points, back, nowhere", jax.vmap(m.transp)(*ways), jnp.stack([v, c.v, c.v]), size
    for name, a, b in zip(("point", "vector"), m.expmap_transp(c.x, c.u, c.v), (c.end, v)):
        yield f"expmap_transp, {name}", a, b, jnp.maximum(size, c.coordinates)


def vector_transport(m: Any, c: Case) -> Iterator[Equation]:
    """The weaker law of a projection in place of parallel transport: linear, tangent at the end, the identity at x."""
    end = m.retr(c.x, c.u)
    ways = [(c.y, c.v), (c.y, c.u), (c.y, c.v - 0.3 * c.u), (c.x, c.v), (end, c.v)]
    v, u, mixed, still, carried = jax.vmap(partial(m.transp, c.x))(*map(jnp.stack, zip(*ways)))
    size = jnp.max(jnp.abs(jnp.stack([c.u, c.v])))
    yield "linear", mixed, v - 0.3 * u, size
    yield "nowhere", still, c.v, size
    yield "tangent at the end", m.proju(c.y, v), v, size
    for part, a, b in zip(("point", "vector"), m.retr_transp(c.x, c.u, c.v), (end, carried)):
        yield f"retr_transp, {part}", a, b, jnp.maximum(size, c.coordinates)


def gradient(m: Any, c: Case) -> Iterator[Equation]:
    """⟨grad f, v⟩ is the derivative of f along the geodesic of v (the retraction's curve where there is none), and is tangent."""

    def f(p: Array) -> Array:
        waves = lambda part, noise: jnp.sum(noise * jnp.sin(part + noise))  # noqa: E731
        s = p / jnp.maximum(c.coordinates, jnp.max(jnp.abs(c.v)))
        return waves(s.real, c.noise.real) + (waves(s.imag, c.noise.imag) if jnp.iscomplexobj(p) else 0)

    along = m.expmap if has(m, "expmap") else m.retr
    values = jax.vmap(lambda t: f(along(c.x, t * c.v)))(STEP * jnp.array([1, -1, 2, -2]))
    difference = (8 * (values[0] - values[1]) - (values[2] - values[3])) / (12 * STEP)
    found = m.egrad2rgrad(c.x, jnp.conj(jax.grad(f)(c.x)))
    size = DIFFERENCE / ROUNDING / jnp.finfo(float).eps * jnp.sum(jnp.abs(c.noise) + 1)
    yield "along v", jnp.sum(m.inner(c.x, found, c.v)), difference, size
    yield "tangent", m.proju(c.x, found), found, jnp.max(jnp.abs(found))


def distance(m: Any, c: Case) -> Iterator[Equation]:
    """d is symmetric, 0 at x = x and not negative, its square is dist2, and no way round is shorter."""
    xy, yz, xz = c.dist["xy"], c.dist["yz"], c.dist["xz"]
    size = jnp.maximum(c.radius, xy + yz + xz)
    yield "symmetric", xy, c.dist["yx"], size
    yield "coincident", c.dist["xx"], 0 * xy, size
    yield "not negative", jnp.minimum(xy, 0), 0 * xy, size
    yield "dist2", m.dist2(c.x, c.y), xy**2, size**2
    yield "triangle", jnp.maximum(xz - xy - yz, 0), 0 * xz, size


def symmetry(m: Any, c: Case) -> Iterator[Equation]:
    """An isometry g keeps inner products and distances, and commutes with exp, log and transport."""
    parallel = has(m, "transp") and has(m, "logmap")
    log = c.logs[1] if has(m, "logmap") else c.v
    carried = m.transp(c.x, c.y, c.v) if parallel else c.v
    rows = [(c.x, c.u), (c.x, c.v), (c.x, log), (c.y, carried), (c.end, c.v)]
    move = c.s.isometry(m, 0.7 * c.noise, c.matrix)
    points, pushed = jax.vmap(lambda p, t: jax.jvp(move, (p,), (t,)))(*map(jnp.stack, zip(*rows)))
    x, y, end, (u, v, log, carried) = points[0], points[3], points[4], pushed[:4]
    size = jnp.maximum(c.coordinates, jnp.max(jnp.abs(points))) * c.nearness if has(m, "dist") else c.coordinates
    pair = jax.vmap(m.inner)(jnp.stack([x, c.x]), jnp.stack([u, c.u]), jnp.stack([v, c.v]))
    yield "inner", pair[0], pair[1], c.radius**2
    if has(m, "dist"):
        yield "dist", m.dist(x, y), c.dist["xy"], jnp.maximum(c.radius, c.dist["xy"]) * c.nearness
    if has(m, "expmap"):
        yield "exp", m.expmap(x, u), end, size
    if has(m, "logmap"):
        yield "log", m.logmap(x, y), log, size * c.unit
    if parallel:
        yield "transport", m.transp(x, y, v), carried, jnp.max(jnp.abs(pushed)) * c.nearness


LAWS: dict[str, Callable[[Any, Case], Iterator[Equation]]] = {
    law.__name__: law
    for law in (
        inner, projection, inverse, length, geodesic, retraction, exact, transport, vector_transport, gradient, distance, symmetry,
    )
}  # fmt: skip


def errors(s: Subject, laws: tuple[str, ...], parameter: Array, *draw: Array) -> tuple[dict[str, Array], dict[str, Array]]:
    """Per equation the error and what it may be, and the case; of one case, to be mapped over many."""
    m = s.build(parameter)
    c = Case(s, m, *draw)
    found = {}
    for law in laws:
        for name, left, right, size in LAWS[law](m, c):
            largest = jnp.maximum(jnp.max(jnp.abs(left)), jnp.max(jnp.abs(right)))
            bound = ROUNDING * jnp.finfo(float).eps * c.condition * jnp.maximum(largest, jnp.max(size))
            found[f"{law}: {name}"] = jnp.stack([jnp.max(jnp.abs(left - right)), bound])
    return found, {"x": c.x, "y": c.y, "z": c.z, "u": c.u, "v": c.v, "condition": c.condition}
