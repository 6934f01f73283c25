"""Conditional draws against densities whose conditionals are known exactly."""

import warnings
from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch

from flowdetect._utils.layout import MatrixLayout
from flowdetect.estimators._conditions import ConditionalSampler
from flowdetect.flows import FlowSettings, TableDensity
from flowdetect.preprocessing import TableEncoder

# Most standard errors that an estimate may be away from the truth.
BAND = 4.5
N_ROWS = 3000


class ExactDensity:
    """A density of encoded rows, given by a function to log-densities of values and of codes."""

    def __init__(self, layout, parts, draw_values=None):
        self.layout, self._parts, self._draw_values = layout, parts, draw_values

    def log_prob_parts(self, inputs, context=None):
        values, codes = inputs.numpy()[:, : self.layout.n_values], inputs.numpy()[:, self.layout.n_values :]
        return tuple(torch.from_numpy(part) for part in self._parts(values, codes.astype(int), context))

    def log_prob(self, inputs, context=None):
        values_part, codes_part = self.log_prob_parts(inputs, context)
        return values_part + codes_part

    def code_log_prob(self, codes, context=None):
        no_values = torch.zeros(len(codes), self.layout.n_values, dtype=codes.dtype)
        return self.log_prob_parts(torch.cat([no_values, codes], dim=1), context)[1]

    def draw_values(self, codes, context=None, generator=None):
        return torch.cat([self._draw_values(codes, generator), codes], dim=1)


def draw(density, encoder, sources, given, *, context=None, seed=0):
    """Draw one row for each row of a DataFrame of given columns; return the rows, and what was known."""
    matrix, known = encoder.encode_given(given)
    sampler = ConditionalSampler(density, encoder, sources)
    generator = torch.Generator().manual_seed(seed)
    drawn = sampler.draw(matrix, known, context, np.random.default_rng(seed), generator)
    assert drawn.shape == matrix.shape
    assert drawn.dtype == np.float64
    return drawn, known


def assert_mean_near(found, expected, deviation):
    assert np.mean(found) == pytest.approx(expected, abs=BAND * deviation / np.sqrt(len(found)))


def assert_share_near(found, expected):
    assert_mean_near(found, expected, np.sqrt(expected * (1.0 - expected)))


# --- values ------------------------------------------------------------------------------------------------

MEAN = np.array([0.5, -0.3, 0.2, 0.0])
COVARIANCE = np.array(
    [[1.0, 0.9, 0.3, 0.0], [0.9, 1.2, 0.5, 0.0], [0.3, 0.5, 0.8, -0.4], [0.0, 0.0, -0.4, 1.5]]
)


def gaussian(values, codes, context):
    """Log-density of the Gaussian; the context, if any, moves its mean."""
    moved = values - MEAN - (0.0 if context is None else context.numpy())
    quadratic = np.einsum("ni,ij,nj->n", moved, np.linalg.inv(COVARIANCE), moved)
    log_det = np.linalg.slogdet(2.0 * np.pi * COVARIANCE)[1]
    return -0.5 * (quadratic + log_det), np.zeros(len(values))


@pytest.fixture(scope="module")
def gaussian_table():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.multivariate_normal(MEAN, COVARIANCE, 400), columns=list("abcd"))
    encoder = TableEncoder().fit(table)
    return encoder, encoder.encode(table)[0]


