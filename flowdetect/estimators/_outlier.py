"""`FlowOutlierDetector`: anomalies of a table by its density at several noise scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.base import OutlierMixin

from flowdetect._utils.random import RandomState
from flowdetect.calibration import contamination_offset, fence_offset
from flowdetect.estimators._base import FlowEstimator, check_whole
from flowdetect.estimators._callbacks import with_callbacks
from flowdetect.estimators._rows import EncodedRows, take_rows
from flowdetect.exceptions import ConfigurationError
from flowdetect.explanation import column_candidates, column_gains
from flowdetect.preprocessing import TableEncoder

if TYPE_CHECKING:
    import torch

    from flowdetect.flows import FlowSettings, TableDensity
    from flowdetect.training import Callback, Objective, TrainingResult

__all__ = ["FlowOutlierDetector"]

# Noise scales at which rows are scored, in units of the encoded columns.
_SCORING_SCALES = (0.01, 0.03, 0.1, 0.3, 1.0)
_TRAINING_SCALES = (0.01, 4.0)
# A model is fitted without a fold only if the fold has some rows to score.
_MIN_FOLD_ROWS = 10
_REFERENCE_ROWS = 1000
_N_CANDIDATES = 16


class FlowOutlierDetector(OutlierMixin, FlowEstimator):
    """Detect anomalies as rows of low density, averaged over noise scales.

    One flow learns the density of the table with noise of scale s added, for all s from 0.01 to 4 standard
    units at once. A small scale ranks local oddities, a large one withstands anomalies among the training
    rows. The score of a row is the mean of its log-densities over the scales. Several flows are fitted, each
    without one fold of the rows, so that every training row also has a score from a flow that did not see it.

    Parameters
    ----------
    contamination : "auto" or float, default="auto"
        The threshold. A float in (0, 0.5] is the fraction of the training rows that `predict` calls
        anomalies. "auto" takes Tukey's lower fence of the held-out scores.
    n_models : int, default=3
        Number of flows, and of folds; no more than one fold for every 10 rows. 1, or fewer than 20 rows, fits
        one flow on all rows.
    kind : {"autoregressive", "coupling"}, default="autoregressive"
        Kind of the flow's layers.
    n_layers : int, default=2
        Number of spline layers.
    hidden_features : int, default=64
        Width of the networks that give the splines' knots.
    n_bins : int, default=8
        Bins of each spline.
    max_steps : int, default=300
        Most steps of the optimiser (AdamW) a flow; training stops earlier when the likelihood of validation
        rows has stopped rising.
    batch_size : int, default=256
        Rows a step.
    learning_rate : float, default=6e-3
        Largest learning rate; it warms up, then falls along a cosine.
    validation_fraction : float, default=0.1
        Share of the rows on which training is judged but does not learn.
    patience : int or None, default=4
        Evaluations without improvement before training stops; None for never.
    time_budget : float or None, default=None
        Seconds after which the training of each flow stops.
    device : str, default="auto"
        "auto" trains on a GPU if there is one; or a name that torch knows. Scoring is on the CPU, in float64.
    verbose : int, default=0
        1 shows a progress bar on standard error.
    random_state : int, RandomState, Generator or None, default=None
        An int makes everything reproducible.

    Attributes
    ----------
    offset_ : float
        The threshold: ``decision_function(X) = score_samples(X) - offset_``.
    training_scores_ : ndarray of shape (n_rows,)
        Score of each training row under the flow that did not see it (under the only flow with
        ``n_models=1`` or fewer than 20 rows); NaN for rows of weight 0, which `score_samples` scores as it
        does new rows.
    encoder_ : TableEncoder
        The invertible map from the table to a matrix.
    densities_ : list of TableDensity
        The trained torch modules, in float64.
    training_results_ : list of TrainingResult
        Loss history, and why training stopped, of each.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Their names, if the table was a DataFrame with names.

    See Also
    --------
    FlowDensity : The density itself, by maximum likelihood.

    Notes
    -----
    With m flows and the scoring scales S the score is ``mean_m mean_{s in S} log p_{m,s}(x)``, in nats and
    the original units of the table. By Jensen's inequality it is a lower bound of the log-density of the
    mixture of all these densities.

    References
    ----------
    C. Durkan, A. Bekasov, I. Murray, G. Papamakarios (2019), "Neural Spline Flows", NeurIPS.
    J. W. Tukey (1977), *Exploratory Data Analysis*, section 2D.

    Examples
    --------
    >>> import numpy as np
    >>> from flowdetect import FlowOutlierDetector
    >>> rng = np.random.default_rng(0)
    >>> X = np.vstack([rng.normal(size=(300, 2)), [[8.0, -8.0]]])
    >>> detector = FlowOutlierDetector(max_steps=100, random_state=0).fit(X)
    >>> int(detector.predict(X)[-1])
    -1
    """

    _n_extra_context = 1
    _last_fitted = "offset_"

    def __init__(
        self,
        *,
        contamination: float | str = "auto",
        n_models: int = 3,
        kind: str = "autoregressive",
        n_layers: int = 2,
        hidden_features: int = 64,
        n_bins: int = 8,
        max_steps: int = 300,
        batch_size: int = 256,
        learning_rate: float = 6e-3,
        validation_fraction: float = 0.1,
        patience: int | None = 4,
        time_budget: float | None = None,
        device: str = "auto",
        verbose: int = 0,
        random_state: RandomState = None,
    ) -> None:
        self.contamination = contamination
        self.n_models = n_models
        self.kind = kind
        self.n_layers = n_layers
        self.hidden_features = hidden_features
        self.n_bins = n_bins
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
    def fit(self, X: Any, y: Any = None, *, sample_weight: Any = None) -> FlowOutlierDetector:
        """Fit the densities and the threshold.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
            The rows, with or without anomalies. Arrays hold numbers; DataFrames may hold anything.
        y : ignored
        sample_weight : array-like of shape (n_rows,), optional
            Non-negative; a weight of 2 acts like the row given twice, and 0 leaves the row out. The threshold
            counts all rows that are not left out once.

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
        with sklearn_fit_task(self, n_trainings=self.n_models, **told) as fit_context:
            source, kept = self._encode_table(X, None, sample_weight)
            *seeds, split_seed = self._seeds(2 * self.n_models + 1)
            rng = np.random.default_rng(split_seed)
            splits = self._splits(len(source), rng)
            self._fit_flows(source, splits, seeds, SklearnCallbacks(self, fit_context, **told))
            self._candidates = self._pick_candidates(source, rng)
            held_out_scores = self._held_out_scores(source.table, splits)
            self.training_scores_ = np.full(len(kept), np.nan)
            self.training_scores_[kept] = held_out_scores
            self.offset_ = self._choose_offset(source.table, held_out_scores)
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """Return the score of each row.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows,)
            Mean log-density over models and noise scales, in nats, in the original units; larger = more
            normal. Rows of fit get a slightly higher score than in ``training_scores_``.

        Raises
        ------
        ValueError
            If the columns are not those of fit, or hold what cannot be used.
        NotFittedError
            Before fit.
        """
        X, _ = self._check_scoring(X, None)
        return self._score(X, None, self.densities_)

    def decision_function(self, X: Any) -> np.ndarray:
        """Return ``score_samples(X) - offset_``, shape (n_rows,): negative for anomalies.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """Return +1 for rows with ``decision_function(X) >= 0`` and -1 for anomalies, shape (n_rows,).

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
        """
        return np.where(self.decision_function(X) >= 0.0, 1, -1)

    def explain(self, X: Any) -> pd.DataFrame:
        """Return how much each column contributes to a row's being unlikely.

        The contribution of a column is the gain in score, in nats, that its best-fitting usual content would
        bring while all other columns stay as they are. A value that is odd only beside the others is found as
        well. It takes about ``16 * n_features`` times as long as scoring the same rows.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)

        Returns
        -------
        DataFrame of shape (n_rows, n_features)
            At least 0; larger = makes the row more unlikely. Index and column names are those of X, or
            counted from 0 for an array.

        Raises
        ------
        ValueError
            If the columns are not those of fit, or hold what cannot be used.
        NotFittedError
            Before fit.
        """
        X, _ = self._check_scoring(X, None)
        groups = self._column_groups()
        gains = np.empty((len(X), self.n_features_in_))
        for rows in self._chunks(len(X)):
            matrix = self.encoder_.encode(take_rows(X, rows))[0]
            gains[rows] = column_gains(self._score_matrix, matrix, groups, self._candidates)
        names = self.encoder_.schema_.names
        index = X.index if isinstance(X, pd.DataFrame) else pd.RangeIndex(len(X))
        return pd.DataFrame(gains, index=index, columns=pd.Index(names, tupleize_cols=False))

    # --- inside -----------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        check_whole("n_models", self.n_models)
        contamination = self.contamination
        in_range = isinstance(contamination, float | np.floating) and 0.0 < contamination <= 0.5
        if not in_range and not (isinstance(contamination, str) and contamination == "auto"):
            raise ConfigurationError(
                f"contamination must be 'auto' or a fraction above 0 and at most 0.5; got {contamination!r}."
            )

    def _splits(self, n_rows: int, rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return for each flow the rows that it learns from, and those that it scores, in order."""
        every = np.arange(n_rows)
        order = rng.permutation(n_rows)
        n_folds = min(self.n_models, n_rows // _MIN_FOLD_ROWS)
        if n_folds < 2:
            return [(every, every)]
        return [(np.setdiff1d(every, fold), np.sort(fold)) for fold in np.array_split(order, n_folds)]

    def _fit_flows(
        self,
        source: EncodedRows,
        splits: Sequence[tuple[np.ndarray, np.ndarray]],
        seeds: Sequence[int],
        callback: Callback,
    ) -> None:
        """Train one flow per split; two seeds belong to each."""
        self.densities_: list[TableDensity] = []
        self.training_results_: list[TrainingResult] = []
        for number, (learnt, _) in enumerate(splits):
            build_seed, train_seed = seeds[2 * number : 2 * number + 2]
            density = self._build(source, build_seed)
            result = self._train(
                density,
                source.subset(learnt),
                train_seed,
                callback=callback,
                description=f"fitting {number + 1}/{len(splits)}",
            )
            self.densities_.append(density)
            self.training_results_.append(result)

    def _held_out_scores(self, X: Any, splits: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        scores = np.empty(len(X))
        for density, (_, held_out) in zip(self.densities_, splits, strict=True):
            scores[held_out] = self._score(take_rows(X, held_out), None, [density])
        return scores

    def _choose_offset(self, X: Any, held_out_scores: np.ndarray) -> float:
        if isinstance(self.contamination, str):
            return fence_offset(held_out_scores)
        return contamination_offset(self._score(X, None, self.densities_), self.contamination)

    def _pick_candidates(self, source: EncodedRows, rng: np.random.Generator) -> list[np.ndarray]:
        some = rng.permutation(len(source))[:_REFERENCE_ROWS]
        reference = source.encoded(np.sort(some)).astype(np.float64)
        return column_candidates(reference, self._column_groups(), _N_CANDIDATES)

    def _column_groups(self) -> list[np.ndarray]:
        """Return the matrix columns of each table column."""
        owner = self.encoder_.column_of_
        return [np.flatnonzero(owner == position) for position in range(self.n_features_in_)]

    def _log_density(
        self, matrix: np.ndarray, context: torch.Tensor | None, densities: Sequence[TableDensity]
    ) -> np.ndarray:
        """Return the mean over noise scales of the log-density of encoded rows."""
        import torch

        from flowdetect.training import noise_context

        n_rows, n_scales = len(matrix), len(_SCORING_SCALES)
        # One call for all scales: on a few rows the calls take longer than the work.
        levels = [noise_context(scale, n_rows, context=context) for scale in _SCORING_SCALES]
        scores = super()._log_density(np.tile(matrix, (n_scales, 1)), torch.cat(levels), densities)
        return scores.reshape(n_scales, n_rows).mean(axis=0)

    def _score_matrix(self, matrix: np.ndarray) -> np.ndarray:
        """Return the score of encoded rows, chunk by chunk."""
        parts = [
            self.encoder_.log_det(matrix[rows]) + self._log_density(matrix[rows], None, self.densities_)
            for rows in self._chunks(len(matrix))
        ]
        return np.concatenate(parts)

    def _make_encoder(self) -> TableEncoder:
        # Noise keeps repeated numbers from growing spikes; as numbers they keep their distances.
        return TableEncoder(atoms=False)

    def _flow_settings(self) -> FlowSettings:
        from flowdetect.flows import FlowSettings

        names = ("kind", "n_layers", "hidden_features", "n_bins")
        return FlowSettings(**self._parameters(*names), mixing="permutation", activation="relu")

    def _objective(self) -> Objective:
        from flowdetect.training import NoiseConditional

        layout = self.encoder_.layout_
        return NoiseConditional(
            layout.n_values, scales=_TRAINING_SCALES, cardinalities=layout.cardinalities, gates=layout.gates
        )
