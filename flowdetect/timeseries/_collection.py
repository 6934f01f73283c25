"""Collections of whole series of one length, with or without classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.preprocessing._schema import shown
from flowdetect.timeseries._contents import Contents
from flowdetect.timeseries._next_value import NextValue, Piece
from flowdetect.timeseries._paths import draw_paths
from flowdetect.timeseries._pieces import Range, range_of
from flowdetect.timeseries._reading import as_array

__all__ = ["Collection", "is_collection", "read_collection", "refuse_collection"]

_Array = NDArray[np.float64]

# Bumps along a series: what differs between its parts is learnt from as many.
_MOST_BUMPS = 8


class Collection:
    """Series of one length, as pieces for `NextValue`, and drawn ones.

    What is known beforehand of a row is how far into the series it is, its class, and their products.

    Attributes
    ----------
    contents : Contents
    pieces : list of Piece
        One for each series, all on one scale.
    classes : ndarray of shape (n_classes,)
        A single one without labels.
    labelled : bool
        Whether there were labels.
    n_told : int
        So many columns of what is known are no products.
    """

    def __init__(
        self, contents: Contents, range_: Range, length: int, classes: NDArray[Any], counts: NDArray[np.intp]
    ) -> None:
        self.contents = contents
        self.range = range_
        self.length = length
        self.classes = classes
        self.counts = counts
        self.labelled = True
        self.pieces: list[Piece] = []
        bumps = _bumps(length)
        self.n_told = bumps.shape[1] + (len(classes) if len(classes) > 1 else 0)
        self._bumps = bumps

    @classmethod
    def learn(cls, series: Any, y: Any) -> Collection:
        """Read a collection.

        Parameters
        ----------
        series : array-like of shape (n_series, n_timestamps) or (n_series, n_timestamps, n_channels)
        y : array-like of shape (n_series,) or None

        Raises
        ------
        ValueError
            If the series are not such an array, or there is not one class for each.
        """
        array = as_array(series)
        if array.ndim == 2:
            array = array[:, :, None]
        if array.ndim != 3 or 0 in array.shape:
            raise InvalidTableError(
                "A collection must have shape (n_series, n_timestamps) or (n_series, n_timestamps, "
                f"n_channels), none of them 0; got {np.shape(series)}. y holds one class for each series."
            )
        classes, numbers = _read_labels(y, len(array))
        rows = array.reshape(-1, array.shape[2])
        contents = Contents().learn(rows)
        values = contents.read(rows)
        range_ = range_of(values, contents.cardinalities)
        collection = cls(contents, range_, array.shape[1], classes, np.bincount(numbers))
        collection.labelled = y is not None
        standard = range_.standard(values).reshape(array.shape)
        collection.pieces = [
            Piece(one, collection.known(int(number))) for one, number in zip(standard, numbers, strict=True)
        ]
        return collection

    def known(self, number: int) -> _Array:
        """Return what is known beforehand of the rows of a series of a class, shape (length, n_known)."""
        if len(self.classes) == 1:
            return self._bumps
        indicator = np.tile(np.arange(len(self.classes)) == number, (self.length, 1)).astype(np.float64)
        products = (indicator[:, :, None] * self._bumps[:, None, :]).reshape(self.length, -1)
        return np.concatenate([self._bumps, indicator, products], axis=1)

    def numbers(self, y: Any, n_series: int, rng: np.random.Generator) -> NDArray[np.intp]:
        """Return the number of the class of each series to be drawn.

        Raises
        ------
        ConfigurationError
            If a class is unknown, or there is not one for each series.
        """
        if y is None:
            chosen = rng.choice(len(self.counts), n_series, p=self.counts / self.counts.sum())
            return np.asarray(chosen, dtype=np.intp)
        asked = np.full(n_series, y) if np.ndim(y) == 0 else np.asarray(y)
        if asked.shape != (n_series,):
            raise ConfigurationError(
                f"y must be one class, or one for each of the {n_series} series; got shape {asked.shape}."
            )
        matches = asked[:, None] == self.classes
        if not matches.any(axis=1).all():
            unknown = asked[~matches.any(axis=1)].tolist()[0]
            raise ConfigurationError(
                f"y must hold classes of fit, {self.classes.tolist()!r}; got {unknown!r}."
            )
        return np.asarray(matches.argmax(axis=1), dtype=np.intp)

    def draw(
        self, model: NextValue, numbers: NDArray[np.intp], length: int | None, rng: np.random.Generator
    ) -> NDArray[Any]:
        """Draw a series for each number of a class.

        Returns
        -------
        ndarray of shape (n_series, length, n_channels)

        Raises
        ------
        ConfigurationError
            If the length is more than that of the collection.
        """
        length = self.length if length is None else int(length)
        if length > self.length:
            raise ConfigurationError(
                f"length must be at most that of the series of fit, {self.length}; got {length}."
            )
        known = np.stack([self.known(int(number))[:length] for number in numbers], axis=1)
        n_states = model.states(self.pieces[0].values[:1]).shape[1]
        past = np.full((len(numbers), model.plan.window, n_states), np.nan)
        paths = draw_paths(model, past, known, self._settle, rng).transpose(1, 0, 2)
        rows = self.range.original(paths).reshape(-1, paths.shape[2])
        table: NDArray[Any] = self.contents.write_table(rows)
        return table.reshape(paths.shape)

    def wanted(self, strategy: Any) -> NDArray[np.intp]:
        """Return the number of the class of each series that a sampling strategy adds.

        Parameters
        ----------
        strategy : "auto" or mapping of class to target count

        Raises
        ------
        ConfigurationError
            If it is neither, names a class that is not there, or asks for fewer series than there are.
        """
        added = _numbers_added(strategy, self.classes, self.counts)
        return np.repeat(np.arange(len(added)), added)

    def resample(
        self,
        model: NextValue,
        series: NDArray[Any],
        labels: NDArray[Any],
        wanted: NDArray[np.intp],
        rng: np.random.Generator,
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the collection with the wanted series, drawn, behind it."""
        if not len(wanted):
            return series.copy(), labels.copy()
        drawn = self.draw(model, wanted, None, rng).reshape(len(wanted), *series.shape[1:])
        resampled = np.concatenate([labels, self.classes[wanted].astype(labels.dtype)])
        return np.concatenate([series, drawn]), resampled

    def _settle(self, drawn: _Array, step: int) -> _Array:
        values = self.range.original(drawn)
        return self.range.standard(self.contents.settle(values, self.range.low, self.range.high))


