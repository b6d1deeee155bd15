"""Zip files: entries checked before use, bytes read with their checksum."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from weights.errors import Refused, Unreadable, shown
from weights.files.budget import MEMORY, OBJECT, STEPS, Budget
from weights.files.tensors import buffer

CHUNK = 16 << 20
_PIECE = 1 << 20
_FOLDER = 0x10  # the attribute of MS-DOS that zip libraries take for a folder
_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = 46
"""Bytes that an entry of the directory has at least."""


class _Directory(io.FileIO):
    """A file of which zipfile reads the directory, and makes an object of each of its entries."""

    def __init__(self, path: Path, budget: Budget):
        super().__init__(path)
        self.budget = budget

    def read(self, size: int | None = -1, /) -> bytes:
        """At most `size` bytes, after the entries that they may contain are paid for."""
        there = max(0, os.fstat(self.fileno()).st_size - self.tell())
        size = there if size is None or size < 0 else min(size, there)
        self.budget.spend(STEPS, 4 * (size // _CENTRAL), "its zip directory")
        self.budget.spend(MEMORY, 8 * OBJECT * (size // _CENTRAL), "its zip directory")
        return super().read(size)


class Archive:
    """An open zip file, its `entries` by name. What they unpack to is spent from the budget."""

    def __init__(self, path: Path, budget: Budget):
        self.path, self.budget = path, budget
        self.file = _Directory(path, budget)
        self.size = os.fstat(self.file.fileno()).st_size
        try:
            self.zip = zipfile.ZipFile(self.file)
            infos = self.zip.infolist()
        except (
            zipfile.BadZipFile,
            struct.error,
            ValueError,
            OSError,
            NotImplementedError,
            EOFError,
            OverflowError,
        ) as error:
            raise Unreadable(f"the zip directory is damaged or cut off ({error})", "Copy the file again") from None
        self.entries = self._checked(infos)

    def _checked(self, infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
        entries: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            parts = info.filename.split("/")
            if "\\" in info.filename or ".." in parts or info.filename.startswith("/") or "\0" in info.orig_filename or ":" in parts[0]:
                raise Refused(f"{_said(info)} points outside the file", "Do not trust this file")
            if info.filename in entries:
                raise Refused(f"{_said(info)} occurs twice", "Do not trust this file")
            if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise Refused(f"{_said(info)} is encrypted, or packed in a way that torch does not use", "Save it again")
            if info.external_attr & _FOLDER and info.file_size:  # torch would leave the tensor's memory as it found it
                raise Unreadable(f"{_said(info)} is marked as a folder and has {info.file_size} bytes", "Copy the file again")
            if info.compress_type == zipfile.ZIP_DEFLATED:
                self.budget.spend(MEMORY, info.file_size, "unpacking its zip entries")
            elif info.file_size != info.compress_size:
                raise Unreadable(f"{_said(info)} claims two sizes", "Copy the file again")
            entries[info.filename] = info
        end = 0
        for info in sorted(infos, key=lambda info: info.header_offset):
            if info.header_offset < end:
                raise Refused(f"{_said(info)} overlaps another", "Do not trust this file")
            end = info.header_offset + _LOCAL.size + len(info.orig_filename) + info.compress_size
        if end > self.size:
            raise Refused(f"the zip entries claim {end} bytes of a file of {self.size}", "Do not trust this file")
        return entries

    def whole(self, name: str) -> bytes:
        """All bytes of an entry."""
        return self.bytes_of(name, self.entries[name].file_size).tobytes()

    def begin(self, name: str, count: int) -> bytes:
        """At most `count` bytes from the beginning of an entry; their checksum cannot be verified."""
        info = self.entries[name]
        packed = os.pread(self.file.fileno(), min(count, info.compress_size), self._start(info))
        if info.compress_type == zipfile.ZIP_STORED:
            return packed
        try:
            return zlib.decompressobj(-15).decompress(packed, count)
        except zlib.error as error:
            raise Unreadable(f"{_said(info)} does not unpack ({error})", "Copy the file again") from None

    def bytes_of(self, name: str, expected: int) -> np.ndarray:
        """The `expected` bytes of an entry, its checksum verified."""
        info = self.entries.get(name)
        if info is None:
            raise Unreadable(f"the storage {shown(name)} is missing", "Copy the file again")
        if info.file_size != expected:
            raise Unreadable(
                f"the storage {shown(name)} has {info.file_size} bytes where its tensors need {expected}",
                "Copy the file again",
            )
        out = buffer(expected)
        crc = self._stored(info, out) if info.compress_type == zipfile.ZIP_STORED else self._inflated(info, out)
        if crc != info.CRC:
            raise Unreadable(f"the entry {shown(name)} is damaged: its checksum is {crc:08x}, not {info.CRC:08x}", "Copy the file again")
        return out

    def _start(self, info: zipfile.ZipInfo) -> int:
        if not 0 <= info.header_offset < self.size:
            raise Unreadable(
                f"{_said(info)} starts at byte {info.header_offset} of {self.size}",
                "Copy the file again",
            )
        head = os.pread(self.file.fileno(), _LOCAL.size, info.header_offset)
        if len(head) != _LOCAL.size or not head.startswith(b"PK\x03\x04"):
            raise Unreadable(f"{_said(info)} does not start where the directory says", "Copy the file again")
        *_, name, extra = _LOCAL.unpack(head)
        return info.header_offset + _LOCAL.size + name + extra

    def _stored(self, info: zipfile.ZipInfo, out: np.ndarray) -> int:
        return read_into(self.file.fileno(), self._start(info), out, _said(info))

    def _inflated(self, info: zipfile.ZipInfo, out: np.ndarray) -> int:
        packed = np.empty(info.compress_size, np.uint8)
        read_into(self.file.fileno(), self._start(info), packed, _said(info))
        engine, view, at, crc = zlib.decompressobj(-15), out.data, 0, 0
        pieces = [packed.data[start : start + _PIECE] for start in range(0, len(packed), _PIECE)]
        try:
            for feed in (*pieces, b""):  # the last for what zlib still has when it has taken everything
                while at < len(out):
                    chunk = engine.decompress(feed, min(CHUNK, len(out) - at))
                    feed = engine.unconsumed_tail
                    view[at : at + len(chunk)] = chunk
                    at, crc = at + len(chunk), zlib.crc32(chunk, crc)
                    if not chunk:
                        break
        except zlib.error as error:
            raise Unreadable(f"{_said(info)} does not unpack ({error})", "Copy the file again") from None
        if at != len(out):
            raise Unreadable(f"{_said(info)} unpacks to {at} bytes, not {len(out)}", "Copy the file again")
        return crc


def _said(info: zipfile.ZipInfo) -> str:
    return f"the zip entry {shown(info.filename)}"


def read_into(fd: int, start: int, out: np.ndarray, what: str) -> int:
    """Fills `out` (uint8 [n]) from byte `start` of a file and returns its CRC-32; Unreadable if the file is too short."""
    view, at, crc = out.data, 0, 0
    while at < len(out):
        got = os.preadv(fd, [view[at : at + CHUNK]], start + at)
        if not got:
            raise Unreadable(f"{what} is cut off: {at} of {len(out)} bytes", "Copy the file again")
        crc = zlib.crc32(view[at : at + got], crc)
        at += got
    return crc


__all__ = ["CHUNK", "Archive", "read_into"]
