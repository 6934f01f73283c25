"""The subcommand `detect`. What is slow to import is imported where it is needed, not for ``--help``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowdetect.cli._common import check_files, print_notes, quoted, save_figure, warnings_as_notes
from flowdetect.cli._errors import INPUT, USAGE, CommandError, reported
from flowdetect.cli._options import (
    Contamination,
    DroppedColumns,
    EntityColumn,
    FalseAlarmsEvery,
    LabelColumn,
    MissingTexts,
    OutputFile,
    PictureFile,
    Quiet,
    Seed,
    Steps,
    TableFile,
    TimeColumn,
    TopRows,
    WindowLength,
)
from flowdetect.cli._report import RareRows, print_agreement, print_top, rare_rows
from flowdetect.cli._series import draw_series, fit_series, print_events
from flowdetect.cli._tables import missing_text_hints, read_table, time_hints, write_table

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from rich.console import Console

__all__ = ["EXAMPLES", "detect"]

_SCORE, _VERDICT = "score", "is_anomaly"
EXAMPLES = """[bold]Examples[/bold]

  flowdetect detect patients.csv > scored.csv

  flowdetect detect hypothyroid.csv.gz --na-value '?' --label class --plot scores.png

  flowdetect detect orders.parquet --drop order_id --contamination 0.01 --out scored.parquet

  flowdetect detect flow.csv --time measured_at --entity pump --window 24 --contamination 0.01
"""


def detect(
    table: TableFile,
    *,
    label: LabelColumn = None,
    drop: DroppedColumns = None,
    time: TimeColumn = None,
    entity: EntityColumn = None,
    window: WindowLength = None,
    contamination: Contamination = "auto",
    false_alarms_every: FalseAlarmsEvery = None,
    out: OutputFile = "-",
    plot: PictureFile = None,
    top: TopRows = 10,
    na_value: MissingTexts = None,
    seed: Seed = 0,
    max_steps: Steps = None,
    quiet: Quiet = False,
) -> None:
    """Fit a density to TABLE and write the table with each row's score and verdict.

    Two columns are added: `is_anomaly` and `score` (larger = more normal),
    in nats, or with --time in interquartile ranges of the series' scores.
    Data go to stdout or to a file, messages and the progress bar to stderr.
    """
    from rich.console import Console

    with reported():
        target = None if out == "-" else Path(out)
        check_files(table, target, plot)
        data = read_table(table, na_value or [])
        X = _columns_to_fit(data.values, label, drop or [])
        rare = None if label is None else rare_rows(data.values[label])
        console = Console(stderr=True, quiet=quiet, soft_wrap=True)
        print_notes(console, missing_text_hints(X))
        is_series = time is not None or entity is not None
        if not is_series:
            print_notes(console, time_hints(X))
        if not is_series and (false_alarms_every, window) != (None, None):
            raise CommandError(
                "--window and --false-alarms-every are for series; name the --time column.", USAGE
            )
        with warnings_as_notes(console):
            if is_series:
                detector = fit_series(
                    X,
                    (time, entity),
                    contamination,
                    false_alarms_every,
                    seed=seed,
                    settings={"window": window, "max_steps": max_steps},
                )
            else:
                detector = _fit(X, contamination, seed, max_steps, verbose=0 if quiet else 1)
        scores, threshold = detector.training_scores_, _threshold(detector)
        is_anomaly = ~(scores >= threshold)  # a score that is not a number must not pass for normal
        _print_found(console, detector, X, scores, threshold, rare, top=0 if quiet else top)
        write_table(data, {_SCORE: scores, _VERDICT: is_anomaly}, target)
        if plot is not None and is_series:
            draw_series(plot, detector, X, name=table.name)
        elif plot is not None:
            _draw(plot, scores, threshold, rare, name=table.name)


def _print_found(
    console: Console,
    detector: Any,
    X: pd.DataFrame,
    scores: NDArray[np.float64],
    threshold: float,
    rare: RareRows | None,
    *,
    top: int,
) -> None:
    is_series = hasattr(detector, "events")
    if is_series:
        print_events(console, detector, X, top)
    else:
        _print_summary(console, X, threshold, int((~(scores >= threshold)).sum()))
    if rare is not None:
        print_agreement(console, scores, rare)
    if top and not is_series:
        _explain_top(console, detector, X, scores, top)


def _columns_to_fit(values: pd.DataFrame, label: str | None, drop: list[str]) -> pd.DataFrame:
    left_out = [*drop, label] if label is not None else drop
    unknown = [name for name in left_out if name not in values.columns]
    if unknown:
        raise CommandError(
            f"--label and --drop must name columns of the table; it has no {quoted(unknown)}, "
            f"only {quoted(values.columns[:20])}{', ...' if values.shape[1] > 20 else ''}.",
            USAGE,
        )
    taken = [name for name in (_SCORE, _VERDICT) if name in values.columns]
    if taken:
        raise CommandError(f"the table already has a column {quoted(taken)}; rename it first.", INPUT)
    X = values.drop(columns=left_out)
    if not X.shape[1]:
        raise CommandError("--label and --drop leave no column to fit.", USAGE)
    return X


def _fit(
    X: pd.DataFrame, contamination: str | float, seed: int, max_steps: int | None, *, verbose: int
) -> Any:
    from flowdetect.estimators import FlowOutlierDetector

    detector = FlowOutlierDetector(contamination=contamination, random_state=seed, verbose=verbose)
    if max_steps is not None:
        detector.set_params(max_steps=max_steps)
    return detector.fit(X)


def _threshold(detector: Any) -> float:
    """Return the threshold for ``training_scores_``, which come from flows that did not see the row.

    With a fraction, ``offset_`` is a quantile of the scores under flows that did see it, which are higher.
    """
    from flowdetect.calibration import contamination_offset

    if detector.contamination == "auto":
        return float(detector.offset_)
    return contamination_offset(detector.training_scores_, detector.contamination)


def _print_summary(console: Console, X: pd.DataFrame, threshold: float, n_anomalies: int) -> None:
    console.print(
        f"{n_anomalies:,} of {len(X):,} rows are anomalies: the score of their {X.shape[1]} columns "
        f"lies below {threshold:.4g} nats",
        highlight=False,
    )


def _explain_top(
    console: Console, detector: Any, X: pd.DataFrame, scores: NDArray[np.float64], n_top: int
) -> None:
    order = scores.argsort(kind="stable")[:n_top]
    rows = X.iloc[order]
    why = detector.explain(rows)
    print_top(console, rows.set_axis(order), scores[order], why)


def _draw(
    path: Path, scores: NDArray[np.float64], threshold: float, rare: RareRows | None, *, name: str
) -> None:
    from matplotlib.figure import Figure

    from flowdetect.plotting import ScoreDistributionDisplay

    # Not pyplot's figure: a command must not open, or need, a window system.
    figure = Figure(figsize=(8.0, 4.5), dpi=150, layout="constrained")
    ScoreDistributionDisplay.from_predictions(
        scores,
        threshold=threshold,
        is_rare=None if rare is None else rare.mask,
        rare_name="rare" if rare is None else rare.name,
        ax=figure.subplots(),
        name=name,
    )
    save_figure(figure, path)
