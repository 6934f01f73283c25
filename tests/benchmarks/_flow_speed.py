"""Speed and memory of flows; ``speed.py`` says what each part is."""

import copy
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median

import numpy as np
import torch
from _peers import LIBRARIES, Case, Library, products
from _timing import OURS, Figure, Settings, take_turns
from _workers import Recipe, Work
from torch import nn
from torch.profiler import ProfilerActivity, profile

from flowdetect._utils.threads import serial_torch
from flowdetect.training import ArraySource, TrainingConfig, train
from flowdetect.training._weights import AdamW, FlatWeights

__all__ = [
    "describe",
    "measure_latency",
    "measure_loop",
    "measure_memory",
    "measure_sample",
    "measure_score",
    "measure_share",
    "measure_slow_sample",
    "measure_train",
]

MEMORY = Path(__file__).with_name("_memory.py")
PROFILED = {f"aten::{name}" for name in ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "matmul", "linear")}


# So small a rate that thousands of steps on one batch leave the flow, and with it the work, as they were.
NO_CHANGE = 1e-7


def step_work(library: Library, case: Case, n_rows: int) -> Work:
    """Return a train step on one batch, by torch's optimiser."""
    flow, (rows, context) = library.checked(case), case.rows(n_rows)
    optimizer = torch.optim.AdamW(flow.parameters(), lr=NO_CHANGE, weight_decay=0.0, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        (-library.log_prob(flow, rows, context).mean()).backward()
        optimizer.step()

    return step


def own_step_work(library: Library, case: Case, n_rows: int) -> Work:
    """Return a train step on one batch as the library's users get it: ours has an optimiser of its own."""
    if library.name != OURS:
        return step_work(library, case, n_rows)
    flow, (rows, context) = library.checked(case), case.rows(n_rows)
    weights = FlatWeights(flow)
    optimizer = AdamW(weights, 0.0)

    def step() -> None:
        with serial_torch():
            weights.zero_grad()
            (-library.log_prob(flow, rows, context).mean()).backward()
            optimizer.step(NO_CHANGE)

    return step


def loop_work(library: Library, case: Case, n_rows: int, n_steps: int) -> Work:
    """Return a training run of so many steps over 20 batches of rows."""
    flow, (rows, context) = library.checked(case), case.rows(20 * n_rows)
    if library.name == OURS:
        source = ArraySource(rows.numpy(), None if context is None else context.numpy())
        config = TrainingConfig(max_steps=n_steps, batch_size=n_rows, validation_fraction=0.0)
        return lambda: train(copy.deepcopy(flow), source, config=config)
    optimizer = torch.optim.AdamW(flow.parameters(), lr=1e-3, fused=True)

    def loop() -> None:
        for _ in range(n_steps):
            some = torch.randint(len(rows), (n_rows,))
            optimizer.zero_grad()
            (
                -library.log_prob(flow, rows[some], None if context is None else context[some]).mean()
            ).backward()
            nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
            optimizer.step()

    return loop


def product_work(library: Library, case: Case, n_rows: int) -> Work:
    """Return the matrix products of a train step, on their own."""
    calls: list[Work] = []
    for layer in products(library.build(case), case):
        weight, bias = torch.randn(layer.n_outputs, layer.n_inputs), torch.randn(layer.n_outputs)
        inputs, gradient = torch.randn(n_rows, layer.n_inputs), torch.randn(n_rows, layer.n_outputs)
        calls.append(partial(torch.addmm, bias, inputs, weight.T))
        calls.append(partial(torch.mm, gradient.T, inputs))
        if not layer.data_first:
            calls.append(partial(torch.mm, gradient, weight))
    return without_gradient(lambda: [call() for call in calls])


def without_gradient(work: Work) -> Work:
    """Return the work under ``torch.inference_mode``."""

    def run() -> None:
        with torch.inference_mode():
            work()

    return run


def score_work(library: Library, case: Case, n_rows: int, *, double: bool = False) -> Work:
    """Return log_prob of so many rows, in float32 or float64."""
    flow, (rows, context) = library.checked(case), case.rows(n_rows)
    if double:
        flow, rows, context = flow.double(), rows.double(), None if context is None else context.double()
    return without_gradient(partial(library.log_prob, flow, rows, context))


def sample_work(library: Library, case: Case, n_rows: int) -> Work:
    """Return drawing so many rows."""
    return without_gradient(partial(library.sample, library.checked(case), n_rows, case.rows(n_rows)[1]))


def profiled_seconds(step: Work, n_steps: int = 5) -> float:
    """Return the seconds of a step inside torch's matrix products: the median of a few steps."""
    step()
    seconds = []
    for _ in range(n_steps):
        with profile(activities=[ProfilerActivity.CPU]) as found:
            step()
        seconds.append(1e-6 * sum(e.self_cpu_time_total for e in found.key_averages() if e.key in PROFILED))
    return median(seconds)


# --- the parts: each yields its figures --------------------------------------------------------------------


def cases(settings: Settings, kind: str = "coupling") -> Iterator[tuple[Case, str]]:
    """Yield what the flows are for, and how it is called in the tables."""
    for n_features, n_context in product(settings.features, settings.context):
        data = f"{n_features} features" + (f", context {n_context}" if n_context else "")
        print(f"{kind}: {data}", file=sys.stderr, flush=True)
        yield Case(n_features, n_context, kind), data


def _recipes(make: Callable[..., Work], libraries: list[Library], *about: object) -> dict[str, Recipe]:
    return {library.name: partial(make, library, *about) for library in libraries}


def describe(settings: Settings, libraries: list[Library], kind: str) -> Iterator[Figure]:
    """Yield how large the flows are: what is learnt, and the multiply-adds of their dense matrices."""
    for case, data in cases(settings, kind):
        for library in libraries:
            flow = library.build(case)
            learnt = sum(parameter.numel() for parameter in flow.parameters() if parameter.requires_grad)
            work = sum(layer.n_outputs * layer.n_inputs for layer in products(flow, case))
            yield Figure(f"parameters, {kind}", data, library.name, "count", [learnt])
            yield Figure(f"multiply-adds a row, {kind}", data, library.name, "count", [work])


def measure_train(settings: Settings, libraries: list[Library]) -> Iterator[Figure]:
    """Time train steps: by the libraries' own optimiser, and by torch's for ours too."""
    for case, data in cases(settings):
        recipes = _recipes(own_step_work, libraries, case, settings.batch)
        if OURS in recipes:
            recipes[f"{OURS} torch"] = partial(step_work, LIBRARIES[OURS], case, settings.batch)
        times = take_turns(recipes, settings)
        same = times.pop(f"{OURS} torch", None)
        for name, values in times.items():
            yield Figure("train", data, name, "rows/s", values, settings.batch)
            if same is not None:
                values = same if name == OURS else values
                yield Figure("train, torch's optimiser", data, name, "rows/s", values, settings.batch)


def measure_loop(settings: Settings, libraries: list[Library]) -> Iterator[Figure]:
    """Time training runs."""
    n_steps = settings.loop_steps
    for case, data in cases(settings):
        recipes = _recipes(loop_work, libraries, case, settings.batch, n_steps)
        for name, values in take_turns(recipes, settings, most_rounds=3).items():
            yield Figure("loop", data, name, "steps/s", values, n_steps)


def measure_share(settings: Settings, libraries: list[Library]) -> Iterator[Figure]:
    """Compare matrix products with the whole train step."""
    for case, data in cases(settings):
        steps = _recipes(own_step_work, libraries, case, settings.batch)
        replays = _recipes(product_work, libraries, case, settings.batch)
        times = take_turns(steps | {f"{name} products": recipe for name, recipe in replays.items()}, settings)
        for name, recipe in steps.items():
            whole = np.asarray(times[name])
            replayed = np.asarray(times[f"{name} products"]) / whole
            yield Figure("share of products", data, name, "%", replayed.tolist())
            if name != OURS:
                profiled = profiled_seconds(recipe()) / whole
                yield Figure("share of profiled products", data, name, "%", profiled.tolist())


def measure_score(settings: Settings, libraries: list[Library]) -> Iterator[Figure]:
    """Time scoring a batch."""
    yield from _scored(settings, libraries, "score", "rows/s", settings.batch)


def measure_latency(settings: Settings, libraries: list[Library]) -> Iterator[Figure]:
    """Time scoring one row."""
    yield from _scored(settings, libraries, "latency of one row", "ms", 1)


def _scored(
    settings: Settings, libraries: list[Library], measure: str, unit: str, n_rows: int
) -> Iterator[Figure]:
    for case, data in cases(settings):
        recipes = _recipes(score_work, libraries, case, n_rows)
        if OURS in recipes:
            ours = LIBRARIES[OURS]
            recipes[f"{OURS} float64"] = partial(score_work, ours, case, n_rows, double=True)
        times = take_turns(recipes, settings)
        double = times.pop(f"{OURS} float64", None)
        for name, values in times.items():
            yield Figure(measure, data, name, unit, values, n_rows)
            if double is not None:
                values = double if name == OURS else values
                yield Figure(f"{measure}, flowdetect in float64", data, name, unit, values, n_rows)


def measure_sample(settings: Settings, libraries: list[Library]) -> Iterator[Figure]:
    """Time drawing from coupling flows."""
    for case, data in cases(settings):
        recipes = _recipes(sample_work, libraries, case, settings.batch)
        for name, values in take_turns(recipes, settings).items():
            yield Figure("sample", data, name, "rows/s", values, settings.batch)


def measure_slow_sample(settings: Settings, libraries: list[Library]) -> Iterator[Figure]:
    """Time drawing from autoregressive flows."""
    n_rows = settings.autoregressive_rows
    for case, data in cases(settings, "autoregressive"):
        recipes = _recipes(sample_work, libraries, case, n_rows)
        for name, values in take_turns(recipes, settings, most_rounds=3).items():
            yield Figure("sample, autoregressive", data, name, "rows/s", values, n_rows)


def measure_memory(settings: Settings, libraries: list[Library]) -> Iterator[Figure]:
    """Measure the memory of a train step and of scoring, in fresh processes."""
    scoring = f"memory of scoring {settings.memory_rows:,} rows"
    for case, data in cases(settings):
        for library in libraries:
            double = "score64" if library.name == OURS else "score"
            found = {work: memory_of(library, work, case, settings) for work in ("train", "score", double)}
            for work, measure in (
                ("train", "memory of a train step"),
                ("score", scoring),
                (double, f"{scoring}, flowdetect in float64"),
            ):
                if (megabytes := found[work]) is not None:
                    yield Figure(measure, data, library.name, "MB", [megabytes])


def memory_of(library: Library, work: str, case: Case, settings: Settings) -> float | None:
    """Return megabytes by ``_memory.py``, or None and the reason if it fails."""
    n_rows = settings.batch if work == "train" else settings.memory_rows
    shape = map(str, (case.n_features, case.n_context, n_rows, "--threads", settings.threads))
    command = [sys.executable, str(MEMORY), library.name, work, *shape]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return float(done.stdout)
    reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
    print(f"memory of {work} of {library.name} is left out: {reason[0][:200]}", file=sys.stderr)
    return None
