"""`FlowPosterior`: the posterior of a simulator's parameters, learnt from simulations."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import logsumexp
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from flowdetect._utils.checks import check_whole
from flowdetect._utils.random import RandomState, resolve_seed
from flowdetect.estimators import FlowDensity
from flowdetect.estimators._rows import check_weights, take_rows
from flowdetect.inference._outcomes import Outcomes
from flowdetect.inference._parameters import (
    ParameterMap,
    about_simulations,
    as_table,
    check_lengths,
    in_order,
)
from flowdetect.inference._ranks import RankStatistics, count_ranks
from flowdetect.inference._trend import LinearTrend

__all__ = ["FlowPosterior"]

# Parameters that go to the densities as they are.
_SHARED = (
    *("kind", "n_layers", "hidden_features", "n_bins", "dropout", "max_steps", "batch_size"),
    *("learning_rate", "validation_fraction", "patience", "device", "verbose"),
)


class FlowPosterior(BaseEstimator):
    """Learn the posterior of a simulator's parameters from simulations, for every outcome at once.

    From pairs of parameters, drawn from their prior, and what the simulator made of them, a conditional
    neural spline flow learns ``p(theta | x)`` (neural posterior estimation). No likelihood is needed, and a
    new observation costs one pass of the flow.

    Parameters
    ----------
    bounds : dict, list or None, default=None
        Bounds of the prior: ``(low, high)`` for each parameter, in their order, or by name (by position where
        theta is an array); an open end is None or infinite. Draws lie within; the density outside is 0.
    n_models : int, default=2
        Flows fitted from different starts on different validation rows; the posterior is their mean. More
        are better on few simulations, and take so many times as long.
    kind : {"coupling", "autoregressive"}, default="coupling"
        As in `FlowDensity`, like the following.
    n_layers : int or "auto", default="auto"
    hidden_features : int, default=64
    n_bins : int, default=8
    dropout : float, default=0.0
    max_steps : int, default=8000
    batch_size : int, default=256
    learning_rate : float, default=2e-3
    validation_fraction : float, default=0.1
    patience : int or None, default=10
    time_budget : float or None, default=None
        Seconds after which training stops, for all flows together.
    device : str, default="auto"
    verbose : int, default=0
        1 shows a progress bar on standard error.
    random_state : int, RandomState, Generator or None, default=None
        An int makes everything reproducible.

    Attributes
    ----------
    densities_ : list of FlowDensity
        The flows, conditional densities of the parameters after they are mapped to the whole line.
    n_features_in_ : int
        Number of parameters.
    feature_names_in_ : ndarray of str
        Their names, if theta was a DataFrame with names.

    See Also
    --------
    FlowDensity : A conditional density.
    flowdetect.plotting.CalibrationRankDisplay : Whether the posterior is calibrated, in a picture.

    Notes
    -----
    The flow maximises the mean of ``log q(theta | x)`` over simulations, whose only maximiser is the
    posterior under the prior that theta was drawn from, or, with weights w, under that prior times w.

    A parameter with two bounds is mapped to the whole line by the normal quantile of its share of the width,
    one with a single bound by the logarithm of its distance from it; densities carry the log-derivative. What
    a linear regression on x predicts is then taken off, as in the regression adjustment of approximate
    Bayesian computation: a shift, which changes no volume, and after which simple posteriors need few
    simulations. The maps are exact, so no draw has to be rejected and no density renormalised. Whole numbers,
    decimals of a few digits and categories are parameters as well: they are drawn from the values seen in
    fit, need no map, and their density is a probability.

    References
    ----------
    G. Papamakarios, I. Murray (2016), "Fast epsilon-free inference of simulation models with Bayesian
    conditional density estimation", NeurIPS.
    M. Beaumont, W. Zhang, D. Balding (2002), "Approximate Bayesian computation in population genetics",
    Genetics.
    D. Greenberg, M. Nonnenmacher, J. Macke (2019), "Automatic posterior transformation for likelihood-free
    inference", ICML.
    S. Talts, M. Betancourt, D. Simpson, A. Vehtari, A. Gelman (2018), "Validating Bayesian inference
    algorithms with simulation-based calibration".

    Examples
    --------
    >>> import numpy as np
    >>> from flowdetect.inference import FlowPosterior
    >>> rng = np.random.default_rng(0)
    >>> theta = rng.uniform(0.0, 1.0, size=(1000, 1))
    >>> x = theta + 0.1 * rng.normal(size=(1000, 1))
    >>> posterior = FlowPosterior(bounds=[(0.0, 1.0)], n_models=1, max_steps=100, random_state=0)
    >>> posterior = posterior.fit(theta, x)
    >>> draws = posterior.sample([0.5], 500, random_state=0)
    >>> draws.shape, bool(abs(draws.mean() - 0.5) < 0.1)
    ((500, 1), True)
    >>> float(posterior.log_prob([[1.5]], [0.5])[0])
    -inf
    """

    def __init__(
        self,
        *,
        bounds: Any = None,
        n_models: int = 2,
        kind: str = "coupling",
        n_layers: int | str = "auto",
        hidden_features: int = 64,
        n_bins: int = 8,
        dropout: float = 0.0,
        max_steps: int = 8000,
        batch_size: int = 256,
        learning_rate: float = 2e-3,
        validation_fraction: float = 0.1,
        patience: int | None = 10,
        time_budget: float | None = None,
        device: str = "auto",
        verbose: int = 0,
        random_state: RandomState = None,
    ) -> None:
        self.bounds = bounds
        self.n_models = n_models
        self.kind = kind
        self.n_layers = n_layers
        self.hidden_features = hidden_features
        self.n_bins = n_bins
        self.dropout = dropout
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.time_budget = time_budget
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    # --- fitting ----------------------------------------------------------------------------------

    def fit(self, theta: Any, x: Any, *, sample_weight: Any = None) -> FlowPosterior:
        """Learn from simulations.

        Parameters
        ----------
        theta : DataFrame or array-like of shape (n_simulations, n_parameters) or (n_simulations,)
            Parameters, drawn from their prior.
        x : DataFrame or array-like of shape (n_simulations, n_outcomes) or (n_simulations,)
            What the simulator made of each: numbers of any scale, in a DataFrame of any type, with missing
            values where the simulator gave none.
        sample_weight : array-like of shape (n_simulations,), optional
            Non-negative, such as the ratio of the prior wanted to the one theta was drawn from.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If theta, x, weights or a parameter cannot be used; the sentence says why.
        TrainingError
            If the loss does not stay finite.
        """
        self.__dict__.pop("densities_", None)
        check_whole("n_models", self.n_models)
        theta, x = as_table("theta", theta), as_table("x", x)
        check_lengths(theta, x)
        if sample_weight is not None:
            sample_weight = check_weights(sample_weight, len(theta), least=2)
        self._map = ParameterMap.learn(theta, self.bounds)
        free = self._map.free(theta)[0]
        with about_simulations():
            self._trend = LinearTrend.learn(free, x, sample_weight)
        self._outcomes = Outcomes.learn(self._trend.encoder, x)
        densities = self._fit_densities(self._trend.take_off(free, x), x, sample_weight)
        self._describe(densities)
        self.densities_: list[FlowDensity] = densities
        return self

    def _fit_densities(self, free: Any, x: Any, sample_weight: Any) -> list[FlowDensity]:
        root = np.random.SeedSequence(resolve_seed(self.random_state))
        seeds = root.generate_state(int(self.n_models), dtype=np.uint32) >> 1
        shared = {name: getattr(self, name) for name in _SHARED}
        started, densities = time.monotonic(), []
        for number, seed in enumerate(seeds):
            budget = self.time_budget
            if budget is not None:
                left = max(budget - (time.monotonic() - started), 1e-3)
                budget = left / (len(seeds) - number)
            density = FlowDensity(**shared, time_budget=budget, random_state=int(seed))
            with about_simulations():
                densities.append(density.fit(free, context=x, sample_weight=sample_weight))
        return densities

    def _describe(self, densities: list[FlowDensity]) -> None:
        self.n_features_in_ = densities[0].n_features_in_
        self.__dict__.pop("feature_names_in_", None)
        if hasattr(densities[0], "feature_names_in_"):
            self.feature_names_in_ = densities[0].feature_names_in_

    # --- the posterior ----------------------------------------------------------------------------

    def sample(self, x_observed: Any, n_samples: int = 1000, *, random_state: RandomState = None) -> Any:
        """Draw parameters from the posterior.

        Parameters
        ----------
        x_observed : DataFrame or array-like of shape (n_observed, n_outcomes) or (n_outcomes,)
            What was observed; several observations have a posterior each.
        n_samples : int, default=1000
            How many draws for each observation.
        random_state : int, RandomState, Generator or None, default=None
            An int gives the same draws each time, None new ones.

        Returns
        -------
        DataFrame or ndarray of shape (n_observed * n_samples, n_parameters)
            Of the kind fitted on; the n_samples draws for the first observation come first.

        Warns
        -----
        TableWarning
            If an observation lies beyond what all simulations gave, in the range of a column or in its
            categories: the posterior is a guess there.

        Raises
        ------
        ValueError
            If n_samples is not a positive whole number, or x_observed cannot be used.
        NotFittedError
            Before fit.
        """
        check_is_fitted(self)
        check_whole("n_samples", n_samples)
        x = self._outcomes.check(x_observed)
        self._outcomes.warn_of_unseen(x)
        rng = np.random.default_rng(resolve_seed(random_state))
        of_draw = np.repeat(np.arange(len(x)), int(n_samples))
        model = rng.integers(len(self.densities_), size=len(of_draw))
        order, parts = np.argsort(model, kind="stable"), []
        for k, density in enumerate(self.densities_):
            rows = of_draw[model == k]
            if len(rows):
                parts.append(density.sample(1, context=take_rows(x, rows), random_state=rng))
        frames = isinstance(parts[0], pd.DataFrame)
        drawn = pd.concat(parts, ignore_index=True) if frames else np.concatenate(parts)
        drawn = take_rows(drawn, np.argsort(order, kind="stable"))
        drawn = self._map.bounded(self._trend.put_back(drawn, take_rows(x, of_draw)))
        return drawn.reset_index(drop=True) if frames else drawn

    def log_prob(self, theta: Any, x_observed: Any) -> np.ndarray:
        """Return the log-density of the posterior.

        Parameters
        ----------
        theta : DataFrame or array-like of shape (n, n_parameters) or (n,)
        x_observed : DataFrame or array-like of shape (n, n_outcomes), (1, n_outcomes) or (n_outcomes,)
            One observation for all rows of theta, or one for each.

        Returns
        -------
        ndarray of shape (n,)
            log p(theta | x) in nats, in the units of theta; minus infinity outside the bounds.

        Raises
        ------
        ValueError
            If theta or x_observed cannot be used.
        NotFittedError
            Before fit.
        """
        check_is_fitted(self)
        theta, x = self._check_parameters(theta), self._outcomes.check(x_observed)
        if len(x) == 1:
            x = take_rows(x, np.zeros(len(theta), dtype=int))
        check_lengths(theta, x)
        kept = np.flatnonzero(self._map.inside(theta))
        scores = np.full(len(theta), -np.inf)
        if len(kept):
            free, log_det = self._map.free(take_rows(theta, kept))
            given = take_rows(x, kept)
            free = self._trend.take_off(free, given)
            with about_simulations():
                levels = [density.score_samples(free, context=given) for density in self.densities_]
            scores[kept] = log_det + logsumexp(levels, axis=0) - np.log(len(levels))
        return scores

    def score(self, theta: Any, x: Any, *, sample_weight: Any = None) -> float:
        """Return the mean of ``log_prob(theta, x)`` over simulations, by which posteriors are compared.

        Parameters
        ----------
        theta : DataFrame or array-like of shape (n, n_parameters)
        x : DataFrame or array-like of shape (n, n_outcomes)
        sample_weight : array-like of shape (n,), optional
            Non-negative; the mean is weighted with it.

        Returns
        -------
        float
            In nats; larger is better, so that it serves grid search.

        Raises
        ------
        ValueError
            As `log_prob` does, and if the weights cannot be used.
        NotFittedError
            Before fit.
        """
        scores = self.log_prob(theta, x)
        if sample_weight is None:
            return float(scores.mean())
        return float(np.average(scores, weights=check_weights(sample_weight, len(scores), least=1)))

    def rank_statistics(
        self, theta: Any, x: Any, *, n_samples: int = 99, random_state: RandomState = None
    ) -> RankStatistics:
        """Rank true parameters among draws of their posteriors: simulation-based calibration.

        Parameters
        ----------
        theta : DataFrame or array-like of shape (n, n_parameters)
            Drawn from the prior, and not seen by `fit`; a few hundred rows.
        x : DataFrame or array-like of shape (n, n_outcomes)
            What the simulator made of them.
        n_samples : int, default=99
            Draws of each posterior.
        random_state : int, RandomState, Generator or None, default=None
            An int gives the same ranks each time, None new ones.

        Returns
        -------
        RankStatistics
            Ranks of each parameter and of the joint density, uniform where the posterior is calibrated, with
            p-values and the coverage of regions of highest density.

        Raises
        ------
        ValueError
            If theta, x or n_samples cannot be used.
        NotFittedError
            Before fit.
        """
        check_is_fitted(self)
        check_whole("n_samples", n_samples)
        theta, x = self._check_parameters(theta), self._outcomes.check(as_table("x", x))
        check_lengths(theta, x)
        return count_ranks(
            self,
            theta,
            x,
            n_draws=int(n_samples),
            names=list(self._map.names),
            rng=np.random.default_rng(resolve_seed(random_state)),
        )

    def _check_parameters(self, theta: Any) -> Any:
        """Return parameters as a table with the columns of fit, in their order."""
        theta, encoder = as_table("theta", theta), self.densities_[0].encoder_
        with about_simulations():
            return in_order(encoder, theta)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "densities_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = tags.target_tags.multi_output = True
        return tags
