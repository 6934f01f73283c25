"""The subcommand `fit`. What is slow to import is imported where it is needed, not for ``--help``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowdetect.cli import _job_options as options
from flowdetect.cli._errors import USAGE, CommandError
from flowdetect.cli._jobs import config_file, print_json, print_plan, running
from flowdetect.cli._options import Quiet

if TYPE_CHECKING:
    from flowdetect.jobs._settings import FitSettings

__all__ = ["EXAMPLES", "fit"]

EXAMPLES = """[bold]Examples[/bold]

  flowdetect fit visits.parquet --out visits.flow --drop visit_id --false-alarm-rate 0.001

  flowdetect fit nightly.toml
"""

_What = Annotated[
    list[str] | None,
    typer.Argument(metavar="CONFIG|TABLE...", help="A TOML file, or the training rows.", show_default=False),
]
_Out = Annotated[
    str | None, typer.Option("--out", metavar="MODEL", help="The model file, replaced in one step.")
]
_Estimator = Annotated[
    str | None, typer.Option("--estimator", metavar="detector|density", help="What to fit; detector.")
]
_Drop = Annotated[
    list[str] | None, typer.Option("--drop", metavar="COLUMN", help="Left out of the fit. Repeatable.")
]
_FolderColumns = Annotated[
    bool | None,
    typer.Option(
        "--folder-columns/--no-folder-columns", help="Learn columns of folders (date=2026-11-01) as well."
    ),
]
_TextColumns = Annotated[
    list[str] | None,
    typer.Option(
        "--text-column", metavar="COLUMN", help="Labels, even if they look like numbers. Repeatable."
    ),
]
_Contamination = Annotated[
    str | None,
    typer.Option("--contamination", metavar="auto|FRACTION", help="Share of training rows flagged."),
]
_Rate = Annotated[
    float | None,
    typer.Option("--false-alarm-rate", metavar="RATE", help="Share of new normal rows that may be flagged."),
]
_Seed = Annotated[
    int | None, typer.Option("--seed", metavar="N", min=0, help="The same gives the same model; 0.")
]
_Steps = Annotated[int | None, typer.Option("--max-steps", metavar="N", min=1, help="Train for fewer steps.")]


def fit(
    what: _What = None,
    *,
    out: _Out = None,
    config: options.ConfigFile = None,
    estimator: _Estimator = None,
    drop: _Drop = None,
    format: options.SourceFormat = None,
    query: options.Query = None,
    na_values: options.MissingEntries = None,
    folder_columns: _FolderColumns = None,
    text_columns: _TextColumns = None,
    quarantine: options.Quarantine = None,
    max_bad_rows: options.MaxBadRows = None,
    contamination: _Contamination = None,
    false_alarm_rate: _Rate = None,
    seed: _Seed = None,
    max_steps: _Steps = None,
    wait: options.Wait = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    log_format: options.LogFormat = None,
    quiet: Quiet = False,
) -> None:
    """Fit a model to TABLE, or as CONFIG says, and save it for `score`.

    The model file also keeps counts of the training rows, for the drift test. Each setting is also a key of
    section fit in the TOML file and a variable FLOWDETECT_FIT_<NAME>, lists with commas; parameters of the
    estimator go into section fit.parameters, what the model is to say of itself into fit.metadata.
    """
    flags = {name: value for name, value in locals().items() if name not in _NO_SETTINGS}
    with running(log_format, quiet=quiet):
        settings = _settings(what or [], config, flags)
        if dry_run:
            _print_plan(settings, as_json=json)
        else:
            _fit(settings, as_json=json, verbose=not quiet and log_format is None)


_NO_SETTINGS = ("what", "config", "dry_run", "json", "log_format", "quiet")


def _settings(what: list[str], config: str | None, flags: dict[str, Any]) -> FitSettings:
    from flowdetect.jobs._settings import FitSettings, read_settings

    files = [name for name in what if name.lower().endswith(".toml")]
    if len(files) > 1 or (files and config is not None):
        raise CommandError("name one TOML file.", USAGE)
    tables = tuple(name for name in what if name not in files)
    return read_settings(
        FitSettings,
        "fit",
        config=config_file(files[0] if files else config, "fit"),
        environment=os.environ,
        flags=flags | {"sources": tables},
    )


def _print_plan(settings: FitSettings, *, as_json: bool) -> None:
    from flowdetect.jobs._fitting import plan_fit

    print_plan(plan_fit(settings), as_json=as_json)


def _fit(settings: FitSettings, *, as_json: bool, verbose: bool) -> None:
    from flowdetect.jobs._fitting import run_fit

    report = run_fit(settings, verbose=verbose)
    if as_json:
        print_json(report.to_dict())
