"""Files that want code run, or more memory than they are: refused with a message, and nothing of them happens."""

from __future__ import annotations

import builtins
import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import torch

from parity_tests.weights.files import assembly, bombs
from parity_tests.weights.files.assembly import archive
from parity_tests.weights.helpers import Call
from weights import Refused, Unreadable
from weights.files.config import read_config
from weights.files.reader import read

STORAGE = b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"


def tensor(offset: bytes, shape: bytes, stride: bytes) -> bytes:
    """{"w": _rebuild_tensor_v2(storage of 4 floats, offset, shape, stride, False, OrderedDict())}"""
    return (b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n" + STORAGE + offset + shape + stride
            + b"\x89ccollections\nOrderedDict\n)RtRs.")  # fmt: skip


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "function",
    [
        os.system,
        builtins.eval,
        builtins.exec,
        builtins.__import__,
        io.open,
        os.remove,
        time.sleep,
        torch.load,
        torch.hub.load,
    ],
    ids=lambda f: f.__name__,
)
def test_calls_are_refused_by_name(tmp_path, function, zipped):
    mark = tmp_path / "mark"
    torch.save(
        {"w": torch.ones(2), "x": Call(function, f"touch {mark}")},
        tmp_path / "x.pth",
        _use_new_zipfile_serialization=zipped,
    )
    with pytest.raises(Refused, match=function.__name__):
        read(tmp_path / "x.pth")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"cposix\nsystem\n", "posix.system"),
        (b"\x8c\x05posix\x8c\x06system\x93", "posix.system"),
        (b"cbuiltins\neval\n", "builtins.eval"),
        (b"(S'x'\nios\nsystem\n", "operation"),
        (b"(cos\nsystem\no", "os.system"),
        (b"\x82\x01", "operation"),
        (b"\x97", "operation"),
        (b"csome.module\nThing\n", "some.module.Thing"),
        (b"csome.module\nThing\n)\x81", "some.module.Thing"),
        (b"csome.module\nThing\n)R", "some.module.Thing"),
        (b"csome.module\nThing\n)}\x92", "some.module.Thing"),
        (b"csubprocess\nPopen\n)\x81}b", "subprocess.Popen"),
        (b"ccollections\nOrderedDict\n)R}X\x09\x00\x00\x00__class__K\x01sb", "__class__"),
        (b"cbuiltins\ngetattr\nctorch\nFloatStorage\nX\x08\x00\x00\x00__dict__\x86R", "getattr"),
        (b"ctorch.storage\n_load_from_bytes\nX\x01\x00\x00\x00a\x85R", "_load_from_bytes"),
        (b"cfunctools\npartial\ncbuiltins\nset\n\x85R", "functools.partial"),
        (b"]q\x00h\x00a", "contains itself"),
        (b")" + b"\x85" * 250 + b"\xff", "nests more than 200 deep"),  # before what follows is read
        (b"(" * 150 + b")" + b"t\x85" * 150 + b"\xff", "nests more than 200 deep"),
    ],
)
def test_hostile_pickles(tmp_path, body, message):
    with pytest.raises(Refused) as caught:
        read(archive(tmp_path / "x.pth", b"\x80\x02" + body + b"."))
    assert message in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="reads a process's memory from /proc")
