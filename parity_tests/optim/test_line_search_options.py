"""Options of geoopt's RiemannianLineSearch that it ignores, or cannot run, and what becomes of them here."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
import torch

from parity_tests.optim.line_search_runs import problem, run_jax, run_torch
from port_jax import manifolds as port
from port_jax.optim import riemannian_line_search
from reference_torch.optim.riemannian_line_search import RiemannianLineSearch

# Options that RiemannianLineSearch takes and ignores: with either search and every rule unless they are named.
IGNORED: tuple[tuple[dict[str, Any], tuple[str, ...], tuple[str, ...]], ...] = (
    ({"line_search_params": {"c2": 0.01}}, ("armijo",), ("steepest", "fr", "pr")),
    ({"line_search_params": {"amin": 0.5}}, ("wolfe",), ("steepest", "fr", "pr")),
    ({"line_search_params": {"maxiter": 1}}, ("armijo", "wolfe"), ("steepest", "fr", "pr")),
    ({"compute_derphi": False}, ("wolfe",), ("steepest", "fr", "pr")),
    ({"compute_derphi": True}, ("armijo",), ("steepest", "fr", "pr")),
    ({"transport_grad": False}, ("armijo", "wolfe"), ("pr",)),
    ({"transport_grad": True}, ("armijo", "wolfe"), ("steepest", "fr")),
    ({"transport_search_direction": False}, ("armijo", "wolfe"), ("steepest",)),
    ({"cg_kwargs": {"alpha": 0.3}}, ("armijo", "wolfe"), ("fr", "pr")),
)


@pytest.mark.parametrize(("option", "methods", "cgs"), IGNORED, ids=[str(row[0]) for row in IGNORED])
def test_options_that_geoopt_ignores(option: dict[str, Any], methods: tuple[str, ...], cgs: tuple[str, ...]):
    """Its run is the same to the bit. Here they raise: names of the search's parameters are listed, the others are no arguments."""
    for method, cg in ((method, cg) for method in methods for cg in cgs):
        options: Any = {"line_search_method": method, "cg_method": cg}
        plain, same = (run_torch(("sphere", "flat"), calls=({},) * 5, **options, **more) for more in ({}, option))
        np.testing.assert_array_equal(same[0], plain[0])
        for one, other in zip(same[1], plain[1], strict=True):
            jax.tree.map(np.testing.assert_array_equal, one, other)
        ours: Any = {**options, "manifolds": port.Euclidean(), **option}
        if "line_search_params" in option:
            with pytest.raises(ValueError, match=rf"line_search_params has \w+; {method} takes c1, "):
                riemannian_line_search(**ours)
        else:
            with pytest.raises(TypeError, match="unexpected keyword argument"):
                riemannian_line_search(**ours)


def test_later_groups_are_ignored_by_geoopt():
    """It takes the options of the first group for all; here there is one search, and its options are given once."""
    sizes = []
    for second in ({}, {"line_search_method": "wolfe", "line_search_params": {"amax": 1e-6}}):
        params = [torch.nn.Parameter(torch.tensor(v)) for v in problem(("flat",), 1)[0]["flat"]]
        with pytest.warns(UserWarning, match="taken from first group"):
            opt = RiemannianLineSearch([{"params": params[:1]}, {"params": params[1:], **second}])

        def closure(params: Any = params, opt: Any = opt) -> Any:
            opt.zero_grad()
            loss = sum((p**4).sum() for p in params)
            loss.backward()
            return loss.item()

        for _ in range(3):
            opt.step(closure)
        sizes.append(opt.step_size_history)
    assert sizes[0] == sizes[1]
    assert min(sizes[0]) > 1e-6


def test_a_constant_beta():
    """geoopt's cg_kwargs={"alpha": 0.3} of the rule "constant" is a rule here; with armijo geoopt raises KeyError."""
    options: Any = {"line_search_method": "wolfe", "calls": ({},) * 5}
    want = run_torch(("sphere", "flat"), cg_method="constant", cg_kwargs={"alpha": 0.3}, **options)
    have = run_jax(("sphere", "flat"), cg_method=lambda c: 0.3, **options)
    np.testing.assert_allclose(have[0], want[0], rtol=1e-9)
    with pytest.raises(KeyError, match="search_transported"):
        run_torch(("flat",), cg_method="constant", cg_kwargs={"alpha": 0.3}, calls=({},) * 2)


def test_stabilize_of_geoopt_raises():
    with pytest.raises(RuntimeError, match="in-place operation"):
        run_torch(("sphere",), stabilize=2, calls=({},) * 2)
    assert run_jax(("sphere",), stabilize=2, calls=({},) * 2)[0].all()