def is_collection(series: Any, y: Any) -> bool:
    """Tell a collection from one series, or several with rows of their own."""
    return y is not None or np.ndim(series if hasattr(series, "ndim") else as_array(series)) == 3


def refuse_collection(collection: Collection | None, what: str) -> None:
    """Refuse what only series with rows of their own allow.

    Raises
    ------
    ConfigurationError
    """
    if collection is not None:
        raise ConfigurationError(
            f"{what} one series, or several with entity=; this SeriesAugmenter was fitted on a collection of "
            "whole series. Draw new ones with sample."
        )


def read_collection(series: Any, y: Any, *, time: Any, entity: Any, context: Any) -> Collection:
    """Read a collection, and refuse what describes rows beside it.

    Raises
    ------
    ValueError
        If there is such, or as `Collection.learn`.
    """
    if time is not None or entity is not None or context is not None:
        raise ConfigurationError(
            "time, entity and context belong to series with rows of their own; a collection of shape "
            "(n_series, n_timestamps, n_channels) has none. Leave them out."
        )
    return Collection.learn(series, y)


def _numbers_added(strategy: Any, classes: NDArray[Any], counts: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return how many series of each class a strategy adds."""
    if isinstance(strategy, str) and strategy == "auto":
        return np.asarray(counts.max() - counts, dtype=np.intp)
    if not isinstance(strategy, Mapping):
        raise ConfigurationError(
            f"sampling_strategy must be 'auto' or a dict of class to number of series; got {strategy!r}."
        )
    added = np.zeros(len(classes), dtype=np.intp)
    for label, wanted in strategy.items():
        places = np.flatnonzero(classes == label)
        if not len(places):
            raise ConfigurationError(
                f"sampling_strategy must name classes of y, {classes.tolist()!r}; got {label!r}."
            )
        least = int(counts[places[0]])
        if isinstance(wanted, bool) or not isinstance(wanted, int | np.integer) or wanted < least:
            raise ConfigurationError(
                f"sampling_strategy must ask for at least the {least} series that class {label!r} has; got "
                f"{wanted!r}."
            )
        added[places[0]] = wanted - least
    return added


def _read_labels(y: Any, n_series: int) -> tuple[NDArray[Any], NDArray[np.intp]]:
    if y is None:
        return np.zeros(1, dtype=np.intp), np.zeros(n_series, dtype=np.intp)
    labels = as_array(y)
    if labels.shape not in ((n_series,), (n_series, 1)):
        raise InvalidTableError(
            f"y must have one class for each of the {n_series} series; got "
            f"{len(labels) if labels.ndim == 1 else labels.shape}."
        )
    labels = labels.ravel()
    if pd.isna(labels).any():
        raise InvalidTableError(
            f"y must have a class for each of the {n_series} series; {int(pd.isna(labels).sum())} have none. "
            "Leave these out, or give them a class of their own."
        )
    try:
        check_classification_targets(labels)
    except ValueError as error:
        raise InvalidTableError(
            f"y must hold classes: whole numbers, texts or bools, of one type; got {shown(labels[0])} and "
            "others."
        ) from error
    classes, numbers = np.unique(labels, return_inverse=True)
    return classes, numbers


def _bumps(length: int) -> _Array:
    """Return smooth bumps along a series, shape (length, n_bumps)."""
    n_bumps = int(np.clip(length // 2, 1, _MOST_BUMPS))
    places = np.arange(length) / max(length - 1, 1)
    centres = np.linspace(0.0, 1.0, n_bumps)
    bumps: _Array = np.exp(-0.5 * ((places[:, None] - centres) * max(n_bumps - 1, 1)) ** 2)
    return bumps
