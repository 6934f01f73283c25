"""The subcommand `drift`. What is slow to import is imported where it is needed, not for ``--help``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowdetect.cli import _job_options as options
from flowdetect.cli._common import PICTURES, save_figure
from flowdetect.cli._errors import FOUND, USAGE, CommandError
from flowdetect.cli._jobs import config_file, print_json, print_plan, running
from flowdetect.cli._options import Quiet

if TYPE_CHECKING:
    from flowdetect.jobs._drift_job import DriftRun
    from flowdetect.jobs._drift_report import DriftReport

__all__ = ["EXAMPLES", "drift"]

EXAMPLES = """[bold]Examples[/bold]

  flowdetect drift visits.flow tonight.parquet

  flowdetect drift visits.flow 'tonight/*.csv' --ignore visited_at --plot drift.png --fail-on drift
"""

_MOST_COLUMNS = 15
_Plot = Annotated[str | None, typer.Option("--plot", metavar="FILE", help="Draw it: png, pdf or svg.")]
_FailOn = Annotated[
    list[str] | None, typer.Option("--fail-on", metavar="drift", help="End with code 1 if there is drift.")
]


def drift(
    model: options.ModelFile = None,
    sources: options.Sources = None,
    *,
    config: options.ConfigFile = None,
    format: options.SourceFormat = None,
    query: options.Query = None,
    na_values: options.MissingEntries = None,
    alpha: options.Alpha = None,
    ignore: options.Ignore = None,
    plot: _Plot = None,
    fail_on: _FailOn = None,
    sha256: options.Sha256 = None,
    batch_rows: options.BatchRows = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    log_format: options.LogFormat = None,
    quiet: Quiet = False,
) -> None:
    """Compare the rows of SOURCE with those that MODEL was fitted on: their p-values, and each column.

    The verdict is "drift", "no drift seen" or "too few rows". Where nothing has changed it is "drift" at the
    rate of --alpha. Columns that always change, such as dates, are left out with --ignore.
    """
    flags = {name: value for name, value in locals().items() if name not in _NO_SETTINGS}
    with running(log_format, quiet=quiet):
        found = _drift(flags, config, dry_run=dry_run, as_json=json)
    if found:
        raise typer.Exit(FOUND)


_NO_SETTINGS = ("config", "dry_run", "json", "log_format", "quiet")


def _drift(flags: dict[str, Any], config: str | None, *, dry_run: bool, as_json: bool) -> bool:
    """Run the job; return whether it was asked to fail on drift and there is some."""
    from flowdetect.jobs._settings import DriftSettings, read_settings

    settings = read_settings(
        DriftSettings,
        "drift",
        config=config_file(config, "drift"),
        environment=os.environ,
        flags=flags,
    )
    if settings.plot is not None and not settings.plot.lower().endswith(PICTURES):
        raise CommandError(f"--plot must end in {', '.join(PICTURES)}; got '{settings.plot}'.", USAGE)
    from flowdetect.jobs._drift_job import plan_drift, run_drift

    if dry_run:
        print_plan(plan_drift(settings), as_json=as_json)
        return False
    run = run_drift(settings)
    if as_json:
        print_json(run.to_dict())
    else:
        _print(run)
    if settings.plot is not None:
        _draw(run, Path(settings.plot))
    return "drift" in settings.fail_on and run.report.verdict == "drift"


def _print(run: DriftRun) -> None:
    report = run.report
    rows = f"{report.n_rows:,} rows" + (
        f", {run.n_left_out:,} more cannot be scored" if run.n_left_out else ""
    )
    if report.p_value is None:
        typer.echo(f"{report.verdict}: {rows}, and a verdict takes {report.min_rows}.")
    else:
        _print_comparisons(report, rows)
    if report.note is not None:
        typer.echo(report.note)


def _print_comparisons(report: DriftReport, rows: str) -> None:
    typer.echo(f"{report.verdict}: {rows}, p = {report.p_value:.3g}, alpha = {report.alpha:g}")
    score = report.score
    if score is not None:
        typer.echo(
            f"scores: p = {score.p_value:.3g}{' (drift)' if score.drift else ''}; {100 * score.share:.3g} % "
            f"of the rows have a p-value up to {score.level:.3g}"
        )
    for column in report.columns[:_MOST_COLUMNS]:
        shares = ""
        if column.expected is not None and column.share is not None:
            shares = f": {100 * column.expected:.3g} % of the training rows, {100 * column.share:.3g} % now"
        mark = " (drift)" if column.drift else ""
        typer.echo(f"{column.column} {column.what}{shares}, adjusted p = {column.p_adjusted:.3g}{mark}")
    if len(report.columns) > _MOST_COLUMNS:
        typer.echo(f"and {len(report.columns) - _MOST_COLUMNS} columns that have changed less")


def _draw(run: DriftRun, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from flowdetect.plotting import DriftDisplay

    if run.report.p_value is None:
        typer.echo("too few rows for a picture.", err=True)
        return
    save_figure(DriftDisplay.from_report(run.report).figure_, path)
