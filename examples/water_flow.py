"""Find the odd stretches of a pipeline's hourly flow, and set them beside those that are known.

    python examples/water_flow.py [--fast] [--out FOLDER]

The flow falls three times when the pipe loses water or is serviced, and jumps once, for an hour, when a pump
is switched on. The detector is told of none of it, only that a day is a natural window.
"""

import argparse
from pathlib import Path

import pandas as pd

from flowdetect.plotting import SeriesDisplay
from flowdetect.timeseries import SeriesOutlierDetector

DATASETS = Path(__file__).parents[1] / "datasets"


def read_flow() -> pd.Series:
    """Return the hourly flow in litres a second, in local time."""
    table = pd.read_csv(DATASETS / "water_flow.csv.gz")
    times = pd.to_datetime(table["Time"], utc=True).dt.tz_convert("Europe/Rome")
    return pd.Series(table["Water flow [l/s]"].to_numpy(), index=pd.DatetimeIndex(times), name="flow")


def read_known() -> pd.DataFrame:
    """Return the stretches that the source of the series names."""
    known = pd.read_csv(DATASETS / "water_flow_events.csv")
    for side in ("start", "end"):
        known[side] = pd.to_datetime(known[side], utc=True).dt.tz_convert("Europe/Rome")
    return known


def meets(event: pd.Series, others: pd.DataFrame) -> bool:
    """Say whether a stretch overlaps one of others."""
    return bool(((others["start"] <= event["end"]) & (others["end"] >= event["start"])).any())


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="train less")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the picture")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    flow, known = read_flow(), read_known()
    detector = SeriesOutlierDetector(window=24, max_steps=60 if args.fast else 400, random_state=0).fit(flow)
    events = detector.events(flow)

    print(f"windows of {' and '.join(map(str, detector.windows_))} hours\n")
    shown = events.assign(known=[meets(event, known) for _, event in events.iterrows()])
    print(shown.drop(columns="channels").to_string(index=False))
    found = [meets(stretch, events) for _, stretch in known.iterrows()]
    print(f"\n{sum(found)} of the {len(known)} known stretches are met")
    for (_, stretch), met in zip(known.iterrows(), found, strict=True):
        print(f"  {stretch['start']:%d %B %H:%M}, {stretch['description']}: {'met' if met else 'missed'}")
    path = args.out / "water_flow.png"
    SeriesDisplay.from_estimator(detector, flow).figure_.savefig(path)
    print(f"\nwritten: {path}")


if __name__ == "__main__":
    main()
