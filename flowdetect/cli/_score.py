"""The subcommand `score`. What is slow to import is imported where it is needed, not for ``--help``."""

from __future__ import annotations

import os
from typing import Any

import typer

from flowdetect.cli import _job_options as options
from flowdetect.cli._errors import FOUND, USAGE, CommandError
from flowdetect.cli._jobs import config_file, print_json, running
from flowdetect.cli._options import Quiet

__all__ = ["EXAMPLES", "score"]

EXAMPLES = """[bold]Examples[/bold]

  flowdetect score visits.flow visits.parquet --out scored.parquet --quarantine refused.csv

  flowdetect score visits.flow 'visits/*.csv.gz' --out scored/ --resume --metrics visits.prom

  flowdetect score visits.flow env:CLINIC_DB#visits --out env:CLINIC_DB#scores --run-key 2024-05-01

  flowdetect score --config nightly.toml --dry-run
"""


def score(
    model: options.ModelFile = None,
    sources: options.Sources = None,
    *,
    out: options.Target = None,
    config: options.ConfigFile = None,
    format: options.SourceFormat = None,
    out_format: options.OutFormat = None,
    query: options.Query = None,
    na_values: options.MissingEntries = None,
    id_columns: options.IdColumns = None,
    reasons: options.Reasons = None,
    quarantine: options.Quarantine = None,
    max_bad_rows: options.MaxBadRows = None,
    resume: options.Resume = None,
    prune: options.Prune = None,
    manifest: options.ManifestFile = None,
    metrics: options.MetricsFile = None,
    fail_on: options.FailOn = None,
    drift: options.Drift = None,
    alpha: options.Alpha = None,
    ignore: options.Ignore = None,
    sha256: options.Sha256 = None,
    run_key: options.RunKey = None,
    batch_rows: options.BatchRows = None,
    threads: options.Threads = None,
    wait: options.Wait = None,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    log_format: options.LogFormat = None,
    quiet: Quiet = False,
) -> None:
    """Score the rows of SOURCE with MODEL and write them to TARGET.

    Added are `score` (nats, larger = more normal), `p_value`, `is_anomaly`, `status`, `model_id`, `run_id`
    and `reasons`. The target is replaced in one step, or left as it was; a second run of the same rows
    writes the same. Each setting is also a key of section score in the TOML file and a variable
    FLOWDETECT_SCORE_<NAME>, lists with commas.
    """
    flags = {name: value for name, value in locals().items() if name not in _NO_SETTINGS}
    with running(log_format, quiet=quiet):
        found = _score(flags, config, dry_run=dry_run, as_json=json)
    if found:
        raise typer.Exit(FOUND)


_NO_SETTINGS = ("config", "dry_run", "json", "log_format", "quiet")


def _score(flags: dict[str, Any], config: str | None, *, dry_run: bool, as_json: bool) -> list[str]:
    """Run the job; return what it was asked to fail on and has found."""
    from flowdetect.jobs._settings import ScoreSettings, read_settings

    settings = read_settings(
        ScoreSettings,
        "score",
        config=config_file(config, "score"),
        environment=os.environ,
        flags=flags,
    )
    if as_json and settings.out == "-" and not dry_run:
        raise CommandError("--json and --out - both write to standard output.", USAGE)
    if dry_run:
        _print_plan(settings, as_json=as_json)
        return []
    from flowdetect.jobs._run import run_score

    report = run_score(settings)
    if as_json:
        print_json(report.to_dict())
    return report.reasons_to_fail(settings.fail_on)


def _print_plan(settings: Any, *, as_json: bool) -> None:
    from flowdetect.jobs._dry_run import check_places
    from flowdetect.jobs._plan import plan_score

    planned = plan_score(settings)
    check_places(planned)
    plan = planned.describe()
    if as_json:
        print_json(plan)
        return
    lines = [f"model: {plan['model']['path']} ({plan['model']['class']}, {plan['model']['model_id']})"]
    lines += [f"source: {source['name']}" for source in plan["sources"]]
    lines += [f"output: {name}" for name in plan["outputs"]]
    lines += [f"{name}: {plan[name]}" for name in ("quarantine", "manifest", "run_id")]
    lines += [f"columns: {', '.join(plan['columns'])}"]
    lines += [f"setting {name}: {value}" for name, value in plan["settings"].items()]
    typer.echo("\n".join(lines))
