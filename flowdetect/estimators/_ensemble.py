"""The members of `FlowOutlierDetector`: how they are fitted, and how they score together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flowdetect.estimators._base import FlowEstimator
from flowdetect.estimators._labels import LEAST_ANOMALIES, choose_scales
from flowdetect.estimators._members import ChosenRows, Member, choose_rows, n_dimensions, share_of_numbers
from flowdetect.estimators._neighbours import Neighbours
from flowdetect.estimators._rows import EncodedRows, take_rows

if TYPE_CHECKING:
    from flowdetect.flows import TableDensity
    from flowdetect.training import Callback, TrainingResult

__all__ = ["LEAST_FOLD_ROWS", "EnsembleEstimator"]

# Noise scales at which rows are scored, in units of the encoded columns.
SCORING_SCALES = (0.01, 0.03, 0.1, 0.3, 1.0)
# Sets of them among which known anomalies may choose.
_SCALE_CHOICES = ((0, 1, 2, 3, 4), (0, 1), (3, 4))
# A member is fitted without a fold only if the fold has some rows to score.
LEAST_FOLD_ROWS = 5


class EnsembleEstimator(FlowEstimator):
    """Base of an estimator whose flows, each with neighbours, learn from all but one fold of the rows."""

    n_models: int
    max_steps: int
    batch_size: int

    def _splits(self, known: np.ndarray, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return for each member the rows that it may learn from, and those that it scores, in order."""
        every = np.arange(len(known))
        # Known anomalies are dealt out by themselves: each member needs other rows to learn from.
        others, anomalies = (rng.permutation(np.flatnonzero(rows)) for rows in (known >= 0, known < 0))
        n_folds = min(self.n_models, len(others) // LEAST_FOLD_ROWS)
        if n_folds < 2:
            return [(every, every)]
        parts = zip(np.array_split(others, n_folds), np.array_split(anomalies, n_folds), strict=True)
        folds = [np.sort(np.concatenate(part)) for part in parts]
        return [(np.setdiff1d(every, fold), fold) for fold in folds]

    def _fit_members(
        self,
        source: EncodedRows,
        known: np.ndarray,
        splits: Sequence[tuple[np.ndarray, np.ndarray]],
        seeds: Sequence[int],
        rng: np.random.Generator,
        callback: Callback,
    ) -> None:
        """Train one flow per split, and choose its neighbours; two seeds belong to each."""
        chosen = [choose_rows(source, learnt, known, self._n_visited(), rng) for learnt, _ in splits]
        self._members: list[Member] = []
        self.densities_: list[TableDensity] = []
        self.training_results_: list[TrainingResult] = []
        for number, rows in enumerate(chosen):
            build_seed, train_seed = seeds[2 * number : 2 * number + 2]
            density = self._build(source, build_seed)
            result = self._train(
                density,
                source.subset(rows.learnt),
                train_seed,
                callback=callback,
                description=f"fitting {number + 1}/{len(splits)}",
            )
            self.densities_.append(density)
            near, anomalies = self._neighbours(source, rows)
            self._members.append(Member(density, near, anomalies, share_of_numbers(self.encoder_)))
            self.training_results_.append(result)
        self.scales_ = self._choose_scales(source.table, known, splits)
        for member, rows in zip(self._members, chosen, strict=True):
            parts = [
                (log_det, self._flow_scores(matrix, member.density))
                for matrix, _, log_det in self._encoded_chunks(take_rows(source.table, rows.near))
            ]
            member.learn_levels(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def _n_visited(self) -> int:
        return int(self.max_steps) * int(self.batch_size)

    def _neighbours(self, source: EncodedRows, rows: ChosenRows) -> tuple[Neighbours, Neighbours | None]:
        def points(index: np.ndarray) -> np.ndarray:
            matrix = self.encoder_.encode(take_rows(source.table, index))[0]
            return self.encoder_.coordinates(matrix)

        n_columns = n_dimensions(self.encoder_)
        weights = None if source.weights is None else source.weights[rows.near]
        near = Neighbours(points(rows.near), n_columns, weights)
        return near, Neighbours(points(rows.anomalies), n_columns) if len(rows.anomalies) else None

    def _choose_scales(
        self, X: Any, known: np.ndarray, splits: Sequence[tuple[np.ndarray, np.ndarray]]
    ) -> tuple[float, ...]:
        """Return the noise scales to score at: all, or those that suit the known anomalies better."""
        if np.sum(known < 0) < LEAST_ANOMALIES or len(splits) < 2:
            return SCORING_SCALES
        by_scale = np.empty((len(SCORING_SCALES), len(known)))
        for member, (_, held_out) in zip(self._members, splits, strict=True):
            parts = [
                log_det + self._by_scale(matrix, member.density, SCORING_SCALES)
                for matrix, _, log_det in self._encoded_chunks(take_rows(X, held_out))
            ]
            by_scale[:, held_out] = np.concatenate(parts, axis=1)
        return tuple(SCORING_SCALES[i] for i in choose_scales(by_scale, known, _SCALE_CHOICES))

    def _held_out_scores(self, X: Any, splits: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        scores = np.empty(len(X))
        for member, (_, held_out) in zip(self._members, splits, strict=True):
            scores[held_out] = self._score_rows(take_rows(X, held_out), [member], held_out=True)
        return scores

    def _score_rows(self, X: Any, members: Sequence[Member], *, held_out: bool = False) -> np.ndarray:
        """Return the largest score of each checked row that a member gives."""
        parts = [
            np.max(
                [
                    m.score(points, log_det, self._flow_scores(matrix, m.density), held_out=held_out)
                    for m in members
                ],
                axis=0,
            )
            for matrix, points, log_det in self._encoded_chunks(X)
        ]
        return np.concatenate(parts)

    def _encoded_chunks(self, X: Any) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield the matrix, the points and the log-determinant of checked rows, chunk by chunk."""
        for rows in self._chunks(len(X)):
            matrix, log_det = self.encoder_.encode(take_rows(X, rows))
            yield matrix, self.encoder_.coordinates(matrix), log_det

    def _flow_scores(self, matrix: np.ndarray, density: TableDensity) -> np.ndarray:
        """Return the mean over the noise scales of a flow's log-density of encoded rows."""
        return self._by_scale(matrix, density, self.scales_).mean(axis=0)

    def _by_scale(self, matrix: np.ndarray, density: TableDensity, scales: Sequence[float]) -> np.ndarray:
        """Return a flow's log-density of encoded rows at each scale, shape (n_scales, n_rows)."""
        import torch

        from flowdetect.training import noise_context

        # One call for all scales: on a few rows the calls take longer than the work.
        levels = torch.cat([noise_context(scale, len(matrix)) for scale in scales])
        scores = self._log_density(np.tile(matrix, (len(scales), 1)), levels, [density])
        return scores.reshape(len(scales), len(matrix))
