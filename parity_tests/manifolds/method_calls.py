"""Every manifold of geoopt with the shape of a point, values for the parameters of all methods by their names, and calls of all methods."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import torch

import port_jax.manifolds as pm
from parity_tests import draws

BATCH = 2


def _ball(lib: Any, c: float = 0.7) -> Any:
    return lib.PoincareBall(torch.tensor(c, dtype=torch.float64) if lib is geoopt else c)


def _curved(name: str, k: float) -> Callable[[Any], Any]:
    return lambda lib: getattr(lib, name)(torch.tensor(k, dtype=torch.float64) if lib is geoopt else k)


def _plain(name: str) -> Callable[[Any], Any]:
    return lambda lib: getattr(lib, name)()


# name -> (manifold of either library, shape of a point)
MANIFOLDS: dict[str, tuple[Callable[[Any], Any], tuple[int, ...]]] = {
    "Euclidean": (lambda lib: lib.Euclidean(1), (3,)),
    "Stereographic": (_curved("Stereographic", -0.7), (3,)),
    "StereographicExact": (_curved("StereographicExact", 0.6), (3,)),
    "PoincareBall": (_curved("PoincareBall", 0.7), (3,)),
    "PoincareBallExact": (_curved("PoincareBallExact", 0.7), (3,)),
    "SphereProjection": (_curved("SphereProjection", 0.6), (3,)),
    "SphereProjectionExact": (_curved("SphereProjectionExact", 0.6), (3,)),
    "Lorentz": (_curved("Lorentz", 1.7), (4,)),
    **{name: (_plain(name), (4,)) for name in ("Sphere", "SphereExact")},
    **{name: (_plain(name), (4, 2)) for name in ("CanonicalStiefel", "EuclideanStiefel", "EuclideanStiefelExact")},
    **{name: (_plain(name), (3, 3)) for name in ("SymmetricPositiveDefinite", "BirkhoffPolytope", "UpperHalf", "BoundedDomain")},
    "ProductManifold": (lambda lib: lib.ProductManifold((lib.Sphere(), 3), (_ball(lib), 2)), (5,)),
    "StereographicProductManifold": (lambda lib: lib.StereographicProductManifold((_ball(lib), 3), (_ball(lib, 1.7), 2)), (5,)),
    "Scaled": (lambda lib: lib.Scaled(_ball(lib), 2.5), (3,)),
    "Scaled Sphere": (lambda lib: lib.Scaled(lib.Sphere(), 2.5), (4,)),
    "Scaled Lorentz": (lambda lib: lib.Scaled(_curved("Lorentz", 1.7)(lib), 2.5), (4,)),
    "Scaled Scaled": (lambda lib: lib.Scaled(lib.Scaled(_ball(lib), 2.5), 0.6), (3,)),
    "ProductManifold of Scaled": (lambda lib: lib.ProductManifold((lib.Scaled(lib.Sphere(), 2.5), 3), (_ball(lib), 2)), (5,)),
    "StereographicProductManifold of Scaled": (
        lambda lib: lib.StereographicProductManifold((lib.Scaled(_ball(lib), 2.5), 3), (_ball(lib), 2)),
        (5,),
    ),
}
SPECIAL = {
    **{(method, "u"): "u0" for method in ("expmap0", "transp0")},
    ("logmap", "u"): "y",
    ("take_submanifold_matrix", "x"): "m",
}
"""(method, parameter): the name in `arguments` of its value, where it is not the parameter's."""


def arguments(manifold: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    """Values for the parameters of all methods by their names, no two of them equal, as numpy's arrays where they are arrays."""
    size, rng = (BATCH, *shape), draws.rng(3)
    # On a sphere, midpoints of far points are near infinity, where geoopt's 1e-10 is seen.
    near = {"std": 0.4} if manifold.has("random_normal") else {}
    x, y, z = (np.asarray(manifold.random(draws.key(i), *size, **near)) for i in range(3))
    raw = 0.1 * rng.standard_normal((3, *size)) * (1 + 1j if np.iscomplexobj(x) else 1)
    u, v = (np.asarray(manifold.proju(x, r)) for r in raw[:2])
    u0 = raw[2] * (np.arange(shape[-1]) > 0) if manifold.ambient else raw[2]
    numbers: dict[str, Any] = {
        "t": rng.uniform(0.2, 0.8, (BATCH, 1)),
        "r": rng.uniform(0.2, 0.8, (BATCH, 1)),
        "w": raw[0],
        "m": rng.standard_normal((shape[-1], shape[-1])),
        "i": 1,
        "weights": rng.uniform(0.2, 0.9, BATCH),
        "reshape": False,
    }
    points = {"x": x, "y": y, "z": z, "z1": x, "z2": y, "p": y, "xs": x, "mean": x, "tensor": x}
    return {**points, **numbers, "u": u, "v": v, "a": u, "u0": u0}


# Arguments that `arguments` does not have, or has for geoopt's checks only.
NUMBERS = {"fn": jnp.sin, "b1": 0.9, "rate": 0.1}
SHORTER = {("Lorentz", "mobius_matvec"): ("m", (3, 3)), ("Lorentz", "mobius_pointwise_mul"): ("w", (1, 3))}
NOT_OF_POINTS = {"has", "beside", "narrowed", "pack_point", "with_exact_retraction", "origin"}


def single(value: Any) -> Any:
    """Arrays of floating-point numbers in single precision, everything else as it is."""
    if not isinstance(value, np.ndarray | jax.Array) or not jnp.issubdtype(value.dtype, jnp.inexact):
        return value
    return jnp.asarray(value, jnp.complex64 if jnp.iscomplexobj(value) else jnp.float32)


def every_call(name: str) -> Iterator[tuple[str, Callable[..., Any], list[jax.Array]]]:
    """Of each method of a manifold of port_jax: its name, a function of arrays alone, and those, in single precision."""
    make, shape = MANIFOLDS[name]
    manifold = make(pm)
    found = {key: single(value) for key, value in arguments(manifold, shape).items()}
    found |= {**NUMBERS, "noise": found["u"], "grad": found["u"]}
    for method in sorted(n for n in {*vars(pm.Manifold), *dir(type(manifold))} if not n.startswith("_") and "check" not in n):
        try:
            function = getattr(manifold, method)
        except NotImplementedError:
            continue
        if not callable(function) or isinstance(inspect.getattr_static(type(manifold), method), classmethod):
            continue
        needed = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
        if method in NOT_OF_POINTS or "key" in {p.name for p in needed}:
            continue
        args = [found[SPECIAL.get((method, p.name), p.name)] for p in needed]
        if method == "descend_along":
            args[2] = found["v"]
        if (name, method) in SHORTER:
            which, size = SHORTER[name, method]
            args = [jnp.ones(size, jnp.float32) if p.name == which else a for p, a in zip(needed, args, strict=True)]
        places = [i for i, a in enumerate(args) if isinstance(a, jax.Array)]

        def call(*arrays: Any, args: Any = args, places: Any = places, function: Any = function, method: str = method) -> Any:
            given = [arrays[places.index(i)] if i in places else a for i, a in enumerate(args)]
            out = function(*given)
            if method == "descend_along":
                return out[0], out[1](0.3)
            return out(found["x"][0]) if method == "dist_to" else out

        yield method, call, [args[i] for i in places]
