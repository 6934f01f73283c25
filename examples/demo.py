"""Find unusual patients in a real table, and see how many of a rare disease are among them.

The table has numeric and nominal columns, many missing values, and 4.8 % of patients with hypothyroidism.
The diagnosis is kept from the detector; it is used afterwards only, to see how good the ranking is, beside
that of scikit-learn's IsolationForest.

Run it with `make demo`, or `python examples/demo.py --out demo-output`.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import IsolationForest
from sklearn.impute import SimpleImputer
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder

from flowdetect import FlowOutlierDetector
from flowdetect.plotting import ScoreDistributionDisplay

DATA = Path(__file__).parents[1] / "datasets" / "hypothyroid.csv.gz"


def main() -> None:
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = pd.read_csv(DATA, na_values="?")
    X, is_rare = table.drop(columns="class"), (table["class"] == "hypothyroid").to_numpy()
    print(f"{len(X):,} patients, {X.shape[1]} columns, {X.isna().mean().mean():.0%} of the entries missing.")

    start = time.perf_counter()
    few_steps = {"max_steps": 40} if arguments.fast else {}
    detector = FlowOutlierDetector(random_state=0, verbose=1, **few_steps).fit(X)
    scores = detector.training_scores_
    print(f"Fitted in {time.perf_counter() - start:.0f} s.\n")

    print_most_unlikely(detector, X, scores, is_rare)
    forest_scores = isolation_forest().fit(X).score_samples(X)
    print_comparison({"FlowOutlierDetector": scores, "IsolationForest": forest_scores}, is_rare)

    scored = table.assign(score=scores, is_anomaly=scores < detector.offset_)
    scored.to_csv(arguments.out / "hypothyroid_scored.csv", index=False)
    display = ScoreDistributionDisplay.from_predictions(
        scores,
        threshold=detector.offset_,
        is_rare=is_rare,
        name="Hypothyroid patients among 3,163, as the detector sees them",
        rare_name="hypothyroid",
    )
    display.figure_.savefig(arguments.out / "hypothyroid_scores.png")
    print(f"\nThe scored table and the picture are in {arguments.out}/.")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder to write to")
    parser.add_argument("--fast", action="store_true", help="train for a few steps only")
    return parser.parse_args()


def print_most_unlikely(
    detector: FlowOutlierDetector, X: pd.DataFrame, scores: np.ndarray, is_rare: np.ndarray, n_rows: int = 10
) -> None:
    worst = np.argsort(scores)[:n_rows]
    why = detector.explain(X.iloc[worst])
    print(f"The {n_rows} most unlikely patients (score in nats), and the columns that make them so:")
    for place, position in enumerate(worst):
        mark = "*" if is_rare[position] else " "
        reasons = why.iloc[place].nsmallest(3)
        text = ", ".join(f"{name}={X.at[position, name]} {nats:+.1f}" for name, nats in reasons.items())
        print(f"  {mark} row {position:>4}  {scores[position]:8.1f}  {text}")
    print("  * has hypothyroidism, which the detector was not told\n")


def isolation_forest() -> Pipeline:
    """Return the usual way to give such a table to IsolationForest."""
    numbers = SimpleImputer(strategy="median", add_indicator=True)
    categories = OneHotEncoder(handle_unknown="ignore")
    encode = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (categories, make_column_selector(dtype_exclude="number")),
    )
    return make_pipeline(encode, IsolationForest(random_state=0))


def print_comparison(all_scores: dict[str, np.ndarray], is_rare: np.ndarray) -> None:
    n_rare = int(is_rare.sum())
    print(f"Of the {n_rare} patients with hypothyroidism, among the {n_rare} most unlikely rows:")
    for name, scores in all_scores.items():
        found = int(is_rare[np.argsort(scores)[:n_rare]].sum())
        auroc, precision = roc_auc_score(is_rare, -scores), average_precision_score(is_rare, -scores)
        print(f"  {name:20s} {found:4d}   AUROC {auroc:.3f}   average precision {precision:.3f}")


if __name__ == "__main__":
    main()
