"""Noise as rows for training, from hot to cold; and a flow as the map of it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.quasirandom import SobolEngine

from flowdetect.flows import TableDensity
from flowdetect.training import Batch, TrainingConfig

__all__ = ["N_VALIDATION", "NoiseMap", "NoiseSource"]

N_VALIDATION = 1024
_LEAST_ROWS = 8 * N_VALIDATION


class NoiseMap(nn.Module):
    """The flow of a density as a map between noise and rows, which `ReverseKL` trains.

    Parameters
    ----------
    density : TableDensity
        Of continuous columns alone, with a standard normal base.
    """

    def __init__(self, density: TableDensity) -> None:
        super().__init__()
        self.density = density
        self._map: Any = None if density.flow is None else density.flow._transform

    def noise_to_rows(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Map noise (n, d) to rows; return them and log|det| (n,)."""
        rows, log_det = self._map.inverse(noise)
        return rows, log_det

    def rows_to_noise(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Map rows (n, d) to noise; return it and log|det| (n,)."""
        noise, log_det = self._map(rows)
        return noise, log_det


class NoiseSource:
    """Standard normal rows without end, with a temperature that falls to 1 as they are handed out.

    Parameters
    ----------
    n_features : int
    config : TrainingConfig
        Of the training to come.
    temperature : float
        At the start; it falls geometrically.
    annealing : float
        Share of the training after which it is 1.
    seed : int
        Of the rows to validate on: randomised Sobol points, which fill the space evenly.
    """

    weights: np.ndarray | None = None

    def __init__(
        self, n_features: int, config: TrainingConfig, *, temperature: float, annealing: float, seed: int
    ) -> None:
        self._n_features, self._seed = n_features, seed
        batch_size = config.batch_size
        # Besides the rows to validate on, a whole number of batches.
        self._n_rows = N_VALIDATION + batch_size * -(-_LEAST_ROWS // batch_size)
        self._n_wanted, self._n_given = batch_size * config.max_steps, 0
        self._temperature, self._annealing = temperature, annealing
        self._started, self._time_budget = time.monotonic(), config.time_budget

    def __len__(self) -> int:
        return self._n_rows

    def rows(self, index: np.ndarray, rng: np.random.Generator | None) -> Batch:
        """Return as many rows as asked for: fresh noise of rng, or else the rows to validate on."""
        n = len(index)
        if rng is None:
            noise, temperatures = self._even_noise(n), np.ones(n)
        else:
            noise = rng.standard_normal((n, self._n_features))
            temperatures = self._temperatures((self._n_given + np.arange(n)) / self._n_wanted)
            self._n_given += n
        return Batch(torch.from_numpy(noise), torch.from_numpy(temperatures[:, None]))

    def _temperatures(self, progress: np.ndarray) -> np.ndarray:
        if self._time_budget is not None:
            progress = np.maximum(progress, (time.monotonic() - self._started) / self._time_budget)
        share = 1.0 if self._annealing == 0.0 else np.minimum(progress / self._annealing, 1.0)
        temperatures: np.ndarray = self._temperature ** (1.0 - share) * np.ones(len(progress))
        return temperatures

    def _even_noise(self, n: int) -> np.ndarray:
        points = SobolEngine(self._n_features, scramble=True, seed=self._seed).draw(n, dtype=torch.float64)
        # A point at the very edge of the cube would be infinite.
        noise: np.ndarray = torch.special.ndtri(points.clamp(1e-10, 1.0 - 1e-10)).numpy()
        return noise
