"""Predict a whole distribution: p(y | x) of a regression table, and its 90 % interval.

The target is a laboratory value, total thyroxine (TT4), given what else is known of a patient: age, sex,
diagnoses, other laboratory values; often some of it is missing. A regression gives one number a patient. The
conditional density also says how sure it is: its interval is wide for some patients and narrow for others.
The peer is gradient boosting with an interval of one width for everyone, from its residuals.

    python examples/conditional_density.py --out pictures
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import cross_val_predict, train_test_split

from flowdetect import FlowDensity

DATA = Path(__file__).parents[1] / "datasets" / "hypothyroid.csv.gz"
LEVEL = 0.90
ENDS = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
N_DRAWS = 500


def main() -> None:
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    X, y = read_table()
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=0)

    density = FlowDensity(
        n_layers=3,
        hidden_features=32,
        dropout=0.1,
        max_steps=40 if arguments.fast else 600,
        random_state=0,
        verbose=1,
    )
    density.fit(y_train.to_frame(), context=X_train)
    drawn = density.sample(N_DRAWS, context=X_test, random_state=0).to_numpy().reshape(len(X_test), N_DRAWS)
    low, median, high = np.quantile(drawn, [ENDS[0], 0.5, ENDS[1]], axis=1)

    print(f"The {LEVEL:.0%} interval of TT4, on {len(y_test)} patients kept aside:")
    print_interval("FlowDensity", y_test, low, high)
    print_interval("gradient boosting", y_test, *boosting_interval(X_train, y_train, X_test))
    print("The score is the width plus 20 times the distance of the truth outside: smaller is better.")

    some = np.random.default_rng(0).choice(len(y_test), 150, replace=False)
    path = arguments.out / "conditional_density.png"
    draw(y_test.to_numpy()[some], low[some], median[some], high[some], path)
    print(f"The picture is in {arguments.out}/.")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder to write to")
    parser.add_argument("--fast", action="store_true", help="train for a few steps only")
    return parser.parse_args()


def read_table() -> tuple[pd.DataFrame, pd.Series]:
    table = pd.read_csv(DATA, na_values="?").dropna(subset="TT4")
    # FTI is computed from TT4; the columns *_measured only repeat which values are missing.
    given = table.drop(columns=["TT4", "FTI", "class"]).loc[:, lambda X: ~X.columns.str.endswith("_measured")]
    return given.astype(dict.fromkeys(given.select_dtypes(exclude="number"), "category")), table["TT4"]


def boosting_interval(
    X_train: pd.DataFrame, y_train: pd.Series, X_test: pd.DataFrame
) -> tuple[np.ndarray, np.ndarray]:
    """Return the prediction with the quantiles of cross-validated residuals on either side."""
    model = HistGradientBoostingRegressor(random_state=0)
    residuals = y_train - cross_val_predict(model, X_train, y_train, cv=5)
    predicted = model.fit(X_train, y_train).predict(X_test)
    below, above = np.quantile(residuals, ENDS)
    return predicted + below, predicted + above


def print_interval(name: str, truth: pd.Series, low: np.ndarray, high: np.ndarray) -> None:
    inside = np.mean((low <= truth) & (truth <= high))
    outside = np.maximum(low - truth, 0) + np.maximum(truth - high, 0)
    score = np.mean(high - low + 2 / (1 - LEVEL) * outside)
    print(f"  {name:18s} holds {inside:.1%}   mean width {np.mean(high - low):5.1f}   score {score:5.1f}")


def draw(truth: np.ndarray, low: np.ndarray, median: np.ndarray, high: np.ndarray, path: Path) -> None:
    order = np.argsort(median)
    truth, low, median, high = truth[order], low[order], median[order], high[order]
    inside = (low <= truth) & (truth <= high)
    rank = np.arange(len(truth))
    figure, ax = plt.subplots(figsize=(8.0, 4.5), dpi=150, layout="constrained")
    ax.vlines(rank, low, high, color="#0072B2", alpha=0.3, linewidth=3.0, label=f"{LEVEL:.0%} interval")
    ax.plot(rank, median, color="#0072B2", linewidth=1.5, label="median")
    ax.plot(rank[inside], truth[inside], "o", color="black", markersize=3.5, label="truth, inside")
    ax.plot(rank[~inside], truth[~inside], "X", color="#D55E00", markersize=7, label="truth, outside")
    ax.set_xlabel("150 of the patients kept aside, sorted by predicted median")
    ax.set_ylabel("total thyroxine TT4 [unit not stated]")
    ax.set_xlim(-1, len(truth))
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, frameon=False, fontsize="small")
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    main()
