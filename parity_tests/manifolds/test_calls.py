"""Each method that geoopt's manifolds can be called by can be called here, with results of the same shape: not only the names agree."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import geoopt
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import port_jax.manifolds as port
from parity_tests import draws, slow

BATCH = 2


def _ball(lib: Any, c: float = 0.7) -> Any:
    return lib.PoincareBall(torch.tensor(c) if lib is geoopt else c)


def _curved(name: str, k: float) -> Callable[[Any], Any]:
    return lambda lib: getattr(lib, name)(torch.tensor(k) if lib is geoopt else k)


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
INNER = "geoopt's inner pairs each point with each: the line search's row of MIGRATION.md"
SIEGEL = "geoopt's Siegel numbers keep one axis: the row `Siegel dist and inner` of MIGRATION.md"
DIFFERENT = {
    **{(name, "inner"): INNER for name in ("Stereographic", "StereographicExact", "PoincareBall", "PoincareBallExact")},
    **{(name, "inner"): INNER for name in ("SphereProjection", "SphereProjectionExact", "Scaled", "Scaled Scaled")},
    **{(name, "component_inner"): SIEGEL for name in ("UpperHalf", "BoundedDomain")},
    ("UpperHalf", "origin"): "geoopt's has one axis too few: diag_embed of ones of shape size[:-2]",
    ("Lorentz", "norm"): "geoopt's takes no point: its row of MIGRATION.md",
    ("Scaled Lorentz", "norm"): "as on Lorentz",
}
"""(manifold, method): why the shapes differ."""


def arguments(manifold: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    """Values for the parameters of all methods by their names, as numpy's arrays where they are arrays."""
    size, rng = (BATCH, *shape), draws.rng(3)
    x, y, z = (np.asarray(manifold.random(draws.key(i), *size)) for i in range(3))
    raw = 0.1 * rng.standard_normal((2, *size)) * (1 + 1j if np.iscomplexobj(x) else 1)
    u, v = (np.asarray(manifold.proju(x, r)) for r in raw)
    column = rng.uniform(0.2, 0.8, (BATCH, 1))
    numbers: dict[str, Any] = {"t": column, "r": column, "w": raw[0], "m": rng.standard_normal((shape[-1], shape[-1])), "i": 0}
    points = {"x": x, "y": y, "z": z, "z1": x, "z2": y, "p": y, "xs": x, "mean": x, "tensor": x}
    return {**points, **numbers, "u": u, "v": v, "a": u}


def result(lib: Any, manifold: Any, method: str, required: list[inspect.Parameter], values: dict[str, Any], size: tuple[int, ...]) -> Any:
    """What the method returns for geoopt's required parameters, or the error that it raises."""

    def value(name: str) -> Any:
        if name == "fn":
            return torch.sin if lib is geoopt else jnp.sin
        given = values[name]
        if not isinstance(given, np.ndarray):
            return given
        given = given.astype(np.complex64 if np.iscomplexobj(given) else np.float32)  # geoopt's scale has torch's default type
        return torch.tensor(given) if lib is geoopt else jnp.asarray(given)

    drawn = lib is port and method != "origin" and any(p.name == "size" for p in required)
    args, keywords = [draws.key(7)] if drawn else [], {}
    for parameter in required:
        if parameter.name in ("size", "tensors"):
            parts = size if parameter.name == "size" else manifold.unpack_tensor(value("x"))
            args += parts if isinstance(parts, tuple) else [parts]
        elif parameter.kind is parameter.KEYWORD_ONLY:
            keywords[parameter.name] = value(parameter.name)
        else:
            args.append(value(parameter.name))
    try:
        return getattr(manifold, method)(*args, **keywords)
    except Exception as error:  # whatever it is, geoopt's says that geoopt cannot do this, and ours is reported
        return error


def shapes(found: Any) -> Any:
    return tuple(map(shapes, found)) if type(found) in (tuple, list) else tuple(np.shape(found))


def methods(theirs: Any) -> list[str]:
    names = {*dir(type(theirs)), *(theirs._base_attributes if isinstance(theirs, geoopt.Scaled) else ())}
    names = {n for n in names - {*dir(torch.nn.Module), "device", "dtype", "from_point"} if not n.startswith("_")}
    return sorted(n for n in names if callable(getattr(theirs, n, None)))


@functools.cache
def compared(name: str) -> dict[str, tuple[Any, Any]]:
    """For each method that geoopt can be called by, what both return, or our error."""
    make, shape = MANIFOLDS[name]
    theirs, ours, found = make(geoopt), make(port), {}
    values = arguments(ours, shape)
    for method in methods(theirs):
        function = getattr(theirs, method)
        if getattr(function, "__func__", None) and getattr(function.__func__, "__wrapped__", None) is functools:
            continue  # geoopt's stub of a method that cannot be scaled
        required = [
            p
            for p in inspect.signature(function).parameters.values()
            if p.default is p.empty and p.kind is not p.VAR_KEYWORD and p.name not in ("args", "fns")
        ]
        want, have = (result(lib, m, method, required, values, (BATCH, *shape)) for lib, m in ((geoopt, theirs), (port, ours)))
        if not isinstance(want, Exception):
            found[method] = want, have
    return found


KEPT = {"PoincareBall", "Lorentz", "Sphere", "CanonicalStiefel", "BirkhoffPolytope", "ProductManifold"}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", slow.all_but(KEPT, MANIFOLDS))
def test_what_geoopt_can_do_is_possible_here(name: str):
    found = compared(name)
    assert {"projx", "retr", "check_point"} <= set(found)
    wrong = []
    for method, (want, have) in found.items():
        here = repr(have) if isinstance(have, Exception) else shapes(have)
        if (here == shapes(want)) is ((name, method) in DIFFERENT):
            wrong.append(f"{method}: {shapes(want)} there, {here} here")
    assert not wrong, wrong


def test_every_class_of_geoopt_is_called():
    classes = {n for n, c in vars(geoopt).items() if isinstance(c, type) and issubclass(c, geoopt.Manifold)}
    found = {n for n in classes & {*port.__all__} if isinstance(getattr(port, n), type)}
    assert found - {"Manifold"} <= {*MANIFOLDS}
    assert len(found) > 15
    assert {name for name, _ in DIFFERENT} <= {*MANIFOLDS}
