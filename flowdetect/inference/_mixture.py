"""`FlowMixture`: clusters of any shape, by expectation-maximisation with a flow for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from sklearn.base import ClusterMixin

from flowdetect._utils.checks import check_whole
from flowdetect._utils.random import RandomState
from flowdetect.estimators._callbacks import with_callbacks
from flowdetect.estimators._classes import class_frame
from flowdetect.estimators._rows import EncodedRows, check_table, check_weights
from flowdetect.estimators._whitening import Whitening
from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.inference._answers import FittedMixture
from flowdetect.inference._em import (
    EMProblem,
    EMSettings,
    PairRows,
    best_first_state,
    run_rounds,
)
from flowdetect.inference._partitions import PARTITIONS, first_guesses, given_responsibilities
from flowdetect.preprocessing import TableEncoder

if TYPE_CHECKING:
    import torch
    from torch import nn

    from flowdetect.flows import TableDensity
    from flowdetect.training import Callback, TrainingConfig

__all__ = ["FlowMixture"]

# Fewer rows than this are all learnt from.
_LEAST_TO_HOLD_OUT = 40
# Looks at how a first guess does while the flow learns it.
_FIRST_LOOKS = 8


class FlowMixture(ClusterMixin, FittedMixture):
    """Divide a table into clusters of any shape: a mixture whose components are flows.

    The components are one neural spline flow, with the component as its context, fitted by
    expectation-maximisation. Columns may be numbers, categories, booleans, texts or dates, with missing
    values. A flow can take nearly any shape, so that the first guess of the clusters decides much: several
    are tried, and the one that makes held-out rows most probable within their clusters goes on.

    Parameters
    ----------
    n_components : int, default=2
        Number of clusters.
    init : {"auto", "gaussian", "density", "spectral", "kmeans"} or array-like, default="auto"
        The first guess. "gaussian": the best of 10 Gaussian mixtures with full covariances; "density":
        dense regions apart from each other, by HDBSCAN with the first smallest size that gives n_components
        (as "spectral" if none does); "spectral": the graph of the 10 nearest neighbours, cut where it is
        thinnest; "kmeans": the best of 10 runs of k-means; all on the encoded table, at most 2,000 rows of
        it, which the others follow. "auto" tries all four. Or a component for each row, shape (n_rows,), or
        the probabilities of the components, shape (n_rows, n_components).
    max_iter : int, default=12
        Most rounds of an M and an E step.
    tol : float, default=1e-3
        Rise of the mean log-likelihood of held-out rows, in nats, that counts for `patience`.
    kind : {"coupling", "autoregressive"}, default="coupling"
        See `FlowDensity`.
    n_layers : int or "auto", default=2
        Number of spline layers: few, as a component that can take any shape can take them all.
    hidden_features : int, default=32
        Width of the networks that give the splines' knots.
    n_bins : int, default=8
        Bins of each spline.
    dropout : float, default=0.0
        Share of hidden units left out at each training step.
    max_steps : int, default=40
        Steps of the optimiser in an M step; a first guess is followed for at most 8 times as many.
    batch_size : int, default=256
        Pairs of a row and a component in a step.
    learning_rate : float, default=4e-3
        Largest learning rate; it warms up and falls within each M step.
    validation_fraction : float, default=0.1
        Share of the rows that judge first guesses and rounds, and that no M step sees; 0, or fewer than 40
        rows, judges by the rows that are learnt from.
    patience : int or None, default=3
        Rounds without improvement for held-out rows before they end; None for never.
    time_budget : float or None, default=None
        Seconds after which an M step ends.
    device : str, default="auto"
        "auto" trains on a GPU if there is one; or a name that torch knows. Scoring is on the CPU, in float64.
    verbose : int, default=0
        1 shows a progress bar on standard error.
    random_state : int, RandomState, Generator or None, default=None
        An int makes everything reproducible.

    Attributes
    ----------
    labels_ : ndarray of shape (n_rows,)
        The most probable component of each row of fit.
    weights_ : ndarray of shape (n_components,)
        Share of each component.
    lower_bound_ : float
        Mean log-likelihood of the rows that were learnt from, in nats and original units.
    lower_bounds_ : ndarray of shape (n_rounds,)
        The same after each round.
    n_iter_ : int
        Number of rounds done.
    converged_ : bool
        Whether the rounds ended by themselves.
    init_ : str
        The first guess that was taken; "given" for an array.
    encoder_ : TableEncoder
        The invertible map from the table to a matrix.
    context_encoder_ : TableEncoder
        The same for the component.
    density_ : TableDensity
        The trained torch module, in float64, of rows whose values were whitened by component.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Their names, if the table was a DataFrame with names.

    See Also
    --------
    FlowDensity : One density of the whole table.
    FlowClassifier : Where the classes are known.

    Notes
    -----
    The model is ``p(x) = sum_k pi_k p(x | k)``. The E step takes ``r_k = pi_k p(x | k) / p(x)`` exactly; the
    M step sets ``pi_k`` to the mean of ``r_k`` and trains the flow for a while, from where it stands, on all
    pairs of a row and a component, weighted by r. As the M step is a stochastic approximation, the
    likelihood mostly rises, but need not in every round; kept is the round that held-out rows like best.

    Before the flow, the values of each component are whitened by centre and covariance of its first guess, so
    that the untrained model is a Gaussian mixture. The flow learns each guess for a while; guesses are
    compared by the held-out mean of ``max_k (log pi_k + log p(x | k))``, the likelihood of rows together with
    their clusters: clusters that overlap, and clusters that a small flow cannot take the shape of, cost.

    References
    ----------
    A. P. Dempster, N. M. Laird, D. B. Rubin (1977), "Maximum likelihood from incomplete data via the EM
    algorithm", Journal of the Royal Statistical Society B 39(1).

    C. Biernacki, G. Celeux, G. Govaert (2000), "Assessing a mixture model for clustering with the integrated
    completed likelihood", IEEE Transactions on Pattern Analysis and Machine Intelligence 22(7).

    U. von Luxburg (2007), "A tutorial on spectral clustering", Statistics and Computing 17(4).

    Examples
    --------
    >>> import numpy as np
    >>> from flowdetect.inference import FlowMixture
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(size=(100, 2)), rng.normal(loc=6.0, size=(100, 2))])
    >>> mixture = FlowMixture(2, max_steps=40, max_iter=3, random_state=0).fit(X)
    >>> sorted(np.bincount(mixture.labels_).tolist())
    [100, 100]
    >>> mixture.sample(3, random_state=1).shape
    (3, 2)
    """

    _last_fitted = "labels_"

    def __init__(
        self,
        n_components: int = 2,
        *,
        init: Any = "auto",
        max_iter: int = 12,
        tol: float = 1e-3,
        kind: str = "coupling",
        n_layers: int | str = 2,
        hidden_features: int = 32,
        n_bins: int = 8,
        dropout: float = 0.0,
        max_steps: int = 40,
        batch_size: int = 256,
        learning_rate: float = 4e-3,
        validation_fraction: float = 0.1,
        patience: int | None = 3,
        time_budget: float | None = None,
        device: str = "auto",
        verbose: int = 0,
        random_state: RandomState = None,
    ) -> None:
        self.n_components = n_components
        self.init = init
        self.max_iter = max_iter
        self.tol = tol
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

    @with_callbacks
    def fit(self, X: Any, y: Any = None, *, sample_weight: Any = None) -> FlowMixture:
        """Fit the mixture.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
            The rows. Arrays hold numbers; DataFrames may hold anything.
        y : ignored
        sample_weight : array-like of shape (n_rows,), optional
            Non-negative; a weight of 2 acts like the row given twice, and 0 leaves the row out of learning
            (first guesses count the other rows once). Rows left out get a label all the same.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the table, the weights or a parameter cannot be used; the sentence says why.
        TrainingError
            If the loss does not stay finite.
        """
        from flowdetect.training import SklearnCallbacks, sklearn_fit_task

        self._check_parameters()
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        told = {"X": X, "y": y, "metadata": weights}
        n_trainings = len(PARTITIONS) * _FIRST_LOOKS + int(self.max_iter)
        with sklearn_fit_task(self, n_trainings=n_trainings, **told) as fit_context:
            self.__dict__.pop(self._last_fitted, None)
            X = check_table(self, X, fitting=True)
            source, kept = self._encode_rows(X, sample_weight)
            self._learn(source, kept, SklearnCallbacks(self, fit_context, **told))
            self.labels_ = self._joint(self._component_log_densities(X)).argmax(axis=1)
        return self

    # --- inside -----------------------------------------------------------------------------------

    def _component_log_densities(self, X: Any) -> np.ndarray:
        """Return the log-density of checked rows under each component."""
        return self._table_log_densities(X, self._whole_density(self.density_, self._whitening))

    def _score_classes(self, X: Any) -> np.ndarray:
        return self._component_log_densities(self._check_rows(X))

    def _check_parameters(self) -> None:
        check_whole("n_components", self.n_components)
        check_whole("max_iter", self.max_iter)
        number = isinstance(self.tol, int | float | np.number) and not isinstance(self.tol, bool)
        if not number or not 0.0 <= float(self.tol) < np.inf:
            raise ConfigurationError(f"tol must be a number of at least 0; got {self.tol!r}.")
        if isinstance(self.init, str) and self.init not in ("auto", *PARTITIONS):
            given_responsibilities(self.init, 0, self._n_classes)

    def _encode_rows(self, X: Any, sample_weight: Any) -> tuple[EncodedRows, np.ndarray]:
        """Check and encode the rows of positive weight; return them, and which rows of X they are."""
        counted = np.ones(len(X)) if sample_weight is None else check_weights(sample_weight, len(X), least=2)
        # Any context in which each component occurs: a category that never does has no code of its own.
        numbers = np.cumsum(counted > 0.0) % self._n_classes
        context = class_frame(numbers, self._n_classes)
        source, kept = self._encode_table(X, context, sample_weight)
        if len(source) < self._n_classes:
            raise InvalidTableError(
                f"There must be a row for each component; got n_samples={len(source)} for "
                f"n_components={self.n_components}. Pass more rows or take fewer components."
            )
        return source, kept

    def _problem(self, source: EncodedRows, callback: Callback, seed: int) -> EMProblem:
        """Say what is learnt from, and how an M step and an E step are done."""
        from flowdetect.training import ProgressBar, held_out_rows, train

        def train_pairs(density: nn.Module, pairs: PairRows, n_steps: int, seed: int) -> None:
            bar = [ProgressBar("fitting")] if self.verbose else []
            config = self._m_step_config(n_steps, seed, len(source))
            train(density.float(), pairs, config=config, callbacks=[callback, *bar])
            density.double()

        def score(density: nn.Module) -> np.ndarray:
            return self._table_log_densities(source.table, density)

        held_out = np.zeros(len(source), dtype=bool)
        if len(source) >= _LEAST_TO_HOLD_OUT:
            held_out[held_out_rows(source, self._training_config(seed, len(source)))] = True
        return EMProblem(
            source=source,
            weights=np.ones(len(source)) if source.weights is None else source.weights,
            held_out=held_out,
            contexts=cast("torch.Tensor", self._class_context(np.arange(self._n_classes))),
            train=train_pairs,
            score=score,
        )

    def _m_step_config(self, n_steps: int, seed: int, n_rows: int) -> TrainingConfig:
        """Return the settings of an M step: all pairs are learnt from, as whole rows are held out."""
        config = self._training_config(seed, n_rows)
        return replace(config, max_steps=n_steps, validation_fraction=0.0, patience=None)

    def _learn(self, source: EncodedRows, kept: np.ndarray, callback: Callback) -> None:
        """Choose the first guess, and go on from there."""
        split_seed, guess_seed, build_seed, *round_seeds = self._seeds(3 + _FIRST_LOOKS + int(self.max_iter))
        problem = self._problem(source, callback, split_seed)
        settings = self._em_settings()

        def start(weights: np.ndarray) -> nn.Module:
            whitening = self._learn_whitening(source, weights)
            return self._whole_density(self._build(source, build_seed), whitening).double().eval()

        self.init_, first = best_first_state(
            problem,
            start,
            self._guesses(source, kept, guess_seed),
            settings.n_steps,
            round_seeds[:_FIRST_LOOKS],
        )
        final = run_rounds(problem, first, settings, round_seeds[_FIRST_LOOKS:])
        self._whitening = Whitening.of(final.density)
        self.density_ = cast("TableDensity", getattr(final.density, "density", final.density))
        self.weights_ = final.component_weights
        self.lower_bounds_ = np.array(final.lower_bounds)
        self.lower_bound_ = final.lower_bound
        self.n_iter_ = len(final.lower_bounds)
        self.converged_ = final.converged

    def _guesses(self, source: EncodedRows, kept: np.ndarray, seed: int) -> Iterator[tuple[str, np.ndarray]]:
        """Yield first guesses as responsibilities, by name."""
        if not isinstance(self.init, str):
            yield "given", given_responsibilities(self.init, len(kept), self._n_classes)[kept]
            return
        matrix = self.encoder_.encode(source.table)[0]
        points, values = self.encoder_.coordinates(matrix), matrix[:, : self.encoder_.layout_.n_values]
        names = tuple(PARTITIONS) if self.init == "auto" else (self.init,)
        for name, labels in first_guesses(points, values, self._n_classes, names, seed):
            yield name, np.eye(self._n_classes)[labels]

    def _em_settings(self) -> EMSettings:
        return EMSettings(
            max_iter=int(self.max_iter),
            tol=float(self.tol),
            patience=self.patience,
            n_steps=int(self.max_steps),
        )

    def _make_encoder(self) -> TableEncoder:
        # Repeated numbers stay numbers, with distances between them.
        return TableEncoder(lattice="decimal", atoms=False)
