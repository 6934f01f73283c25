import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowdetect.preprocessing import _numeric as numeric
from flowdetect.preprocessing._schema import ValueScale

FLOAT_MAX = np.finfo(np.float64).max
finite = st.floats(allow_nan=False, allow_infinity=False)


def whole(n_rows, n_values, seed=0):
    return np.random.default_rng(seed).integers(0, n_values, n_rows).astype(float)


def pick(values):
    return np.array(values, dtype=float)[whole(4000, len(values)).astype(int)]


def normal(n_rows, seed=0):
    return np.random.default_rng(seed).normal(size=n_rows)


# --- location and scale ----------------------------------------------------------------------------------


def test_scale_is_the_standard_deviation_of_a_normal_column():
    location, scale = numeric.location_and_scale(3 + 2 * normal(200_000))
    assert location == pytest.approx(3, abs=0.02)
    assert scale == pytest.approx(2, rel=0.01)


@pytest.mark.parametrize("unit", [1e-6, 0.37, -4.0, 1e12])
@pytest.mark.parametrize("origin", [0.0, -5.0, 300.0])
def test_location_and_scale_follow_origin_and_unit(origin, unit):
    values = np.random.default_rng(1).standard_t(2, 501)
    location, scale = numeric.location_and_scale(values)
    moved = numeric.location_and_scale(values * unit + origin)
    assert moved == pytest.approx((location * unit + origin, scale * abs(unit)), rel=1e-9)


@pytest.mark.parametrize(
    "values",
    [
        np.r_[np.zeros(900), np.arange(1.0, 101)],  # the central quantiles are equal
        np.r_[np.zeros(9999), 1.0],  # nearly all are
        np.array([-FLOAT_MAX, 0.0, 1.0, FLOAT_MAX]),
        np.array([0.0, 5e-324, 1e-323]),
        1e308 * np.clip(normal(50), -1.7, 1.7),
    ],
)
def test_scale_is_positive_and_finite_whatever_the_values(values):
    location, scale = numeric.location_and_scale(values)
    assert np.isfinite(location)
    assert 0 < scale < np.inf


def test_one_huge_value_does_not_flatten_the_others():
    _, scale = numeric.location_and_scale(np.r_[normal(1000), 1e12])
    assert scale == pytest.approx(1, rel=0.2)


# --- tail map --------------------------------------------------------------------------------------------


def test_tail_map_is_the_identity_inside_and_logarithmic_outside():
    z = np.array([-5.0, -1.0, 0.0, 3.0, 5.0])
    np.testing.assert_array_equal(numeric.squash(z, 5.0), z)
    np.testing.assert_allclose(
        numeric.squash(np.array([104.0, -104.0]), 5.0), np.log(100) * np.array([1, -1]) + [5, -5]
    )


@pytest.mark.parametrize("knot", [-5.0, 5.0])
def test_tail_map_has_a_continuous_derivative(knot):
    h = 1e-6
    left, middle, right = numeric.squash(np.array([knot - h, knot, knot + h]), 5.0)
    assert (middle - left) / h == pytest.approx(1, abs=1e-5)
    assert (right - middle) / h == pytest.approx(1, abs=1e-5)


@given(st.floats(-1e12, 1e12))
def test_tail_map_has_an_exact_inverse(z):
    there = numeric.squash(np.array([z]), 5.0)
    np.testing.assert_allclose(numeric.unsquash(there, 5.0), [z], rtol=1e-13, atol=0)


@given(finite, finite)
def test_tail_map_is_monotone(first, second):
    low, high = numeric.squash(np.sort(np.array([first, second])), 5.0)
    assert low <= high


def test_log_slope_is_the_logarithm_of_the_numerical_derivative():
    values = ValueScale(location=2.0, scale=0.5, tail=5.0)
    numbers = np.array([-400.0, -3.0, 2.0, 4.0, 6.0, 1e4])
    h = 1e-6 * np.maximum(np.abs(numbers), 1)
    slopes = numeric.log_slope(numeric.encode_values(numbers, values), 5.0)
    up, down = numeric.encode_values(numbers + h, values), numeric.encode_values(numbers - h, values)
    np.testing.assert_allclose(slopes - np.log(0.5), np.log((up - down) / (2 * h)), atol=1e-6)


@pytest.mark.parametrize("tail", [None, 5.0])
@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1.0, 1e300])
def test_every_finite_number_stays_finite_both_ways(scale, tail):
    values = ValueScale(location=-1e300, scale=scale, tail=tail)
    numbers = np.array([-FLOAT_MAX, -1e300, -1e8, 0.0, 5e-324, 1e8, FLOAT_MAX])
    encoded = numeric.encode_values(numbers, values)
    assert np.isfinite(encoded).all()
    assert (np.diff(encoded) >= 0).all()
    assert np.isfinite(numeric.decode_values(encoded, values)).all()


