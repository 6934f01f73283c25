from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch

from flowdetect import FlowDensity
from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.inference import FlowMixture

# --- what the number is ------------------------------------------------------------------------------------


def test_a_known_density_is_learnt_in_its_own_units(quick):
    rng = np.random.default_rng(0)
    X = 1000.0 + 50.0 * rng.normal(size=(900, 2))
    density = quick("density", max_steps=200, hidden_features=16).fit(X[:600])
    truth = -np.log(2 * np.pi * 50.0**2) - 0.5 * (((X[600:] - 1000) / 50) ** 2).sum(axis=1)
    assert density.score(X[600:]) == pytest.approx(truth.mean(), abs=0.1)


def test_a_change_of_unit_shifts_the_scores_by_its_logarithm(quick, blob):
    metres, millimetres = quick("density").fit(blob), quick("density").fit(1024.0 * blob)
    shifted = metres.score_samples(blob) - 3 * np.log(1024.0)
    assert millimetres.score_samples(1024.0 * blob) == pytest.approx(shifted, abs=1e-4)


def discrete_table():
    rng = np.random.default_rng(0)
    colour = rng.choice(["red", "green", "blue"], 240)
    return pd.DataFrame(
        {
            "colour": pd.Categorical(colour),
            "old": rng.random(240) < np.where(colour == "red", 0.9, 0.2),
            "count": rng.integers(0, 4, 240),
        }
    )


def test_probabilities_of_a_discrete_table_sum_to_one(quick):
    density = quick("density").fit(discrete_table())
    # Every column keeps one state for what was never seen: a missing colour, a missing truth value, a 99.
    states = pd.DataFrame(
        product(["red", "green", "blue", None], [False, True, None], [0, 1, 2, 3, 99]),
        columns=["colour", "old", "count"],
    )
    log_p = density.score_samples(states.astype({"colour": "category", "old": "boolean"}))
    seen = (states.notna().all(axis=1) & (states["count"] < 99)).to_numpy()
    assert np.exp(log_p).sum() == pytest.approx(1.0, abs=1e-9)
    assert 0.98 < np.exp(log_p[seen]).sum() < 1.0
    assert (log_p <= 0.0).all()


def test_the_probabilities_are_those_of_the_table(quick):
    X = discrete_table()
    density = quick("density", max_steps=200).fit(X)
    p = sum(np.exp(density.score_samples(X.assign(count=count))) for count in range(4))
    for colour, old in product(["red", "green"], [False, True]):
        these = ((X["colour"] == colour) & (X["old"] == old)).to_numpy()
        assert p[these] == pytest.approx(these.mean(), abs=0.06)


def test_score_is_the_mean(density, new_rows):
    scores = density.score_samples(new_rows)
    assert density.score(new_rows) == pytest.approx(scores.mean())
    assert isinstance(density.score(new_rows), float)
    weights = np.arange(len(new_rows))
    expected = (weights * scores).sum() / weights.sum()
    assert density.score(new_rows, sample_weight=weights) == pytest.approx(expected)
    with pytest.raises(InvalidTableError, match=r"above zero for at least 1 row\(s\); got 0 of 30"):
        density.score(new_rows, sample_weight=np.zeros(30))


