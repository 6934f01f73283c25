import numpy as np
import pandas as pd
import pytest

from flowdetect.preprocessing import TableEncoder


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "size": rng.normal(size=200),
            "stars": rng.choice([1.0, 2.0, 10.0], 200),
            "colour": rng.choice(["red", "green", "blue"], 200),
            "weight": np.where(rng.random(200) < 0.2, np.nan, rng.normal(size=200)),
        }
    )


def distance(table, first, second):
    encoder = TableEncoder().fit(table)
    rows = pd.DataFrame([first, second]).astype(table.dtypes)
    points = encoder.coordinates(encoder.encode(rows)[0])
    return np.linalg.norm(points[0] - points[1])


ROW = {"size": 0.0, "stars": 1.0, "colour": "red", "weight": 0.0}


@pytest.mark.parametrize("colour", ["blue", "green", "never seen"])
def test_two_categories_are_one_apart(table, colour):
    assert distance(table, ROW, {**ROW, "colour": colour}) == pytest.approx(1.0)


@pytest.mark.parametrize(("stars", "ranks"), [(2.0, 1.0), (10.0, 2.0), (1.0, 0.0)])
def test_a_small_set_of_numbers_is_ranked(table, stars, ranks):
    assert distance(table, ROW, {**ROW, "stars": stars}) == pytest.approx(ranks)


def test_a_number_outside_the_set_is_apart_from_all_of_them(table):
    assert distance(table, ROW, {**ROW, "stars": 5.0}) > 0.7


def test_values_keep_their_distance_and_missing_ones_are_one_apart_from_the_centre(table):
    encoder = TableEncoder().fit(table)
    matrix, _ = encoder.encode(table)
    assert np.array_equal(encoder.coordinates(matrix)[:, :2], matrix[:, :2])
    center = {**ROW, "weight": float(encoder.schema_.columns[3].values.location)}
    assert distance(table, center, {**center, "weight": np.nan}) == pytest.approx(1.0)


def test_many_categories_are_about_one_apart():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"name": rng.choice([f"n{i}" for i in range(200)], 5000)})
    encoder = TableEncoder().fit(table)
    points = np.unique(encoder.coordinates(encoder.encode(table)[0]), axis=0)
    assert points.shape == (200, 16)
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)[np.triu_indices(200, 1)]
    assert apart.mean() == pytest.approx(1.0, abs=0.03)
    assert apart.min() > 0.3
