"""A key dropped, renamed, repeated, transposed or of another size: each architecture's converter says which, and gives no model.

A square matrix that was transposed has the right shape. `verify` sees that one: see `test_verify.py`.
"""

from pathlib import Path

import pytest
import torch

from parity_tests import slow
from parity_tests.models.conversion import spoiled
from parity_tests.models.small_models import CASES
from weights.checkpoint import load
from weights.errors import ConversionError
from weights.models import ARCHITECTURES


def test_every_architecture_is_here():
    assert set(CASES) == set(ARCHITECTURES)


@pytest.mark.parametrize("arch", slow.all_but(lambda arch: arch not in ("gil", "hgcn"), CASES))
def test_a_spoiled_key_is_refused(arch: str, tmp_path: Path):
    make, key = CASES[arch]
    module, config = make()
    state = dict(module.state_dict())
    path = tmp_path / "model.pth"
    torch.save(state, path)
    assert load(path, config=config).arch == arch
    assert state[key].shape[0] != state[key].shape[1]
    for how, bad in spoiled(state, key).items():
        if arch == "poincare_embeddings" and how == "longer":
            continue  # a table with one node more
        torch.save(bad, path)
        with pytest.raises(ConversionError) as error:
            load(path, config=config)
        message = str(error.value)
        assert str(path) in message, how
        assert not any(word in message for word in ("Traceback", "KeyError")), how
