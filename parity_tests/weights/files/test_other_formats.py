"""Files and folders that people give by mistake are named for what they are, with a remedy."""

from __future__ import annotations

import gzip
import json
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.state_dict_saver import save

from parity_tests.weights.files import assembly
from parity_tests.weights.helpers import run
from weights import ConversionError
from weights.files.reader import read

LFS = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
)
FILES = {
    "pointer.pth": (LFS, "a pointer of git-lfs"),
    "page.pth": (b"<!DOCTYPE html>\n<html><head><title>Not found</title>", "a web page"),
    "error.pth": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a web page"),
    "empty.pth": (b"", "an empty file"),
    "text.pth": (b"just a text\nof two lines\n", "a text file"),
    "config.json.txt": (b'{"dim": 16}', "a JSON file"),
    "keras.h5": (b"\x89HDF\r\n\x1a\n" + bytes(40), "an HDF5 file"),
    "llama.gguf": (b"GGUF\3\0\0\0" + bytes(40), "a GGUF file"),
    "array.npy": (b"\x93NUMPY\1\0" + bytes(40), "a single array of numpy"),
    "model.pth.gz": (gzip.compress(b"x"), "packed by gzip"),
    "model.tar": (b"model.pth" + bytes(248) + b"ustar\x0000" + bytes(200), "a tar archive"),
    "model.onnx": (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0", "an ONNX graph"),
    "model.ckpt.index": (b"\0\0\1\2" + bytes(40), "a file of TensorFlow"),
    "noise.bin": (bytes(range(1, 255)), "neither one of torch's formats nor safetensors"),
    "__0_0.distcp": (b"PK" + bytes(40), "torch.distributed.checkpoint"),
}


@pytest.mark.parametrize("name", FILES)
def test_files(tmp_path: Path, monkeypatch, capsys, name: str):
    data, what = FILES[name]
    (tmp_path / name).write_bytes(data)
    code, out, err = run(monkeypatch, capsys, "inspect", tmp_path / name)
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert what in err
    assert f"{name}: " in err
    assert "not a checkpoint. " in err


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickles_of_others_name_their_class(tmp_path: Path, protocol: int):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(OrderedDict(a=np.arange(2)), protocol))
    with pytest.raises(ConversionError, match=r"a pickle that torch.save did not write \(it contains a collections.OrderedDict\)"):
        read(tmp_path / "x.pkl")


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["config.json", "metadata.json", "model.weights.h5"], "a model of Keras"),
        (["MAR-INF/MANIFEST.json", "model.pth"], "an archive of TorchServe"),
        (["run/model.pth", "run/log.txt"], "contains 'run/model.pth'"),
        (["w.npy", "b.npy"], r"arrays of numpy \(.npz\)"),
        (["a.txt"], "without data.pkl"),
    ],
)
def test_zip_files(tmp_path: Path, names: list[str], what: str):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        for name in names:
            file.writestr(name, b"x")
    with pytest.raises(ConversionError, match=what):
        read(tmp_path / "x.zip")


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_folder_of_several_processes_is_joined_by_the_call_that_is_named(tmp_path: Path):
    state = {"model": {"w": torch.arange(6.0).reshape(2, 3)}}
    save(state, checkpoint_id=tmp_path / "dcp", no_dist=True)
    for path in (tmp_path / "dcp", next((tmp_path / "dcp").glob("*.distcp"))):
        with pytest.raises(ConversionError, match=r"torch\.distributed\.checkpoint\.format_utils\.dcp_to_torch_save\(FOLDER, FILE\)"):
            read(path)
    dcp_to_torch_save(tmp_path / "dcp", tmp_path / "x.pth")
    assert read(tmp_path / "x.pth").root["model"]["w"].array().tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("name", ["tensor DTensor", "_shard.sharded_tensor.api ShardedTensor", "_tensor.api DTensor"])
def test_a_part_of_a_spread_tensor_is_named(tmp_path: Path, name: str):
    """FSDP's local and sharded state_dicts; the names are those that torch.save writes for them."""
    part, _, kind = name.partition(" ")
    body = assembly.dict_of(assembly.text("w"), assembly.called(f"torch.distributed.{part}", kind))
    with pytest.raises(ConversionError, match=r"spread over the processes.*format_utils\.dcp_to_torch_save.*get_model_state_dict"):
        read(assembly.archive(tmp_path / "x.pth", assembly.pickled(body)))


def test_folders(tmp_path: Path):
    def folder(name: str, *files: str) -> Path:
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text("x")
        return tmp_path / name

    for path, what in (
        (folder("empty"), r"a folder, not a file. Give the file that torch\.save wrote"),
        (folder("hub", "config.json", "model.safetensors"), "Give a checkpoint in it, 'model.safetensors' for example"),
        (folder("unpacked", "data.pkl", "version"), "somebody has unpacked"),
        (folder("saved", "saved_model.pb"), "a folder of TensorFlow"),
        (folder("converted", "config.json", "report.json", "torch.json"), "hyperport export"),
    ):
        with pytest.raises(ConversionError, match=what):
            read(path)


def test_files_beside_a_model_are_named_for_what_they_are(tmp_path: Path, monkeypatch, capsys):
    net = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(2)).sum().backward()
    optimizer.step()
    ema = {"decay": 0.9, "shadow_params": [p.detach() for p in net.parameters()]}
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    torch.save(torch.optim.lr_scheduler.StepLR(optimizer, 3).state_dict(), tmp_path / "scheduler.pt")
    torch.save({"model": net.state_dict(), "ema": ema}, tmp_path / "ema.pth")
    for name, what, options in (
        ("optimizer.pt", "the file has the state of an optimizer, and no model. Give the model's file", ()),
        ("scheduler.pt", "the file has the state of a scheduler, and no model. Give the model's file", ()),
        ("ema.pth", "2 tensors in a list ('shadow_params'), which does not say what they are of. Copy them", ("--section", "ema")),
    ):
        code, out, err = run(monkeypatch, capsys, "convert", tmp_path / name, "--arch", "tree", "--out", tmp_path / "c", *options)
        assert (code, out) == (3, ""), name
        assert what in err, name


def test_shards_by_themselves_are_no_model(tmp_path: Path, monkeypatch, capsys):
    """Of a model in parts, the folder's message and a part's name the index, which is right; other files of a trainer are not advised."""
    folder = tmp_path / "parts"
    folder.mkdir()
    parts = {f"model-0000{n}-of-00002.bin": {f"w{n}": torch.ones(2)} for n in (1, 2)}
    for name, part in parts.items():
        torch.save(part, folder / name)
    index = folder / "model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {key: name for name, part in parts.items() for key in part}}))
    first, options = folder / "model-00001-of-00002.bin", ("--arch", "tree", "--manifold", "*=Euclidean", "--out", tmp_path / "c")
    for given in (folder, first):
        code, _, err = run(monkeypatch, capsys, "convert", given, *options)
        assert code in (2, 3)
        assert "'model.bin.index.json'" in err
    assert run(monkeypatch, capsys, "convert", index, *options)[0] == 0
    index.unlink()
    code, _, err = run(monkeypatch, capsys, "convert", first, *options)
    assert code == 2
    assert "one of the 2 shards of a model. Put the other shards" in err
    for name in parts:
        (folder / name).unlink()
    torch.save(parts, folder / "optimizer.pt")
    torch.save(parts, folder / "pytorch_model.bin")
    assert "'pytorch_model.bin'" in run(monkeypatch, capsys, "convert", folder, *options)[2]
