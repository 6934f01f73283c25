"""Find slips of data entry in a table of numbers and categories.

Into 15 of the 1,000 rows of a table of credit applications a slip is put: an amount with a zero too many, a
duration in years instead of months, an age and a duration that changed places. The detector is fitted to the
table with the slips in it, ranks the rows, and names the columns to look at first.

    python examples/detect_mixed_types.py --out pictures
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder

from flowdetect import FlowOutlierDetector
from flowdetect.plotting import ScoreDistributionDisplay

DATA = Path(__file__).parents[1] / "datasets" / "german_credit.csv.gz"
SLIPS_OF_A_KIND = 5


def main() -> None:
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    clean = pd.read_csv(DATA).drop(columns="target")
    table, changed = with_slips(clean, np.random.default_rng(0))
    has_slip = changed != ""

    few_steps = {"max_steps": 40} if arguments.fast else {}
    detector = FlowOutlierDetector(random_state=0, verbose=1, **few_steps).fit(table)
    scores = detector.training_scores_

    print(f"{has_slip.sum()} slips in {len(table):,} rows; among as many most unlikely rows are:")
    print_found("FlowOutlierDetector", scores, has_slip)
    print_found("IsolationForest", isolation_forest().fit(table).score_samples(table), has_slip)

    suspects = np.argsort(scores)[: has_slip.sum()]
    print("\nThese rows, and the columns to look at first, with nats:")
    print_reasons(detector, table.iloc[suspects], changed[suspects])

    display = ScoreDistributionDisplay.from_predictions(
        scores,
        threshold=detector.offset_,
        is_rare=has_slip,
        name="1,000 credit applications",
        rare_name="slip of data entry",
    )
    display.figure_.savefig(arguments.out / "german_credit_scores.png")
    print(f"\nThe picture is in {arguments.out}/.")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder to write to")
    parser.add_argument("--fast", action="store_true", help="train for a few steps only")
    return parser.parse_args()


def with_slips(clean: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a copy with slips, and for each row the changed columns ("" where nothing changed)."""
    table = clean.copy()
    changed = np.full(len(table), "", dtype=object)

    def some_rows(possible: pd.Series) -> np.ndarray:
        return rng.choice(np.flatnonzero(possible & (changed == "")), SLIPS_OF_A_KIND, replace=False)

    rows = some_rows(clean["amount"] >= 1000)
    table.loc[rows, "amount"] *= 10
    changed[rows] = "amount"

    rows = some_rows(clean["duration"] % 12 == 0)
    table.loc[rows, "duration"] //= 12
    changed[rows] = "duration"

    rows = some_rows(clean["duration"] < 18)
    table.loc[rows, ["duration", "age"]] = clean.loc[rows, ["age", "duration"]].to_numpy()
    changed[rows] = "duration and age"
    return table, changed


def isolation_forest() -> Pipeline:
    """Return the usual way to give a table with categories to IsolationForest."""
    categories = make_column_selector(dtype_exclude="number")
    encode = make_column_transformer((OneHotEncoder(), categories), remainder="passthrough")
    return make_pipeline(encode, IsolationForest(random_state=0))


def print_found(name: str, scores: np.ndarray, has_slip: np.ndarray) -> None:
    found = has_slip[np.argsort(scores)[: has_slip.sum()]].sum()
    print(f"  {name:20s} {found:3d}   AUROC {roc_auc_score(has_slip, -scores):.3f}")


def print_reasons(detector: FlowOutlierDetector, rows: pd.DataFrame, changed: np.ndarray) -> None:
    contributions = detector.explain(rows)
    for (label, row), why, columns in zip(rows.iterrows(), contributions.to_numpy(), changed, strict=True):
        first, second = np.argsort(why)[:2]
        reasons = ", ".join(f"{rows.columns[i]}={row.iloc[i]} {why[i]:+.1f}" for i in (first, second))
        truth = f"slip in {columns}" if columns else ""
        print(f"  row {label:>4}  {reasons:45s}  {truth}")


if __name__ == "__main__":
    main()
