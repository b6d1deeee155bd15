"""The reader against torch.load: every format, type and layout, and what it recovers of manifolds and modules."""

from __future__ import annotations

import argparse
import json
import pathlib
import struct
import sys
import types
import zipfile

import geoopt
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

import weights
from parity_tests import draws
from parity_tests.weights.helpers import Net, assert_deep_equal
from weights import Refused, Unreadable
from weights.files.dtypes import NUMPY, SAFETENSORS, STORAGE_OF
from weights.files.pickles.standins import state_dict
from weights.files.reader import read
from weights.files.sections import split
from weights.files.writer import write
from weights.mapping.manifold_trees import curvature

FORMS = [(True, 2), (True, 5), (False, 2), (False, 4)]


def bits(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def torch_bits(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize(("zipped", "protocol"), FORMS)
def test_every_type_and_layout(tmp_path, zipped, protocol):
    names = [n for n in NUMPY if zipped or n in STORAGE_OF]
    tree = {n: torch.arange(12).reshape(3, 4).to(getattr(torch, n)) for n in names}
    base = torch.randn(4, 6)
    tree |= {
        "transposed": base.t(),
        "slice": base[1:, ::2],
        "expanded": torch.randn(1, 3).expand(5, 3),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
    }
    torch.save(tree, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    found = read(tmp_path / "x.pth").root
    assert list(found) == list(tree)
    for key, tensor in tree.items():
        assert found[key].shape == tuple(tensor.shape)
        assert bits(found[key].array()) == torch_bits(tensor), key


@pytest.mark.parametrize("zipped", [True, False])
def test_ties_survive(tmp_path, zipped):
    weight = torch.randn(3, 3)
    torch.save(
        {"a": weight, "b": weight, "c": weight.t(), "d": weight.clone()},
        tmp_path / "x.pth",
        _use_new_zipfile_serialization=zipped,
    )
    found = read(tmp_path / "x.pth").root
    assert found["a"].place == found["b"].place
    assert found["c"].storage is found["a"].storage
    assert found["d"].storage is not found["a"].storage


def test_big_endian_and_compressed_entries(tmp_path):
    torch.save({"w": torch.randn(5, 2), "h": torch.randn(3).half()}, tmp_path / "x.pth")
    want = torch.load(tmp_path / "x.pth")
    with (
        zipfile.ZipFile(tmp_path / "x.pth") as old,
        zipfile.ZipFile(tmp_path / "y.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            data = old.read(name)
            if "/data/" in name:
                size = 4 if name.endswith("/0") else 2
                data = b"".join(data[i : i + size][::-1] for i in range(0, len(data), size))
            new.writestr(name, b"big" if name.endswith("byteorder") else data)
    found = read(tmp_path / "y.pth").root
    assert all(np.array_equal(found[k].array(), want[k].numpy()) for k in want)


@pytest.mark.parametrize(("zipped", "protocol"), FORMS)
def test_manifold_parameters_keep_their_manifold(tmp_path, zipped, protocol):
    net = Net(c=0.7)
    torch.save(
        dict(net.named_parameters()),
        tmp_path / "x.pth",
        _use_new_zipfile_serialization=zipped,
        pickle_protocol=protocol,
    )
    found = read(tmp_path / "x.pth").root
    assert found["emb"].kind == "manifold"
    assert found["emb"].manifold.name.endswith(".PoincareBall")
    assert curvature(found["emb"].manifold) == pytest.approx(0.7, rel=1e-6)
    assert found["lin.weight"].kind == "parameter"
    assert bits(found["emb"].array()) == torch_bits(net.emb)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_whole_module(tmp_path, zipped):
    net = Net()
    net.act, net.function = torch.relu, torch.nn.functional.relu
    net.register_buffer("transient", torch.zeros(2), persistent=False)
    torch.save(net, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    found = state_dict(read(tmp_path / "x.pth").root)
    assert list(found) == list(net.state_dict())
    assert all(bits(found[k].array()) == torch_bits(v) for k, v in net.state_dict().items())
    write(tmp_path / "y.pth", read(tmp_path / "x.pth").root)
    assert_deep_equal(net.state_dict(), torch.load(tmp_path / "y.pth", weights_only=False).state_dict())


def test_hypll_tensors(tmp_path, monkeypatch):
    module = types.ModuleType("hypll.tensors.manifold_tensor")
    curved = types.ModuleType("hypll.manifolds.poincare_ball.manifold")

    class ManifoldTensor:
        pass

    class PoincareBall(torch.nn.Module):
        pass

    class Curvature(torch.nn.Module):
        pass

    for home, cls in ((module, ManifoldTensor), (curved, PoincareBall), (curved, Curvature)):
        cls.__module__, cls.__qualname__ = home.__name__, cls.__name__
        setattr(home, cls.__name__, cls)
    for name in ("hypll", "hypll.tensors", "hypll.manifolds", "hypll.manifolds.poincare_ball"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(sys.modules, curved.__name__, curved)
    ball = PoincareBall()
    ball.c = Curvature()
    ball.c.value = torch.nn.Parameter(torch.tensor(0.3))
    value = ManifoldTensor()
    value.tensor, value.manifold, value.man_dim = torch.randn(4, 2), ball, 1
    torch.save({"fc.z": value, "fc.bias": torch.zeros(2)}, tmp_path / "x.pth")
    parts = split(read(tmp_path / "x.pth").root)
    assert list(parts.tensors) == ["fc.z", "fc.bias"]
    assert bits(parts.tensors["fc.z"].array()) == torch_bits(value.tensor)
    assert curvature(parts.tensors["fc.z"].manifold) == pytest.approx(float(torch.nn.functional.softplus(torch.tensor(0.3))), rel=1e-6)


def test_plain_data_around_the_tensors(tmp_path):
    tree = {
        "args": argparse.Namespace(lr=0.1, name="x"), "array": np.arange(6.0).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "scalar": np.float64(0.1), "size": torch.Size([2, 3]), "path": pathlib.PurePosixPath("a/b"), "set": {1, 2}, "complex": 1j,
        "long": 1 << 70, "bytes": b"\x00\xff", "nan": float("nan"), "w": torch.ones(2),
    }  # fmt: skip
    for protocol in (2, 4):
        torch.save(tree, tmp_path / "x.pth", pickle_protocol=protocol)
        write(tmp_path / "y.pth", read(tmp_path / "x.pth").root, overwrite=True)
        assert_deep_equal(tree, torch.load(tmp_path / "y.pth", weights_only=False))
    assert split(read(tmp_path / "x.pth").root).config == {"lr": 0.1, "name": "x"}


@pytest.mark.parametrize("wrapper", ["model", "params", "state_dict", "model_state_dict"])
def test_wrappers_and_prefixes(tmp_path, wrapper):
    plain = Net().state_dict()
    for prefix in ("module.", "_orig_mod.module.", "module._orig_mod."):
        torch.save({wrapper: {f"{prefix}{k}": v for k, v in plain.items()}, "epoch": 7}, tmp_path / "x.pth")
        parts = split(read(tmp_path / "x.pth").root)
        assert list(parts.tensors) == list(plain)
        assert (parts.prefix, parts.epoch) == (prefix, 7)


def test_safetensors_and_shards(tmp_path):
    import ml_dtypes

    arrays = {
        "a": draws.rng(0).standard_normal((3, 4)).astype(np.float32),
        "b": np.arange(5),
        "c": np.ones((2, 2), ml_dtypes.bfloat16),
        "d": np.float64(2.0)[None],
    }
    safetensors.numpy.save_file(arrays, tmp_path / "x.safetensors")
    found = read(tmp_path / "x.safetensors").root
    assert all(bits(found[k].array()) == bits(v) and found[k].array().dtype == v.dtype for k, v in arrays.items())
    narrow = {str(dtype): torch.arange(4.0).to(dtype) for dtype in (torch.float8_e4m3fn, torch.float8_e5m2)}
    safetensors.torch.save_file(narrow, tmp_path / "narrow.safetensors")
    found = read(tmp_path / "narrow.safetensors").root
    assert {name: found[name].array().astype(np.float32).tolist() for name in narrow} == {name: [0, 1, 2, 3] for name in narrow}
    safetensors.numpy.save_file({"a": arrays["a"]}, tmp_path / "one.safetensors")
    kinds = {n: torch.arange(1, 13).reshape(3, 4).to(getattr(torch, n)) for n in NUMPY if n in SAFETENSORS.values()}
    safetensors.torch.save_file(kinds, tmp_path / "kinds.safetensors")
    found = read(tmp_path / "kinds.safetensors").root
    assert {n: (found[n].dtype, bits(found[n].array())) for n in kinds} == {n: (n, torch_bits(t)) for n, t in kinds.items()}
    torch.save({"b": torch.from_numpy(arrays["b"])}, tmp_path / "two.bin")
    index = tmp_path / "m.index.json"
    index.write_text(json.dumps({"weight_map": {"b": "two.bin", "a": "one.safetensors"}}))
    assert list(read(index).root) == ["b", "a"]
    index.write_text(json.dumps({"weight_map": {"a": "../one.safetensors"}}))
    with pytest.raises(Refused, match="not a file beside it"):
        read(index)
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors", "z": "two.bin"}}))
    with pytest.raises(Unreadable, match=r"'z' in 'two\.bin'"):
        read(index)


def test_the_metadata_of_safetensors_come_back(tmp_path):
    told, arrays = {"manifold": "PoincareBall", "c": "0.7"}, {"a": torch.ones(2), "b": torch.ones(3)}
    for name in arrays:
        safetensors.torch.save_file({name: arrays[name]}, tmp_path / f"{name}.safetensors", metadata=told)
    safetensors.torch.save_file(arrays, tmp_path / "plain.safetensors")
    (tmp_path / "m.index.json").write_text(json.dumps({"weight_map": {name: f"{name}.safetensors" for name in arrays}}))
    for name, expected in (("a.safetensors", told), ("m.index.json", told), ("plain.safetensors", {"format": "pt"})):
        ckpt = weights.load(tmp_path / name, arch="tree")
        assert ("__metadata__" in ckpt.report["not_converted"]) == (expected is told)
        ckpt.save(tmp_path / "c.npz", overwrite=True)
        weights.export(tmp_path / "c.npz", tmp_path / "back.safetensors", overwrite=True)
        with safetensors.safe_open(tmp_path / "back.safetensors", "np") as file:
            assert file.metadata() == expected
        ckpt.export(tmp_path / "back.pth", overwrite=True)
        assert vars(torch.load(tmp_path / "back.pth", weights_only=True)) == vars(read(tmp_path / "back.pth").root) == {}


def test_what_is_no_checkpoint(tmp_path):
    for name, data in {
        "text": b"hello world",
        "empty": b"",
        "pickle": b"\x80\x04K\x01.",
        "zip": b"PK\x03\x04" + b"\0" * 50,
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(Unreadable) as caught:
            read(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
    with pytest.raises(Unreadable, match="No such file"):
        read(tmp_path / "absent")


@pytest.mark.parametrize("zipped", [True, False])
def test_truncation_anywhere_is_found(tmp_path, zipped):
    torch.save({"model": Net().state_dict()}, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    data = (tmp_path / "x.pth").read_bytes()
    for end in [*range(0, len(data), max(1, len(data) // 60)), len(data) - 1]:
        (tmp_path / "y.pth").write_bytes(data[:end])
        with pytest.raises((Unreadable, Refused)):
            read(tmp_path / "y.pth")


def test_a_flipped_bit_in_a_tensor_is_found(tmp_path):
    torch.save({"w": torch.ones(1000)}, tmp_path / "x.pth")
    data = bytearray((tmp_path / "x.pth").read_bytes())
    at = data.find(struct.pack("<f", 1.0) * 8) + 100
    data[at] ^= 1
    (tmp_path / "x.pth").write_bytes(data)
    tensor = read(tmp_path / "x.pth").root["w"]
    with pytest.raises(Unreadable, match="checksum"):
        tensor.array()


def test_geoopt_manifolds_of_other_kinds(tmp_path):
    manifolds = {"lorentz": geoopt.Lorentz(k=1.5), "k": geoopt.Stereographic(k=-0.3), "flat": geoopt.Euclidean()}
    tree = {n: geoopt.ManifoldParameter(m.origin(2, 4), manifold=m) for n, m in manifolds.items()}
    torch.save(tree, tmp_path / "x.pth")
    found = read(tmp_path / "x.pth").root
    assert [curvature(found[n].manifold) for n in manifolds] == [1.5, pytest.approx(-0.3), None]


def test_strings_of_python_2(tmp_path):
    """Decoded as torch does; bytes that are no text stay bytes, where torch raises."""
    for text, want in ((b"plain", "plain"), ("e\u0301".encode(), "e\u0301"), (b"\xff\xfe", b"\xff\xfe")):
        for code in (b"U" + bytes([len(text)]), b"T" + struct.pack("<i", len(text))):
            with zipfile.ZipFile(tmp_path / "x.pth", "w") as file:
                file.writestr("a/data.pkl", b"\x80\x02}X\x01\x00\x00\x00a" + code + text + b"s.")
                file.writestr("a/version", b"3\n")
            assert read(tmp_path / "x.pth").root == {"a": want}
            if code[:1] == b"U" and isinstance(want, str):
                assert torch.load(tmp_path / "x.pth") == {"a": want}


def test_a_tensor_that_is_refused_is_named(tmp_path):
    points = torch.randn(3, 2, dtype=torch.complex64)
    odd = {
        "conjugated": (points.conj(), "lazy marks"),
        "negative": (points.conj().imag, "lazy marks"),
        "narrow": (torch.zeros(2, dtype=torch.complex32), "type torch.complex32"),
        "quantized": (torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "quantized"),
    }
    for key, (tensor, why) in odd.items():
        for held in (tensor, torch.nn.Parameter(tensor, requires_grad=False)):
            for tree in ({"model": {"w": torch.ones(2), key: held}}, {key: held}, {"model": {"w": torch.ones(2), "more": {key: [held]}}}):
                torch.save(tree, tmp_path / "x.pth")
                with pytest.raises((Refused, Unreadable), match=rf"at '{key}', a tensor .*{why}"):
                    read(tmp_path / "x.pth")


def test_a_tensor_that_torch_would_not_unpack(tmp_path):
    """An entry that is marked as a folder: torch gives whatever was in the memory."""
    torch.save({"w": torch.randn(5, 2)}, tmp_path / "x.pth")
    with zipfile.ZipFile(tmp_path / "x.pth") as old, zipfile.ZipFile(tmp_path / "y.pth", "w") as new:
        for name in old.namelist():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0x10 if name.endswith("data/0") else 0
            new.writestr(info, old.read(name))
    with pytest.raises(Unreadable, match="data/0' is marked as a folder and has 40 bytes"):
        read(tmp_path / "y.pth")
