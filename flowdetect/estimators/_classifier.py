"""`FlowClassifier`: Bayes' rule over densities conditional on the class."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import log_softmax, logsumexp
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_consistent_length, column_or_1d

from flowdetect._utils.checks import check_whole
from flowdetect._utils.random import RandomState
from flowdetect.estimators._callbacks import with_callbacks
from flowdetect.estimators._class_members import ClassEnsemble, mixed
from flowdetect.estimators._classes import class_frame, number_classes
from flowdetect.estimators._decisions import (
    check_choices,
    check_priors,
    check_target,
    choose_reject_label,
    with_rejections,
)
from flowdetect.estimators._rows import EncodedRows, check_table, check_weights, take_rows
from flowdetect.preprocessing import TableEncoder

__all__ = ["FlowClassifier"]


class FlowClassifier(ClassifierMixin, ClassEnsemble):
    r"""Classify rows by Bayes' rule over the density of each class, and say which rows are like none.

    A few neural spline flows, conditional on the class, each learn from all classes. Columns may be numbers,
    categories, booleans, texts or dates, with missing values. Beside the class of a row the model knows how
    likely the row is at all: `score_samples` finds rows unlike all of training, and `reject_below` keeps
    `predict` from naming a class for them.

    Parameters
    ----------
    priors : array-like of shape (n_classes,), optional
        Probability of each class, in the order of ``classes_``. By default the share of each class among the
        training rows, by weight.
    calibrate : bool, default=True
        Whether held-out rows choose the temperature of the class probabilities; see the notes.
    reject_below : float or None, default=None
        Share, in (0, 1), of the rows of each class that may be refused: `predict` answers `reject_label` for
        a row whose density is, under every class, below that of all but this share of the class's rows. None
        refuses no row.
    reject_label : label or None, default=None
        What `predict` answers then. None takes "rejected", or for classes that are
        numbers -1, or one less than the smallest if -1 is a class.
    n_models : int, default=3
        Flows, each with validation rows of its own, whose answers are averaged. One takes a third of the
        time; its probabilities are worse.
    kind : {"coupling", "autoregressive"}, default="coupling"
        See `FlowDensity`.
    n_layers : int or "auto", default=3
        Number of spline layers. "auto" takes 5, or 2 for a single continuous column.
    hidden_features : int, default=32
        Width of the networks that give the splines' knots.
    n_bins : int, default=8
        Bins of each spline.
    dropout : float, default=0.0
        Share of hidden units left out at each training step.
    max_steps : int, default=600
        Most steps of the optimiser; training stops earlier when the likelihood of validation rows has stopped
        rising.
    batch_size : int, default=256
        Rows a step.
    learning_rate : float, default=2e-3
        Largest learning rate.
    validation_fraction : float, default=0.1
        Share of the rows on which training is judged, and probabilities are calibrated, but which are not
        learnt from.
    patience : int or None, default=5
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
    classes_ : ndarray of shape (n_classes,)
        The classes, sorted.
    class_prior_ : ndarray of shape (n_classes,)
        Probability of each class.
    temperature_ : float
        What log-densities are divided by in class probabilities; 1 without calibration.
    rejection_levels_ : ndarray of shape (n_classes,) or None
        Log-density below which a row is unlike the class, in nats; None without `reject_below`.
    reject_label_ : label or None
        What `predict` answers for a row that is unlike every class; None without `reject_below`.
    encoder_ : TableEncoder
        The invertible map from the table to a matrix.
    context_encoder_ : TableEncoder
        The same for the class.
    densities_ : list of TableDensity
        The trained torch modules, in float64, of rows whose values were whitened by class.
    training_results_ : list of TrainingResult
        Loss history of each, and why its training stopped.
    n_features_in_ : int
        Number of columns.
    feature_names_in_ : ndarray of str
        Their names, if the table was a DataFrame with names.

    See Also
    --------
    FlowDensity : The density of a table without classes.
    FlowOutlierDetector : Rows unlike the others, without classes.

    Notes
    -----
    With the prior :math:`\pi_k` and the densities :math:`p_m(x | k)` of class k by the flows m = 1 .. M,

    .. math::

        P(k | x) = \frac1M \sum_m \frac{\pi_k\, p_m(x | k)^{1/T}}{\sum_j \pi_j\, p_m(x | j)^{1/T}}, \qquad
        p(x | k) = \frac1M \sum_m p_m(x | k), \qquad p(x) = \sum_k \pi_k\, p(x | k) .

    Densities of many columns differ by many nats, also where they are wrong, so that T = 1 is too sure of
    itself. T is the most probable number given the classes of the validation rows, each by the flow that did
    not learn from it; beforehand log T is normal around ``log(d) / 2`` for d columns, with standard deviation
    1, as errors of d columns add up like that. Fewer than 10 rows leave it at 1.

    Before the flow, the values of each class are whitened by its centre and covariance (regularised: with few
    rows it is that of all classes), so that the untrained model is quadratic discriminant analysis, and
    training adds what is not Gaussian.

    The level of a class is the `reject_below` quantile of the log-densities of its validation rows, by the
    flow that did not learn from each, if there are at least ``1 / reject_below`` of them; of all its training
    rows otherwise. A refused row counts as
    wrong for `score`, unless its true label is the reject label, and for scorers that compare labels, which
    scikit-learn has for texts and for numbers, if the reject label is of the same kind; class
    probabilities, and scorers of those, are the same with and without refusal: they say which class it would
    be if it were of one.

    References
    ----------
    B. Lakshminarayanan, A. Pritzel, C. Blundell (2017), "Simple and scalable predictive uncertainty
    estimation using deep ensembles", NeurIPS.

    J. H. Friedman (1989), "Regularized discriminant analysis", Journal of the American Statistical
    Association.

    C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger (2017), "On calibration of modern neural networks", ICML.

    C. K. Chow (1970), "On optimum recognition error and reject tradeoff", IEEE Transactions on Information
    Theory.

    Examples
    --------
    >>> import numpy as np
    >>> from flowdetect import FlowClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(size=(150, 2)), rng.normal(loc=4.0, size=(150, 2))])
    >>> y = np.repeat(["left", "right"], 150)
    >>> classifier = FlowClassifier(reject_below=0.02, max_steps=60, random_state=0).fit(X, y)
    >>> classifier.predict([[0.0, 0.0], [4.0, 4.0], [40.0, -40.0]]).tolist()
    ['left', 'right', 'rejected']
    """

    _last_fitted = "densities_"

    def __init__(
        self,
        *,
        priors: Any = None,
        calibrate: bool = True,
        reject_below: float | None = None,
        reject_label: Any = None,
        n_models: int = 3,
        kind: str = "coupling",
        n_layers: int | str = 3,
        hidden_features: int = 32,
        n_bins: int = 8,
        dropout: float = 0.0,
        max_steps: int = 600,
        batch_size: int = 256,
        learning_rate: float = 2e-3,
        validation_fraction: float = 0.1,
        patience: int | None = 5,
        time_budget: float | None = None,
        device: str = "auto",
        verbose: int = 0,
        random_state: RandomState = None,
    ) -> None:
        self.priors = priors
        self.calibrate = calibrate
        self.reject_below = reject_below
        self.reject_label = reject_label
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

    @with_callbacks
    def fit(self, X: Any, y: Any, *, sample_weight: Any = None) -> FlowClassifier:
        """Fit the densities of the classes.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
            The rows. Arrays hold numbers; DataFrames may hold anything.
        y : array-like of shape (n_rows,)
            The class of each row.
        sample_weight : array-like of shape (n_rows,), optional
            Non-negative; twice the weight acts like the row given twice, and 0 leaves the row out.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the table, the classes, the weights or a parameter cannot be used; the sentence says why.
        TrainingError
            If the loss does not stay finite.
        """
        from flowdetect.training import sklearn_fit_task

        check_choices(self.calibrate, self.reject_below)
        check_whole("n_models", self.n_models)
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        told = {"X": X, "y": y, "metadata": weights}
        with sklearn_fit_task(self, n_trainings=int(self.n_models), **told) as fit_context:
            source, classes = self._encode_classes(X, y, sample_weight)
            self._fit_members(source, classes, fit_context, told)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, shape (n_rows, n_classes).

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            In the order of ``classes_``; each row sums to 1, refused rows included.
        """
        return np.exp(self.predict_log_proba(X))

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of `predict_proba`, shape (n_rows, n_classes).

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
        """
        return self._log_proba(self._member_log_densities(self._check_rows(X)))

    def decision_function(self, X: Any) -> np.ndarray:
        """Return how much speaks for each class.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_classes)
            The log-probability of each class; for two classes the log-odds of the second.
        """
        found = self.predict_log_proba(X)
        with np.errstate(invalid="ignore"):  # a class ruled out by its prior
            return found[:, 1] - found[:, 0] if found.shape[1] == 2 else found

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each row, or ``reject_label_``, shape (n_rows,).

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
        """
        labels, refused = self._decide(X)
        return labels if refused is None else with_rejections(labels, refused, self.reject_label_)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of rows whose class is predicted; a refused row is wrong.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,)
            The classes. Where it holds `reject_label_`, a refused row is right.
        sample_weight : array-like of shape (n_rows,), optional
        """
        labels, refused = self._decide(X)
        given = column_or_1d(y)
        check_consistent_length(labels, given, sample_weight)
        right = labels == given
        if refused is not None:
            right = np.where(refused, given == self.reject_label_, right)
        return float(np.average(right, weights=sample_weight))

    def score_samples(self, X: Any) -> np.ndarray:
        """Return the log-density of each row whatever its class: ``log sum_k pi_k p(x | k)``.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows,)
            In nats, in the original units; larger = more normal.
        """
        return np.asarray(logsumexp(self.class_log_densities(X) + self._log_priors(), axis=1))

    def class_log_densities(self, X: Any) -> np.ndarray:
        """Return the log-density of each row under each class, ``log p(x | k)``.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            In nats, in the original units, in the order of ``classes_``.

        Raises
        ------
        ValueError
            If the columns are not those of fit, or hold what cannot be used.
        NotFittedError
            Before fit.
        """
        return mixed(self._member_log_densities(self._check_rows(X)))

    # --- inside -----------------------------------------------------------------------------------

    def _decide(self, X: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the most probable class of each row, and whether it is refused; None where none can be."""
        members = self._member_log_densities(self._check_rows(X))
        labels = self.classes_[np.argmax(self._log_proba(members), axis=1)]
        if self.rejection_levels_ is None:
            return labels, None
        return labels, np.asarray(np.all(mixed(members) < self.rejection_levels_, axis=1))

    def _log_proba(self, members: np.ndarray) -> np.ndarray:
        """Return the logarithm of the mean class probabilities, from log-densities by flow."""
        return mixed(log_softmax(members / self.temperature_ + self._log_priors(), axis=2))

    @property
    def _n_classes(self) -> int:
        return len(self.classes_)

    def _encode_classes(self, X: Any, y: Any, sample_weight: Any) -> tuple[EncodedRows, np.ndarray]:
        """Check and encode rows and classes; return the rows that are learnt from, and their classes."""
        # A fit that fails must not leave older densities beside newer classes.
        self.__dict__.pop(self._last_fitted, None)
        X = check_table(self, X, fitting=True)
        labels = check_target(y, len(X))
        weights = None if sample_weight is None else check_weights(sample_weight, len(X), least=2)
        if weights is not None:
            kept = weights > 0.0
            # Relative to their mean: weights that sum to 1 are no sign of a single row.
            weights = weights[kept] / weights[kept].mean()
            X, labels = take_rows(X, kept), labels[kept]
        self.classes_, classes = number_classes(labels, len(X))
        refusing = self.reject_below is not None
        self.reject_label_ = choose_reject_label(self.reject_label, self.classes_) if refusing else None
        shares = np.bincount(classes, weights=weights)
        self._class_shares = shares / shares.sum()
        given = self.priors is not None
        self.class_prior_ = check_priors(self.priors, self._n_classes) if given else self._class_shares
        return self._encode_table(X, class_frame(classes, self._n_classes), weights)[0], classes

    def _log_priors(self) -> np.ndarray:
        with np.errstate(divide="ignore"):  # a prior may be 0
            return np.log(self.class_prior_)

    def _make_encoder(self) -> TableEncoder:
        return TableEncoder(lattice="decimal")
