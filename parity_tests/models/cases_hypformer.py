"""Small models of Hypformer: their configurations, modules in general position, two optimizers, and what is compared of both sides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import geoopt
import jax.numpy as jnp
import torch

from parity_tests import draws
from parity_tests.models.conversion import randomised
from parity_tests.models.graph_models import FEATURES, NODES, TORCH_GRAPH, X
from port_jax.graphs import Graph
from reference_torch.graphs.graph import Graph as TorchGraph
from reference_torch.models.hypformer import Hypformer
from weights.models.hypformer import outputs

MEDIUM: dict[str, Any] = {
    "variant": "medium", "use_graph": 1, "graph_weight": 0.3, "gnn_use_bn": 1, "gnn_use_residual": 1, "gnn_use_weight": 0,
    "gnn_use_init": 1, "gnn_use_act": 1, "gnn_num_layers": 2, "gnn_dropout": 0.4, "trans_num_heads": 2, "trans_heads_concat": 0,
    "trans_use_weight": 1, "trans_use_bn": 1, "trans_use_residual": 1, "trans_use_act": 1, "trans_num_layers": 1, "trans_dropout": 0.2,
    "k_in": 1.3, "k_hidden": 9.0, "k_out": 0.7, "power_k": 2.0, "attention_type": "linear_focused", "add_positional_encoding": 1,
    "decoder_type": "hyp", "hidden_channels": 4, "in_channels": FEATURES, "out_channels": 3,
}  # fmt: skip
FULL: dict[str, Any] = {"attention_type": "full", "trans_use_weight": 0, "decoder_type": "euc"}
ALONE: dict[str, Any] = {"use_graph": 0, "add_positional_encoding": 0, "trans_use_bn": 0, "trans_use_residual": 0, "trans_use_act": 0}
OTHER: dict[str, Any] = {"gnn_use_init": 0, "gnn_use_weight": 1, "gnn_use_act": 0, "gnn_use_residual": 0, "gnn_num_layers": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "medium": MEDIUM,
    "medium, full": {**MEDIUM, **FULL, **OTHER},
    "medium, alone": {**MEDIUM, **ALONE, "trans_heads_concat": 1, "power_k": 3.0},
    "large": {**MEDIUM, "variant": "large", "trans_heads_concat": 1, "gnn_use_bn": 0, "gnn_use_init": 0, "decoder_type": "euc"},
    "large, full": {**MEDIUM, "variant": "large", **FULL, "decoder_type": "hyp", "trans_use_act": 0, "trans_num_layers": 2},
    "large, alone": {**MEDIUM, "variant": "large", **ALONE},
    "Hypformer": {**MEDIUM, "variant": "Hypformer", "use_graph": 0, "attention_type": "full"},
    "Hypformer, linear": {**MEDIUM, "variant": "Hypformer", "use_graph": 0, "decoder_type": "euc"},
}
FEATURE_ROWS = 3 * X
"""Of lengths around 2, beside one that is 0: features of length 1 and less are lifted by another formula."""
GRAPH = Graph.from_edges(TORCH_GRAPH.senders.numpy(), TORCH_GRAPH.receivers.numpy(), num_nodes=NODES)


def module_of(name: str = "medium") -> Hypformer:
    """A module in float64, in evaluation, with running statistics that are not those of the start, and classes at random points."""
    draws.seed_torch(4)
    module = Hypformer(CONFIGS[name])
    randomised(module, 0.7, 0.2, keep=[key for key, _ in module.named_parameters() if key.endswith(".k")])
    with torch.no_grad():
        for key, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if key.endswith("running_mean"):
                tensor.copy_(0.2 * torch.randn_like(tensor))
            elif key.endswith("running_var"):
                tensor.mul_(0.7 + 0.6 * torch.rand_like(tensor))
            elif key == "decode_trans.cls":
                tensor.copy_(module.manifold_out.lifted(0.6 * torch.randn_like(tensor[:, 1:])))
    return module.eval()


def case(name: str = "medium") -> tuple[Hypformer, dict[str, Any]]:
    """A module and its configuration."""
    return module_of(name), CONFIGS[name]


class Both:
    """Adam over what is flat and an optimizer of geoopt over points, as the code has them: a list, of which a file has the states."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter], points: str = "RiemannianAdam", lr: float = 0.004, stabilize: int = 50):
        trained = [p for p in parameters if p.requires_grad]
        flat = [p for p in trained if not isinstance(p, geoopt.ManifoldParameter)]
        curved = [p for p in trained if isinstance(p, geoopt.ManifoldParameter)]
        self.optimizers: list[Any] = [torch.optim.Adam(flat, lr=lr, weight_decay=0.02)]
        if curved:
            own = 2 * lr if points == "RiemannianAdam" else lr / 40  # descent goes as far as its gradient is long
            self.optimizers.append(getattr(geoopt.optim, points)(curved, lr=own, weight_decay=0.03, stabilize=stabilize))

    def zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()

    def state_dict(self) -> list[dict[str, Any]]:
        return [optimizer.state_dict() for optimizer in self.optimizers]


def theirs(module: Any, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Points, states of the graph network where there is one, and logits."""
    graph = TorchGraph(TORCH_GRAPH.senders, TORCH_GRAPH.receivers, NODES)
    given = {"x": torch.as_tensor(FEATURE_ROWS, dtype=dtype), "graph": graph}
    return tuple(outputs(module.of, lambda method, *args: getattr(module, method)(*args), given).values())


def ours(model: Any, variables: Any, dtype: Any) -> tuple[Any, ...]:
    """The same."""
    given = {"x": jnp.asarray(FEATURE_ROWS, dtype), "graph": GRAPH}
    settings = {"use_graph": model.use_graph}
    return tuple(outputs(settings, lambda method, *args: model.apply(variables, *args, method=method), given).values())
