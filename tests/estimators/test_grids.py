"""Rounding of drawn numbers."""

import numpy as np
import pandas as pd
import pytest

from flowdetect.estimators._grids import Grid, as_floats, find_grids
from flowdetect.preprocessing import TableEncoder


def grids_of(table):
    return find_grids(table, TableEncoder(lattice="never").fit(table))


def decimals_of(table):
    return {position: grid.decimals for position, grid in grids_of(table).items()}


@pytest.mark.parametrize("decimals", [1, 2, 5, 8])
@pytest.mark.parametrize("container", [pd.DataFrame, np.asarray])
def test_rounded_numbers_have_that_many_decimals(decimals, container):
    rng = np.random.default_rng(0)
    rounded = np.round(rng.normal(size=(40, 1)) * 1000.0, decimals)
    assert decimals_of(container(np.hstack([rounded, rng.normal(size=(40, 1))]))) == {0: decimals}


def test_missing_entries_do_not_count():
    numbers = np.round(np.random.default_rng(0).normal(size=40), 3)
    numbers[::5] = np.nan
    assert decimals_of(pd.DataFrame({"a": numbers})) == {0: 3}
    nullable = pd.DataFrame({"a": pd.array(np.where(np.isnan(numbers), None, numbers), dtype="Float64")})
    assert decimals_of(nullable) == {0: 3}


def test_rounding_is_seen_through_that_of_float32():
    numbers = np.round(np.random.default_rng(0).normal(size=(40, 1)) * 10.0, 2)
    assert decimals_of(numbers.astype(np.float32)) == {0: 2}


def test_whole_numbers_times_and_labels_have_no_grid():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "whole": rng.integers(0, 500, 60),
            "time": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 300, 60), unit="D"),
            "kind": rng.choice(["x", "y"], 60),
            "few": rng.choice([0.5, 1.5], 60),
            "constant": 0.25,
            "empty": np.nan,
        }
    )
    assert find_grids(table, TableEncoder().fit(table)) == {}


def test_measured_numbers_have_no_grid():
    rng = np.random.default_rng(0)
    assert grids_of(rng.normal(size=(100, 3))) == {}
    assert grids_of(np.full((3, 1), np.pi)) == {}


@pytest.mark.parametrize("n_rows", [2, 3, 5])
def test_a_few_measured_numbers_have_no_grid(n_rows):
    assert grids_of(np.random.default_rng(0).normal(size=(n_rows, 3))) == {}


def test_a_copy_is_rounded_as_its_original_is():
    rounded = np.round(np.random.default_rng(0).normal(size=50), 2)
    table = pd.DataFrame({"a": rounded, "b": np.random.default_rng(1).normal(size=50), "c": rounded})
    assert decimals_of(table) == {0: 2, 2: 2}


def test_numbers_go_to_the_nearest_of_the_grid():
    decimals = Grid(np.array([0.1, 0.25]), 2)
    assert decimals.snap(np.array([0.104, 0.2512, -3.337])).tolist() == [0.1, 0.25, -3.34]
    steps = Grid(np.array([0.5, 1.0 + 1e-12, 1.5]), None, 0.5, 0.25)
    assert steps.snap(np.array([0.6, 1.01, 1.4, 1.3])).tolist() == [0.5, 1.0 + 1e-12, 1.5, 1.25]


def test_entries_as_floats():
    entries = pd.Series([1, None, 2.5], dtype=object)
    np.testing.assert_array_equal(as_floats(entries), [1.0, np.nan, 2.5])
    np.testing.assert_array_equal(as_floats(pd.array([1, None], dtype="Int64")), [1.0, np.nan])
