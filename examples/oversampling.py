"""Rows of a rare class drawn for a classifier, inside the folds of a cross-validation.

Of 3,163 patients 4.8 % have hypothyroidism. The table has numbers beside nominal columns, and many missing
entries; FlowAugmenter takes it as it is, before anything is encoded, as a step of an imbalanced-learn
pipeline.

More rows of the rare class let a classifier say "rare" more often: it finds more of the patients, at the
price of false alarms, and hardly changes who is suspected first. How many rows to add is a choice: here,
until there is one rare row to five others. As many as the others (the default) find more, and cost more.

The pipeline draws rows only when it is fitted, from the training part of a fold: the part that is scored
holds real patients only. Resampling the table first and splitting it afterwards would leak: rows drawn
close to a patient (or copies, with RandomOverSampler) would be learnt from while the patient is scored, and
drawn patients would be scored beside real ones. The figures would be better, and wrong.

    python examples/oversampling.py --out pictures
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from imblearn.metrics import geometric_mean_score
from imblearn.over_sampling import RandomOverSampler
from imblearn.pipeline import Pipeline
from matplotlib import pyplot as plt
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from flowdetect import FlowAugmenter

DATA = Path(__file__).parents[1] / "datasets" / "hypothyroid.csv.gz"
SCORERS = {
    "average precision": "average_precision",
    "F1": make_scorer(f1_score),
    "geometric mean": make_scorer(geometric_mean_score),
}
COLOURS = ("#666666", "#D55E00", "#0072B2")  # told apart with every common colour vision


def main() -> None:
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = pd.read_csv(DATA, na_values="?").sample(n=800 if arguments.fast else 3163, random_state=0)
    X, is_rare = table.drop(columns="class"), (table["class"] == "hypothyroid").astype(int)
    print(f"{len(X):,} patients, {is_rare.sum()} with hypothyroidism, {X.isna().mean().mean():.0%} missing.")

    samplers = {
        "no resampling": "passthrough",
        "RandomOverSampler": RandomOverSampler(sampling_strategy=0.2, random_state=0),
        "FlowAugmenter": FlowAugmenter(
            sampling_strategy=0.2, max_steps=30 if arguments.fast else 400, random_state=0
        ),
    }
    n_folds = 2 if arguments.fast else 3
    print(f"Logistic regression, mean and standard deviation of {n_folds} folds:")
    print(f"  {'':18s}" + "".join(f"{measure:>20s}" for measure in SCORERS))
    all_scores = {}
    for name, sampler in samplers.items():
        all_scores[name] = score(pipeline(sampler), X, is_rare, n_folds)
        print_scores(name, all_scores[name])
    draw(all_scores, arguments.out / "oversampling.png")
    print(f"\nThe picture is in {arguments.out}/.")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder to write to")
    parser.add_argument("--fast", action="store_true", help="fewer patients, folds and training steps")
    return parser.parse_args()


def pipeline(sampler: object) -> Pipeline:
    """Return a sampler, which sees the table as it is, the usual encoding, and a classifier."""
    numbers = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    names = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    encode = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (names, make_column_selector(dtype_exclude="number")),
    )
    return Pipeline(
        [("sample", sampler), ("encode", encode), ("classify", LogisticRegression(max_iter=2000))]
    )


def score(model: Pipeline, X: pd.DataFrame, y: pd.Series, n_folds: int) -> pd.DataFrame:
    """Return the scores of each fold."""
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=0)
    found = cross_validate(model, X, y, cv=folds, scoring=SCORERS)
    return pd.DataFrame({name: found[f"test_{name}"] for name in SCORERS})


def print_scores(name: str, scores: pd.DataFrame) -> None:
    means, spreads = scores.mean(), scores.std()
    texts = [f"{means[measure]:.3f} ± {spreads[measure]:.3f}" for measure in SCORERS]
    print(f"  {name:18s}" + "".join(f"{text:>20s}" for text in texts))


def draw(all_scores: dict[str, pd.DataFrame], path: Path) -> None:
    """Show each fold as a point, and the mean as a line."""
    figure, axes = plt.subplots(
        1, len(SCORERS), figsize=(9.0, 2.6), dpi=150, layout="constrained", sharey=True
    )
    for ax, measure in zip(axes, SCORERS, strict=True):
        for place, scores in enumerate(all_scores.values()):
            ax.plot(scores[measure], np.full(len(scores), place), "o", color=COLOURS[place], alpha=0.6)
            ax.plot(
                scores[measure].mean(), place, "|", color=COLOURS[place], markersize=24, markeredgewidth=3
            )
        ax.set_title(measure, loc="left", fontsize="medium")
        ax.set_yticks(range(len(all_scores)), list(all_scores))
        ax.set_ylim(len(all_scores) - 0.5, -0.5)
        ax.grid(axis="x", alpha=0.3)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.tick_params(axis="y", length=0)
    figure.supxlabel("each fold (point) and their mean (line); further right is better", fontsize="medium")
    figure.savefig(path)


if __name__ == "__main__":
    main()
