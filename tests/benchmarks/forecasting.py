"""Forecasts by paths: SeriesAugmenter beside a seasonal rule and exponential smoothing, by their CRPS.

    python tests/benchmarks/forecasting.py --data FOLDER [--only co2] [--origins 40] [--paths 200] [--seed 0]
        [--out forecasting.json]

FOLDER holds ``water_flow.csv.gz`` (hourly); ``co2`` (weekly) and ``sunspots`` (yearly) come with statsmodels,
``pip install statsmodels``. The first 60 % of each series are for learning; forecasts start from origins
spread over the rest, one season far. The continuous ranked probability score is the mean over all origins and
steps of ``E|X - y| - E|X - X'| / 2`` with the fair estimator for paths; lower is better, and units are those
of the series.

SeriesAugmenter is fitted once, on the rows for learning, and continues the rows before each origin. The peers
know more: they are fitted on all rows before each origin. "seasonal naive" repeats the last season and adds
residuals of that rule, drawn with replacement. "ETS" is the state-space form of exponential smoothing
with additive errors, simulated; of four (with and without a damped trend, with and without a season) and the
undamped seasonal one that of the best AIC at the first origin.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import statsmodels.api as sm
from _report import summarise
from statsmodels.tsa.exponential_smoothing.ets import ETSModel

from flowdetect.timeseries import SeriesAugmenter

Row = dict[str, object]
# Takes the rows before an origin, and returns paths of shape (n_paths, steps).
Forecaster = Callable[[pd.Series], np.ndarray]

LEARNT = 0.6
# Trend, whether it is damped, whether there is a season.
FORMS = (
    (None, False, False),
    ("add", True, False),
    (None, False, True),
    ("add", True, True),
    ("add", False, True),
)


def read_series(folder: Path) -> dict[str, tuple[pd.Series, int]]:
    """Return the series by name, each with the steps of a season."""
    water = pd.read_csv(folder / "water_flow.csv.gz")
    flow = water.iloc[:, 1].set_axis(pd.to_datetime(water["Time"], utc=True))
    co2 = sm.datasets.co2.load_pandas().data["co2"]
    spots = sm.datasets.sunspots.load_pandas().data["SUNACTIVITY"]
    return {
        "water flow": (flow.resample("h").mean().interpolate(), 24),
        "co2": (co2.interpolate(), 52),
        "sunspots": (spots, 11),
    }


def crps(paths: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Return the fair CRPS of paths of shape (n_paths, steps) at each step."""
    n_paths = len(paths)
    ranks = 2.0 * np.arange(1, n_paths + 1) - n_paths - 1.0
    apart = ranks @ np.sort(paths, axis=0) / (n_paths * (n_paths - 1))
    return np.abs(paths - observed).mean(axis=0) - apart


def seasonal_naive(season: int, n_paths: int, rng: np.random.Generator) -> Forecaster:
    """Return the rule that a season repeats the last one."""

    def forecast(past: pd.Series) -> np.ndarray:
        values = past.to_numpy()
        residuals = values[season:] - values[:-season]
        return values[-season:] + rng.choice(residuals, (n_paths, season))

    return forecast


def smoothing(past: pd.Series, season: int, n_paths: int, rng: np.random.Generator) -> Forecaster:
    """Return exponential smoothing of the form that fits the given rows best."""

    def fit(values: np.ndarray, form: tuple[str | None, bool, bool]) -> object:
        trend, damped, seasonal = form
        kind = {"seasonal": "add", "seasonal_periods": season} if seasonal else {}
        return ETSModel(values, error="add", trend=trend, damped_trend=damped, **kind).fit(disp=False)

    best = min(FORMS, key=lambda form: fit(past.to_numpy(), form).aic)

    def forecast(before: pd.Series) -> np.ndarray:
        fitted = fit(before.to_numpy(), best)
        seed = int(rng.integers(2**31))
        return np.asarray(fitted.simulate(season, anchor="end", repetitions=n_paths, rng=seed)).T

    return forecast


def flow(past: pd.Series, season: int, n_paths: int, seed: int) -> Forecaster:
    """Return SeriesAugmenter, fitted on the given rows."""
    augmenter = SeriesAugmenter(random_state=seed).fit(past)

    def forecast(before: pd.Series) -> np.ndarray:
        paths = augmenter.forecast(before, steps=season, n_paths=n_paths, random_state=len(before))
        return paths.to_numpy().T

    return forecast


def evaluate(name: str, series: pd.Series, season: int, args: argparse.Namespace) -> list[Row]:
    """Return one row for each method and origin."""
    n_learnt = int(LEARNT * len(series))
    origins = np.unique(np.linspace(n_learnt, len(series) - season, args.origins).astype(int))
    rng = np.random.default_rng(args.seed)
    learnt = series.iloc[:n_learnt]
    makers = {
        "flowdetect": lambda: flow(learnt, season, args.paths, args.seed),
        "seasonal naive": lambda: seasonal_naive(season, args.paths, rng),
        "ETS": lambda: smoothing(learnt, season, args.paths, rng),
    }
    rows: list[Row] = []
    for method, make in makers.items():
        start = time.process_time()
        forecast = make()
        for origin in origins:
            observed = series.iloc[origin : origin + season].to_numpy()
            score = float(crps(forecast(series.iloc[:origin]), observed).mean())
            rows.append({"data": name, "method": method, "origin": int(origin), "CRPS": score})
        print(f"{name}, {method}: {time.process_time() - start:.0f} s", flush=True)
    return rows


def main() -> None:
    """Compare on all series."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", default="")
    parser.add_argument("--origins", type=int, default=40)
    parser.add_argument("--paths", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    # Smoothing reports optimisers that stop early, and indexes without a frequency.
    warnings.filterwarnings("ignore", module="statsmodels")
    rows: list[Row] = []
    for name, (series, season) in read_series(args.data).items():
        if args.only in name:
            rows += evaluate(name, series, season, args)
    summarise(rows, value="CRPS", out=args.out, better=min)


if __name__ == "__main__":
    main()
