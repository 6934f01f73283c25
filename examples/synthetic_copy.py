"""Draw a synthetic copy of a table, and measure how good it is beside rows kept aside.

The table is that of 1,000 applications for credit, numbers and categories. An augmenter that learns from
three quarters of them draws as many rows as it has seen. The quarter kept aside tells what a perfect copy
would reach: it is real, and unseen too. Then rows are drawn with some of their columns given.

    python examples/synthetic_copy.py --out pictures
"""

import argparse
from pathlib import Path

import pandas as pd
from sklearn.model_selection import train_test_split

from flowdetect import FlowAugmenter
from flowdetect.plotting import AugmentationDisplay
from flowdetect.quality import compare_columns, compare_tables

DATA = Path(__file__).parents[1] / "datasets" / "german_credit.csv.gz"


def main() -> None:
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = pd.read_csv(DATA)
    train, held_out = train_test_split(table, test_size=0.25, stratify=table["target"], random_state=0)

    few_steps = {"max_steps": 40} if arguments.fast else {}
    augmenter = FlowAugmenter(noise_scale=1.0, random_state=0, verbose=1, **few_steps)
    augmenter.fit(train.drop(columns="target"), train["target"])
    drawn, target = augmenter.sample(len(train), return_y=True, random_state=0)
    copy = drawn.assign(target=target)
    copy.to_csv(arguments.out / "german_credit_copy.csv", index=False)

    print(
        f"{len(copy)} rows drawn after {len(train)} real ones; the baseline: {len(held_out)} rows kept aside."
    )
    print_quality(compare_tables(train, copy, held_out=held_out, target="target", random_state=0))
    worst = compare_columns(train, copy)["similarity"].nsmallest(3)
    print("Least alike: " + ", ".join(f"{name} {similarity:.2f}" for name, similarity in worst.items()))

    print_given(augmenter, train, n_rows=20 if arguments.fast else 200)
    display = AugmentationDisplay.from_predictions(
        train, copy, target="target", name="1,000 credit applications, copied"
    )
    display.figure_.savefig(arguments.out / "german_credit_copy.png")
    print(f"\nThe copy and the picture are in {arguments.out}/.")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder to write to")
    parser.add_argument("--fast", action="store_true", help="train for a few steps only")
    return parser.parse_args()


def print_quality(found: pd.DataFrame) -> None:
    print(f"  {'':24s}{'copy':>8s}{'baseline':>10s}{'ideal':>14s}")
    for measure, row in found.iterrows():
        ideal = row["ideal"] if isinstance(row["ideal"], str) else f"{row['ideal']:.3f}"
        print(f"  {measure:24s}{row['value']:8.3f}{row['baseline']:10.3f}{ideal:>14s}")


def print_given(augmenter: FlowAugmenter, train: pd.DataFrame, n_rows: int) -> None:
    """Compare rows drawn for a given purpose and duration with the real ones that have them."""
    print("\nDrawn with purpose and duration given, median amount (and of the real rows, if there are some):")
    for purpose, name, duration in (("A40", "new car", 12), ("A40", "new car", 36), ("A49", "business", 36)):
        given = {"purpose": purpose, "duration": duration}
        drawn = augmenter.sample(n_rows, conditions=given, random_state=0)
        real = train.loc[(train["purpose"] == purpose) & (train["duration"] == duration), "amount"]
        beside = f"{real.median():6.0f} in {len(real):2d} real rows" if len(real) else "no real row"
        print(f"  {name:8s}  {duration} months  {drawn['amount'].median():6.0f}   {beside}")


if __name__ == "__main__":
    main()
