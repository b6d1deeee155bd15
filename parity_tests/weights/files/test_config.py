"""Configurations that are given as mappings: plain values, and what has no place in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import weights
from parity_tests.models.small_models import CASES
from weights import ConversionError
from weights.files.config import read_config


def test_numbers_of_numpy_are_plain_ones():
    given = {
        "c": np.float64(0.7),
        "dims": np.arange(3),
        "one": np.array(2),
        "deep": [(np.bool_(True), {"x": np.float32(0.5)})],
        "at": Path("a"),
    }
    found = read_config(given, {"c": 1.0, "kept": "x"})
    assert found == {"c": 0.7, "kept": "x", "dims": [0, 1, 2], "one": 2, "deep": [(True, {"x": 0.5})], "at": "a"}
    assert found is not None
    assert [type(found[key]) for key in ("c", "one")] == [float, int]


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    "value", [b"x", {1}, 1j, print, object(), LOOP, {"a": {1: 2}}, np.array([None, b"x"])], ids=lambda v: type(v).__name__
)
def test_what_json_does_not_have_is_named(value: object):
    with pytest.raises(ConversionError, match=r"the configuration's 'dropout' is .*, which JSON does not have"):
        read_config({"dropout": value}, None)
    with pytest.raises(ConversionError, match="has the key 3, which is not text"):
        read_config({3: "x"}, None)  # pyright: ignore[reportArgumentType]


def test_a_model_takes_a_configuration_of_numpy_and_keeps_it(tmp_path: Path):
    import torch

    module, config = CASES["shallow"][0]()
    torch.save({"model": module.state_dict()}, tmp_path / "x.pth")
    given = {
        key: np.float64(value) if type(value) is float else np.int64(value) if type(value) is int else value
        for key, value in config.items()
    }
    assert given != {}
    ckpt = weights.load(tmp_path / "x.pth", given, arch="shallow")
    ckpt.save(tmp_path / "c.npz")
    assert weights.restore(tmp_path / "c.npz").config == ckpt.config
