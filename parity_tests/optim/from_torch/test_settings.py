"""The settings of a group that no step reads, and those that no class can have."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from port_jax.optim.from_torch import from_torch
from port_jax.optim.from_torch.kinds import kind_named
from port_jax.optim.from_torch.settings import SettingError, check_values, unread

OTHER_STEPS = {
    "caution": (True, "occurs in timm"),
    "bias_correction": (False, "apex's FusedAdam"),
    "correct_bias": (False, "transformers"),
    "max_grad_norm": (1.0, "LAMB"),
    "use_gc": (True, "Ranger"),
    "trust_coefficient": (0.001, "LARS"),
    "rho": (0.05, "SAM"),
    "decay_type": ("stable", "no setting of Adam"),
    "unheard_of": (False, "no setting of Adam"),
    7: (0.5, "no setting of Adam"),
}
HARMLESS = {
    "max_lr": 0.3,
    "min_lr": 1e-6,
    "base_momentum": 0.85,
    "swa_lr": 0.05,
    "lr_mult": 0.1,
    "lr_scale": 0.7,
    "group_name": "decoder",
    "layer_id": 4,
    "names": ["w", "b"],
    "bias_correction": True,
    "caution": False,
    "max_grad_norm": 0,
    "unheard_of": None,
}
WRONG = {
    "lr": (None, "0.1", True, float("nan"), -0.1, (0.1,), np.ones(3)),
    "eps": ("x", None, -1e-8, float("inf")),
    "betas": ((0.9,), None, 0.9, (0.9, 0.99, 0.999), (0.9, "x"), (0.9, 1.0), (True, 0.9)),
    "weight_decay": ("0", False, None),
    "amsgrad": ("x", None, 2),
    "maximize": ("x", 0.5),
    "decoupled_weight_decay": ("x", {}),
}


def group(**more):
    return torch.optim.Adam([torch.zeros(2)], 0.1).state_dict()["param_groups"][0] | more


@pytest.mark.parametrize("name", OTHER_STEPS)
def test_a_setting_of_another_class_is_refused_by_name(name):
    value, told = OTHER_STEPS[name]
    saved = {"state": {}, "param_groups": [group() | {name: value}]}
    with pytest.raises(ValueError, match=rf"param_groups\[0\]\[{name!r}\] is {value!r}.*{told}.*optimizer='Adam'"):
        from_torch(saved, params={"a": np.zeros(2)}, names=["a"])
    from_torch(saved, params={"a": np.zeros(2)}, names=["a"], optimizer="Adam")


def test_what_no_step_reads_is_told():
    adam, first = kind_named("Adam"), group(step=3, initial_lr=0.1)
    assert unread(adam, [first], named=False) == []
    for name, value in HARMLESS.items():
        assert unread(adam, [first, {**first, name: value}], named=False) == [f"param_groups[1][{name!r}] is {value!r}"]
    assert unread(adam, [{**first, "caution": True}], named=True) == ["param_groups[0]['caution'] is True"]


def test_the_settings_of_every_kind_are_its_own():
    for name in ("Adam", "AdamW", "SGD", "RMSprop", "Adagrad"):
        saved = getattr(torch.optim, name)([torch.zeros(2)], lr=0.1).state_dict()["param_groups"]
        assert unread(kind_named(name), saved, named=False) == []
        check_values(kind_named(name), saved)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_value_that_no_class_can_have_is_named(name, value):
    with pytest.raises(SettingError, match=rf"param_groups\[1\]\['{name}'\] is ") as raised:
        check_values(kind_named("Adam"), [group(), group(**{name: value})])
    assert raised.value.remedy


def test_the_way_of_decay_is_the_classes_or_each_groups():
    """Groups of both ways are each translated by their own (`test_groups`)."""
    check_values(kind_named("Adam"), [group(), group(decoupled_weight_decay=True)])
    with pytest.raises(SettingError, match=r"'decoupled_weight_decay'\] is True, which Adam does not have: name the other"):
        check_values(kind_named("Adam"), [group(decoupled_weight_decay=True)] * 2)


def test_numbers_are_taken_in_any_form():
    ways = {"lr": (1, np.float32(0.1), np.array(0.1), np.array([0.1])), "betas": ([0.9, 0.99], (np.float64(0.9), np.array(0.9)), (0, 0.0)),
            "amsgrad": (np.True_, 0, 1)}  # fmt: skip
    for name, values in ways.items():
        for value in values:
            check_values(kind_named("Adam"), [group(**{name: value})])
    check_values(kind_named("RiemannianAdam"), [group(stabilize=None), group(stabilize=10)])
    with pytest.raises(SettingError, match="'stabilize'"):
        check_values(kind_named("RiemannianAdam"), [group(stabilize=0)])
