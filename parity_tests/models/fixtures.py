"""Checkpoints of authors' own training code, with what that code computed from them in float32."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from parity_tests.models.conversion import encoded_and_called
from port_jax.graphs import Graph
from weights.checkpoint import Checkpoint, load
from weights.proof.authors import of_authors
from weights.proof.rows import Row
from weights.proof.verify import failed
from weights.proof.witness import Witness

SHARED = Path(__file__).parents[3] / "shared" / "fixtures"

EMBEDDINGS, GRADIENTS, RESUMED = 1e-4, 1e-3, 1e-3
"""Gates; a plain translation reaches 4e-6 to 2e-5 on embeddings and 4e-5 on ten resumed losses, a wrong optimizer state 1e-1."""


def check_folder(folder: Path) -> list[str]:
    """Figures beyond their gates of one folder: embeddings, logits or scores, loss, gradient norms, and ten resumed steps."""
    with jax.enable_x64(False):
        z, config = dict(np.load(folder / "expected.npz")), json.loads((folder / "config.json").read_text())
        path = next(p for p in (folder / "full.pth", folder / "model.pth") if p.exists())
        ckpt = load(path, config=folder / "config.json")
        graph = Graph.from_edges(z["adj_col"], z["adj_row"], num_nodes=len(z["features"]), weights=z["adj_val"])
        x, model = jnp.asarray(z["features"]), ckpt.model

        def loss(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
            v = {**ckpt.variables, "params": params}
            h, logits = encoded_and_called(model, v, x, graph)
            if "logits" in z:
                picked = jax.nn.log_softmax(logits)[z["idx_train"], z["labels"][z["idx_train"]]]
                return -picked.mean(), {"embeddings": h, "logits": logits}
            true, false = (model.apply(v, h, z[name], method="score") for name in ("val_edges", "val_edges_false"))
            value = -(jax.nn.log_sigmoid(true).mean() + jax.nn.log_sigmoid(-false).mean())
            return value, {"embeddings": h, "val_scores": true}

        step = jax.jit(jax.value_and_grad(loss, has_aux=True))
        (value, outputs), grads = step(ckpt.variables["params"])
        figures = {name: (_relative(out, z[name]), EMBEDDINGS) for name, out in outputs.items()}
        figures["loss"] = (_relative(value, z["loss"]), EMBEDDINGS)
        norms = [sorted(n for g in tree if (n := float(np.linalg.norm(g))) > 1e-12)
                 for tree in (jax.tree.leaves(grads), [z[k] for k in z if k.startswith("grad/")])]  # fmt: skip
        figures["gradient norms"] = (
            _relative(*map(np.array, norms)) if len(norms[0]) == len(norms[1]) else np.inf,
            GRADIENTS,
        )
        if "resume_losses" in z:
            figures["resumed losses"] = (
                _relative(np.array(_resumed(ckpt, step, float(config["grad_clip"]))), z["resume_losses"]),
                RESUMED,
            )
        return [f"{name} {error:.1e} > {gate:.0e}" for name, (error, gate) in figures.items() if not error <= gate]


def require(folder: str) -> Path:
    """A folder of the authors' files. Skips the test where it is not here."""
    path = SHARED / folder
    if not path.exists():
        pytest.skip(f"{path} is not here: what the authors' code computed is no part of this project")
    return path


def agreed(folder: str, steps: bool = True) -> tuple[Checkpoint, list[Row]]:
    """The checkpoint of a folder and its rows beside the authors' arrays, none of which is beyond its gate; `steps`: with their steps."""
    path = require(folder)
    ckpt = load(path / "full.pth", config=path / "config.json")
    witness = Witness.read(path / "expected.npz", ckpt)
    rows = list(of_authors(ckpt, witness if steps else replace(witness, meta={**witness.meta, "resumed": None})))
    assert not failed(rows), [row for row in rows if not row.ok]
    return ckpt, rows


def _resumed(ckpt: Any, step: Any, clip: float, count: int = 10) -> list[float]:
    params, state, losses = ckpt.variables["params"], ckpt.opt_state, []

    @jax.jit
    def advance(params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
        scale = jnp.minimum(1.0, clip / (optax.global_norm(grads) + 1e-6))
        updates, state = ckpt.optimizer.update(jax.tree.map(lambda g: g * scale, grads), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(count):
        (value, _), grads = step(params)
        losses.append(float(value))
        params, state = advance(params, state, grads)
    return losses


def _relative(have: Any, want: Any) -> float:
    have, want = np.asarray(have), np.asarray(want)
    if have.shape != want.shape and have.size == want.size:
        have = have.reshape(want.shape)
    return float(np.max(np.abs(have - want)) / np.max(np.abs(want)))
