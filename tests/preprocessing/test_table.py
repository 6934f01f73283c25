import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.preprocessing import TableEncoder

# --- decode(encode(X)) is X, whatever X ------------------------------------------------------------------

numbers = st.floats(-1e12, 1e12, allow_nan=False)
ENTRIES = {
    "float64": st.one_of(numbers, st.sampled_from([0.0, 1.0, np.nan])),
    "float32": st.one_of(st.floats(-1e6, 1e6, width=32), st.just(np.nan)),
    "int64": st.integers(-(2**40), 2**40),
    "uint8": st.integers(0, 255),
    "Int64": st.one_of(st.integers(-(2**40), 2**40), st.none()),
    "Float64": st.one_of(numbers, st.none()),
    "bool": st.booleans(),
    "boolean": st.one_of(st.booleans(), st.none()),
    "object": st.one_of(st.sampled_from(["a", "b", 1, 2.5]), st.none()),
    "str": st.one_of(st.text(max_size=3), st.none()),
    "string": st.one_of(st.text(max_size=3), st.none()),
    "category": st.one_of(st.sampled_from(["x", "y", "z"]), st.none()),
    # Less than 2**50 microseconds apart, up to which decoding is exact.
    "datetime64[us]": st.one_of(st.datetimes(pd.Timestamp(1990, 1, 1), pd.Timestamp(2025, 1, 1)), st.none()),
    "timedelta64[s]": st.one_of(
        st.integers(-(10**9), 10**9).map(lambda s: pd.Timedelta(seconds=s)), st.none()
    ),
}


@st.composite
def frames(draw):
    n_rows = draw(st.integers(1, 40))
    columns = {}
    for k, dtype in enumerate(draw(st.lists(st.sampled_from(sorted(ENTRIES)), min_size=1, max_size=6))):
        # A few distinct entries drawn many times: constants, atoms, small sets and copies come up often.
        pool = draw(st.lists(ENTRIES[dtype], min_size=1, max_size=draw(st.sampled_from([1, 2, 40]))))
        entries = [pool[i % len(pool)] for i in draw(st.permutations(range(n_rows)))]
        if dtype == "category":
            columns[f"{k} {dtype}"] = pd.Categorical(entries, categories=["z", "w", "y", "x"], ordered=True)
        else:
            columns[f"{k} {dtype}"] = pd.Series(entries, dtype=dtype)
    frame = pd.DataFrame(columns)
    if draw(st.booleans()):
        frame["copy"] = frame.iloc[:, 0]
    return frame


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(frame=frames(), atoms=st.booleans(), missing=st.sampled_from(["model", "always"]))
def test_decode_gives_the_encoded_frame_back(frame, atoms, missing):
    encoder = TableEncoder(atoms=atoms, missing=missing).fit(frame)
    matrix, log_det = encoder.encode(frame)
    assert matrix.shape == (len(frame), encoder.layout_.n_columns)
    assert np.isfinite(matrix).all()
    assert np.isfinite(log_det).all()
    codes = matrix[:, encoder.layout_.n_values :]
    assert ((codes >= 0) & (codes < encoder.layout_.cardinalities)).all()
    decoded = encoder.decode(matrix)
    spread = np.nanmax(
        [1e-300, *(np.ptp(frame[c].dropna()) for c in frame if "loat" in c and frame[c].notna().any())]
    )
    pd.testing.assert_frame_equal(decoded, frame, rtol=1e-9, atol=1e-9 * spread)


@pytest.mark.parametrize("index", [pd.Index(["p", "q", "r"]), pd.RangeIndex(5, 8)])
def test_decoded_rows_are_numbered_from_zero(index):
    table = pd.DataFrame({"a": [1.5, 2.5, 9.0]}, index=index)
    encoder = TableEncoder().fit(table)
    pd.testing.assert_frame_equal(encoder.decode(encoder.encode(table)[0]), table.reset_index(drop=True))


# --- log_det ---------------------------------------------------------------------------------------------


def test_plain_tables_are_mapped_affinely():
    X = np.random.default_rng(0).normal(size=(300, 4)) * [1, 2, 3, 1e-3] + [0, 5, -7, 1e3]
    encoder = TableEncoder().fit(X)
    matrix, log_det = encoder.encode(X)
    assert (encoder.layout_.n_values, encoder.layout_.n_codes) == (4, 0)
    assert np.ptp(log_det) == 0
    location, scale = np.array([(c.values.location, c.values.scale) for c in encoder.schema_.columns]).T
    np.testing.assert_array_equal(matrix, (X - location) / scale)
    assert log_det[0] == pytest.approx(-np.log(scale).sum())


