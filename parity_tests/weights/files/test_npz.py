"""Headers of arrays that numpy's own reader trips over, wherever an .npz is read."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

import weights
from weights.errors import Unreadable
from weights.files import npz

HEADERS = {
    "an open bracket": b"{'descr': '<f4', 'fortran_order': False, 'shape': (3",
    "an open string": b"{'descr': '<f4', 'fortran_order': False, 'shape': '''(3,)}",
    "an indent": b"{'descr': '<f4',\n   'a': 1}\n  }\n 1",
    "no header": b"",
    "a number that ends nowhere": b"{'descr': '<f4', 'fortran_order': False, 'shape': (0x,)}",
    "a null byte": b"{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}\0",
    "a type that is none": b"{'descr': '<q9', 'fortran_order': False, 'shape': (3,)}",
    "deep brackets": b"{'descr': '<f4', 'fortran_order': False, 'shape': " + b"(" * 300 + b")" * 300 + b"}",
}


def npy(header: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n" + np.ones(3, np.float32).tobytes()


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_header_that_is_none(header: bytes, tmp_path: Path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("torch.json.npy", npy(b"{'descr': '|S12', 'fortran_order': False, 'shape': ()}"))
        file.writestr("params/x.npy", npy(header))
    for read in (weights.restore, npz.check):
        with pytest.raises(Unreadable, match=r"the entry 'params/x.npy' is not an array of plain numbers.*Save it again"):
            read(path)
