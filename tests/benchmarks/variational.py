"""Variational approximations beside exact draws or long NUTS runs: VariationalFlow, mean-field, full-rank.

    python tests/benchmarks/variational.py [--only logistic] [--seeds 1] [--max-steps 500] [--datasets
    datasets]
        [--out variational.json]

Six densities (`_variational_targets.py`): a correlated Gaussian, a banana, Neal's funnel in ten dimensions,
two modes, eight schools (not centred) and Bayesian logistic regression on ``german_credit.csv.gz`` (49
coefficients). Exact draws of the first four and four chains of NUTS (blackjax, ``pip install blackjax``) of
the last two give the reference. Mean-field and full-rank Gaussians are trained by the same loop, the same
reverse KL with the same quieter gradient, and as many steps, from the same start as the flow. For the funnel
and the banana moments of the whole are dominated by few draws; read the ELBO there.

Columns: ``mean`` is the largest error of a mean over all parameters in standard deviations of the reference,
``sd`` the largest relative error of a standard deviation, both of plain draws; "weighted" are
VariationalFlow's with importance weights. ``ELBO gap`` is log evidence less the ELBO in nats, by the evidence
where it is known and else by VariationalFlow's own estimate. ``ess`` is the effective share of draws, ``k``
Pareto's.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from _report import print_table
from _variational_targets import Problem, problems
from torch import Tensor, nn

from flowdetect.exceptions import TrainingWarning
from flowdetect.inference import VariationalFlow
from flowdetect.inference._importance import smooth_weights
from flowdetect.inference._noise_map import N_VALIDATION, NoiseSource
from flowdetect.inference._target import Target
from flowdetect.training import ReverseKL, TrainingConfig, train

Row = dict[str, object]
N_DRAWS = 20_000


class Gaussian(nn.Module):
    """A mean-field or full-rank Gaussian with the map that `ReverseKL` asks for."""

    def __init__(self, n_features: int, full: bool) -> None:
        super().__init__()
        self.location = nn.Parameter(torch.zeros(n_features, dtype=torch.float64))
        self.log_scale = nn.Parameter(torch.zeros(n_features, dtype=torch.float64))
        self.below = nn.Parameter(torch.zeros(n_features, n_features, dtype=torch.float64)) if full else None

    def root(self) -> Tensor:
        """Return the triangular root of the covariance."""
        scale = self.log_scale.exp()
        return scale.diag() if self.below is None else scale[:, None] * self.below.tril(-1) + scale.diag()

    def noise_to_rows(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Map noise to rows."""
        return self.location + noise @ self.root().T, self.log_scale.sum().expand(len(noise))

    def rows_to_noise(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Map rows to noise."""
        noise = torch.linalg.solve_triangular(self.root(), (rows - self.location).T, upper=False).T
        return noise, -self.log_scale.sum().expand(len(rows))


def fit_gaussian(
    problem: Problem, full: bool, flow: VariationalFlow, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return draws of the fitted Gaussian and their log p - log q."""
    target = Target(problem.log_density, flow.location_[None])
    # Mean-field is of the parameters themselves: of the flow's start it takes the widths alone.
    widths = np.sqrt(1.0 / np.diag(np.linalg.inv(flow.scale_ @ flow.scale_.T)))
    scale = flow.scale_ if full else np.diag(widths)
    module = Gaussian(problem.n_features, full)
    config = TrainingConfig(
        max_steps=flow.max_steps, learning_rate=1e-2, patience=None, device="cpu", seed=seed,
        min_validation_rows=N_VALIDATION, max_validation_rows=N_VALIDATION,
    )  # fmt: skip
    source = NoiseSource(problem.n_features, config, temperature=1.0, annealing=0.0, seed=seed)
    train(module, source, objective=ReverseKL(target.around(flow.location_, scale)), config=config)
    noise = np.random.default_rng(seed).standard_normal((N_DRAWS, problem.n_features))
    with torch.no_grad():
        inner, log_det = module.noise_to_rows(torch.from_numpy(noise))
    log_q = (
        -0.5 * (noise**2 + np.log(2.0 * np.pi)).sum(axis=1) - log_det.numpy() - np.log(np.diag(scale)).sum()
    )
    rows = flow.location_ + inner.numpy() @ scale.T
    return rows, target.log_ratios(rows, log_q)


def reference(problem: Problem, name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return means and standard deviations."""
    if problem.exact is not None:
        rows = problem.exact(2_000_000, np.random.default_rng(seed))
        return rows.mean(axis=0), rows.std(axis=0)
    return run_nuts(problem, name, seed)


def run_nuts(problem: Problem, name: str, seed: int, n_warmup: int = 1000, n_kept: int = 4000) -> tuple:
    """Return means and standard deviations of four chains, and print how well they agree."""
    import blackjax
    import jax

    jax.config.update("jax_enable_x64", True)
    log_density, start = problem.make_jax(), time.perf_counter()

    def chain(key: jax.Array) -> jax.Array:
        warmup = blackjax.window_adaptation(blackjax.nuts, log_density, target_acceptance_rate=0.9)
        first, second = jax.random.split(key)
        (state, parameters), _ = warmup.run(first, jax.numpy.zeros(problem.n_features), num_steps=n_warmup)
        kernel = blackjax.nuts(log_density, **parameters).step

        def step(state: object, key: jax.Array) -> tuple:
            state, _ = kernel(key, state)
            return state, state.position

        return jax.lax.scan(step, state, jax.random.split(second, n_kept))[1]

    run = jax.jit(chain)
    chains = np.stack([np.asarray(run(key)) for key in jax.random.split(jax.random.key(seed), 4)])
    within, between = chains.var(axis=1).mean(axis=0), chains.mean(axis=1).var(axis=0, ddof=1)
    print(
        f"{name}: NUTS, 4 x {n_kept} draws, largest R-hat {np.sqrt(1.0 + between / within).max():.4f}, "
        f"{time.perf_counter() - start:.0f} s",
        flush=True,
    )
    rows = chains.reshape(-1, problem.n_features)
    return rows.mean(axis=0), rows.std(axis=0)


def moments(rows: np.ndarray, shares: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return means and standard deviations of weighted rows."""
    mean = np.average(rows, axis=0, weights=shares)
    return mean, np.sqrt(np.average((rows - mean) ** 2, axis=0, weights=shares))


def evaluate(name: str, problem: Problem, seed: int, max_steps: int | None) -> list[Row]:
    """Return one row for each method."""
    truth = reference(problem, name, seed)
    options = {} if max_steps is None else {"max_steps": max_steps}
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)
        flow = VariationalFlow(
            problem.n_features, n_importance=N_DRAWS, random_state=seed, **options
        ).fit(problem.log_density)  # fmt: skip
    seconds = time.process_time() - start
    evidence = flow.log_evidence_ if problem.log_evidence is None else problem.log_evidence
    shared = {"data": name, "seed": seed}

    def row(
        method: str, found: tuple, elbo: float, ess: float, k: float, log_evidence: float, s: float
    ) -> Row:
        figures = {
            "mean": float(np.max(np.abs(found[0] - truth[0]) / truth[1])),
            "sd": float(np.max(np.abs(found[1] / truth[1] - 1.0))),
            "ELBO gap": evidence - elbo,
            "ess": ess,
            "k": k,
            "evidence error": abs(log_evidence - evidence),
            "cpu_s": s,
        }
        print(name, method, {key: round(value, 4) for key, value in figures.items()}, flush=True)
        return {**shared, "method": method, **figures}

    weights = flow._weights()
    about = (flow.elbo_, flow.effective_sample_size_, flow.pareto_k_, flow.log_evidence_, seconds)
    rows = [
        row("VariationalFlow", moments(flow.draws_), *about),
        row("VariationalFlow, weighted", moments(flow.draws_, weights.normalised), *about),
    ]
    for method, full in (("mean-field", False), ("full-rank", True)):
        start = time.process_time()
        draws, ratios = fit_gaussian(problem, full, flow, seed)
        s, found = time.process_time() - start, smooth_weights(ratios)
        share = found.effective_size / N_DRAWS
        rows.append(
            row(method, moments(draws), float(ratios.mean()), share, found.pareto_k, found.log_mean()[0], s)
        )
    return rows


def main() -> None:
    """Compare on all problems."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", type=Path, default=Path(__file__).parents[2] / "datasets")
    parser.add_argument("--only", default="", help="comma separated names")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--max-steps", type=int, help="of all methods; VariationalFlow's default if left out")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    rows: list[Row] = []
    for name, problem in problems(args.datasets).items():
        if not args.only or name in args.only.split(","):
            for seed in range(args.seeds):
                rows += evaluate(name, problem, seed, args.max_steps)
    names = ("mean", "sd", "ELBO gap", "ess", "k", "evidence error", "cpu_s")
    lines = [
        [str(row["data"]), str(row["method"]), *(f"{row[figure]:.3g}" for figure in names)] for row in rows
    ]
    print_table(["density", "method", *names], lines)
    if args.out is not None:
        args.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
