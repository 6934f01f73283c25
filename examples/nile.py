"""Watch the flow of the Nile year by year, and see its level fall.

    python examples/nile.py [--fast] [--out FOLDER]

The volume of 1899 and the years after it is about a quarter less than before. A detector that has all hundred
years finds no stretch odd, as half of them are like that. One that learns the first 28 years and is shown the
others as they come says early that something has changed, without being told what to look for.
"""

import argparse
from pathlib import Path

import pandas as pd

from flowdetect.plotting import SeriesDisplay
from flowdetect.timeseries import SeriesOutlierDetector

DATASETS = Path(__file__).parents[1] / "datasets"
LAST_YEAR_LEARNT = "1898"


def read_volume() -> pd.Series:
    """Return the volume of each year in 10^8 cubic metres."""
    table = pd.read_csv(DATASETS / "nile.csv.gz")
    years = pd.DatetimeIndex(pd.to_datetime(table["year"].astype(str), format="%Y"), name="year")
    return pd.Series(table["volume"].to_numpy(dtype=float), index=years, name="volume")


def first_alarm(detector: SeriesOutlierDetector, past: pd.Series, years: pd.Series) -> pd.Timestamp | None:
    """Show the detector one year after another, and return the first whose newest score is odd."""
    detector.score_next(past, restart=True)
    for year in years.index:
        newest = detector.score_next(years[[year]]).iloc[-1]
        if newest["score"] < detector.offset_:
            return year
    return None


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="train less")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the picture")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    volume = read_volume()
    settings = {"max_steps": 60 if args.fast else 400, "random_state": 0}
    past, later = volume[:LAST_YEAR_LEARNT], volume[LAST_YEAR_LEARNT:].iloc[1:]
    print(f"mean volume to {LAST_YEAR_LEARNT}: {past.mean():.0f}, afterwards: {later.mean():.0f}\n")

    in_hindsight = SeriesOutlierDetector(**settings).fit(volume)
    print(f"odd stretches, all years learnt: {len(in_hindsight.events(volume))}")

    detector = SeriesOutlierDetector(**settings).fit(past)
    alarm = first_alarm(detector, past, later)
    print(f"windows of {' and '.join(map(str, detector.windows_))} years, learnt to {LAST_YEAR_LEARNT}")
    print("first alarm as the years come:", "none" if alarm is None else f"{alarm:%Y}")
    print("\nodd stretches, in the light of the years that followed")
    print(detector.events(volume).drop(columns="channels").to_string(index=False))

    path = args.out / "nile.png"
    SeriesDisplay.from_estimator(detector, volume).figure_.savefig(path)
    print(f"\nwritten: {path}")


if __name__ == "__main__":
    main()
