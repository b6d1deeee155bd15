"""HTGN in Flax against HTGN on geoopt: both aggregations, the GRU and the temporal attention, fixed and trained
curvature rows."""

from functools import partial

import geoopt
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from parity_tests import draws, slow
from parity_tests.models.conversion import (
    NODES,
    check_parity,
    check_round_trip,
    check_steps,
    converted,
    graphs,
    randomised,
)
from reference_torch.models.htgn import HTGN
from weights.checkpoint import load
from weights.errors import ConversionError

CONFIGS = {
    "attention, trained rows": {
        "aggregation": "att",
        "heads": 2,
        "fixed_curvature": 0,
        "use_hta": 1,
        "trainable_feat": 0,
    },
    "degree, trained features": {
        "aggregation": "deg",
        "heads": 1,
        "fixed_curvature": 1,
        "use_hta": 0,
        "trainable_feat": 1,
    },
}
FEATURES, HIDDEN, OUT, WINDOW = 5, 3, 4, 3
ROWS = torch.tensor([[0.7], [1.6], [0.4]])
RNG = draws.stream(3)
X, HIDDENS, PAIRS = (
    0.5 * RNG.normal(size=(NODES, FEATURES)),
    0.2 * RNG.normal(size=(WINDOW, NODES, OUT)),
    RNG.integers(0, NODES, (12, 2)),
)
X[3] = 0
GRAPH, TORCH_GRAPH = graphs()


def reference(config: dict) -> HTGN:
    draws.seed_torch(0)
    flags = {name: bool(config[name]) for name in ("fixed_curvature", "use_hta", "trainable_feat")}
    module = HTGN(NODES, FEATURES, HIDDEN, OUT, heads=config["heads"], aggregation=config["aggregation"], **flags)
    randomised(module, keep=("c",))
    module.c.data = (torch.full((3, 1), 0.8) if config["fixed_curvature"] else ROWS).double()
    return module


def theirs(module, dtype):
    x = None if module.trainable_feat else torch.as_tensor(X).to(dtype)
    hiddens = torch.as_tensor(HIDDENS).to(dtype)
    h = module.encode(x, TORCH_GRAPH, hiddens)
    return h, module.score(h, torch.as_tensor(PAIRS)), module.htc(h, hiddens[-1])


def ours(model, variables, dtype):
    x = None if model.trainable_feat else jnp.asarray(X, dtype)
    hiddens = jnp.asarray(HIDDENS, dtype)
    h = model.apply(variables, x, GRAPH, hiddens, method="encode")
    return h, model.apply(variables, h, PAIRS, method="score"), model.apply(variables, h, hiddens[-1], method="htc")


@pytest.mark.parametrize("name", slow.all_but({"degree, trained features"}, CONFIGS))
def test_forward_and_gradients(name: str, tmp_path):
    module = reference(CONFIGS[name])
    ckpt = converted(module, CONFIGS[name], tmp_path)
    assert ckpt.arch == "htgn"
    check_parity(module, ckpt, theirs, ours, single=name == "attention, trained rows")
    check_round_trip(ckpt, tmp_path)


def test_steps_skip_what_the_forward_pass_leaves_out(tmp_path):
    """Unused parameters hold indices in the optimizer and have no state; weight decay does not reach them."""
    config = CONFIGS["degree, trained features"]
    module = reference(config)
    optimizer = geoopt.optim.RiemannianAdam(module.parameters(), lr=0.01, weight_decay=5e-3)
    check_steps(module, optimizer, config, tmp_path, theirs, ours)


def test_layers_alone(tmp_path):
    """Convolutions without the recurrent part: features are tangents at the origin, heads and concatenation follow
    from shapes."""
    module = reference(CONFIGS["attention, trained rows"])
    state = {key: value for key, value in module.state_dict().items() if key.startswith("layer")}
    torch.save(state, tmp_path / "model.pth")
    ckpt = load(tmp_path / "model.pth", config={"curvature": [0.7, 1.6, 0.4]})
    balls = module.balls()
    x = 0.3 * RNG.normal(size=(NODES, 2 * OUT))
    h = balls[0].expmap0(torch.as_tensor(x))
    h = module.layer2(balls[1], balls[2], module.layer1(balls[0], balls[1], h, TORCH_GRAPH), TORCH_GRAPH)
    have = jax.jit(partial(ckpt.model.apply, method="encode"))(ckpt.variables, x, GRAPH)
    np.testing.assert_allclose(have, h.detach().numpy(), rtol=0, atol=1e-7)
    with pytest.raises(ConversionError, match="curvature"):
        load(tmp_path / "model.pth")


def test_without_hidden_states_starts_at_the_origin():
    module = reference(CONFIGS["degree, trained features"])
    zero = torch.zeros(1, NODES, OUT, dtype=torch.float64)
    assert torch.equal(module.encode(None, TORCH_GRAPH), module.encode(None, TORCH_GRAPH, zero))