def test_numbers_beyond_the_range_of_standardised_floats_come_back():
    values = ValueScale(location=0.0, scale=1e-300, tail=5.0)
    numbers = np.array([1e200, -3e250, 1e300])
    encoded = numeric.encode_values(numbers, values)
    np.testing.assert_allclose(numeric.decode_values(encoded, values), numbers, rtol=1e-11)


def test_decoding_stays_finite_far_outside_of_what_was_seen():
    values = ValueScale(location=0.0, scale=1e300, tail=5.0)
    assert np.isfinite(numeric.decode_values(np.array([-1e30, -800.0, 20.0, 800.0, 1e30]), values)).all()


@pytest.mark.parametrize(("values", "has_tail"), [(normal(500), False), (np.r_[normal(500), 30.0], True)])
def test_tail_map_only_where_values_lie_far_out(values, has_tail):
    assert (numeric.fit_values(values, numeric.Distinct(values)).tail is not None) == has_tail


def test_bounds():
    plain = numeric.fit_values(normal(100), numeric.Distinct(normal(100)))
    assert (plain.lower, plain.upper) == (None, None)
    positive = np.abs(normal(100))
    fitted = numeric.fit_values(positive, numeric.Distinct(positive))
    np.testing.assert_array_equal(numeric.decode_values(np.array([-50.0, 80.0]), fitted) > 0, [False, True])
    counts = whole(100, 30)
    fitted = numeric.fit_values(counts, numeric.Distinct(counts))
    np.testing.assert_array_equal(numeric.decode_values(np.array([-50.0, 80.0]), fitted), [0, counts.max()])


# --- lattices --------------------------------------------------------------------------------------------

LATTICES = [
    # values, mode, step or None
    ("whole numbers, all different", np.random.default_rng(0).permutation(5000).astype(float), "auto", 1.0),
    ("multiples of 25", 25 * whole(300, 100), "auto", 25.0),
    ("three multiples of 1000", np.array([0.0, 1000, 5000]), "auto", 1.0),
    ("halves on many rows", whole(4000, 50) / 2, "auto", 0.5),
    ("halves on few rows", whole(100, 50) / 2 + 0.5, "auto", None),
    ("cents", np.round(normal(40_000), 2), "auto", 0.01),
    ("cents in float32", np.round(normal(40_000), 2).astype(np.float32).astype(float), "decimal", 0.01),
    ("millionths", np.round(whole(4000, 100) * 3e-6, 6), "decimal", 3e-6),
    ("eightieths with six decimals", np.round(whole(4000, 70) / 81, 6), "auto", 1 / 81),
    ("eightieths as decimals", np.round(whole(4000, 70) / 81, 6), "decimal", 1e-6),
    ("thirds", whole(4000, 50) / 3, "auto", 1 / 3),
    ("thirds, decimals only", whole(4000, 50) / 3, "decimal", None),
    ("whole numbers switched off", whole(4000, 50), "never", None),
    ("standardised", (whole(4000, 50) - 20.3) / 7.77, "auto", 1 / 7.77),
    ("standardised, float32", np.float32((whole(4000, 50) - 20.3) / 7.77).astype(float), "auto", 1 / 7.77),
    ("standardised, wide gaps", pick([2, 3, 5, 7, 11, 13, 17, 19, 23, 29]) / 7.77, "auto", 1 / 7.77),
    ("twos and threes apart", pick([0, 2, 5, 7, 9, 12, 15, 17, 20, 22]) / 7.77, "auto", 1 / 7.77),
    ("continuous", normal(4000), "auto", None),
    ("few arbitrary values", pick(normal(40)), "auto", None),
    ("floats beyond 2**53", 1e17 * (1 + whole(4000, 50)), "decimal", None),
    ("one value", np.full(100, 3.0), "auto", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "values", "mode", "step"), LATTICES, ids=[case[0] for case in LATTICES])
def test_lattice_detection(name, values, mode, step):
    found = numeric.find_lattice(numeric.Distinct(values), mode=mode)
    if step is None:
        assert found is None
    else:
        assert found is not None
        assert found[1] == pytest.approx(step, rel=1e-5)
        cells = (np.unique(values) - found[0]) / found[1]
        np.testing.assert_allclose(cells, np.rint(cells), atol=1e-2)


def test_whole_seconds_are_a_lattice_only_if_few():
    many = numeric.Distinct(np.arange(1000.0))
    assert numeric.find_lattice(many, whole_always=False) is None
    assert numeric.find_lattice(numeric.Distinct(whole(1000, 20)), whole_always=False) is not None


