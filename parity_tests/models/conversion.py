"""A torch reference saved as its authors save it, converted, and compared: forward, gradients, float32, steps, the way back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from parity_tests import draws
from parity_tests.tolerances import gate, no_worse_bound, relative_error
from port_jax.graphs import Graph
from port_jax.manifolds import Lorentz
from reference_torch.graphs.graph import Graph as TorchGraph
from weights.checkpoint import Checkpoint, load
from weights.mapping.entries import flatten
from weights.proof.flax_run import QUICK

Theirs = Callable[[Any, torch.dtype], Sequence[torch.Tensor]]
Ours = Callable[[Any, Any, Any], Sequence[jax.Array]]
NODES = 19
DEEP = {"hcnn"}
"""The architectures whose programs have so many operations that compiling them takes most of the time."""


def graphs(seed: int = 0, nodes: int = NODES) -> tuple[Graph, TorchGraph]:
    """The same directed graph for both, with repeated edges, self loops and two nodes that receive nothing."""
    rng = draws.rng(seed)
    senders, receivers = rng.integers(0, nodes, 70), rng.integers(2, nodes, 70)
    senders[:4] = receivers[:4]
    graph = Graph.from_edges(senders, receivers, num_nodes=nodes)
    return graph, TorchGraph(torch.as_tensor(senders), torch.as_tensor(receivers), nodes)


def randomised(module: torch.nn.Module, scale: float = 0.5, shift: float = 0.15, keep: Sequence[str] = ()) -> torch.nn.Module:
    """Weights in general position, biases and scalars included; points on manifolds and `keep` stay."""
    with torch.no_grad():
        for name, p in module.named_parameters():
            if name not in keep and not hasattr(p, "manifold"):
                p.mul_(scale).add_(shift * torch.randn_like(p))
    return module.double()


def converted(module: torch.nn.Module, config: Any, folder: Path, *, wrap: Callable[[dict], Any] = dict, **options: Any) -> Checkpoint:
    """The module's state_dict through a file, wrapped as its authors do it."""
    path = folder / "model.pth"
    torch.save(wrap(module.state_dict()), path)
    return load(path, config=config, **options)


def encoded_and_called(model: Any, variables: Any, *args: Any) -> tuple[Any, Any]:
    """What `encode` gives and what the model does, which calls it: in one pass, because two take twice as long to compile."""
    out, kept = model.apply(variables, *args, capture_intermediates=lambda _, name: name == "encode", mutable=["intermediates"])
    return kept["intermediates"]["encode"][0], out


@dataclass(frozen=True)
class _Run:
    """`ours` of one model; equal for equal models, so that one compilation serves their comparison and their steps.

    quick: whether it is compiled as `verify` does, with few passes, which a model of many layers is worth.
    """

    ours: Ours
    model: Any = field(compare=False)
    label: str
    quick: bool = False

    @classmethod
    def of(cls, ckpt: Checkpoint, ours: Ours) -> _Run:
        return cls(ours, ckpt.model, repr(ckpt.model), ckpt.arch in DEEP)


def _pulled(run: _Run, variables: Any, cotangents: tuple[jax.Array, ...]) -> tuple[tuple[jax.Array, ...], Any]:
    """Outputs and gradients as one program: op by op, the compilations of all primitives take three times as long."""
    outs, back = jax.vjp(lambda v: tuple(run.ours(run.model, v, jnp.float64)), variables)
    return outs, back(cotangents)[0]


def pulled(ckpt: Checkpoint, ours: Ours, cotangents: Sequence[np.ndarray]) -> tuple[tuple[jax.Array, ...], dict[str, Any]]:
    """Outputs, and gradients by path, by the program that the comparisons of this model share."""
    outs, grads = _pull(_Run.of(ckpt, ours), ckpt.variables, tuple(jnp.asarray(c) for c in cotangents))
    return outs, flatten(grads)


_programs = {
    quick: jax.jit(_pulled, static_argnames="run", compiler_options=QUICK if quick else None) for quick in (False, True)
}  # fmt: skip


def _pull(run: _Run, variables: Any, cotangents: tuple[jax.Array, ...]) -> tuple[tuple[jax.Array, ...], Any]:
    return _programs[run.quick](run, variables, cotangents)