@pytest.mark.parametrize("kind", ["coupling", "autoregressive"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_kinds_and_dropout(quick, table, new_rows, kind, dropout):
    density = quick("density", kind=kind, dropout=dropout).fit(table)
    assert np.isfinite(density.score_samples(new_rows)).all()
    assert density.sample(3, random_state=0).shape == (3, 6)
    assert np.array_equal(
        density.score_samples(new_rows),
        quick("density", kind=kind, dropout=dropout).fit(table).score_samples(new_rows),
    )


def test_training_says_why_it_stopped(density, quick, blob):
    assert density.training_result_.stop_reason == "max_steps"
    assert density.training_result_.n_steps == 12
    assert quick("density").fit(blob[:8]).training_result_.n_validation == 0
    budget = quick("density", time_budget=1e-6, max_steps=1000).fit(blob)
    assert budget.training_result_.stop_reason == "time_budget"


# --- sample ------------------------------------------------------------------------------------------------


def test_a_sample_looks_like_the_table(density, table):
    drawn = density.sample(300, random_state=0)
    assert list(drawn.columns) == list(table.columns)
    assert (drawn.dtypes == table.dtypes).all()
    assert list(drawn["colour"].cat.categories) == list(table["colour"].cat.categories)
    assert set(drawn["colour"].dropna()) <= {"red", "green", "blue"}
    assert drawn["count"].between(table["count"].min(), table["count"].max()).all()
    assert (drawn["day"] == drawn["day"].dt.normalize()).all()
    assert 0.02 < drawn["weight"].isna().mean() < 0.35
    assert drawn.drop(columns=["weight", "colour"]).notna().all(axis=None)
    assert drawn.index.equals(pd.RangeIndex(300))


def test_numbers_that_were_never_negative_stay_so(quick):
    X = pd.DataFrame({"price": np.random.default_rng(0).exponential(size=300)})
    drawn = quick("density").fit(X).sample(300, random_state=0)["price"]
    assert (drawn >= 0.0).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.int8])
def test_an_array_gives_arrays_of_its_dtype(quick, dtype):
    X = np.random.default_rng(0).integers(0, 50, size=(60, 2)).astype(dtype)
    density = quick("density").fit(X)
    drawn = density.sample(5, random_state=0)
    assert drawn.dtype == dtype
    assert drawn.shape == (5, 2)
    assert np.isfinite(density.score_samples(drawn.astype(float))).all()


