"""Posteriors from simulations: FlowPosterior beside sbi's NPE with its default spline flow.

    python tests/benchmarks/simulation_posteriors.py [--sizes 2000,10000] [--only slcp] [--out FILE]

Both learn from the same simulations of three tasks (see _simulators.py), with their defaults, on one thread.
C2ST is the accuracy with which a classifier tells draws of the estimated posterior from true ones, for some
observed outcomes: 0.5 is perfect, 1 is worst. It is a network of two layers in five folds, as in sbibm, but
stops early. The seconds are processor time of learning. Needs sbi.
"""

import argparse
import json
import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from _report import print_table
from _simulators import TASKS, Task
from sklearn.model_selection import KFold, cross_val_score
from sklearn.neural_network import MLPClassifier

from flowdetect.inference import FlowPosterior

Sampler = Callable[[np.ndarray, int], np.ndarray]


def fit_flowdetect(task: Task, theta: np.ndarray, x: np.ndarray, seed: int) -> Sampler:
    """Return what draws from FlowPosterior with its defaults."""
    posterior = FlowPosterior(bounds=task.bounds, random_state=seed).fit(theta, x)
    return lambda observed, n: posterior.sample(observed, n, random_state=seed)


def fit_sbi(task: Task, theta: np.ndarray, x: np.ndarray, seed: int) -> Sampler:
    """Return what draws from sbi's neural posterior estimate with its defaults and a spline flow."""
    from sbi.inference import NPE
    from sbi.utils import BoxUniform

    torch.manual_seed(seed)
    if task.bounds is None:
        variance = task.variance * torch.eye(theta.shape[1])
        prior = torch.distributions.MultivariateNormal(torch.zeros(theta.shape[1]), variance)
    else:
        low, high = torch.tensor(task.bounds, dtype=torch.float32).T
        prior = BoxUniform(low, high)
    inference = NPE(prior, density_estimator="nsf", show_progress_bars=False)
    inference.append_simulations(torch.from_numpy(theta).float(), torch.from_numpy(x).float())
    inference.train()
    posterior = inference.build_posterior()

    def sample(observed: np.ndarray, n: int) -> np.ndarray:
        given = torch.from_numpy(observed).float()
        return posterior.sample((n,), x=given, show_progress_bars=False).numpy().astype(np.float64)

    return sample


METHODS = {"FlowPosterior": fit_flowdetect, "sbi NPE": fit_sbi}


def c2st(reference: np.ndarray, drawn: np.ndarray, seed: int) -> float:
    """Return the accuracy with which a network tells the two apart, both in units of the reference."""
    mean, scale = reference.mean(axis=0), reference.std(axis=0)
    rows = (np.concatenate((reference, drawn)) - mean) / scale
    labels = np.repeat((0, 1), (len(reference), len(drawn)))
    width = 10 * rows.shape[1]
    network = MLPClassifier((width, width), early_stopping=True, n_iter_no_change=20, random_state=seed)
    folds = KFold(5, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(cross_val_score(network, rows, labels, cv=folds).mean())


def run(
    name: str, size: int, methods: list[str], n_observed: int, n_draws: int, seed: int
) -> list[dict[str, object]]:
    """Return the figures of every method on one task and number of simulations."""
    task: Task = TASKS[name]()
    rng = np.random.default_rng(1000 + seed)
    observed = task.simulate(task.prior(n_observed, rng), rng)
    references = [task.reference(x, n_draws, rng) for x in observed]
    rng = np.random.default_rng((seed, size))
    theta = task.prior(size, rng)
    x = task.simulate(theta, rng)
    rows = []
    for method in methods:
        start = time.process_time()
        sample = METHODS[method](task, theta, x, seed)
        seconds = time.process_time() - start
        values = [
            c2st(reference, sample(one, n_draws), seed)
            for reference, one in zip(references, observed, strict=True)
        ]
        rows.append(
            {"task": name, "n": size, "seed": seed, "method": method, "c2st": values, "fit_s": seconds}
        )
        print(
            name,
            size,
            method,
            f"C2ST {np.mean(values):.3f}",
            np.round(values, 3),
            f"{seconds:.0f} s",
            flush=True,
        )
    return rows


def report(rows: list[dict[str, object]], methods: list[str]) -> None:
    """Print mean C2ST and seconds, tasks by methods."""
    lines = []
    for name, size in dict.fromkeys((row["task"], row["n"]) for row in rows):
        cells = []
        for method in methods:
            own = [row for row in rows if (row["task"], row["n"], row["method"]) == (name, size, method)]
            cells.append(f"{np.mean([row['c2st'] for row in own]):.3f}")
            cells.append(f"{np.mean([row['fit_s'] for row in own]):.0f}")
        lines.append([str(name), str(size), *cells])
    header = [f"{method}: {what}" for method in methods for what in ("C2ST", "s")]
    print_table(["task", "simulations", *header], lines)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="comma separated parts of the tasks' names")
    parser.add_argument("--sizes", default="2000,10000", help="numbers of simulations")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--observed", type=int, default=5, help="outcomes whose posterior is compared")
    parser.add_argument("--draws", type=int, default=1000, help="draws of each posterior")
    parser.add_argument("--seeds", type=int, default=1, help="repetitions with other simulations")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    methods = args.methods.split(",")
    wanted = args.only.split(",")
    rows = [
        row
        for name in TASKS
        if any(part in name for part in wanted)
        for size in map(int, args.sizes.split(","))
        for seed in range(args.seeds)
        for row in run(name, size, methods, args.observed, args.draws, seed)
    ]
    report(rows, methods)
    if args.out is not None:
        args.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
