"""Scores of rows that come little by little, equal to those of the whole series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowdetect.exceptions import InvalidTableError
from flowdetect.timeseries._channels import carry_forward
from flowdetect.timeseries._model import SeriesModel
from flowdetect.timeseries._preparing import PreparedStretch, Preparer, as_context_frame
from flowdetect.timeseries._reading import as_series_frame
from flowdetect.timeseries._stretch import ModelledStretch

__all__ = ["SeriesStream"]


@dataclass(frozen=True)
class _Tail:
    """The last rows of one series: channels without holes, context, numbers (-1: not given) and times."""

    stretch: ModelledStretch
    numbers: NDArray[np.int64]
    stamps: pd.Index | None

    def joined(self, other: _Tail) -> _Tail:
        values = np.concatenate([self.stretch.values, other.stretch.values])
        context = pd.concat([self.stretch.context, other.stretch.context], ignore_index=True)
        stamps = None if self.stamps is None or other.stamps is None else self.stamps.append(other.stamps)
        return _Tail(ModelledStretch(values, context), np.concatenate([self.numbers, other.numbers]), stamps)

    def part(self, first: int, last: int) -> _Tail:
        stamps = None if self.stamps is None else self.stamps[first:last]
        return _Tail(self.stretch.part(first, last), self.numbers[first:last], stamps)


class SeriesStream:
    """Keep the last rows of each series, and score those that follow.

    A row's score depends on the windows that cover it, hence on the rows less than a window before and after
    it. So the rows less than two windows before the end are all that later scores can depend on.
    """

    def __init__(self, model: SeriesModel, preparer: Preparer) -> None:
        self._model = model
        self._preparer = preparer
        self._tails: dict[Any, _Tail] = {}
        self._n_rows = 0
        # With time stamps, the last row of each series as it came: what follows it tells the gap between.
        self._last: pd.DataFrame | None = None
        self._last_context: pd.DataFrame | None = None
        self._last_numbers = np.empty(0, dtype=np.int64)

    def score(self, rows: Any, context: Any) -> pd.DataFrame:
        """Return the scores of new rows, and those of earlier rows that they change.

        Raises
        ------
        InvalidTableError
            If rows do not come after those before; nothing is remembered of them then.
        """
        rows = as_series_frame(rows)
        n_old = 0 if self._last is None else len(self._last)
        frame = rows if self._last is None else pd.concat([self._last, rows])
        given = _joined_context(self._last_context, context)
        read, prepared = self._preparer.prepare(frame, given)
        numbers = np.concatenate([self._last_numbers, self._n_rows + np.arange(len(rows))]).astype(np.int64)
        tails, found = dict(self._tails), []
        for part in prepared:
            new = self._new_rows(part, numbers, n_old, tails)
            if new is None:
                continue
            found.append(self._score_new(part.stretch.entity, new, tails))
        self._remember(frame, given, read.stamps, read.entities, numbers)
        self._tails = tails
        self._n_rows += len(rows)
        return self._table(found)

    def _new_rows(
        self, part: PreparedStretch, numbers: NDArray[np.int64], n_old: int, tails: dict[Any, _Tail]
    ) -> _Tail | None:
        """Return the rows of a stretch that are new, filled; forget the tail that they do not follow."""
        places, entity = part.stretch.rows, part.stretch.entity
        old = (places >= 0) & (places < n_old)
        if old[1:].any():
            raise InvalidTableError(
                "Rows must come after those of earlier calls; some are earlier than "
                f"{part.stamps[int(np.flatnonzero(old)[-1])] if part.stamps is not None else 'these'}"
                f"{'' if entity is None else f' of {entity!r}'}. Use restart=True to begin again."
            )
        if old[0] and len(places) == 1:
            return None
        start = int(old[0])
        if n_old and not start:
            self._check_order(part, tails)
            tails.pop(entity, None)
        tail = tails.get(entity)
        values = carry_forward(part.values[start:], None if tail is None else tail.stretch.values[-1])
        context = part.context.iloc[start:].reset_index(drop=True)
        given = np.where(places[start:] >= 0, numbers[np.maximum(places[start:], 0)], -1)
        stamps = None if part.stamps is None else part.stamps[start:]
        return _Tail(ModelledStretch(values, context), given, stamps)

    def _check_order(self, part: PreparedStretch, tails: dict[Any, _Tail]) -> None:
        tail = tails.get(part.stretch.entity)
        if tail is None or tail.stamps is None or part.stamps is None:
            return
        if part.stamps[0] <= tail.stamps[-1]:
            raise InvalidTableError(
                f"Rows must come after those of earlier calls; {part.stamps[0]} is not after "
                f"{tail.stamps[-1]}. Use restart=True to begin again."
            )

    def _score_new(self, entity: Any, new: _Tail, tails: dict[Any, _Tail]) -> pd.DataFrame:
        tail = tails.get(entity)
        joined = new if tail is None else tail.joined(new)
        n_before = len(joined.numbers) - len(new.numbers)
        reach = max(self._model.windows) - 1
        scores = self._model.score(self._model.measure(joined.stretch))
        tails[entity] = joined.part(max(0, len(scores) - 2 * reach), len(scores))
        is_new = np.arange(len(scores)) >= n_before
        told = (joined.numbers >= 0) & (np.arange(len(scores)) >= n_before - reach)
        table = pd.DataFrame({"row": joined.numbers[told], "score": scores[told], "is_new": is_new[told]})
        entity_column = self._preparer.reader.entity
        if entity_column is not None:
            table.insert(0, entity_column, [entity] * len(table))
        return table if joined.stamps is None else table.set_index(joined.stamps[told])

    def _remember(
        self,
        frame: Any,
        context: pd.DataFrame | None,
        stamps: pd.Index | None,
        entities: pd.Series | None,
        numbers: NDArray[np.int64],
    ) -> None:
        if stamps is None:
            return
        order = np.argsort(stamps.to_numpy(), kind="stable")
        groups = np.zeros(len(order), dtype=int) if entities is None else pd.factorize(entities)[0]
        last = {int(groups[place]): int(place) for place in order}
        places = np.array(sorted(last.values()))
        self._last = frame.iloc[places]
        self._last_context = None if context is None else context.iloc[places]
        self._last_numbers = numbers[places]

    def _table(self, found: list[pd.DataFrame]) -> pd.DataFrame:
        return pd.concat(found).sort_values("row", kind="stable")


def _joined_context(before: pd.DataFrame | None, context: Any) -> pd.DataFrame | None:
    if context is None:
        return None
    frame = as_context_frame(context)
    return frame if before is None else pd.concat([before, frame])
