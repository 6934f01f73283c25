"""`FlowOutlierDetector`: anomalies of a table by its density at several noise scales."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import OutlierMixin

from flowdetect._utils.checks import check_whole
from flowdetect._utils.random import RandomState
from flowdetect.calibration import contamination_offset, false_alarm_offset, fence_offset
from flowdetect.estimators._alarms import CalibratedEstimator
from flowdetect.estimators._callbacks import with_callbacks
from flowdetect.estimators._labels import LEAST_ANOMALIES, best_threshold, check_labels
from flowdetect.estimators._reasons import ReasonsEstimator
from flowdetect.exceptions import ConfigurationError
from flowdetect.preprocessing import TableEncoder

if TYPE_CHECKING:
    from flowdetect.flows import FlowSettings
    from flowdetect.training import Objective

__all__ = ["FlowOutlierDetector"]

_TRAINING_SCALES = (0.01, 4.0)


class FlowOutlierDetector(OutlierMixin, ReasonsEstimator, CalibratedEstimator):
    """Detect anomalies as rows of low density for where they are, with calibrated alarms and reasons.

    Two densities are joined. A flow learns the table with noise of scale s added, for all s from 0.01 to 4
    standard units at once; a small scale ranks local oddities, a large one withstands anomalies among the
    training rows. And the nearest training rows give a density of their own, without those that form a small
    cluster away from the others. Half of the level of density around a row is taken out again, so that
    a row at the edge of a dense region counts as odder than one within a thin region.

    Several such members are fitted, each without one fold of the rows, so that every training row also has a
    score from a member that did not see it.

    Parameters
    ----------
    contamination : "auto" or float, default="auto"
        The threshold. A float in (0, 0.5] is the fraction of the training rows that `predict` calls
        anomalies. "auto" takes Tukey's lower fence of the held-out scores.
    false_alarm_rate : float or None, default=None
        Another threshold, in place of `contamination`: the share of new normal rows that `predict` may call
        anomalies, such as 0.01. `predict` then gives -1 exactly where `p_values` are at most this rate; see
        there for the guarantee. n training rows support no rate below ``1 / (n + 1)``.
    n_models : int, default=3
        Number of members, and of folds; no more than one fold for every 5 rows. 1, or fewer than 10 rows,
        fits one member on all rows, which leaves no p-values.
    kind : {"autoregressive", "coupling", "iaf"}, default="autoregressive"
        Kind of the flow's layers; "iaf", quick to draw from, is slow to fit. See `FlowDensity`.
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
        Score of each training row under the member that did not see it (under the only one with
        ``n_models=1`` or fewer than 10 rows); NaN for rows of weight 0, which `score_samples` scores as it
        does new rows.
    typical_score_ : float
        Median of the held-out scores, to which `explain` compares.
    scales_ : tuple of float
        Noise scales at which the flows score.
    encoder_ : TableEncoder
        The invertible map from the table to a matrix.
    densities_ : list of TableDensity
        The trained torch modules, in float64.
    training_results_ : list of TrainingResult
        Loss history, and why training stopped, of each flow.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Their names, if the table was a DataFrame with names.

    See Also
    --------
    FlowDensity : The density itself, by maximum likelihood.

    Notes
    -----
    The score of a row x under one member, in nats and the original units of the table, is

        ``g(x) + c (mean_i g(x_i) - mean_{j in N20(x)} g(x_j)) / 2``

    where ``g(x) = (1 - 3 c / 4) mean_s log p_s(x) + (3 c / 4) log q(x)`` pools the flow's log-density at the
    noise scales s and the density q by the 10 nearest of its training rows x_i (at most 10,000), N20 are the
    20 nearest, and c is the square of the share of numbers and times among the columns that vary: a table of
    categories is left to the flow. The score of the detector is the largest that a member gives. A training
    row equal to x is taken to be x itself, once. Distances are Euclidean in the encoded table; two different
    categories are 1 apart.

    References
    ----------
    C. Durkan, A. Bekasov, I. Murray, G. Papamakarios (2019), "Neural Spline Flows", NeurIPS.
    D. O. Loftsgaarden, C. P. Quesenberry (1965), "A nonparametric estimate of a multivariate density
    function", Annals of Mathematical Statistics 36(3).
    M. M. Breunig, H.-P. Kriegel, R. T. Ng, J. Sander (2000), "LOF: identifying density-based local
    outliers", SIGMOD. It takes out the whole level of density around a row.
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
        false_alarm_rate: float | None = None,
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
        self.false_alarm_rate = false_alarm_rate
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
    def fit(
        self, X: Any, y: Any = None, *, labels: Any = None, sample_weight: Any = None
    ) -> FlowOutlierDetector:
        """Fit the densities and the threshold.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
            The rows, with or without anomalies. Arrays hold numbers; DataFrames may hold anything.
        y : ignored
        labels : array-like of shape (n_rows,), optional
            What is known of the rows: -1 for a known anomaly, +1 for a known normal row, 0 for unknown. Known
            anomalies are kept out of the densities, rows that resemble them get a lower score, and from five
            of them on they choose the noise scales, and the threshold if that is "auto". In a pipeline ask
            for them with ``set_fit_request(labels=True)``.
        sample_weight : array-like of shape (n_rows,), optional
            Non-negative; a weight of 2 acts like the row given twice, and 0 leaves the row out. The threshold
            counts all rows that are not left out once.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the table, the labels, the weights or a parameter cannot be used, or the rows do not support
            `false_alarm_rate`; the sentence says why.
        TrainingError
            If the loss does not stay finite.
        """
        from flowdetect.training import SklearnCallbacks, sklearn_fit_task

        self._check_parameters()
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        told = {"X": X, "y": y, "metadata": weights}
        with sklearn_fit_task(self, n_trainings=self.n_models, **told) as fit_context:
            source, kept = self._encode_table(X, None, sample_weight)
            known = check_labels(labels, kept)
            *seeds, split_seed = self._seeds(2 * self.n_models + 1)
            rng = np.random.default_rng(split_seed)
            splits = self._splits(known, rng)
            callback = SklearnCallbacks(self, fit_context, **told)
            self._fit_members(source, known, splits, seeds, rng, callback)
            held_out_scores = self._held_out_scores(source.table, splits)
            self.training_scores_ = np.full(len(kept), np.nan)
            self.training_scores_[kept] = held_out_scores
            self._calibration_scores = np.sort(held_out_scores[known >= 0]) if len(splits) > 1 else None
            self.typical_score_ = float(np.median(held_out_scores))
            self._learn_reasons(source, rng)
            self.offset_ = self._choose_offset(source.table, known, held_out_scores)
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """Return the score of each row.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows,)
            In nats, in the original units, see the class's notes; larger = more normal. Rows of fit get a
            slightly higher score than in ``training_scores_``.

        Raises
        ------
        ValueError
            If the columns are not those of fit, or hold what cannot be used.
        NotFittedError
            Before fit.
        """
        X, _ = self._check_scoring(X, None)
        return self._score_rows(X, self._members)

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

    # --- inside -----------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        check_whole("n_models", self.n_models)
        contamination, rate = self.contamination, self.false_alarm_rate
        in_range = isinstance(contamination, float | np.floating) and 0.0 < contamination <= 0.5
        automatic = isinstance(contamination, str) and contamination == "auto"
        if not in_range and not automatic:
            raise ConfigurationError(
                f"contamination must be 'auto' or a fraction above 0 and at most 0.5; got {contamination!r}."
            )
        if rate is not None and not (isinstance(rate, float | np.floating) and 0.0 < rate < 1.0):
            raise ConfigurationError(f"false_alarm_rate must be None or between 0 and 1; got {rate!r}.")
        if rate is not None and not automatic:
            raise ConfigurationError(
                f"contamination={contamination!r} and false_alarm_rate={rate!r} are two thresholds; "
                "leave one of them at its default."
            )

    def _choose_offset(self, X: Any, known: np.ndarray, held_out_scores: np.ndarray) -> float:
        if self.false_alarm_rate is not None:
            return false_alarm_offset(self._calibration(), self.false_alarm_rate)
        if not isinstance(self.contamination, str):
            return contamination_offset(self._score_rows(X, self._members), self.contamination)
        if np.sum(known < 0) >= LEAST_ANOMALIES:
            return best_threshold(held_out_scores, known)
        return fence_offset(held_out_scores[known >= 0])

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
