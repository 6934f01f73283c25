"""Rows drawn from a fitted density: near training rows, with columns given, within bounds and constraints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.utils import column_or_1d

from flowdetect.estimators._classes import ClassDensityEstimator
from flowdetect.estimators._conditions import ConditionalSampler, read_conditions
from flowdetect.estimators._grids import as_floats, find_grids
from flowdetect.estimators._rows import EncodedRows, take_rows
from flowdetect.estimators._sources import Sources, ValueBounds, within_bounds
from flowdetect.exceptions import ConfigurationError, ConstraintError, InvalidTableError

if TYPE_CHECKING:
    import torch

__all__ = ["DrawingEstimator"]

# So often rows that break a constraint are drawn again before it counts as one that cannot be met.
_MOST_ROUNDS = 100
# So many rows drawn one after the other without one that fulfils it are enough as well.
_MOST_IN_VAIN = 5000
# In a class of this many rows, half of the variance of a drawn row's noise is fresh.
_HALF_FRESH = 30.0
# Classifiers learn most from rows that keep to the training rows: `fit_resample` draws no further from them.
_NEAR = 0.5
# Of up to this many times as many draws as are wanted, those are taken that look most like their class.
_FILTER_DRAWS = 8
# Classes then compete with their frequencies to these powers, the next one only where too few rows pass.
_FILTER_POWERS = (1.0, 0.5, 0.0)

Draw = Callable[[np.ndarray], np.ndarray]


class DrawingEstimator(ClassDensityEstimator):
    """Base of an estimator that draws rows of classes; subclasses have the parameters read here.

    A class is its number within ``classes_``; a table without classes is one class, 0.
    """

    noise_scale: Any
    bounds: Any
    constraints: Any
    classes_: np.ndarray | None

    @property
    def _n_classes(self) -> int:
        return len(self._class_sizes)

    def _keep_sources(self, source: EncodedRows, classes: np.ndarray, rng: np.random.Generator) -> None:
        """Keep what drawing needs of the training rows."""
        kept = Sources.choose(classes, rng)
        # Encoded anew: the training rows are rounded to float32.
        self._sources = Sources(self.encoder_.encode(take_rows(source.table, kept))[0], classes[kept])
        self._class_sizes = np.bincount(classes)
        self._value_bounds = ValueBounds.build(self.encoder_, self._sources.matrix, self.bounds)
        self._grids = find_grids(take_rows(source.table, kept), self.encoder_)

    # --- encoded rows -----------------------------------------------------------------------------

    def _draw_near(
        self,
        classes: np.ndarray,
        rng: np.random.Generator,
        generator: torch.Generator,
        *,
        near_rows: bool = False,
    ) -> np.ndarray:
        """Draw one encoded row of each class asked for, from a training row of the class."""
        import torch

        picked = self._sources.pick(classes, rng)
        scales = self._noise_scales(near_rows)[classes]
        drawn = []
        for rows in self._chunks(len(classes)):
            start = self._sources.matrix[picked[rows]]
            found = self.density_.vary_rows(
                torch.from_numpy(self.encoder_.dequantize(start, rng)),
                torch.from_numpy(scales[rows, None]),
                self._class_context(classes[rows]),
                generator,
            ).numpy()
            drawn.append(self._value_bounds.reflect(self._known_codes(found, start)))
        return np.concatenate(drawn)

    def _draw_given(
        self,
        classes: np.ndarray,
        given: np.ndarray,
        known: np.ndarray,
        rng: np.random.Generator,
        generator: torch.Generator,
    ) -> np.ndarray:
        """Draw one encoded row of each class asked for, with some columns of the matrix given."""
        drawn = np.empty(given.shape)
        for k in np.unique(classes):
            own = self._sources.matrix[self._sources.classes == k]
            sampler = ConditionalSampler(self.density_, self.encoder_, own)
            asked = np.flatnonzero(classes == k)
            for rows in self._chunks(len(asked)):
                at = asked[rows]
                found = sampler.draw(given[at], known, self._class_context(classes[at]), rng, generator)
                found = self._value_bounds.reflect(found)
                drawn[at] = np.where(known, given[at], found)
        return drawn

    def _noise_scales(self, near_rows: bool = False) -> np.ndarray:
        """Return for each class how much of a drawn row is fresh, within 0..1."""
        if not isinstance(self.noise_scale, str):
            return np.full(len(self._class_sizes), float(self.noise_scale))
        scales = np.sqrt(self._class_sizes / (self._class_sizes + _HALF_FRESH))
        return np.minimum(scales, _NEAR) if near_rows else scales

    def _known_codes(self, drawn: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return drawn rows with the start's code where a code occurs in no training row."""
        for column in range(self.encoder_.layout_.n_values, drawn.shape[1]):
            unknown = ~np.isin(drawn[:, column], self._sources.matrix[:, column])
            drawn[unknown, column] = start[unknown, column]
        return drawn

    def _draw_typical(
        self, classes: np.ndarray, rng: np.random.Generator, generator: torch.Generator
    ) -> np.ndarray:
        """Draw rows near training rows, of several times as many those that look most like their class."""
        found, tiers = [], []
        wanted = np.bincount(classes, minlength=len(self._class_sizes))
        for _ in range(_FILTER_DRAWS):
            found.append(self._draw_near(classes, rng, generator, near_rows=True))
            tiers.append(self._doubts(found[-1], classes))
            fine = np.bincount(
                np.tile(classes, len(tiers))[np.concatenate(tiers) == 0], minlength=len(wanted)
            )
            if (fine >= wanted).all():
                break
        every, doubts = np.tile(classes, len(found)), np.concatenate(tiers)
        taken = np.empty(len(classes), dtype=np.intp)
        for k in np.flatnonzero(wanted):
            own = np.flatnonzero(every == k)
            taken[classes == k] = own[np.argsort(doubts[own], kind="stable")[: wanted[k]]]
        return np.concatenate(found)[taken]

    def _doubts(self, matrix: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Return for each row how far the frequency of other classes must be discounted for it to be its own.

        0: it is more probable in its class than in any other, at their frequencies in training; 1, 2: if the
        others count less, as `_FILTER_POWERS` says; 3: not even if all were equally frequent.
        """
        scores = self._class_log_densities(matrix, self.density_)
        rows = np.arange(len(matrix))
        doubts = np.full(len(matrix), len(_FILTER_POWERS))
        for doubt, power in reversed(list(enumerate(_FILTER_POWERS))):
            others = scores + power * np.log(self._class_sizes)
            own = others[rows, classes]
            others[rows, classes] = -np.inf
            doubts[own > others.max(axis=1)] = doubt
        return doubts

    # --- tables -----------------------------------------------------------------------------------

    def _table_of(self, matrix: np.ndarray, given: pd.DataFrame | None) -> Any:
        """Return encoded rows in the caller's kind, with the columns given as they were given."""
        table = self.encoder_.decode(matrix)
        for position, grid in self._grids.items():
            if isinstance(table, pd.DataFrame):
                column = table.iloc[:, position]
                snapped = pd.Series(grid.snap(as_floats(column)), index=column.index)
                table.isetitem(position, snapped.where(column.notna()).astype(column.dtype).array)
            else:
                table[:, position] = grid.snap(table[:, position])
        if given is None:
            return table
        for name, values in given.items():
            position = self.encoder_.schema_.names.index(name)
            if isinstance(table, pd.DataFrame):
                table.isetitem(position, values.astype(table.dtypes.iloc[position]).array)
            else:
                table[:, position] = values
        return table

    def _accepted(self, draw: Draw, n_rows: int, given: pd.DataFrame | None) -> Any:
        """Draw rows until all fulfil the declared bounds and the constraints.

        Parameters
        ----------
        draw : callable
            From positions of the rows wanted to encoded rows.
        n_rows : int
        given : DataFrame of n_rows rows or None

        Raises
        ------
        ConstraintError
            If some row fulfils them in none of a hundred draws, or none of thousands of rows does.
        """
        checks = self._checks()
        matrix = draw(np.arange(n_rows))
        if not checks:
            return self._table_of(matrix, given)
        refused, n_draws, n_drawn, n_refused, in_vain = np.arange(n_rows), 0, 0, 0, 0
        for _ in range(_MOST_ROUNDS):
            asked = None if given is None else given.iloc[refused]
            fine = _fulfilled(checks, self._table_of(matrix[refused], asked))
            n_draws, n_drawn = n_draws + 1, n_drawn + len(refused)
            n_refused += int(np.sum(~fine))
            in_vain = 0 if fine.any() else in_vain + len(refused)
            refused = refused[~fine]
            if not len(refused):
                return self._table_of(matrix, given)
            if in_vain > _MOST_IN_VAIN:
                break
            matrix[refused] = draw(refused)
        raise ConstraintError(
            f"{len(refused)} of {n_rows} rows did not fulfil the constraints in {n_draws} draws each; "
            f"of all {n_drawn} drawn rows {n_drawn - n_refused} did. Loosen the constraints"
            f"{'' if given is None else ' or the conditions'}, or look whether the training rows fulfil them."
        )

    def _checks(self) -> list[Callable[[Any], Any]]:
        constraints = [] if self.constraints is None else self.constraints
        checks = [constraints] if callable(constraints) else constraints
        if not isinstance(checks, list | tuple) or not all(callable(check) for check in checks):
            raise ConfigurationError(
                "constraints must be a function from a table to one bool per row, or a list of such; "
                f"got {constraints!r}."
            )
        checks = list(checks)
        if isinstance(self.bounds, Mapping):
            return [lambda table: within_bounds(table, self.encoder_, self.bounds), *checks]
        return checks

    # --- what is asked for ----------------------------------------------------------------------------------

    def _draw_table(
        self,
        classes: np.ndarray,
        given: pd.DataFrame | None,
        seed: int,
        *,
        near_rows: bool = False,
        filtered: bool = False,
    ) -> Any:
        """Return one row of each class asked for, of the kind that was fitted on."""
        import torch

        rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        if given is None and filtered and len(self._class_sizes) > 1:
            return self._accepted(
                lambda rows: self._draw_typical(classes[rows], rng, generator), len(classes), None
            )
        if given is None:
            return self._accepted(
                lambda rows: self._draw_near(classes[rows], rng, generator, near_rows=near_rows),
                len(classes),
                None,
            )
        matrix, known = self.encoder_.encode_given(given)
        return self._accepted(
            lambda rows: self._draw_given(classes[rows], matrix[rows], known, rng, generator),
            len(classes),
            given,
        )

    def _classes_asked(self, y: Any, n_rows: int, seed: int) -> np.ndarray:
        """Return the number of the class of each row to draw."""
        if y is None:
            rng = np.random.default_rng([seed, 1])
            shares = self._class_sizes / self._class_sizes.sum()
            return rng.choice(len(shares), size=n_rows, p=shares)
        if self.classes_ is None:
            raise ConfigurationError("y asks for classes, but this FlowAugmenter was fitted without y.")
        labels = np.full(n_rows, y) if np.ndim(y) == 0 else column_or_1d(y)
        place = {label: k for k, label in enumerate(self.classes_.tolist())}
        unknown = sorted({str(label) for label in labels.tolist() if label not in place})
        if unknown or len(labels) != n_rows:
            got = f"unknown ones: {unknown[:10]}" if unknown else f"{len(labels)} of them"
            raise InvalidTableError(
                f"y must be one class, or one for each of {n_rows} rows, out of {self.classes_.tolist()}; "
                f"got {got}."
            )
        return np.array([place[label] for label in labels.tolist()], dtype=np.intp)

    def _check_conditions(self, conditions: Any) -> pd.DataFrame:
        """Return conditions as a table with the dtypes of training, or refuse them."""
        given = read_conditions(conditions, self.encoder_)
        matrix, known = self.encoder_.encode_given(given)
        self._refuse_unseen(matrix, known)
        return given

    def _refuse_unseen(self, matrix: np.ndarray, known: np.ndarray) -> None:
        """Refuse categories that no training row has."""
        for column in np.flatnonzero(known):
            if column < self.encoder_.layout_.n_values:
                continue
            unseen = ~np.isin(matrix[:, column], self._sources.matrix[:, column])
            if unseen.any():
                name = self.encoder_.schema_.names[self.encoder_.column_of_[column]]
                raise InvalidTableError(
                    f"conditions must hold values that column {name!r} had in training; row "
                    f"{int(np.argmax(unseen))} holds another one."
                )


def _fulfilled(checks: list[Callable[[Any], Any]], table: Any) -> np.ndarray:
    fine = np.ones(len(table), dtype=bool)
    for check in checks:
        found = np.asarray(check(table))
        if found.shape != (len(table),) or found.dtype != bool:
            raise InvalidTableError(
                f"A constraint must return one bool per row, shape ({len(table)},); "
                f"{getattr(check, '__name__', check)!r} returned {found.dtype} of shape {found.shape}."
            )
        fine &= found
    return fine
