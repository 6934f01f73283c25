"""Rows of a density of which some columns are given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from flowdetect.exceptions import InvalidTableError
from flowdetect.preprocessing import TableEncoder

if TYPE_CHECKING:
    import torch

    from flowdetect.flows import TableDensity

__all__ = ["ConditionalSampler", "read_conditions"]

# Training rows among which a start is drawn: the nearest in the columns given.
_N_NEAREST = 20
# Moves of all free values together, and of each free code.
_VALUE_MOVES, _CODE_MOVES = 200, 8
# Lengths of moves, as shares of the best one for a normal density in d dimensions (Roberts et al. 1997).
_STEPS = (1.0, 0.5, 0.2)
_BEST_STEP = 2.38  # over sqrt(d)
# Added to the covariance's diagonal, so that it can be inverted.
_RIDGE = 1e-3
_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


def read_conditions(conditions: Any, encoder: TableEncoder) -> pd.DataFrame:
    """Return conditions as a table, its columns in the dtypes of the table that the encoder was fitted on.

    Raises
    ------
    InvalidTableError
        If they are no table, hold unknown columns, or what a column's dtype cannot hold.
    """
    given = _as_table(conditions)
    encoder.encode_given(given.iloc[:0])  # refuses unknown columns
    example = encoder.decode(np.empty((0, encoder.layout_.n_columns)))
    for name in given:
        dtype = example[name].dtype if isinstance(example, pd.DataFrame) else example.dtype
        given[name] = _held_as(given[name], dtype)
    return given


def _held_as(wanted: pd.Series, dtype: Any) -> pd.Series:
    """Return conditions of one column in its dtype, or refuse them if that cannot hold them."""
    held, reason = wanted.where(wanted.notna(), None if pd.api.types.is_object_dtype(dtype) else np.nan), ""
    fine = _can_be(wanted.dropna(), dtype)
    try:
        with np.errstate(over="ignore"):
            held = held.astype(dtype) if fine else held
    except (TypeError, ValueError, OverflowError) as error:
        reason, fine = f" ({error})", False
    if fine and (held.isna() != wanted.isna()).any():
        fine = False  # a dtype without missing entries makes something of them
    if fine and pd.api.types.is_integer_dtype(dtype):
        fine = bool(((held == wanted) | wanted.isna()).all())
    if not fine:
        name = wanted.name.item() if isinstance(wanted.name, np.generic) else wanted.name
        raise InvalidTableError(
            f"conditions of column {name!r} must be values that it can hold ({dtype}); got "
            f"{wanted.iloc[:5].tolist()!r}{reason}."
        )
    return held


def _can_be(present: pd.Series, dtype: Any) -> bool:
    """Return whether entries could be meant as such of a dtype that converts others without a word."""
    if isinstance(dtype, pd.CategoricalDtype):
        return bool(present.isin(dtype.categories).all())
    if pd.api.types.is_bool_dtype(dtype):
        return bool(present.isin([True, False]).all())
    if pd.api.types.is_datetime64_any_dtype(dtype) or pd.api.types.is_timedelta64_dtype(dtype):
        return not pd.api.types.is_numeric_dtype(present.dtype) or not len(present)
    return True


def _as_table(conditions: Any) -> pd.DataFrame:
    if isinstance(conditions, pd.DataFrame):
        given = conditions.reset_index(drop=True)
    elif isinstance(conditions, Mapping):
        single = all(np.ndim(value) == 0 for value in conditions.values())
        try:
            # By number first: names may be tuples.
            given = pd.DataFrame(dict(enumerate(conditions.values())), index=[0] if single else None)
        except ValueError as error:
            raise InvalidTableError(f"conditions must give equally many values a column: {error}.") from error
        given.columns = pd.Index(list(conditions), tupleize_cols=False)
    else:
        raise InvalidTableError(
            "conditions must be a DataFrame, or a mapping of columns to values; "
            f"got {type(conditions).__name__}."
        )
    if not given.shape[0] or not given.shape[1]:
        raise InvalidTableError(
            f"conditions must have at least one row and one column; got shape {given.shape}."
        )
    return given


class ConditionalSampler:
    """Draw the columns that are not given, by Metropolis and Hastings on the exact density.

    Parameters
    ----------
    density : TableDensity
    encoder : TableEncoder
    sources : ndarray of float64, shape (n_sources, n_columns)
        Encoded rows to start from.

    Notes
    -----
    Each row starts as one of the training rows nearest in the columns given, and then makes a fixed number of
    moves that leave ``p(free columns | given columns)`` as it is: single codes drawn from their frequencies,
    and random walks of the values along the covariance that they have given the others. The density is exact,
    so what the moves converge to is exact; that they have converged is an approximation. Where no value is
    given, values are drawn freely, given the codes.

    References
    ----------
    W. K. Hastings (1970), "Monte Carlo sampling methods using Markov chains and their applications".
    """

    def __init__(self, density: TableDensity, encoder: TableEncoder, sources: np.ndarray) -> None:
        self._density = density
        self._encoder = encoder
        self._sources = sources

    def draw(
        self,
        given: np.ndarray,
        known: np.ndarray,
        context: torch.Tensor | None,
        rng: np.random.Generator,
        generator: torch.Generator,
    ) -> np.ndarray:
        """Draw one row for each given one.

        Parameters
        ----------
        given : ndarray of float64, shape (n, n_columns)
        known : ndarray of bool, shape (n_columns,)
            Which columns of ``given`` count.
        context : Tensor of shape (n, n_context_columns), optional
        rng : numpy.random.Generator
        generator : torch.Generator

        Returns
        -------
        ndarray of float64, shape (n, n_columns)
        """
        n_values = self._density.layout.n_values
        values, codes = np.flatnonzero(~known[:n_values]), n_values + np.flatnonzero(~known[n_values:])
        walks = bool(known[:n_values].any()) and len(values) > 0
        rows = np.where(known, given, self._sources[self._starts(given, known, rng)])
        walk = _Walk(self._density, rows, context, rng, with_values=bool(known[:n_values].any()))
        factor = self._factor(values, known) if walks else np.empty((0, 0))
        shares = [self._shares(int(column)) for column in codes]
        for number in range(max(_VALUE_MOVES * walks, _CODE_MOVES * len(codes))):
            if len(codes):
                which = int(rng.integers(len(codes)))
                walk.try_code(int(codes[which]), shares[which])
            if walks:
                walk.try_values(values, _STEPS[number % len(_STEPS)] * factor)
        if walk.with_values or not n_values:
            return walk.rows
        return self._with_values(walk.rows, context, generator)

    def _starts(self, given: np.ndarray, known: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return for each row the position of one of the training rows nearest in the columns given."""
        tables = self._encoder.column_of_[known]
        used = np.isin(self._encoder.coordinate_columns_, tables)
        points, asked = (
            self._encoder.coordinates(rows)[:, used] for rows in (self._sources, np.where(known, given, 0.0))
        )
        n_near = min(_N_NEAREST, len(points))
        # Among rows that agree in all that is given, a little noise draws lots.
        tree = KDTree(points + 1e-6 * rng.standard_normal(points.shape))
        near = tree.query(asked + 1e-6 * rng.standard_normal(asked.shape), k=n_near)[1]
        return near.reshape(len(asked), n_near)[np.arange(len(asked)), rng.integers(n_near, size=len(asked))]

    def _factor(self, free: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Return a root of the covariance of the free values given the known ones, for the best step."""
        n_values = self._density.layout.n_values
        held = np.flatnonzero(known[:n_values])
        covariance = np.eye(n_values)
        if len(self._sources) > 1:
            covariance = np.atleast_2d(np.cov(self._sources[:, :n_values], rowvar=False))
        covariance = covariance + _RIDGE * np.eye(n_values)
        across = covariance[np.ix_(free, held)]
        rest = covariance[np.ix_(free, free)] - across @ np.linalg.solve(
            covariance[np.ix_(held, held)], across.T
        )
        return np.linalg.cholesky(rest + _RIDGE * np.eye(len(free))) * _BEST_STEP / math.sqrt(len(free))

    def _shares(self, column: int) -> np.ndarray:
        """Return how often each code of a column occurs; those that never do have no share."""
        counts = np.bincount(self._sources[:, column].astype(np.intp))
        return counts / counts.sum()

    def _with_values(
        self, rows: np.ndarray, context: torch.Tensor | None, generator: torch.Generator
    ) -> np.ndarray:
        import torch

        codes = torch.from_numpy(rows[:, self._density.layout.n_values :])
        return self._density.draw_values(codes, context, generator).numpy()


class _Walk:
    """Rows that move, each by itself; with ``with_values=False`` only by the probability of their codes.

    Values absent from a row (missing, or an atom) have a standard normal density of their own, so that a
    change of their gate needs no change of dimension.
    """

    def __init__(
        self,
        density: TableDensity,
        rows: np.ndarray,
        context: torch.Tensor | None,
        rng: np.random.Generator,
        *,
        with_values: bool,
    ) -> None:
        self.rows = rows
        self.with_values = with_values
        self._density = density
        self._context = context
        self._rng = rng
        if with_values:
            absent = self._absent(rows)
            rows[:, : absent.shape[1]][absent] = rng.standard_normal(int(absent.sum()))
        self._level = self._log_density(rows)

    def try_code(self, column: int, shares: np.ndarray) -> None:
        """Propose another code of one column, by its frequency among the training rows."""
        proposed = self.rows.copy()
        proposed[:, column] = self._rng.choice(len(shares), size=len(proposed), p=shares)
        now, then = (rows[:, column].astype(np.intp) for rows in (self.rows, proposed))
        self._accept(proposed, np.log(shares[now]) - np.log(shares[then]))

    def try_values(self, columns: np.ndarray, factor: np.ndarray) -> None:
        """Propose a normal step of some values."""
        proposed = self.rows.copy()
        proposed[:, columns] += self._rng.standard_normal((len(proposed), len(columns))) @ factor.T
        self._accept(proposed, np.zeros(len(proposed)))

    def _accept(self, proposed: np.ndarray, correction: np.ndarray) -> None:
        level = self._log_density(proposed)
        taken = np.log(self._rng.random(len(level))) < level - self._level + correction
        self.rows = np.where(taken[:, None], proposed, self.rows)
        self._level = np.where(taken, level, self._level)

    def _absent(self, rows: np.ndarray) -> np.ndarray:
        layout = self._density.layout
        absent = np.zeros((len(rows), layout.n_values), dtype=bool)
        for position, gate in enumerate(layout.gates):
            if gate >= 0:
                absent[:, gate] |= rows[:, layout.n_values + position] != 0
        return absent

    def _log_density(self, rows: np.ndarray) -> np.ndarray:
        import torch

        inputs = torch.from_numpy(rows)
        with torch.inference_mode():
            if not self.with_values:
                codes = inputs[:, self._density.layout.n_values :]
                return self._density.code_log_prob(codes, self._context).numpy()
            level = self._density.log_prob(inputs, self._context).numpy()
        absent = self._absent(rows)
        own = -0.5 * np.square(rows[:, : absent.shape[1]]) - _HALF_LOG_TWO_PI
        return np.asarray(level + np.where(absent, own, 0.0).sum(axis=1))
