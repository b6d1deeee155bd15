"""The library traces on meshes: with explicit axes, where types say how an array is split, and inside of `jax.shard_map`.

One device is enough: the types are those of many. Numbers on several devices are compared in `training/test_several_devices.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from parity_tests import slow, whole_library
from parity_tests.layers.to_build_with import TABLE as LAYERS
from parity_tests.manifolds import method_calls
from parity_tests.models.small_models import CASES
from parity_tests.whole_library import OPTIMIZERS
from port_jax.primitives import where

SPLIT, WHOLE = PartitionSpec("x"), PartitionSpec()
BETWEEN_SPLIT_ROWS = {"mobius_matvec", "pairwise_dist", "dist2planes", "pairwise_dist2plane"}
"""Products of two arrays that are both split: JAX refuses them with explicit axes, and says how to name the result's sharding."""


def on_explicit_axes(function: Callable[..., Any], *args: Any, specs: tuple[Any, ...]) -> Any:
    """The types of the results on a mesh with explicit axes, where args lie as specs say."""
    mesh = jax.make_mesh((1,), ("x",), axis_types=(AxisType.Explicit,))

    def lies(spec: PartitionSpec, tree: Any) -> Any:
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=NamedSharding(mesh, spec)), tree)

    with jax.set_mesh(mesh):
        return jax.eval_shape(function, *jax.tree.map(lies, specs, args, is_leaf=lambda a: isinstance(a, PartitionSpec)))


def in_shard_map(function: Callable[..., Any], *args: Any, specs: tuple[Any, ...], out_specs: Any = SPLIT) -> Any:
    """The types of the results of one device's function, with the check of which values vary (`check_vma`, the default)."""
    mesh = jax.make_mesh((1,), ("x",), axis_types=(AxisType.Auto,))
    return jax.eval_shape(jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=out_specs), *args)


HOW: dict[str, Callable[..., Any]] = {"explicit": on_explicit_axes, "shard_map": in_shard_map}


