"""Hypformer's three variants in Flax against the reference: outputs, gradients, steps of both optimizers, files, training, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from mpmath import workdps

from parity_tests import draws, slow
from parity_tests.models.cases_hypformer import CONFIGS, FEATURE_ROWS, GRAPH, Both, case, ours, theirs
from parity_tests.models.conversion import check_parity, check_round_trip, check_steps, converted, pulled
from parity_tests.models.fixtures import agreed, require
from parity_tests.models.graph_models import NODES, TORCH_GRAPH
from parity_tests.models.known_masks import with_known_masks
from parity_tests.models.paper_hypformer import Paper
from parity_tests.oracle.networks import exactly
from parity_tests.tolerances import relative_error
from parity_tests.weights.helpers import assert_deep_equal, run
from port_jax.models import Hypformer
from reference_torch.graphs.graph import Graph as TorchGraph
from weights.checkpoint import load, restore
from weights.errors import ConversionError, Unmatched, Usage
from weights.mapping.entries import flatten
from weights.proof.flax_run import QUICK as QUICK_PROGRAMS

QUICK = {"medium", "Hypformer"}


@pytest.mark.parametrize("name", slow.all_but(QUICK, CONFIGS))
def test_outputs_gradients_and_the_way_back(name: str, tmp_path: Path):
    module, config = case(name)
    ckpt = converted(module, config, tmp_path)
    assert ckpt.arch == "hypformer"
    check_parity(module, ckpt, theirs, ours, single=name not in QUICK)
    check_round_trip(ckpt, tmp_path)


STEPS = [("medium", "RiemannianAdam"), ("Hypformer", "RiemannianSGD"), ("large", ""), ("large, full", "RiemannianAdam")]


@pytest.mark.parametrize(("name", "points"), slow.all_but(set(STEPS[:2]), STEPS))
def test_both_optimizers_go_on(name: str, points: str, tmp_path: Path):
    """Adam of what is flat, L2 decay included, and that of the points; what has no gradient stays, and the file comes back bit by bit."""
    module, config = case(name)
    dead = {key: p.detach().clone() for key, p in module.named_parameters()}
    check_steps(module, Both(module.parameters(), points), config, tmp_path, theirs, ours)  # pyright: ignore[reportArgumentType]
    ckpt = load(tmp_path / "trained.pth", config=config)
    assert [plan.table for plan in ckpt.plans] == ["Adam", *([points] if points else [])]
    used = {entry.key for entry in ckpt.entries if entry.role == "parameter"}
    assert all(p.grad is None and torch.equal(p, dead[key]) for key, p in module.named_parameters() if key not in used)
    ckpt.save(tmp_path / "folder")
    for n, source in enumerate((ckpt, restore(tmp_path / "folder"))):
        source.export(tmp_path / f"{n}.pth")
        assert_deep_equal(*(torch.load(tmp_path / file, weights_only=False) for file in ("trained.pth", f"{n}.pth")))


def exact_logits(module: Any, config: dict[str, Any], variant: str) -> np.ndarray:
    state = {key: tensor.numpy() for key, tensor in module.state_dict().items()}
    with workdps(50):
        edges = TORCH_GRAPH.senders.numpy(), TORCH_GRAPH.receivers.numpy()
        return np.array(Paper(exactly(state), config, variant).logits(exactly(FEATURE_ROWS), *edges), float)


@pytest.mark.parametrize("name", slow.all_but(QUICK, CONFIGS))
def test_formulas_at_50_digits(name: str, tmp_path: Path):
    """What each variant computes, in both packages; the variants differ."""
    module, config = case(name)
    ckpt = converted(module, config, tmp_path)
    outs = theirs(module, torch.float64)
    found, _ = pulled(ckpt, ours, [np.ones(out.shape) for out in outs])
    want = exact_logits(module, config, config["variant"])
    for have in (outs[-1].detach(), found[-1]):
        assert relative_error(have, want) < 1e-12
    others = [
        exact_logits(module, config, variant) for variant in ("medium", "large", "Hypformer", "right") if variant != config["variant"]
    ]
    assert all(relative_error(other, want) > 1e-8 for other in others if name == "medium")


def test_the_right_formulas_at_50_digits(tmp_path: Path):
    """With as_trained=False: features lifted by exp_0, points carried from radius to radius, states on k_hidden, squared distances."""
    module, config = case("medium")
    ckpt = converted(module, config, tmp_path)
    assert ckpt.model.as_trained
    right = ckpt.model.clone(as_trained=False, k_hidden=config["k_hidden"])
    found = jax.jit(lambda v: right.apply(v, jnp.asarray(FEATURE_ROWS), GRAPH), compiler_options=QUICK_PROGRAMS)(ckpt.variables)
    assert relative_error(found, exact_logits(module, config, "right")) < 1e-12


def test_training_with_the_same_masks(tmp_path: Path, monkeypatch):
    """Dropout of the transformer's states and after each ReLU of the graph network, statistics of the batch, and the running ones."""
    module, config = case("medium")
    ckpt = converted(module, config, tmp_path)
    rest = {name: value for name, value in ckpt.variables.items() if name != "params"}

    def run_flax(params: Any) -> Any:
        variables = {"params": params, **rest}
        rngs = {"dropout": draws.key(3)}
        return ckpt.model.apply(variables, jnp.asarray(FEATURE_ROWS), GRAPH, train=True, mutable=["batch_stats"], rngs=rngs)

    (have, written), masks = with_known_masks(run_flax, ckpt.variables["params"], [0.2, 0.4, 0.4, 0.4], 5)
    left = list(masks)

    def dropout(x: torch.Tensor, p: float, training: bool = True, inplace: bool = False) -> torch.Tensor:
        return x * torch.as_tensor(left.pop(0)) / (1 - p) if training else x

    monkeypatch.setattr(torch.nn.functional, "dropout", dropout)
    want = module.train()(torch.as_tensor(FEATURE_ROWS), TorchGraph(TORCH_GRAPH.senders, TORCH_GRAPH.receivers, NODES))
    assert not left
    assert relative_error(have, want.detach()) < 1e-12
    flat, buffers = flatten(written), dict(module.named_buffers())
    for entry in ckpt.entries:
        if entry.role == "buffer":
            assert relative_error(flat[str(entry.path)], buffers[entry.key]) < 1e-12, entry.key


