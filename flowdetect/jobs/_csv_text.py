"""The bytes of a csv file on the way to its reader, and which rows the reader has seen."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from flowdetect.jobs._errors import InputError
from flowdetect.jobs._files import reading
from flowdetect.jobs._rows import Rejected, shorten

__all__ = ["BLOCK", "UNDECODED", "CsvText", "RowCounter", "show_undecoded"]

BLOCK = 2**21  # bytes that the reader takes at a time; no row may be longer
_LONGEST_HEADER = 2**16
_MOST_RAGGED = 200_000  # rows of one stretch with a wrong number of fields: then it is no such csv
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# A byte that is not UTF-8 would stop the reader: it is replaced by a character for private use.
UNDECODED = "[\U0010ff80-\U0010ffff]"
_SURROGATE, _PRIVATE = 0xDC00, 0x10FF00


class CsvText:
    """A binary stream as UTF-8 without byte order mark and leading empty lines, that ends with a line break.

    Parameters
    ----------
    stream : binary file

    Attributes
    ----------
    tail : bytes
        The last bytes read so far.
    has_undecoded : bool
        Whether bytes that are not UTF-8 were replaced so far.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._ahead = b""
        self._names: list[str] | None = None
        self._ended = False
        self.tail = b""
        self.has_undecoded = False
        self.closed = False

    def header(self, name: str) -> list[str]:
        """Return the names in the header, which stays to be read.

        Raises
        ------
        InputError
            If there is none, it is not text, too long, or repeats a name.
        """
        if self._names is None:
            with reading(name):
                while len(self._ahead) < _LONGEST_HEADER and self._more():
                    pass
            self._names = _names(self._ahead, name, complete=self._ended)
        return self._names

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, none at the end."""
        while (size < 0 or not self._ahead) and self._more(size if size > 0 else BLOCK):
            pass
        size = len(self._ahead) if size < 0 else size
        piece, self._ahead = self._ahead[:size], self._ahead[size:]
        return piece

    def _more(self, size: int = _LONGEST_HEADER) -> bool:
        """Take further bytes from the stream, and tell whether there may be more."""
        if self._ended:
            return False
        piece = bytes(self._stream.read(size))
        started = bool(self.tail)
        self._ended = not piece
        text = self._encode(self._decoder.decode(piece, final=self._ended))
        if not started:
            text = text.removeprefix(_BYTE_ORDER_MARK).lstrip(b"\r\n")
        self.tail = (self.tail + text[-64:])[-64:]
        if self._ended and not self.tail.endswith(b"\n"):
            text += b"\n"
        self._ahead += text
        return not self._ended

    def _encode(self, text: str) -> bytes:
        try:
            return text.encode()
        except UnicodeEncodeError:
            self.has_undecoded = True
            return re.sub("[\udc80-\udcff]", _replace_surrogate, text).encode()

    def readable(self) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Close the stream below."""
        self._stream.close()
        self.closed = True


def _replace_surrogate(match: re.Match[str]) -> str:
    return chr(ord(match[0]) - _SURROGATE + _PRIVATE)


def show_undecoded(text: str) -> str:
    r"""Return a text with bytes that are not UTF-8 shown as such: "caf\xe9"."""
    return re.sub(UNDECODED, lambda match: f"\\x{ord(match[0]) - _PRIVATE:02x}", text)


def _names(start: bytes, name: str, *, complete: bool) -> list[str]:
    text = io.StringIO(start.decode(errors="ignore"), newline="")
    try:
        names = next(csv.reader(text), [])
    except csv.Error as error:
        raise InputError(f"'{name}' cannot be read as csv: its header has {error}.") from error
    if not start.strip():
        raise InputError(f"'{name}' is empty: a csv file starts with the names of its columns.")
    if not complete and not text.read(1):
        raise InputError(
            f"'{name}' cannot be read as csv: its header is longer than {_LONGEST_HEADER} bytes."
        )
    if any(re.search(UNDECODED, each) for each in names):
        raise InputError(f"'{name}' cannot be read as csv: its header is not UTF-8 text.")
    repeated = sorted({each for each in names if names.count(each) > 1})
    if repeated:
        listed = ", ".join(f"'{each}'" for each in repeated)
        raise InputError(f"'{name}' cannot be read: names of columns must be unique; repeated: {listed}.")
    return names


@dataclass
class RowCounter:
    """Which rows have been seen, and those with a wrong number of fields."""

    name: str
    n_seen: int = 0
    ragged: list[Rejected] = field(default_factory=list)
    last_ragged: str = ""
    has_too_many: bool = False

    def add_ragged(self, row: Any) -> str:
        """Take down a row with more or fewer fields than the header.

        The reader calls this, in a thread of its own, before the rows around it come.
        """
        # The reader counts the header as row 1.
        text = shorten(show_undecoded(row.text))
        self.ragged.append(Rejected(self.name, row.number - 1, None, "fields", text))
        self.last_ragged = row.text
        self.has_too_many = len(self.ragged) > _MOST_RAGGED
        return "error" if self.has_too_many else "skip"

    def number(self, n_rows: int) -> tuple[np.ndarray, tuple[Rejected, ...]]:
        """Return the numbers of the next rows that could be read, and those set aside before and between."""
        ragged = self.ragged[:]
        # How many of the next rows stand before each ragged one.
        before = np.array([each.row for each in ragged], dtype=np.int64) - self.n_seen - 1
        before -= np.arange(len(ragged))
        index = np.arange(n_rows)
        numbers = self.n_seen + 1 + index + np.searchsorted(before, index, side="right")
        n_taken = int(np.searchsorted(before, n_rows - 1, side="right"))
        # In place: the reader may add to the list at the same time.
        del self.ragged[:n_taken]
        self.n_seen = int(numbers[-1])
        return numbers, tuple(ragged[:n_taken])

    def take_all(self) -> tuple[Rejected, ...]:
        """Return the rows set aside behind all others."""
        rest, self.ragged = tuple(self.ragged), []
        return rest

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turn what the reader raises into one sentence.

        Raises
        ------
        InputError
        """
        with reading(self.name):
            try:
                yield
            except pa.ArrowInvalid as error:
                raise InputError(self._reason(str(error))) from error

    def _reason(self, text: str) -> str:
        if self.has_too_many:
            return (
                f"'{self.name}' cannot be read as csv: more than {_MOST_RAGGED} rows close to each other "
                "have another number of fields than its header."
            )
        if "straddling" in text:
            return (
                f"'{self.name}' cannot be read as csv: after row {self.n_seen + len(self.ragged)} comes one "
                f"of more than {BLOCK} bytes; a quote may be opened there that is never closed."
            )
        return f"'{self.name}' cannot be read as csv: {text.splitlines()[0]}"

    def check_end(self, last: str, tail: bytes) -> None:
        """Refuse a file whose last quote is open: rows may have been taken for the text behind it.

        Parameters
        ----------
        last : str
            The last field of the last row with the right number of fields.
        tail : bytes
            Where the file ends.

        Raises
        ------
        InputError
        """
        text = tail.rstrip(b"\r\n")
        n_quotes = len(text) - len(text.rstrip(b'"'))
        within_quotes = last.endswith("\n") or "\n" in self.last_ragged.rstrip("\r\n")
        if within_quotes and n_quotes % 2 == 0:
            raise InputError(
                f"'{self.name}' cannot be read: a quote that is opened near its end is never closed."
            )
