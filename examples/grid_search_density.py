"""Choose the settings of a density by cross-validated likelihood, in a scikit-learn pipeline.

FlowDensity is scored by its mean log-density on rows that it was not fitted to, so GridSearchCV needs no
scorer. The table is that of the Palmer penguins: measurements in millimetres and grams beside species, island
and sex, which is sometimes missing. What the chosen density has learnt is shown by drawing new birds from it.

    python examples/grid_search_density.py --out pictures
"""

import argparse
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from sklearn.compose import make_column_transformer
from sklearn.model_selection import GridSearchCV, KFold, train_test_split
from sklearn.pipeline import Pipeline

from flowdetect import FlowDensity

DATA = Path(__file__).parents[1] / "datasets" / "penguins.csv.gz"

# Told apart with every common colour vision, and by shape.
STYLES = {"Adelie": ("#0072B2", "o"), "Chinstrap": ("#D55E00", "^"), "Gentoo": ("#009E73", "s")}


def main() -> None:
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    penguins = pd.read_csv(DATA).dropna(subset="body_mass_g")  # two birds were not measured at all
    train, test = train_test_split(penguins, test_size=0.25, stratify=penguins["species"], random_state=0)

    search = grid_search(fast=arguments.fast).fit(train)
    print(f"Mean log-density in {search.n_splits_}-fold cross-validation on {len(train)} penguins:")
    for settings, mean, spread in zip(
        search.cv_results_["params"],
        search.cv_results_["mean_test_score"],
        search.cv_results_["std_test_score"],
        strict=True,
    ):
        mark = "<- chosen" if settings == search.best_params_ else ""
        named = ", ".join(f"{name.removeprefix('density__')}={value}" for name, value in settings.items())
        print(f"  {mean:8.2f} +- {spread:.2f} nats   {named:32s} {mark}")
    print(f"On the {len(test)} penguins kept aside: {search.score(test):.2f} nats")

    density = search.best_estimator_["density"]
    draw(penguins, density.sample(len(penguins), random_state=0), arguments.out / "grid_search_density.png")
    print(f"The picture is in {arguments.out}/.")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder to write to")
    parser.add_argument("--fast", action="store_true", help="search less, and train for a few steps only")
    return parser.parse_args()


def grid_search(*, fast: bool) -> GridSearchCV:
    columns = make_column_transformer(
        ("drop", ["year"]), remainder="passthrough", verbose_feature_names_out=False
    )
    columns.set_output(transform="pandas")  # names and types of the columns reach the density
    density = FlowDensity(n_layers=3, max_steps=30 if fast else 400, random_state=0)
    grid = {"density__hidden_features": [16, 64], "density__dropout": [0.0] if fast else [0.0, 0.2]}
    folds = KFold(2 if fast else 3, shuffle=True, random_state=0)
    return GridSearchCV(Pipeline([("columns", columns), ("density", density)]), grid, cv=folds)


def draw(real: pd.DataFrame, drawn: pd.DataFrame, path: Path) -> None:
    figure, axes = plt.subplots(
        1, 2, figsize=(8.0, 4.2), dpi=150, sharex=True, sharey=True, layout="constrained"
    )
    for ax, table, title in zip(axes, (real, drawn), ("measured", "drawn from the density"), strict=True):
        for species, (colour, marker) in STYLES.items():
            of_species = table[table["species"] == species]
            ax.scatter(
                of_species["flipper_length_mm"],
                of_species["bill_length_mm"],
                s=16,
                marker=marker,
                facecolor=colour,
                edgecolor="white",
                linewidth=0.4,
                label=f"{species} ({len(of_species)})",
            )
        ax.set_title(title, loc="left")
        ax.set_xlabel("flipper length [mm]")
        ax.legend(loc="lower right", fontsize="small", frameon=False, handletextpad=0.1)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("bill length [mm]")
    figure.savefig(path)


if __name__ == "__main__":
    main()
