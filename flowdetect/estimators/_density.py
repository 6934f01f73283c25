"""`FlowDensity`: the log-density of a table, conditional on context if wanted."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import DensityMixin

from flowdetect._utils.random import RandomState
from flowdetect.estimators._callbacks import with_callbacks
from flowdetect.estimators._denoising import DenoisingEstimator
from flowdetect.estimators._rows import check_weights

if TYPE_CHECKING:
    from flowdetect.training import TrainingResult

__all__ = ["FlowDensity"]


class FlowDensity(DensityMixin, DenoisingEstimator):
    """Estimate the density of a table with a neural spline flow, by maximum likelihood.

    Columns may be numbers, categories, booleans, texts or dates, with missing values. The density may be
    conditional on further columns, the context.

    Parameters
    ----------
    kind : {"coupling", "autoregressive", "iaf"}, default="coupling"
        Coupling layers score and sample in one pass; autoregressive ones are more flexible a layer, but
        sample one column after the other. "iaf", inverse autoregressive, samples in one pass and scores, and
        learns, one column after the other: slow to fit.
    n_layers : int or "auto", default="auto"
        Number of spline layers. "auto" takes 5, or 2 for a single continuous column: one column needs no
        mixing, and on a few hundred rows more layers overfit.
    hidden_features : int, default=64
        Width of the networks that give the splines' knots.
    n_bins : int, default=8
        Bins of each spline.
    dropout : float, default=0.0
        Share of hidden units left out at each training step.
    noise_scales : None, float or (float, float), default=None
        None learns the density of the rows. (low, high) learns that of the rows with Gaussian noise of scale
        s added to each number, for all s in this range at once, which `denoise` needs; one number is a range
        of its own. Numbers are then taken as continuous, whole numbers and repeated ones as well. An
        `n_bins` of 4 then does better than more: the gradient is smoother.
    noise_unit : {"column", "scale"}, array-like of shape (n_features,) or dict, default="column"
        What a noise scale s means. "column": noise of standard deviation s in each column's own unit, such as
        s grey levels in every pixel. "scale": s times a robust standard deviation of each column. Or the
        standard deviation of each column's noise at s = 1, by position or by name, 0 for one without noise.
    max_steps : int, default=3000
        Most steps of the optimiser (AdamW); training stops earlier when the likelihood of validation rows has
        stopped rising.
    batch_size : int, default=512
        Rows a step.
    learning_rate : float, default=2e-3
        Largest learning rate; it warms up, then falls along a cosine.
    validation_fraction : float, default=0.1
        Share of the rows on which training is judged but does not learn.
    patience : int or None, default=10
        Evaluations without improvement before training stops; None for never.
    time_budget : float or None, default=None
        Seconds after which training stops.
    device : str, default="auto"
        "auto" trains on a GPU if there is one; or a name that torch knows. Scoring is on the CPU, in float64.
    verbose : int, default=0
        1 shows a progress bar on standard error.
    random_state : int, RandomState, Generator or None, default=None
        An int makes everything reproducible.

    Attributes
    ----------
    noise_ : NoiseModel
        Only with noise_scales: ``noise_.scales`` is the range of noise scales, and ``noise_.units`` the
        standard deviation of each column's noise at scale 1, 0 for columns without.
    encoder_ : TableEncoder
        The invertible map from the table to a matrix.
    context_encoder_ : TableEncoder or None
        The same for the context.
    density_ : TableDensity
        The trained torch module, in float64.
    training_result_ : TrainingResult
        Loss history, and why training stopped.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Their names, if the table was a DataFrame with names.

    See Also
    --------
    FlowOutlierDetector : Anomalies, by densities at several noise scales.

    Notes
    -----
    By the change of variables ``log p(x) = log N(f(x); 0, 1) + log |det df/dx|`` for the flow f. The number
    is a log-density in nats, in the original units of the table, with respect to Lebesgue measure for
    continuous numbers, and to counting measure for categories and for numbers on a lattice, such as whole
    numbers: it is then a log-probability. A missing number, and a value that many rows share exactly, counts
    as if it were spread over one scale unit of its column, so that no choice of unit changes a ranking.

    References
    ----------
    C. Durkan, A. Bekasov, I. Murray, G. Papamakarios (2019), "Neural Spline Flows", NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from flowdetect import FlowDensity
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> density = FlowDensity(max_steps=100, random_state=0).fit(X)
    >>> density.score_samples(X[:3]).shape
    (3,)
    >>> density.sample(2, random_state=1).shape
    (2, 2)
    """

    _last_fitted = "density_"

    def __init__(
        self,
        *,
        kind: str = "coupling",
        n_layers: int | str = "auto",
        hidden_features: int = 64,
        n_bins: int = 8,
        dropout: float = 0.0,
        noise_scales: float | tuple[float, float] | None = None,
        noise_unit: Any = "column",
        max_steps: int = 3000,
        batch_size: int = 512,
        learning_rate: float = 2e-3,
        validation_fraction: float = 0.1,
        patience: int | None = 10,
        time_budget: float | None = None,
        device: str = "auto",
        verbose: int = 0,
        random_state: RandomState = None,
    ) -> None:
        self.kind = kind
        self.n_layers = n_layers
        self.hidden_features = hidden_features
        self.n_bins = n_bins
        self.dropout = dropout
        self.noise_scales = noise_scales
        self.noise_unit = noise_unit
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.time_budget = time_budget
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    @with_callbacks
    def fit(self, X: Any, y: Any = None, *, context: Any = None, sample_weight: Any = None) -> Self:
        """Fit the density.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
            The rows. Arrays hold numbers; DataFrames may hold anything.
        y : ignored
        context : DataFrame or array-like of shape (n_rows, n_context) or (n_rows,), optional
            What the density is conditional on; of mixed types and with missing values, if need be.
        sample_weight : array-like of shape (n_rows,), optional
            Non-negative; a weight of 2 acts like the row given twice, and 0 leaves the row out.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the table, context, weights or a parameter cannot be used; the sentence says why.
        TrainingError
            If the loss does not stay finite.
        """
        from flowdetect.training import SklearnCallbacks, sklearn_fit_task

        metadata = {"context": context, "sample_weight": sample_weight}
        told = {"X": X, "y": y, "metadata": {k: v for k, v in metadata.items() if v is not None}}
        with sklearn_fit_task(self, **told) as fit_context:
            source, _ = self._encode_table(X, context, sample_weight)
            self._learn_noise(source)
            build_seed, train_seed = self._seeds(2)
            density = self._build(source, build_seed)
            callback = SklearnCallbacks(
                self,
                fit_context,
                **told,
                attributes=lambda: {"density_": copy.deepcopy(density).cpu().double()},
            )
            self.training_result_: TrainingResult = self._train(
                self._of_noisy_rows(density), source, train_seed, callback=callback
            )
            self.density_ = density
            self._learn_trust(source, train_seed)
        return self

    def score_samples(self, X: Any, *, context: Any = None, noise_scale: Any = None) -> np.ndarray:
        """Return the log-density of each row.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
        context : DataFrame or array-like of shape (n_rows, n_context), optional
            Needed just if the density was fitted with context.
        noise_scale : float or array-like of shape (n_rows,), optional
            Only for a density fitted with ``noise_scales``: the score is the log-density of rows with noise
            of this scale on them, the smallest one trained if None.

        Returns
        -------
        ndarray of shape (n_rows,)
            Log-density in nats, in the original units; larger = more normal.

        Raises
        ------
        ValueError
            If the columns are not those of fit, or hold what cannot be used, or the noise scale was not
            trained.
        NotFittedError
            Before fit.
        """
        X, context = self._check_scoring(X, context)
        scales = self._scoring_noise(noise_scale, len(X))
        if scales is None:
            return self._score(X, context, [self.density_])
        return self._score_noisy(X, context, scales)

    def score(self, X: Any, y: Any = None, *, context: Any = None, sample_weight: Any = None) -> float:
        """Return the mean log-density of the rows: ``score_samples(X, context=context).mean()``.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
        y : ignored
        context : DataFrame or array-like, optional
            Needed just if the density was fitted with context.
        sample_weight : array-like of shape (n_rows,), optional
            Non-negative; the mean is weighted with it.

        Returns
        -------
        float
            In nats; larger is better, so that it serves grid search.

        Raises
        ------
        ValueError
            As `score_samples` does, and if the weights cannot be used.
        NotFittedError
            Before fit.
        """
        scores = self.score_samples(X, context=context)
        if sample_weight is None:
            return float(scores.mean())
        return float(np.average(scores, weights=check_weights(sample_weight, len(scores), least=1)))

    def sample(
        self,
        n_samples: int = 1,
        *,
        context: Any = None,
        noise_scale: Any = None,
        random_state: RandomState = None,
    ) -> Any:
        """Draw rows from the density.

        Parameters
        ----------
        n_samples : int, default=1
            How many rows; with context, how many for each row of the context.
        context : DataFrame or array-like of shape (n_context_rows, n_context), optional
            Needed just if the density was fitted with context.
        noise_scale : float, optional
            Only for a density fitted with ``noise_scales``: the rows have noise of this scale on them, the
            smallest one trained if None; ``denoise(rows, noise_scale)`` takes it off again.
        random_state : int, RandomState, Generator or None, default=None
            An int gives the same rows each time, None new ones.

        Returns
        -------
        DataFrame or ndarray of shape (n_samples, n_features) or (n_context_rows * n_samples, n_features)
            Of the kind fitted on: names, dtypes and categories included. With context, the n_samples rows for
            the first context row come first. The categories are those of training: the little probability
            kept for others is left out.

        Raises
        ------
        ValueError
            If n_samples is not a positive whole number, context is missing, or given in vain, or the noise
            scale was not trained.
        NotFittedError
            Before fit.
        """
        return self.encoder_.decode(self._draw(n_samples, context, noise_scale, random_state))
