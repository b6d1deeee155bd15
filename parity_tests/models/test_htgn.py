"""HTGN in Flax against HTGN on geoopt: both aggregations, the GRU and the temporal attention, fixed and trained
curvature rows."""

from functools import partial

import geoopt
import jax
import mpmath
import numpy as np
import pytest
import torch

from parity_tests import draws, slow
from parity_tests.models.cases_htgn import CONFIGS, GRAPH, OUT, RNG, TORCH_GRAPH, ours, reference, theirs
from parity_tests.models.conversion import (
    NODES,
    check_parity,
    check_round_trip,
    check_steps,
    converted,
)
from parity_tests.models.known_masks import with_known_masks
from parity_tests.models.paper_htgn import Witness
from parity_tests.oracle.networks import exactly
from weights.checkpoint import load
from weights.errors import ConversionError


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


@pytest.mark.parametrize("aggregation", ["att", "deg"])
def test_three_steps_against_the_paper_at_50_digits(aggregation: str):
    """With a graph of its own for each step, and the window of hidden states that the authors' code moves on."""
    witness = Witness(aggregation)
    step, window = jax.jit(witness.step), witness.start
    for graph, truth in zip(witness.graphs, witness.truth(3), strict=True):
        have = step(witness.params, graph, window)
        for a, b in zip(have, truth, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)  # numbers of size 1, at radii below 0.9
        window = np.concatenate([window[1:], have[0][None]])


@pytest.mark.parametrize("aggregation", ["att", "deg"])
def test_dropout_in_training_at_50_digits(aggregation: str):
    """Masks over 1 - rate multiply the weights of the linear maps, and the attention of each edge and loop in each head."""
    witness = Witness(aggregation, dropout=0.4)
    run = lambda p: witness.step(p, witness.graphs[0], witness.start, deterministic=False, rngs={"dropout": draws.key(1)})  # noqa: E731
    names = ("weight", "edge", "self") if aggregation == "att" else ("weight",)
    have, drawn = with_known_masks(run, witness.params, [0.4] * 2 * len(names), 22)
    scaled = [exactly(mask.astype(float)) / (1 - mpmath.mpf(0.4)) for mask in drawn]
    masks = [dict(zip(names, scaled[i * len(names) :])) for i in range(2)]
    for a, b in zip(have, witness.truth(1, masks)[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
