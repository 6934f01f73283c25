import numpy as np
import pandas as pd
import pytest

from flowdetect.estimators import _rows
from flowdetect.estimators._rows import EncodedRows, as_context_frame, check_weights, known_columns
from flowdetect.exceptions import InvalidTableError, TableWarning
from flowdetect.preprocessing import TableEncoder


def test_a_large_table_is_encoded_block_by_block_to_the_same_model(quick, name, table, new_rows, monkeypatch):
    kept = quick(name).fit(table)
    monkeypatch.setattr(_rows, "_MAX_CACHED", 0)
    lazy = quick(name).fit(table)
    assert np.array_equal(lazy.score_samples(new_rows), kept.score_samples(new_rows))


def test_the_same_with_context(quick, table, new_rows, monkeypatch):
    X, context = table[["size", "weight"]], table.drop(columns=["size", "weight"])
    kept = quick("density").fit(X, context=context)
    monkeypatch.setattr(_rows, "_MAX_CACHED", 0)
    lazy = quick("density").fit(X, context=context)
    given = {"X": new_rows[["size", "weight"]], "context": new_rows[context.columns]}
    assert np.array_equal(lazy.score_samples(**given), kept.score_samples(**given))


def test_lattice_values_get_fresh_noise_for_training_only(table):
    X = table[["count"]]
    source = EncodedRows(TableEncoder().fit(X), X)
    index, rng = np.arange(5), np.random.default_rng(0)
    first, second = (source.rows(index, rng).inputs for _ in range(2))
    assert not first.equal(second)
    assert source.rows(index, None).inputs.equal(source.rows(index, None).inputs)


def test_a_subset_has_its_own_numbering(table):
    weights = np.arange(len(table), dtype=float)
    source = EncodedRows(TableEncoder().fit(table), table, weights=weights)
    part = source.subset(np.array([5, 9, 11]))
    assert len(part) == 3
    assert part.weights.tolist() == [5.0, 9.0, 11.0]
    batch = part.rows(np.array([2, 0]), None)
    assert batch.inputs.shape == (2, source.encoded(np.array([0])).shape[1])
    assert batch.weights.tolist() == [11.0, 5.0]


# --- weights -----------------------------------------------------------------------------------------------


def test_rows_of_weight_zero_are_left_out(quick, name, table, new_rows):
    X = table.copy()
    X["colour"] = X["colour"].astype(object)
    left_out = np.arange(len(X)) % 4 == 1
    X.loc[left_out, "size"] = np.nan  # which no other row has
    X.loc[left_out, "colour"] = "transparent"
    X.loc[left_out, "count"] = 10**9
    weighted = quick(name).fit(X, sample_weight=1.0 - left_out)
    without = quick(name).fit(X[~left_out], sample_weight=np.ones((~left_out).sum()))
    rows = new_rows.assign(colour=new_rows["colour"].astype(object))
    assert np.array_equal(weighted.score_samples(rows), without.score_samples(rows))


def test_context_of_rows_of_weight_zero_is_left_out(quick, blob):
    left_out = np.arange(len(blob)) < 20
    context = np.where(left_out, 1e6, blob[:, 0])
    weighted = quick("density").fit(blob[:, 1:], context=context, sample_weight=2.0 * ~left_out)
    without = quick("density").fit(
        blob[20:, 1:], context=blob[20:, 0], sample_weight=np.full(len(blob) - 20, 2.0)
    )
    given = {"X": blob[:5, 1:], "context": blob[:5, 0]}
    assert np.array_equal(weighted.score_samples(**given), without.score_samples(**given))


def test_equal_weights_are_no_weights(quick, name, blob):
    plain = quick(name).fit(blob)
    equal = quick(name).fit(blob, sample_weight=np.full(len(blob), 3))
    assert equal.score_samples(blob) == pytest.approx(plain.score_samples(blob), abs=1e-2)


def test_weights_act_like_repeated_rows(quick):
    rng = np.random.default_rng(0)
    left, right = rng.normal(-3, 0.7, 150), rng.normal(3, 0.7, 150)
    X = np.concatenate([left, right])[:, None]
    weighted = quick("density", max_steps=200).fit(X, sample_weight=np.repeat([1.0, 3.0], 150))
    repeated = quick("density", max_steps=200).fit(np.concatenate([left, *[right] * 3])[:, None])
    grid = np.linspace(-8, 8, 400)
    for density in (weighted, repeated):
        p = np.exp(density.score_samples(grid[:, None]))
        assert p[grid > 0].sum() / p.sum() == pytest.approx(0.75, abs=0.06)


def test_code_frequencies_are_weighted(quick):
    X = pd.DataFrame({"a": ["x"] * 30 + ["y"] * 30})
    density = quick("density", max_steps=1).fit(X, sample_weight=np.repeat([1.0, 9.0], 30))
    p = np.exp(density.score_samples(pd.DataFrame({"a": ["x", "y"]})))
    assert p == pytest.approx([0.1, 0.9], abs=0.03)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(4), r"sample_weight must have shape \(5,\), one number per row of X; got shape \(4,\)"),
        (np.ones((5, 1)), r"got shape \(5, 1\)"),
        (2.0, r"got shape \(\)"),
        ([1, 1, -2, 1, 1], r"finite and not negative; got -2\.0 in row 2\. Give a row the weight 0"),
        ([1, np.nan, 1, 1, 1], r"got nan in row 1"),
        ([1, np.inf, 1, 1, 1], r"got inf in row 1"),
        (np.zeros(5), r"above zero for at least 2 row\(s\); got 0 of 5"),
        ([0, 0, 0, 0, 1], r"got 1 of 5"),
        (["a"] * 5, "must hold numbers; got text or objects: could not convert"),
    ],
)
def test_weights_that_cannot_be_used(weights, message):
    with pytest.raises(InvalidTableError, match=message):
        check_weights(weights, 5, least=2)


def test_weights_are_checked_by_fit(quick, name, blob):
    with pytest.raises(InvalidTableError, match=r"above zero for at least 2 row\(s\); got 0 of 120"):
        quick(name).fit(blob, sample_weight=np.zeros(len(blob)))


# --- context and columns -----------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", [[1.0, 2.0], np.array([1.0, 2.0]), pd.Series([1.0, 2.0]), [[1.0], [2.0]]])
def test_a_vector_is_one_column_of_context(vector):
    assert as_context_frame(vector, 2).shape == (2, 1)


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (np.zeros((3, 1)), "one row per row of X; got 3 rows of context for 2 of X"),
        (np.zeros((2, 1, 1)), r"a two-dimensional array or a vector.*got ndarray of shape \(2, 1, 1\)"),
        (7, r"got int of shape \(\)"),
        (pd.DataFrame({"a": []}), r"with at least one row; got DataFrame of shape \(0, 1\)"),
    ],
)
def test_context_that_cannot_be_used(context, message):
    with pytest.raises(InvalidTableError, match=message):
        as_context_frame(context, 2)


def test_columns_are_looked_at_once(table):
    encoder = TableEncoder().fit(table)
    with pytest.warns(TableWarning, match="they are ignored: 'extra'") as caught:
        known = known_columns(encoder, table.assign(extra=1)[["extra", *table.columns[::-1]]])
    assert len(caught) == 1
    assert list(known.columns) == list(table.columns)
    assert known_columns(encoder, table) is table
