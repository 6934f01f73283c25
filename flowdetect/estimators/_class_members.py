"""Several densities of the classes, each with held-out rows of its own."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import logsumexp

from flowdetect.estimators._classes import ClassDensityEstimator, rows_of_classes
from flowdetect.estimators._decisions import choose_temperature, rejection_levels
from flowdetect.estimators._rows import EncodedRows, take_rows
from flowdetect.estimators._whitening import Whitening

if TYPE_CHECKING:
    from flowdetect.flows import TableDensity, WhitenedDensity
    from flowdetect.training import TrainingResult

__all__ = ["ClassEnsemble", "mixed"]


class ClassEnsemble(ClassDensityEstimator):
    """Base of an estimator with some densities that are conditional on the class."""

    n_models: int
    reject_below: float | None
    calibrate: bool
    _class_shares: np.ndarray
    rejection_levels_: np.ndarray | None

    def _fit_members(
        self, source: EncodedRows, classes: np.ndarray, fit_context: Any, told: dict[str, Any]
    ) -> None:
        """Train the densities, and learn what turns them into answers from the rows that each held out."""
        from flowdetect.training import SklearnCallbacks, held_out_rows

        densities: list[TableDensity] = []
        self._whitenings: list[Whitening | None] = []
        self.training_results_: list[TrainingResult] = []
        # For callbacks that look at the estimator while it learns.
        self.temperature_, self.rejection_levels_ = 1.0, None
        seeds = self._seeds(2 * int(self.n_models))
        held_out = []
        for build_seed, train_seed in zip(seeds[::2], seeds[1::2], strict=True):
            density = self._build(source, build_seed)
            held_out.append(held_out_rows(source, self._training_config(train_seed, len(source))))
            weights = rows_of_classes(source, classes, held_out[-1], self._n_classes)
            self._whitenings.append(self._learn_whitening(source, weights))
            callback = SklearnCallbacks(
                self,
                fit_context,
                **told,
                attributes=lambda now=density: {  # type: ignore[misc]
                    "densities_": [*densities, copy.deepcopy(now).cpu().double()]
                },
            )
            number = len(held_out)
            result = self._train(
                self._whole_density(density, self._whitenings[-1]),
                source,
                train_seed,
                callback=callback,
                description=f"fitting {number}/{self.n_models}" if self.n_models > 1 else "fitting",
            )
            densities.append(density)
            self.training_results_.append(result)
        self.densities_: list[TableDensity] = densities
        self._learn_decisions(source, classes, held_out)

    def _member_log_densities(self, X: Any) -> np.ndarray:
        """Return the log-density of checked rows, shape (n_models, n_rows, n_classes)."""
        return np.stack([self._table_log_densities(X, density) for density in self._whole_densities()])

    def _whole_densities(self) -> list[TableDensity | WhitenedDensity]:
        pairs = zip(self.densities_, self._whitenings, strict=True)
        return [self._whole_density(density, whitening) for density, whitening in pairs]

    def _learn_decisions(self, source: EncodedRows, classes: np.ndarray, held_out: list[np.ndarray]) -> None:
        """Set the temperature and the rejection levels."""
        pairs = zip(held_out, self._whole_densities(), strict=True)
        parts = [self._table_log_densities(take_rows(source.table, rows), density) for rows, density in pairs]
        fresh, densities = np.concatenate(held_out), np.concatenate(parts)
        if self.calibrate:
            self.temperature_ = choose_temperature(
                densities,
                classes[fresh],
                np.log(self._class_shares),
                None if source.weights is None else source.weights[fresh],
                self.encoder_.layout_.n_columns,
            )
        if self.reject_below is not None:
            of_all = mixed(self._member_log_densities(source.table))
            rows = np.arange(len(classes))
            self.rejection_levels_ = rejection_levels(
                (densities[np.arange(len(fresh)), classes[fresh]], classes[fresh]),
                (of_all[rows, classes], classes),
                float(self.reject_below),
                self._n_classes,
            )


def mixed(logs: np.ndarray) -> np.ndarray:
    """Return the logarithm of the mean over the first axis of what logarithms are given of."""
    return np.asarray(logsumexp(logs, axis=0) - np.log(len(logs)))
