"""Texts as the numbers, times and labels that they mean, each by itself: no other row changes its reading."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

__all__ = [
    "drop_missing_texts",
    "parse_bools",
    "parse_durations",
    "parse_integers",
    "parse_labels",
    "parse_numbers",
    "parse_times",
]

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_INFINITE = r"(?i)^[+-]?inf(inity)?$"
_INTEGER = r"^[+-]?\d+$"
_OFFSET = r"[T ]\d\d[\d:.,]*\s?([Zz]|[+-]\d\d(:?\d\d)?)$"
_DURATION = r"[A-Za-z:]"
_BOOLS = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
_TRUE, _FALSE = ([word for word, value in _BOOLS.items() if value is wanted] for wanted in (True, False))
_INT64 = range(-(2**63), 2**63)


def drop_missing_texts(texts: pa.Array, missing: Iterable[str]) -> pa.Array:
    """Return the texts with those that mean a missing entry as nulls."""
    absent = pc.is_in(texts, value_set=pa.array(sorted(missing), texts.type))
    return pc.if_else(absent, pa.scalar(None, texts.type), texts) if pc.any(absent).as_py() else texts


def parse_numbers(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return float64 numbers, NaN where the text is null, and which texts are no numbers.

    Parameters
    ----------
    texts : StringArray of shape (n_rows,)
        With or without blanks around the numbers; "inf" and what exceeds the range of float64 is infinite.

    Returns
    -------
    numbers : ndarray of float64, shape (n_rows,)
        NaN where the text is null or no number.
    wrong : ndarray of bool, shape (n_rows,)
    """
    try:
        numbers = _floats(texts)
    except pa.ArrowInvalid:
        trimmed = pc.ascii_trim_whitespace(texts)
        fits = pc.or_(_matches(trimmed, _NUMBER), _matches(trimmed, _INFINITE))
        numbers = _floats(pc.if_else(fits, trimmed, None))
    # "nan" in other spellings than those that mean missing is no number.
    return numbers, np.isnan(numbers) & _given(texts)


