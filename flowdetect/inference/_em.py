"""Expectation-maximisation for one density whose context is the component."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_softmax, logsumexp

from flowdetect.estimators._rows import EncodedRows
from flowdetect.training import Batch

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = [
    "EMProblem",
    "EMSettings",
    "EMState",
    "PairRows",
    "best_first_state",
    "classification_likelihood",
    "run_rounds",
]

# Pairs of a row and a component that is less probable than this are not learnt from.
_LEAST_RESPONSIBILITY = 1e-3
# Keeps the logarithm of a component's weight finite.
_LEAST_WEIGHT = 1e-12
# Looks at a first guess without improvement after which it is left.
_FIRST_PATIENCE = 2


@dataclass(frozen=True)
class EMSettings:
    """How long to go on.

    Attributes
    ----------
    max_iter : int
        Most rounds of one M and one E step each.
    tol : float
        Rise of the mean log-likelihood of held-out rows, in nats, that counts for ``patience``.
    patience : int or None
        Rounds without a better mean log-likelihood of the held-out rows that are too many.
    n_steps : int
        Steps of the optimiser in an M step.
    """

    max_iter: int
    tol: float
    patience: int | None
    n_steps: int


@dataclass(frozen=True)
class EMProblem:
    """What is learnt from, and by what.

    Attributes
    ----------
    source : EncodedRows
        All rows.
    weights : ndarray of shape (n,)
        Weight of each row.
    held_out : ndarray of bool, shape (n,)
        Rows that no M step sees.
    contexts : Tensor of shape (n_components, n_context)
        The context that stands for each component.
    train : callable
        ``(density, pairs, n_steps, seed)`` trains in place; the density ends in float64.
    score : callable
        From a density to the log-density of all rows under each component, shape (n, n_components).
    """

    source: EncodedRows
    weights: np.ndarray
    held_out: np.ndarray
    contexts: torch.Tensor
    train: Callable[[nn.Module, PairRows, int, int], None]
    score: Callable[[nn.Module], np.ndarray]


@dataclass
class EMState:
    """A mixture, and how it came about.

    Attributes
    ----------
    density : nn.Module
    component_weights : ndarray of shape (n_components,)
    joint : ndarray of shape (n, n_components)
        ``log pi_k + log p(x | k)`` of all rows, in nats and original units.
    lower_bounds : list of float
        Mean log-likelihood of the learning rows after each round.
    held_out_bounds : list of float
        The same of the held-out rows, or of the learning rows without any.
    converged : bool
    lower_bound : float
        Of this mixture; the lists may go on to rounds that held-out rows liked less.
    """

    density: nn.Module
    component_weights: np.ndarray
    joint: np.ndarray
    lower_bounds: list[float] = field(default_factory=list)
    held_out_bounds: list[float] = field(default_factory=list)
    converged: bool = False
    lower_bound: float = -np.inf


class PairRows:
    """Rows for training, each under every component that may have brought it forth.

    Parameters
    ----------
    source : EncodedRows
    responsibilities : ndarray of shape (n, n_components)
        Weight of each pair of a row and a component.
    contexts : Tensor of shape (n_components, n_context)
    """

    def __init__(self, source: EncodedRows, responsibilities: np.ndarray, contexts: torch.Tensor) -> None:
        self._source, self._contexts = source, contexts
        self._rows, self._components = np.nonzero(responsibilities)
        self.weights: np.ndarray | None = responsibilities[self._rows, self._components]

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, index: np.ndarray, rng: np.random.Generator | None) -> Batch:
        """Return pairs by position: the row, with its component as context."""
        inputs = self._source.rows(self._rows[index], rng).inputs
        return Batch(inputs, self._contexts[self._components[index]])


def best_first_state(
    problem: EMProblem,
    build: Callable[[np.ndarray], nn.Module],
    guesses: Iterable[tuple[str, np.ndarray]],
    n_steps: int,
    seeds: list[int],
) -> tuple[str, EMState]:
    """Learn from each of several guesses for a while; return the best by `classification_likelihood`.

    Parameters
    ----------
    problem : EMProblem
    build : callable
        From responsibilities, 0 for rows not to be seen, to an untrained density of encoded rows.
    guesses : iterable of (str, ndarray of shape (n, n_components))
        Names, and the responsibilities to begin with.
    n_steps : int
        Steps of the optimiser between two looks at held-out rows.
    seeds : list of int
        One for each look after the first, before any step.
    """
    states = [
        (name, _settled(problem, build(_weighted(problem, guess)), guess, n_steps, seeds))
        for name, guess in guesses
    ]
    return max(states, key=lambda pair: classification_likelihood(problem, pair[1]))


def _settled(
    problem: EMProblem, density: nn.Module, guess: np.ndarray, n_steps: int, seeds: list[int]
) -> EMState:
    """Return the state that a guess leads to, at the look that is best for held-out rows."""
    state = EMState(density, np.empty(0), np.empty(0))
    _e_step(problem, state, guess)
    best, best_value, stale = _copy(state), classification_likelihood(problem, state), 0
    for seed in seeds:
        _m_step(problem, state, guess, n_steps, seed)
        _e_step(problem, state, guess)
        value = classification_likelihood(problem, state)
        stale += 1
        if value > best_value:
            best, best_value, stale = _copy(state), value, 0
        if stale == _FIRST_PATIENCE:
            break
    return replace(best, lower_bounds=[best.lower_bound], held_out_bounds=[best.held_out_bounds[-1]])


def classification_likelihood(problem: EMProblem, state: EMState) -> float:
    """Return the mean of ``max_k (log pi_k + log p(x | k))`` over held-out rows: how clearly it divides them.

    References
    ----------
    C. Biernacki, G. Celeux, G. Govaert (2000), "Assessing a mixture model for clustering with the integrated
    completed likelihood", IEEE Transactions on Pattern Analysis and Machine Intelligence.
    """
    rows = problem.held_out if problem.held_out.any() else ~problem.held_out
    return float(np.average(state.joint[rows].max(axis=1), weights=problem.weights[rows]))


def run_rounds(problem: EMProblem, state: EMState, settings: EMSettings, seeds: list[int]) -> EMState:
    """Go on from a first state until nothing is gained; return the state that is best for held-out rows."""
    best, stale = _copy(state), 0
    for seed in seeds[: settings.max_iter - 1]:
        responsibilities = np.exp(log_softmax(state.joint, axis=1))
        _m_step(problem, state, responsibilities, settings.n_steps, seed)
        _e_step(problem, state, responsibilities)
        before, now = best.held_out_bounds[-1], state.held_out_bounds[-1]
        stale = 0 if now > before + settings.tol else stale + 1
        if now > before:
            best = _copy(state)
        state.converged = stale == settings.patience
        if state.converged:
            break
    return replace(
        best,
        lower_bounds=state.lower_bounds,
        held_out_bounds=state.held_out_bounds,
        converged=state.converged,
    )


def _copy(state: EMState) -> EMState:
    return replace(
        state,
        density=copy.deepcopy(state.density),
        lower_bounds=list(state.lower_bounds),
        held_out_bounds=list(state.held_out_bounds),
    )


def _weighted(problem: EMProblem, responsibilities: np.ndarray) -> np.ndarray:
    """Return how much each row counts in each component, 0 for held-out rows."""
    return np.asarray(responsibilities * (problem.weights * ~problem.held_out)[:, None])


def _m_step(
    problem: EMProblem, state: EMState, responsibilities: np.ndarray, n_steps: int, seed: int
) -> None:
    """Train on all pairs of a row and a component that may have brought it forth."""
    pairs = np.where(responsibilities >= _LEAST_RESPONSIBILITY, _weighted(problem, responsibilities), 0.0)
    problem.train(state.density, PairRows(problem.source, pairs, problem.contexts), n_steps, seed)


def _e_step(problem: EMProblem, state: EMState, responsibilities: np.ndarray) -> None:
    """Set the components' weights, and score all rows."""
    weighted = _weighted(problem, responsibilities)
    shares = weighted.sum(axis=0) / weighted.sum()
    state.component_weights = shares
    state.joint = problem.score(state.density) + np.log(np.maximum(shares, _LEAST_WEIGHT))
    totals = logsumexp(state.joint, axis=1)
    learning = ~problem.held_out
    judged = problem.held_out if problem.held_out.any() else learning
    for bounds, rows in ((state.lower_bounds, learning), (state.held_out_bounds, judged)):
        bounds.append(float(np.average(totals[rows], weights=problem.weights[rows])))
    state.lower_bound = state.lower_bounds[-1]
