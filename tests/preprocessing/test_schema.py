import datetime
import decimal
import json

import numpy as np
import pandas as pd
import pytest

from flowdetect.exceptions import InvalidTableError
from flowdetect.preprocessing import TableEncoder, TableSchema


def mixed_table(n_rows=400, seed=0):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "plain": rng.normal(size=n_rows),
            "heavy": rng.standard_cauchy(n_rows),
            "inflated": np.where(rng.random(n_rows) < 0.3, 0.0, rng.gamma(2, size=n_rows)),
            "count": rng.poisson(30, n_rows),
            "grade": rng.integers(1, 5, n_rows),
            "flag": rng.random(n_rows) < 0.2,
            "text": rng.choice(["a", "b", "c"], n_rows),
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 10**6, n_rows), unit="s"),
            "constant": np.full(n_rows, 7),
            "nothing": np.full(n_rows, np.nan),
            "kind": pd.Categorical(rng.choice(["x", "y"], n_rows), categories=["y", "z", "x"], ordered=True),
            "nullable": pd.array(rng.integers(0, 1000, n_rows), dtype="Int64"),
        }
    )
    table["again"] = table["plain"]
    table.loc[::7, ["plain", "heavy", "inflated", "text", "day", "kind", "nullable"]] = None
    table["again"] = table["plain"]
    return table


@pytest.mark.parametrize("missing", ["model", "always"])
@pytest.mark.parametrize("lattice", ["auto", "decimal", "never"])
@pytest.mark.parametrize("atoms", [True, False])
def test_schema_from_json_encodes_and_decodes_identically(atoms, lattice, missing):
    table = mixed_table()
    encoder = TableEncoder(atoms=atoms, lattice=lattice, missing=missing).fit(table)
    text = json.dumps(encoder.schema_.to_dict(), allow_nan=False)
    restored = TableEncoder.from_schema(TableSchema.from_dict(json.loads(text)))
    assert restored.schema_ == encoder.schema_
    assert restored.layout_ == encoder.layout_
    matrix, log_det = encoder.encode(table)
    again, log_det_again = restored.encode(table)
    np.testing.assert_array_equal(again, matrix)
    np.testing.assert_array_equal(log_det_again, log_det)
    pd.testing.assert_frame_equal(restored.decode(matrix), encoder.decode(matrix))
    noisy = [e.dequantize(matrix, np.random.default_rng(3)) for e in (encoder, restored)]
    np.testing.assert_array_equal(*noisy)


@pytest.mark.parametrize(
    "labels",
    [
        [pd.Timestamp("2020-02-03"), datetime.datetime(2021, 1, 1, 4)],
        [pd.Timestamp("2020-02-03", tz="Europe/Berlin")],
        [datetime.date(2020, 2, 3)],
        [datetime.time(4, 5)],
        [pd.Timedelta(hours=3), datetime.timedelta(days=1)],
        [decimal.Decimal("1.10")],
        [b"\x00\xff"],
        [pd.Period("2020-02", freq="M")],
        [(1, "a", (2.5, None))],
        [pd.Interval(0.5, 1.5, closed="both")],
        [1, 2.5, float("inf"), True, "a"],
    ],
)
def test_every_kind_of_label_survives_json(labels):
    table = pd.DataFrame({"c": pd.Series([*labels, "text"] * 3, dtype=object)})
    schema = TableEncoder().fit(table).schema_
    assert TableSchema.from_dict(json.loads(json.dumps(schema.to_dict(), allow_nan=False))) == schema


def test_labels_without_a_textual_form_are_refused():
    schema = TableEncoder().fit(pd.DataFrame({"c": [frozenset({1}), frozenset({2})]})).schema_
    with pytest.raises(
        InvalidTableError, match="Names and categories must be text.*frozenset.*before fitting"
    ):
        schema.to_dict()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d.pop("columns"), "must be the dict that TableSchema.to_dict"),
        (lambda d: d["columns"][0].update(surprise=1), "could not be read.*surprise"),
        (lambda d: d["columns"][0].update(kind="odd"), "column 'plain'.*kind 'odd' is unknown"),
        (lambda d: d["columns"][0]["storage"].update(family="odd"), "family 'odd' is unknown"),
        (lambda d: d["columns"][0]["values"].update(scale=0.0), "scale must be positive and finite"),
        (lambda d: d["columns"][-1].update(copy_of=99), "copy_of=99 must name an earlier column"),
        (lambda d: d["columns"][6].update(name={"odd": 1}), "could not be read"),
    ],
)
def test_damaged_schemas_are_refused(damage, message):
    data = json.loads(json.dumps(TableEncoder().fit(mixed_table()).schema_.to_dict()))
    damage(data)
    with pytest.raises(InvalidTableError, match=message):
        TableSchema.from_dict(data)


def test_layout_puts_values_first_and_names_the_gates():
    encoder = TableEncoder().fit(mixed_table())
    layout, schema = encoder.layout_, encoder.schema_
    assert len(encoder.column_of_) == layout.n_columns
    for k, (cardinality, gate) in enumerate(zip(layout.cardinalities, layout.gates, strict=True)):
        column = schema.columns[encoder.column_of_[layout.n_values + k]]
        assert column.cardinality == cardinality
        assert (gate >= 0) == (column.values is not None)
        if gate >= 0:
            assert encoder.column_of_[gate] == encoder.column_of_[layout.n_values + k]