@pytest.mark.parametrize("names", [["a"], ["c", "a"], ["b", "c", "d"]])
def test_values_given_values_are_those_of_the_gaussian(gaussian_table, names):
    encoder, sources = gaussian_table
    # One to two standard deviations from the middle.
    given = pd.DataFrame([[1.2, -1.4, 1.0][: len(names)]] * N_ROWS, columns=names)
    drawn, known = draw(ExactDensity(encoder.layout_, gaussian), encoder, sources, given)
    held, free = np.flatnonzero(known), np.flatnonzero(~known)
    np.testing.assert_array_equal(drawn[:, held], encoder.encode_given(given)[0][:, held])
    slope = COVARIANCE[np.ix_(free, held)] @ np.linalg.inv(COVARIANCE[np.ix_(held, held)])
    mean = MEAN[free] + slope @ (drawn[0, held] - MEAN[held])
    covariance = COVARIANCE[np.ix_(free, free)] - slope @ COVARIANCE[np.ix_(held, free)]
    for k, column in enumerate(free):
        assert_mean_near(drawn[:, column], mean[k], np.sqrt(covariance[k, k]))
        # The variance of a squared Gaussian deviation is 2 sigma^4.
        squares = np.square(drawn[:, column] - mean[k])
        assert_mean_near(squares, covariance[k, k], np.sqrt(2.0) * covariance[k, k])
    if len(free) > 1:
        products = np.prod(drawn[:, free[:2]] - mean[:2], axis=1)
        deviation = np.sqrt(covariance[0, 0] * covariance[1, 1] + covariance[0, 1] ** 2)
        assert_mean_near(products, covariance[0, 1], deviation)


def test_each_row_has_its_own_conditions(gaussian_table):
    encoder, sources = gaussian_table
    given = pd.DataFrame({"a": np.repeat([-1.0, 2.0], N_ROWS)})
    drawn, _ = draw(ExactDensity(encoder.layout_, gaussian), encoder, sources, given)
    a = encoder.encode_given(given)[0][:, 0]
    for rows in (slice(0, N_ROWS), slice(N_ROWS, None)):
        expected = MEAN[1] + 0.9 * (a[rows][0] - MEAN[0])
        assert_mean_near(drawn[rows, 1], expected, np.sqrt(1.2 - 0.81))


def test_each_row_has_its_own_context(gaussian_table):
    encoder, sources = gaussian_table
    context = torch.from_numpy(np.repeat([[0.0], [0.7]], N_ROWS, axis=0))
    given = pd.DataFrame({"a": np.zeros(2 * N_ROWS)})
    drawn, _ = draw(ExactDensity(encoder.layout_, gaussian), encoder, sources, given, context=context)
    a = drawn[0, 0]
    for rows, shift in ((slice(0, N_ROWS), 0.0), (slice(N_ROWS, None), 0.7)):
        expected = MEAN[1] + shift + 0.9 * (a - MEAN[0] - shift)
        assert_mean_near(drawn[rows, 1], expected, np.sqrt(1.2 - 0.81))


