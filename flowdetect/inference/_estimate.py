"""`Estimate`: a number with its error, and how it is summed up from independent groups of points."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from flowdetect.exceptions import ConfigurationError

__all__ = ["Estimate", "RunningMean"]


@dataclass(frozen=True, eq=False)
class Estimate:
    """A number computed by simulation, or an array of them, with its error.

    It unpacks as ``value, standard_error = estimate``.

    Parameters
    ----------
    value : float or ndarray
        With context, the first axis runs over its rows.
    standard_error : float or ndarray
        Of the simulation, in the shape and the unit of the value. How well the density fits the data is not
        part of it.
    n_samples : int
        Number of rows drawn, for each row of the context.
    degrees_of_freedom : int
        Of the standard error: one less than the number of independent groups of rows.
    columns : tuple
        Names of the columns that the last axis of the value runs over; empty if it does not.

    Examples
    --------
    >>> value, standard_error = Estimate(2.0, 0.1, n_samples=4096, degrees_of_freedom=15)
    >>> low, high = Estimate(2.0, 0.1, n_samples=4096, degrees_of_freedom=15).interval(0.95)
    >>> round(float(low), 3), round(float(high), 3)
    (1.787, 2.213)
    """

    value: Any
    standard_error: Any
    n_samples: int
    degrees_of_freedom: int
    columns: tuple[Any, ...] = ()

    def __iter__(self) -> Iterator[Any]:
        yield self.value
        yield self.standard_error

    def interval(self, level: float = 0.95) -> tuple[Any, Any]:
        """Return the ends of an interval that holds the exact value with this probability.

        Parameters
        ----------
        level : float, default=0.95

        Returns
        -------
        low, high : float or ndarray
            ``value -+ t * standard_error``, with the quantile t of Student's distribution.

        Raises
        ------
        ConfigurationError
            If level does not lie between 0 and 1.
        """
        if not 0.0 < level < 1.0:
            raise ConfigurationError(f"level must lie between 0 and 1; got {level!r}.")
        reach = student.ppf(0.5 + 0.5 * level, self.degrees_of_freedom) * self.standard_error
        return self.value - reach, self.value + reach


class RunningMean:
    """Mean of independent groups, and its standard error, from blocks of them.

    References
    ----------
    T. F. Chan, G. H. Golub, R. J. LeVeque (1983), "Algorithms for computing the sample variance".
    """

    def __init__(self) -> None:
        self.n_groups = 0
        self.mean: Any = 0.0
        self._squares: Any = 0.0

    def add(self, groups: np.ndarray) -> None:
        """Take in the means of further groups, shape (n_contexts, n_groups, n_numbers)."""
        n_new = groups.shape[1]
        mean = groups.mean(axis=1)
        squares = np.square(groups - mean[:, None]).sum(axis=1)
        total = self.n_groups + n_new
        step = mean - self.mean
        self._squares = self._squares + squares + np.square(step) * (self.n_groups * n_new / total)
        self.mean = self.mean + step * (n_new / total)
        self.n_groups = total

    def standard_error(self) -> np.ndarray:
        """Return the standard deviation of the groups over the root of their number."""
        return np.asarray(np.sqrt(self._squares / (self.n_groups - 1.0) / self.n_groups))
