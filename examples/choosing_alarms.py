"""Choose how rows become alarms: a share of the rows, a false-alarm rate, or a false discovery rate.

The detector is fitted to sensor readings of the space shuttle in normal operation, then scores new
readings, 2 % of them anomalous. Three thresholds are compared: ``contamination`` (a share of the rows that
were fitted), ``false_alarm_rate`` (a share of the normal rows to come) and ``select`` with ``fdr`` (a share
of the alarms). Then the reasons for two alarms are read: what each sensor contributes, and what it was
expected to show.

    python examples/choosing_alarms.py --out pictures
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from flowdetect import FlowOutlierDetector
from flowdetect.plotting import ContributionDisplay, PValueCalibrationDisplay

DATA = Path(__file__).parents[1] / "datasets" / "shuttle.csv.gz"


def main() -> None:
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    n_rows = 600 if arguments.fast else 3000
    normal, anomalous = read_readings()
    past, rest = normal.iloc[:n_rows], normal.iloc[n_rows : 2 * n_rows]
    new = pd.concat([rest, anomalous.iloc[: n_rows // 50]], ignore_index=True)
    is_anomaly = np.arange(len(new)) >= len(rest)

    few_steps = {"max_steps": 60} if arguments.fast else {}
    detector = FlowOutlierDetector(false_alarm_rate=0.01, random_state=0, verbose=1, **few_steps).fit(past)
    by_share = FlowOutlierDetector(contamination=0.02, random_state=0, **few_steps).fit(past)
    alarms = {
        "contamination=0.02": by_share.predict(new) == -1,
        "false_alarm_rate=0.01": detector.predict(new) == -1,
        "select(fdr=0.05)": detector.select(new, fdr=0.05),
        "select(fdr=0.2)": detector.select(new, fdr=0.2),
    }
    print(f"{len(new):,} new readings, {is_anomaly.sum()} of them anomalous:")
    for name, flagged in alarms.items():
        print_alarms(name, flagged, is_anomaly)

    worst = np.argsort(detector.score_samples(new))[:2]
    for position in worst:
        print_reasons(detector, new.iloc[[position]])

    display = PValueCalibrationDisplay.from_estimator(detector, rest)
    display.figure_.savefig(arguments.out / "shuttle_p_values.png")
    display = ContributionDisplay.from_estimator(detector, new.iloc[worst], row=0)
    display.figure_.savefig(arguments.out / "shuttle_reasons.png")
    print(f"\nThe pictures are in {arguments.out}/.")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder to write to")
    parser.add_argument("--fast", action="store_true", help="fewer rows, and a few training steps only")
    return parser.parse_args()


def read_readings() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return normal and anomalous readings, each in random order."""
    table = pd.read_csv(DATA).sample(frac=1.0, random_state=0)
    sensors = table.drop(columns="anomaly")
    return sensors[table["anomaly"] == 0], sensors[table["anomaly"] == 1]


def print_alarms(name: str, flagged: np.ndarray, is_anomaly: np.ndarray) -> None:
    false = np.mean(flagged[~is_anomaly])
    wrong = np.mean(~is_anomaly[flagged]) if flagged.any() else 0.0
    print(
        f"  {name:22s} {flagged.sum():4d} alarms: {flagged[is_anomaly].sum():3d} anomalies found; "
        f"{100 * false:.1f} % of the normal rows, {100 * wrong:.0f} % of the alarms are false"
    )


def print_reasons(detector: FlowOutlierDetector, row: pd.DataFrame) -> None:
    contributions = detector.explain(row).iloc[0].nsmallest(3)
    expected = detector.typical(row, columns=list(contributions.index)).iloc[0]
    p_value = detector.p_values(row)[0]
    print(f"\nReading {row.index[0]}: score {detector.score_samples(row)[0]:.1f} nats, p-value {p_value:.4f}")
    for name, nats in contributions.items():
        low, high = expected[name, "low"], expected[name, "high"]
        print(f"  {name} = {row[name].iloc[0]:6d}  {nats:+7.1f} nats, expected {low:.0f} to {high:.0f}")


if __name__ == "__main__":
    main()
