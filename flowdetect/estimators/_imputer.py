"""`FlowImputer`: missing entries drawn from their distribution given the entries that are there."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats.qmc import Sobol
from sklearn.base import OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from flowdetect._utils.checks import check_whole
from flowdetect._utils.random import RandomState, resolve_seed
from flowdetect.estimators._base import FlowEstimator
from flowdetect.estimators._callbacks import with_callbacks
from flowdetect.estimators._entries import Entries, KnownEntries
from flowdetect.estimators._filling import Random, TableFiller
from flowdetect.estimators._limits import ColumnLimits
from flowdetect.estimators._normal import fit_normal
from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.preprocessing import TableEncoder

if TYPE_CHECKING:
    from flowdetect.flows import CompletionModel, FlowSettings, TableDensity
    from flowdetect.training import Objective, TrainingResult

__all__ = ["FlowImputer"]

_STRATEGIES = ("mean", "median")
# The points behind means are the same for every row, so that no row's answer depends on another's.
_POINTS_SEED = 0


class FlowImputer(OneToOneFeatureMixin, TransformerMixin, FlowEstimator):
    """Fill missing entries of a table from their distribution given the entries that are there.

    Columns may be numbers, categories, booleans, texts or dates; each may be missing in any row, also
    where it never was in the table of `fit`. Learns from tables with missing entries.

    Parameters
    ----------
    strategy : {"mean", "median"}, default="mean"
        What `transform` puts in place of missing numbers and dates: the mean or the median of their
        conditional distribution. All else gets its most probable entry.
    n_draws : int, default=64
        Draws from the conditional distribution behind each of these answers.
    bounds : "observed", mapping of column to (low, high), or None, default="observed"
        What filled-in numbers and times stay within: the range of the rows of `fit`; declared bounds, None
        for an open end, and the range of those rows for the columns not named; or no bounds, for columns
        whose high or low entries are the missing ones. What lies beyond is put at the bound. Whole numbers,
        decimals of a few digits and times stay within the range seen even without bounds, and columns
        without negative entries get none.
    keep_empty_features : bool, default=False
        Whether columns missing in all rows of `fit` stay, unfilled: there is nothing to fill them from.
        Otherwise they are left out, as by scikit-learn's imputers.
    n_layers : int, default=3
        Number of spline layers.
    hidden_features : int, default=64
        Width of the networks that give the splines' knots.
    n_bins : int, default=8
        Bins of each spline.
    dropout : float, default=0.0
        Share of hidden units left out at each training step.
    max_steps : int, default=2000
        Most steps of the optimiser (AdamW); training stops earlier when the likelihood of validation rows has
        stopped rising.
    batch_size : int, default=128
        Rows a step.
    learning_rate : float, default=2e-3
        Largest learning rate; it warms up, then falls along a cosine.
    validation_fraction : float, default=0.1
        Share of the rows on which training is judged but does not learn.
    patience : int or None, default=8
        Evaluations without improvement before training stops; None for never.
    time_budget : float or None, default=None
        Seconds after which training stops.
    device : str, default="auto"
        "auto" trains on a GPU if there is one; or a name that torch knows. Filling is on the CPU, in float64.
    verbose : int, default=0
        1 shows a progress bar on standard error.
    random_state : int, RandomState, Generator or None, default=None
        An int makes `fit` reproducible; `transform` always is.

    Attributes
    ----------
    encoder_ : TableEncoder
        The invertible map from the table to a matrix.
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
    FlowDensity : The density of whole rows, for which an entry that is missing is an event of its own.

    Notes
    -----
    One flow learns ``p(hidden entries | given entries)`` for every choice of entries: in each training step
    other observed entries are hidden, and asked for. So a draw is one pass, exact under the model, without a
    Markov chain. The flow works on what a normal distribution with its exact conditional distributions,
    fitted by expectation and maximisation, leaves unexplained: on few rows, and where relations are linear,
    the model stays that normal distribution. Above 80 coordinates (numbers and levels) columns start as
    independent.

    With long tails, draws and means of an unusual row may lie far outside of all that was seen: see `bounds`.

    What is missing is taken to be missing at random (Rubin 1976): whether an entry is missing may depend on
    entries of its row that are there, not on its own value. What depends on the unseen value itself, as an
    income that is kept secret because it is high, cannot be told from the table, by no method.

    To carry the uncertainty of missing entries into an analysis, run it on each table that `sample` gives,
    and pool the results by Rubin's rules; a table filled by means has too little variance. The draws are
    given the fitted model, whose own uncertainty they leave out.

    References
    ----------
    Y. Li, S. Akbar, J. Oliva (2020), "ACFlow: Flow models for arbitrary conditional likelihoods", ICML.
    D. B. Rubin (1976), "Inference and missing data", Biometrika.
    D. B. Rubin (1987), "Multiple Imputation for Nonresponse in Surveys", Wiley.

    Examples
    --------
    >>> import numpy as np
    >>> from flowdetect import FlowImputer
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=500)
    >>> X = np.column_stack([x, x + 0.1 * rng.normal(size=500)])
    >>> imputer = FlowImputer(max_steps=50, random_state=0).fit(X)
    >>> filled = imputer.transform(np.array([[1.0, np.nan], [np.nan, -1.0]]))
    >>> bool(np.abs(filled - [[1.0, 1.0], [-1.0, -1.0]]).max() < 0.2)
    True
    >>> [table.shape for table in imputer.sample(X[:3], 2, random_state=0)]
    [(3, 2), (3, 2)]
    """

    _last_fitted = "density_"

    def __init__(
        self,
        *,
        strategy: str = "mean",
        n_draws: int = 64,
        bounds: Any = "observed",
        keep_empty_features: bool = False,
        n_layers: int = 3,
        hidden_features: int = 64,
        n_bins: int = 8,
        dropout: float = 0.0,
        max_steps: int = 2000,
        batch_size: int = 128,
        learning_rate: float = 2e-3,
        validation_fraction: float = 0.1,
        patience: int | None = 8,
        time_budget: float | None = None,
        device: str = "auto",
        verbose: int = 0,
        random_state: RandomState = None,
    ) -> None:
        self.strategy = strategy
        self.n_draws = n_draws
        self.bounds = bounds
        self.keep_empty_features = keep_empty_features
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
    def fit(self, X: Any, y: Any = None, *, sample_weight: Any = None) -> FlowImputer:
        """Learn the distribution of every choice of entries given the others.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
            The rows, complete or not. Arrays hold numbers; DataFrames may hold anything.
        y : ignored
        sample_weight : array-like of shape (n_rows,), optional
            Non-negative; a weight of 2 acts like the row given twice, and 0 leaves the row out.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the table, weights or a parameter cannot be used; the sentence says why.
        TrainingError
            If the loss does not stay finite.
        """
        from flowdetect.training import SklearnCallbacks, sklearn_fit_task

        self._check_parameters()
        metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
        told = {"X": X, "y": y, "metadata": metadata}
        with sklearn_fit_task(self, **told) as fit_context:
            encoded, _ = self._encode_table(X, None, sample_weight)
            entries = Entries.of(self.encoder_)
            if not len(entries.units):
                raise InvalidTableError(
                    "X must have a column with entries that are not missing; got none in "
                    f"{self.n_features_in_} column(s). There is nothing to fill the table from."
                )
            self._limits = ColumnLimits.build(self.encoder_, encoded.table, self.bounds)
            source = KnownEntries(encoded, entries)
            self._fit_normal(source)
            build_seed, train_seed = self._seeds(2)
            density = self._build_density(source, build_seed)
            model = self._model(density)
            callback = SklearnCallbacks(
                self,
                fit_context,
                **told,
                attributes=lambda: {"density_": copy.deepcopy(density).cpu().double()},
            )
            self.training_result_: TrainingResult = self._train(model, source, train_seed, callback=callback)
            self.density_ = density
        return self

    def transform(self, X: Any) -> Any:
        """Return the table with missing entries filled by their conditional mean, median or mode.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)

        Returns
        -------
        DataFrame or ndarray of shape (n_rows, n_kept_features)
            Of the kind of X, index and dtypes included, its columns in the order of `fit`. What is there
            stays. Columns of a whole-number dtype get whole numbers, others the mean itself, also where
            they hold only a few different numbers (the median is one of these).

        Raises
        ------
        ValueError
            If the columns are not those of fit, or hold what cannot be used.
        NotFittedError
            Before fit.
        """
        X, _ = self._check_scoring(X, None)
        n_draws, n_columns = int(self.n_draws), Entries.of(self.encoder_).n_columns
        # Sobol's points are balanced in blocks of a power of two.
        exponent = max(n_draws - 1, 0).bit_length()
        points = Sobol(n_columns, rng=_POINTS_SEED).random_base2(exponent)[:n_draws]

        def random(n_rows: int) -> np.ndarray:
            return np.tile(points, (n_rows, 1, 1))

        return self._fill(X, random, n_draws, self.strategy)[0]

    def sample(self, X: Any, n_draws: int = 5, *, random_state: RandomState = None) -> list[Any]:
        """Draw the missing entries, several times: multiple imputation.

        Parameters
        ----------
        X : DataFrame or array-like of shape (n_rows, n_features)
        n_draws : int, default=5
            How many tables.
        random_state : int, RandomState, Generator or None, default=None
            An int gives the same tables each time, None new ones.

        Returns
        -------
        list of DataFrame or ndarray
            n_draws tables as `transform` gives them, each with its own joint draw of all entries missing in a
            row. Numbers are such as their column holds: whole, on a grid, within `bounds`.

        Raises
        ------
        ValueError
            As `transform` does, and if n_draws is not a positive whole number.
        NotFittedError
            Before fit.
        """
        check_whole("n_draws", n_draws)
        X, _ = self._check_scoring(X, None)
        n_columns = Entries.of(self.encoder_).n_columns
        rng = np.random.default_rng(resolve_seed(random_state))

        def random(n_rows: int) -> np.ndarray:
            return rng.random((n_rows, int(n_draws), n_columns))

        return self._fill(X, random, int(n_draws), None)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns of the result.

        Parameters
        ----------
        input_features : array-like of str, optional
            Names for an array; otherwise x0, x1, ...

        Returns
        -------
        ndarray of str

        Raises
        ------
        NotFittedError
            Before fit.
        """
        check_is_fitted(self)
        names: np.ndarray = super().get_feature_names_out(input_features)
        return names[self._kept()]

    # --- fitting ----------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        if self.strategy not in _STRATEGIES:
            raise ConfigurationError(
                f"strategy must be one of {_STRATEGIES}; got {self.strategy!r}. Choose one of these."
            )
        check_whole("n_draws", self.n_draws)

    def _make_encoder(self) -> TableEncoder:
        return TableEncoder(missing="always", lattice="decimal")

    def _objective(self) -> Objective:
        from flowdetect.training import HiddenEntries

        return HiddenEntries()

    def _weight_decay(self, n_rows: int) -> float:
        return min(0.5, 500.0 / n_rows)

    def _flow_settings(self) -> FlowSettings:
        from flowdetect.flows import FlowSettings

        return FlowSettings(**self._parameters("n_layers", "hidden_features", "n_bins", "dropout"))

    def _fit_normal(self, source: KnownEntries) -> None:
        points, known = source.entries.points(*source.known_rows(np.arange(len(source))))
        self._mean, self._covariance = fit_normal(points, known, source.weights)

    def _build_density(self, source: KnownEntries, seed: int) -> TableDensity:
        from flowdetect.flows import TableDensity, completion_layouts

        entries = source.entries
        n_values = entries.layout.n_values
        layout, context = completion_layouts(n_values, entries.cardinalities, len(self._mean))
        return TableDensity(
            layout,
            context_layout=context,
            settings=self._flow_settings(),
            seed=seed,
            smoothing=1.0 / (len(source) + 2.0),
            marginals=source.code_frequencies() or None,
        )

    def _model(self, density: TableDensity) -> CompletionModel:
        from flowdetect.flows import CompletionModel

        entries = Entries.of(self.encoder_)
        return CompletionModel(
            density,
            value_units=entries.value_units,
            code_units=entries.code_units,
            gates=entries.gates,
            n_drawn=entries.n_drawn,
            coordinates=entries.coordinates(),
            mean=self._mean,
            covariance=self._covariance,
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    # --- filling ----------------------------------------------------------------------------------

    def _kept(self) -> np.ndarray:
        """Return which columns of the table are in the result."""
        empty = np.array([column.kind == "empty" for column in self.encoder_.schema_.columns])
        return np.ones_like(empty) if self.keep_empty_features else ~empty

    def _fill(self, X: Any, random: Random, n_draws: int, strategy: str | None) -> list[Any]:
        entries = Entries.of(self.encoder_)
        filler = TableFiller(self._model(self.density_), self.encoder_, entries, self._limits)
        tables = filler.fill(X, random, n_draws, strategy)
        tables = [table.iloc[:, self._kept()] for table in tables]
        return tables if isinstance(X, pd.DataFrame) else [table.to_numpy(dtype=X.dtype) for table in tables]
