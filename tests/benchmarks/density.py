"""Held-out log-likelihood of continuous tables: FlowDensity beside nflows, Gaussian mixtures and kernels.

    python tests/benchmarks/density.py --data FOLDER [--only power,kin8nm] [--out density.json]

FOLDER holds ``.npz`` files with the arrays train, val and test. Every method sees train and val: FlowDensity
takes its own validation rows from both together, the others learn from train and are chosen on val. nflows'
flow has the same layers, optimiser and batch size, and as much time as FlowDensity took.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from _report import summarise
from nflows.distributions import StandardNormal
from nflows.flows import Flow
from nflows.nn.nets import ResidualNet
from nflows.transforms import CompositeTransform, LULinear, RandomPermutation
from nflows.transforms.coupling import PiecewiseRationalQuadraticCouplingTransform
from nflows.utils import create_alternating_binary_mask
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

from flowdetect import FlowDensity

COMPONENTS = (1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 28, 32)
BANDWIDTHS = np.geomspace(0.03, 1.0, 12)


def fit_flowdetect(data: dict[str, np.ndarray], seed: int) -> tuple[float, float]:
    """Return test log-likelihood and seconds of FlowDensity with its defaults."""
    start = time.perf_counter()
    density = FlowDensity(random_state=seed).fit(np.vstack([data["train"], data["val"]]))
    seconds = time.perf_counter() - start
    return density.score(data["test"]), seconds


def nflows_flow(n_features: int) -> Flow:
    """Build nflows' coupling spline flow with the layers of FlowDensity's defaults."""
    layers = []
    for index in range(5):
        layers += [RandomPermutation(n_features), LULinear(n_features, identity_init=True)]
        layers.append(
            PiecewiseRationalQuadraticCouplingTransform(
                create_alternating_binary_mask(n_features, even=index % 2 == 0),
                lambda n_in, n_out: ResidualNet(
                    n_in, n_out, 64, num_blocks=2, activation=torch.nn.functional.silu
                ),
                num_bins=8,
                tails="linear",
                tail_bound=5.0,
            )
        )
    return Flow(CompositeTransform(layers), StandardNormal([n_features]))


def fit_nflows(data: dict[str, np.ndarray], seed: int, budget: float) -> float:
    """Return the test log-likelihood of nflows' flow after ``budget`` seconds, at its best validation."""
    torch.manual_seed(seed)
    flow = nflows_flow(data["train"].shape[1])
    train, val, test = (torch.from_numpy(data[part].astype(np.float32)) for part in ("train", "val", "test"))
    optimiser = torch.optim.AdamW(flow.parameters(), lr=2e-3, weight_decay=0.0)
    best, weights, start, next_check = -np.inf, flow.state_dict(), time.perf_counter(), budget / 40
    while (spent := time.perf_counter() - start) < budget:
        progress = spent / budget
        optimiser.param_groups[0]["lr"] = 2e-3 * min(progress / 0.05, 0.5 * (1 + np.cos(np.pi * progress)))
        loss = -flow.log_prob(train[torch.randint(len(train), (512,))]).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
        optimiser.step()
        if spent >= next_check:
            next_check += budget / 40
            value = mean_log_prob(flow, val)
            if value > best:
                best, weights = value, {k: v.clone() for k, v in flow.state_dict().items()}
    flow.load_state_dict(weights)
    return mean_log_prob(flow, test)


@torch.no_grad()
def mean_log_prob(flow: Flow, rows: torch.Tensor) -> float:
    """Return the mean log-density of the rows, in chunks."""
    flow.eval()
    value = float(torch.cat([flow.log_prob(part) for part in rows.split(4096)]).mean())
    flow.train()
    return value


def fit_mixture(data: dict[str, np.ndarray], seed: int) -> float:
    """Return the test log-likelihood of the Gaussian mixture that validates best."""
    models = (
        GaussianMixture(k, random_state=seed, reg_covar=1e-5, max_iter=200).fit(data["train"])
        for k in COMPONENTS
    )
    best = max(models, key=lambda model: model.score(data["val"]))
    return float(best.score(data["test"]))


def fit_kernel(data: dict[str, np.ndarray], max_rows: int) -> float:
    """Return the mean test log-likelihood of the kernel density that validates best."""
    val, test = data["val"][:max_rows], data["test"][:max_rows]
    models = [KernelDensity(bandwidth=h, rtol=1e-3).fit(data["train"]) for h in BANDWIDTHS]
    best = max(models, key=lambda model: model.score(val[: max_rows // 4]))
    return float(best.score(test) / len(test))


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", default="", help="comma separated parts of file names")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--max-kernel-rows", type=int, default=2000, help="rows the kernel density is tested on"
    )
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    wanted = [part for part in args.only.split(",") if part]
    rows = []
    for path in sorted(args.data.glob("*.npz")):
        if wanted and not any(part in path.stem for part in wanted):
            continue
        with np.load(path) as file:
            data = {part: file[part].astype(np.float64) for part in ("train", "val", "test")}
        ours, seconds = fit_flowdetect(data, args.seed)
        figures = {
            "FlowDensity": ours,
            "nflows": fit_nflows(data, args.seed, seconds),
            "GaussianMixture": fit_mixture(data, args.seed),
            "KernelDensity": fit_kernel(data, args.max_kernel_rows),
        }
        print(path.stem, {k: round(v, 3) for k, v in figures.items()}, f"{seconds:.0f} s", flush=True)
        rows += [
            {"data": path.stem, "method": method, "log-likelihood (nats)": value, "fit_s": seconds}
            for method, value in figures.items()
        ]
    summarise(rows, value="log-likelihood (nats)", out=args.out)


if __name__ == "__main__":
    main()