def test_a_file_does_not_say_its_variant(tmp_path: Path, monkeypatch, capsys):
    """`inspect` knows the model, asks for the variant by name, and says what depends on it."""
    module, config = case("medium")
    path = tmp_path / "model.pth"
    torch.save({"model": module.state_dict()}, path)
    code, out, err = run(monkeypatch, capsys, "inspect", path)
    told = " ".join((out + err).split())
    assert "hypformer" in told
    for part in ("variant is neither in the file", "logits with a product divided by k", "'medium', 'large', 'Hypformer'"):
        assert part in told.replace("│ ", ""), (code, told)
    with pytest.raises(Usage, match="variant is neither in the file nor in the configuration"):
        load(path)
    left_out = load(path, config={"variant": "medium"})
    assert left_out.report["settings"]["trans_use_bn"] == {"value": False, "from": "default", "in_file": False}
    assert load(path, config={"variant": "large"}).settings["use_graph"] is False
    assert left_out.report["settings"]["k_out"]["value"] == pytest.approx(config["k_out"], rel=1e-7)


def test_what_does_not_fit_is_refused(tmp_path: Path):
    module, config = case("medium")
    state, path = dict(module.state_dict()), tmp_path / "x.pth"

    def refused(changed: dict[str, torch.Tensor], match: str, **more: Any) -> None:
        torch.save(changed, path)
        with pytest.raises(ConversionError, match=match) as error:
            load(path, config={**config, **more})
        assert isinstance(error.value, Unmatched)

    bare = {key: value for key, value in state.items() if not key.startswith("graph_conv.")}
    refused(state, "variant is 'small'; Hypformer's code has medium, large, Hypformer", variant="small")
    refused(state, "variant is 'Hypformer', whose models never have a graph network, and the file has one", variant="Hypformer")
    refused(bare, "variant is 'large', whose models always have a graph network, and the file has none", variant="large", use_graph=0)
    refused(state, "attention_type is 'linear'; Hypformer's code has linear_focused and full", attention_type="linear")
    refused(state, "gives curvature 0.69.*, the configuration gives 0.9", k_out=0.9)
    refused({**state, "manifold_hidden.k": torch.tensor(1.0).double()}, "manifold_hidden.k is missing or differs from manifold_out.k")
    refused({**state, "trans_conv.fcs.0.bias.k": torch.tensor(1.0).double()}, "fcs.0.bias.k' differs from 'manifold_hidden.k'")
    refused({**state, "decode_trans.cls": state["decode_trans.cls"] + 1}, "cls' contains a point that is not on its Lorentz")
    refused(state, "use_graph", use_graph=0)
    with pytest.raises(ValueError, match="graph: found none, and use_graph is True"):
        Hypformer(5, 4, 3).init(draws.key(0), jnp.zeros((2, 5)))
    with pytest.raises(ValueError, match="this model has no graph network"):
        Hypformer(5, 4, 3, use_graph=False).init(draws.key(0), jnp.zeros((17, 5)), GRAPH, method="encode_graph")


FOLDERS = ("hypformer_medium_hyp", "hypformer_medium_full")


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS)
def test_what_the_authors_code_computed(folder: str):
    """Points, states of the graph network, logits, gradients, the parameters of both optimizers, and ten steps of them."""
    ckpt, rows = agreed(folder)
    assert {"embeddings", "logits", "losses before 10 steps"} <= {row.what for row in rows}
    with np.load(require(folder) / "expected.npz") as found:
        without = {str(key) for key in found["without_gradient"]}
    assert not without & {entry.key for entry in ckpt.entries if entry.role == "parameter"}
