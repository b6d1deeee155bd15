"""Models made in JAX, written as torch files: the torch reference loads them, computes the same and goes on with the optimizer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import weights
from parity_tests import draws, slow
from parity_tests.models.small_models import CASES
from parity_tests.weights.made_in_jax import ADAM, CONFIG, born
from port_jax.optim import riemannian_adam
from reference_torch.models.hnn import HNN
from weights.errors import Usage
from weights.models import ARCHITECTURES
from weights.proof.reading import Said
from weights.proof.verify import failed, verify


@pytest.mark.slow  # test_the_reference_of_each_architecture_loads_it is its like
def test_a_model_trained_in_jax_goes_on_in_torch(tmp_path: Path):
    """Five steps of riemannian_adam here, the file, three more on both sides."""
    params = born("hnn", CONFIG)
    transformation = riemannian_adam(0.02, weight_decay=0.01, manifolds=ARCHITECTURES["hnn"].build(CONFIG).manifolds)
    state = transformation.init(params)

    def step(params: Any, state: Any, number: int) -> tuple[Any, Any, Any]:
        slopes = jax.tree.map(lambda p: jnp.asarray(draws.rng(number).standard_normal(p.shape)), params)
        updates, state = transformation.update(slopes, state, params)
        return optax.apply_updates(params, updates), state, slopes

    for number in range(5):
        params, state, _ = step(params, state, number)
    ckpt = weights.Checkpoint.of("hnn", params, CONFIG, optimizer=ADAM, opt_state=state)
    ckpt.export(tmp_path / "x.pth")
    saved = torch.load(tmp_path / "x.pth", weights_only=True)
    module = HNN(**{name: value for name, value in CONFIG.items() if name != "model"}).double()
    module.load_state_dict(saved["model"])
    back = weights.load(tmp_path / "x.pth", config=CONFIG)
    jax.tree.map(np.testing.assert_array_equal, back.variables["params"], params)
    jax.tree.map(np.testing.assert_array_equal, jax.tree.leaves(back.opt_state), jax.tree.leaves(state))
    rows = verify(back, tmp_path / "x.pth", said=Said(config=CONFIG), types=("float64",))
    assert not failed(rows), [row for row in rows if not row.ok]
    assert not any("fresh" in row.what for row in rows)


@pytest.mark.parametrize("arch", slow.all_but({"hgat", "hybonet", "murp"}, CASES))
def test_the_reference_of_each_architecture_loads_it(arch: str, tmp_path: Path):
    """From the settings of a converted model, and other parameters."""
    make, _ = CASES[arch]
    module, config = make()
    torch.save(module.state_dict(), tmp_path / "x.pth")
    first = weights.load(tmp_path / "x.pth", config=config)
    params = jax.tree.map(lambda leaf: 1.01 * leaf, first.variables["params"])
    made = weights.Checkpoint.of(arch, params, first.settings, optimizer={"name": "RiemannianSGD", "lr": 0.1})
    made.export(tmp_path / "y.pth")
    saved = torch.load(tmp_path / "y.pth", weights_only=True)["model"]
    module.load_state_dict(saved)
    jax.tree.map(
        np.testing.assert_array_equal, weights.load(tmp_path / "y.pth", config=config, optimizer=False).variables["params"], params
    )
    made.save(tmp_path / "out")
    jax.tree.map(np.testing.assert_array_equal, weights.restore(tmp_path / "out").variables["params"], params)


def test_what_does_not_belong_together_is_named():
    params = born("hnn", CONFIG, jnp.float32)
    of = weights.Checkpoint.of
    with pytest.raises(Usage, match=r"'tree' is no architecture with a torch reference.*hgat"):
        of("tree", params, CONFIG)
    with pytest.raises(Usage, match=r"params at decoder/linear/kernel is float32 \[4, 3\]; with these settings it is float32 \[8, 3\]"):
        of("hnn", params, {**CONFIG, "dim": 8})
    with pytest.raises(Usage, match="opt_state is given without its optimizer"):
        of("hnn", params, CONFIG, opt_state=())
    with pytest.raises(Usage, match="neither geoopt nor torch has an optimizer 'Adamant'"):
        of("hnn", params, CONFIG, optimizer={"name": "Adamant"})
    with pytest.raises(Usage, match=r"no optimizer can be made from its settings: .*rate"):
        of("hnn", params, CONFIG, optimizer={"name": "RiemannianAdam", "rate": 1})
    with pytest.raises(Usage, match="a parameter is not of a floating-point type"):
        of("hnn", {**params, "more": jnp.zeros(2, jnp.int32)}, CONFIG)
    other = riemannian_adam(0.1, manifolds=ARCHITECTURES["hnn"].build(CONFIG).manifolds, amsgrad=True).init(params)
    with pytest.raises(Usage, match=r"opt_state at .*; with these settings it is"):
        of("hnn", params, CONFIG, optimizer=ADAM, opt_state=other)
    assert replace(of("hnn", params, CONFIG), epoch=3).epoch == 3
