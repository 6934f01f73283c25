"""Three simulators with known posteriors.

They follow J.-M. Lueckmann et al. (2021), "Benchmarking simulation-based inference".

Each task has a prior, a simulator, and reference draws of the posterior: exact ones for `GaussianLinear` and
`TwoMoons`; for `Slcp`, whose likelihood is known, by importance resampling followed by a long run of a
population of Markov chains.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

__all__ = ["TASKS", "GaussianLinear", "Slcp", "Task", "TwoMoons"]


class Task(Protocol):
    """A prior, a simulator and draws of the posterior."""

    bounds: list[tuple[float, float]] | None

    def prior(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n parameters."""

    def simulate(self, theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return one outcome for each row of theta."""

    def reference(self, x: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n rows of the posterior given the outcome x."""


class GaussianLinear:
    """Ten means of a normal prior, each seen once with normal noise; both of variance 0.1."""

    bounds = None
    variance = 0.1

    def prior(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n parameters."""
        return np.sqrt(self.variance) * rng.standard_normal((n, 10))

    def simulate(self, theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return one outcome for each row of theta."""
        return theta + np.sqrt(self.variance) * rng.standard_normal(theta.shape)

    def reference(self, x: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n rows of the posterior, normal with mean x / 2 and half the variance."""
        return x / 2.0 + np.sqrt(self.variance / 2.0) * rng.standard_normal((n, 10))


class TwoMoons:
    """Two parameters, uniform on a square; the posterior is two crescents."""

    bounds = [(-1.0, 1.0)] * 2

    def prior(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n parameters."""
        return rng.uniform(-1.0, 1.0, (n, 2))

    def simulate(self, theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return one outcome for each row of theta."""
        along, across = self._turned(theta)
        return self._crescent(len(theta), rng) + np.column_stack((-np.abs(along), across))

    def reference(self, x: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n rows: the crescent that was added is drawn, what it leaves is solved for theta.

        The map from the crescent to (abs(along), across) is a shift, and from there to theta a rotation: with
        a uniform prior the posterior is the crescent's own density where a solution within the square exists.
        """
        rows = np.empty((0, 2))
        while len(rows) < n:
            crescent = self._crescent(4 * n, rng)
            along, across = crescent[:, 0] - x[0], x[1] - crescent[:, 1]
            kept = along >= 0.0
            along, across = rng.choice((-1.0, 1.0), kept.sum()) * along[kept], across[kept]
            theta = np.column_stack((along - across, along + across)) / np.sqrt(2.0)
            rows = np.vstack((rows, theta[(np.abs(theta) <= 1.0).all(axis=1)]))
        return rows[:n]

    def _turned(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return theta.sum(axis=1) / np.sqrt(2.0), (theta[:, 1] - theta[:, 0]) / np.sqrt(2.0)

    def _crescent(self, n: int, rng: np.random.Generator) -> np.ndarray:
        angle, radius = rng.uniform(-np.pi / 2, np.pi / 2, n), rng.normal(0.1, 0.01, n)
        return np.column_stack((radius * np.cos(angle) + 0.25, radius * np.sin(angle)))


class Slcp:
    """Simple likelihood, complex posterior: four draws of a plane's normal with five uniform parameters.

    The likelihood knows squares of the third and fourth parameter only, so the posterior has four modes.
    """

    bounds = [(-3.0, 3.0)] * 5

    def __init__(self, n_start: int = 400_000, n_moves: int = 600) -> None:
        self.n_start, self.n_moves = n_start, n_moves

    def prior(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n parameters."""
        return rng.uniform(-3.0, 3.0, (n, 5))

    def simulate(self, theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return four points, eight numbers, for each row of theta."""
        first, second, correlation = self._shape(theta)
        noise = rng.standard_normal((len(theta), 4, 2))
        x = theta[:, None, 0] + first[:, None] * noise[:, :, 0]
        other = np.sqrt(1.0 - correlation[:, None] ** 2) * noise[:, :, 1]
        y = theta[:, None, 1] + second[:, None] * (correlation[:, None] * noise[:, :, 0] + other)
        return np.stack((x, y), axis=2).reshape(len(theta), 8)

    def log_likelihood(self, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return log p(x | theta) for each row of theta, without its constant."""
        first, second, correlation = self._shape(theta)
        points = x.reshape(4, 2)
        u = (points[:, 0] - theta[:, :1]) / first[:, None]
        v = (points[:, 1] - theta[:, 1:2]) / second[:, None]
        rest = 1.0 - correlation**2
        squares = (u**2 - 2.0 * correlation[:, None] * u * v + v**2).sum(axis=1) / rest
        return -0.5 * squares - 4.0 * np.log(first * second) - 2.0 * np.log(rest)

    def reference(self, x: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n rows: one mode by n Markov chains, the four modes by drawing signs."""
        start = self.prior(self.n_start, rng)
        start[:, 2:4] = np.abs(start[:, 2:4])
        weights = self._log_posterior(start, x)
        weights = np.exp(weights - weights.max())
        rows = self._move(start[rng.choice(len(start), n, p=weights / weights.sum())], x, rng)
        rows[:, 2:4] *= rng.choice((-1.0, 1.0), (n, 2))
        return rows

    def _move(self, rows: np.ndarray, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Move the population by differential evolution (ter Braak 2006): steps are differences of others.

        One half moves by the differences of the other, which leaves the posterior invariant.
        """
        rows, level = rows.copy(), self._log_posterior(rows, x)
        half = len(rows) // 2
        halves = [np.arange(half), np.arange(half, len(rows))]
        for move in range(self.n_moves):
            scale = 1.0 if move % 10 == 9 else rng.uniform(0.3, 1.0) * 2.38 / np.sqrt(10.0)
            for moved, others in (halves, halves[::-1]):
                first, second = rng.choice(others, (2, len(moved)))
                step = scale * (rows[first] - rows[second]) + 1e-3 * rng.standard_normal((len(moved), 5))
                proposed = rows[moved] + step
                new = self._log_posterior(proposed, x)
                accepted = np.log(rng.uniform(size=len(moved))) < new - level[moved]
                rows[moved[accepted]], level[moved[accepted]] = proposed[accepted], new[accepted]
        return rows

    def _log_posterior(self, theta: np.ndarray, x: np.ndarray) -> np.ndarray:
        inside = (np.abs(theta) < 3.0).all(axis=1) & (theta[:, 2:4] > 0.0).all(axis=1)
        level = np.full(len(theta), -np.inf)
        level[inside] = self.log_likelihood(theta[inside], x)
        return level

    def _shape(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return theta[:, 2] ** 2, theta[:, 3] ** 2, np.tanh(theta[:, 4])


TASKS = {"gaussian linear": GaussianLinear, "two moons": TwoMoons, "slcp": Slcp}
