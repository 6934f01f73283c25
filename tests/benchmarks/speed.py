"""Speed and memory: flows beside nflows, zuko and normflows, the detector beside AutoEncoder and kNN of PyOD.

    python tests/benchmarks/speed.py [--only train,score] [--quick] [--tables FOLDER] [--json speed.json]

All flows have the same layers (``_peers.py`` says where they cannot). They run in one process, in float32, on
standard normal rows, and take turns: in each round every library repeats the work for about --round-seconds.
With more than one thread, what one library leaves behind can slow the others: torch's operations wait longer
for each other once several of a process's threads have used them. The end of the run says how much slower
torch itself became; --apart gives each library a process of its own, in which it waits for its turn.
Shown is the median over the rounds, and in brackets the time (memory) over that of the first column.

Parts, for --only:

train
    log_prob, mean, gradient, a step of the optimiser: torch.optim.AdamW(fused=True); for flowdetect that of
    its own training, on flat weights, and once more torch's.
loop
    The same as users train: ``flowdetect.training.train`` without validation rows, the schedule and all
    checks included; for the others a plain loop that draws a batch, clips the gradient and takes the step.
    Runs of --loop-steps, at most three rounds.
share
    How much of a train step is matrix products. "products" replays them on their own: dense matrices of the
    shapes of the flow's layers, one call of torch each, one forward and two backward (one in a layer that
    reads only data or context), over the step's time. It means the same for libraries that multiply in
    compiled code, where torch's profiler sees nothing; it nears or passes 100 where those multiply faster
    than torch does. "profiled" is what the profiler finds in mm, addmm and their like, over the step's time
    without profiler, for the libraries made of torch's operations.
score
    log_prob of a batch without gradients; once more with flowdetect in float64, as its estimators score.
latency
    The same for one row.
sample, sample-autoregressive
    Drawing rows: from the coupling flow, and from the autoregressive flow (--autoregressive-rows of them, in
    at most three rounds).
memory
    Megabytes that a train step, and scoring --memory-rows rows in one call, take at most beyond what
    importing and building took. Each is a process of its own: ``_memory.py``.
detector
    Seconds to fit and score the tables of --tables, ``.npz`` files with X and y, by the protocol of
    ``detection.py``.
small
    The detectors on 200 rows of 8 columns: to fit them, and to score one row.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path

import torch
from _detector_speed import measure_detector, measure_small
from _flow_speed import (
    describe,
    measure_latency,
    measure_loop,
    measure_memory,
    measure_sample,
    measure_score,
    measure_share,
    measure_slow_sample,
    measure_train,
)
from _peers import LIBRARIES, Library, find_libraries
from _report import print_table
from _timing import Figure, Settings, machine_facts, tabulate_figures, torch_seconds
from threadpoolctl import threadpool_limits

FLOW_PARTS: dict[str, Callable[[Settings, list[Library]], Iterator[Figure]]] = {
    "train": measure_train,
    "loop": measure_loop,
    "share": measure_share,
    "score": measure_score,
    "latency": measure_latency,
    "sample": measure_sample,
    "sample-autoregressive": measure_slow_sample,
    "memory": measure_memory,
}
DETECTOR_PARTS: dict[str, Callable[[Settings], Iterator[Figure]]] = {
    "detector": measure_detector,
    "small": measure_small,
}
PARTS = [*FLOW_PARTS, *DETECTOR_PARTS]
QUICK = {
    "features": [6, 43],
    "context": [0],
    "rounds": 3,
    "round_seconds": 0.05,
    "loop_steps": 10,
    "memory_rows": 10_000,
}


def make_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", type=_choices(PARTS), default=PARTS, help="comma separated parts (all)")
    add(
        "--libraries",
        type=_choices(list(LIBRARIES)),
        default=["flowdetect", "nflows", "zuko", "normflows"],
        help="comma separated; zuko-nsf is there besides (flowdetect,nflows,zuko,normflows)",
    )
    add("--features", type=_numbers, default=[6, 16, 43, 128], help="widths of the rows (6,16,43,128)")
    add("--context", type=_numbers, default=[0, 8], help="widths of the context, 0 for none (0,8)")
    add("--batch", type=int, default=512, help="rows of a batch (512)")
    add("--threads", type=int, default=2, help="threads of torch and of BLAS (2)")
    add("--rounds", type=int, default=7, help="rounds the median is taken over (7)")
    add("--round-seconds", type=float, default=0.3, help="seconds of one library in a round (0.3)")
    add("--autoregressive-rows", type=int, default=64, help="rows drawn from autoregressive flows (64)")
    add("--loop-steps", type=int, default=50, help="steps of a training run (50)")
    add("--memory-rows", type=int, default=100_000, help="rows scored for the memory (100000)")
    add("--tables", type=Path, help="folder of tables for the part detector, left out without")
    add("--match", default="", help="comma separated parts of the tables' file names (all)")
    add("--protocol", choices=["clean", "mixed"], default="clean", help="of the part detector (clean)")
    add("--apart", action="store_true", help="a process for each library; they still take turns")
    add("--quick", action="store_true", help="small defaults for a look of a few minutes")
    add("--json", type=Path, help="file for every round's figures and the facts of the machine")
    return parser


def _choices(known: list[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"must be of {', '.join(known)}; got {', '.join(unknown)}")
        return [name for name in known if name in names]

    return parse


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def measure(parts: list[str], settings: Settings, libraries: list[Library]) -> Iterator[list[Figure]]:
    """Yield the figures of one part after the other, those of the flows' sizes first."""
    flow_parts = [part for part in parts if part in FLOW_PARTS]
    kinds = dict.fromkeys("autoregressive" if "autoregressive" in part else "coupling" for part in flow_parts)
    for kind in kinds:
        yield list(describe(settings, libraries, kind))
    for part in flow_parts:
        yield list(FLOW_PARTS[part](settings, libraries))
    for part in parts:
        if part in DETECTOR_PARTS:
            yield list(DETECTOR_PARTS[part](settings))


def main() -> None:
    """Measure, print and write."""
    parser = make_parser()
    if "--quick" in sys.argv:
        parser.set_defaults(**QUICK)
    args = parser.parse_args()
    settings = Settings(**{field.name: getattr(args, field.name) for field in fields(Settings)})
    torch.set_num_threads(settings.threads)
    libraries, missing = find_libraries(args.libraries)
    for name, reason in missing.items():
        print(f"{name} is left out: {reason}", file=sys.stderr)
    record: dict[str, object] = {
        "machine": machine_facts(),
        "settings": asdict(settings),
        "left_out": missing,
    }
    print(json.dumps(record["machine"]), flush=True)
    all_figures: list[Figure] = []
    before = torch_seconds()
    with threadpool_limits(settings.threads):
        for figures in measure(args.only, settings, libraries):
            for header, lines in tabulate_figures(figures):
                print_table(header, lines)
            all_figures += figures
            record |= {
                "slower": torch_seconds() / before,
                "figures": [asdict(figure) for figure in all_figures],
            }
            if args.json is not None:
                # After every part, so that a run that is cut off leaves what it has.
                args.json.write_text(json.dumps(record, indent=1, default=str))
    print(f"\ntorch's own operations take {record['slower']:.2f} times as long here as before the run")


if __name__ == "__main__":
    main()
