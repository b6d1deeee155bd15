"""Settings of a file's optimizer: refused with group, name, value and remedy, or carried and told."""

from __future__ import annotations

import pytest
import torch

import weights
from parity_tests.weights.helpers import assert_deep_equal, run, trained
from weights import Unmatched, Usage


def saved(path, **settings):
    _, opt = trained(lambda p: torch.optim.Adam([next(iter(p))], 0.1))
    state = opt.state_dict()
    state["param_groups"][0].update(settings)
    torch.save({"model": {"w": opt.param_groups[0]["params"][0].detach()}, "optimizer": state}, path)
    return path


def loaded(path, **options):
    from port_jax.manifolds import Euclidean

    return weights.load(path, arch="tree", manifolds={"*": Euclidean()}, **options)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (
            {"caution": True},
            r"optimizer's param_groups\[0\]\['caution'\] is True.*timm\. Remove it.*"
            r"optimizer='Adam'.*--optimizer-class Adam.*--no-optimizer",
        ),
        ({"lr": "0.1"}, r"param_groups\[0\]\['lr'\] is '0\.1'.*Set it and save again, or.*--no-optimizer"),
        ({"maximize": "x"}, r"param_groups\[0\]\['maximize'\] is 'x'.*True or False"),
        ({"betas": (0.9,)}, r"param_groups\[0\]\['betas'\] is \[0\.9\].*two numbers in \[0, 1\)"),
        ({"eps": torch.float32}, r"param_groups\[0\]\['eps'\] is"),
    ],
)
def test_refused_with_name_value_and_remedy(tmp_path, setting, told):
    with pytest.raises(Unmatched, match=told):
        loaded(saved(tmp_path / "x.pth", **setting))


def test_what_no_step_reads_is_carried_and_told(tmp_path, monkeypatch, capsys):
    path = saved(tmp_path / "x.pth", group_name="all", lr_scale=0.5, caution=False)
    ckpt = loaded(path)
    told = [f"param_groups[0][{text}" for text in ("'group_name'] is 'all'", "'lr_scale'] is 0.5", "'caution'] is False")]
    assert ckpt.report["optimizer"]["carried"] == told
    code, out, _ = run(
        monkeypatch, capsys, "convert", str(path), "--arch", "tree", "--manifold", "*=Euclidean", "--out", str(tmp_path / "o")
    )
    assert code == 0
    assert "read by no step of Adam, and written again by export: param_groups[0]['group_name'] is 'all'" in " ".join(out.split())
    again = weights.restore(tmp_path / "o")
    assert again.plans == ckpt.plans
    again.export(tmp_path / "y.pth")
    assert_deep_equal(torch.load(path), torch.load(tmp_path / "y.pth"))


def test_the_class_by_name_answers_for_its_settings(tmp_path):
    ckpt = loaded(saved(tmp_path / "x.pth", caution=True), optimizer="Adam")
    assert ckpt.report["optimizer"]["carried"] == ["param_groups[0]['caution'] is True"]


def test_a_group_without_parameters(tmp_path, monkeypatch, capsys):
    """As of no_decay = []. It leaves no doubt, and can be given."""
    w, v = (torch.nn.Parameter(torch.ones(3)) for _ in "wv")
    for others, given in (([], []), ([], ["--group", "w", "--group", ""]), ([v], ["--group", "w", "--group", "", "--group", "v"])):
        opt = torch.optim.AdamW([{"params": [w]}, {"params": [], "weight_decay": 0.0}, *[{"params": [p]} for p in others]], lr=0.1)
        w.grad = v.grad = torch.ones(3)
        opt.step()
        model = {"w": w.detach()} | ({"v": v.detach()} if others else {})
        torch.save({"model": model, "optimizer": opt.state_dict()}, tmp_path / "x.pth")
        call = ("convert", tmp_path / "x.pth", "--arch", "tree", "--out", tmp_path / "out.npz", "--force")
        code, _, errors = run(monkeypatch, capsys, *call, *given)
        assert code == 0, errors
        assert weights.restore(tmp_path / "out.npz").plan.parts == [["w"], [], *[["v"] for _ in others]]
    code, _, errors = run(monkeypatch, capsys, *call)
    assert code == Usage.exit_code
    assert "--group '' for one without parameters" in errors
