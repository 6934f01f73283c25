"""Files to read: opened, fingerprinted, decompressed, and what goes wrong with them as one sentence."""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from flowdetect.jobs._errors import InputError

__all__ = ["STANDARD_INPUT", "fingerprint", "first_line", "open_stream", "reading", "standard_input"]

STANDARD_INPUT = "-"


def fingerprint(path: Path) -> str:
    """Return the sha256 of the bytes of a file, in hex, read piece by piece.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    with reading(str(path)), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn what the readers of files raise into one sentence with the name of the file.

    Raises
    ------
    InputError
    """
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"there is no file '{name}'.") from error
    except (OSError, EOFError, ValueError, pa.ArrowException) as error:
        raise InputError(f"'{name}' cannot be read: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, as the end of a sentence."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}."
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if text.endswith((".", "?", "!")) else f"{text}."


def open_stream(path: Path | None, codec: str | None) -> Any:
    """Open a file, or standard input, as a stream of its decompressed bytes.

    Parameters
    ----------
    path : Path or None
        None is standard input.
    codec : {"gzip", "zstd"} or None
    """
    raw = standard_input() if path is None else open(path, "rb")  # noqa: SIM115 - the caller closes it
    return raw if codec is None else pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), codec)


def standard_input() -> BinaryIO:
    """Return the bytes of standard input."""
    return getattr(sys.stdin, "buffer", None) or io.BytesIO(sys.stdin.read().encode())
