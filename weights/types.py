"""The types that the rooms of the converter hand to each other, by name. Importing this brings neither jax nor torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import optax
    from jaxtyping import Array, PyTree

    from port_jax.manifolds.base import Manifold

Document: TypeAlias = dict[str, Any]
"""An object of JSON: what `json.dump` takes and `json.load` gives."""
Config: TypeAlias = Mapping[str, Any]
"""A configuration of a training run, by the names of its code: numbers, strings, flags, lists, nested objects, None."""
Hyperparameters: TypeAlias = Mapping[str, Any]
"""What a model is built from, by the names of its architecture: numbers, strings, flags, lists of numbers, None."""
Curvature: TypeAlias = "float | list[float] | None"
"""One curvature for all manifolds of a model, one for each, or None where the caller gives none."""

Params: TypeAlias = dict[str, Any]
"""Parameters: nested dicts whose leaves are arrays, of jax where jax has the type, else of numpy."""
Variables: TypeAlias = dict[str, Any]
"""What `apply` of a flax module takes: collections by name, "params" among them, each nested as `Params`."""
ManifoldTree: TypeAlias = "dict[str, Any] | Manifold"
"""Manifolds beside parameters: nested dicts whose leaves are manifolds, and whose paths are those of the parameters or begin them."""
NamedManifolds: TypeAlias = "Mapping[str, Manifold | type[Manifold] | Callable[[Params], Manifold] | Mapping[str, Any]]"
"""Manifolds that a caller names: by torch's keys, beginnings of them or patterns, or nested as the keys are. A class takes the
curvature that the file has; a function makes the manifold from the parameters."""
Manifolds: TypeAlias = "ManifoldTree | Callable[[Params], ManifoldTree] | None"
"""A tree of manifolds, or a function from the parameters to it where a curvature is trained; None where nothing is known."""


class Model(Protocol):
    """What the converter and its callers use of a flax module of `port_jax.models`; its fields are there as attributes."""

    def init(self, rngs: Array, *args: Any, **options: Any) -> Mapping[str, Any]:
        """Fresh variables for these inputs."""
        ...

    def apply(self, variables: Variables, *args: Any, method: str | Callable[..., Any] | None = None, **options: Any) -> Any:
        """What the module, or this method of it, computes of the inputs: an array, or a tuple of arrays."""
        ...

    def __getattr__(self, name: str) -> Any: ...


Transformation: TypeAlias = "optax.GradientTransformationExtraArgs"
"""An optimizer of optax."""
OptState: TypeAlias = "PyTree[Array]"
"""The state of a `Transformation`."""
TorchModule: TypeAlias = Any
"""A `torch.nn.Module` of `reference_torch`. The converter imports torch in `weights.proof` only, and there when it is called."""
TorchTensor: TypeAlias = Any
"""A `torch.Tensor`."""
TorchOptimizer: TypeAlias = Any
"""A `torch.optim.Optimizer`, or a class of it."""

Progress: TypeAlias = Callable[[str, int, int], None]
"""Is called for each tensor with its key, how many tensors are done, and how many there are."""

__all__ = [
    "Config",
    "Curvature",
    "Document",
    "Hyperparameters",
    "ManifoldTree",
    "Manifolds",
    "Model",
    "NamedManifolds",
    "OptState",
    "Params",
    "Progress",
    "TorchModule",
    "TorchOptimizer",
    "TorchTensor",
    "Transformation",
    "Variables",
]
