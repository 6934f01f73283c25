"""The core: batches of rows to batches of scored rows, one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from flowdetect.calibration import conformal_p_values
from flowdetect.exceptions import InvalidTableError
from flowdetect.jobs._casting import cast
from flowdetect.jobs._drift_reference import read_column
from flowdetect.jobs._drift_scores import member_scores
from flowdetect.jobs._errors import ModelError, SchemaError
from flowdetect.jobs._output_types import retype, types_of_texts, with_types
from flowdetect.jobs._reasons import reasons
from flowdetect.jobs._rows import Rejected, Rows
from flowdetect.persistence import Model
from flowdetect.preprocessing import TableSchema

__all__ = ["ScoredRows", "expected_rate", "output_schema", "schema_of_model", "score_batches"]

ADDED = pa.schema(
    [
        ("score", pa.float64()),
        ("p_value", pa.float64()),
        ("is_anomaly", pa.bool_()),
        ("status", pa.string()),
        ("model_id", pa.string()),
        ("run_id", pa.string()),
        ("reasons", pa.string()),
    ]
)
SCORED, UNSEEN = "scored", "unseen category"
_SCORABLE = ("FlowOutlierDetector", "FlowDensity")


@dataclass(frozen=True, eq=False)
class ScoredRows:
    """Successive rows of a partition, scored.

    Parameters
    ----------
    batch : RecordBatch of n_scored rows
        What is written, see `output_schema`.
    rejected : tuple of Rejected
        The other rows, in order.
    n_read : int
        Rows that came in: as many as are scored and rejected together.
    last_row : int
        Number of the last of them, 0 for none.
    n_anomalies : int
    frame : DataFrame of n_scored rows
        What was scored.
    member_scores : ndarray of shape (n_scored, n_members), or None
        If it was asked for.
    """

    batch: pa.RecordBatch
    rejected: tuple[Rejected, ...]
    n_read: int
    last_row: int
    n_anomalies: int
    frame: pd.DataFrame
    member_scores: np.ndarray | None


def score_batches(
    rows: Iterable[Rows | pa.RecordBatch],
    model: Model,
    *,
    run_id: str,
    id_columns: Sequence[str] = (),
    n_reasons: int = 3,
    members: bool = False,
    typed: bool = False,
) -> Iterator[ScoredRows]:
    """Score rows as they come, one `ScoredRows` for each batch; a row's score does not depend on the others.

    Parameters
    ----------
    rows : iterable of RecordBatch or Rows
        Batches of pyarrow with the columns of the model, or what the partitions of `open_sources` yield.
    model : Model
        From `flowdetect.persistence.open_model`.
    run_id : str
        Written beside each row.
    id_columns : sequence of str, default=()
        The input columns that are written; all of them without it.
    n_reasons : int, default=3
        How many columns to name for each anomaly.
    members : bool, default=False
        Whether to keep the scores of each member, for `DriftMonitor`.
    typed : bool, default=False
        Whether the columns of csv files get types: float64 (int64 for integers too large for it) where the
        model has numbers, text for all others, and null for a missing entry. Else they stay as they stand.

    Raises
    ------
    SchemaError
        If columns are absent, cannot be read as those of the model, or are called as those that are added.
    ModelError
        If the model does not score rows of a table.

    Notes
    -----
    ``score`` is `score_samples`, ``p_value`` `p_values` and empty for a model without, ``is_anomaly`` tells
    whether the score lies below the model's threshold and is empty for a model without; ``status`` is
    "scored", or "unseen category" where a label is one that training never saw: such a row is unlikely by how
    rare new labels are, whatever the label.

    Examples
    --------
    >>> import numpy as np, pandas as pd, pyarrow as pa, flowdetect
    >>> from flowdetect.jobs import score_batches
    >>> from flowdetect.persistence import open_model
    >>> X = pd.DataFrame(np.random.default_rng(0).normal(size=(200, 2)), columns=["a", "b"])
    >>> path = getfixture("tmp_path") / "m.flow"
    >>> model_id = flowdetect.save(flowdetect.FlowDensity(max_steps=2, random_state=0).fit(X), path)
    >>> batches = pa.Table.from_pandas(X).to_batches(max_chunksize=80)
    >>> [scored.batch.num_rows for scored in score_batches(batches, open_model(path), run_id="tonight")]
    [80, 80, 40]
    """
    schema = schema_of_model(model)
    for piece in _numbered(rows):
        columns = output_schema(piece.batch.schema, id_columns, piece.partition)
        frame, positions, refused = cast(piece, schema)
        by_member, scores = _scores(model.estimator, frame, members=members)
        finite = np.isfinite(scores)
        if not finite.all():
            refused += [
                Rejected(piece.partition, int(number), None, "score", str(score))
                for number, score in zip(piece.numbers[positions[~finite]], scores[~finite], strict=True)
            ]
            frame, positions, scores = frame[finite].reset_index(drop=True), positions[finite], scores[finite]
            by_member = None if by_member is None else by_member[finite]
        added, n_anomalies = _added(model, frame, scores, run_id, n_reasons)
        kept = _kept(piece.batch, positions, id_columns)
        if typed and piece.missing_texts is not None:
            kinds = types_of_texts(piece, schema)
            kept, columns = retype(kept, kinds, piece.missing_texts), with_types(columns, kinds)
        rejected = sorted([*piece.rejected, *refused], key=lambda each: each.row)
        yield ScoredRows(
            pa.RecordBatch.from_arrays([*kept.columns, *added], schema=columns),
            tuple(rejected),
            piece.batch.num_rows + len(piece.rejected),
            max([int(number) for number in piece.numbers[-1:]] + [each.row for each in rejected[-1:]] + [0]),
            n_anomalies,
            frame,
            by_member,
        )


def schema_of_model(model: Model) -> TableSchema:
    """Return what the model learnt of its table.

    Raises
    ------
    ModelError
        If it does not score rows of a table.
    """
    name = model.manifest["class"]
    if name not in _SCORABLE:
        raise ModelError(f"the model is a {name}; a job scores rows with {' or '.join(_SCORABLE)}.")
    if model.estimator.context_encoder_ is not None:
        raise ModelError("the model was fitted with context, which a job cannot give it.")
    schema: TableSchema = model.estimator.encoder_.schema_
    return schema


def output_schema(schema: pa.Schema, id_columns: Sequence[str], name: str) -> pa.Schema:
    """Return the columns of the output: those of the input, or the ones asked for, and `ADDED`.

    Raises
    ------
    SchemaError
        If one is absent, or called as one that is added.
    """
    absent = [column for column in id_columns if column not in schema.names]
    if absent:
        raise SchemaError(f"'{name}' has no column '{absent[0]}', which the id columns name.")
    kept = [schema.field(column) for column in id_columns or schema.names]
    taken = [entry.name for entry in kept if entry.name in ADDED.names]
    if taken:
        raise SchemaError(
            f"'{name}' already has a column '{taken[0]}': rename it, or name the id columns to keep."
        )
    return pa.schema([*kept, *ADDED])


def expected_rate(estimator: Any) -> float | None:
    """Return the share of normal rows below the threshold, by held-out scores; None without any."""
    calibration = getattr(estimator, "_calibration_scores", None)
    if calibration is None:
        return None
    return float(1 + np.sum(calibration < estimator.offset_)) / (len(calibration) + 1)


def _numbered(rows: Iterable[Rows | pa.RecordBatch]) -> Iterator[Rows]:
    """Yield rows with their numbers; batches are taken for one source that is called "rows"."""
    seen = 0
    for piece in rows:
        if isinstance(piece, pa.RecordBatch):
            numbers = np.arange(seen + 1, seen + piece.num_rows + 1)
            piece = Rows(piece, numbers, partition="rows")
        seen += piece.batch.num_rows
        yield piece


# --- inside ----------------------------------------------------------------------------------------------


def _scores(estimator: Any, frame: pd.DataFrame, *, members: bool) -> tuple[np.ndarray | None, np.ndarray]:
    if not len(frame):
        return None, np.zeros(0)
    try:
        if members:
            by_member = member_scores(estimator, frame)
            return by_member, by_member.max(axis=1)
        return None, np.asarray(estimator.score_samples(frame), dtype=np.float64)
    except InvalidTableError as error:
        raise SchemaError(f"the model refuses rows: {error}") from error


def _added(
    model: Model, frame: pd.DataFrame, scores: np.ndarray, run_id: str, n_reasons: int
) -> tuple[list[pa.Array], int]:
    estimator, n_rows = model.estimator, len(scores)
    calibration = getattr(estimator, "_calibration_scores", None)
    p_values = pa.nulls(n_rows, pa.float64())
    if calibration is not None:
        p_values = pa.array(conformal_p_values(scores, calibration))
    is_anomaly: np.ndarray | None = None
    if hasattr(estimator, "offset_"):
        is_anomaly = scores < estimator.offset_
    texts = [
        _status(estimator, frame),
        *(pa.repeat(pa.scalar(text), n_rows) for text in (model.model_id, run_id)),
    ]
    flags = pa.nulls(n_rows, pa.bool_()) if is_anomaly is None else pa.array(is_anomaly)
    why = _reasons(estimator, frame, is_anomaly, n_reasons)
    n_anomalies = 0 if is_anomaly is None else int(is_anomaly.sum())
    return [pa.array(scores), p_values, flags, *texts, why], n_anomalies


def _status(estimator: Any, frame: pd.DataFrame) -> pa.Array:
    unseen = np.zeros(len(frame), dtype=np.int8)
    for position, column in enumerate(estimator.encoder_.schema_.columns if len(frame) else ()):
        if column.storage.family == "label" and column.copy_of is None:
            entries = read_column(frame, position, column)
            if isinstance(entries, tuple):
                places, labels = entries
                unseen |= np.append(places < 0, False)[labels]
    return pa.DictionaryArray.from_arrays(pa.array(unseen), [SCORED, UNSEEN]).dictionary_decode()


def _reasons(estimator: Any, frame: pd.DataFrame, is_anomaly: np.ndarray | None, n_reasons: int) -> pa.Array:
    if is_anomaly is None or not n_reasons or not is_anomaly.any():
        return pa.nulls(len(frame), pa.string())
    rows = frame[is_anomaly].reset_index(drop=True)
    texts = np.full(len(frame), None, dtype=object)
    texts[is_anomaly] = reasons(rows, estimator.explain(rows), n_reasons)
    return pa.array(texts, pa.string())


def _kept(batch: pa.RecordBatch, positions: np.ndarray, id_columns: Sequence[str]) -> pa.RecordBatch:
    kept = batch.select(list(id_columns)) if id_columns else batch
    if len(positions) == batch.num_rows:
        return kept
    mask = np.zeros(batch.num_rows, dtype=bool)
    mask[positions] = True
    return kept.filter(pa.array(mask))
