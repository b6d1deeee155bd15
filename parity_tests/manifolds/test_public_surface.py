"""Every public name of geoopt's manifold classes has a counterpart here, or a line in MIGRATION.md."""

from __future__ import annotations

import inspect
from pathlib import Path

import geoopt
import pytest
import torch
from geoopt.manifolds.lorentz import math as lorentz_math
from geoopt.manifolds.stereographic import math as stereographic_math

import port_jax.manifolds as manifolds
from port_jax.manifolds import gyrovector, trig
from port_jax.manifolds import lorentz_math as our_lorentz_math
from port_jax.manifolds import stereographic_math as our_stereographic_math

CLASSES = [
    "Euclidean",
    "Stereographic",
    "StereographicExact",
    "PoincareBall",
    "PoincareBallExact",
    "SphereProjection",
    "SphereProjectionExact",
    "Lorentz",
    "Sphere",
    "SphereExact",
    "CanonicalStiefel",
    "EuclideanStiefel",
    "EuclideanStiefelExact",
    "SymmetricPositiveDefinite",
    "BirkhoffPolytope",
    "UpperHalf",
    "BoundedDomain",
    "ProductManifold",
    "StereographicProductManifold",
    "Scaled",
]
"""Classes compared; a class added to the port is added here."""
MIGRATION = Path(__file__).parents[2] / "MIGRATION.md"

# What torch's Module brings, and what is torch's alone: storage and dispatch.
TORCH_ONLY = {"device", "dtype", "extra_repr", "forward"}
# geoopt's function in its math module -> where its counterpart is, if not under the same name.
RENAMED = {
    "parallel_transport": our_stereographic_math.parallel_transport,
    "tanh": trig.tanh,
    "artanh": trig.artan_k,
    "arsinh": trig.arsin_k,
    "tan_k_zero_taylor": trig.tan_ratio,
    "artan_k_zero_taylor": trig.artan_ratio,
    "sin_k_zero_taylor": trig.sin_ratio,
    "arsin_k_zero_taylor": trig.arsin_ratio,
}
# Helpers of geoopt's modules that are no operation on manifolds: clamps, signs and imports.
HELPERS = {"abs_zero_grad", "sign", "clamp_abs", "sabs", "drop_dims", "list_range"}


def public(cls: type) -> set[str]:
    """What the class offers beyond torch's Module."""
    return {n for n in dir(cls) if not n.startswith("_") and n not in dir(torch.nn.Module)} - TORCH_ONLY


def documented(name: str) -> bool:
    """Whether MIGRATION.md has the name in code type."""
    return MIGRATION.exists() and f"`{name}`" in MIGRATION.read_text()


@pytest.mark.parametrize("name", CLASSES)
def test_methods(name):
    theirs, ours = getattr(geoopt, name), getattr(manifolds, name)
    missing = [m for m in sorted(public(theirs)) if not hasattr(ours, m) and not documented(f"{name}.{m}")]
    assert not missing, f"{name} lacks {missing}: add them, or a line in MIGRATION.md with `{name}.<method>`"


@pytest.mark.parametrize("name", CLASSES)
def test_argument_order(name):
    """The arguments that are passed by position have geoopt's order; `dim`, device and dtype are torch's; random takes `key` first."""
    theirs, ours = getattr(geoopt, name), getattr(manifolds, name)
    wrong = []
    for method in sorted(public(theirs)):
        if not callable(getattr(theirs, method)) or not hasattr(ours, method):
            continue
        want, have = (positional(getattr(cls, method)) for cls in (theirs, ours))
        if (name, method) == ("Lorentz", "norm"):
            want = ["x", *want]  # every manifold here takes the point
        if have[:1] == ["key"]:
            have = have[1:]
        if len(have) < len(want) and not any(p.kind is p.VAR_POSITIONAL for p in parameters(getattr(ours, method))):
            wrong.append(f"{method}: {want} there, {have} here")
    assert not wrong, wrong


def parameters(function) -> list[inspect.Parameter]:
    return [p for p in inspect.signature(function).parameters.values() if p.name != "self"]


def positional(function) -> list[str]:
    return [p.name for p in parameters(function) if p.kind is p.POSITIONAL_OR_KEYWORD]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [(stereographic_math, (our_stereographic_math, gyrovector, trig)), (lorentz_math, (our_lorentz_math, trig))],
    ids=["stereographic.math", "lorentz.math"],
)
def test_functions(theirs, ours):
    names = {n for n, f in vars(theirs).items() if callable(f) and not n.startswith("_") and not inspect.isclass(f)}
    names -= HELPERS | set(RENAMED) | {"Optional", "List"}
    missing = [n for n in sorted(names) if not any(hasattr(module, n) for module in ours) and not documented(n)]
    assert not missing, f"{theirs.__name__} has {missing}: add them, or a line in MIGRATION.md"