def check_parity(module: torch.nn.Module, ckpt: Checkpoint, theirs: Theirs, ours: Ours, radius: float = 0.99,
                 single: bool = True, amplified: float = 0.0) -> tuple[jax.Array, ...]:  # fmt: skip
    """Outputs in float64, gradients of all parameters by random cotangents, and float32 no worse than torch's.

    In float32 both sides are compared with float64 at the same numbers. torch's own error is one draw of roundings, and may be small by
    chance: what one unit in the last place of all parameters does is allowed beside it, and `amplified` units of the outputs, where the
    points between are so near to the boundary that 1/(1 - c|x|^2) is that. Returns the outputs.
    """
    rng = draws.rng(7)
    want = theirs(module, torch.float64)
    assert all(bool(out.any()) for out in want), "zeros on both sides say nothing"  # relu can put out every unit of a small network
    cotangents = [rng.normal(size=tuple(out.shape)) for out in want]
    module.zero_grad()
    sum((out * torch.as_tensor(cot)).sum() for out, cot in zip(want, cotangents, strict=True)).backward()

    outs, grads = _pull(_Run.of(ckpt, ours), ckpt.variables, tuple(jnp.asarray(c) for c in cotangents))
    for have, out in zip(outs, want, strict=True):
        assert relative_error(have, out.detach()) <= gate(radius, 0)
    have, expected = tangential(ckpt, flatten(grads)), tangential(ckpt, torch_gradients(module, ckpt))
    scale = max(np.abs(grad).max() for grad in expected.values())  # what adds to all logits of a softmax has a gradient near 0
    assert {path for path in have if path.startswith("params/")} == expected.keys()
    for path, grad in expected.items():
        assert np.abs(np.asarray(have[path]) - np.asarray(grad)).max() <= gate(radius, 1) * scale, path
    if not single:
        return outs
    narrow = module.float()
    low = [out.detach().numpy() for out in theirs(narrow, torch.float32)]
    module.double()
    small = jax.tree.map(lambda a: np.asarray(a, np.float32), ckpt.variables)
    exact = [out.detach().numpy() for out in theirs(module, torch.float64)]
    high = jax.jit(lambda v: tuple(ours(ckpt.model, v, jnp.float32)), compiler_options=QUICK if ckpt.arch in DEEP else None)(small)
    room = amplified * float(np.finfo(np.float32).eps)
    for have, out, truth, moved in zip(high, low, exact, _moved(module, theirs, exact), strict=True):
        assert have.dtype == jnp.float32
        assert np.abs(np.asarray(have) - truth).max() <= no_worse_bound(out, truth) + 2 * moved + room * np.abs(truth).max()
    return outs


def _moved(module: torch.nn.Module, theirs: Theirs, exact: Sequence[np.ndarray]) -> list[float]:
    """How far each output moves, at most in three draws, if all parameters move by a unit in the last place of float32."""
    rng, found = draws.rng(8), [0.0] * len(exact)
    kept = [p.detach().clone() for p in module.parameters()]
    for _ in range(3):
        with torch.no_grad():
            for p, start in zip(module.parameters(), kept, strict=True):
                ways = torch.as_tensor(rng.choice([-1.0, 1.0], tuple(p.shape)), dtype=p.dtype)
                p.copy_(start * (1 + float(np.finfo(np.float32).eps) * ways))
        outs = theirs(module, torch.float64)
        found = [max(f, float(np.abs(o.detach().numpy() - e).max())) for f, o, e in zip(found, outs, exact, strict=True)]
    with torch.no_grad():
        for p, start in zip(module.parameters(), kept, strict=True):
            p.copy_(start)
    return found


def torch_gradients(module: torch.nn.Module, ckpt: Checkpoint) -> dict[str, np.ndarray]:
    """What torch left on the parameters, by path and in the layout of the variables."""
    named = dict(module.named_parameters())
    found = {}
    for entry in ckpt.entries:
        if entry.role == "parameter":
            p = named[entry.key]
            grad = torch.zeros_like(p) if p.grad is None else p.grad
            found[entry.path] = entry.layout.forward(grad.numpy())
    return found


