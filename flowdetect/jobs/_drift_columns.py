"""One column, or the scores, of new rows beside those of the training rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowdetect.jobs._drift_reference import LevelReference, NumberReference
from flowdetect.jobs._drift_report import ColumnDrift, ScoreDrift
from flowdetect.jobs._drift_tests import Finding, GapTest, event_test, holm, level_test, rarity_test
from flowdetect.preprocessing import ColumnSchema
from flowdetect.preprocessing._storage import restore_numbers

__all__ = ["adjust", "compare_column", "compare_scores", "shortened"]

_DRAWS = 19_999
_LONGEST_TEXT = 40


def compare_scores(reference: NumberReference, counts: NDArray[np.int64], alpha: float) -> ScoreDrift:
    """Compare new scores with held-out ones.

    Parameters
    ----------
    reference : NumberReference
        Of the held-out scores.
    counts : ndarray of int64
        What it counted of the new ones.
    alpha : float
        Rate of false alarms of this comparison.
    """
    test = GapTest(np.array(reference.counts), counts[:-1])
    n_draws = max(_DRAWS, math.ceil(100.0 / alpha))
    largest = test.largest_draws(n_draws)
    worst = int(np.argmax(np.abs(test.deviations)))
    p_value = test.find(n_draws).p_value
    return ScoreDrift(
        p_value=p_value,
        drift=p_value <= alpha,
        level=float(test.levels[worst]),
        share=float(test.shares[worst]),
        n_reference=sum(reference.counts),
        levels=tuple(test.levels.tolist()),
        shares=tuple(test.shares.tolist()),
        deviations=tuple(test.deviations.tolist()),
        critical=float(np.sqrt(largest[min(math.ceil((1.0 - alpha) * n_draws), n_draws) - 1])),
    )


def compare_column(
    column: ColumnSchema,
    reference: NumberReference | LevelReference,
    counts: NDArray[np.int64],
    levels: Sequence[Any],
    examples: Sequence[str],
    n_draws: int,
) -> ColumnDrift:
    """Compare the entries of a column with those of the training rows.

    Parameters
    ----------
    column : ColumnSchema
    reference : NumberReference or LevelReference
    counts : ndarray of int64
        What the reference counted of the new entries.
    levels : sequence
        The levels that the reference means by their positions.
    examples : sequence of str
        Some labels that training did not know.
    n_draws : int
        Bounds the effort for a p-value.

    Returns
    -------
    ColumnDrift
        ``p_adjusted`` and ``drift`` as if it were the only column.
    """
    if isinstance(reference, NumberReference):
        found = _compare_numbers(column, reference, counts, n_draws)
    else:
        found = _compare_levels(reference, counts, levels, examples, n_draws)
    n_known = int(sum(reference.counts)) + (reference.n_rest if isinstance(reference, LevelReference) else 0)
    if column.missing or column.storage.family == "label":
        n_old, n_new = n_known + reference.n_missing, int(counts.sum())
        found["missing"] = event_test(reference.n_missing, n_old, int(counts[-1]), n_new)
    what, finding = min(found.items(), key=lambda item: item[1].p_value)
    p_value = min(1.0, finding.p_value * len(found))
    expected, share = (None if math.isnan(share) else share for share in (finding.expected, finding.share))
    return ColumnDrift(str(column.name), what, expected, share, p_value, p_value, False)


def adjust(columns: Sequence[ColumnDrift], alpha: float) -> tuple[ColumnDrift, ...]:
    """Adjust the p-values for the number of columns, and put the most changed one first."""
    adjusted = holm([column.p_value for column in columns]).tolist()
    judged = [replace(c, p_adjusted=p, drift=p <= alpha) for c, p in zip(columns, adjusted, strict=True)]
    return tuple(sorted(judged, key=lambda column: column.p_value))


# --- inside ----------------------------------------------------------------------------------------------


def _compare_numbers(
    column: ColumnSchema, reference: NumberReference, counts: NDArray[np.int64], n_draws: int
) -> dict[str, Finding]:
    finding = GapTest(np.array(reference.counts), counts[:-1]).find(n_draws)
    if finding.event < 0:
        return {"": finding}
    if column.copy_of is not None:
        return {
            "unlike the column it copied": replace(
                finding, expected=0.0, share=float(counts[2] / counts.sum())
            )
        }
    edge, at = divmod(finding.event, 2)
    value = restore_numbers(np.array([reference.edges[edge]]), column.storage).iloc[0]
    text = f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)
    return {f"{'<=' if at else '<'} {text}": finding}


def _compare_levels(
    reference: LevelReference,
    counts: NDArray[np.int64],
    levels: Sequence[Any],
    examples: Sequence[str],
    n_draws: int,
) -> dict[str, Finding]:
    n_levels = len(reference.levels)
    n_known = sum(reference.counts) + reference.n_rest
    such_as = f", such as {', '.join(map(repr, examples))}" if examples else ""
    found = {
        f"rare or unseen{such_as}": rarity_test(
            reference.n_rare, reference.spread, n_known, int(counts[n_levels]), int(counts[:-1].sum())
        )
    }
    if n_levels > 1:
        finding = level_test(np.array(reference.counts), counts[:n_levels], n_draws)
        known = finding.event >= 0
        name = (
            f"= {shortened(levels[reference.levels[finding.event]])!r}" if known else "less frequent levels"
        )
        found[name] = finding
    return found


def shortened(label: Any) -> str:
    """Return a label as text that fits on a line."""
    text = str(label)
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"
