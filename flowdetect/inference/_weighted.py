"""What a fitted flow answers together with weighted draws: rows, densities, means, the constant."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, check_is_fitted

from flowdetect._utils.checks import check_whole
from flowdetect._utils.random import RandomState, resolve_seed
from flowdetect.exceptions import ConfigurationError, InvalidTableError, TrainingWarning
from flowdetect.inference._gaussian import Gaussian
from flowdetect.inference._importance import Weights, smooth_weights
from flowdetect.inference._target import Target

if TYPE_CHECKING:
    from torch import Tensor

    from flowdetect.flows import TableDensity

__all__ = ["N_TRIED", "WeightedFlow"]

# Rows on which a log-density is tried.
N_TRIED = 16
_CHUNK = 4096


class WeightedFlow(BaseEstimator):
    """Base of an estimator that has learnt a flow ``density_`` of u, with rows ``location_ + scale_ @ u``."""

    location_: np.ndarray
    scale_: np.ndarray
    density_: TableDensity

    def sample(
        self, n_samples: int = 1, *, corrected: bool = False, random_state: RandomState = None
    ) -> np.ndarray:
        """Draw rows.

        Parameters
        ----------
        n_samples : int, default=1
        corrected : bool, default=False
            Choose among the draws kept by their weights, with replacement, instead of new draws from the
            flow: for many draws this is p where the flow is not quite, but rows come repeatedly.
        random_state : int, RandomState, Generator or None, default=None
            An int gives the same rows each time, None new ones.

        Returns
        -------
        ndarray of shape (n_samples, n_features)

        Raises
        ------
        ConfigurationError
            If n_samples is not a positive whole number.
        NotFittedError
            Before fit.
        """
        check_is_fitted(self, "log_weights_")
        check_whole("n_samples", n_samples)
        seed = resolve_seed(random_state)
        if not corrected:
            return self._draw(int(n_samples), seed)[0]
        shares = self._weights().normalised
        chosen: np.ndarray = self.draws_[
            np.random.default_rng(seed).choice(len(shares), int(n_samples), p=shares)
        ]
        return chosen

    def score_samples(self, X: Any) -> np.ndarray:
        """Return log q of rows, the log-density of the flow.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows,)
            In nats, normalised; larger = more plausible.

        Raises
        ------
        ValueError
            If X is no table of finite numbers with n_features columns.
        NotFittedError
            Before fit.
        """
        import torch

        check_is_fitted(self, "log_weights_")
        X = check_array(X, dtype=np.float64)
        if X.shape[1] != len(self.location_):
            raise InvalidTableError(
                f"X must have {len(self.location_)} columns, as n_features says; got {X.shape[1]}. "
                "Pass one row for each point."
            )
        inner = torch.from_numpy(np.linalg.solve(self.scale_, (X - self.location_).T).T.copy())
        with torch.inference_mode():
            parts = [self.density_.log_prob(part) for part in inner.split(_CHUNK)]
        scores: np.ndarray = torch.cat(parts).numpy() - np.log(np.diag(self.scale_)).sum()
        return scores

    def expectation(
        self,
        function: Callable[[np.ndarray], Any],
        *,
        log_density: Callable[[Tensor], Tensor] | None = None,
        n_samples: int | None = None,
        random_state: RandomState = None,
    ) -> tuple[Any, Any]:
        """Return the mean of a function under p, by draws from the flow with smoothed weights.

        Parameters
        ----------
        function : callable
            Takes rows (n, n_features), returns numbers (n,) or (n, k).
        log_density : callable, optional
            What was fitted, to weight new draws; without it the n_importance draws of fit serve.
        n_samples : int, optional
            Number of new draws, 4,000 by default; only with log_density.
        random_state : int, RandomState, Generator or None, default=None
            Of the new draws.

        Returns
        -------
        value : float or ndarray of shape (k,)
        standard_error : float or ndarray of shape (k,)
            Of the value, ``sqrt(sum w^2 (f - value)^2)`` with weights that sum to 1. It does not show what
            the flow has missed altogether.

        Raises
        ------
        ConfigurationError
            If the function returns something else, or n_samples is given without log_density.
        NotFittedError
            Before fit.
        """
        check_is_fitted(self, "log_weights_")
        rows, weights = self.draws_, self._weights()
        if log_density is not None:
            n = 4000 if n_samples is None else n_samples
            check_whole("n_samples", n)
            rows, log_q = self._draw(int(n), resolve_seed(random_state))
            weights = smooth_weights(Target(log_density, rows[:N_TRIED]).log_ratios(rows, log_q))
        elif n_samples is not None:
            raise ConfigurationError(
                "n_samples must come with log_density, which weights new draws; got "
                f"n_samples={n_samples!r} alone. Leave it out for the {len(rows)} draws of fit."
            )
        values = np.asarray(function(rows), dtype=np.float64)
        if values.ndim not in (1, 2) or len(values) != len(rows):
            raise ConfigurationError(
                f"function must return shape ({len(rows)},) or ({len(rows)}, k) for that many rows; "
                f"got {values.shape}."
            )
        mean, error = weights.mean_of(values)
        return (float(mean), float(error)) if values.ndim == 1 else (mean, error)

    def _weigh(self, target: Target, n_draws: int, seed: int) -> None:
        """Set what follows from weighted draws."""
        self.draws_, log_q = self._draw(n_draws, seed)
        ratios = target.log_ratios(self.draws_, log_q)
        weights = smooth_weights(ratios)
        self.elbo_ = float(ratios.mean())
        self.log_evidence_, self.log_evidence_error_ = weights.log_mean()
        self.effective_sample_size_ = weights.effective_size / len(ratios)
        self.pareto_k_ = weights.pareto_k
        self.log_weights_ = weights.log_weights
        if not weights.trustworthy:
            warnings.warn(
                f"The flow misses some of the density: pareto_k_ is {self.pareto_k_:.2f}, above 0.7, so that "
                "weights, evidence and errors cannot be trusted. Raise max_steps, n_layers or temperature, "
                "or give parameters in which the density is nearer to a Gaussian.",
                TrainingWarning,
                stacklevel=3,
            )

    def _weights(self) -> Weights:
        return Weights(self.log_weights_, self.pareto_k_)

    def _draw(self, n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return draws (n_rows, n_features) of the flow and log q of them, (n_rows,)."""
        import torch

        from flowdetect.flows import sample_flow_and_log_prob

        generator = torch.Generator().manual_seed(seed)
        rows, log_q = [], []
        with torch.inference_mode():
            for begin in range(0, n_rows, _CHUNK):
                n = min(_CHUNK, n_rows - begin)
                inner, log_prob = sample_flow_and_log_prob(self.density_.flow, n, generator=generator)
                rows.append(inner.numpy())
                log_q.append(log_prob.numpy())
        found = Gaussian(self.location_, self.scale_).rows(np.concatenate(rows))
        return found, np.concatenate(log_q) - np.log(np.diag(self.scale_)).sum()