def test_samples_follow_random_state(density):
    first, again, other = (density.sample(4, random_state=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(other)
    assert not density.sample(4).equals(density.sample(4))
    stream = np.random.default_rng(0)
    assert not density.sample(4, random_state=stream).equals(density.sample(4, random_state=stream))
    assert len(density.sample()) == 1


@pytest.mark.parametrize("n_samples", [0, -1, 1.5, "a", True])
def test_a_number_of_samples_that_is_none(density, n_samples):
    with pytest.raises(ConfigurationError, match="n_samples must be a whole number of at least 1; got"):
        density.sample(n_samples)


# --- context -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def line(quick):
    """``y = 2 x`` with Gaussian noise of standard deviation 0.5."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=700)
    y = 2.0 * x + rng.normal(scale=0.5, size=700)
    return quick("density", max_steps=300, hidden_features=16).fit(y[:, None], context=x)


def test_a_conditional_density_is_learnt(line):
    rng = np.random.default_rng(1)
    x = rng.normal(size=300)
    y = 2.0 * x + rng.normal(scale=0.5, size=300)
    truth = -0.5 * np.log(2 * np.pi * 0.25) - 0.5 * ((y - 2 * x) / 0.5) ** 2
    assert line.score(y[:, None], context=x) == pytest.approx(truth.mean(), abs=0.2)


def test_a_conditional_density_integrates_to_one(line):
    grid = np.linspace(-8, 8, 1500)
    for x in (-1.0, 0.5):
        p = np.exp(line.score_samples(grid[:, None], context=np.full(1500, x)))
        assert np.trapezoid(p, grid) == pytest.approx(1.0, abs=0.01)


def test_rows_for_the_first_context_row_come_first(line):
    drawn = line.sample(200, context=np.array([-1.5, 1.5]), random_state=0)
    assert drawn.shape == (400, 1)
    assert drawn[:200].mean() == pytest.approx(-3.0, abs=0.4)
    assert drawn[200:].mean() == pytest.approx(3.0, abs=0.4)
    assert np.array_equal(drawn, line.sample(200, context=[-1.5, 1.5], random_state=0))


def test_samples_come_in_chunks(line, monkeypatch):
    monkeypatch.setattr("flowdetect.estimators._rows._MAX_CHUNK_ROWS", 7)
    drawn = line.sample(10, context=np.array([-1.5, 1.5]), random_state=0)
    assert drawn.shape == (20, 1)
    assert drawn[:10].mean() < 0 < drawn[10:].mean()


def test_context_of_mixed_types_with_missing_values(quick, table, new_rows):
    context = ["weight", "colour", "old", "day"]
    density = quick("density").fit(table[["size", "count"]], context=table[context])
    given = new_rows[context].copy()
    given.iloc[0] = [np.nan, None, False, pd.NaT]
    scores = density.score_samples(new_rows[["size", "count"]], context=given)
    assert np.isfinite(scores).all()
    reordered = density.score_samples(new_rows[["count", "size"]], context=given[context[::-1]])
    assert np.array_equal(reordered, scores)
    assert density.sample(2, context=given, random_state=0).shape == (60, 2)
    assert density.n_features_in_ == 2


def test_context_may_be_missing_later_where_it_never_was(line):
    scores = line.score_samples([[0.0], [0.0]], context=[np.nan, 0.0])
    assert np.isfinite(scores).all()


def test_context_matters_to_score_and_sample(line, density, new_rows):
    needs = "This FlowDensity was fitted with context, so it needs one; got none. Pass context="
    for method in (lambda: line.score_samples([[0.0]]), lambda: line.score([[0.0]]), lambda: line.sample(2)):
        with pytest.raises(InvalidTableError, match=needs):
            method()
    takes_none = "was fitted without context, so it takes none; got one. Leave context out"
    with pytest.raises(InvalidTableError, match=takes_none):
        density.score_samples(new_rows, context=new_rows)
    with pytest.raises(InvalidTableError, match=takes_none):
        density.sample(2, context=new_rows)


def test_errors_in_the_context_say_so(quick, blob, table):
    context = table[["size", "colour"]].head(len(blob))
    with pytest.raises(InvalidTableError, match="context cannot be used: .*infinity"):
        quick("density").fit(blob, context=context.assign(size=np.inf))
    density = quick("density", max_steps=1).fit(blob, context=context)
    with pytest.raises(InvalidTableError, match="context cannot be used: .*missing: 'colour'"):
        density.score_samples(blob, context=context[["size"]])
    with pytest.raises(InvalidTableError, match="context cannot be used: .*must hold numbers"):
        density.score_samples(blob, context=context.assign(size="big"))
    with pytest.raises(InvalidTableError, match="context must be a DataFrame"):
        density.sample(1, context=context.head(0))


def test_a_gated_density_uses_no_linear_mixing(density, quick, blob):
    assert density._flow_settings().mixing == "permutation"
    assert quick("density", max_steps=1).fit(blob)._flow_settings().mixing == "lu"


def test_the_global_stream_of_torch_is_not_needed(quick, blob):
    before = torch.get_rng_state()
    quick("density", dropout=0.3).fit(blob).sample(3)
    assert torch.equal(torch.get_rng_state(), before)


def test_categories_never_seen_are_not_drawn() -> None:
    table = pd.DataFrame(
        {
            "label": pd.Categorical(["a", "b"] * 10, categories=["a", "b", "never"]),
            "text": ["a", "b"] * 10,
            "same": ["a", "b"] * 10,
            "few": [1, 2, 2, 3] * 5,
            "holes": ["x", None] * 10,
        }
    )
    model = FlowDensity(max_steps=2, random_state=0).fit(table)
    # Of 20 rows each column keeps about 1 / 22 for what was never seen.
    drawn = model.sample(2000, random_state=0)
    assert set(drawn["label"]) == {"a", "b"}
    assert set(drawn["text"]) == {"a", "b"}
    assert (drawn["same"] == drawn["text"]).all()
    assert set(drawn["few"]) == {1, 2, 3}
    assert set(drawn["holes"].dropna()) == {"x"}
    mixture = FlowMixture(2, max_steps=2, max_iter=1, random_state=0).fit(table)
    assert not mixture.sample(2000, random_state=0)["label"].isna().any()