def test_log_det_is_that_of_the_numerical_jacobian():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=200), rng.standard_cauchy(200) * 3, rng.gamma(1, size=200) ** 4])
    encoder = TableEncoder().fit(X)
    _, log_det = encoder.encode(X)
    h = 1e-6 * np.maximum(np.abs(X), 1e-3)
    up, down = encoder.encode(X + h)[0], encoder.encode(X - h)[0]
    assert np.ptp(log_det) > 1
    np.testing.assert_allclose(log_det, np.log((up - down) / (2 * h)).sum(axis=1), atol=1e-5)


def test_log_det_of_a_lattice_is_its_step_over_its_scale():
    table = pd.DataFrame({"x": 5 * np.random.default_rng(0).integers(0, 100, 500)})
    encoder = TableEncoder().fit(table)
    values = encoder.schema_.columns[0].values
    assert values.step == 5
    np.testing.assert_allclose(encoder.encode(table)[1], np.log(5 / values.scale))


@pytest.mark.parametrize(("origin", "unit"), [(0.0, 1000.0), (-40.0, 0.3), (7.0, -2.0)])
def test_a_change_of_unit_changes_no_code_and_shifts_every_row_alike(origin, unit):
    rng = np.random.default_rng(0)
    values = np.r_[rng.standard_t(2, 400), np.full(50, 3.25), np.full(40, np.nan)]
    table, moved = pd.DataFrame({"x": values}), pd.DataFrame({"x": origin + unit * values})
    here, there = TableEncoder().fit(table), TableEncoder().fit(moved)
    assert here.layout_ == there.layout_
    matrix, log_det = here.encode(table)
    matrix_moved, log_det_moved = there.encode(moved)
    np.testing.assert_allclose(matrix_moved * [np.sign(unit), 1], matrix, atol=1e-9)
    np.testing.assert_allclose(log_det_moved - log_det, -np.log(abs(unit)), atol=1e-9)


def test_scores_of_a_small_discrete_table_sum_to_one_under_a_uniform_model():
    # The model: uniform codes, a standard normal for values. Cells of width step cover the line.
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"count": rng.integers(0, 40, 400), "text": rng.choice(["a", "b"], 400)})
    encoder = TableEncoder().fit(table)
    everything = pd.MultiIndex.from_product([range(-300, 340), ["a", "b", "new"]], names=["count", "text"])
    matrix, log_det = encoder.encode(everything.to_frame(index=False))
    log_normal = -0.5 * matrix[:, 0] ** 2 - 0.5 * np.log(2 * np.pi)
    assert np.exp(log_normal - np.log(3) + log_det).sum() == pytest.approx(1, abs=1e-6)


# --- kinds, from the outside -----------------------------------------------------------------------------


def test_kinds():
    rng = np.random.default_rng(0)
    n_rows = 200
    table = pd.DataFrame(
        {
            "continuous": rng.normal(size=n_rows),
            "lattice": rng.integers(0, 100, n_rows),
            "levels": rng.integers(0, 3, n_rows),
            "categories": rng.choice(["a", "b"], n_rows),
            "constant": 1.5,
            "empty": np.nan,
        }
    )
    table["copy"] = table["continuous"]
    encoder = TableEncoder().fit(table)
    assert [column.kind for column in encoder.schema_.columns] == list(table.columns)
    assert encoder.layout_.cardinalities == (4, 3, 2, 2, 2)
    assert encoder.layout_.gates == (-1,) * 5
    np.testing.assert_array_equal(encoder.column_of_, [0, 1, 2, 3, 4, 5, 6])


def test_times_are_seconds_from_the_first():
    table = pd.DataFrame({"t": pd.date_range("2020", periods=100, freq="h")})
    encoder = TableEncoder().fit(table)
    values = encoder.schema_.columns[0].values
    assert encoder.schema_.columns[0].kind == "continuous"
    assert values.location == pytest.approx(99 * 1800)
    few = TableEncoder().fit(pd.DataFrame({"t": np.repeat(table["t"][:20], 50)}))
    assert few.schema_.columns[0].values.step == 3600


def test_lattice_option():
    values = (np.random.default_rng(0).integers(0, 50, 2000) - 20.3) / 7.77
    for lattice, kind in (("auto", "lattice"), ("decimal", "continuous"), ("never", "continuous")):
        assert TableEncoder(lattice=lattice).fit(values[:, None]).schema_.columns[0].kind == kind


