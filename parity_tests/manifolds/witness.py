"""geoopt as witness: values and vector-Jacobian products of one manifold's operations, compared in one compilation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Operation:
    """`torch_fn(*arrays)` and `jax_fn(*arrays)` on the arguments called `names`; gradients pass through `tangent[name]`.

    A function that is given on a submanifold only has no meaning across it: `tangent` keeps the part of a gradient that has.
    """

    torch_fn: Callable[..., Any]
    jax_fn: Callable[..., Any]
    names: tuple[str, ...]
    gradient: bool = True
    tangent: Mapping[str, Callable[[np.ndarray], np.ndarray]] = field(default_factory=dict)


def compare(operations: Mapping[str, Operation], arrays: Arrays, rtol: float, f32: bool = True) -> None:
    """Every operation in float64 against geoopt, forward and backward with random cotangents; float32 against float64's truth.

    The float64 gate is `rtol` of the largest entry of the reference. In float32 the error may be twice geoopt's own and four
    ulp of the largest entry more.
    """
    reference = {name: _run_torch(op, arrays) for name, op in operations.items()}
    cotangents = {name: [c for _, c in zip(*ref[:2])] for name, ref in reference.items()}
    found = jax.jit(lambda a, c: {name: _run_jax(op, a, c[name]) for name, op in operations.items()})(
        {k: jnp.asarray(v) for k, v in arrays.items()}, cotangents
    )
    wrong = []
    for name, op in operations.items():
        outputs, _, gradients = reference[name]
        for i, (want, have) in enumerate(zip(outputs, found[name][0], strict=True)):
            wrong += _differs(f"{name}[{i}]", np.asarray(have), want, rtol)
        for argument, want, have in zip(op.names, gradients, found[name][1]):
            keep = op.tangent.get(argument, lambda g: g)
            wrong += _differs(f"d {name} / d {argument}", keep(np.asarray(have)), keep(want), rtol)
    if f32:
        single = {k: _single(v) for k, v in arrays.items()}
        low = jax.jit(
            lambda a: {name: _outputs(op.jax_fn(*(a[n] for n in op.names))) for name, op in operations.items()}
        )({k: jnp.asarray(v) for k, v in single.items()})
        for name, op in operations.items():
            exact = _outputs(op.torch_fn(*(torch.tensor(_double(single[n])) for n in op.names)))
            theirs = _outputs(op.torch_fn(*(torch.tensor(single[n]) for n in op.names)))
            for i, (truth, their, mine) in enumerate(zip(exact, theirs, low[name], strict=True)):
                truth, their = (t.detach().resolve_conj().numpy() for t in (truth, their))
                scale = np.abs(truth).max()
                allowed = 2 * np.abs(their - truth).max() + 4 * np.finfo(np.float32).eps * scale
                error = np.abs(np.asarray(mine) - truth).max()
                if np.asarray(mine).dtype != single[op.names[0]].real.dtype and not np.iscomplexobj(mine):
                    wrong.append(f"{name}[{i}] in float32: dtype {mine.dtype}")
                if not error <= allowed:
                    wrong.append(
                        f"{name}[{i}] in float32: error {error:.2e}, geoopt's bound {allowed:.2e}, scale {scale:.2e}"
                    )
    assert not wrong, "\n".join(wrong)


def _run_torch(op: Operation, arrays: Arrays) -> tuple[list, list, list]:
    inputs = [torch.tensor(arrays[n], requires_grad=op.gradient) for n in op.names]
    outputs = _outputs(op.torch_fn(*inputs))
    rng = np.random.default_rng(len(op.names))
    cotangents = [_like(rng, o.detach().numpy()) for o in outputs]
    gradients = []
    if op.gradient:
        gradients = torch.autograd.grad(outputs, inputs, [torch.tensor(c) for c in cotangents], allow_unused=True)
        gradients = [
            np.zeros_like(i.detach()) if g is None else g.resolve_conj().numpy() for g, i in zip(gradients, inputs)
        ]
    return [o.detach().resolve_conj().numpy() for o in outputs], cotangents, gradients


def _run_jax(op: Operation, arrays: Mapping[str, Any], cotangents: list) -> tuple[list, tuple]:
    outputs, pullback = jax.vjp(lambda *a: _outputs(op.jax_fn(*a)), *(arrays[n] for n in op.names))
    if not op.gradient:
        return outputs, ()
    # torch's gradient of a complex argument is the conjugate of JAX's, and its cotangent of a complex result too.
    return outputs, tuple(
        jnp.conj(g) for g in pullback([jnp.conj(c).astype(o.dtype) for c, o in zip(cotangents, outputs)])
    )


def _outputs(result: Any) -> list:
    return list(result) if isinstance(result, tuple | list) else [result]


def _like(rng: np.random.Generator, array: np.ndarray) -> np.ndarray:
    draw = rng.standard_normal(array.shape)
    return draw + 1j * rng.standard_normal(array.shape) if np.iscomplexobj(array) else draw


def _single(array: np.ndarray) -> np.ndarray:
    return array.astype(np.complex64 if np.iscomplexobj(array) else np.float32)


def _double(array: np.ndarray) -> np.ndarray:
    return array.astype(np.complex128 if np.iscomplexobj(array) else np.float64)


def _differs(what: str, have: np.ndarray, want: np.ndarray, rtol: float) -> list[str]:
    if have.shape != want.shape:
        return [f"{what}: shape {have.shape}, geoopt {want.shape}"]
    error, scale = np.abs(have - want).max(), np.abs(want).max()
    return [] if error <= rtol * max(scale, 1e-3) else [f"{what}: error {error:.2e} at scale {scale:.2e}"]
