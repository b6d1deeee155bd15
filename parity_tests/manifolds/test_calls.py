"""Each method that geoopt's manifolds can be called by gives the same numbers here: by position, by the names of parameters, by option."""

from __future__ import annotations

import functools
import inspect
from typing import Any, NamedTuple

import geoopt
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import port_jax.manifolds as port
from parity_tests import draws, slow
from parity_tests.manifolds.method_calls import BATCH, MANIFOLDS, SPECIAL, arguments

INNER = "geoopt's inner pairs each point with each: the line search's row of docs/differences.md"
SIEGEL = "geoopt's Siegel numbers keep one axis: the row `Siegel dist and inner` of docs/differences.md"
DOMAIN = "geoopt exchanges two factors: the row `BoundedDomain.inner, egrad2rgrad` of docs/differences.md"
PROJU = "geoopt's is its egrad2rgrad: the row `proju of CanonicalStiefel, ...` of docs/differences.md"
TRANSP = "geoopt's projects y * v: the row `BirkhoffPolytope.transp` of docs/differences.md"
CAYLEY = "geoopt's is the Cayley retraction: the row `CanonicalStiefel.expmap, expmap_transp` of docs/differences.md"
ORIGIN = "geoopt's is random: the rows `Sphere.origin` and `Scaled.origin` of docs/differences.md"
BACK = "geoopt leaves out the scale: the row `Scaled(Lorentz).logmap0back` of docs/differences.md"
_BALLS = ("Stereographic", "StereographicExact", "PoincareBall", "PoincareBallExact", "SphereProjection", "SphereProjectionExact")
_BIRKHOFF = ("transp", "transp_follow_retr", "transp_follow_expmap", "retr_transp", "expmap_transp")
_PRODUCTS = ("ProductManifold", "ProductManifold of Scaled", "StereographicProductManifold of Scaled")
DIFFERENT = {
    **{(name, "inner"): INNER for name in (*_BALLS, "Scaled", "Scaled Scaled")},
    **{(name, "component_inner"): SIEGEL for name in ("UpperHalf", "BoundedDomain")},
    **{(name, f"{method} keepdim"): SIEGEL for name in ("UpperHalf", "BoundedDomain") for method in ("dist", "dist2", "inner", "norm")},
    **{("BoundedDomain", method): DOMAIN for method in ("inner", "egrad2rgrad")},
    **{(name, "proju"): PROJU for name in ("CanonicalStiefel", "BirkhoffPolytope", "UpperHalf", "BoundedDomain")},
    **{("BirkhoffPolytope", method): TRANSP for method in _BIRKHOFF},
    **{("CanonicalStiefel", method): CAYLEY for method in ("expmap", "expmap_transp", "transp_follow_expmap")},
    **{(name, "origin"): ORIGIN for name in ("Sphere", "SphereExact", *_PRODUCTS, "Scaled", "Scaled Sphere", "Scaled Scaled")},
    ("UpperHalf", "origin"): "geoopt's has one axis too few: diag_embed of ones of shape size[:-2]",
    ("Lorentz", "norm"): "geoopt's takes no point: its row of docs/differences.md",
    ("Lorentz", "norm keepdim"): "as without keepdim",
    ("Scaled Lorentz", "logmap0back"): BACK,
}
"""(manifold, method), or (manifold, "method option"): why the results differ."""
NAMES = {
    "unpack_tensor": {"tensor": "x"},
    **{(name, method): {"z": "x"} for name in ("UpperHalf", "BoundedDomain") for method in ("inner", "egrad2rgrad", "projx")},
    **{(name, "dist"): {"z1": "x", "z2": "y"} for name in ("UpperHalf", "BoundedDomain")},
    ("SymmetricPositiveDefinite", "logmap"): {"u": "y"},
    **{(name, "transp0back"): {"x": "y"} for name in ("StereographicProductManifold", "Scaled Lorentz")},
    ("StereographicProductManifold of Scaled", "transp0back"): {"x": "y"},
    ("Scaled Lorentz", "logmap0"): {"y": "x"},
}
"""method, or (manifold, method): parameters that have another name here, where a point is called x on every manifold."""
NO_OPTION = {"antipode project", "gyration project", "logmap0 project"}
"""Options that geoopt gives to products although the factors ignore them."""


class Call(NamedTuple):
    """One way to call a method: with these parameters, by position or by name, and with an option turned."""

    parameters: tuple[str, ...]
    named: bool = False
    option: str = ""
    value: bool = False


def calls(function: Any, values: dict[str, Any]) -> list[Call]:
    """The required parameters by position, all of them by position and by name, and each option that is yes or no turned."""
    found = [p for p in inspect.signature(function).parameters.values() if p.name not in ("args", "fns", "kwargs")]
    required = tuple(p.name for p in found if p.default is p.empty)
    whole = tuple(p.name for p in found if p.kind is p.POSITIONAL_OR_KEYWORD and (p.default is p.empty or p.name in values))
    switches = [p for p in found if p.kind is p.KEYWORD_ONLY and isinstance(p.default, bool)]
    ways = [Call(required), *(Call(required, option=p.name, value=not p.default) for p in switches)]
    plain = not {"size", "tensors", "parts"} & {*required}
    return [*ways, *([Call(whole)] if whole != required and plain else []), *([Call(whole, named=True)] if plain else [])]


