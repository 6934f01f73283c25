"""`compare_series`: how alike drawn series and real ones are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.stats import ks_2samp
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from flowdetect._utils.checks import check_whole
from flowdetect._utils.random import RandomState, resolve_seed
from flowdetect.exceptions import InvalidTableError
from flowdetect.timeseries._channels import carry_forward
from flowdetect.timeseries._contents import Contents
from flowdetect.timeseries._reading import as_series_frame

__all__ = ["compare_series"]

_Array = NDArray[np.float64]
# Channels of the series, each array of shape (n_rows, n_channels).
_Series = list[_Array]

_LONGEST_WINDOW = 24
_LEAST_ROWS = 16
_MOST_WINDOWS = 4000
# What the classifier learns from: this share of the series, or of each series its first rows.
_LEARNT = 0.6
# So many series on either side are parted into some and the others, fewer into earlier and later rows.
_LEAST_SERIES = 4


def compare_series(
    real: Any, drawn: Any, *, window: int | None = None, random_state: RandomState = None
) -> pd.DataFrame:
    """Return how far drawn series are from real ones, beside how far the real ones are from themselves.

    Parameters
    ----------
    real, drawn : array-like, Series or DataFrame
        One series of shape (n_timestamps,) or (n_timestamps, n_channels), or several as an array of shape
        (n_series, n_timestamps, n_channels). Of a DataFrame the columns are the channels: drop time stamps
        and entities. Lengths may differ.
    window : int, optional
        Lags of the correlations, and rows of the windows a classifier sees; by default 24, less for series
        shorter than eight such windows.
    random_state : int, RandomState, Generator or None, default=None
        An int gives the same figures each time.

    Returns
    -------
    DataFrame with the columns "value" and "baseline"
        "baseline" is the figure of the later half of the real rows against the earlier one: what two
        stretches of one series differ by. With at least four series on either side it is that of one half of
        the real series against the other. Rows:

        - "marginal distance" of each channel: Kolmogorov-Smirnov, 0 to 1.
        - "autocorrelation error" of each channel: the largest difference of the autocorrelations at the lags
          1 to ``window``.
        - "cross-correlation error", with several channels: the largest difference of the correlations of two
          channels, one of them up to ``window`` steps later.
        - "C2ST AUROC": how well boosted trees tell windows of the two apart that come later than those they
          learnt from, or with at least four series on either side are of others; 0.5 = not at all,
          1 = always.

    Raises
    ------
    ValueError
        If the series differ in their channels, or are shorter than 16 rows.

    Examples
    --------
    >>> import numpy as np
    >>> from flowdetect.timeseries import compare_series
    >>> rng = np.random.default_rng(0)
    >>> measures = compare_series(rng.normal(size=400), rng.normal(size=400), random_state=0)
    >>> bool(measures.loc["marginal distance, 0", "value"] < 0.15)
    True
    """
    if window is not None:
        check_whole("window", window)
    seed = resolve_seed(random_state)
    contents, tables = _read(real, drawn)
    shortest = min(len(one) for series in tables for one in series)
    if shortest < _LEAST_ROWS:
        raise InvalidTableError(
            f"Series must have at least {_LEAST_ROWS} rows to be compared; one has {shortest}."
        )
    window = min(_LONGEST_WINDOW, shortest // 8) if window is None else int(window)
    if 8 * window > shortest:
        raise InvalidTableError(
            f"window must be at most an eighth of the shortest series, {shortest // 8}; got {window}."
        )
    names = _names(contents)
    apart = min(map(len, tables)) >= _LEAST_SERIES
    halves = _parted(tables[0], 0.5, apart, seed)
    columns = {"value": _measures(tables[0], tables[1], names, window, apart, seed)}
    columns["baseline"] = _measures(halves[0], halves[1], names, window, apart, seed)
    return pd.DataFrame(columns).rename_axis("measure")


def _measures(
    real: _Series, drawn: _Series, names: list[str], window: int, apart: bool, seed: int
) -> dict[str, float]:
    joined = [np.concatenate(series) for series in (real, drawn)]
    correlations = [_correlations(series, window) for series in (real, drawn)]
    error = np.abs(correlations[0] - correlations[1]).max(axis=0)
    figures: dict[str, float] = {}
    for j, name in enumerate(names):
        samples = [rows[~np.isnan(rows[:, j]), j] for rows in joined]
        known = all(len(sample) for sample in samples)
        figures[f"marginal distance, {name}"] = float(ks_2samp(*samples).statistic) if known else float("nan")
    for j, name in enumerate(names):
        figures[f"autocorrelation error, {name}"] = float(error[j, j])
    if len(names) > 1:
        figures["cross-correlation error"] = float(error[~np.eye(len(names), dtype=bool)].max())
    figures["C2ST AUROC"] = _told_apart(real, drawn, window, apart, seed)
    return figures


def _parted(series: _Series, share: float, apart: bool, seed: int) -> tuple[_Series, _Series]:
    """Return a share of the series and the others, or the earlier rows of each and the later ones."""
    if apart:
        order = np.random.default_rng(seed).permutation(len(series))
        n_first = int(share * len(series))
        return [series[k] for k in order[:n_first]], [series[k] for k in order[n_first:]]
    ends = [int(share * len(one)) for one in series]
    early = [one[:end] for one, end in zip(series, ends, strict=True)]
    return early, [one[end:] for one, end in zip(series, ends, strict=True)]


def _correlations(series: _Series, n_lags: int) -> _Array:
    """Return the correlation of each channel with each other one up to n_lags steps later, by lag.

    Of autocorrelations the one at lag 0 plays no part: it is 1 for all.
    """
    means = []
    for one in series:
        centred = carry_forward(one) - carry_forward(one).mean(axis=0)
        spread = centred.std(axis=0)
        centred = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0.0)
        lags = [centred[: len(centred) - lag].T @ centred[lag:] / len(centred) for lag in range(n_lags + 1)]
        means.append(np.stack(lags))
    return np.asarray(np.mean(means, axis=0))


def _told_apart(real: _Series, drawn: _Series, window: int, apart: bool, seed: int) -> float:
    """Return the AUROC of a classifier of windows, judged on others, or later ones, than it learnt from."""
    learnt, judged = [], []
    for series in (real, drawn):
        first, others = _parted(series, _LEARNT, apart, seed)
        learnt.append(_windows(first, window))
        judged.append(_windows(others, window))
    rng = np.random.default_rng(seed)
    size = min(_MOST_WINDOWS, *map(len, learnt))
    chosen = [windows[np.sort(rng.permutation(len(windows))[:size])] for windows in learnt]
    model = HistGradientBoostingClassifier(early_stopping=False, min_samples_leaf=5, random_state=seed)
    model.fit(np.concatenate(chosen), np.repeat([0, 1], size))
    scores = model.predict_proba(np.concatenate(judged))[:, 1]
    return float(roc_auc_score(np.repeat([0, 1], [len(judged[0]), len(judged[1])]), scores))


def _windows(series: _Series, window: int) -> _Array:
    """Return windows of the series as rows, values and their changes, a quarter of a window apart."""
    rows = []
    for one in series:
        if len(one) >= window:
            views = sliding_window_view(one, window, axis=0)[:: max(1, window // 4)]
            changes = np.diff(views, axis=2)
            rows.append(np.hstack([views.reshape(len(views), -1), changes.reshape(len(views), -1)]))
    return np.concatenate(rows)


# --- reading ---------------------------------------------------------------------------------------------


def _read(real: Any, drawn: Any) -> tuple[Contents, list[_Series]]:
    parts = [_parts(real), _parts(drawn)]
    first = parts[0][0]
    whole = pd.concat(parts[0]) if isinstance(first, pd.DataFrame) else np.concatenate(parts[0])
    contents = Contents().learn(whole)
    return contents, [[_spread_out(contents, table) for table in tables] for tables in parts]


def _parts(series: Any) -> list[Any]:
    if not isinstance(series, pd.DataFrame | pd.Series) and np.ndim(series) == 3:
        return list(np.asarray(series))
    return [as_series_frame(series)]


def _spread_out(contents: Contents, table: Any) -> _Array:
    """Return numbers as they are, and one column of 0 and 1 for each category."""
    values = contents.read(table)
    columns = []
    for column, n_categories in enumerate(contents.cardinalities):
        here = values[:, column, None]
        columns.append((here == np.arange(n_categories)).astype(np.float64) if n_categories else here)
    return np.concatenate(columns, axis=1)


def _names(contents: Contents) -> list[str]:
    names: list[str] = []
    for column, name in enumerate(contents.names):
        levels = contents.levels(column)
        names += [f"{name} = {level}" for level in levels] if levels else [str(name)]
    return names