def parse_bools(texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return 1.0 for True, 0.0 for False, numbers as they are, NaN for null, and which are none of these."""
    true, false = (pc.is_in(texts, value_set=pa.array(words, texts.type)) for words in (_TRUE, _FALSE))
    others = pc.if_else(pc.or_(true, false), pa.scalar(None, texts.type), texts)
    numbers, wrong = parse_numbers(others)
    numbers[_mask(true)], numbers[_mask(false)] = 1.0, 0.0
    return numbers, wrong


def parse_integers(texts: pa.Array) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return exact int64 integers, 0 where the text is null or wrong.

    Returns
    -------
    integers : ndarray of int64, shape (n_rows,)
    missing : ndarray of bool, shape (n_rows,)
        Which texts are null.
    broken : dict of str to ndarray of bool, shape (n_rows,)
        By rule, which texts are no number, not whole, or beyond 64 bits.
    """
    trimmed = pc.ascii_trim_whitespace(texts)
    whole = _mask(_matches(trimmed, _INTEGER))
    broken = {rule: np.zeros(len(texts), dtype=bool) for rule in ("number", "infinity", "integer", "range")}
    missing = ~_given(texts)
    integers = np.zeros(len(texts), dtype=np.int64)
    try:
        plain = pc.if_else(pa.array(whole), pc.ascii_ltrim(trimmed, characters="+"), None)
        integers[whole] = plain.drop_null().cast(pa.int64()).to_numpy(zero_copy_only=False)
        odd = np.flatnonzero(~whole & ~missing)
    except pa.ArrowInvalid:
        odd = np.flatnonzero(~missing)
    for row in odd:
        value, rule = _read_integer(trimmed[row].as_py())
        integers[row] = value
        if rule:
            broken[rule][row] = True
    return integers, missing, broken


def _read_integer(text: str) -> tuple[int, str | None]:
    """Return the whole number that a text means, and the rule that it breaks."""
    try:
        value = Decimal(text.replace("_", "?"))
    except InvalidOperation:
        return 0, "number"
    if not value.is_finite():
        return 0, "number" if value.is_nan() else "infinity"
    if value.adjusted() > 20:
        return 0, "range"
    if value != int(value):
        return 0, "integer"
    return (int(value), None) if int(value) in _INT64 else (0, "range")


def parse_times(texts: pa.Array, *, aware: bool) -> tuple[pd.Series, np.ndarray]:
    """Read dates and times of ISO 8601.

    Parameters
    ----------
    texts : StringArray of shape (n_rows,)
    aware : bool
        Whether every text must name its offset from UTC (then the times are in UTC), or none.

    Returns
    -------
    times : Series of datetime64, shape (n_rows,)
        NaT where the text is null or wrong.
    wrong : ndarray of bool, shape (n_rows,)
    """
    trimmed = drop_missing_texts(pc.ascii_trim_whitespace(texts), ["NaT"])
    fits = _matches(trimmed, _OFFSET) if aware else pc.invert(_matches(trimmed, _OFFSET))
    usable = pc.if_else(fits, trimmed, None).to_pandas().astype(object)
    times = pd.to_datetime(usable, format="ISO8601", errors="coerce", utc=aware)
    return times, times.isna().to_numpy() & _given(trimmed)


def parse_durations(texts: pa.Array) -> tuple[pd.Series, np.ndarray]:
    """Return durations with units ("1 days 02:00:00", "5 s"), NaT where null, and which texts are none."""
    trimmed = drop_missing_texts(pc.ascii_trim_whitespace(texts), ["NaT"])
    usable = pc.if_else(_matches(trimmed, _DURATION), trimmed, None).to_pandas().astype(object)
    spans = pd.to_timedelta(usable, errors="coerce")
    return spans, spans.isna().to_numpy() & _given(trimmed)


def parse_labels(texts: pa.Array, levels: tuple[Any, ...]) -> pd.Series:
    """Return the labels that the texts mean, missing where they are null.

    Parameters
    ----------
    texts : StringArray of shape (n_rows,)
    levels : tuple
        Labels seen in training. A text is the level of this text; failing that the number or truth value that
        it reads as, if some level is one, or the level that prints like it; else it stays a text.
    """
    known = {level for level in levels if isinstance(level, str)}
    if len(known) == len(levels):
        return texts.to_pandas()
    encoded = texts.dictionary_encode()
    others = {str(level): level for level in levels if level not in known}
    numeric = any(isinstance(level, int | float) and not isinstance(level, bool) for level in levels)
    truth = any(isinstance(level, bool) for level in levels)
    meanings = np.empty(len(encoded.dictionary) + 1, dtype=object)
    for code, text in enumerate(encoded.dictionary.to_pylist()):
        if text in known:
            meanings[code] = text
        elif truth and text in _BOOLS:
            meanings[code] = _BOOLS[text]
        else:
            meanings[code] = _read_number(text) if numeric else None
            meanings[code] = others.get(text, text) if meanings[code] is None else meanings[code]
    meanings[-1] = None
    codes = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False)
    return pd.Series(meanings[codes], dtype=object)


def _read_number(text: str) -> int | float | None:
    numbers, wrong = parse_numbers(pa.array([text]))
    if wrong[0]:
        return None
    integers, _, broken = parse_integers(pa.array([text]))
    return float(numbers[0]) if any(mask[0] for mask in broken.values()) else int(integers[0])


def _floats(texts: pa.Array) -> np.ndarray:
    return np.array(texts.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def _matches(texts: pa.Array, pattern: str) -> pa.Array:
    return pc.fill_null(pc.match_substring_regex(texts, pattern), False)


def _mask(array: pa.Array) -> np.ndarray:
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=bool)


def _given(texts: pa.Array) -> np.ndarray:
    return _mask(pc.is_valid(texts))
