"""Settings of jobs: from a TOML file, environment variables and flags; the later ones win."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from flowdetect.jobs import _setting_values as values
from flowdetect.jobs._errors import UsageError
from flowdetect.jobs._setting_values import BadRowLimit

__all__ = ["BadRowLimit", "DriftSettings", "FitSettings", "ScoreSettings", "read_settings"]

_SECTIONS = ("score", "fit", "drift")
_FAIL_ON = ("anomalies", "drift", "quarantine")

T = TypeVar("T")


# --- the settings ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """What `run_score` is to do.

    Parameters
    ----------
    model : str
        A model file.
    sources : tuple of str
        Files, folders, globs, "-" or URLs, see `open_sources`.
    out : str
        A file, a folder (ends in "/"), "-" or a URL, see `open_target`.
    format, out_format : str, optional
        Of the sources, and of the target, where names do not tell.
    query : str, optional
        What to read from a database.
    na_values : tuple of str
        Texts of csv files that mean a missing entry, besides those of pandas.
    id_columns : tuple of str
        The only columns that are copied from the input; without them all are.
    reasons : int, default=3
        How many columns to name for each anomaly; 0 leaves them out, which saves time.
    quarantine : str, optional
        A file, or a folder, for rows that cannot be scored. Without it the first such row stops the job.
    max_bad_rows : str, optional
        "N" rows of the run or "x%" of the rows of a source file may be quarantined; more stop the job.
    resume : bool, default=False
        Leave alone the files of a folder that an interrupted run has finished, if they are still as it left
        them.
    prune : bool, default=False
        Remove the files of a folder that the run before has written and this one does not, as their sources
        are gone, if they are still as it left them. Without it they stay, and the log says so.
    manifest : str, optional
        File that says what a run did, written last. By default beside the target; none for other targets.
    metrics : str, optional
        File for the textfile collector of Prometheus.
    fail_on : tuple of {"anomalies", "drift", "quarantine"}
        What makes the job end with exit code 1.
    drift : bool, default=False
        Look for drift; `metrics`, and `fail_on` with "drift", do too.
    alpha : float, default=0.01
        Rate of false alarms of the drift test.
    ignore : tuple of str
        Columns that the drift test leaves out.
    sha256 : str, optional
        The only model id that is accepted.
    run_key : str, optional
        What tells runs apart, such as the date. In a table of a database it is a column, and a run replaces
        the rows of the same key, whatever the model, the settings and the inputs were.
    batch_rows : int, default=65536
        Rows at a time.
    threads : int, optional
        As many as torch takes without it.
    wait : float, default=0
        Seconds to wait for another run that writes to the same target.
    """

    model: str = values.setting("", values.text)
    sources: tuple[str, ...] = values.setting((), values.texts)
    out: str = values.setting("", values.text)
    format: str | None = values.setting(None, values.text)
    out_format: str | None = values.setting(None, values.text)
    query: str | None = values.setting(None, values.text)
    na_values: tuple[str, ...] = values.setting((), values.texts)
    id_columns: tuple[str, ...] = values.setting((), values.texts)
    reasons: int = values.setting(3, values.whole(0))
    quarantine: str | None = values.setting(None, values.text)
    max_bad_rows: str | None = values.setting(None, values.limit)
    resume: bool = values.setting(False, values.switch)
    prune: bool = values.setting(False, values.switch)
    manifest: str | None = values.setting(None, values.text)
    metrics: str | None = values.setting(None, values.text)
    fail_on: tuple[str, ...] = values.setting((), values.some_of(*_FAIL_ON))
    drift: bool = values.setting(False, values.switch)
    alpha: float = values.setting(0.01, values.number(1e-4, 0.49))
    ignore: tuple[str, ...] = values.setting((), values.texts)
    sha256: str | None = values.setting(None, values.text)
    run_key: str | None = values.setting(None, values.text)
    batch_rows: int = values.setting(65_536, values.whole(1))
    threads: int | None = values.setting(None, values.whole(1))
    wait: float = values.setting(0.0, values.number(0.0, 86_400.0))

    def __post_init__(self) -> None:
        _check(self, required=("model", "sources", "out"))

    @property
    def limit(self) -> BadRowLimit:
        """The limit of `max_bad_rows`."""
        return BadRowLimit() if self.max_bad_rows is None else BadRowLimit.read(self.max_bad_rows)

    @property
    def wants_drift(self) -> bool:
        """Whether drift is looked for."""
        return self.drift or self.metrics is not None or "drift" in self.fail_on


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """What `run_fit` is to do.

    Parameters
    ----------
    sources : tuple of str
        The training rows: files, folders, globs or URLs, see `open_sources`. They are read into memory.
    out : str
        The model file to write.
    estimator : {"detector", "density"}, default="detector"
        `FlowOutlierDetector` or `FlowDensity`.
    drop : tuple of str
        Columns that are left out of the fit.
    folder_columns : bool, default=False
        Learn columns that only the names of folders hold as well, such as ``date=2026-11-01``.
    format, query, na_values
        As for `ScoreSettings`.
    text_columns : tuple of str
        Columns of csv files whose entries are labels, even if nearly all of them are numbers.
    quarantine : str, optional
        A file for rows that cannot be used: those with more or fewer fields than the header has, and those
        with something else in a column where nearly all entries (90 %) are numbers. Without it the first
        such row stops the job.
    max_bad_rows : str, optional
        As for `ScoreSettings`.
    contamination, false_alarm_rate : optional
        As for `FlowOutlierDetector`.
    seed : int, default=0
        The same seed gives the same model.
    max_steps : int, optional
        Train for fewer steps.
    parameters : dict
        Further parameters of the estimator; a table of the TOML file.
    metadata : dict
        What the model file is to say of itself; a table of the TOML file.
    wait : float, default=0
        Seconds to wait for another run that writes the same file.
    """

    sources: tuple[str, ...] = values.setting((), values.texts)
    out: str = values.setting("", values.text)
    estimator: str = values.setting("detector", values.one_of("detector", "density"))
    drop: tuple[str, ...] = values.setting((), values.texts)
    format: str | None = values.setting(None, values.text)
    query: str | None = values.setting(None, values.text)
    na_values: tuple[str, ...] = values.setting((), values.texts)
    folder_columns: bool = values.setting(False, values.switch)
    text_columns: tuple[str, ...] = values.setting((), values.texts)
    quarantine: str | None = values.setting(None, values.text)
    max_bad_rows: str | None = values.setting(None, values.limit)
    contamination: str | float | None = values.setting(None, values.contamination)
    false_alarm_rate: float | None = values.setting(None, values.number(0.0, 1.0))
    seed: int = values.setting(0, values.whole(0))
    max_steps: int | None = values.setting(None, values.whole(1))
    parameters: dict[str, Any] = field(default_factory=dict, metadata={"read": values.table})
    metadata: dict[str, Any] = field(default_factory=dict, metadata={"read": values.table})
    wait: float = values.setting(0.0, values.number(0.0, 86_400.0))

    def __post_init__(self) -> None:
        _check(self, required=("sources", "out"))

    @property
    def limit(self) -> BadRowLimit:
        """The limit of `max_bad_rows`."""
        return BadRowLimit() if self.max_bad_rows is None else BadRowLimit.read(self.max_bad_rows)


@dataclass(frozen=True, kw_only=True)
class DriftSettings:
    """What ``flowdetect drift`` is to do.

    Parameters
    ----------
    model, sources, format, query, na_values, sha256, batch_rows
        As for `ScoreSettings`.
    alpha, ignore
        As for `DriftMonitor`.
    plot : str, optional
        A picture to write.
    fail_on : tuple of {"drift"}
        What makes it end with exit code 1.
    """

    model: str = values.setting("", values.text)
    sources: tuple[str, ...] = values.setting((), values.texts)
    format: str | None = values.setting(None, values.text)
    query: str | None = values.setting(None, values.text)
    na_values: tuple[str, ...] = values.setting((), values.texts)
    sha256: str | None = values.setting(None, values.text)
    batch_rows: int = values.setting(65_536, values.whole(1))
    alpha: float = values.setting(0.01, values.number(1e-4, 0.49))
    ignore: tuple[str, ...] = values.setting((), values.texts)
    plot: str | None = values.setting(None, values.text)
    fail_on: tuple[str, ...] = values.setting((), values.some_of("drift"))

    def __post_init__(self) -> None:
        _check(self, required=("model", "sources"))


def _check(settings: Any, *, required: tuple[str, ...]) -> None:
    for name in required:
        if not getattr(settings, name):
            raise UsageError(f"'{name}' is not set: on the command line, in the TOML file or as a variable.")
    for entry in dataclasses.fields(settings):
        value = getattr(settings, entry.name)
        if value is not None:
            object.__setattr__(settings, entry.name, _read(entry, value, f"'{entry.name}'"))


def _read(entry: Any, value: Any, where: str) -> Any:
    try:
        return entry.metadata["read"](value)
    except ValueError as error:
        raise UsageError(f"{where} must be {error}; got {value!r}.") from error


# --- where they come from -------------------------------------------------------------------------------


def read_settings(
    kind: Callable[..., T],
    section: str,
    *,
    config: str | Path | None = None,
    environment: Mapping[str, str],
    flags: Mapping[str, Any],
) -> T:
    """Put settings together: flags win over variables, and these over the file.

    Parameters
    ----------
    kind : type
        One of the classes of settings.
    section : str
        Table of the TOML file; in capitals part of the names of variables: ``FLOWDETECT_SCORE_OUT``.
    config : str or Path, optional
    environment : mapping of str to str
        ``os.environ``.
    flags : mapping
        Those that are None or empty were not given.

    Raises
    ------
    UsageError
        If the file cannot be read, or something has no such name, or not such a value.
    """
    fields = {entry.name: entry for entry in dataclasses.fields(kind)}  # type: ignore[arg-type]
    given: dict[str, Any] = {}
    for name, value in _from_file(config, section).items():
        key = name.replace("-", "_")
        if key not in fields:
            raise UsageError(f"'{config}' sets '{name}' in [{section}]; there are {', '.join(fields)}.")
        given[key] = _read(fields[key], value, f"'{name}' in '{config}'")
    prefix = f"FLOWDETECT_{section.upper()}_"
    for variable in sorted(name for name in environment if name.startswith(prefix)):
        key = variable.removeprefix(prefix).lower()
        if key == "config":
            continue
        if key not in fields or fields[key].metadata["read"] is values.table:
            raise UsageError(f"there is no setting for the environment variable {variable}.")
        given[key] = _read(fields[key], environment[variable], variable)
    given |= {name: value for name, value in flags.items() if value not in (None, (), [])}
    return kind(**given)


def _from_file(config: str | Path | None, section: str) -> dict[str, Any]:
    if config is None:
        return {}
    try:
        content = tomllib.loads(Path(config).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"'{config}' cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"'{config}' is not TOML: {error}.") from error
    unknown = [name for name in content if name not in _SECTIONS]
    if unknown:
        raise UsageError(f"'{config}' has '{unknown[0]}' at its top; there are [{'], ['.join(_SECTIONS)}].")
    table = content.get(section, {})
    if not isinstance(table, dict):
        raise UsageError(f"'{section}' in '{config}' must be a table: [{section}].")
    return table
