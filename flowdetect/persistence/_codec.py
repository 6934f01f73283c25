"""Fitted estimators as JSON and named arrays, and back. What may be there is said by `_specs` alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from flowdetect.exceptions import FlowDetectError, ModelFileError
from flowdetect.flows import DensityArchitecture, TableDensity
from flowdetect.persistence._checks import check_object
from flowdetect.persistence._specs import CLASSES, ESTIMATORS
from flowdetect.preprocessing import TableEncoder, TableSchema
from flowdetect.preprocessing._schema import pack_label, unpack_label
from flowdetect.training import StopReason

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Reader", "Writer", "class_of"]

_DTYPES = {"f": np.dtype("<f8"), "F": np.dtype("<f8"), "i": np.dtype("<i8"), "b": np.dtype("?")}
_PLAIN: dict[str, type | tuple[type, ...]] = {"int": int, "float": float, "bool": bool, "str": str}
_ENCODER_OPTIONS = ("atoms", "missing", "lattice", "heaps", "max_categories", "affine")
# Files written before an option was there say nothing of it: it is then at its default.
_LATER_OPTIONS = {"affine"}


def class_of(name: str) -> Any:
    """Return the class of the table of classes that has this name.

    Raises
    ------
    ModelFileError
        If there is none.
    """
    if name not in CLASSES:
        raise ModelFileError(f"there is no class {name!r}; it is one of {', '.join(ESTIMATORS)}.")
    return getattr(import_module(CLASSES[name].module), name)


class Writer:
    """Write values as JSON, and arrays beside it.

    Attributes
    ----------
    arrays : dict of str to ndarray
        By the place at which they stand.
    densities : dict of str to TableDensity
        Likewise.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.densities: dict[str, TableDensity] = {}
        self._places: dict[int, str] = {}
        self._held: list[Any] = []

    def write(self, value: Any, kind: str, place: str) -> Any:
        """Return a value of a kind as JSON.

        Parameters
        ----------
        value : object
        kind : str
            See `_specs`.
        place : str
            Names the arrays.

        Raises
        ------
        ModelFileError
            If it is of another kind, or cannot be written.
        """
        if kind[0] == "?":
            return None if value is None else self.write(value, kind[1:], place)
        if kind[0] in "[(":
            return [self.write(each, kind[1:-1], f"{place}/{k}") for k, each in enumerate(value)]
        if kind[0] == "{":
            of_key, of_value = kind[1:-1].split(":")
            pairs = enumerate(value.items())
            return [
                [self.write(key, of_key, f"{place}/{k}/key"), self.write(each, of_value, f"{place}/{k}")]
                for k, (key, each) in pairs
            ]
        if kind in _PLAIN:
            return _plain(value, kind, place)
        if kind in CLASSES or kind in ("encoder", "density"):
            return self._shared(value, kind, place)
        if kind[0] in _DTYPES and kind[1:].isdigit():
            return self._array(value, kind, place)
        return _WRITERS[kind](self, value, place)

    def _shared(self, value: Any, kind: str, place: str) -> Any:
        """Return an object, or where it has been written already."""
        if id(value) in self._places:
            return {"same as": self._places[id(value)]}
        self._places[id(value)] = place
        self._held.append(value)
        if kind == "encoder":
            options = {name: getattr(value, name) for name in _ENCODER_OPTIONS}
            return {"schema": value.schema_.to_dict(), "options": options}
        if kind == "density":
            self.densities[place] = value
            for name, weight in value.state_dict().items():
                self.arrays[f"{place}/{name}"] = weight.detach().cpu().numpy()
            return DensityArchitecture.of(value).to_dict()
        return self._object(value, kind, place)

    def _object(self, value: Any, kind: str, place: str) -> dict[str, Any]:
        layout = CLASSES[kind]
        written: dict[str, Any] = {}
        if layout.is_estimator:
            written["parameters"] = {
                name: _write_parameter(each, name) for name, each in _parameters(value).items()
            }
        names = dict(layout.attributes)
        names |= {name: of for name, of in layout.optional.items() if hasattr(value, name)}
        written["state"] = {
            name: self.write(getattr(value, name), of, f"{place}/{name}") for name, of in names.items()
        }
        return written

    def _array(self, value: Any, kind: str, place: str) -> dict[str, str]:
        array = np.ascontiguousarray(value, dtype=_DTYPES[kind[0]])
        if array.ndim != int(kind[1:]) or not np.array_equal(array, value, equal_nan=kind[0] in "fF"):
            raise ModelFileError(f"{place} is no array of {kind[1:]} dimensions of {_DTYPES[kind[0]]}.")
        if kind[0] == "f" and not np.isfinite(array).all():
            raise ModelFileError(f"{place} is not finite throughout.")
        self.arrays[place] = array
        return {"array": place}

    def _labels(self, value: Any, place: str) -> dict[str, Any]:
        array = np.asarray(value)
        return {"dtype": array.dtype.str if array.dtype != object else "O", "labels": _write_labels(array)}

    def _index(self, value: Any, place: str) -> dict[str, Any]:
        if not isinstance(value, pd.DatetimeIndex):
            array = value.to_numpy()
            kind = "i1" if array.dtype.kind == "i" else "f1"
            return {"kind": kind, **self._array(array, kind, place)}
        zone = None if value.tz is None else str(value.tz)
        moments = value if value.tz is None else value.tz_convert("UTC")
        return {"kind": "dates", "zone": zone, "unit": value.unit, **self._array(moments.asi8, "i1", place)}


