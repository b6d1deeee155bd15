"""One converted checkpoint in torch and in JAX, in one precision: outputs, gradients, optimizer steps. Imports torch when called."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np
import optax
from jaxtyping import Array
from numpy.typing import ArrayLike

from port_jax.manifolds.base import Manifold
from weights.checkpoint import Checkpoint
from weights.errors import Unmatched
from weights.files import places
from weights.files.sections import split_again
from weights.files.tensors import Tensor
from weights.mapping.curvature_settings import raw_of
from weights.mapping.entries import Entry, flatten, inverse, nested
from weights.mapping.port import Port
from weights.mapping.probes import Argument, Inputs, Outputs, Probe, for_jax
from weights.mapping.rules import Rule
from weights.proof import torch_steps
from weights.proof.flax_run import QUICK, Arrays, Run, forward, named, outputs, pull
from weights.proof.inputs import for_torch
from weights.proof.trees import Points
from weights.types import Document, Hyperparameters, Model, OptState, Params, TorchModule, Transformation, Variables

STEPS = 10
RATE = 1e-2
"""Learning rate of the fresh optimizer where the file has none."""
BESIDE = 1e-3
"""By how much of itself a number is moved where both sides begin beside the file."""


@dataclass(frozen=True)
class Original:
    """The torch file as it is read for the comparison: tensors by key, and the optimizers' sections if their steps are compared.

    They are not where the file has none, nor for an optimizer of sparse gradients or line searches, which one gradient a step does
    not move: then both sides take the steps of a fresh RiemannianAdam.
    """

    tensors: Mapping[str, Tensor]
    optimizers: tuple[Document, ...]

    @classmethod
    def of(cls, reading: Checkpoint) -> Original:
        """From a reading of the file; its keys without the wrappers' prefix."""
        resumed = all(torch_steps.class_of(plan) is not None for plan in reading.plans)
        sections = [places.at(reading.source.root, plan.at) for plan in reading.plans] if resumed else []
        return cls(split_again(reading.source).tensors, tuple(sections))


