"""Learn pictures of handwritten digits: how many bits they need, new ones, noise taken off, the oddest.

scikit-learn's digits are 1,797 pictures of 8 x 8 pixels with 17 grey levels. Two densities learn three
quarters of them, both conditional on the digit.

The first is of the pixels with uniform noise inside their grey level ("dequantised"). A cell is 1 grey level
wide and scores are in the units of the columns, so that ``-score / (64 log 2)``, averaged over the noise, is
a bound from above of the bits per pixel. Beside it stand Gaussians and mixtures of Gaussians of each class.

The second learns pixels with noise of every scale from 0.5 to 6 grey levels.
It draws new digits (with a little noise, which it then takes off), cleans noisy ones, and finds the oddest.

    python examples/digits.py --out pictures
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_digits
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split

from flowdetect import FlowDensity

N_COPIES = 6  # of each picture, each with its own noise inside the grey levels
NOISE_SCALES = (0.5, 6.0)
DRAWN_AT, SHOWN_AT = 1.0, 3.0  # grey levels of noise: in which digits are drawn, and which is taken off


def main() -> None:
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    X, y = load_digits(return_X_y=True)
    parts = train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)
    steps = 40 if arguments.fast else 600
    compare_bits(*parts, FlowDensity(n_layers=3, max_steps=steps, random_state=0, verbose=1))
    noisy = FlowDensity(
        noise_scales=NOISE_SCALES,
        n_layers=3,
        n_bins=4,
        max_steps=steps,
        batch_size=256,
        learning_rate=4e-3,
        random_state=0,
        verbose=1,
    )
    draw_sheets(*parts, noisy, arguments.out, name="digits", drawn_at=DRAWN_AT, shown_at=SHOWN_AT, top=16)
    print(f"The sheets are in {arguments.out}/.")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder to write to")
    parser.add_argument("--fast", action="store_true", help="train for a few steps only")
    return parser.parse_args()


def as_context(labels: np.ndarray) -> pd.DataFrame:
    """Return digits as names: 3 is no number between 2 and 4 here."""
    return pd.DataFrame({"digit": labels.astype(str)})


# --- bits ------------------------------------------------------------------------------------------------


def compare_bits(
    X_train: np.ndarray, X_test: np.ndarray, y_train: np.ndarray, y_test: np.ndarray, density: FlowDensity
) -> None:
    """Print the bits per pixel of held-out pictures by a flow, Gaussians and mixtures of each class."""
    rng = np.random.default_rng(0)
    train, test = (dequantised(rows, N_COPIES, rng) for rows in (X_train, X_test))
    y_train, y_test = np.tile(y_train, N_COPIES), np.tile(y_test, N_COPIES)
    density.fit(train, context=as_context(y_train))
    print("\nBits per pixel of held-out pictures, given their class (fewer are better):")
    for name, scores in {
        "one Gaussian per class, Ledoit-Wolf": gaussian_scores(train, test, y_train, y_test),
        "mixture of Gaussians per class": mixture_scores(train, test, y_train, y_test),
        "FlowDensity": density.score_samples(test, context=as_context(y_test)),
    }.items():
        print(f"  {name:36s} {-scores.mean() / (X_test.shape[1] * np.log(2)):6.3f}")


def dequantised(X: np.ndarray, n_copies: int, rng: np.random.Generator) -> np.ndarray:
    """Return copies of pictures with uniform noise of one grey level."""
    rows = np.tile(X, (n_copies, 1))
    return rows + rng.random(rows.shape)


def gaussian_scores(
    train: np.ndarray, test: np.ndarray, y_train: np.ndarray, y_test: np.ndarray
) -> np.ndarray:
    """Return log-densities of the rows by one Gaussian per class, its covariance shrunk."""
    scores = np.empty(len(test))
    for k in np.unique(y_train):
        model = LedoitWolf().fit(train[y_train == k])
        inside = y_test == k
        away = test[inside] - model.location_
        scores[inside] = -0.5 * np.einsum("ij,jk,ik->i", away, model.precision_, away)
        scores[inside] -= 0.5 * np.linalg.slogdet(2.0 * np.pi * model.covariance_)[1]
    return scores


def mixture_scores(
    train: np.ndarray, test: np.ndarray, y_train: np.ndarray, y_test: np.ndarray
) -> np.ndarray:
    """Return log-densities by one mixture per class, the best of some on a quarter of its training rows."""
    scores = np.empty(len(test))
    for k in np.unique(y_train):
        rows = train[y_train == k]
        # All copies of a picture go to one side.
        n_pictures = len(rows) // N_COPIES
        held = np.arange(len(rows)) % n_pictures >= 0.75 * n_pictures
        models = [
            GaussianMixture(n, reg_covar=floor, random_state=0) for n in (2, 4) for floor in (0.1, 0.3, 1.0)
        ]
        best = max(models, key=lambda model: model.fit(rows[~held]).score(rows[held]))
        scores[y_test == k] = best.fit(rows).score_samples(test[y_test == k])
    return scores


# --- sheets ----------------------------------------------------------------------------------------------


def draw_sheets(
    X_train: np.ndarray,
    X_test: np.ndarray,
    y_train: np.ndarray,
    y_test: np.ndarray,
    density: FlowDensity,
    out: Path,
    *,
    name: str,
    drawn_at: float,
    shown_at: float,
    top: int,
) -> None:
    """Fit a density of noisy pictures, and save sheets of drawn, cleaned and odd ones."""
    density.fit(X_train, context=as_context(y_train))
    print("\nNoise taken off held-out pictures, whose class is told: root mean squared error in grey levels")
    rng = np.random.default_rng(1)
    noisy = X_test + shown_at * rng.normal(size=X_test.shape)
    clean = density.denoise(noisy, shown_at, context=as_context(y_test))
    for what, rows in (("noisy", noisy), ("denoised", clean)):
        print(f"  {what:10s} {np.sqrt(np.mean((rows - X_test) ** 2)):7.2f}")
    digits = np.arange(10)
    drawn = draw_digits(density, digits, drawn_at, n_each=8)
    real = np.stack([X_train[y_train == k][0] for k in digits])
    save_sheet(
        out / f"{name}_drawn.png",
        {"real": real[None], "drawn": drawn.reshape(10, 8, -1).swapaxes(0, 1)},
        top=top,
    )
    some = np.array([np.flatnonzero(y_test == k)[:2] for k in digits]).T.ravel()
    blocks = {
        f"with noise of {shown_at:g} grey levels": noisy[some],
        "denoised": clean[some],
        "as they were": X_test[some],
    }
    save_sheet(out / f"{name}_denoised.png", {title: rows[None] for title, rows in blocks.items()}, top=top)
    scores = density.score_samples(X_test, context=as_context(y_test))
    order = np.argsort(scores)
    odd = {"oddest": order[:14], "most usual": order[::-1][:14]}
    save_sheet(
        out / f"{name}_oddest.png",
        {f"{title}, in their class": X_test[rows][None] for title, rows in odd.items()},
        top=top,
        captions={f"{title}, in their class": y_test[rows] for title, rows in odd.items()},
    )


def draw_digits(density: FlowDensity, digits: np.ndarray, noise_scale: float, *, n_each: int) -> np.ndarray:
    """Draw pictures with a little noise and take it off, n_each of the first digit first."""
    noisy = density.sample(n_each, context=as_context(digits), noise_scale=noise_scale, random_state=0)
    return density.denoise(noisy, noise_scale, context=as_context(np.repeat(digits, n_each)))


def save_sheet(
    path: Path, blocks: dict[str, np.ndarray], *, top: int, captions: dict[str, np.ndarray] | None = None
) -> None:
    """Save blocks of pictures, each of shape (n_rows, n_columns, n_pixels), below each other."""
    heights = [len(block) for block in blocks.values()]
    n_columns = max(block.shape[1] for block in blocks.values())
    figure = plt.figure(
        figsize=(0.62 * n_columns + 0.4, 0.66 * sum(heights) + 0.5 * len(blocks)),
        dpi=150,
        layout="constrained",
    )
    axes = figure.subplots(len(blocks), 1, height_ratios=heights, squeeze=False)[:, 0]
    for ax, (title, block) in zip(axes, blocks.items(), strict=True):
        side = int(np.sqrt(block.shape[-1]))
        pictures = np.pad(
            np.clip(block, 0, top).reshape(*block.shape[:2], side, side), ((0, 0), (0, 0), (1, 1), (1, 1))
        )
        sheet = pictures.swapaxes(1, 2).reshape(block.shape[0] * (side + 2), block.shape[1] * (side + 2))
        ax.imshow(sheet, cmap="gray_r", vmin=0, vmax=top)
        ax.set_title(title, loc="left", fontsize="medium")
        ax.set_axis_off()
        for k, label in enumerate([] if captions is None else captions[title]):
            ax.text((k + 0.5) * (side + 2), sheet.shape[0] + 0.2 * side, str(label), ha="center", va="top")
    figure.savefig(path)
    plt.close(figure)


if __name__ == "__main__":
    main()