def test_the_generators_decide(gaussian_table):
    encoder, sources = gaussian_table
    density = ExactDensity(encoder.layout_, gaussian)
    given = pd.DataFrame({"a": [0.3] * 5})
    one, same, other = (draw(density, encoder, sources, given, seed=seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one[:, 1:] != other[:, 1:]).all()
    assert len(np.unique(one[:, 1])) == 5


@pytest.mark.parametrize("n_sources", [1, 2, 5])
def test_few_rows_to_start_from(gaussian_table, n_sources):
    encoder, sources = gaussian_table
    density = ExactDensity(encoder.layout_, gaussian)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn, _ = draw(density, encoder, sources[:n_sources], pd.DataFrame({"a": [0.3] * 200}))
    assert np.isfinite(drawn).all()
    assert drawn[:, 1].std() > 0.2


def test_rows_start_near_what_is_given(gaussian_table, monkeypatch):
    encoder, sources = gaussian_table
    monkeypatch.setattr("flowdetect.estimators._conditions._VALUE_MOVES", 0)
    monkeypatch.setattr("flowdetect.estimators._conditions._N_NEAREST", 1)
    given = encoder.decode(sources[:50])[["a", "c"]]
    drawn, _ = draw(ExactDensity(encoder.layout_, gaussian), encoder, sources, given)
    np.testing.assert_allclose(drawn, sources[:50], atol=1e-12)


# --- values and codes --------------------------------------------------------------------------------------

COLOURS = np.array([0.5, 0.3, 0.2])
HOLES = np.array([0.1, 0.5, 0.8])  # how often `x` is missing for each colour
CENTRES = np.array([-0.5, 0.3, 1.0])  # of `z` for each colour


def log_normal(deviations):
    return -0.5 * np.square(deviations) - 0.5 * np.log(2.0 * np.pi)


def mixed(values, codes, context):
    """``x`` is missing by colour; ``z ~ N(centre, 1)`` and ``x ~ N(z / 2 + centre, 1)``."""
    (x, z), (gate, colour) = values.T, codes.T
    with np.errstate(divide="ignore"):
        # The fourth code of the colour is for what was never seen.
        log_colours = np.log(np.append(COLOURS, 0.0))[colour]
    centre, hole = np.append(CENTRES, 0.0)[colour], np.append(HOLES, 0.5)[colour]
    codes_part = log_colours + np.log(np.where(gate == 1, hole, 1.0 - hole))
    values_part = log_normal(z - centre) + np.where(gate == 0, log_normal(x - 0.5 * z - centre), 0.0)
    return values_part, codes_part


def draw_mixed(codes, generator):
    centre = torch.from_numpy(CENTRES)[codes[:, 1].long()]
    noise = torch.randn(2, len(codes), generator=generator, dtype=torch.float64)
    z = centre + noise[0]
    x = torch.where(codes[:, 0] == 0, 0.5 * z + centre + noise[1], 0.0)
    return torch.stack([x, z], dim=1)


def given_z(z):
    """Probabilities of the colours given ``z``."""
    weights = COLOURS * np.exp(log_normal(z - CENTRES))
    return weights / weights.sum()


@pytest.fixture(scope="module")
def mixed_table():
    """An encoder of the right layout, and encoded rows of the mixed density."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "x": np.where(rng.random(300) < 0.3, np.nan, rng.normal(size=300)),
            "z": rng.normal(size=300),
            "colour": pd.Categorical.from_codes(np.arange(300) % 3, categories=["red", "green", "blue"]),
        }
    )
    encoder = TableEncoder().fit(table)
    assert encoder.layout_ == MatrixLayout(2, (2, 4), (0, -1))
    colour = rng.choice(3, 600, p=COLOURS)
    gate = rng.random(600) < HOLES[colour]
    z = CENTRES[colour] + rng.normal(size=600)
    x = np.where(gate, 0.0, 0.5 * z + CENTRES[colour] + rng.normal(size=600))
    return encoder, np.column_stack([x, z, gate, colour])


@pytest.fixture(scope="module")
def mixed_density(mixed_table):
    return ExactDensity(mixed_table[0].layout_, mixed, draw_mixed)


def decoded(encoder, row, n_rows):
    """Repeat an encoded row as a table."""
    return pd.concat([encoder.decode(np.array([row], dtype=float))] * n_rows, ignore_index=True)


def test_codes_and_values_given_a_value(mixed_table, mixed_density):
    encoder, sources = mixed_table
    given = decoded(encoder, [0.0, 1.3, 1, 0], N_ROWS)[["z"]]
    drawn, _ = draw(mixed_density, encoder, sources, given)
    colours, present = given_z(1.3), drawn[:, 2] == 0
    for k in range(3):
        assert_share_near(drawn[:, 3] == k, colours[k])
        assert_share_near((drawn[:, 3] == k) & ~present, colours[k] * HOLES[k])
        x = drawn[present & (drawn[:, 3] == k), 0]
        assert_mean_near(x, 0.65 + CENTRES[k], 1.0)
        assert_mean_near(np.square(x - 0.65 - CENTRES[k]), 1.0, np.sqrt(2.0))


def test_codes_and_values_given_a_gated_value(mixed_table, mixed_density):
    encoder, sources = mixed_table
    given = decoded(encoder, [0.9, 0.0, 0, 0], N_ROWS)[["x"]]
    drawn, _ = draw(mixed_density, encoder, sources, given)
    assert (drawn[:, 2] == 0).all()
    # Given the colour, x is N(3/2 centre, 5/4), and z is N(centre + 2/5 (x - 3/2 centre), 4/5).
    weights = COLOURS * (1.0 - HOLES) * np.exp(-0.4 * np.square(0.9 - 1.5 * CENTRES))
    for k in range(3):
        here = drawn[:, 3] == k
        assert_share_near(here, weights[k] / weights.sum())
        assert_mean_near(drawn[here, 1], CENTRES[k] + 0.4 * (0.9 - 1.5 * CENTRES[k]), np.sqrt(0.8))


def test_codes_and_values_given_a_missing_entry(mixed_table, mixed_density):
    encoder, sources = mixed_table
    given = pd.DataFrame({"x": [np.nan] * N_ROWS})
    drawn, _ = draw(mixed_density, encoder, sources, given)
    assert (drawn[:, 2] == 1).all()
    shares = COLOURS * HOLES / (COLOURS * HOLES).sum()
    for k in range(3):
        here = drawn[:, 3] == k
        assert_share_near(here, shares[k])
        assert_mean_near(drawn[here, 1], CENTRES[k], 1.0)


def test_values_given_a_code_are_drawn_freely(mixed_table, mixed_density):
    encoder, sources = mixed_table
    given = pd.DataFrame({"colour": ["green"] * N_ROWS})
    drawn, _ = draw(mixed_density, encoder, sources, given)
    assert (drawn[:, 3] == 1).all()
    present = drawn[:, 2] == 0
    assert_share_near(~present, HOLES[1])
    assert_mean_near(drawn[:, 1], CENTRES[1], 1.0)
    assert_mean_near(drawn[present, 0], 1.5 * CENTRES[1], np.sqrt(1.25))


def test_a_code_given_all_the_rest(mixed_table, mixed_density):
    encoder, sources = mixed_table
    given = decoded(encoder, [0.9, 0.4, 0, 0], N_ROWS)[["x", "z"]]
    drawn, _ = draw(mixed_density, encoder, sources, given)
    np.testing.assert_allclose(drawn[:, :3], np.tile([0.9, 0.4, 0.0], (N_ROWS, 1)), atol=1e-9)
    likelihood = log_normal(0.4 - CENTRES) + log_normal(0.9 - 0.2 - CENTRES)
    weights = COLOURS * (1.0 - HOLES) * np.exp(likelihood)
    for k in range(3):
        assert_share_near(drawn[:, 3] == k, weights[k] / weights.sum())


def test_codes_that_no_row_has_are_never_drawn(mixed_table):
    encoder, sources = mixed_table

    def loves_the_unseen(values, codes, context):
        return np.zeros(len(values)), np.where(codes[:, 1] == 3, 9.0, 0.0)

    density = ExactDensity(encoder.layout_, loves_the_unseen, draw_mixed)
    for given in ({"z": [0.2] * 100}, {"x": [np.nan] * 100}):
        drawn, _ = draw(density, encoder, sources, pd.DataFrame(given))
        assert set(drawn[:, 3]) <= {0.0, 1.0, 2.0}


# --- codes alone -------------------------------------------------------------------------------------------


def test_codes_given_codes_are_those_of_the_model():
    sizes = {"a": 3, "b": 2, "c": 3}
    states = np.array(list(product(*map(range, sizes.values()))), dtype=np.float64)
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        rng.permutation(np.repeat(states, 10, axis=0)).astype(int).astype(str), columns=[*sizes]
    )
    encoder = TableEncoder().fit(table)
    assert encoder.layout_.cardinalities == (4, 3, 4)
    density = TableDensity(encoder.layout_, settings=FlowSettings(hidden_features=8), seed=0).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in density.parameters():
            parameter += 0.4 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        log_p = density.code_log_prob(torch.from_numpy(states)).numpy()
    given = pd.DataFrame({"b": ["1"] * N_ROWS})
    drawn, _ = draw(density, encoder, encoder.encode(table)[0], given)
    assert (drawn[:, 1] == 1).all()
    possible = states[:, 1] == 1
    shares = np.exp(log_p[possible]) / np.exp(log_p[possible]).sum()
    assert np.ptp(shares) > 0.1
    for state, share in zip(states[possible], shares, strict=True):
        assert_share_near((drawn == state).all(axis=1), share)
