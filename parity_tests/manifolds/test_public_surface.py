"""Every public name of geoopt, its methods included, has a counterpart here, or stands in docs/names.md's list of what is not ported."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import geoopt
import pytest
import torch

import port_jax.manifolds as manifolds

CLASSES = [
    "Manifold",
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
DOCS = Path(__file__).parents[2] / "docs"

# What torch's Module brings, and what is torch's alone: storage and dispatch.
TORCH_ONLY = {"device", "dtype", "extra_repr", "forward"}
_STEREOGRAPHIC = (
    *(f"manifolds.stereographic.{room}" for room in ("metric", "gyrogroup", "geodesics", "hyperplanes", "midpoint", "projection")),
    "manifolds.trig",
)
_SIEGEL = ("manifolds", "manifolds.siegel", "manifolds.upper_half", "manifolds.bounded_domain")
# Modules of geoopt -> modules of port_jax that have its names as they are.
SAME = {
    "datasets.stereographic": ("data.stereographic_tree",),
    "linalg": ("linalg",),
    "manifolds": ("manifolds",),
    "manifolds.birkhoff_polytope": ("manifolds.birkhoff_polytope",),
    "manifolds.lorentz.math": ("manifolds.hyperboloid.metric", "manifolds.hyperboloid.geodesics", "manifolds.isometries", "manifolds.trig"),
    "manifolds.siegel": _SIEGEL,
    "manifolds.stereographic.math": _STEREOGRAPHIC,
    "manifolds.symmetric_positive_definite": ("manifolds",),
    "samplers.base": ("samplers",),
}
# Names of geoopt, Class.method with * for any class -> what does the same here, below port_jax unless it is JAX's own.
COUNTERPARTS = {
    "expm": "jax.scipy.linalg.expm",
    "matrix_rank": "jax.numpy.linalg.matrix_rank",
    "qr": "jax.numpy.linalg.qr",
    "svd": "jax.numpy.linalg.svd",
    "arsinh": "manifolds.trig.arsin_k",
    "artanh": "manifolds.trig.artan_k",
    "tan_k_zero_taylor": "manifolds.trig.tan_ratio",
    "artan_k_zero_taylor": "manifolds.trig.artan_ratio",
    "sin_k_zero_taylor": "manifolds.trig.sin_ratio",
    "arsin_k_zero_taylor": "manifolds.trig.arsin_ratio",
    "rescale": "manifolds.scaled.SCALING",
    "rescale_value": "manifolds.scaled.Scaled",
    "ScalingInfo": "manifolds.scaled.SCALING",
    "ScalingInfo.NotCompatible": "manifolds.scaled.UNSCALED",
    "ScalingInfo.kwargs": "manifolds.scaled.SCALING",
    "ScalingInfo.results": "manifolds.scaled.SCALING",
    "ScalingStorage": "manifolds.scaled.SCALING",
    "get_id_minus_conjugate_z_times_z": "manifolds.bounded_domain.BoundedDomain.inner",
    "SiegelMetricFactory": "manifolds.SiegelMetricType",
    "SiegelMetricFactory.get": "manifolds.SiegelMetricType",
    "SiegelMetricFactory.metrics_map": "manifolds.SiegelMetricType",
    "SiegelMetric": "manifolds.siegel.SiegelManifold",
    "*.compute_metric": "manifolds.siegel.SiegelManifold.dist",
    "RiemannianMetric": "manifolds.SiegelMetricType.RIEMANNIAN",
    "FinslerOneMetric": "manifolds.SiegelMetricType.FINSLER_ONE",
    "FinslerInfinityMetric": "manifolds.SiegelMetricType.FINSLER_INFINITY",
    "FinslerMinimumEntropyMetric": "manifolds.SiegelMetricType.FINSLER_MINIMUM",
    "FinslerWeightedSumMetric": "manifolds.SiegelMetricType.WEIGHTED_SUM",
    "Distance2StereographicHyperplanes": "layers.decoders.Hyperplanes",
    "RiemannianAdam": "optim.riemannian_adam",
    "RiemannianSGD": "optim.riemannian_sgd",
    "SparseRiemannianAdam": "optim.sparse_riemannian_adam",
    "SparseRiemannianSGD": "optim.sparse_riemannian_sgd",
    "RiemannianLineSearch": "optim.riemannian_line_search",
    "armijo_backtracking": "optim.step_sizes.armijo",
    "strong_wolfe_line_search": "optim.step_sizes.strong_wolfe",
    "cg_constant": "optim.riemannian_line_search.BETAS",
    "cg_fletcher_reeves": "optim.riemannian_line_search.fletcher_reeves",
    "cg_polak_ribiere": "optim.riemannian_line_search.polak_ribiere",
    "RSGLD": "samplers.rsgld",
    "RHMC": "samplers.rhmc",
    "SGRHMC": "samplers.sgrhmc",
    "Sampler.rejection_rate": "samplers.chain.Info",
    "*.step": "samplers.Sampler.step",
    "RiemannianAdam.step": "optim.riemannian_adam",
    "RiemannianSGD.step": "optim.riemannian_sgd",
    "SparseRiemannianAdam.step": "optim.sparse_riemannian_adam",
    "SparseRiemannianSGD.step": "optim.sparse_riemannian_sgd",
    "RiemannianLineSearch.step": "optim.riemannian_line_search",
    "ManifoldTensor.proj_": "manifolds.Manifold.projx",
}


def resolved(path: str) -> bool:
    """Whether a dotted path leads to something."""
    parts = path.split(".") if path.startswith("jax.") else ["port_jax", *path.split(".")]
    for i in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:i]))
        except ModuleNotFoundError:
            continue
        for part in parts[i:]:
            found = getattr(found, part, None)
        return found is not None
    return False


def names_of_geoopt() -> dict[str, list[str]]:
    """Per module the public functions and classes, and Class.method for classes other than manifolds."""
    found: dict[str, list[str]] = {}
    for info in pkgutil.walk_packages(geoopt.__path__, "geoopt."):
        whole = importlib.import_module(info.name)
        own = {n: f for n, f in vars(whole).items() if not n.startswith("_") and callable(f)}
        if info.name != "geoopt.linalg":  # whose names are the interface wherever they come from
            own = {n: f for n, f in own.items() if f.__module__ == info.name}
        classes = [(n, f) for n, f in own.items() if inspect.isclass(f) and not issubclass(f, geoopt.Manifold)]
        methods = [f"{n}.{m}" for n, f in classes for m in vars(f) if not m.startswith("_") and m not in TORCH_ONLY]
        found[info.name.removeprefix("geoopt.")] = [*own, *methods]
    return found


def not_ported() -> str:
    """The list of docs/names.md."""
    return (DOCS / "names.md").read_text().split("\n## Not ported", 1)[1].split("\n## ")[0]


def has_counterpart(where: str, name: str) -> bool:
    """In the map of names, or under the same name in a module that `SAME` gives to the module or one above it."""
    starred = re.sub(r"^.*\.", "*.", name) if "." in name else name
    path = COUNTERPARTS.get(name) or COUNTERPARTS.get(starred)
    if path:
        return resolved(path)
    if name.startswith("ManifoldTensor."):
        return hasattr(manifolds.Manifold, name.partition(".")[2])
    above = [where.rsplit(".", i)[0] for i in range(where.count(".") + 1)]
    return any(resolved(f"{ours}.{name}") for w in above for ours in SAME.get(w, ()))


def missing_names() -> list[str]:
    """Names with neither a counterpart nor a line in the list."""
    listed = set(re.findall(r"`([^`]+)`", not_ported()))
    return [
        f"{where}.{name}"
        for where, names in names_of_geoopt().items()
        for name in names
        if not has_counterpart(where, name) and not {name, re.sub(r"^.*\.", "*.", name)} & listed
    ]


def test_every_public_name():
    missing = missing_names()
    assert not missing, f"no counterpart: {missing}; write it into COUNTERPARTS, or into docs/names.md's list of what is not ported"


def test_the_map_is_sound(monkeypatch: pytest.MonkeyPatch):
    """Each entry leads somewhere and names something of geoopt; a new function and a new method of it are seen."""
    names = {name for names in names_of_geoopt().values() for name in names}
    assert len(names) > 150
    assert not [path for path in COUNTERPARTS.values() if not resolved(path)]
    assert not [name for name in COUNTERPARTS if "*" not in name and name not in names]

    def new() -> None: ...

    new.__module__ = "geoopt.utils"
    monkeypatch.setattr(geoopt.utils, "new", new, raising=False)
    monkeypatch.setattr(geoopt.ManifoldTensor, "new_method", new, raising=False)
    assert missing_names() == ["tensor.ManifoldTensor.new_method", "utils.new"]


def public(cls: type) -> set[str]:
    """What the class offers beyond torch's Module."""
    return {n for n in dir(cls) if not n.startswith("_") and n not in dir(torch.nn.Module)} - TORCH_ONLY


def documented(name: str) -> bool:
    """Whether docs/names.md or docs/differences.md has the name in code type."""
    return any(f"`{name}`" in (DOCS / page).read_text() for page in ("names.md", "differences.md"))


@pytest.mark.parametrize("name", CLASSES)
def test_methods(name):
    theirs, ours = getattr(geoopt, name), getattr(manifolds, name)
    missing = [m for m in sorted(public(theirs)) if not hasattr(ours, m) and not documented(f"{name}.{m}")]
    assert not missing, f"{name} lacks {missing}: add them, or a line in docs/names.md with `{name}.<method>`"


@pytest.mark.parametrize("name", CLASSES)
def test_argument_order(name):
    """As many arguments are passed by position, in the order that test_calls.py sees; `dim`, device and dtype are torch's."""
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
