"""Files that want code run, or more memory than they are: refused with a message, and nothing of them happens."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import struct
import time
import zipfile

import pytest
import torch

from parity_tests.weights.helpers import Call
from weights import ConversionError, Refused, Unreadable
from weights.files.pickles import machine
from weights.files.reader import read
from weights.files.sections import split

STORAGE = b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"


def archive(path, pickled: bytes, **entries: bytes):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", pickled)
        file.writestr("a/byteorder", b"little")
        file.writestr("a/data/0", b"\0" * 16)
        file.writestr("a/version", b"3\n")
        for name, data in entries.items():
            file.writestr(name, data)
    return path


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
    ],
)
def test_hostile_pickles(tmp_path, body, message):
    with pytest.raises(Refused) as caught:
        read(archive(tmp_path / "x.pth", b"\x80\x02" + body + b"."))
    assert message in str(caught.value)


def test_bombs_are_refused_quickly(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "MAX_OPERATIONS", 200_000)
    laughs = b"\x80\x02]" + b"".join(b"q%c" % i + b"](" + (b"h%c" % i) * 10 + b"e" for i in range(12)) + b"."
    hashing = b"\x80\x02}" + b")" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(40)) + b"K\x01s."
    nested = b"\x80\x02" + b"](" * 50000 + b"e" * 50000 + b"."
    memo = b"\x80\x02]r\xff\xff\xff\xff."
    lists = b"\x80\x02(" + b"]" * 300_000 + b"l."
    for body in (laughs, hashing, nested, memo, lists):
        start = time.perf_counter()
        with pytest.raises(ConversionError):
            split(read(archive(tmp_path / "x.pth", body)).root)
        assert time.perf_counter() - start < 20


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


def test_zip_bomb(tmp_path):
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        file.writestr("a/data.pkl", tensor(b"K\x00", b"K\x02\x85", b"K\x01\x85"))
        file.writestr("a/data/0", bytes(100 << 20))
    with pytest.raises(Refused, match="unpacks to"):
        read(path)


def test_overlapping_and_repeated_entries(tmp_path):
    path = archive(tmp_path / "x.pth", tensor(b"K\x00", b"K\x02\x85", b"K\x01\x85"))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as file:
        file.writestr("a/data/0", b"\0" * 16)
    with pytest.raises(Refused, match="twice"):
        read(path)


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
