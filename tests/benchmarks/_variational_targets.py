"""Densities known up to a constant: in torch, for the sampler in jax, and exact draws where there are any."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.distributions import Normal

__all__ = ["Problem", "problems"]

# Effects of coaching on a test in eight schools, and their standard errors (Rubin 1981).
EFFECTS = [28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]
ERRORS = [15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]


@dataclass(frozen=True)
class Problem:
    """A density of ``n_features`` parameters.

    Attributes
    ----------
    log_density : callable
        Of tensors (n, n_features).
    exact : callable or None
        Draws rows, given how many and a generator.
    make_jax : callable or None
        Returns the log-density of one point for jax.
    log_evidence : float or None
        Where it is known.
    """

    n_features: int
    log_density: Callable[[Tensor], Tensor]
    exact: Callable[[int, np.random.Generator], np.ndarray] | None = None
    make_jax: Callable[[], Callable[[Any], Any]] | None = None
    log_evidence: float | None = None


def correlated(n_features: int = 10) -> Problem:
    """Return a Gaussian with correlations of 0.9 and standard deviations from 0.01 to 100."""
    spread = np.logspace(-2, 2, n_features)
    covariance = (0.9 + 0.1 * np.eye(n_features)) * np.outer(spread, spread)
    location = np.linspace(-100.0, 100.0, n_features)
    normal = torch.distributions.MultivariateNormal(torch.from_numpy(location), torch.from_numpy(covariance))
    root = np.linalg.cholesky(covariance)
    return Problem(
        n_features,
        normal.log_prob,
        lambda n, rng: location + rng.standard_normal((n, n_features)) @ root.T,
        log_evidence=0.0,
    )


def banana() -> Problem:
    """Return x1 ~ N(0, 3), x2 ~ N((x1^2 - 9) / 10, 1)."""

    def log_density(x: Tensor) -> Tensor:
        return Normal(0.0, 3.0).log_prob(x[:, 0]) + Normal(0.1 * (x[:, 0] ** 2 - 9.0), 1.0).log_prob(x[:, 1])

    def exact(n: int, rng: np.random.Generator) -> np.ndarray:
        first = 3.0 * rng.standard_normal(n)
        return np.column_stack([first, 0.1 * (first**2 - 9.0) + rng.standard_normal(n)])

    return Problem(2, log_density, exact, log_evidence=0.0)


def funnel(n_features: int = 10) -> Problem:
    """Return v ~ N(0, 3), the others ~ N(0, exp(v / 2)) (Neal 2003)."""

    def log_density(x: Tensor) -> Tensor:
        inside = Normal(0.0, (0.5 * x[:, :1]).exp()).log_prob(x[:, 1:]).sum(1)
        return Normal(0.0, 3.0).log_prob(x[:, 0]) + inside

    def exact(n: int, rng: np.random.Generator) -> np.ndarray:
        v = 3.0 * rng.standard_normal((n, 1))
        return np.hstack([v, np.exp(0.5 * v) * rng.standard_normal((n, n_features - 1))])

    return Problem(n_features, log_density, exact, log_evidence=0.0)


def two_modes() -> Problem:
    """Return 0.3 N((-3, -3), 1) + 0.7 N((3, 3), 0.7)."""
    parts = ((0.3, -3.0, 1.0), (0.7, 3.0, 0.7))

    def log_density(x: Tensor) -> Tensor:
        each = [math.log(share) + Normal(place, width).log_prob(x).sum(1) for share, place, width in parts]
        return torch.logsumexp(torch.stack(each), dim=0)

    def exact(n: int, rng: np.random.Generator) -> np.ndarray:
        _, place, width = np.array(parts)[(rng.random(n) < 0.7).astype(int)].T
        return place[:, None] + width[:, None] * rng.standard_normal((n, 2))

    return Problem(2, log_density, exact, log_evidence=0.0)


def eight_schools() -> Problem:
    """Return (mu, log tau, eta): mu ~ N(0, 5), tau ~ half-Cauchy(5), effects mu + tau eta, eta ~ N(0, 1)."""
    y, s = torch.tensor(EFFECTS).double(), torch.tensor(ERRORS).double()

    def log_density(x: Tensor) -> Tensor:
        mu, log_tau, eta = x[:, 0], x[:, 1], x[:, 2:]
        tau = log_tau.exp()
        prior = (
            Normal(0.0, 5.0).log_prob(mu) + math.log(2.0 / (5.0 * math.pi)) - torch.log1p((tau / 5.0) ** 2)
        )
        likelihood = Normal(mu[:, None] + tau[:, None] * eta, s).log_prob(y).sum(1)
        return prior + log_tau + Normal(0.0, 1.0).log_prob(eta).sum(1) + likelihood

    def make_jax() -> Callable[[Any], Any]:
        import jax.numpy as jnp

        effects, errors = jnp.array(EFFECTS), jnp.array(ERRORS)

        def log_posterior(x: Any) -> Any:
            mu, log_tau, eta = x[0], x[1], x[2:]
            tau = jnp.exp(log_tau)
            prior = -0.5 * (mu / 5.0) ** 2 - jnp.log1p((tau / 5.0) ** 2) + log_tau - 0.5 * (eta**2).sum()
            return prior - 0.5 * (((effects - mu - tau * eta) / errors) ** 2).sum()

        return log_posterior

    return Problem(10, log_density, make_jax=make_jax)


def logistic(folder: Path) -> Problem:
    """Return logistic regression of bad credit with N(0, 1) priors.

    Columns are one-hot without the first levels, and standardised.
    """
    table = pd.read_csv(folder / "german_credit.csv.gz")
    signs = np.where(table.pop("target") == 2, 1.0, -1.0)
    columns = pd.get_dummies(table, drop_first=True).astype(float)
    matrix = np.column_stack([np.ones(len(table)), (columns - columns.mean()) / columns.std()])
    signed = torch.from_numpy(signs[:, None] * matrix)

    def log_density(x: Tensor) -> Tensor:
        return Normal(0.0, 1.0).log_prob(x).sum(1) + torch.nn.functional.logsigmoid(x @ signed.T).sum(1)

    def make_jax() -> Callable[[Any], Any]:
        import jax
        import jax.numpy as jnp

        rows = jnp.array(signed.numpy())
        return lambda x: -0.5 * (x**2).sum() + jax.nn.log_sigmoid(rows @ x).sum()

    return Problem(matrix.shape[1], log_density, make_jax=make_jax)


def problems(folder: Path) -> dict[str, Problem]:
    """Return all problems by name."""
    return {
        "Gaussian": correlated(),
        "banana": banana(),
        "funnel": funnel(),
        "two modes": two_modes(),
        "eight schools": eight_schools(),
        "logistic": logistic(folder),
    }
