"""`FlowAugmenter`: rows of classes, rows with columns given, and whole tables, from a conditional density."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from imblearn.over_sampling.base import BaseOverSampler
from imblearn.utils import check_target_type
from sklearn.utils import Tags, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from flowdetect._utils.checks import check_whole
from flowdetect._utils.random import RandomState, resolve_seed
from flowdetect.estimators._callbacks import with_callbacks
from flowdetect.estimators._classes import class_frame, number_classes
from flowdetect.estimators._drawing import DrawingEstimator
from flowdetect.estimators._rows import check_table
from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.preprocessing import TableEncoder

if TYPE_CHECKING:
    from flowdetect.flows import FlowSettings
    from flowdetect.training import TrainingResult

__all__ = ["FlowAugmenter"]

# Half of the range in which the splines act, in scales of the encoded columns.
_TAIL_BOUND = 8.0
# A row weighs as much in training as its class has rows, to this power: 0 would weigh all rows alike.
_RARITY_POWER = -0.25


class FlowAugmenter(DrawingEstimator, BaseOverSampler):
    """Draw rows of rare classes, and of whole tables, from a conditional neural spline flow.

    One flow, conditional on the class, learns from all classes: a rare class borrows the shape it shares with
    the common ones. Columns may be numbers, categories, booleans, texts or dates, with missing values; drawn
    rows keep types, categories, bounds, lattices, decimals and the pattern of missing entries.

    Parameters
    ----------
    sampling_strategy : float, str, dict or callable, default="auto"
        How many rows of which classes `fit_resample` adds, as in imbalanced-learn: "auto" fills all classes
        up to the most frequent one; "minority", "not minority", "all"; a float is the wanted ratio of rare to
        common rows of two classes; a dict holds the wanted number of rows of each class.
    noise_scale : float or "auto", default="auto"
        How far from training rows drawn rows lie: the share of fresh noise, from 0 (copies) to 1
        (rows drawn freely from the density). "auto" takes ``sqrt(n / (n + 30))`` for a class of n rows: the
        fewer there are, the closer it stays to them; `fit_resample` takes at most 0.5.
    class_filter : bool, default=True
        Whether `fit_resample` replaces drawn rows that the density finds more probable in another
        class by better ones, out of four at most. `sample` does not.
    bounds : "observed", mapping of column to (low, high), or None, default="observed"
        What drawn numbers and times stay within: the range of the training rows; declared bounds, None
        for an open end, and the range of the training rows for the columns not named; or no bounds.
        Numbers on a lattice (whole numbers, few decimals) stay within the range of the training rows always.
    constraints : callable or list of callables, optional
        Each takes a drawn table and returns one bool per row; rows with False are drawn again.
    kind : {"coupling", "autoregressive", "iaf"}, default="coupling"
        See `FlowDensity`.
    n_layers : int or "auto", default="auto"
        Number of spline layers. "auto" takes 5, or 2 for a single continuous column.
    hidden_features : int, default=64
        Width of the networks that give the splines' knots.
    n_bins : int, default=12
        Bins of each spline.
    dropout : float, default=0.0
        Share of hidden units left out at each training step.
    max_steps : int, default=1000
        Most steps of the optimiser; training stops earlier when the likelihood of validation rows has stopped
        rising.
    batch_size : int, default=512
        Rows a step.
    learning_rate : float, default=2e-3
        Largest learning rate.
    validation_fraction : float, default=0.1
        Share of the rows on which training is judged but does not learn.
    patience : int or None, default=5
        Evaluations without improvement before training stops; None for never.
    time_budget : float or None, default=None
        Seconds after which training stops.
    device : str, default="auto"
        "auto" trains on a GPU if there is one; or a name that torch knows. Rows are drawn on the CPU.
    verbose : int, default=0
        1 shows a progress bar on standard error.
    random_state : int, RandomState, Generator or None, default=None
        An int makes everything reproducible.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,) or None
        The classes; None if fitted without.
    sampling_strategy_ : dict
        Class to number of rows that `fit_resample` drew.
    encoder_ : TableEncoder
        The invertible map from the table to a matrix.
    context_encoder_ : TableEncoder or None
        The same for the class.
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
    FlowDensity : The density itself, with scores.
    flowdetect.quality.compare_tables : How good drawn rows are.

    Notes
    -----
    A drawn row starts as a training row x of its class, in turn. With the flow f, conditional on the class,
    and standard normal e it becomes ``f^-1(sqrt(1 - s^2) f(x) + s e)`` for ``s = noise_scale``; codes
    (categories, missing entries) are redrawn with probability s, and otherwise follow the start by a maximal
    coupling. Whatever s is, rows distributed as the density stay so (the proposal of the preconditioned
    Crank-Nicolson method); s only says how much a drawn row has in common with its start.

    In training a row weighs ``n ** -0.25`` in a class of n rows, so that a rare class is neither passed over
    nor learnt by heart. A class with a single row is drawn close around it, with the shape that all classes
    share. Training rows are kept, encoded, in the fitted estimator.

    Given columns (`sample` with ``conditions``) hold exactly; the others are drawn by a fixed number of
    Metropolis-Hastings moves from the nearest training rows, which is an approximation for numbers, and
    for rare combinations.

    References
    ----------
    C. Durkan, A. Bekasov, I. Murray, G. Papamakarios (2019), "Neural Spline Flows", NeurIPS.

    S. L. Cotter, G. O. Roberts, A. M. Stuart, D. White (2013), "MCMC methods for functions: modifying old
    algorithms to make them faster", Statistical Science.

    Examples
    --------
    >>> import numpy as np
    >>> from flowdetect import FlowAugmenter
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(size=(190, 2)), rng.normal(loc=3.0, size=(10, 2))])
    >>> y = np.repeat(["common", "rare"], [190, 10])
    >>> augmenter = FlowAugmenter(max_steps=50, random_state=0)
    >>> X_resampled, y_resampled = augmenter.fit_resample(X, y)
    >>> int(np.sum(y_resampled == "rare"))
    190
    >>> augmenter.sample(3, y="rare", random_state=1).shape
    (3, 2)
    """

    _last_fitted = "density_"
    _parameter_constraints: dict = {
        "sampling_strategy": BaseOverSampler._parameter_constraints["sampling_strategy"]
    }

    def __init__(
        self,
        *,
        sampling_strategy: Any = "auto",
        noise_scale: float | str = "auto",
        class_filter: bool = True,
        bounds: Any = "observed",
        constraints: Any = None,
        kind: str = "coupling",
        n_layers: int | str = "auto",
        hidden_features: int = 64,
        n_bins: int = 12,
        dropout: float = 0.0,
        max_steps: int = 1000,
        batch_size: int = 512,
        learning_rate: float = 2e-3,
        validation_fraction: float = 0.1,
        patience: int | None = 5,
        time_budget: float | None = None,
        device: str = "auto",
        verbose: int = 0,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(sampling_strategy=sampling_strategy)
        self.noise_scale = noise_scale
        self.class_filter = class_filter
        self.bounds = bounds
        self.constraints = constraints
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
    def fit(self, X: Any, y: Any = None) -> FlowAugmenter:
        """Fit the density.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
            The rows. Arrays hold numbers; DataFrames may hold anything.
        y : array-like of shape (n_rows,), optional
            The class of each row; without it the whole table is one class.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the table, the classes or a parameter cannot be used; the sentence says why.
        TrainingError
            If the loss does not stay finite.
        """
        labels = None
        if y is not None:
            check_classification_targets(y)
            labels = column_or_1d(y)
        self._fit(X, labels)
        return self

    @with_callbacks
    def fit_resample(self, X: Any, y: Any) -> tuple[Any, Any]:
        """Fit the density, and return the table with the drawn rows behind it.

        Parameters
        ----------
        X : DataFrame, array-like or list of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_classes)
            The class of each row; one column for each class is understood as well.

        Returns
        -------
        X_resampled : of the kind of X, shape (n_rows_new, n_features)
            First the rows of X as they are, then the drawn ones; a DataFrame counts its rows anew.
        y_resampled : of the kind of y, shape (n_rows_new,)

        Raises
        ------
        ValueError
            As `fit`; and if there is one class only, or a strategy asks for fewer rows than there are.
        ConstraintError
            If the constraints cannot be met.
        """
        return super().fit_resample(X, y)

    def sample(
        self,
        n_samples: int = 1,
        *,
        y: Any = None,
        conditions: Any = None,
        return_y: bool = False,
        random_state: RandomState = None,
    ) -> Any:
        """Draw rows.

        Parameters
        ----------
        n_samples : int, default=1
            How many rows; with conditions, how many for each row of them.
        y : label or array-like of shape (n_samples,), optional
            The class of all drawn rows, or of each (with conditions: of each row of them). By default classes
            are drawn as often as they occurred in training.
        conditions : DataFrame of shape (n_conditions, n_given) or mapping of column to value, optional
            Values that the rows must have, in any of the columns; a missing one asks for a missing
            entry. For a table that was an array, columns are named by position.
        return_y : bool, default=False
            Whether to return the classes as well.
        random_state : int, RandomState, Generator or None, default=None
            An int gives the same rows each time, None new ones.

        Returns
        -------
        X : DataFrame or ndarray of shape (n_samples, n_features) or (n_conditions * n_samples, n_features)
            Of the kind fitted on. With conditions, the n_samples rows for the first of them come first.
        y : ndarray of shape (n_samples,) or (n_conditions * n_samples,)
            Only with ``return_y=True``.

        Raises
        ------
        ValueError
            If a class was not there in training, or conditions name unknown columns, or values never seen in
            a column of categories.
        ConstraintError
            If the constraints cannot be met.
        NotFittedError
            Before fit.
        """
        check_is_fitted(self)
        check_whole("n_samples", n_samples)
        seed = resolve_seed(random_state)
        given = None if conditions is None else self._check_conditions(conditions)
        classes = self._classes_asked(y, int(n_samples) if given is None else len(given), seed)
        if given is not None:
            given = given.loc[given.index.repeat(int(n_samples))].reset_index(drop=True)
            classes = classes.repeat(int(n_samples))
        rows = self._draw_table(classes, given, seed)
        if not return_y:
            return rows
        if self.classes_ is None:
            raise ConfigurationError("return_y=True needs classes; this FlowAugmenter was fitted without y.")
        return rows, self.classes_[classes]

    # --- fitting ----------------------------------------------------------------------------------

    def _fit(self, X: Any, labels: np.ndarray | None) -> int:
        """Fit the density; return a seed for drawing."""
        from flowdetect.training import SklearnCallbacks, sklearn_fit_task

        self._check_parameters()
        told = {"X": X, "y": labels}
        with sklearn_fit_task(self, **told) as fit_context:
            X = check_table(self, X, fitting=True)
            context = weights = self.classes_ = None
            classes = np.zeros(len(X), dtype=np.intp)
            if labels is not None:
                self.classes_, classes = number_classes(labels, len(X))
                context = class_frame(classes, len(self.classes_))
                weights = _class_weights(classes)
            source, _ = self._encode_table(X, context, weights)
            build_seed, train_seed, rows_seed, draw_seed = self._seeds(4)
            self._keep_sources(source, classes, np.random.default_rng(rows_seed))
            density = self._build(source, build_seed)
            callback = SklearnCallbacks(
                self,
                fit_context,
                **told,
                attributes=lambda: {"density_": copy.deepcopy(density).cpu().double()},
            )
            self.training_result_: TrainingResult = self._train(
                density, source, train_seed, callback=callback
            )
            self.density_ = density
        return draw_seed

    def _check_parameters(self) -> None:
        scale = self.noise_scale
        number = isinstance(scale, int | float | np.number) and not isinstance(scale, bool)
        if scale != "auto" and not (number and 0.0 <= float(scale) <= 1.0):
            raise ConfigurationError(f"noise_scale must be 'auto' or lie in 0..1; got {scale!r}.")
        if not isinstance(self.class_filter, bool | np.bool_):
            raise ConfigurationError(f"class_filter must be True or False; got {self.class_filter!r}.")
        self._checks()

    def _check_X_y(self, X: Any, y: Any) -> tuple[Any, np.ndarray, bool]:
        y, one_column_per_class = check_target_type(y, indicate_one_vs_all=True)
        X = X if isinstance(X, pd.DataFrame) else check_table(self, X, fitting=True)
        check_consistent_length(X, y)
        return X, y, one_column_per_class

    def _fit_resample(self, X: Any, y: np.ndarray, **params: Any) -> tuple[Any, np.ndarray]:
        seed = self._fit(X, y)
        if self.classes_ is None:
            raise InvalidTableError("fit_resample needs a class for each row; got y=None.")
        counts = [self.sampling_strategy_.get(label, 0) for label in self.classes_]
        classes = np.repeat(np.arange(len(counts)), counts)
        if not len(classes):
            return X.reset_index(drop=True) if isinstance(X, pd.DataFrame) else X.copy(), y.copy()
        drawn = self._draw_table(classes, None, seed, near_rows=True, filtered=self.class_filter)
        labels = np.concatenate([y, self.classes_[classes].astype(y.dtype)])
        if isinstance(X, pd.DataFrame):
            return pd.concat([X, drawn], ignore_index=True), labels
        return np.concatenate([X, drawn]), labels

    # --- what the base asks for -------------------------------------------------------------------

    def _flow_settings(self) -> FlowSettings:
        # A rare class may live where the encoder's logarithmic tails begin: the splines must reach beyond.
        return replace(super()._flow_settings(), tail_bound=_TAIL_BOUND)

    def _make_encoder(self) -> TableEncoder:
        return TableEncoder(heaps=True)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.dataframe = True
        tags.target_tags.required = False
        return tags


def _class_weights(classes: np.ndarray) -> np.ndarray:
    """Return the weight of each row in training, 1 on average."""
    weights = np.bincount(classes)[classes] ** _RARITY_POWER
    return np.asarray(weights / weights.mean())
