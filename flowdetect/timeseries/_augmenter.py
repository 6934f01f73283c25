"""`SeriesAugmenter`: new series, continuations, and ways through gaps, from the density of the next row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from flowdetect._utils.checks import check_whole
from flowdetect._utils.random import RandomState, resolve_seed
from flowdetect.estimators import FlowDensity
from flowdetect.exceptions import InvalidTableError
from flowdetect.timeseries._collection import (
    Collection,
    is_collection,
    read_collection,
    refuse_collection,
)
from flowdetect.timeseries._learning import check_past, learn_next_value
from flowdetect.timeseries._next_value import Piece
from flowdetect.timeseries._pieces import PieceReader
from flowdetect.timeseries._reading import check_name
from flowdetect.timeseries._series_paths import SeriesPaths

__all__ = ["SeriesAugmenter"]


class SeriesAugmenter(BaseEstimator):
    """Draw series, continue them, and fill their gaps, from the density of each row given the rows before it.

    A linear regression on a few features of the past (last values, changes, averages over blocks, values one
    season ago, the calendar, the caller's context) forecasts each number; a `FlowDensity` learns, jointly for
    all channels and given these features, the distribution of what the forecast leaves. Channels may be
    numbers, categories or booleans, with missing values.

    Parameters
    ----------
    time : column name, optional
        Column of the time stamps. None takes the index of a DataFrame or Series if it holds dates; without
        dates rows are one step apart, in the order given.
    entity : column name, optional
        Column that tells several series apart; one density is learnt from all, each on its own scale.
    window : int or "auto", default="auto"
        How many rows before a row are looked at. "auto" takes a few seasons, or 24 rows without a season.
    season : int, "auto" or None, default="auto"
        Steps of a season; "auto" looks for it in the autocorrelations, None looks at none.
    sampling_strategy : "auto" or dict, default="auto"
        How many series `fit_resample` fills classes up to: to the size of the largest, or a dict of class to
        number.
    hidden_features : int, default=32
        Width of the networks, see `FlowDensity`.
    max_steps : int, default=600
        Most steps of the optimiser; training stops earlier when the likelihood of validation rows has stopped
        rising.
    patience : int or None, default=5
    time_budget : float or None, default=None
    device : str, default="auto"
    verbose : int, default=0
        See `FlowDensity`.
    random_state : int, RandomState, Generator or None, default=None
        An int makes everything reproducible.

    Attributes
    ----------
    classes_ : ndarray or None
        Classes of a labelled collection.
    season_ : int or None
        Steps of a season that is looked at.
    window_ : int
        How many rows of the past are looked at.
    density_ : FlowDensity
        Of what the linear forecast leaves, in standardised units.
    n_features_in_ : int
        Number of channels.

    See Also
    --------
    flowdetect.FlowDensity : The density of rows without order.
    flowdetect.timeseries.compare_series : How alike drawn series and real ones are.

    Notes
    -----
    With the forecast m(past) the density of a row is ``p(x_t | past) = q(x_t - m(past) | past)``, a shift
    having determinant 1. Paths follow by drawing row after row. Features are cut to the range they had
    in training, widened by a tenth, so that changes stay bounded; a number that kept to its range returns to
    it, one with a trend (most of the last rows beyond all before) is modelled by its changes alone.

    Numbers with at most four decimals are drawn with as many. `sample` and `fill` stay within the range of
    the series, unless it has a trend; `forecast` may leave it, by half its width at first and more the
    further ahead, but numbers that never were negative do not become so.

    Training rows are kept in the fitted estimator.

    References
    ----------
    C. Durkan, A. Bekasov, I. Murray, G. Papamakarios (2019), "Neural Spline Flows", NeurIPS.

    Examples
    --------
    >>> import numpy as np
    >>> from flowdetect.timeseries import SeriesAugmenter
    >>> rng = np.random.default_rng(0)
    >>> series = np.sin(np.arange(300) * 2 * np.pi / 12) + 0.1 * rng.normal(size=300)
    >>> augmenter = SeriesAugmenter(max_steps=30, random_state=0).fit(series)
    >>> augmenter.season_
    12
    >>> paths = augmenter.forecast(steps=6, n_paths=20, random_state=1)
    >>> paths.shape
    (6, 20)
    >>> paths.quantile([0.1, 0.5, 0.9], axis=1).T.shape
    (6, 3)
    """

    def __init__(
        self,
        *,
        time: Any = None,
        entity: Any = None,
        window: int | str = "auto",
        season: int | str | None = "auto",
        sampling_strategy: Any = "auto",
        hidden_features: int = 32,
        max_steps: int = 600,
        patience: int | None = 5,
        time_budget: float | None = None,
        device: str = "auto",
        verbose: int = 0,
        random_state: RandomState = None,
    ) -> None:
        self.time = time
        self.entity = entity
        self.window = window
        self.season = season
        self.sampling_strategy = sampling_strategy
        self.hidden_features = hidden_features
        self.max_steps = max_steps
        self.patience = patience
        self.time_budget = time_budget
        self.device = device
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, series: Any, y: Any = None, *, context: Any = None) -> SeriesAugmenter:
        """Learn the density of the next row.

        Parameters
        ----------
        series : array-like, Series or DataFrame
            One series of shape (n_timestamps,) or (n_timestamps, n_channels), several as a DataFrame with an
            entity column; or a collection of series of one length, an array of shape (n_series, n_timestamps,
            n_channels), or (n_series, n_timestamps) together with y.
        y : array-like of shape (n_series,), optional
            The class of each series of a collection.
        context : DataFrame or array-like of shape (n_rows, n_context) or (n_rows,), optional
            What is known of each row beforehand, such as a flag of holidays; not for collections.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If series, classes, context or a parameter cannot be used; the sentence says why.
        TrainingError
            If the loss does not stay finite.
        """
        fit_seed, _ = self._begin()
        if is_collection(series, y):
            self._fit_collection(self._read_collection(series, y, context), fit_seed)
        else:
            self._fit_series(series, context, fit_seed)
        return self

    def fit_resample(self, series: Any, y: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Fit on a labelled collection, and return it with drawn series of its rare classes behind it.

        Parameters
        ----------
        series : array-like of shape (n_series, n_timestamps) or (n_series, n_timestamps, n_channels)
        y : array-like of shape (n_series,)

        Returns
        -------
        series_resampled : ndarray
            First the series as they are, then the drawn ones.
        y_resampled : ndarray

        Raises
        ------
        ValueError
            As `fit`; and if y is None, or ``sampling_strategy`` cannot be met.
        """
        if y is None:
            raise InvalidTableError("fit_resample needs the class of each series; got y=None.")
        fit_seed, draw_seed = self._begin()
        collection = self._read_collection(series, y, None)
        wanted = collection.wanted(self.sampling_strategy)
        self._fit_collection(collection, fit_seed)
        rng = np.random.default_rng(draw_seed)
        return collection.resample(self._model, np.asarray(series), np.asarray(y).ravel(), wanted, rng)

    def sample(
        self,
        n_series: int = 1,
        *,
        length: int | None = None,
        y: Any = None,
        random_state: RandomState = None,
    ) -> Any:
        """Draw new series.

        Parameters
        ----------
        n_series : int, default=1
        length : int, optional
            Rows of each; by default as many as the longest stretch of training rows, or as the collection
            has.
        y : label or array-like of shape (n_series,), optional
            Class of all drawn series, or of each; by default as often as in training. For collections only.
        random_state : int, RandomState, Generator or None, default=None
            An int gives the same series each time, None new ones.

        Returns
        -------
        ndarray of shape (n_series, length, n_channels), or DataFrame
            A DataFrame if fitted on one or on a Series: n_series * length rows with the columns of fit, and
            the number of the series in the entity column (named "series" without one). It has the time stamps
            of the rows that the drawn series stand for.

        Raises
        ------
        ValueError
            If a number is not whole and positive, a class was not there in fit, or the length goes beyond
            rows whose context is known.
        NotFittedError
            Before fit.

        Notes
        -----
        Series of a collection are drawn from their first row on. A long series has one beginning only: a
        drawn one stands for a stretch of training rows, all of them by default. Paths start from real rows
        before it, or near it at the same place in the season, and run up to 100 steps before the first row
        that is returned, so that they have parted from the real ones. A number with a trend is then set back
        to where it was before that row.
        """
        check_is_fitted(self)
        check_whole("n_series", n_series)
        if length is not None:
            check_whole("length", length)
        rng = np.random.default_rng(resolve_seed(random_state))
        if self._collection is not None:
            numbers = self._collection.numbers(y, int(n_series), rng)
            return self._collection.draw(self._model, numbers, length, rng)
        return self._paths.sample(int(n_series), length, y, rng)

    def forecast(
        self,
        series: Any = None,
        *,
        steps: int,
        n_paths: int = 100,
        context: Any = None,
        random_state: RandomState = None,
    ) -> pd.DataFrame:
        """Draw paths that continue a series.

        Parameters
        ----------
        series : array-like, Series or DataFrame, optional
            The series to be continued, of the form of fit; by default that of fit.
        steps : int
            Rows to be drawn.
        n_paths : int, default=100
        context : DataFrame or array-like of shape (steps, n_context), optional
            Context of the rows to be drawn; needed just if fit had context. With entities, steps rows for
            each in the order of the result.
        random_state : int, RandomState, Generator or None, default=None
            An int gives the same paths each time, None new ones.

        Returns
        -------
        DataFrame of shape (steps, n_paths) or (steps, n_channels * n_paths)
            One column for each path, 0 to n_paths - 1; with several channels the columns have two levels,
            channel and path. The index holds the stamps to come, or positions; with entities it has two
            levels, entity and stamp. ``paths.quantile(axis=1)`` and ``paths["channel"].quantile(axis=1)``
            summarise.

        Raises
        ------
        ValueError
            If a number is not whole and positive, context is missing or given in vain, or the estimator was
            fitted on a collection.
        NotFittedError
            Before fit.
        """
        check_is_fitted(self)
        refuse_collection(self._collection, "forecast continues")
        check_whole("steps", steps)
        check_whole("n_paths", n_paths)
        rng = np.random.default_rng(resolve_seed(random_state))
        return self._paths.forecast(series, context, int(steps), int(n_paths), rng)

    def fill(
        self, series: Any, *, n_draws: int = 1, context: Any = None, random_state: RandomState = None
    ) -> Any:
        """Fill absent rows and missing values by paths that know what is before and behind them.

        Parameters
        ----------
        series : array-like, Series or DataFrame
            Of the form of fit. Rows whose stamps are absent between others are put in.
        n_draws : int, default=1
            How many filled series to draw.
        context : DataFrame or array-like of n_rows rows, optional
            Needed just if fit had context; absent rows have that of the row before them.
        random_state : int, RandomState, Generator or None, default=None
            An int gives the same each time, None new ones.

        Returns
        -------
        of the kind of series, or list of such
            The completed series; a list of them if n_draws is more than 1. Observed values and types are as
            they were. If rows were absent, rows are sorted by entity and time; stamps that are texts come in
            the format that all given ones have, and all as dates where they have none in common.

        Raises
        ------
        ValueError
            If the series does not come as in fit, or the estimator was fitted on a collection.
        NotFittedError
            Before fit.

        Notes
        -----
        An approximation: 200 paths are drawn through each gap, preferring on the way those that head for the
        row behind it, and one is chosen by the density of the next four rows given the path; more paths would
        come closer to what these rows tell. Of rows in which some channels are observed, paths that come near
        these are preferred, and the observed values put in.
        """
        check_is_fitted(self)
        refuse_collection(self._collection, "fill completes")
        check_whole("n_draws", n_draws)
        rng = np.random.default_rng(resolve_seed(random_state))
        drawn = [self._paths.fill(series, context, rng) for _ in range(int(n_draws))]
        return drawn[0] if n_draws == 1 else drawn

    def _begin(self) -> tuple[int, int]:
        """Check the parameters; return seeds for fitting and for drawing."""
        check_name("time", self.time)
        check_name("entity", self.entity)
        check_past(self.window, self.season)
        # A fit that fails must not leave an older density beside a newer reader.
        self.__dict__.pop("density_", None)
        root = np.random.SeedSequence(resolve_seed(self.random_state))
        seeds = root.generate_state(2, dtype=np.uint32) >> 1
        return int(seeds[0]), int(seeds[1])

    def _read_collection(self, series: Any, y: Any, context: Any) -> Collection:
        return read_collection(series, y, time=self.time, entity=self.entity, context=context)

    def _fit_collection(self, collection: Collection, seed: int) -> None:
        self._learn(collection.pieces, collection.contents.cardinalities, seed, collection.n_told)
        self._collection: Collection | None = collection
        self.classes_ = collection.classes if collection.labelled else None

    def _fit_series(self, series: Any, context: Any, seed: int) -> None:
        reader = PieceReader(time=self.time, entity=self.entity)
        placed = reader.learn(series, context)
        self._learn([each.piece for each in placed], reader.contents.cardinalities, seed, None)
        self._paths = SeriesPaths(reader, placed, self._model)
        self._collection, self.classes_ = None, None

    def _learn(
        self, pieces: list[Piece], cardinalities: NDArray[np.intp], seed: int, n_told: int | None
    ) -> None:
        names = ("hidden_features", "max_steps", "patience", "time_budget", "device", "verbose")
        density = FlowDensity(**{name: getattr(self, name) for name in names}, random_state=seed)
        self._model = learn_next_value(
            pieces, cardinalities, density, window=self.window, season=self.season, n_told=n_told
        )
        self.season_, self.window_ = self._model.plan.season, self._model.plan.window
        self.n_features_in_ = len(cardinalities)
        self.density_ = density

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "density_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        tags.target_tags.required = False
        return tags
