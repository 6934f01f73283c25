"""Rate and memory of a scoring job on a large parquet file, beside `score_samples` on arrays in memory.

    python tests/benchmarks/scoring_job.py --folder FOLDER [--rows N] [--estimator NAME] [--threads N]

The rows are drawn from a FlowDensity of scikit-learn's diabetes table, 10 columns, and kept in FOLDER for
the next run. The job is `flowdetect score` as a process of its own, its memory the most that was resident.
Rates are rows per second: of the job with everything from its start to its end, and of `score_samples` on a
million rows that are in memory already, best of three before and three after the job. Machines are shared:
beside elapsed time, rates are given per second of processor time, which others do not take away.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from sklearn.datasets import load_diabetes

import flowdetect

BLOCK = 250_000
ROWS_IN_MEMORY = 1_000_000


def fit(name: str, folder: Path) -> Path:
    """Return the file of the model, fitted if it is not there."""
    path = folder / f"{name}.flow"
    if not path.exists():
        estimators = {"density": flowdetect.FlowDensity, "detector": flowdetect.FlowOutlierDetector}
        X = load_diabetes(as_frame=True).data
        flowdetect.save(estimators[name](random_state=0).fit(X), path)
    return path


def draw(model: Path, path: Path, n_rows: int) -> None:
    """Write rows drawn from the density, if they are not there."""
    if path.exists() and pq.ParquetFile(path).metadata.num_rows == n_rows:
        return
    density, writer = flowdetect.load(model), None
    for start in range(0, n_rows, BLOCK):
        rows = density.sample(min(BLOCK, n_rows - start), random_state=start)
        batch = pa.Table.from_pandas(rows, preserve_index=False)
        writer = pq.ParquetWriter(path, batch.schema) if writer is None else writer
        writer.write_table(batch)
    if writer is not None:
        writer.close()


def rates_in_memory(model: Path, path: Path) -> np.ndarray:
    """Return rows per second, elapsed and of the processor, of `score_samples` on rows in memory."""
    estimator = flowdetect.load(model)
    n_rows = min(ROWS_IN_MEMORY, pq.ParquetFile(path).metadata.num_rows)
    rows = next(pq.ParquetFile(path).iter_batches(n_rows)).to_pandas()
    estimator.score_samples(rows[:1000])
    seconds = []
    for _ in range(3):
        start = time.perf_counter(), time.process_time()
        estimator.score_samples(rows)
        seconds.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return len(rows) / np.min(seconds, axis=0)


def run_job(model: Path, path: Path, out: Path, threads: int) -> dict[str, float]:
    """Return elapsed seconds, those of the processor, and the most memory in MiB, of the job."""
    command = [sys.executable, "-m", "flowdetect.cli", "score", str(model), str(path), "--out", str(out)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "NUMBA_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    job = subprocess.Popen(command, env=environment)
    _, status, usage = os.wait4(job.pid, 0)
    if status != 0:
        sys.exit(f"the job ended with exit code {os.waitstatus_to_exitcode(status)}")
    return {
        "seconds": time.perf_counter() - start,
        "processor seconds": usage.ru_utime + usage.ru_stime,
        "MiB": usage.ru_maxrss / 1024,
    }


def largest_difference(model: Path, path: Path, out: Path) -> float:
    """Return the largest relative difference of the job's scores from those of `score_samples`."""
    estimator, largest = flowdetect.load(model), 0.0
    batches = pq.ParquetFile(path).iter_batches(BLOCK)
    scored = pq.ParquetFile(out).iter_batches(BLOCK, columns=["score"])
    for _, (rows, scores) in zip(range(2), zip(batches, scored, strict=True), strict=False):
        expected = estimator.score_samples(rows.to_pandas())
        difference = np.abs(scores.column("score").to_numpy() - expected) / np.maximum(1, np.abs(expected))
        largest = max(largest, float(difference.max()))
    return largest


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--estimator", choices=["density", "detector"], default="density")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    path, out = args.folder / f"rows_{args.rows}.parquet", args.folder / "scored.parquet"
    draw(fit("density", args.folder), path, args.rows)
    model = fit(args.estimator, args.folder)
    before = rates_in_memory(model, path)
    job = run_job(model, path, out, args.threads)
    in_memory = np.maximum(before, rates_in_memory(model, path))
    rates = args.rows / np.array([job["seconds"], job["processor seconds"]])
    figures = {
        "estimator": args.estimator,
        "rows": args.rows,
        "threads": args.threads,
        **job,
        "rows per second, elapsed and of the processor": rates.tolist(),
        "in memory": in_memory.tolist(),
        "ratio": (rates / in_memory).tolist(),
        "largest difference": largest_difference(model, path, out),
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