class Reader:
    """Build what a `Writer` wrote.

    Parameters
    ----------
    arrays : mapping of str to ndarray

    Attributes
    ----------
    objects : dict of str to object
        What was built, by its place.
    densities : dict of str to TableDensity
        Those of them that are densities.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = arrays
        self._left = set(arrays)
        self.objects: dict[str, Any] = {}

    @property
    def densities(self) -> dict[str, TableDensity]:
        return {place: built for place, built in self.objects.items() if isinstance(built, TableDensity)}

    def finish(self) -> None:
        """Refuse arrays that nothing asked for.

        Raises
        ------
        ModelFileError
        """
        if self._left:
            raise ModelFileError(f"it holds arrays that no part of the model has: {sorted(self._left)[:3]}.")

    def read(self, data: Any, kind: str, place: str) -> Any:
        """Return the value of a kind that JSON describes.

        Raises
        ------
        ModelFileError
            If it is of another kind.
        """
        if kind[0] == "?":
            return None if data is None else self.read(data, kind[1:], place)
        if kind[0] in "[(":
            _require(isinstance(data, list), place, "a list")
            values = [self.read(each, kind[1:-1], f"{place}/{k}") for k, each in enumerate(data)]
            return values if kind[0] == "[" else tuple(values)
        if kind[0] == "{":
            return self._dict(data, kind, place)
        if kind in _PLAIN:
            return _read_plain(data, kind, place)
        if kind in CLASSES or kind in ("encoder", "density"):
            return self._shared(data, kind, place)
        if kind[0] in _DTYPES and kind[1:].isdigit():
            return self._array(data, kind, place)
        return _READERS[kind](self, data, place)

    def _dict(self, data: Any, kind: str, place: str) -> dict[Any, Any]:
        of_key, of_value = kind[1:-1].split(":")
        pairs = isinstance(data, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in data)
        _require(pairs, place, "a list of pairs")
        return {
            self.read(key, of_key, f"{place}/{k}/key"): self.read(each, of_value, f"{place}/{k}")
            for k, (key, each) in enumerate(data)
        }

    def _shared(self, data: Any, kind: str, place: str) -> Any:
        _require(isinstance(data, dict), place, "an object")
        if data.keys() == {"same as"}:
            found = self.objects.get(data["same as"]) if isinstance(data["same as"], str) else None
            _require(_is_kind(found, kind), place, f"a {kind} that stands before it")
            return found
        build: Callable[[Any, str, str], Any] = {
            "encoder": self._encoder,
            "density": self._density,
        }.get(kind, self._object)
        self.objects[place] = built = build(data, kind, place)
        return built

    def _encoder(self, data: Any, kind: str, place: str) -> TableEncoder:
        _require(data.keys() == {"schema", "options"}, place, "an encoder")
        options = data["options"]
        known = set(_ENCODER_OPTIONS)
        fits = isinstance(options, dict) and known - _LATER_OPTIONS <= options.keys() <= known
        _require(fits, place, "an encoder")
        encoder = TableEncoder.from_schema(TableSchema.from_dict(data["schema"]))
        encoder.__dict__.update(options)
        encoder._check_options()
        return encoder

    def _density(self, data: Any, kind: str, place: str) -> TableDensity:
        import torch

        prefix = f"{place}/"
        own = [name for name in self._arrays if name.startswith(prefix)]
        state: dict[str, Tensor] = {}
        for name in own:
            array = self._take(name)
            _require(array.dtype.kind != "f" or bool(np.isfinite(array).all()), name, "finite")
            state[name.removeprefix(prefix)] = torch.from_numpy(array)
        return DensityArchitecture.from_dict(data).build(state)

    def _object(self, data: Any, kind: str, place: str) -> Any:
        layout = CLASSES[kind]
        expected = {"parameters", "state"} if layout.is_estimator else {"state"}
        _require(data.keys() == expected and isinstance(data["state"], dict), place, f"a {kind}")
        state = data["state"]
        allowed = layout.attributes | layout.optional
        _require(layout.attributes.keys() <= state.keys() <= allowed.keys(), place, f"a {kind}")
        cls = class_of(kind)
        if layout.is_estimator:
            built = cls(**_read_parameters(cls, data["parameters"], place))
        else:
            built = cls.__new__(cls)
        for name, each in state.items():
            # Not by setattr: some classes are frozen.
            built.__dict__[name] = self.read(each, allowed[name], f"{place}/{name}")
        built.__dict__.update(dict.fromkeys(layout.emptied))
        check_object(kind, built)
        return built

    def _array(self, data: Any, kind: str, place: str) -> np.ndarray:
        _require(isinstance(data, dict) and data.get("array") == place, place, "an array")
        array = self._take(place)
        fits = array.dtype == _DTYPES[kind[0]] and array.ndim == int(kind[1:])
        _require(fits, place, f"an array of {kind[1:]} dimensions of {_DTYPES[kind[0]]}")
        _require(kind[0] != "f" or bool(np.isfinite(array).all()), place, "finite")
        return array

    def _take(self, name: str) -> np.ndarray:
        _require(name in self._left, name, "there once")
        self._left.discard(name)
        return self._arrays[name]

    def _labels(self, data: Any, place: str) -> np.ndarray:
        _require(isinstance(data, dict) and data.keys() == {"dtype", "labels"}, place, "labels")
        _require(isinstance(data["labels"], list) and isinstance(data["dtype"], str), place, "labels")
        labels = [unpack_label(label) for label in data["labels"]]
        if data["dtype"] == "O":
            array = np.empty(len(labels), dtype=object)
            array[:] = labels
            return array
        _require(np.dtype(data["dtype"]).kind in "biufUSMm", place, "labels")
        return np.array(labels, dtype=data["dtype"])

    def _index(self, data: Any, place: str) -> pd.Index:
        _require(isinstance(data, dict) and data.get("kind") in ("i1", "f1", "dates"), place, "an index")
        if data["kind"] != "dates":
            return pd.Index(self._array(data, data["kind"], place))
        _require(data.keys() == {"kind", "zone", "unit", "array"}, place, "an index")
        _require(data["unit"] in ("s", "ms", "us", "ns"), place, "an index")
        moments = pd.DatetimeIndex(self._array(data, "i1", place).astype(f"datetime64[{data['unit']}]"))
        return moments if data["zone"] is None else moments.tz_localize("UTC").tz_convert(str(data["zone"]))


def _is_kind(found: Any, kind: str) -> bool:
    names = {"encoder": "TableEncoder", "density": "TableDensity"}
    return type(found).__name__ == names.get(kind, kind)


def _require(holds: bool, place: str, what: str) -> None:
    if not holds:
        raise ModelFileError(f"{place} is not {what}.")


def _plain(value: Any, kind: str, place: str) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if kind == "str" and isinstance(value, str):
        return str(value)
    if kind == "float" and isinstance(value, int | float) and not isinstance(value, bool):
        return pack_label(float(value))
    _require(type(value) is _PLAIN[kind], place, f"of type {kind}")
    return value


def _read_plain(data: Any, kind: str, place: str) -> Any:
    value = unpack_label(data) if kind == "float" else data
    _require(type(value) is _PLAIN[kind], place, f"of type {kind}")
    return value


def _parameters(estimator: BaseEstimator) -> dict[str, Any]:
    parameters: dict[str, Any] = estimator.get_params(deep=False)
    if isinstance(parameters.get("random_state"), np.random.Generator | np.random.RandomState):
        parameters["random_state"] = None
    return parameters


def _write_parameter(value: Any, name: str) -> Any:
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_write_parameter(each, name) for each in value]}
    if isinstance(value, dict):
        pairs = [[_write_parameter(key, name), _write_parameter(v, name)] for key, v in value.items()]
        return {"dict": pairs}
    try:
        return pack_label(value)
    except FlowDetectError as error:
        raise ModelFileError(
            f"{name} is {str(value)[:80]} of type {type(value).__name__}, which a model file cannot hold; it "
            "holds numbers, texts, dates, and lists and dicts of them. Set it to None before saving, or use "
            "joblib."
        ) from error


def _read_parameters(cls: Any, data: Any, place: str) -> dict[str, Any]:
    known = set(cls._get_param_names())
    needed = known - set(CLASSES[cls.__name__].later)
    fits = isinstance(data, dict) and needed <= data.keys() <= known
    _require(fits, place, f"a {cls.__name__} of this version")
    return {name: _read_parameter(value) for name, value in data.items()}


def _read_parameter(data: Any) -> Any:
    if isinstance(data, dict) and data.keys() <= {"list", "tuple", "dict"} and len(data) == 1:
        [(kind, content)] = data.items()
        if kind == "dict":
            return {_read_parameter(key): _read_parameter(value) for key, value in content}
        values = [_read_parameter(each) for each in content]
        return values if kind == "list" else tuple(values)
    return unpack_label(data)


def _write_labels(array: np.ndarray) -> list[Any]:
    return [pack_label(label) for label in array.tolist()]


def _write_span(writer: Writer, value: Any, place: str) -> int:
    return int(pd.Timedelta(value).as_unit("ns").value)


def _read_span(reader: Reader, data: Any, place: str) -> pd.Timedelta:
    return pd.Timedelta(_read_plain(data, "int", place), unit="ns")


_WRITERS: dict[str, Callable[[Writer, Any, str], Any]] = {
    "label": lambda _, value, place: pack_label(value),
    "labels": Writer._labels,
    "reason": lambda _, value, place: _plain(value, "str", place),
    "index": Writer._index,
    "span": _write_span,
}
_READERS: dict[str, Callable[[Reader, Any, str], Any]] = {
    "label": lambda _, data, place: unpack_label(data),
    "labels": Reader._labels,
    "reason": lambda _, data, place: StopReason(data),
    "index": Reader._index,
    "span": _read_span,
}