@given(st.integers(9, 60), st.floats(1e-6, 1e6), st.floats(-100, 100), st.integers(0, 1000))
def test_any_equal_spacing_is_found(n_values, unit, shift, seed):
    cells = whole(100 * n_values, n_values, seed)
    found = numeric.find_lattice(numeric.Distinct(cells * unit + shift * unit))
    assert found is not None
    assert found[1] == pytest.approx(unit, rel=1e-6)


def test_decoded_decimals_are_the_shortest_ones():
    values = np.round(normal(40_000), 2)
    fitted = numeric.fit_values(values, numeric.Distinct(values))
    encoded = numeric.encode_values(values, fitted)
    np.testing.assert_array_equal(
        numeric.decode_values(encoded + 0.2 * fitted.step / fitted.scale, fitted), values
    )


def test_standardised_lattices_decode_exactly_in_float32_and_samples_fall_onto_them():
    values = np.float32((whole(4000, 50) - 20.3) / 7.77).astype(float)
    fitted = numeric.fit_values(values, numeric.Distinct(values))
    assert fitted.decimals is None
    encoded = numeric.encode_values(values, fitted)
    np.testing.assert_allclose(numeric.decode_values(encoded, fitted), values, rtol=1e-12, atol=1e-14)
    moved = numeric.decode_values(encoded + 0.4 * fitted.step / fitted.scale, fitted)
    np.testing.assert_allclose(moved, values, atol=1e-6)


# --- discrete columns and atoms --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "discrete"),
    [
        (np.zeros(3), True),
        (np.array([0.0, 1, 1, 0, 0]), True),
        (np.array([0.0, 1]), False),
        (np.repeat(np.arange(8.0), 10), True),
        (np.repeat(np.arange(8.0), 9), False),
        (np.repeat(np.arange(9.0), 100), False),  # a lattice
        (np.repeat(normal(20), 20), True),  # no lattice
        (np.repeat(normal(20), 10), False),
        (np.repeat(normal(40), 100), False),
        (normal(1000), False),
    ],
)
def test_few_values_on_many_rows_are_discrete(values, discrete):
    assert numeric.is_discrete(numeric.Distinct(values)) == discrete


@pytest.mark.parametrize(
    ("values", "atoms"),
    [
        (np.r_[normal(500), np.zeros(100)], (0.0,)),
        (np.r_[normal(500), np.zeros(100), np.full(50, 9.5)], (0.0, 9.5)),
        (np.r_[normal(500), np.zeros(20)], ()),  # under 5 %
        (np.r_[normal(50), np.zeros(9)], ()),  # under 10 rows
        (np.r_[np.random.default_rng(0).integers(1, 10**6, 500), np.zeros(400)].astype(float), (0.0,)),
        (np.r_[whole(500, 12), np.zeros(400)], ()),  # a coarse lattice
        (np.round(normal(3000), 1), ()),  # the mode of rounded numbers
    ],
)
def test_atoms(values, atoms):
    distinct = numeric.Distinct(values)
    found = numeric.find_lattice(distinct)
    assert numeric.find_atoms(distinct, None if found is None else found[1]) == atoms


def test_atoms_are_left_out_of_location_and_scale():
    values = np.r_[100 + normal(500), np.zeros(400)]
    fitted = numeric.fit_values(values, numeric.Distinct(values))
    assert fitted.atoms == (0.0,)
    assert fitted.location == pytest.approx(100, abs=0.5)
    ordinary = numeric.fit_values(values, numeric.Distinct(values), atoms=False)
    assert ordinary.atoms == ()


def test_matching_is_exact_for_whole_levels_and_within_float32_for_others():
    levels = (1.0, 2.0, 1e9)
    np.testing.assert_array_equal(
        numeric.match_levels(np.array([1.0, 1 + 1e-8, 1e9, 1e9 + 1, np.nan]), levels), [0, -1, 2, -1, -1]
    )
    levels = (0.1, 0.7)
    np.testing.assert_array_equal(
        numeric.match_levels(np.array([np.float32(0.1), 0.7, 0.7001, 0.0]), levels), [0, 1, -1, -1]
    )
    np.testing.assert_array_equal(numeric.match_levels(np.array([0.0]), ()), [-1])


def test_statistics_of_many_rows_come_from_a_fixed_sample_unless_values_are_few():
    many = normal(numeric.SAMPLE_ROWS + 1000)
    assert numeric.count_distinct(many).n_rows == numeric.SAMPLE_ROWS
    np.testing.assert_array_equal(numeric.subsample(many), numeric.subsample(many))
    assert numeric.count_distinct(np.floor(many)).n_rows == len(many)