def test_bombs_are_refused_in_a_second():
    """Of time, because a loaded machine counts more of it, three seconds."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-m", bombs.__name__], capture_output=True, text=True, check=True, env=environment)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) > 80
    wrong = [
        row
        for row in rows
        if row["error"] not in ("Refused", "Unreadable", "Usage")
        or not re.fullmatch(r"/\S+: .{,600}\. [A-Z].+", row["message"])
        or row["seconds"] > 3
        or row["memory"] > 300
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [
        (b"K\x01", b"K\x04\x85", b"K\x01\x85"),
        (b"K\x00", b"K\x02K\x02\x86", b"K\x03K\x02\x86"),
        (b"J\xff\xff\xff\xff", b"K\x02\x85", b"K\x01\x85"),
        (b"K\x00", b"J\xff\xff\xff\xff\x85", b"K\x01\x85"),
        (b"K\x00", b"K\x02\x85", b"J\xff\xff\xff\xff\x85"),
        (b"K\x00", b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01\x85", b"K\x01\x85"),
        (b"K\x00", b"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x40K\x04\x86", b"K\x00K\x01\x86"),
        (b"K\x00", b"J\xff\xff\xff\x7f\x85", b"K\x00\x85"),
        (b"K\x09", b"K\x00\x85", b"K\x01\x85"),
        (b"K\x00", b"K\x02\x85", b")"),
        (b"K\x00", b"(" + b"K\x01" * 40 + b"t", b"(" + b"K\x01" * 40 + b"t"),
        (b"\x88", b"K\x02\x85", b"K\x01\x85"),
    ],
)
def test_views_outside_their_storage(tmp_path, offset, shape, stride):
    with pytest.raises((Unreadable, Refused)):
        read(archive(tmp_path / "x.pth", tensor(offset, shape, stride)))


def test_a_view_inside_is_read(tmp_path):
    found = read(archive(tmp_path / "x.pth", tensor(b"K\x01", b"K\x03\x85", b"K\x01\x85"))).root
    assert found["w"].array().shape == (3,)


def test_storages_that_lie_about_their_length(tmp_path):
    body = tensor(b"K\x00", b"K\x02\x85", b"K\x01\x85").replace(b"cpuK\x04", b"cpuJ\xff\xff\xff\x7f")
    with pytest.raises(Unreadable, match="another length"):
        read(archive(tmp_path / "x.pth", body))


@pytest.mark.parametrize("name", ["../../etc/x", "/abs", "a/../b", "a\\b"])
def test_path_traversal_in_names(tmp_path, name):
    with pytest.raises((Refused, Unreadable)):
        read(archive(tmp_path / "x.pth", tensor(b"K\x00", b"K\x02\x85", b"K\x01\x85"), **{name: b"x"}))


def test_overlapping_and_repeated_entries(tmp_path):
    path = archive(tmp_path / "x.pth", tensor(b"K\x00", b"K\x02\x85", b"K\x01\x85"))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as file:
        file.writestr("a/data/0", b"\0" * 16)
    with pytest.raises(Refused, match="twice"):
        read(path)


def test_entries_that_overlap(tmp_path):
    """The second entry's place in the directory is that of the first."""
    path = archive(tmp_path / "x.pth", assembly.pickled(assembly.dict_of(assembly.text("w"), assembly.tensor())))
    with zipfile.ZipFile(path) as file:
        first, second = (info.header_offset for info in file.infolist()[:2])
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<I", second), data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1))
    data[at : at + 4] = struct.pack("<I", first)
    path.write_bytes(data)
    with pytest.raises(Refused, match=r"'a/(byteorder|data\.pkl)' overlaps another"):
        read(path)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"a": (2, 0, 8), "b": (2, 4, 12)}, "the entry 'b' overlaps the one before"),
        ({"a": (2, 0, 8), "b": (2, 0, 8)}, "the entry 'b' overlaps the one before"),
        ({"a": (2, 4, 12)}, "the entry 'a' leaves bytes before it to no tensor"),
        ({"a": (2, 0, 8), "b": (2, 8, 16)}, "the entry 'b' is cut off"),
        ({"a": (2, 0, 8)}, "4 bytes belong to no tensor"),
        ({"a": (3, 0, 8), "b": (1, 8, 12)}, r"the entry 'a' of shape \(3,\) has 8 bytes"),
        ({"a": (2, -4, 4)}, "the entry 'a'"),
    ],
)
def test_places_of_safetensors(tmp_path, entries, message):
    """Of twelve bytes of float32 numbers; the length and the ends of each entry."""
    header = {key: {"dtype": "F32", "shape": [n], "data_offsets": ends} for key, (n, *ends) in entries.items()}
    with pytest.raises(Unreadable, match=message):
        read(assembly.safetensors(tmp_path / "x.safetensors", header, bytes(12)))


def test_a_key_twice_is_named(tmp_path):
    entry = b'"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    with pytest.raises(Refused, match=r"x\.safetensors: its JSON has the key 'w' twice"):
        read(assembly.safetensors(tmp_path / "x.safetensors", b"{%s,%s}" % (entry, entry), bytes(4)))
    (tmp_path / "c.json").write_text('{"model": {"dim": 16, "dim": 8}}')
    with pytest.raises(Refused, match=r"c\.json: its JSON has the key 'dim' twice"):
        read_config(tmp_path / "c.json", None)


def test_arrays_in_tuples_are_no_damage(tmp_path):
    """Whoever looks for a mark in a tuple with == asks an array whether it is true."""
    torch.save({"w": torch.ones(2), "beside": (np.arange(3), 1)}, tmp_path / "x.pth")
    assert read(tmp_path / "x.pth").root["beside"][0].tolist() == [0, 1, 2]


def test_torchscript_is_refused(tmp_path):
    with pytest.raises(Refused, match="TorchScript"):
        read(archive(tmp_path / "x.pth", pickle.dumps({}, 2), **{"a/constants.pkl": b"x"}))


def test_legacy_header_is_checked(tmp_path):
    torch.save({"w": torch.ones(3)}, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    data = (tmp_path / "x.pth").read_bytes()
    for bad in (
        data + b"extra",
        data.replace(struct.pack("<q", 3), struct.pack("<q", 1 << 40)),
        data.replace(b"\xe9\x03", b"\xea\x03", 1),
    ):
        assert bad != data
        (tmp_path / "y.pth").write_bytes(bad)
        with pytest.raises((Unreadable, Refused)):
            read(tmp_path / "y.pth")