def tangential(ckpt: Checkpoint, grads: Mapping[str, Any]) -> dict[str, Any]:
    """Gradients, those on a hyperboloid as Riemannian ones: off the manifold the two formulas of a distance differ."""
    params = ckpt.variables["params"]
    manifolds = ckpt.manifolds(params)
    result = {}
    for path, grad in grads.items():
        name = path.removeprefix("params/")
        manifold = manifolds.get(name.split("/")[0])
        result[path] = manifold.egrad2rgrad(params[name], jnp.asarray(grad)) if isinstance(manifold, Lorentz) else grad
    return result


def check_steps(module: torch.nn.Module, optimizer: torch.optim.Optimizer, config: Any, folder: Path, theirs: Theirs, ours: Ours,
                steps: int = 3, drift: float = 1e-8) -> None:  # fmt: skip
    """Three steps in torch, the file with the optimizer's state, then as many steps on both sides: the same displacement.

    `drift` is the largest difference as a part of the displacement. A parameter moves, unless its gradients are exactly 0.
    """
    cotangents = [draws.rng(8).normal(size=tuple(out.shape)) for out in theirs(module, torch.float64)]

    def step() -> None:
        optimizer.zero_grad()
        sum((out * torch.as_tensor(c)).sum() for out, c in zip(theirs(module, torch.float64), cotangents, strict=True)).backward()
        optimizer.step()

    for _ in range(steps):
        step()
    path = folder / "trained.pth"
    torch.save({"model": module.state_dict(), "optimizer": optimizer.state_dict()}, path)
    ckpt = load(path, config=config)
    assert ckpt.opt_state is not None

    @jax.jit
    def advance(grads: Any, state: Any, params: Any) -> tuple[Any, Any]:
        updates, state = ckpt.optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    run, weights = _Run.of(ckpt, ours), tuple(jnp.asarray(c) for c in cotangents)
    params, state = ckpt.variables["params"], ckpt.opt_state
    for _ in range(steps):
        step()
        _, grads = _pull(run, {**ckpt.variables, "params": params}, weights)
        params, state = advance(grads["params"], state, params)
    end, start = flatten(params), flatten(ckpt.variables["params"])
    for entry in ckpt.entries:
        if entry.role == "parameter":
            name = str(entry.path).removeprefix("params/")
            want = entry.layout.forward(module.state_dict()[entry.key].numpy())
            moved = np.abs(want - start[name]).max()
            assert moved > 0 or not torch_gradients(module, ckpt)[str(entry.path)].any(), entry.key
            error = np.abs(np.asarray(end[name]) - want).max() / (moved or 1)
            assert error <= drift, f"{entry.key}: {error:.1e}"


def trained(module: torch.nn.Module, optimizer: torch.optim.Optimizer, folder: Path, theirs: Theirs, steps: int = 3) -> Path:
    """The file of a module and its optimizer after some steps on a random linear loss."""
    cotangents = [draws.rng(8).normal(size=tuple(out.shape)) for out in theirs(module, torch.float64)]
    for _ in range(steps):
        optimizer.zero_grad()
        sum((out * torch.as_tensor(c)).sum() for out, c in zip(theirs(module, torch.float64), cotangents, strict=True)).backward()
        optimizer.step()
    path = folder / "trained.pth"
    torch.save({"model": module.state_dict(), "optimizer": optimizer.state_dict()}, path)
    return path


def spoiled(state: Mapping[str, torch.Tensor], key: str) -> dict[str, dict[str, torch.Tensor]]:
    """A state_dict with one key spoiled, by the way in which."""
    rest = {name: value for name, value in state.items() if name != key}
    value = state[key]
    return {
        "dropped": rest,
        "renamed": {**rest, f"{key}s": value},
        "repeated": {**state, f"{key}_2": value.clone()},
        "repeated as one tensor": {**state, f"{key}_2": value},
        "transposed": {**state, key: value.T.contiguous()},
        "longer": {**state, key: torch.cat([value, value[:1]])},
        "not finite": {**state, key: torch.where(torch.arange(value.numel()).view_as(value) == 3, torch.nan, value)},
    }


def check_round_trip(ckpt: Checkpoint, folder: Path) -> None:
    """Exported, the file gives the same bits under the same keys."""
    ckpt.export(folder / "back.pth")
    old, new = (torch.load(folder / name, weights_only=False) for name in ("model.pth", "back.pth"))
    _same(old, new)


def _same(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            _same(a[key], b[key])
    elif isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert a.detach().numpy().tobytes() == b.detach().numpy().tobytes()
    else:
        assert a == b
