"""Points of the unit cube, and the rows of a fitted density that they stand for."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import qmc
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from flowdetect._utils.checks import check_whole
from flowdetect._utils.random import RandomState, resolve_seed
from flowdetect.estimators import FlowAugmenter, FlowDensity
from flowdetect.estimators._classes import class_frame
from flowdetect.estimators._rows import about_context
from flowdetect.exceptions import ConfigurationError

__all__ = ["METHODS", "DensityRows", "Points", "make_points"]

METHODS = ("rqmc", "mc")
# Independent scramblings: enough for an error with a few per cent of its own, few enough for long ones.
_N_SCRAMBLINGS = 16
_BITS = 30
_LEAST, _MOST = 2.0**-54, 1.0 - 2.0**-53


@dataclass(frozen=True)
class Points:
    """Points of the unit cube, in independent groups of equal size.

    Parameters
    ----------
    n_groups : int
    n_per_group : int
        1 for independent points; else a power of 2, and each group is a scrambled Sobol sequence.
    n_dimensions : int
    seed : int
        The same points each time.
    """

    n_groups: int
    n_per_group: int
    n_dimensions: int
    seed: int

    @property
    def n_points(self) -> int:
        """Number of points of all groups."""
        return self.n_groups * self.n_per_group

    def blocks(self, most: int) -> Iterator[np.ndarray]:
        """Yield the points group after group, at most about ``most`` at once.

        Each block, shape (n, n_dimensions), holds whole groups, or an equal part of one.
        """
        if self.n_per_group == 1:
            yield from self._independent(most)
            return
        seeds = np.random.SeedSequence(self.seed).spawn(self.n_groups)
        together = max(1, most // self.n_per_group)
        for first in range(0, self.n_groups, together):
            engines = [
                qmc.Sobol(self.n_dimensions, bits=_BITS, seed=np.random.default_rng(seed))
                for seed in seeds[first : first + together]
            ]
            part = self.n_per_group if len(engines) > 1 else _power_below(min(most, self.n_per_group))
            for _ in range(self.n_per_group // part):
                # Sobol's points are the corners of cells; their middles do not touch the ends of the cube.
                yield np.concatenate([engine.random(part) for engine in engines]) + 2.0 ** -(_BITS + 1)

    def _independent(self, most: int) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(self.seed)
        for start in range(0, self.n_groups, most):
            points = rng.random((min(most, self.n_groups - start), self.n_dimensions))
            yield np.clip(points, _LEAST, _MOST)


def _power_below(number: int) -> int:
    return 1 << (number.bit_length() - 1)


def make_points(n_samples: Any, method: str, n_dimensions: int, random_state: RandomState) -> Points:
    """Return points as asked for; Sobol's in a number that is rounded up to 16 times a power of 2.

    Raises
    ------
    ConfigurationError
        If the method is unknown, n_samples is too small, or there are more dimensions than Sobol's points.
    """
    if method not in METHODS:
        raise ConfigurationError(f"method must be one of {METHODS}; got {method!r}. Choose one of these.")
    check_whole("n_samples", n_samples)
    least = 2 if method == "mc" else 2 * _N_SCRAMBLINGS
    if n_samples < least:
        raise ConfigurationError(
            f"n_samples must be at least {least} with method={method!r}, so that there is an error; "
            f"got {n_samples!r}. Ask for more."
        )
    seed = resolve_seed(random_state)
    if method == "mc":
        return Points(int(n_samples), 1, n_dimensions, seed)
    if n_dimensions > qmc.Sobol.MAXDIM:
        raise ConfigurationError(
            f"method='rqmc' serves at most {qmc.Sobol.MAXDIM} columns; got {n_dimensions}. Use method='mc'."
        )
    exponent = max(1, math.ceil(math.log2(n_samples / _N_SCRAMBLINGS)))
    return Points(_N_SCRAMBLINGS, 2**exponent, n_dimensions, seed)


class DensityRows:
    """The rows of a fitted density at points of the unit cube, for each row of a context.

    Parameters
    ----------
    density : FlowDensity or FlowAugmenter
        Fitted.
    context : DataFrame or array-like, optional
        For a FlowAugmenter, classes.

    Raises
    ------
    ConfigurationError
        If it is another object.
    InvalidTableError
        If the context is missing, given in vain, or cannot be used.
    NotFittedError
        If it is not fitted.
    """

    def __init__(self, density: Any, context: Any) -> None:
        if not isinstance(density, FlowDensity | FlowAugmenter):
            # Others may have a `density_`, but of rows that went through further maps.
            got = f"a {type(density).__name__}" if isinstance(density, BaseEstimator) else repr(density)
            raise ConfigurationError(
                f"density must be a FlowDensity or a FlowAugmenter; got {got}. Fit a FlowDensity on the same "
                "table."
            )
        check_is_fitted(density)
        self.encoder = density.encoder_
        self._rows_at = density._rows_at if isinstance(density, FlowDensity) else density.density_.rows_at
        table = _class_context(density, context) if isinstance(density, FlowAugmenter) else context
        self._context = density._encode_context(density._check_context(table, None))
        self._most = max(1, next(iter(density._chunks(2**30))).stop)

    @property
    def n_dimensions(self) -> int:
        """Dimensions of the cube: one for each value and each code of a row."""
        return int(self.encoder.layout_.n_columns)

    @property
    def has_context(self) -> bool:
        """Whether there is a value for each row of a context, or one alone."""
        return self._context is not None

    @property
    def n_contexts(self) -> int:
        """Number of rows of the context; 1 without."""
        return 1 if self._context is None else len(self._context)

    def context_slices(self, n_points: int) -> Iterator[slice]:
        """Cut the context into parts whose rows at all points fit into memory together."""
        step = max(1, self._most // n_points)
        for start in range(0, self.n_contexts, step):
            yield slice(start, min(start + step, self.n_contexts))

    def tables(self, points: Points, contexts: slice) -> Iterator[Any]:
        """Yield the rows at the points, block by block, for the first row of the context first.

        Every row of the context has the same points: differences between them have small errors.
        """
        n_contexts = contexts.stop - contexts.start
        given = None if self._context is None else self._context[contexts]
        for block in points.blocks(max(1, self._most // n_contexts)):
            # Codes come first: the values depend on them, and Sobol's first dimensions are the most even.
            block = np.roll(block, -self.encoder.layout_.n_codes, axis=1)
            uniforms = torch.from_numpy(np.tile(block, (n_contexts, 1)))
            repeated = None if given is None else given.repeat_interleave(len(block), dim=0)
            yield self.encoder.decode(self._rows_at(uniforms, repeated).numpy())


def _class_context(density: FlowAugmenter, labels: Any) -> Any:
    """Return classes as the context that the density of a FlowAugmenter has."""
    if labels is None or density.classes_ is None:
        return labels
    with about_context():
        numbers = density._classes_asked(labels, np.size(labels), 0)
    return class_frame(numbers, len(density.classes_))
