"""One file of a few members, stored as they are, in which every byte has a meaning that is checked.

It is a zip archive without compression, so that any tool lists it. Of the many zip archives with the same
members only one is accepted: what `pack` writes. A changed byte, a longer or a shorter file is noticed, in
the members by their checksums.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from flowdetect.exceptions import ModelFileError

__all__ = ["Member", "pack", "read_first", "read_member"]

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_VERSION = 20
_JANUARY_1980 = 0x21
_MOST_BYTES = 2**32 - 2**16


@dataclass(frozen=True)
class Member:
    """A named part of the file, and where its bytes begin.

    Attributes
    ----------
    name : str
    size : int
        Bytes.
    crc : int
        CRC-32 of the bytes.
    start : int
        Position of the first byte in the file.
    """

    name: str
    size: int
    crc: int
    start: int

    @property
    def end(self) -> int:
        """Position behind the last byte."""
        return self.start + self.size


def pack(members: Sequence[tuple[str, bytes]]) -> list[bytes]:
    """Return the pieces of the file, to be written one after the other.

    Parameters
    ----------
    members : sequence of (name, bytes)

    Raises
    ------
    ModelFileError
        If the file would be larger than 4 GiB.
    """
    pieces: list[bytes] = []
    placed: list[Member] = []
    position = 0
    for name, content in members:
        member = Member(name, len(content), zlib.crc32(content), position + _LOCAL.size + len(name))
        if member.end > _MOST_BYTES:
            raise ModelFileError(
                f"A model file holds at most 4 GiB; this one needs {member.end} bytes or more."
            )
        pieces += [_local_header(member), content]
        placed.append(member)
        position = member.end
    return [*pieces, _directory(placed)]


def read_first(file: BinaryIO, name: str, *, most: int) -> tuple[Member, bytes]:
    """Return the first member, which must have this name, without reading further.

    Parameters
    ----------
    file : binary file, at its start
    name : str
    most : int
        Most bytes of the member.

    Raises
    ------
    ModelFileError
    """
    return _read(file, name, 0, most)


def read_member(file: BinaryIO, name: str, before: Sequence[Member], *, size: int) -> tuple[Member, bytes]:
    """Return the last member, and check everything that surrounds it.

    Parameters
    ----------
    file : binary file
    name : str
    before : sequence of Member
        Those in front of it.
    size : int
        Bytes that it must have.

    Raises
    ------
    ModelFileError
    """
    start = before[-1].end
    held = os.fstat(file.fileno()).st_size
    last = Member(name, size, 0, start + _LOCAL.size + len(name))
    expected = last.end + len(_directory([*before, last]))
    if held != expected:
        raise ModelFileError(f"the file has {held} bytes, and must have {expected}.")
    file.seek(start)
    member, content = _read(file, name, start, size)
    if file.read() != _directory([*before, member]):
        raise ModelFileError("the directory at the end of the file is not as it was written.")
    return member, content


def _read(file: BinaryIO, name: str, position: int, most: int) -> tuple[Member, bytes]:
    header = file.read(_LOCAL.size + len(name))
    if len(header) < _LOCAL.size + len(name) or header[:4] != b"PK\x03\x04":
        raise ModelFileError("it does not begin as a model file does.")
    crc, size = _LOCAL.unpack(header[: _LOCAL.size])[6:8]
    member = Member(name, size, crc, position + len(header))
    if header != _local_header(member):
        raise ModelFileError(f"the header of {name} is not as it was written.")
    if size > most:
        raise ModelFileError(f"{name} has {size} bytes, and may have {most}.")
    content = file.read(size)
    if len(content) != size or zlib.crc32(content) != crc:
        raise ModelFileError(f"{name} is damaged: its checksum is another.")
    return member, content


def _local_header(member: Member) -> bytes:
    name = member.name.encode("ascii")
    numbers = (_VERSION, 0, 0, 0, _JANUARY_1980, member.crc, member.size, member.size, len(name), 0)
    return _LOCAL.pack(b"PK\x03\x04", *numbers) + name


def _directory(members: Sequence[Member]) -> bytes:
    entries = b""
    for member in members:
        name = member.name.encode("ascii")
        begin = member.start - _LOCAL.size - len(name)
        numbers = (
            _VERSION,
            _VERSION,
            0,
            0,
            0,
            _JANUARY_1980,
            member.crc,
            member.size,
            member.size,
            len(name),
        )
        entries += _CENTRAL.pack(b"PK\x01\x02", *numbers, 0, 0, 0, 0, 0, begin) + name
    end = _END.pack(b"PK\x05\x06", 0, 0, len(members), len(members), len(entries), members[-1].end, 0)
    return entries + end