def test_float32_scores_of_a_float64_model_meet_atoms_and_levels():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"a": np.r_[rng.normal(size=300), np.full(60, 0.1)], "b": rng.choice([0.1, 0.2, 0.7], 360)}
    )
    encoder = TableEncoder().fit(table)
    single = encoder.encode(table.astype(np.float32))[0]
    np.testing.assert_array_equal(single[:, 1:], encoder.encode(table)[0][:, 1:])


# --- misuse ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"missing": "drop"}, "missing must be one of .*'model', 'always'.*got 'drop'"),
        ({"lattice": True}, "lattice must be one of .*got True"),
        ({"max_categories": 0}, "max_categories must be a whole number >= 1; got 0"),
    ],
)
def test_options_outside_of_their_range_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        TableEncoder(**options).fit(np.zeros((3, 1)))


@pytest.mark.parametrize("method", ["encode", "decode", "log_det"])
def test_unfitted_use_is_refused(method):
    with pytest.raises(ConfigurationError, match="not fitted yet; call fit"):
        getattr(TableEncoder(), method)(np.zeros((3, 1)))


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((3, 4)), r"with 2 columns; got shape \(3, 4\)"),
        (np.zeros(3), r"got shape \(3,\)"),
        (np.array([[0.0, np.nan]]), "entries that are not finite"),
    ],
)
def test_matrices_that_cannot_be_decoded_are_refused(matrix, message):
    encoder = TableEncoder().fit(np.random.default_rng(0).normal(size=(20, 2)))
    with pytest.raises(InvalidTableError, match=message):
        encoder.decode(matrix)


def test_encoding_warns_of_nothing_and_changes_nothing():
    table = pd.DataFrame({"a": [1.0, np.nan, 1e300, -1e300, 3.0], "b": ["x", None, "y", "x", "z"]})
    before = table.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder = TableEncoder().fit(table)
        encoder.decode(encoder.encode(table)[0])
    pd.testing.assert_frame_equal(table, before)


# --- heaps -----------------------------------------------------------------------------------------------


def rounded_hours(n_rows: int) -> np.ndarray:
    """Whole hours, most of them rounded to tens and halves of tens."""
    rng = np.random.default_rng(0)
    hours = rng.integers(1, 80, n_rows)
    return np.where(rng.random(n_rows) < 0.7, hours // 5 * 5, hours)


@pytest.mark.parametrize(("heaps", "kind"), [(False, "lattice"), (True, "levels")])
def test_heaped_numbers_become_codes_on_request(heaps, kind):
    table = pd.DataFrame({"hours": rounded_hours(5000)})
    encoder = TableEncoder(heaps=heaps).fit(table)
    assert encoder.schema_.columns[0].kind == kind
    assert encoder.decode(encoder.encode(table)[0]).equals(table)


def test_smooth_counts_and_few_rows_are_no_heaps():
    rng = np.random.default_rng(0)
    for hours in (rng.poisson(40, 5000), rounded_hours(1000)):
        assert (
            TableEncoder(heaps=True).fit(pd.DataFrame({"hours": hours})).schema_.columns[0].kind == "lattice"
        )


def test_heaps_among_fractions_become_atoms_on_request():
    rng = np.random.default_rng(0)
    shares = np.where(rng.random(4000) < 0.1, 1.0 / rng.integers(2, 6, 4000), rng.random(4000))
    table = pd.DataFrame({"share": shares})
    few, many = (TableEncoder(heaps=heaps).fit(table).schema_.columns[0].values for heaps in (False, True))
    assert few is not None and few.atoms == ()
    assert many is not None and many.atoms == (1 / 5, 1 / 4, 1 / 3, 1 / 2)


# --- numbers alone ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("affine", [False, True])
def test_affine_numbers_are_values_and_nothing_else(affine):
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 200, 300)
    X = pd.DataFrame(
        {
            "constant": 5.0,
            "few": whole % 3,
            "whole": whole,
            "copy": whole,
            "heavy": np.exp(3.0 * rng.normal(size=300)),
            "capped": np.maximum(rng.normal(size=300), 0.0),
            "text": np.where(whole > 100, "a", "b"),
        }
    )
    encoder = TableEncoder(affine=affine).fit(X)
    layout = encoder.layout_
    assert (layout.n_values == 6 and layout.cardinalities == (3,) and not encoder.has_lattice_) == affine
    if affine:
        matrix, log_det = encoder.encode(X)
        assert np.ptp(log_det) == 0.0
        z = (X["heavy"] - X["heavy"].median()) / encoder.schema_.columns[4].values.scale
        np.testing.assert_allclose(matrix[:, 4], z)
        matrix[:, 5] = -1.0
        assert (encoder.decode(matrix)["capped"] < 0.0).all()
    pd.testing.assert_frame_equal(encoder.decode(encoder.encode(X)[0]), X)