def result(lib: Any, manifold: Any, method: str, call: Call, values: dict[str, Any], size: tuple[int, ...], other: dict[str, str]) -> Any:
    """What the method returns, or the error that it raises; `other` are the names of its parameters where they are not geoopt's."""

    def value(name: str) -> Any:
        if name == "fn":
            return torch.sin if lib is geoopt else jnp.sin
        given = values[SPECIAL.get((method, name), name)]
        if not isinstance(given, np.ndarray):
            return given
        return torch.tensor(given) if lib is geoopt else jnp.asarray(given)

    keywords: dict[str, Any] = {call.option: call.value} if call.option else {}
    args = [draws.key(7)] if lib is port and method != "origin" and "size" in call.parameters else []
    for name in call.parameters:
        if name in ("size", "tensors"):
            parts = size if name == "size" else manifold.unpack_tensor(value("x"))
            args += parts if isinstance(parts, tuple) else [parts]
        elif call.named or name == "mean":
            keywords[name if lib is geoopt else other.get(name, name)] = value(name)
        else:
            args.append(value(name))
    try:
        return getattr(manifold, method)(*args, **keywords)
    except Exception as error:  # whatever it is, geoopt's says that geoopt cannot do this, and ours is reported
        return error


def shapes(found: Any) -> Any:
    return tuple(map(shapes, found)) if type(found) in (tuple, list) else tuple(np.shape(found))


def numbers(found: Any) -> list[np.ndarray]:
    """The arrays and truths of a result; of the reasons of a check, whether there is one."""
    if type(found) in (tuple, list):
        return [a for part in found for a in numbers(part)]
    if isinstance(found, torch.Tensor):
        found = found.detach().resolve_conj().numpy()
    return [np.asarray(found is not None and bool(found) if found is None or isinstance(found, str) else found)]


def close(have: Any, want: Any) -> bool:
    """geoopt adds 1e-10 to the denominator of midpoints; some hundred roundings are 1e-13 of points in a ball."""
    pairs = [(a * 1.0, b * 1.0) for a, b in zip(numbers(have), numbers(want), strict=True)]
    return all(np.abs(a - b).max(initial=0) <= 1e-9 * max(np.abs(b).max(initial=0), 1e-3) for a, b in pairs)


def methods(theirs: Any) -> list[str]:
    names = {*dir(type(theirs)), *(theirs._base_attributes if isinstance(theirs, geoopt.Scaled) else ())}
    names = {n for n in names - {*dir(torch.nn.Module), "device", "dtype", "from_point"} if not n.startswith("_")}
    return sorted(n for n in names if callable(getattr(theirs, n, None)))


def compared(name: str) -> dict[tuple[str, Call], tuple[Any, Any]]:
    """For each call that geoopt answers, what both return, or our error."""
    make, shape = MANIFOLDS[name]
    theirs, ours, found = make(geoopt), make(port), {}
    values = arguments(ours, shape)
    for method in methods(theirs):
        function = getattr(theirs, method)
        if getattr(function, "__func__", None) and getattr(function.__func__, "__wrapped__", None) is functools:
            continue  # geoopt's stub of a method that cannot be scaled
        other = NAMES.get((name, method)) or NAMES.get(method, {})
        for call in calls(function, values):
            want = result(geoopt, theirs, method, call, values, (BATCH, *shape), {})
            if not isinstance(want, Exception) and f"{method} {call.option}" not in NO_OPTION:
                found[method, call] = want, result(port, ours, method, call, values, (BATCH, *shape), other)
    return found


@pytest.fixture
def doubles():
    """geoopt's scale and origin have torch's default type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


KEPT = {"PoincareBall", "Lorentz", "Sphere", "CanonicalStiefel", "BirkhoffPolytope", "ProductManifold"}


@pytest.mark.usefixtures("doubles")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", slow.all_but(KEPT, MANIFOLDS))
def test_what_geoopt_can_do_gives_the_same_here(name: str):
    """By position and by name, with each option; of random points the shape."""
    found = compared(name)
    assert {"projx", "retr", "check_point"} <= {method for method, _ in found}
    wrong, differs = [], set()
    for (method, call), (want, have) in found.items():
        drawn = "size" in call.parameters and method != "origin"
        key = f"{method} {call.option}".strip()
        if isinstance(have, Exception) or shapes(have) != shapes(want) or not (drawn or close(have, want)):
            differs.add(key)
            wrong += [f"{method} {call}: {want} there, {have!r} here"] * ((name, key) not in DIFFERENT)
    wrong += [f"{key}: no difference any more" for of, key in DIFFERENT if of == name and key not in differs]
    assert not wrong, "\n".join(wrong)


def test_every_class_of_geoopt_is_called():
    classes = {n for n, c in vars(geoopt).items() if isinstance(c, type) and issubclass(c, geoopt.Manifold)}
    found = {n for n in classes & {*port.__all__} if isinstance(getattr(port, n), type)}
    assert found - {"Manifold"} <= {*MANIFOLDS}
    assert len(found) > 15
    assert {name for name, _ in DIFFERENT} <= {*MANIFOLDS}
