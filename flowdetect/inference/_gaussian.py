"""A Gaussian near an unnormalised density, from its gradients alone: where a flow starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp

__all__ = ["Gaussian", "choose_start", "fit_gaussian"]

# Returns log-densities (n,) and gradients (n, d) of rows (n, d).
Gradients = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

_MOST_STEPS, _CANDIDATES, _DRAWS = 200, 20, 32
_ROUNDS = 30
# Of one round: a step of the location in standard deviations, and a factor on the variance.
_LONGEST_STEP, _MOST_CHANGE = 2.0, 9.0
_BOUND_DRAWS, _BOUND_MARGIN = 4000, 0.2


class Gaussian:
    """A multivariate normal distribution.

    Parameters
    ----------
    location : ndarray of shape (d,)
    scale : ndarray of shape (d, d)
        Lower triangular root of the covariance.
    """

    def __init__(self, location: np.ndarray, scale: np.ndarray) -> None:
        self.location, self.scale = location, scale

    def rows(self, noise: np.ndarray) -> np.ndarray:
        """Return ``location + scale z`` for noise of shape (n, d)."""
        rows: np.ndarray = self.location + noise @ self.scale.T
        return rows

    def elbo(self, gradients: Gradients, noise: np.ndarray) -> float:
        """Return the mean log p over draws plus the entropy without its constant; NaN counts as -inf."""
        mean = float(np.mean(gradients(self.rows(noise))[0]))
        total = mean + float(np.log(np.diag(self.scale)).sum())
        return total if np.isfinite(total) else -np.inf

    def bound(self, gradients: Gradients, noise: np.ndarray, width: float = 1.0) -> float:
        """Return the log of the mean of p / q over draws of so many times the width; NaN counts as 0."""
        log_det = len(self.location) * np.log(width) + np.log(np.diag(self.scale)).sum()
        log_q = -0.5 * (noise**2 + np.log(2.0 * np.pi)).sum(axis=1) - log_det
        ratios = gradients(self.rows(width * noise))[0] - log_q
        return float(logsumexp(np.where(np.isnan(ratios), -np.inf, ratios)) - np.log(len(noise)))


def choose_start(
    gradients: Gradients, start: np.ndarray, rng: np.random.Generator, *, temperatures: Sequence[float]
) -> tuple[Gaussian, float]:
    """Return the Gaussian to start from, and the lowest temperature that sees as much of p as the best does.

    What counts is the logarithm of the mean weight p / q of draws from q, a lower bound of that of p's
    integral in expectation: unlike the ELBO it gains from every mode that q reaches. A hot Gaussian is tried
    with several widths, up to that of the tempered density. Over a funnel a high temperature looks at the
    wrong place, and where modes lie apart temperature 1 does.

    Parameters
    ----------
    gradients, start, rng
        As for `fit_gaussian`.
    temperatures : sequence of float
        To try besides 1, ascending.

    Returns
    -------
    gaussian : Gaussian
    temperature : float
    """
    noise = rng.standard_normal((_BOUND_DRAWS, len(start)))
    tried, bounds = [], []
    for temperature in (1.0, *temperatures):
        found = fit_gaussian(gradients, start, rng, temperature=temperature)
        widths = temperature ** np.linspace(0.0, 0.5, 1 if temperature == 1.0 else 4)
        tried.append((found, temperature))
        bounds.append(max(found.bound(gradients, noise, float(width)) for width in widths))
    return next(
        each for each, bound in zip(tried, bounds, strict=True) if bound >= max(bounds) - _BOUND_MARGIN
    )


def fit_gaussian(
    gradients: Gradients, start: np.ndarray, rng: np.random.Generator, *, temperature: float = 1.0
) -> Gaussian:
    """Return a Gaussian near ``p(x)^(1 / temperature)``, with its covariance over the temperature.

    For a Gaussian p that is p itself, at every temperature. A high one looks further: over several modes.

    Parameters
    ----------
    gradients : callable
        Log-densities and their gradients, in nats.
    start : ndarray of shape (d,)
    rng : Generator
    temperature : float, default=1.0

    Returns
    -------
    Gaussian

    Notes
    -----
    First the path of a quasi-Newton ascent, whose inverse Hessians give a Gaussian at each point of it: the
    one of the best ELBO is kept, so that a ridge or a neck at the end of the path does no harm (Pathfinder,
    Zhang et al. 2022). Then rounds of batch and match (Cai et al. 2024): the Gaussian whose scores match
    those of the target at draws of the last one, in closed form. Neither depends on the units of the
    parameters.

    References
    ----------
    Zhang, Carpenter, Gelman, Vehtari (2022). Pathfinder: Parallel Quasi-Newton Variational Inference.
    Cai, Modi, Pillaud-Vivien, Margossian, Gower, Blei, Saul (2024). Batch and Match: Black-Box Variational
    Inference with a Score-Based Divergence.
    """

    def tempered(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, slopes = gradients(rows)
        return values / temperature, slopes / temperature

    noise = rng.standard_normal((_DRAWS, len(start)))
    found = max(_path(tempered, start), key=lambda each: each.elbo(tempered, noise))
    matched = _match(tempered, found, rng)
    # Scores of a density that is far from a Gaussian may lead astray.
    found = max(found, matched, key=lambda each: each.elbo(tempered, noise))
    return Gaussian(found.location, found.scale / np.sqrt(temperature))


def _path(gradients: Gradients, start: np.ndarray) -> list[Gaussian]:
    """Return the Gaussians of some points of the way uphill, the first and last of them included."""
    points, slopes = [start], [gradients(start[None])[1][0]]

    def negative(point: np.ndarray) -> tuple[float, np.ndarray]:
        values, gradient = gradients(point[None])
        usable = np.isfinite(values[0]) and np.isfinite(gradient).all()
        return (-float(values[0]), -gradient[0]) if usable else (np.inf, np.zeros(len(point)))

    def remember(point: np.ndarray) -> None:
        points.append(point.copy())
        slopes.append(gradients(point[None])[1][0])

    options = {"maxiter": _MOST_STEPS, "maxcor": 20}
    minimize(negative, start, jac=True, method="L-BFGS-B", callback=remember, options=options)
    inverse = np.eye(len(start))
    inverses = [inverse]
    for step, change in zip(np.diff(points, axis=0), -np.diff(slopes, axis=0), strict=True):
        inverse = _update(inverse, step, change, first=len(inverses) == 1)
        inverses.append(inverse)
    some = np.unique(np.linspace(0, len(points) - 1, _CANDIDATES).astype(int))
    return [Gaussian(points[k], _root(inverses[k])) for k in some]


def _update(inverse: np.ndarray, step: np.ndarray, change: np.ndarray, *, first: bool) -> np.ndarray:
    """Return the inverse Hessian after a step by the formula of BFGS, if the step shows it positive."""
    product = float(step @ change)
    if not product > 1e-10 * float(np.linalg.norm(step) * np.linalg.norm(change)):
        return inverse
    if first:
        inverse = np.eye(len(step)) * product / float(change @ change)
    shift = np.eye(len(step)) - np.outer(step, change) / product
    updated: np.ndarray = shift @ inverse @ shift.T + np.outer(step, step) / product
    return updated


def _match(gradients: Gradients, start: Gaussian, rng: np.random.Generator) -> Gaussian:
    """Return the Gaussian after all rounds of batch and match."""
    n_features = len(start.location)
    n_draws = max(64, 2 * n_features)
    location, scale = start.location, start.scale
    for turn in range(_ROUNDS):
        rows = Gaussian(location, scale).rows(rng.standard_normal((n_draws, n_features)))
        values, slopes = gradients(rows)
        usable = np.isfinite(values) & np.isfinite(slopes).all(axis=1)
        if usable.sum() < 2:
            break
        rate = n_draws * n_features / (turn + 1.0)
        location, scale = _match_once(location, scale, rows[usable], slopes[usable], rate)
    return Gaussian(location, scale)


def _match_once(
    location: np.ndarray, scale: np.ndarray, rows: np.ndarray, slopes: np.ndarray, rate: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return location and scale that solve the closed form of batch and match (equations 10 to 14 there).

    It is done in the coordinates of the last Gaussian, in which numbers are of order one.
    """
    noise, slopes = np.linalg.solve(scale, (rows - location).T).T, slopes @ scale
    share = rate / (1.0 + rate)
    mean, slope = noise.mean(axis=0), slopes.mean(axis=0)
    u = rate * _covariance(slopes) + share * np.outer(slope, slope)
    v = np.eye(len(mean)) + rate * _covariance(noise) + share * np.outer(mean, mean)
    root = _root(v)
    # S U S + S = V has the solution 2 R (I + (I + 4 R' U R)^(1/2))^-1 R' with V = R R'.
    values, vectors = np.linalg.eigh(np.eye(len(mean)) + 4.0 * root.T @ u @ root)
    half = (root @ vectors) * np.sqrt(2.0 / (1.0 + np.sqrt(np.maximum(values, 1.0))))
    moved = share * (half @ (half.T @ slope) + mean)
    # A step no further, and no wider or narrower, than what the draws can tell of.
    moved *= min(1.0, _LONGEST_STEP * np.sqrt(len(mean)) / max(float(np.linalg.norm(moved)), 1e-300))
    spreads, axes = np.linalg.eigh(half @ half.T)
    covariance = (axes * np.clip(spreads, 1.0 / _MOST_CHANGE, _MOST_CHANGE)) @ axes.T
    return location + scale @ moved, scale @ _root(covariance)


def _covariance(rows: np.ndarray) -> np.ndarray:
    centred = rows - rows.mean(axis=0)
    covariance: np.ndarray = centred.T @ centred / len(rows)
    return covariance


def _root(covariance: np.ndarray) -> np.ndarray:
    """Return the Cholesky factor of a covariance, of which rounding may have left something below zero."""
    spread = np.sqrt(np.maximum(np.diag(covariance), np.finfo(float).tiny))
    correlation = covariance / np.outer(spread, spread)
    values, vectors = np.linalg.eigh(0.5 * (correlation + correlation.T))
    half = vectors * np.sqrt(np.maximum(values, 1e-12))
    # The triangular root by QR of any root.
    upper: np.ndarray = np.linalg.qr(half.T, mode="r")  # type: ignore[assignment]
    root: np.ndarray = (
        spread[:, None] * (upper * np.sign(np.where(np.diag(upper) == 0, 1.0, np.diag(upper)))[:, None]).T
    )
    return root
