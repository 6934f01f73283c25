"""One member of the detector: a flow and neighbours that learnt from the same rows, and their joint score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from flowdetect.estimators._labels import LEAST_ANOMALIES
from flowdetect.estimators._neighbours import Neighbours, core_rows, marginal_log_density
from flowdetect.estimators._rows import EncodedRows, take_rows
from flowdetect.preprocessing import TableEncoder

if TYPE_CHECKING:
    from flowdetect.flows import TableDensity

__all__ = ["ChosenRows", "Member", "choose_rows", "n_dimensions", "share_of_numbers"]

# More neighbours than this would make scoring slow, and the density hardly sharper.
_MAX_NEIGHBOURS = 10_000
# Weight of the neighbours' density beside the flow's, both in nats, where all columns are numbers. Categories
# are either equal or not: beside them neighbours say nothing that the flow does not.
_NEIGHBOURS_WEIGHT = 0.75
# How much of the level of density around a row is taken out of its score: 0 finds rows of low density, 1 rows
# of low density for where they are.
_LOCAL_WEIGHT = 0.5


class Member:
    """A flow, its neighbours, and the rows known to be anomalies that both have not learnt from.

    Parameters
    ----------
    density : TableDensity
    neighbours : Neighbours
        Some of the rows that the flow learnt from.
    anomalies : Neighbours or None
        Known anomalies.
    share : float
        Share of the pairs of columns that are both numbers or times.
    """

    def __init__(
        self, density: TableDensity, neighbours: Neighbours, anomalies: Neighbours | None, share: float
    ) -> None:
        self.density = density
        self.neighbours = neighbours
        self.anomalies = anomalies
        self.share = share
        self._levels = np.zeros(len(neighbours.points))
        self._mean_level = 0.0

    def learn_levels(self, log_det: np.ndarray, flow: np.ndarray) -> None:
        """Keep the density at each of the neighbours' points.

        Parameters
        ----------
        log_det, flow : ndarray of shape (n_points,)
            Log-determinant and the flow's log-density of the points, in their order.
        """
        self._levels = log_det + self._pooled(flow, *self.neighbours.find(self.neighbours.points))
        self._mean_level = float(self._levels.mean())

    def score(
        self, points: np.ndarray, log_det: np.ndarray, flow: np.ndarray, *, held_out: bool = False
    ) -> np.ndarray:
        """Return the score of rows.

        Parameters
        ----------
        points : ndarray of shape (n, n_coordinates)
        log_det, flow : ndarray of shape (n,)
            Log-determinant and the flow's log-density of the rows.
        held_out : bool
            Whether these are training rows: a known anomaly is then not compared with itself.

        Returns
        -------
        ndarray of shape (n,)
        """
        distances, positions = self.neighbours.find(points)
        score = log_det + self._pooled(flow, distances, positions)
        score += (
            self.share * _LOCAL_WEIGHT * (self._mean_level - self.neighbours.average(self._levels, positions))
        )
        if self.anomalies is not None:
            usual = self.neighbours.log_density(distances, positions)
            score -= self._likeness(points, usual, held_out)
        return score

    def _pooled(self, flow: np.ndarray, distances: np.ndarray, positions: np.ndarray) -> np.ndarray:
        near = self.neighbours.log_density(distances, positions)
        weight = self.share * _NEIGHBOURS_WEIGHT
        return weight * near + (1.0 - weight) * flow

    def _likeness(self, points: np.ndarray, usual: np.ndarray, held_out: bool) -> np.ndarray:
        """Return what rows lose for being like the known anomalies, in nats.

        From five anomalies on it is a share, growing to all, of how much denser these lie around the row than
        the other rows do. Fewer speak only against rows that are more likely theirs than not.
        """
        if self.anomalies is None:
            return np.zeros(len(points))
        n_known = len(self.anomalies.points)
        ratio = self.anomalies.log_density(*self.anomalies.find(points, without_itself=held_out)) - usual
        if n_known < LEAST_ANOMALIES:
            prior = np.log(n_known / len(self.neighbours.points))
            return np.maximum(ratio + prior, 0.0)
        return (n_known + 1 - LEAST_ANOMALIES) / (n_known + 1 + LEAST_ANOMALIES) * ratio


@dataclass(frozen=True)
class ChosenRows:
    """Which rows a member learns from, by their position in the table.

    Parameters
    ----------
    learnt : ndarray of int
        The rows that the flow learns from.
    near : ndarray of int
        Those of them that become neighbours: not the ones in a small cluster away from the others.
    anomalies : ndarray of int
        Known anomalies, which neither learns from.
    """

    learnt: np.ndarray
    near: np.ndarray
    anomalies: np.ndarray


def choose_rows(
    source: EncodedRows, allowed: np.ndarray, known: np.ndarray, n_visited: int, rng: np.random.Generator
) -> ChosenRows:
    """Leave out known anomalies, more rows than can be looked at, and small clusters of neighbours.

    Parameters
    ----------
    source : EncodedRows
    allowed : ndarray of int
        Rows of the folds that the member may learn from.
    known : ndarray of shape (n_rows,)
        Labels. Rows known to be normal are never left out as a cluster.
    n_visited : int
        Number of rows that training can look at.
    rng : numpy.random.Generator
    """
    # All of them, also those of the fold: a known anomaly is not compared with itself.
    anomalies = np.flatnonzero(known < 0)
    learnt = _some(allowed[known[allowed] >= 0], max(n_visited, _MAX_NEIGHBOURS), rng)
    near = _some(learnt, _MAX_NEIGHBOURS, rng)
    encoder = source.encoder
    matrix = encoder.encode(take_rows(source.table, near))[0]
    layout = encoder.layout_
    marginal = marginal_log_density(matrix, layout.n_values, layout.cardinalities)
    core = core_rows(encoder.coordinates(matrix), marginal, n_dimensions(encoder)) | (known[near] > 0)
    return ChosenRows(learnt, near[core], _some(anomalies, _MAX_NEIGHBOURS, rng))


def n_dimensions(encoder: TableEncoder) -> int:
    """Return the number of columns that vary: others say the same of every row."""
    return sum(column.kind not in ("constant", "empty", "copy") for column in encoder.schema_.columns)


def share_of_numbers(encoder: TableEncoder) -> float:
    """Return which share of the pairs of columns that vary are both numbers or times; 1 where none varies."""
    numbers = sum(
        column.storage.family in ("number", "time") and column.kind in ("continuous", "lattice", "levels")
        for column in encoder.schema_.columns
    )
    n_columns = n_dimensions(encoder)
    return (numbers / n_columns) ** 2 if n_columns else 1.0


def _some(rows: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))
