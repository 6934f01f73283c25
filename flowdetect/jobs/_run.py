"""A scoring job from its settings to its report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from flowdetect._utils.version import __version__
from flowdetect.exceptions import ConfigurationError, FlowDetectError
from flowdetect.jobs._drift import DriftMonitor
from flowdetect.jobs._errors import InputError, InternalError, ModelError
from flowdetect.jobs._fitting import reference_of
from flowdetect.jobs._locking import locked, sweep
from flowdetect.jobs._logs import log_event
from flowdetect.jobs._manifest import (
    FORMAT,
    FORMAT_VERSION,
    finished_outputs,
    forget_progress,
    former_outputs,
    write_manifest,
    write_progress,
)
from flowdetect.jobs._metrics import metrics_text, write_metrics
from flowdetect.jobs._plan import Plan, Unit, describe_model, plan_score
from flowdetect.jobs._quarantine import QUARANTINE, Quarantine
from flowdetect.jobs._rows import Partition
from flowdetect.jobs._scoring import expected_rate, score_batches
from flowdetect.jobs._settings import ScoreSettings
from flowdetect.jobs._stopping import check_stop
from flowdetect.jobs._targets import FileTarget, FolderTarget, Target, Writer, storing

__all__ = ["ScoreReport", "run_score"]


@dataclass(frozen=True)
class ScoreReport:
    """What a scoring job did.

    Attributes
    ----------
    run_id, model_id : str
    target : str
        Where the rows are, without secrets.
    n_read, n_scored, n_quarantined : int
        ``n_read == n_scored + n_quarantined``.
    n_anomalies : int or None
        None for a model without a threshold.
    expected_false_alarms : float or None
        How many rows would lie below the threshold if all were normal; None for a model without p-values.
    drift : dict or None
        ``DriftReport.to_dict()``, if it was looked for.
    outputs : list of dict
        Entries of the manifest.
    skipped : list of str
        Outputs that an earlier run had finished.
    seconds : float
    """

    run_id: str
    model_id: str
    target: str
    n_read: int
    n_scored: int
    n_quarantined: int
    n_anomalies: int | None
    expected_false_alarms: float | None
    drift: dict[str, Any] | None
    outputs: list[dict[str, Any]]
    skipped: list[str]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return dicts, lists, strings, numbers and None, ready for ``json.dumps``."""
        return asdict(self)

    def reasons_to_fail(self, fail_on: tuple[str, ...]) -> list[str]:
        """Return those of "anomalies", "drift" and "quarantine" that are asked for and were found."""
        found = {
            "anomalies": bool(self.n_anomalies),
            "drift": self.drift is not None and self.drift["verdict"] == "drift",
            "quarantine": self.n_quarantined > 0,
        }
        return [name for name in fail_on if found[name]]


