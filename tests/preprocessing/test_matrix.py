import numpy as np
import pandas as pd
import pytest

from flowdetect.preprocessing import TableEncoder
from flowdetect.preprocessing._numeric import decode_values


def originals(encoder, matrix, position):
    """Numbers of one lattice column without putting them back on the lattice."""
    values = encoder.schema_.columns[position].values
    free = type(values)(location=values.location, scale=values.scale, tail=values.tail)
    return decode_values(matrix[:, list(encoder.column_of_).index(position)], free)


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    n_rows = 20_000
    table = pd.DataFrame(
        {
            "count": rng.poisson(30, n_rows),
            "tail": np.floor(np.abs(rng.standard_cauchy(n_rows)) * 20),
            "fives": 5.0 * rng.integers(0, 50, n_rows),
            "continuous": rng.normal(size=n_rows),
            "text": rng.choice(["a", "b"], n_rows),
        }
    )
    table.loc[::3, "fives"] = np.nan
    return table


@pytest.mark.parametrize(("position", "step"), [(0, 1.0), (1, 1.0), (2, 5.0)])
def test_noise_is_uniform_in_the_cell(table, position, step):
    encoder = TableEncoder().fit(table)
    matrix, _ = encoder.encode(table)
    noisy = encoder.dequantize(matrix, np.random.default_rng(1))
    numbers = table.iloc[:, position].to_numpy(dtype=float)
    observed = ~np.isnan(numbers) & (np.abs(numbers) < 1e6)
    offsets = (originals(encoder, noisy, position) - numbers)[observed] / step
    assert np.abs(offsets).max() <= 0.5 + 1e-6
    counts, _ = np.histogram(offsets, bins=10, range=(-0.5, 0.5))
    expected = len(offsets) / 10
    assert ((counts - expected) ** 2 / expected).sum() < 33.7  # chi-square with 9 degrees, 1 in 10,000


def test_noise_leaves_everything_else_alone(table):
    encoder = TableEncoder().fit(table)
    matrix, _ = encoder.encode(table)
    before = matrix.copy()
    noisy = encoder.dequantize(matrix, np.random.default_rng(1))
    np.testing.assert_array_equal(matrix, before)
    np.testing.assert_array_equal(noisy[:, 3:], matrix[:, 3:])
    missing = table["fives"].isna().to_numpy()
    np.testing.assert_array_equal(noisy[missing, 2], 0.0)
    assert (noisy[~missing, 2] != matrix[~missing, 2]).all()
    pd.testing.assert_frame_equal(encoder.decode(noisy), table)


def test_noise_is_fresh_and_reproducible(table):
    encoder = TableEncoder().fit(table)
    matrix, _ = encoder.encode(table)
    rng = np.random.default_rng(1)
    first, second = encoder.dequantize(matrix, rng), encoder.dequantize(matrix, rng)
    assert (first[:, 0] != second[:, 0]).all()
    np.testing.assert_array_equal(first, encoder.dequantize(matrix, np.random.default_rng(1)))


def test_values_far_out_in_a_tail_stay_finite():
    table = pd.DataFrame({"x": np.r_[np.arange(100.0), 2.0**52]})
    encoder = TableEncoder().fit(table)
    matrix, _ = encoder.encode(pd.DataFrame({"x": [1e300, -1e300, 2.0**52]}))
    noisy = encoder.dequantize(matrix, np.random.default_rng(0))
    np.testing.assert_allclose(noisy, matrix, rtol=1e-12)


def test_no_lattice_no_copy():
    table = pd.DataFrame({"x": np.random.default_rng(0).normal(size=50), "text": ["a", "b"] * 25})
    encoder = TableEncoder().fit(table)
    matrix, _ = encoder.encode(table)
    assert not encoder.has_lattice_
    assert encoder.dequantize(matrix, np.random.default_rng(0)) is matrix