@dataclass
class Sides:
    """Both models on the same inputs. Arrays come by the file's keys and in torch's layout.

    checkpoint: the conversion, which the side of JAX runs. reading: the file read anew, which says everything else: the settings of the
    torch module that `reference` makes, the groups of its optimizer, the manifolds on which gradients are compared. The module is given
    the file's tensors, never the converted ones. start: key -> numbers with which both begin in the place of the file's (`displaced`).
    strength: the factor of the loss of steps.
    """

    checkpoint: Checkpoint
    reading: Checkpoint
    original: Original
    reference: Callable[[Hyperparameters], TorchModule]
    probe: Probe
    inputs: Inputs
    model: Model | Points
    dtype: str
    port: Port | None = None
    start: Arrays = field(default_factory=dict)
    strength: float = 1.0

    def displaced(self, seed: int) -> Sides:
        """Both sides from beside the file: flat parameters of more than one number are moved by some thousandth of each."""
        random, found = np.random.default_rng(seed), dict(self.module().double().named_parameters())
        moved = [key for key in self._trained if key not in self.curved and found[key].numel() > 1]
        values = {key: found[key].detach().numpy() for key in moved}
        return replace(self, start={key: x * (1 + BESIDE * random.standard_normal(x.shape)) for key, x in values.items()})

    # JAX.

    @cached_property
    def variables(self) -> Variables:
        """The checkpoint's, in the precision compared; where both sides begin elsewhere, those."""
        found = jax.tree.map(self.cast, self.checkpoint.variables)
        told = {str(e.path): self.cast(e.layout.forward(self.start[key])) for key, e in self._trained.items() if key in self.start}
        return nested({**flatten(found), **told}) if told else found

    @cached_property
    def _run(self) -> Run:
        return Run(**self._told)

    @property
    def _told(self) -> dict[str, Any]:  # what a Run is made of
        settings = self.checkpoint.settings
        calling, at = (self.port.call_jax, self.port.at if self.port.own else "") if self.port else (None, "")
        label = f"{self.model!r} {sorted(settings.items())!r}"
        return {"probe": self.probe, "settings": settings, "model": self.model, "label": label, "calling": calling, "at": at}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the outputs by name."""
        return {name: value.shape for name, value in self.outlined().items()}

    def outlined(self) -> Outputs:
        """Shapes and types of the outputs by name, without computing them."""
        return jax.eval_shape(partial(outputs, self._run), self.variables, self._for_jax)

    def outputs(self) -> Arrays:
        """The outputs at the checkpoint's variables."""
        return jax.tree.map(np.asarray, forward(self._run, self.variables, self._for_jax))

    def pull(self, variables: Variables, weights: Arrays, targets: Arrays, strength: float) -> tuple[Arrays, Arrays, Variables]:
        """Outputs, gradients by key, and the same gradients as a tree."""
        ours, slopes = pull(self._run, variables, self._for_jax, weights, targets, strength)
        return jax.tree.map(np.asarray, ours), self.back(slopes), slopes

    @property
    def given(self) -> Inputs:
        """The inputs as JAX takes them."""
        return self._for_jax

    def run_flax(self, variables: Variables, given: Inputs) -> Outputs:
        """The outputs of the side of JAX, without compilation: for a call that is observed."""
        return self._run(variables, given)

    def steps(self, targets: Arrays, count: int = STEPS) -> Arrays:
        """Parameters after the steps."""
        return list(self.walk(targets, count))[-1]

    def walk(self, targets: Arrays, count: int = STEPS) -> Iterator[Arrays]:
        """Parameters after each step."""
        optimizer, state = self._optimizer()
        metric = torch_steps.metric(self.checkpoint.plans) if self.original.optimizers else {}

        @partial(jax.jit, compiler_options=QUICK)
        def advance(slopes: Params, state: OptState, params: Params) -> tuple[Params, OptState]:
            updates, state = optimizer.update(slopes, state, params, **metric)
            return jax.tree.map(lambda p, u: p + u, params, updates), state

        zero = {name: np.zeros_like(value) for name, value in targets.items()}
        variables, state = self.variables, jax.tree.map(self.cast, state)
        for _ in range(count):
            _, _, slopes = self.pull(variables, zero, targets, self.strength)
            slopes = jax.tree_util.tree_map_with_path(lambda at, g: 0 * g if _path(at) in self._still else g, slopes)
            params, state = advance(slopes["params"], state, variables["params"])
            variables = {**variables, "params": params}
            yield self.back(variables)

    def cast(self, leaf: ArrayLike) -> ArrayLike:
        """A floating array in the precision compared; any other leaf as it is."""
        floating = jax.numpy.issubdtype(np.asarray(leaf).dtype, np.floating)
        return jax.numpy.asarray(np.asarray(leaf, self.dtype)) if floating else leaf

    def back(self, tree: Variables) -> Arrays:
        """A tree beside the variables, in torch's layout, by key."""
        flat = flatten(tree)
        return {key: inverse(e, np.asarray(flat[str(e.path)]), str(e.path)) for key, e in self._trained.items()}

    # torch.

    def torch_pull(self, weights: Callable[[Arrays], Arrays], nudge: int) -> tuple[Arrays, Arrays]:
        """Outputs, and the gradient of sum(weights * outputs); `weights` are told the outputs."""
        module = self.module(nudge)
        outputs = self.run_torch(module)
        theirs = {name: value.detach().numpy() for name, value in outputs.items()}
        drawn = weights(theirs)
        sum((v * v.new_tensor(drawn[k])).sum() for k, v in outputs.items()).backward()  # pyright: ignore[reportAttributeAccessIssue]
        torch_steps.dense(module)
        found = dict(module.named_parameters())
        zeros = {key: np.zeros(found[key].shape, self.dtype) for key in self._trained}
        return theirs, {key: zero if (g := found[key].grad) is None else g.numpy() for key, zero in zeros.items()}

    def levelled(self) -> list[tuple[Document, ...]]:
        """The optimizers' sections with second moments of points levelled to the smallest, and to the largest entry of each row; none
        where they need not be (see `torch_steps.levelled`)."""
        raws = self.original.optimizers
        rows = [[i for i, key in plan.keys.items() if key in self.curved or plan.kind.by_rows] for plan in self.reading.plans]
        made = [[torch_steps.levelled(*each, pick) for each in zip(raws, rows)] for pick in (np.min, np.max)]
        return [tuple(one or raw for one, raw in zip(some, raws)) for some in made if any(some)]

    def torch_steps(self, targets: Arrays, nudge: int, count: int = STEPS,
                    sections: Sequence[Document] | None = None) -> tuple[Arrays, Arrays]:  # fmt: skip
        """Parameters before and after the steps; from other sections of optimizers than the file's where some are given."""
        start, *_, end = self.torch_walk(targets, nudge, count, sections)
        return start, end

    def torch_steps_from(self, start: Arrays, targets: Arrays) -> Arrays:
        """Parameters after the steps from other numbers than the file's, for some of the parameters by key."""
        return replace(self, start={**self.start, **start}).torch_steps(targets, 0)[1]

    def torch_walk(self, targets: Arrays, nudge: int, count: int = STEPS,
                   sections: Sequence[Document] | None = None) -> Iterator[Arrays]:  # fmt: skip
        """Parameters before the first step, and after each; `sections` as in `torch_steps`."""
        module = self.module(nudge)
        found, sections = dict(module.named_parameters()), self.original.optimizers if sections is None else sections
        if not sections:
            moving = [found[key] for key, entry in self._trained.items() if entry.path not in self._still]
            resumed = [(torch_steps.fresh(moving, RATE), None)]
        else:
            plans = zip(self.reading.plans, sections, strict=True)
            resumed = [torch_steps.resumed(self.reading, plan, raw, module) for plan, raw in plans]
        yield {key: found[key].detach().numpy().copy() for key in self._trained}
        for step in range(count):
            module.zero_grad()
            outputs = self.run_torch(module)
            loss: Any = sum(((v - v.new_tensor(targets[k])) ** 2).mean() for k, v in outputs.items())
            (self.strength * loss).backward()
            torch_steps.dense(module)
            for optimizer, _ in resumed:
                optimizer.step()
            for _, scheduled in resumed:
                if scheduled is not None:
                    scheduled(step)
            yield {key: found[key].detach().numpy().copy() for key in self._trained}

    def run_torch(self, module: TorchModule) -> Outputs:
        """The torch module's outputs, which keep their graph of gradients."""

        def call(method: str, *args: Argument) -> Argument:
            if self.port is not None and self.port.call_torch is not None and method == "__call__":
                return self.port.call_torch(module, *args)
            return getattr(module, method)(*args)

        return named(self.probe.outputs(self.reading.settings, call, self._for_torch))

    def torch_modules(self, names: Sequence[str]) -> Arrays:
        """The outputs of the torch module's submodules of these names, by name, parts of tuples by name/number; at their first call."""
        module, found = self.module(), {}

        def catch(name: str) -> Callable[..., None]:
            def hook(_: TorchModule, given: object, result: Any) -> None:
                parts = {f"{name}/{n}": part for n, part in enumerate(result)} if isinstance(result, tuple) else {name: result}
                for at, part in parts.items():
                    found.setdefault(at, part.detach().numpy().copy())

            return hook

        for name, child in module.named_modules():
            if name in names:
                child.register_forward_hook(catch(name))
        self.run_torch(module)
        return found

    def module(self, nudge: int = 0) -> TorchModule:
        """The torch reference with the file's tensors, in this precision.

        `nudge` > 0 seeds a move of all numbers by one unit in the last place, up or down at random.
        """
        import torch

        at = f" ({self.port.at})" if self.reading.own_port and self.port else ""
        try:
            module = self.reference(self.reading.settings).double()
            result = module.load_state_dict({k: torch_steps.tensor(t) for k, t in self.original.tensors.items()}, strict=False)
        except RuntimeError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise Unmatched(f"the torch module does not load the file: {lines[-1]:.300}{at}", "Make it with its sizes") from None
        known = {entry.key for entry in self.reading.entries if entry.role == "constant"}
        self._round(module)
        named = dict(module.named_parameters())
        for key, value in self.start.items():
            named[key].data.copy_(torch.as_tensor(value))
        odd = [key for key in result.unexpected_keys if key not in known]
        odd += [key for key in result.missing_keys if key not in dict(module.named_buffers())]
        if odd:
            raise Unmatched(f"the torch reference of {self.reading.arch} and the file differ in the key {odd[0]!r}{at}",
                            "Give the port the torch module that wrote it" if at else "Use --level bits")  # fmt: skip
        module.to(getattr(torch, self.dtype)).eval()
        if nudge:
            ways = torch.Generator().manual_seed(nudge)
            with torch.no_grad():
                for parameter in module.parameters():
                    up = torch.rand(parameter.shape, generator=ways) < 0.5
                    parameter.copy_(torch.nextafter(parameter, torch.where(up, float("inf"), float("-inf")).to(parameter.dtype)))
        return module

    def _round(self, module: TorchModule) -> None:
        """Gives the torch module the fixed curvatures that a port's rules say, in float64. The conversion has found them in the file up to
        the rounding of geoopt's float32, and the flax module has these numbers."""
        found = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
        rules = self.port.rules_of(self.reading.settings) if self.port is not None and self.port.own else []
        for rule in rules:
            if isinstance(rule, Rule) and rule.curvature is not None:
                for key in [key for key in found if rule.match(key) is not None]:
                    found[key].data.fill_(raw_of(key.rpartition(".")[2], rule.curvature))

    # Both.

    @cached_property
    def curved(self) -> dict[str, tuple[Manifold, Array]]:
        """Key -> (manifold, points here) of the parameters that are points of a manifold other than flat space."""
        from port_jax.optim.trees import match_manifolds

        params = self.reading.variables["params"]
        if self.reading.manifolds is None or not params:
            return {}
        paths = [f"params/{_path(path)}" for path, _ in jax.tree.leaves_with_path(params)]
        matched = dict(zip(paths, match_manifolds(self.reading.manifolds, params), strict=True))
        flat = flatten(self.variables)
        return {key: (matched[str(e.path)], flat[str(e.path)]) for key, e in self._trained.items()
                if not matched[str(e.path)].flat}  # fmt: skip

    def tangential(self, slopes: Arrays) -> Arrays:
        """Gradients, those at points of a manifold as Riemannian ones: off it two formulas of one function differ."""
        result = dict(slopes)
        for key, (manifold, points) in self.curved.items():
            entry = self._trained[key]
            rgrad = manifold.egrad2rgrad(points, jax.numpy.asarray(entry.layout.forward(slopes[key]), self.dtype))
            result[key] = inverse(entry, np.asarray(rgrad), str(entry.path))
        return result

    @cached_property
    def _trained(self) -> dict[str, Entry]:
        return {entry.key: entry for entry in self.checkpoint.entries if entry.role == "parameter"}

    @cached_property
    def _still(self) -> frozenset[str]:
        """Paths of the curvatures that a fresh optimizer does not move: those of hyperboloids, off which points would be left."""
        moved, params = self.checkpoint.manifolds, self.checkpoint.variables["params"]
        if self.original.optimizers or not callable(moved) or not any(m.ambient for m, _ in self.curved.values()):
            return frozenset()
        now, found = jax.tree.leaves(moved(params)), []
        for at, leaf in jax.tree.leaves_with_path(params):
            other = jax.tree_util.tree_map_with_path(lambda here, p, at=at: 2 * p if here == at else p, params)
            if np.ndim(leaf) < 2 and any(np.any(a != b) for a, b in zip(now, jax.tree.leaves(moved(other)), strict=True)):
                found.append(f"params/{_path(at)}")
        return frozenset(found)

    @cached_property
    def _for_jax(self) -> Inputs:
        return for_jax(self.inputs, self.dtype)

    @cached_property
    def _for_torch(self) -> Inputs:
        import torch

        return for_torch(self.inputs, getattr(torch, self.dtype))

    def _optimizer(self) -> tuple[Transformation, OptState]:
        """The transformation and its state."""
        from port_jax.manifolds import Euclidean
        from port_jax.optim import confined, riemannian_adam
        from port_jax.optim.from_torch.defects import as_in_geoopt
        from port_jax.optim.from_torch.repositories import swapped

        if self.original.optimizers:
            return self.checkpoint.optimizer, self.checkpoint.opt_state
        order = [str(entry.path).removeprefix("params/") for entry in self._trained.values()]
        moved = self.checkpoint.manifolds
        # The other side is geoopt's own optimizer.
        moved = Euclidean() if moved is None else swapped(moved, lambda path, manifold: as_in_geoopt(manifold, search=False))
        fresh = optax.with_extra_args_support(riemannian_adam(RATE, manifolds=moved, order=order if callable(moved) else None))
        confine = self.port and self.port.confining(self.checkpoint.model)
        fresh = fresh if confine is None else confined(fresh, confine)
        return fresh, fresh.init(self.checkpoint.variables["params"])


def _path(at: tuple) -> str:
    return "/".join(str(getattr(step, "key", step)) for step in at)


__all__ = ["STEPS", "Original", "Sides"]
