"""torch's zip files (1.6 and later): entries checked before use, bytes read with their checksum."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from weights.errors import Refused, Unreadable
from weights.files.tensors import buffer

CHUNK = 16 << 20
MAX_RATIO = 100
MAX_SMALL = 64 << 20
_LOCAL = struct.Struct("<4s5H3L2H")


class Archive:
    """An open zip file, its `entries` by name. With `folder`, names are those below its single top folder."""

    def __init__(self, path: Path, folder: bool = True):
        self.path = path
        self.file = open(path, "rb", buffering=0)  # noqa: SIM115
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
        self.entries = self._checked(infos, folder)

    def _checked(self, infos: list[zipfile.ZipInfo], folder: bool) -> dict[str, zipfile.ZipInfo]:
        entries: dict[str, zipfile.ZipInfo] = {}
        stored = 0
        tops = {info.filename.split("/")[0] for info in infos}
        if folder and len(tops) != 1:
            raise Unreadable(f"the zip file has {len(tops)} top folders; torch writes one", "Give the file that torch.save wrote")
        for info in infos:
            parts = info.filename.split("/")
            if "\\" in info.filename or ".." in parts or info.filename.startswith("/") or "\0" in info.orig_filename or ":" in parts[0]:
                raise Refused(f"the zip entry {info.filename[:100]!r} points outside the file", "Do not trust this file")
            name = "/".join(parts[1:] if folder else parts)
            if name in entries:
                raise Refused(f"the zip entry {info.filename[:100]!r} occurs twice", "Do not trust this file")
            if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise Refused(
                    f"the zip entry {info.filename[:100]!r} is encrypted, or packed in a way that torch does not use",
                    "Save it again",
                )
            if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
                raise Unreadable(f"the zip entry {info.filename[:100]!r} claims two sizes", "Copy the file again")
            if info.file_size > MAX_SMALL and info.file_size > MAX_RATIO * info.compress_size:
                raise Refused(
                    f"the zip entry {info.filename[:100]!r} unpacks to {info.file_size} bytes from {info.compress_size}",
                    "Do not trust this file",
                )
            stored += info.compress_size
            entries[name] = info
        if stored > self.size:
            raise Refused(f"the zip entries overlap: they claim {stored} bytes of a file of {self.size}", "Do not trust this file")
        return entries

    def small(self, name: str, limit: int = MAX_SMALL) -> bytes:
        """A whole entry of at most `limit` bytes."""
        info = self.entries[name]
        if info.file_size > limit:
            raise Refused(
                f"the entry {name} has {info.file_size} bytes; at most {limit} are read",
                "Keep the tensors and leave the rest out",
            )
        return self.bytes_of(name, info.file_size).tobytes()

    def bytes_of(self, name: str, expected: int) -> np.ndarray:
        """The `expected` bytes of an entry, its checksum verified."""
        info = self.entries.get(name)
        if info is None:
            raise Unreadable(f"the storage {name} is missing", "Copy the file again")
        if info.file_size != expected:
            raise Unreadable(
                f"the storage {name} has {info.file_size} bytes where its tensors need {expected}",
                "Copy the file again",
            )
        out = buffer(expected)
        crc = self._stored(info, out) if info.compress_type == zipfile.ZIP_STORED else self._inflated(info, out)
        if crc != info.CRC:
            raise Unreadable(f"the entry {name} is damaged: its checksum is {crc:08x}, not {info.CRC:08x}", "Copy the file again")
        return out

    def _start(self, info: zipfile.ZipInfo) -> int:
        if not 0 <= info.header_offset < self.size:
            raise Unreadable(
                f"the zip entry {info.filename[:100]!r} starts at byte {info.header_offset} of {self.size}",
                "Copy the file again",
            )
        head = os.pread(self.file.fileno(), _LOCAL.size, info.header_offset)
        if len(head) != _LOCAL.size or not head.startswith(b"PK\x03\x04"):
            raise Unreadable(f"the zip entry {info.filename[:100]!r} does not start where the directory says", "Copy the file again")
        *_, name, extra = _LOCAL.unpack(head)
        return info.header_offset + _LOCAL.size + name + extra

    def _stored(self, info: zipfile.ZipInfo, out: np.ndarray) -> int:
        return read_into(self.file.fileno(), self._start(info), out, info.filename)

    def _inflated(self, info: zipfile.ZipInfo, out: np.ndarray) -> int:
        packed = np.empty(info.compress_size, np.uint8)
        read_into(self.file.fileno(), self._start(info), packed, info.filename)
        engine, view, at, crc = zlib.decompressobj(-15), out.data, 0, 0
        feed: bytes | memoryview = packed.data
        try:
            while at < len(out):
                chunk = engine.decompress(feed, min(CHUNK, len(out) - at))
                feed = engine.unconsumed_tail
                if not chunk:
                    break
                view[at : at + len(chunk)] = chunk
                at, crc = at + len(chunk), zlib.crc32(chunk, crc)
        except zlib.error as error:
            raise Unreadable(f"the zip entry {info.filename[:100]!r} does not unpack ({error})", "Copy the file again") from None
        if at != len(out):
            raise Unreadable(f"the zip entry {info.filename[:100]!r} unpacks to {at} bytes, not {len(out)}", "Copy the file again")
        return crc


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