def run_score(settings: ScoreSettings) -> ScoreReport:
    """Score the rows of all sources and replace the target by the result.

    Parameters
    ----------
    settings : ScoreSettings

    Raises
    ------
    JobError
        With the exit code; the target is then as it was, or, if it is a folder, some of its files are new and
        complete.

    Notes
    -----
    A second run of the same inputs writes the same bytes. Order: quarantine, output, and when all are there
    the manifest of the run, then the metrics.
    """
    begin = time.monotonic()
    plan = plan_score(settings)
    for target in (plan.target, plan.quarantine):
        if isinstance(target, FolderTarget):
            with storing(target.name):
                target.path.mkdir(parents=True, exist_ok=True)
    with _threads(settings.threads), locked(plan.locks, plan.target.name, wait=settings.wait):
        log_event(
            "started", run_id=plan.run_id, **describe_model(plan.model), partitions=len(plan.fingerprints)
        )
        report = _Run(plan).run(begin)
        if settings.metrics is not None:
            text = metrics_text(report, plan.model.manifest["created"], time.time())
            write_metrics(settings.metrics, text)
    log_event(
        "finished",
        target=report.target,
        rows=report.n_read,
        scored=report.n_scored,
        quarantined=report.n_quarantined,
        anomalies=report.n_anomalies,
        expected_false_alarms=report.expected_false_alarms,
        drift=None if report.drift is None else report.drift["verdict"],
        seconds=round(report.seconds, 3),
    )
    return report


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Run:
    """The state of a job: what is finished, and how many rows were set aside."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.settings = plan.settings
        self.outputs: list[dict[str, Any]] = []
        self.quarantine = Quarantine(plan.settings.limit)
        self.monitor = self._new_monitor() if self.settings.wants_drift else None

    def run(self, begin: float) -> ScoreReport:
        plan, skipped = self.plan, []
        finished = finished_outputs(plan) if self.settings.resume else {}
        # A single quarantine file of a folder is complete only after the last of its outputs.
        shared = plan.quarantine if isinstance(plan.quarantine, FileTarget) and len(plan.units) > 1 else None
        with ExitStack() as stack:
            aside = None if shared is None else stack.enter_context(_opened(shared, "rows", QUARANTINE))
            for unit in plan.units:
                if unit.output in finished:
                    skipped.append(unit.output)
                    entry = finished[unit.output]
                    log_event("skipped, as an earlier run has finished it", output=entry["path"])
                else:
                    entry = self._score_unit(unit, aside)
                self.outputs.append(entry)
                self._add_drift(entry)
                write_progress(plan, self.outputs)
        report = self._report(skipped, begin)
        if plan.manifest is not None:
            self._clear_up()
            write_manifest(plan.manifest, self._manifest(report, aside))
            forget_progress(plan)
        return report

    def _clear_up(self) -> None:
        """Remove what the run before has left of sources that are gone, or say that it is still there."""
        former = former_outputs(self.plan)
        if not former:
            return
        if not self.settings.prune:
            log_event("not of this run, and left as they are", files=len(former), such_as=str(former[0]))
            return
        for path in former:
            with storing(str(path)):
                path.unlink()
        log_event("removed, as their sources are gone", files=len(former))

    # --- scoring --------------------------------------------------------------------------------------

    def _score_unit(self, unit: Unit, shared: Writer | None) -> dict[str, Any]:
        plan = self.plan
        own = plan.quarantine if shared is None else None
        with ExitStack() as stack:
            writer = stack.enter_context(_opened(plan.target, unit.output, unit.schema))
            aside = shared
            if own is not None:  # closed, and so in place, before the output is
                aside = stack.enter_context(_opened(own, unit.output, QUARANTINE))
            parts = [self._score_partition(part, unit, writer, aside) for part in unit.partitions]
            if writer.n_rows != sum(part["n_scored"] for part in parts):
                raise InternalError(
                    f"'{writer.name}' was given {writer.n_rows} rows, not as many as were scored."
                )
        entry = {"output": unit.output, **_written(writer), "partitions": parts}
        return entry if own is None or aside is None else {**entry, "quarantine": _written(aside)}

    def _score_partition(
        self, partition: Partition, unit: Unit, writer: Writer, aside: Writer | None
    ) -> dict[str, Any]:
        begin = time.monotonic()
        entry = {"name": partition.name, "sha256": self.plan.fingerprints[partition.name]}
        n_read = n_scored = n_quarantined = n_anomalies = last_row = 0
        monitor = None if self.monitor is None else self._new_monitor()
        for scored in score_batches(
            partition.batches(self.settings.batch_rows),
            self.plan.model,
            run_id=self.plan.run_id,
            id_columns=self.settings.id_columns,
            n_reasons=self.settings.reasons,
            members=monitor is not None,
            typed=unit.typed,
        ):
            check_stop()
            writer.write(scored.batch.select(unit.schema.names))
            if scored.rejected:
                self.quarantine.add(scored.rejected, aside)
            if monitor is not None:
                monitor.update(scored.frame, scored.member_scores)
            n_read, last_row = n_read + scored.n_read, max(last_row, scored.last_row)
            n_scored, n_anomalies = n_scored + scored.batch.num_rows, n_anomalies + scored.n_anomalies
            n_quarantined += len(scored.rejected)
        if not n_read == last_row == n_scored + n_quarantined:
            raise InternalError(
                f"'{partition.name}' has {last_row} rows, of which {n_read} were read, {n_scored} scored and "
                f"{n_quarantined} set aside: these must agree."
            )
        self.quarantine.check_share(partition.name, n_quarantined, n_read)
        self._check_unchanged(partition)
        log_event(
            "scored", source=partition.name, rows=n_read, quarantined=n_quarantined, anomalies=n_anomalies,
            seconds=round(time.monotonic() - begin, 3),
        )  # fmt: skip
        counts = {
            "n_read": n_read,
            "n_scored": n_scored,
            "n_quarantined": n_quarantined,
            "n_anomalies": n_anomalies,
        }
        return {**entry, **counts} | ({} if monitor is None else {"drift": monitor.counts()})

    def _check_unchanged(self, partition: Partition) -> None:
        if partition.fingerprint() != self.plan.fingerprints[partition.name]:
            raise InputError(f"'{partition.name}' was changed while it was read; run the job again.")

    # --- what is found --------------------------------------------------------------------------------

    def _new_monitor(self) -> DriftMonitor | None:
        model, settings = self.plan.model, self.settings
        try:
            return DriftMonitor(
                model.estimator, reference_of(model), alpha=settings.alpha, ignore=settings.ignore
            )
        except FlowDetectError as error:
            if settings.drift or "drift" in settings.fail_on or not isinstance(error, ConfigurationError):
                raise ModelError(f"drift cannot be looked for: {error}") from error
            return None

    def _add_drift(self, entry: dict[str, Any]) -> None:
        for part in entry["partitions"] if self.monitor is not None else ():
            self.monitor.add(part["drift"])  # type: ignore[union-attr]

    def _report(self, skipped: list[str], begin: float) -> ScoreReport:
        plan, parts = self.plan, [part for entry in self.outputs for part in entry["partitions"]]
        total = {
            name: sum(part[name] for part in parts)
            for name in ("n_read", "n_scored", "n_quarantined", "n_anomalies")
        }
        if total["n_read"] != total["n_scored"] + total["n_quarantined"]:
            raise InternalError(f"of {total['n_read']} rows read not all are scored or set aside.")
        rate = expected_rate(plan.model.estimator)
        if not hasattr(plan.model.estimator, "offset_"):
            total["n_anomalies"] = None
        return ScoreReport(
            run_id=plan.run_id,
            model_id=plan.model.model_id,
            target=plan.target.name,
            **total,
            expected_false_alarms=None if rate is None else rate * total["n_scored"],
            drift=None if self.monitor is None else self.monitor.report().to_dict(),
            outputs=[_without_counts(entry) for entry in self.outputs],
            skipped=skipped,
            seconds=time.monotonic() - begin,
        )

    def _manifest(self, report: ScoreReport, aside: Writer | None) -> dict[str, Any]:
        """Return the manifest: without times, so that a second run changes nothing."""
        content = report.to_dict()
        for name in ("seconds", "skipped", "model_id"):
            del content[name]
        described = self.plan.describe()
        for name in ("resume", "batch_rows", "threads", "wait"):
            del described["settings"][name]
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "flowdetect": __version__,
            "model": described["model"],
            "settings": described["settings"],
            **content,
            "outputs": self.outputs,
            "quarantine": None if aside is None else _written(aside),
        }


@contextmanager
def _opened(target: Target, output: str, schema: pa.Schema) -> Iterator[Writer]:
    """Open an output, after removing what a run that was killed has left there."""
    if isinstance(target, FolderTarget | FileTarget):
        sweep(target.file(output) if isinstance(target, FolderTarget) else target.path)
    with target.begin(output, schema) as writer:
        yield writer


def _without_counts(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of an output without what the drift test counted."""
    parts = [{name: part[name] for name in part if name != "drift"} for part in entry["partitions"]]
    return {**entry, "partitions": parts}


def _written(writer: Writer) -> dict[str, Any]:
    return {
        "path": writer.name,
        "n_rows": writer.n_rows,
        "size": writer.size,
        "sha256": writer.sha256,
    }
