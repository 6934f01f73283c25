"""Draw handwritten digits of each class, and see whether they are digits, and new ones.

scikit-learn's digits are 1,797 pictures of 8 x 8 pixels. One flow learns all ten classes from three quarters
of them, in the coordinates of the first 40 principal components, which hold 99 % of the variance.
Neighbouring pixels go together; the components take that out, so that 1,347 rows suffice. Fitted to the
64 pixels as they are (whole numbers from 0 to 16, read as categories), it draws digits that are recognised
as often, but look grainy, and lie 1.4 times as far from the nearest real one as other real ones do, whatever
the noise_scale. More hidden features, more patience and dropout change little.

A drawn row starts from a training row, and `noise_scale` says how much of it is new. At 1 all of it is: the
density alone draws. At 0.7 drawn digits are about as far from the nearest digit learnt from as held-out ones.

    python examples/drawing_digits.py --out pictures
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import SVC

from flowdetect import FlowAugmenter

NOISE_SCALES = (0.7, 1.0)
N_SHOWN, N_JUDGED = 10, 50  # of each class


def main() -> None:
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)

    components = PCA(40, random_state=0).fit(X_train)
    few_steps = {"max_steps": 60} if arguments.fast else {}
    augmenter = FlowAugmenter(bounds=None, random_state=0, verbose=1, **few_steps)
    augmenter.fit(components.transform(X_train), y_train)

    classifier = SVC(gamma=0.001).fit(X_train, y_train)
    finder = NearestNeighbors(n_neighbors=1).fit(X_train)
    print(
        "Recognised by a classifier of real digits, and distance to the nearest digit that was learnt from:"
    )
    print_judged("held out, real", X_test, y_test, classifier, finder)
    labels = np.repeat(np.arange(10), N_JUDGED)
    drawn = {}
    for noise_scale in NOISE_SCALES:
        augmenter.set_params(noise_scale=noise_scale)
        drawn[noise_scale] = draw_digits(augmenter, components, labels)
        print_judged(f"drawn, noise_scale={noise_scale:g}", drawn[noise_scale], labels, classifier, finder)

    blocks = {f"drawn, noise_scale={scale:g}": shown(rows, labels, N_SHOWN) for scale, rows in drawn.items()}
    draw(shown(X_test, y_test, len(blocks)), blocks, arguments.out / "digits.png")
    print(f"\nThe picture is in {arguments.out}/.")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder to write to")
    parser.add_argument("--fast", action="store_true", help="train for a few steps only")
    return parser.parse_args()


def draw_digits(augmenter: FlowAugmenter, components: PCA, labels: np.ndarray) -> np.ndarray:
    """Return a picture of each label, as 64 whole numbers from 0 to 16."""
    rows = augmenter.sample(len(labels), y=labels, random_state=0)
    return np.clip(np.rint(components.inverse_transform(rows)), 0, 16)


def print_judged(
    name: str, digits: np.ndarray, labels: np.ndarray, classifier: SVC, finder: NearestNeighbors
) -> None:
    recognised = classifier.score(digits, labels)
    distances = finder.kneighbors(digits)[0]
    print(
        f"  {name:22s} {recognised:6.1%}   median {np.median(distances):4.1f}, "
        f"5 % below {np.quantile(distances, 0.05):4.1f}"
    )


def shown(digits: np.ndarray, labels: np.ndarray, n_rows: int) -> np.ndarray:
    """Return the first digits of each class as pictures, shape (n_rows, 10, 8, 8)."""
    return np.stack([digits[labels == k][:n_rows].reshape(-1, 8, 8) for k in range(10)], axis=1)


def mosaic(pictures: np.ndarray) -> np.ndarray:
    """Put pictures, shape (n_rows, n_columns, 8, 8), beside each other with a margin of one pixel."""
    n_rows, n_columns = pictures.shape[:2]
    padded = np.pad(pictures, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return padded.swapaxes(1, 2).reshape(10 * n_rows, 10 * n_columns)


def draw(real: np.ndarray, drawn: dict[str, np.ndarray], path: Path) -> None:
    """Show rows of real digits above, and blocks of drawn ones below."""
    figure = plt.figure(figsize=(10.0, 6.2), dpi=150, layout="constrained")
    grid = figure.add_gridspec(2, len(drawn), height_ratios=[1, N_SHOWN])
    for place, (name, pictures) in enumerate(drawn.items()):
        for block, title, row in ((real[[place]], "real, held out", 0), (pictures, name, 1)):
            ax = figure.add_subplot(grid[row, place])
            ax.imshow(mosaic(block), cmap="gray_r", vmin=0, vmax=16)
            ax.set_title(title, loc="left", fontsize="medium")
            ax.set_axis_off()
    figure.savefig(path)


if __name__ == "__main__":
    main()
