"""`VariationalFlow`: draws, moments and the constant of a density known up to that constant."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from flowdetect._utils.checks import check_whole
from flowdetect._utils.layout import MatrixLayout
from flowdetect._utils.random import RandomState, resolve_seed
from flowdetect.exceptions import ConfigurationError
from flowdetect.inference._gaussian import Gaussian, choose_start, fit_gaussian
from flowdetect.inference._target import Target
from flowdetect.inference._weighted import N_TRIED, WeightedFlow

if TYPE_CHECKING:
    from torch import Tensor

    from flowdetect.flows import FlowSettings, TableDensity
    from flowdetect.training import TrainingResult
    from flowdetect.training._objectives import LogDensity

__all__ = ["VariationalFlow"]

# The temperatures that "auto" tries besides 1.
_HOT = (10.0, 40.0)


class VariationalFlow(WeightedFlow):
    """Approximate a density that is known up to a constant, such as a posterior, by a normalising flow.

    Parameters
    ----------
    n_features : int
        Number of parameters of the density.
    kind : {"iaf", "coupling"}, default="iaf"
        Layers of the flow. Inverse autoregressive ones draw in one pass, which is all that learning needs,
        and score given rows in n_features passes; a step takes a third of the time of coupling layers'. These
        go both ways in one pass and take the quieter gradient, which leaves less noise in the result.
    n_layers : int, default=4
        Number of spline layers, each after a learnt linear map.
    hidden_features : int, default=64
        Width of the networks that give the splines' knots.
    n_bins : int, default=8
        Bins of each spline.
    gradient : {"auto", "path", "total"}, default="auto"
        "path" leaves out the part of the gradient whose mean is zero (Roeder et al. 2017), and needs the flow
        in both directions; "total" keeps it. "auto" is "path" for coupling layers, "total" for others.
    start : array-like of shape (n_features,), optional
        Where the search for the density's bulk starts; 0 by default.
    temperature : float or "auto", default="auto"
        Training starts with ``p(x)^(1 / temperature)``, in which modes are wider and less apart, and cools to
        1. More finds modes that lie further apart; 1 starts with p itself. "auto" takes the lowest of 1, 10
        and 40 whose Gaussian comes across as much of the density as the others do.
    annealing : float, default=0.8
        Share of the steps in which the temperature falls to 1.
    max_steps : int, default=1000
        Steps of the optimiser (AdamW).
    batch_size : int, default=256
        Draws a step.
    learning_rate : float, default=5e-3
        Largest learning rate; it warms up, then falls along a cosine.
    time_budget : float or None, default=None
        Seconds after which training stops.
    n_importance : int, default=4000
        Draws that are weighted and kept for expectations, evidence and diagnosis.
    verbose : int, default=0
        1 shows a progress bar on standard error.
    random_state : int, RandomState, Generator or None, default=None
        An int makes everything reproducible.

    Attributes
    ----------
    location_, scale_ : ndarray of shape (n_features,) and (n_features, n_features)
        The Gaussian that the flow starts from: rows are ``location_ + scale_ @ u`` for u of the flow.
    temperature_ : float
        What training started with.
    density_ : TableDensity
        The flow of u, a torch module in float64.
    training_result_ : TrainingResult
        Loss history, and why training stopped.
    elbo_history_ : ndarray of shape (n_evaluations,)
        Evidence lower bound at each evaluation, in nats, at temperature 1 on the same noise.
    elbo_ : float
        Mean of log p - log q over the draws kept, in nats: at most log_evidence_, but for noise.
    log_evidence_, log_evidence_error_ : float
        Logarithm of the integral of the density, in nats, by importance sampling, and its standard error.
    effective_sample_size_ : float
        Share of the draws kept that equally weighted draws from p would be worth, within 0..1.
    pareto_k_ : float
        Shape of the tail of the weights (Vehtari et al. 2024): below 0.5 all is well, up to 0.7 estimates by
        weights can be used, above they cannot be trusted, unless effective_sample_size_ is 0.95 or more.
    draws_ : ndarray of shape (n_importance, n_features)
        Draws from the flow.
    log_weights_ : ndarray of shape (n_importance,)
        Their log p - log q after smoothing.

    Notes
    -----
    The loss is KL(q | p) less the unknown constant, minus the evidence lower bound. It is small where q
    covers one mode of several, hence the cooling. First a Gaussian is found by a quasi-Newton ascent and by
    matching scores, so that neither location nor units of the parameters matter; the flow learns what a
    Gaussian is not.

    The log-density has to be finite for all numbers. For a positive parameter, have the flow learn its
    logarithm, and add the logarithm of the derivative: for s > 0 with the log-density f(s) it is ``f(exp(t))
    + t`` of t = log s; for a share within 0..1 use the logit t, and add ``logsigmoid(t) + logsigmoid(-t)``.

    References
    ----------
    D. Rezende, S. Mohamed (2015), "Variational Inference with Normalizing Flows", ICML.
    A. Vehtari, D. Simpson, A. Gelman, Y. Yao, J. Gabry (2024), "Pareto Smoothed Importance Sampling", JMLR.

    Examples
    --------
    The standard deviation of five numbers with known mean 0, under a N(0, 1) prior for its logarithm:

    >>> import torch
    >>> from torch.distributions import Normal
    >>> from flowdetect.inference import VariationalFlow
    >>> x = torch.tensor([0.5, -1.2, 0.3, 2.0, -0.7])
    >>> def log_posterior(t):
    ...     return Normal(0.0, t.exp()).log_prob(x).sum(1) + Normal(0.0, 1.0).log_prob(t[:, 0])
    >>> flow = VariationalFlow(1, max_steps=200, random_state=0).fit(log_posterior)
    >>> sigma, error = flow.expectation(lambda t: np.exp(t[:, 0]))
    >>> bool(1.1 < sigma < 1.6), flow.sample(3, random_state=0).shape
    (True, (3, 1))
    """

    def __init__(
        self,
        n_features: int,
        *,
        kind: str = "iaf",
        n_layers: int = 4,
        hidden_features: int = 64,
        n_bins: int = 8,
        gradient: str = "auto",
        start: Any = None,
        temperature: float | str = "auto",
        annealing: float = 0.8,
        max_steps: int = 1000,
        batch_size: int = 256,
        learning_rate: float = 5e-3,
        time_budget: float | None = None,
        n_importance: int = 4000,
        verbose: int = 0,
        random_state: RandomState = None,
    ) -> None:
        self.n_features = n_features
        self.kind = kind
        self.n_layers = n_layers
        self.hidden_features = hidden_features
        self.n_bins = n_bins
        self.gradient = gradient
        self.start = start
        self.temperature = temperature
        self.annealing = annealing
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.time_budget = time_budget
        self.n_importance = n_importance
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, log_density: Callable[[Tensor], Tensor]) -> VariationalFlow:
        """Learn the flow.

        Parameters
        ----------
        log_density : callable
            Takes a tensor of shape (n, n_features), returns the log-densities, shape (n,), in nats and up to
            a constant, by torch's operations. It is given float64, or float32 if it refuses that because of
            tensors of its own; on the CPU. It is not kept. It is also tried far out, and must return
            something there, were it NaN: give distributions of torch ``validate_args=False``.

        Returns
        -------
        self

        Raises
        ------
        ConfigurationError
            If a parameter or the log-density cannot be used; the sentence says why.
        TrainingError
            If the loss does not stay finite.

        Warns
        -----
        TrainingWarning
            If the weights show that the flow misses some of the density.
        """
        from flowdetect.flows import TableDensity

        start = self._check_parameters()
        self.__dict__.pop("log_weights_", None)
        seeds = (
            np.random.SeedSequence(resolve_seed(self.random_state)).generate_state(4, dtype=np.uint32) >> 1
        )
        rng = np.random.default_rng(int(seeds[0]))
        tried = start + np.vstack([np.zeros(len(start)), rng.standard_normal((N_TRIED, len(start)))])
        target = Target(log_density, tried)
        found, self.temperature_ = self._start(target, start, rng)
        self.location_, self.scale_ = found.location, found.scale
        density = TableDensity(MatrixLayout(len(start)), settings=self._settings(), seed=int(seeds[1]))
        self.training_result_ = self._train(
            density, target.around(found.location, found.scale), int(seeds[2])
        )
        self.density_: TableDensity = density.double()
        losses = [record.validation_loss for record in self.training_result_.history]
        self.elbo_history_ = -np.array(losses, dtype=np.float64)
        self._weigh(target, int(self.n_importance), int(seeds[3]))
        return self

    def _check_parameters(self) -> np.ndarray:
        """Return the start, or say what is wrong with a parameter that no other part checks."""
        check_whole("n_features", self.n_features)
        check_whole("n_importance", self.n_importance)
        for name, choices in (("kind", ("coupling", "iaf")), ("gradient", ("auto", "path", "total"))):
            if getattr(self, name) not in choices:
                raise ConfigurationError(f"{name} must be one of {choices}; got {getattr(self, name)!r}.")
        hot: Any = self.temperature
        annealing: Any = self.annealing
        if hot != "auto" and (not isinstance(hot, numbers.Real) or not 1.0 <= float(hot) < math.inf):
            raise ConfigurationError(f"temperature must be 'auto', or finite and at least 1; got {hot!r}.")
        if not isinstance(annealing, numbers.Real) or not 0.0 <= float(annealing) <= 1.0:
            raise ConfigurationError(f"annealing must lie in 0..1; got {self.annealing!r}.")
        given = np.zeros(self.n_features) if self.start is None else self.start
        start = np.array(given, dtype=np.float64)
        if start.shape != (self.n_features,) or not np.isfinite(start).all():
            raise ConfigurationError(
                f"start must be {self.n_features} finite numbers, one for each feature; got {given!r}."
            )
        return start

    def _start(self, target: Target, start: np.ndarray, rng: np.random.Generator) -> tuple[Gaussian, float]:
        """Return the Gaussian to start from, and the temperature."""
        if isinstance(self.temperature, str):
            return choose_start(target.in_numpy, start, rng, temperatures=_HOT)
        temperature = float(self.temperature)
        return fit_gaussian(target.in_numpy, start, rng, temperature=temperature), temperature

    def _settings(self) -> FlowSettings:
        from flowdetect.flows import FlowSettings

        names = ("kind", "n_layers", "hidden_features", "n_bins")
        return FlowSettings(**self._parameters(*names), mixing="lu")

    def _train(self, density: TableDensity, whitened: LogDensity, seed: int) -> TrainingResult:
        from flowdetect.inference._noise_map import N_VALIDATION, NoiseMap, NoiseSource
        from flowdetect.training import ProgressBar, ReverseKL, TrainingConfig, train

        config = TrainingConfig(
            **self._parameters("max_steps", "batch_size", "learning_rate", "time_budget"),
            min_validation_rows=N_VALIDATION,
            max_validation_rows=N_VALIDATION,
            patience=None,
            device="cpu",
            seed=seed,
        )
        cooling = {"temperature": self.temperature_, "annealing": float(self.annealing)}
        source = NoiseSource(density.layout.n_values, config, **cooling, seed=seed)
        path = self.gradient == "path" or (self.gradient == "auto" and self.kind == "coupling")
        bar = [ProgressBar("fitting")] if self.verbose else []
        objective = ReverseKL(whitened, path=path)
        return train(NoiseMap(density), source, objective=objective, config=config, callbacks=bar)

    def _parameters(self, *names: str) -> dict[str, Any]:
        """Return parameters by name; numpy's numbers as Python's."""
        values = {name: getattr(self, name) for name in names}
        return {name: v.item() if isinstance(v, np.generic) else v for name, v in values.items()}