def with_derivative(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function's cotangents for its own value as the cotangent; on each device, they are of one row at least."""

    def both(*args: Any) -> Any:
        out, back = jax.vjp(function, *args)
        return back(out)

    return both


def rows(tree: Any) -> Any:
    """Arrays with a batch are split along it, single ones are whole."""
    return jax.tree.map(lambda a: SPLIT if jnp.ndim(a) > 1 else WHOLE, tree)


KEPT = {("PoincareBall", "explicit"), ("Sphere", "shard_map"), ("SymmetricPositiveDefinite", "explicit")}


@pytest.mark.parametrize(("name", "how"), slow.all_but(KEPT, [(name, how) for name in method_calls.MANIFOLDS for how in HOW]))
def test_every_method_of_a_manifold(name: str, how: str):
    _, shape = method_calls.MANIFOLDS[name]
    for method, call, arrays in method_calls.every_call(name):
        specs = tuple(SPLIT if a.ndim > len(shape) else WHOLE for a in arrays)
        if method in BETWEEN_SPLIT_ROWS:
            specs = (SPLIT, *[WHOLE] * (len(arrays) - 1))
        try:
            if how == "shard_map":
                in_shard_map(with_derivative(call), *arrays, specs=specs, out_specs=specs)
                continue
            found = on_explicit_axes(call, *arrays, specs=specs)
            on_explicit_axes(with_derivative(call), *arrays, specs=specs)
        except NotImplementedError:
            continue
        batch = max((a.shape[0] for a, spec in zip(arrays, specs, strict=True) if spec == SPLIT), default=None)
        lost = [out for out in jax.tree.leaves(found) if out.ndim and out.shape[0] == batch and out.sharding.spec[0] != "x"]
        assert not lost, f"{method}: {lost}"


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(name: str, how: str):
    """Three steps, two of them in a scan: the state keeps its types, so it lies as the parameters do."""
    tx, params = OPTIMIZERS[name]

    def step(carry: Any, _: Any) -> Any:
        params, state = carry
        updates, state = tx.update(jax.tree.map(lambda p: 0.5 * p, params), state, params)
        return (optax.apply_updates(params, updates), state), None

    def steps(params: Any) -> Any:
        return jax.lax.scan(step, step((params, tx.init(params)), None)[0], None, length=2)[0][0]

    HOW[how](steps, params, specs=(rows(params),), **({"out_specs": rows(params)} if how == "shard_map" else {}))


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(("layer", "manifold", "shapes"), LAYERS, ids=[type(layer).__name__ for layer, *_ in LAYERS])
def test_every_layer_to_build_with(layer: Any, manifold: Any, shapes: Any, how: str):
    call, variables, points = whole_library.layer_call(layer, manifold, shapes)
    if type(layer).__name__ in ("LorentzAttention", "HypformerAttention"):  # the first axis is the sequence, and each row meets all others
        points = [jnp.stack([p, p]) for p in points]
    specs = (jax.tree.map(lambda _: WHOLE, variables), *[SPLIT] * len(points))
    HOW[how](with_derivative(call), variables, *points, specs=specs, **({"out_specs": specs} if how == "shard_map" else {}))


@pytest.mark.parametrize(("arch", "how"), slow.all_but({("hgat", "shard_map")}, [(arch, how) for arch in CASES for how in HOW]))
def test_every_model(arch: str, how: str, tmp_path: Path):
    """Parameters that all devices share, and outputs that vary, as with one subgraph for each device."""
    run, variables = whole_library.model_call(arch, tmp_path)

    def scaled(variables: Any, factor: jax.Array) -> Any:
        back = jax.vjp(lambda v: jax.tree.map(lambda out: out * factor.sum(), run(v)), variables)
        return back[1](jax.tree.map(lambda out: out / 2, back[0]))[0]

    specs = (jax.tree.map(lambda _: WHOLE, variables), SPLIT)
    extra = {"out_specs": specs[0]} if how == "shard_map" else {}
    HOW[how](scaled, variables, jnp.ones(1, jnp.float32), specs=specs, **extra)


@pytest.mark.parametrize("arch", slow.all_but({"hgat"}, CASES))
def test_every_model_lowers_for_every_platform(arch: str, tmp_path: Path):
    """A training step's gradients, for processors, NVIDIA's cards and TPUs, on a machine that has none."""
    run, variables = whole_library.model_call(arch, tmp_path)
    jax.export.export(jax.jit(with_derivative(run)), platforms=("cpu", "cuda", "tpu"))(variables)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_for_every_platform(name: str):
    tx, params = OPTIMIZERS[name]
    jax.export.export(jax.jit(lambda p: tx.update(p, tx.init(p), p)[0]), platforms=("cpu", "cuda", "tpu"))(params)


def test_a_state_that_jit_makes_lies_as_its_parameters():
    """Second moments have other shapes than points, and are made from nothing."""
    tx, _ = OPTIMIZERS["adam, exponential"]
    found = on_explicit_axes(tx.init, jnp.ones((4, 3), jnp.float32), specs=(SPLIT,))
    assert (found.mu.sharding.spec[0], found.nu.sharding.spec[0]) == ("x", "x")


def test_where_takes_what_is_split_and_what_is_whole():
    rows, row = jnp.arange(6.0).reshape(2, 3), jnp.array([[1.0, -1.0, 0.0]])
    for cases in ((row > 0, rows, row), (rows > 2, row, row), (rows > 2, rows, rows), (rows > 2, row, rows)):
        for split in (0, 1, 2):
            if cases[split].shape[0] == 2:
                specs = tuple(SPLIT if i == split else WHOLE for i in range(3))
                assert on_explicit_axes(where, *cases, specs=specs).sharding.spec[0] == "x"
        assert (where(*cases) == jnp.where(*cases)).all()
