"""Models to and from files."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import safetensors
import safetensors.numpy

from flowdetect._utils.files import atomic_file
from flowdetect._utils.version import __version__
from flowdetect.exceptions import ModelFileError
from flowdetect.persistence._card import card_of, printable, summary_of
from flowdetect.persistence._codec import Reader, Writer
from flowdetect.persistence._container import Member, pack, read_first, read_member
from flowdetect.persistence._json import read_json, write_json
from flowdetect.persistence._probes import check_probes, write_probes
from flowdetect.persistence._specs import ESTIMATORS

__all__ = ["FORMAT_VERSION", "Model", "load", "open_model", "read_manifest", "save", "verify"]

FORMAT_VERSION = 1
_FORMAT = "flowdetect model"
_MANIFEST, _ARRAYS = "manifest.json", "arrays.safetensors"
_MOST_MANIFEST, _MOST_ARRAYS = 16 * 2**20, 2**32
_LIBRARIES = ("numpy", "pandas", "scikit-learn", "torch", "nflows", "safetensors")
_KEYS = {
    *("format", "format_version", "class", "created", "card", "metadata", "summary", "libraries"),
    *("model", "probes", "members"),
}


@dataclass(frozen=True)
class Model:
    """A model that was read from a file.

    Attributes
    ----------
    estimator : fitted estimator
    model_id : str
        SHA-256 of the file, 64 hexadecimal digits: what jobs, logs and alarms name it by.
    manifest : dict
        What `read_manifest` returns.
    """

    estimator: Any
    model_id: str
    manifest: dict[str, Any]


def save(estimator: Any, path: str | Path, *, metadata: Mapping[str, Any] | None = None) -> str:
    """Write a fitted estimator to a file that is safe to load, also by others and years later.

    Parameters
    ----------
    estimator : fitted estimator
        `FlowDensity`, `FlowOutlierDetector`, `FlowAugmenter`, `SeriesOutlierDetector`, `SeriesAugmenter`,
        `SlidingWindow` or `VariationalFlow`; not a subclass of theirs, whose code the file could not name.
    path : str or Path
        Replaced in one step once everything is written: at any moment there is the old file or the new one.
    metadata : mapping, optional
        JSON-able, kept in the manifest as it is: who trained it, on what, why.

    Returns
    -------
    str
        The model's id, SHA-256 of the file.

    Raises
    ------
    ModelFileError
        If the estimator is of another class, or has a parameter that a file cannot hold, such as a function.
    NotFittedError
        If it is not fitted.
    OSError
        If the file cannot be written.

    Notes
    -----
    The file holds parameters, weights, the table's schema with its categories, the scores of the training
    rows, and, for neighbours and drawing, up to 10,000 encoded training rows of a detector and all of an
    augmenter: treat it like the data. It holds no code. A `random_state` that is a generator is kept as None.

    Examples
    --------
    >>> import numpy as np, tempfile, flowdetect
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> detector = flowdetect.FlowOutlierDetector(max_steps=5, random_state=0).fit(X)
    >>> path = tempfile.mkdtemp() + "/detector.flow"
    >>> model_id = flowdetect.save(detector, path, metadata={"owner": "fraud team"})
    >>> bool((flowdetect.load(path).score_samples(X) == detector.score_samples(X)).all())
    True
    """
    content = _content(estimator, {} if metadata is None else dict(metadata))
    digest = hashlib.sha256()
    with atomic_file(path) as file:
        for piece in content:
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def load(path: str | Path) -> Any:
    """Return the fitted estimator of a file that `save` wrote.

    Nothing in the file is executed: it can only fill the classes of this library with checked numbers.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    fitted estimator
        It gives the scores that the saved one gave.

    Raises
    ------
    ModelFileError
        If the file is no model, was changed or cut, is of a newer format, or does not score its probe rows as
        it did.
    OSError
        If it cannot be read.
    """
    return open_model(path).estimator


def open_model(path: str | Path) -> Model:
    """Return the estimator of a file with its id and manifest; see `load`.

    Raises
    ------
    ModelFileError
    OSError
    """
    with open(path, "rb") as file, _about(path):
        first, manifest = _read_manifest(file)
        size = _member_entry(manifest)["size"]
        last, arrays = read_member(file, _ARRAYS, [first], size=size)
        if hashlib.sha256(arrays).hexdigest() != _member_entry(manifest)["sha256"]:
            raise ModelFileError(f"{_ARRAYS} is not the one that the manifest names.")
        estimator = _build(manifest, arrays)
        file.seek(0)
        return Model(estimator, hashlib.file_digest(file, "sha256").hexdigest(), manifest)


def read_manifest(path: str | Path) -> dict[str, Any]:
    """Return what a model file says of itself, without building anything from it.

    Returns
    -------
    dict
        ``card``, a text for people; ``class``, ``created``, ``summary``, ``libraries``, ``metadata``,
        ``format_version``, ``model`` (parameters, schema and state) and ``members`` (name, size and SHA-256).

    Raises
    ------
    ModelFileError
    OSError
    """
    with open(path, "rb") as file, _about(path):
        return _read_manifest(file)[1]


def verify(path: str | Path, *, sha256: str | None = None) -> str:
    """Load a model completely, and compare its id with one that is known from elsewhere.

    Parameters
    ----------
    path : str or Path
    sha256 : str, optional
        The id that `save` returned.

    Returns
    -------
    str
        The model's id.

    Raises
    ------
    ModelFileError
        If it cannot be loaded, or has another id.
    OSError
    """
    model = open_model(path)
    if sha256 is not None and model.model_id != sha256.strip().lower():
        raise ModelFileError(f"'{path}' has the id {model.model_id}, not {sha256}.")
    return model.model_id


class _about:  # noqa: N801 - used as a function
    """Name the file in errors about it; whatever building from a stranger's file raises becomes one type."""

    def __init__(self, path: str | Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        if error is None or isinstance(error, OSError) or not isinstance(error, Exception):
            return
        sentence = str(error) if isinstance(error, ModelFileError) else f"{type(error).__name__}: {error}"
        raise ModelFileError(f"'{self.path}' is not a model that can be loaded: {sentence[:500]}") from error


def _content(estimator: Any, metadata: dict[str, Any]) -> list[bytes]:
    from sklearn.utils.validation import check_is_fitted

    name = type(estimator).__name__
    if type(estimator).__module__ != getattr(ESTIMATORS.get(name), "module", None):
        raise ModelFileError(
            f"A model file can hold {', '.join(ESTIMATORS)}; got {name} of {type(estimator).__module__}. "
            "Use joblib for others."
        )
    check_is_fitted(estimator)
    writer = Writer()
    model = writer.write(estimator, name, name)
    arrays = safetensors.numpy.save(writer.arrays)
    manifest = {
        "format": _FORMAT,
        "format_version": FORMAT_VERSION,
        "class": name,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "card": "",
        "metadata": metadata,
        "summary": summary_of(estimator),
        "libraries": _versions(),
        "members": [{"name": _ARRAYS, "size": len(arrays), "sha256": hashlib.sha256(arrays).hexdigest()}],
        "probes": write_probes(estimator, writer.densities),
        "model": model,
    }
    manifest["card"] = card_of(manifest)
    text = write_json(manifest)
    if len(text) > _MOST_MANIFEST:
        raise ModelFileError(
            f"The manifest would have {len(text)} bytes, and may have {_MOST_MANIFEST}: fewer categories, or "
            "less metadata."
        )
    return pack([(_MANIFEST, text), (_ARRAYS, arrays)])


def _read_manifest(file: BinaryIO) -> tuple[Member, dict[str, Any]]:
    first, content = read_first(file, _MANIFEST, most=_MOST_MANIFEST)
    manifest = read_json(content)
    version = manifest.get("format_version")
    if manifest.get("format") != _FORMAT or isinstance(version, bool) or not isinstance(version, int):
        raise ModelFileError("its manifest is of another kind of file.")
    if not 1 <= version <= FORMAT_VERSION:
        raise ModelFileError(
            f"it has format {version}; flowdetect {__version__} reads formats 1 to "
            f"{FORMAT_VERSION}. Install a newer flowdetect."
        )
    if manifest.keys() != _KEYS or not all(
        isinstance(manifest[key], str) for key in ("class", "card", "created")
    ):
        raise ModelFileError("its manifest has other entries than a model's.")
    if any(printable(line) != line for line in manifest["card"].split("\n")):
        raise ModelFileError("its card has characters that cannot be printed.")
    return first, manifest


def _member_entry(manifest: dict[str, Any]) -> dict[str, Any]:
    members = manifest["members"]
    fits = isinstance(members, list) and len(members) == 1 and isinstance(members[0], dict)
    if not fits or members[0].keys() != {"name", "size", "sha256"} or members[0]["name"] != _ARRAYS:
        raise ModelFileError(f"it must have the members {_MANIFEST} and {_ARRAYS}, and no others.")
    size = members[0]["size"]
    if type(size) is not int or not 0 <= size < _MOST_ARRAYS:
        raise ModelFileError(f"{_ARRAYS} has no size that can be.")
    entry: dict[str, Any] = members[0]
    return entry


def _build(manifest: dict[str, Any], arrays: bytes) -> Any:
    name = manifest["class"]
    if name not in ESTIMATORS:
        raise ModelFileError(f"there is no class {name!r}; it is one of {', '.join(ESTIMATORS)}.")
    try:
        reader = Reader(safetensors.numpy.load(arrays))
        estimator = reader.read(manifest["model"], name, name)
        reader.finish()
        check_probes(estimator, reader.densities, manifest["probes"])
    except OSError as error:
        # Not of this file: libraries look for what it names, such as time zones, among files of their own.
        raise ModelFileError(f"it names what cannot be looked up: {str(error)[:200]}") from error
    return estimator


def _versions() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"python": platform.python_version(), "flowdetect": __version__, **versions}
