"""What drawn rows are: `FlowAugmenter.sample`, with noise, bounds, conditions and constraints."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError

from flowdetect.exceptions import ConfigurationError, ConstraintError, InvalidTableError

# --- how many, of which classes ----------------------------------------------------------------------------


def test_one_row_is_drawn_by_default(augmenter, table):
    drawn = augmenter.sample()
    assert drawn.shape == (1, table.shape[1])


@pytest.mark.parametrize("n_samples", [1, 7, np.int64(4)])
def test_as_many_rows_as_asked_for(augmenter, n_samples):
    rows, classes = augmenter.sample(n_samples, return_y=True)
    assert len(rows) == len(classes) == n_samples
    assert rows.index.equals(pd.RangeIndex(n_samples))


@pytest.mark.parametrize("n_samples", [0, -1, 1.5, "a", True, None])
def test_a_number_of_samples_that_is_none(augmenter, n_samples):
    with pytest.raises(ConfigurationError, match="n_samples must be a whole number of at least 1; got"):
        augmenter.sample(n_samples)


def test_classes_come_as_often_as_in_training_by_default(augmenter, labels):
    _, classes = augmenter.sample(1000, return_y=True, random_state=0)
    for label in ("common", "medium", "rare"):
        share = np.mean(labels == label)
        assert np.mean(classes == label) == pytest.approx(
            share, abs=4.5 * (share * (1 - share) / 1000) ** 0.5
        )
    assert classes.dtype.kind == "U"


def test_one_class_or_one_for_each_row(augmenter):
    assert augmenter.sample(3, y="rare", return_y=True)[1].tolist() == ["rare"] * 3
    wanted = ["rare", "common", "medium", "rare"]
    for given in (wanted, np.array(wanted), pd.Series(wanted, index=[9, 8, 7, 6]), pd.Categorical(wanted)):
        assert augmenter.sample(4, y=given, return_y=True)[1].tolist() == wanted


def test_rows_are_of_the_class_asked_for(quick):
    X = np.concatenate([np.random.default_rng(0).normal(size=(60, 2)) + shift for shift in (0.0, 100.0)])
    augmenter = quick("augmenter", max_steps=200).fit(X, np.repeat([0, 1], 60))
    drawn = augmenter.sample(200, y=np.tile([0, 1], 100), random_state=0)
    assert (drawn[::2] < 50.0).mean() > 0.95
    assert (drawn[1::2] > 50.0).mean() > 0.95


@pytest.mark.parametrize(
    ("y", "got"),
    [
        ("odd", r"unknown ones: \['odd'\]"),
        (["rare", "odd"], r"unknown ones: \['odd'\]"),
        (["rare"], "1 of them"),
        (["rare"] * 3, "3 of them"),
        (np.nan, r"unknown ones: \['nan'\]"),
        ([None, "rare"], r"unknown ones: \['None'\]"),
    ],
)
def test_classes_that_were_not_there(augmenter, y, got):
    message = rf"one class, or one for each of 2 rows, out of \['common', 'medium', 'rare'\]; got {got}"
    with pytest.raises(InvalidTableError, match=message):
        augmenter.sample(2, y=y)


def test_without_classes(quick, table):
    augmenter = quick("augmenter").fit(table)
    assert augmenter.classes_ is None
    assert augmenter.context_encoder_ is None
    assert augmenter.sample(20, random_state=0).shape == (20, 6)
    with pytest.raises(ConfigurationError, match="y asks for classes, but .* fitted without y"):
        augmenter.sample(2, y=1)
    with pytest.raises(ConfigurationError, match="return_y=True needs classes; .* fitted without y"):
        augmenter.sample(2, return_y=True)


def test_before_fit(quick):
    with pytest.raises(NotFittedError, match="not fitted yet"):
        quick("augmenter").sample()


def test_random_state(augmenter):
    one, same, other = (augmenter.sample(5, random_state=seed) for seed in (3, 3, 4))
    pd.testing.assert_frame_equal(one, same)
    assert not one.equals(other)
    assert not augmenter.sample(5).equals(augmenter.sample(5))
    stream = np.random.default_rng(0)
    assert not augmenter.sample(5, random_state=stream).equals(augmenter.sample(5, random_state=stream))
    with pytest.raises(ConfigurationError, match="random_state must be None, a non-negative whole number"):
        augmenter.sample(5, random_state=-1)


def test_global_streams_of_numpy_and_torch_do_not_matter(augmenter):
    numpy_stream, torch_stream = np.random.get_state(), torch.get_rng_state()
    one = augmenter.sample(5, random_state=0)
    np.random.seed(5)
    torch.default_generator.manual_seed(5)
    try:
        pd.testing.assert_frame_equal(augmenter.sample(5, random_state=0), one)
    finally:
        np.random.set_state(numpy_stream)
        torch.set_rng_state(torch_stream)


def test_samples_come_in_chunks(augmenter, monkeypatch):
    monkeypatch.setattr("flowdetect.estimators._rows._MAX_CHUNK_ROWS", 7)
    drawn, classes = augmenter.sample(40, return_y=True, random_state=0)
    assert drawn.shape == (40, 6)
    assert len(drawn.drop_duplicates()) == 40
    given = augmenter.sample(10, conditions={"colour": ["red", "blue"]}, random_state=0)
    assert given["colour"].tolist() == ["red"] * 10 + ["blue"] * 10


# --- what rows look like -----------------------------------------------------------------------------------


def test_a_sample_looks_like_the_table(augmenter, table):
    drawn = augmenter.sample(400, random_state=0)
    assert list(drawn.columns) == list(table.columns)
    assert (drawn.dtypes == table.dtypes).all()
    assert list(drawn["colour"].cat.categories) == ["red", "green", "blue", "black"]
    assert set(drawn["colour"]) == {"red", "green", "blue"}
    assert (drawn["day"] == drawn["day"].dt.normalize()).all()
    assert 0.02 < drawn["weight"].isna().mean() < 0.35
    assert drawn.drop(columns="weight").notna().all(axis=None)
    for name in ("size", "weight", "count", "day"):
        assert drawn[name].dropna().between(table[name].min(), table[name].max()).all()
    assert drawn["size"].nunique() == 400


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.int8, np.uint16, bool])
def test_an_array_gives_arrays_of_its_dtype(quick, dtype):
    X = np.random.default_rng(0).integers(0, 50, size=(60, 2)).astype(dtype)
    drawn = quick("augmenter").fit(X).sample(5, random_state=0)
    assert type(drawn) is np.ndarray
    assert drawn.dtype == dtype
    assert drawn.shape == (5, 2)
    assert (drawn >= X.min(axis=0)).all()
    assert (drawn <= X.max(axis=0)).all()


def test_extension_dtypes_and_their_missing_entries(quick):
    rng = np.random.default_rng(0)
    holes = rng.random(90) < 0.3
    table = pd.DataFrame(
        {
            "whole": pd.array(np.where(holes, None, rng.integers(0, 90, 90)), dtype="Int16"),
            "real": pd.array(rng.normal(size=90), dtype="Float32"),
            "flag": pd.array(np.where(holes, None, rng.random(90) < 0.5), dtype="boolean"),
            "text": pd.array(np.where(holes, None, rng.choice(["u", "v"], 90)), dtype="string"),
            "object": np.where(holes, None, "w").astype(object),
            "level": pd.Categorical(rng.choice(["lo", "hi"], 90), ["lo", "mid", "hi"], ordered=True),
            "digit": pd.Categorical(rng.integers(3, 9, 90)),
            "zone": pd.Timestamp("2024-03-30", tz="Europe/Berlin")
            + pd.to_timedelta(rng.integers(0, 99, 90), unit="h"),
            "span": pd.to_timedelta(rng.integers(0, 4000, 90), unit="s"),
            "sparse": pd.arrays.SparseArray(np.where(holes, np.nan, rng.normal(size=90))),
        }
    )
    drawn = quick("augmenter").fit(table).sample(60, random_state=0)
    assert (drawn.dtypes == table.dtypes).all()
    assert drawn["level"].cat.ordered
    assert set(drawn["level"]) == {"lo", "hi"}
    assert set(drawn["object"].dropna()) == {"w"}
    assert drawn["zone"].dt.minute.eq(0).all()
    assert drawn["span"].dt.microseconds.eq(0).all()
    complete = drawn[["real", "level", "digit", "zone", "span"]]
    assert complete.notna().all(axis=None)
    others = drawn.drop(columns=complete.columns)
    assert others.isna().any().all()
    assert others.notna().any().all()


def test_rounded_numbers_stay_rounded(quick):
    rng = np.random.default_rng(0)
    price = rng.permutation(100) / 100.0  # all distinct
    table = pd.DataFrame(
        {
            "price": price,
            "dear": np.round(rng.normal(size=100) * 1000.0, 1),
            "step": rng.integers(0, 100, 100) * 5,
            "measured": rng.normal(size=100),
            "again": price,
        }
    )
    drawn = quick("augmenter").fit(table).sample(80, random_state=0)
    assert (drawn["price"] == drawn["price"].round(2)).all()
    assert (drawn["dear"] == drawn["dear"].round(1)).all()
    assert (drawn["step"] % 5 == 0).all()
    assert (drawn["measured"] != drawn["measured"].round(6)).all()
    assert (drawn["again"] == drawn["price"]).all()
    assert drawn["price"].nunique() > 20


def test_rounded_numbers_of_an_array_stay_rounded(quick):
    X = np.round(np.random.default_rng(0).normal(size=(60, 2)), 2)
    drawn = quick("augmenter").fit(X).sample(30, random_state=0)
    np.testing.assert_array_equal(drawn, drawn.round(2))


def test_jointly_missing_columns_stay_jointly_missing(quick):
    rng = np.random.default_rng(0)
    values, holes = rng.normal(size=(200, 3)), rng.random(200) < 0.4
    values[holes, :2] = np.nan
    augmenter = quick("augmenter", max_steps=200, learning_rate=1e-2).fit(values)
    missing = np.isnan(augmenter.sample(300, random_state=0))
    assert not missing[:, 2].any()
    assert np.mean(missing[:, 0] == missing[:, 1]) > 0.9
    assert missing[:, 0].mean() == pytest.approx(holes.mean(), abs=0.12)


def test_categories_never_seen_are_never_drawn(quick):
    # An unseen code starts with the probability 1 / n_codes here, so it would be drawn now and then.
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.choice(["x", "y"], 8), "b": rng.choice(["u", "v"], 8)})
    drawn = quick("augmenter", max_steps=1, noise_scale=1.0).fit(table).sample(500, random_state=0)
    assert drawn.notna().all(axis=None)
    assert set(drawn["a"]) == {"x", "y"}


# --- noise_scale -------------------------------------------------------------------------------------------


def distances(drawn, rows):
    """Return how far each drawn row is from the nearest of the rows."""
    return np.sqrt(np.square(drawn[:, None] - rows[None]).sum(axis=-1)).min(axis=1)


def test_without_noise_rows_are_copies(quick, table, labels):
    augmenter = quick("augmenter", noise_scale=0.0).fit(table, labels)
    drawn = augmenter.sample(30, y="rare", random_state=0)
    rare = table[labels == "rare"].reset_index(drop=True)
    for _, row in drawn.iterrows():
        same = [
            np.isclose(rare[name], row[name], rtol=1e-6, atol=1e-6, equal_nan=True)
            if rare[name].dtype.kind == "f"
            else (rare[name] == row[name]).to_numpy()
            for name in rare
        ]
        assert np.all(same, axis=0).any()
    # Each of the fifteen rows comes in turn.
    assert drawn["size"].round(6).value_counts().tolist() == [2] * 15


def test_the_larger_the_noise_the_further_away(quick, blob):
    means = []
    for noise_scale in (0.0, 0.1, 0.4, 1.0):
        augmenter = quick("augmenter", noise_scale=noise_scale, bounds=None).fit(blob)
        means.append(distances(augmenter.sample(150, random_state=0), blob).mean())
    assert means[0] < 1e-6
    assert means[0] < means[1] < means[2] < means[3]


def test_with_full_noise_rows_do_not_depend_on_their_start(quick):
    # Two clusters, unseen as such by a flow of a single step: free draws go between, near ones do not.
    X = np.concatenate([np.random.default_rng(0).normal(size=(60, 1)) + shift for shift in (0.0, 40.0)])
    free, near = (
        quick("augmenter", noise_scale=noise_scale, max_steps=1).fit(X).sample(300, random_state=0)
        for noise_scale in (1.0, 0.01)
    )
    assert ((free > 5.0) & (free < 35.0)).mean() > 0.2
    assert ((near > 5.0) & (near < 35.0)).mean() == 0.0


def test_the_noise_of_a_class_grows_with_its_rows(quick, blob):
    augmenter = quick("augmenter").fit(blob, np.repeat([0, 1, 2], [100, 17, 3]))
    scales = augmenter._noise_scales()
    assert (np.diff(scales) < 0).all()
    assert ((scales > 0) & (scales < 1)).all()
    assert augmenter._noise_scales(near_rows=True).tolist() == np.minimum(scales, 0.5).tolist()
    assert quick("augmenter", noise_scale=0.25).fit(blob)._noise_scales().tolist() == [0.25]


@pytest.mark.parametrize("noise_scale", [-0.1, 1.1, np.nan, "low", True, None, [0.5]])
def test_a_noise_scale_that_is_none(quick, blob, noise_scale):
    with pytest.raises(ConfigurationError, match=r"noise_scale must be 'auto' or lie in 0\.\.1; got"):
        quick("augmenter", noise_scale=noise_scale).fit(blob)


@pytest.mark.parametrize("noise_scale", [0, 1, np.float32(0.5), np.int64(1), "auto"])
def test_numbers_of_any_kind_as_noise_scale(quick, blob, noise_scale):
    assert quick("augmenter", noise_scale=noise_scale, max_steps=1).fit(blob).sample().shape == (1, 3)


# --- bounds ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def narrow(quick, table):
    bounds = {
        "size": (0.0, 3.0),
        "weight": (None, 4.0),
        "count": (15, 22),
        "day": (pd.Timestamp("2024-03-01"), None),
    }
    return quick("augmenter", bounds=bounds).fit(table)


def test_declared_bounds_hold_in_every_row(narrow, table):
    drawn = narrow.sample(200, random_state=0)
    assert drawn["size"].between(0.0, 3.0).all()
    assert (drawn["weight"].dropna() <= 4.0).all()
    assert drawn["weight"].isna().any()
    assert set(drawn["count"]) == set(range(15, 23))
    assert (drawn["day"] >= pd.Timestamp("2024-03-01")).all()
    assert drawn["size"].nunique() > 190  # cut off at the bounds, many would be 0 or 3


@pytest.fixture
def few_rounds(monkeypatch):
    """Draw rows that cannot be had less often than by default."""
    monkeypatch.setattr("flowdetect.estimators._drawing._MOST_ROUNDS", 6)


@pytest.mark.usefixtures("few_rounds")
def test_declared_bounds_hold_with_conditions(narrow):
    drawn = narrow.sample(20, conditions={"old": [True, False]}, random_state=0)
    assert drawn["size"].between(0.0, 3.0).all()
    assert drawn["count"].between(15, 22).all()
    with pytest.raises(
        ConstraintError, match=r"^3 of 3 rows .* Loosen the constraints or the conditions, or"
    ):
        narrow.sample(3, conditions={"colour": "red", "old": True, **FIXED})


# All other columns given, so that drawing is fast, and a size beyond the bounds.
FIXED = {"size": 5.0, "weight": 1.0, "count": 20, "day": pd.Timestamp("2024-06-01")}


def test_without_bounds_rows_leave_the_observed_range(quick, blob):
    free, kept = (
        quick("augmenter", bounds=bounds, noise_scale=1.0).fit(blob).sample(400, random_state=0)
        for bounds in (None, "observed")
    )
    inside = (blob.min(axis=0) <= free) & (free <= blob.max(axis=0))
    assert 0.5 < inside.mean() < 1.0
    assert (kept >= blob.min(axis=0)).all()
    assert (kept <= blob.max(axis=0)).all()


@pytest.mark.parametrize("shape", [(2, 1), (3, 2), (8, 3)])
def test_few_rows_stay_in_their_range_to_the_last_digit(quick, shape):
    X = 37.3 * np.random.default_rng(0).normal(size=shape) + 11.1
    drawn = quick("augmenter", noise_scale=1.0).fit(X).sample(300, random_state=0)
    assert (drawn >= X.min(axis=0)).all()
    assert (drawn <= X.max(axis=0)).all()


def test_atoms_and_small_sets_keep_to_declared_bounds(quick):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"rain": np.where(rng.random(100) < 0.5, 0.0, rng.random(100)), "few": rng.integers(0, 4, 100)}
    )
    augmenter = quick("augmenter", bounds={"rain": (0.25, None), "few": (1, 2)}).fit(table)
    drawn = augmenter.sample(60, random_state=0)
    assert (drawn["rain"] >= 0.25).all()
    assert set(drawn["few"]) == {1, 2}


def test_times_with_zone_and_durations_keep_to_declared_bounds(quick):
    rng = np.random.default_rng(0)
    hours = pd.to_timedelta(rng.integers(0, 400, 80), unit="h")
    table = pd.DataFrame({"at": pd.Timestamp("2024-01-01", tz="UTC") + hours, "took": hours[::-1]})
    latest, longest = pd.Timestamp("2024-01-09", tz="Europe/Berlin"), pd.Timedelta(days=5)
    drawn = quick("augmenter", bounds={"at": (None, latest), "took": (None, longest)}).fit(table).sample(60)
    assert (drawn["at"] <= latest).all()
    assert (drawn["took"] <= longest).all()


@pytest.mark.usefixtures("few_rounds")
def test_bounds_that_no_number_of_the_column_meets(quick, table):
    augmenter = quick("augmenter", bounds={"count": (20.2, 20.8)}, max_steps=1).fit(table)
    with pytest.raises(ConstraintError, match="^2 of 2 rows did not fulfil the constraints in 6 draws each"):
        augmenter.sample(2)


@pytest.mark.parametrize("bounds", ["seen", {"colour": (0, 1)}, {"size": (1.0, 0.0)}, {"old": (0, 1)}, 5])
def test_bounds_that_are_none_are_refused_by_fit(quick, table, bounds):
    with pytest.raises(ConfigurationError, match="^bounds "):
        quick("augmenter", bounds=bounds).fit(table)


# --- constraints -------------------------------------------------------------------------------------------


def large(rows):
    return rows["size"] > 1.0


def even(rows):
    return (rows["count"] % 2 == 0).to_numpy()


def nowhere(rows):
    return np.zeros(len(rows), dtype=bool)


@pytest.fixture
def constrained(augmenter, monkeypatch):
    """Return the fitted augmenter with constraints, which matter to drawing alone."""

    def make(constraints):
        monkeypatch.setattr(augmenter, "constraints", constraints)
        return augmenter

    return make


@pytest.mark.parametrize("constraints", [[large, even], (large, even), lambda rows: large(rows) & even(rows)])
def test_constraints_hold_in_every_row(constrained, constraints):
    drawn = constrained(constraints).sample(60, random_state=0)
    assert len(drawn) == 60
    assert (drawn["size"] > 1.0).all()
    assert (drawn["count"] % 2 == 0).all()
    assert drawn["size"].nunique() == 60


def test_rows_that_fulfil_the_constraints_stay_as_they_were(constrained):
    free = constrained(None).sample(60, random_state=0)
    drawn = constrained(large).sample(60, random_state=0)
    kept = large(free)
    assert 0 < kept.sum() < 60
    pd.testing.assert_frame_equal(drawn[kept], free[kept])
    pd.testing.assert_frame_equal(constrained([]).sample(60, random_state=0), free)


def test_constraints_keep_the_classes(constrained):
    _, free = constrained(None).sample(60, return_y=True, random_state=0)
    drawn, classes = constrained(large).sample(60, return_y=True, random_state=0)
    np.testing.assert_array_equal(classes, free)


def test_constraints_see_the_table_as_it_is_returned(constrained, table):
    seen = []
    drawn = constrained(lambda rows: seen.append(rows) or np.ones(len(rows), dtype=bool)).sample(
        4, conditions={"colour": "red"}, random_state=0
    )
    assert len(seen) == 1
    pd.testing.assert_frame_equal(seen[0], drawn)


def test_nullable_and_listed_bools_count(constrained):
    nullable = constrained(lambda rows: large(rows).astype("boolean")).sample(20, random_state=0)
    listed = constrained(lambda rows: large(rows).tolist()).sample(20, random_state=0)
    pd.testing.assert_frame_equal(nullable, listed)


def test_constraints_hold_within_conditions(constrained):
    drawn = constrained(large).sample(20, conditions={"colour": ["red", "green"]}, random_state=0)
    assert drawn["colour"].tolist() == ["red"] * 20 + ["green"] * 20
    assert (drawn["size"] > 1.0).all()


def test_constraints_hold_in_arrays(quick, blob):
    augmenter = quick("augmenter", constraints=lambda rows: rows[:, 0] > 0.5).fit(blob)
    assert (augmenter.sample(40, random_state=0)[:, 0] > 0.5).all()


@pytest.mark.usefixtures("few_rounds")
def test_constraints_that_cannot_be_met(constrained):
    message = (
        r"^5 of 5 rows did not fulfil the constraints in 6 draws each; of all 30 drawn rows 0 did\. "
        "Loosen the constraints, or look"
    )
    with pytest.raises(ConstraintError, match=message):
        constrained([large, nowhere]).sample(5)
    with pytest.raises(ConstraintError, match="Loosen the constraints or the conditions, or look"):
        constrained(lambda rows: rows["colour"] != "red").sample(2, conditions={"colour": "red"})


@pytest.mark.parametrize(
    ("check", "returned"),
    [
        (lambda rows: large(rows).astype(int), r"int64 of shape \(6,\)"),
        (lambda rows: True, r"bool of shape \(\)"),
        (lambda rows: rows[["size"]] > 0, r"bool of shape \(6, 1\)"),
        (lambda rows: nowhere(rows)[1:], r"bool of shape \(5,\)"),
        (lambda rows: None, r"object of shape \(\)"),
    ],
)
def test_a_constraint_that_returns_something_else(constrained, check, returned):
    message = rf"must return one bool per row, shape \(6,\); '<lambda>' returned {returned}"
    with pytest.raises(InvalidTableError, match=message):
        constrained(check).sample(6)


def test_rows_are_drawn_again_a_hundred_times(constrained, table):
    calls = []

    def at_last(rows):
        calls.append(len(rows))
        return np.full(len(rows), len(calls) == 100)

    drawn = constrained(at_last).sample(2, conditions=table[list(table)].head(1), random_state=0)
    pd.testing.assert_frame_equal(drawn, table.iloc[[0, 0]].reset_index(drop=True))
    assert calls == [2] * 100


def test_an_error_in_a_constraint_is_not_swallowed(constrained):
    with pytest.raises(KeyError, match="length"):
        constrained(lambda rows: rows["length"] > 0).sample(2)


@pytest.mark.parametrize("constraints", ["large", 5, [5], [large, "x"], {"a": 1}])
def test_constraints_that_are_none_are_refused_by_fit(quick, blob, constraints):
    with pytest.raises(ConfigurationError, match="constraints must be a function from a table to one bool"):
        quick("augmenter", constraints=constraints).fit(blob)


# --- conditions --------------------------------------------------------------------------------------------


@pytest.fixture
def few_moves(monkeypatch):
    """What holds after any number of moves is tested with few."""
    monkeypatch.setattr("flowdetect.estimators._conditions._VALUE_MOVES", 3)


def assert_given(drawn, given, n_samples):
    """See that the rows hold each given one n_samples times in a row, exactly."""
    expected = given.loc[given.index.repeat(n_samples)].reset_index(drop=True)
    pd.testing.assert_frame_equal(drawn[list(given.columns)], expected, check_exact=True)


SUBSETS = [
    ["size"],
    ["weight"],
    ["colour"],
    ["count"],
    ["old"],
    ["day"],
    ["day", "size"],
    ["colour", "old"],
    ["weight", "count", "colour"],
    ["weight", "colour", "count", "old", "day"],
    ["size", "weight", "count", "old", "day"],
    ["old", "count", "day", "colour", "weight", "size"],
]


@pytest.mark.usefixtures("few_moves")
@pytest.mark.parametrize("names", SUBSETS, ids="-".join)
def test_given_columns_hold_exactly(augmenter, new_rows, table, names):
    given = new_rows[names].head(12).reset_index(drop=True)
    assert "weight" not in names or given["weight"].isna().any()
    drawn, classes = augmenter.sample(2, conditions=given, return_y=True, random_state=0)
    assert drawn.shape == (24, 6)
    assert len(classes) == 24
    assert list(drawn.columns) == list(table.columns)
    assert (drawn.dtypes == table.dtypes).all()
    assert_given(drawn, given, 2)
    for name in {"size", "count", "day"} - set(names):
        assert drawn[name].between(table[name].min(), table[name].max()).all()
        assert drawn[name].nunique() > 3
    assert set(drawn["colour"]) <= {"red", "green", "blue"}


@pytest.mark.usefixtures("few_moves")
def test_conditions_beyond_what_training_saw_hold_exactly(augmenter):
    given = pd.DataFrame(
        {"size": [1e9, -1e-9], "count": [100_000, -7], "day": [pd.Timestamp("1999-01-02")] * 2}
    )
    drawn = augmenter.sample(2, conditions=given, random_state=0)
    for name in given:
        assert drawn[name].tolist() == given[name].repeat(2).tolist()


@pytest.mark.usefixtures("few_moves")
def test_conditions_as_mapping(augmenter):
    one = augmenter.sample(3, conditions={"size": 0.5, "colour": "green"}, random_state=0)
    assert one[["size", "colour"]].to_numpy().tolist() == [[0.5, "green"]] * 3
    for values in ([0.5, 0.1 + 0.2], (0.5, 0.1 + 0.2), np.array([0.5, 0.1 + 0.2])):
        two = augmenter.sample(2, conditions={"size": values}, random_state=0)
        assert two["size"].tolist() == [0.5, 0.5, 0.1 + 0.2, 0.1 + 0.2]
    spread = augmenter.sample(1, conditions={"size": [0.5, 0.7], "colour": "green"}, random_state=0)
    assert spread["colour"].tolist() == ["green", "green"]


@pytest.mark.usefixtures("few_moves")
@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_a_missing_entry_can_be_asked_for(augmenter, missing):
    drawn = augmenter.sample(5, conditions={"weight": missing}, random_state=0)
    assert drawn["weight"].isna().all()
    assert drawn["weight"].dtype == np.float64
    assert drawn["size"].notna().all()


@pytest.mark.usefixtures("few_moves")
def test_conditions_of_one_class_or_one_for_each_condition(augmenter):
    given = pd.DataFrame({"old": [True, False]}, index=["a", "a"])
    drawn, classes = augmenter.sample(3, conditions=given, y="rare", return_y=True, random_state=0)
    assert classes.tolist() == ["rare"] * 6
    assert drawn["old"].tolist() == [True] * 3 + [False] * 3
    assert drawn.index.equals(pd.RangeIndex(6))
    drawn, classes = augmenter.sample(2, conditions=given, y=["rare", "common"], return_y=True)
    assert classes.tolist() == ["rare", "rare", "common", "common"]
    with pytest.raises(InvalidTableError, match="one for each of 2 rows, .* got 4 of them"):
        augmenter.sample(2, conditions=given, y=["rare"] * 4)


@pytest.mark.usefixtures("few_moves")
def test_conditions_follow_random_state_and_stay_as_they_are(augmenter, new_rows):
    given = new_rows[["size", "colour"]].head(3)
    before = given.copy(deep=True)
    one, same, other = (augmenter.sample(2, conditions=given, random_state=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(one, same)
    assert not one["count"].equals(other["count"])
    pd.testing.assert_frame_equal(given, before)


@pytest.mark.usefixtures("few_moves")
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
def test_columns_of_an_array_are_given_by_position(quick, blob, dtype):
    X = (20.0 * blob).astype(dtype)
    augmenter = quick("augmenter").fit(X)
    drawn = augmenter.sample(2, conditions={2: [3, 1], 0: 7}, random_state=0)
    assert drawn.dtype == dtype
    assert drawn[:, [0, 2]].tolist() == [[7, 3], [7, 3], [7, 1], [7, 1]]
    frame = augmenter.sample(2, conditions=pd.DataFrame({2: [3, 1], 0: [7, 7]}), random_state=0)
    np.testing.assert_array_equal(frame, drawn)


@pytest.mark.usefixtures("few_moves")
def test_names_of_columns_may_be_tuples(quick, blob):
    names = pd.Index([("a", 1), 2, "c"], tupleize_cols=False)
    augmenter = quick("augmenter", bounds={("a", 1): (-5.0, 5.0)}).fit(pd.DataFrame(blob, columns=names))
    drawn = augmenter.sample(2, conditions={("a", 1): 0.25, 2: 0.5}, random_state=0)
    assert drawn.columns.tolist() == names.tolist()
    assert drawn.iloc[:, :2].to_numpy().tolist() == [[0.25, 0.5]] * 2


@pytest.mark.usefixtures("few_moves")
def test_a_given_copy_gives_its_original(quick, blob):
    table = pd.DataFrame(blob, columns=["a", "b", "c"]).assign(again=lambda frame: frame["a"])
    augmenter = quick("augmenter").fit(table)
    drawn = augmenter.sample(2, conditions={"again": 0.3}, random_state=0)
    assert drawn["again"].tolist() == [0.3, 0.3]
    assert drawn["a"].to_numpy() == pytest.approx([0.3, 0.3])


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"length": 1.0}, "unknown: 'length'. Known are 'size', 'weight'"),
        ({"colour": "black"}, "values that column 'colour' had in training; row 0 holds another one"),
        (
            {"colour": ["red", "pink"]},
            r"column 'colour' must be values that it can hold \(category\); got \['red', 'pink'\]",
        ),
        ({"colour": None}, "values that column 'colour' had in training; row 0 holds another one"),
        ({"size": np.nan}, "'size'"),
        ({"size": np.inf}, "column 'size' holds infinity"),
        (
            {"size": "big"},
            r"conditions of column 'size' must be values that it can hold \(float64\); got \['big'\]",
        ),
        (
            {"count": 2.5},
            r"conditions of column 'count' must be values that it can hold \(int64\); got \[2.5\]",
        ),
        ({"count": None}, "'count'"),
        ({"old": "False"}, "'old'"),
        ({"old": 2}, "'old'"),
        ({"old": 0.5}, "'old'"),
        ({"old": None}, "'old'"),
        ({"day": 5}, "'day'"),
        ({"size": [1.0, 2.0], "count": [1]}, "conditions must give equally many values a column"),
        ({}, r"at least one row and one column; got shape \(1, 0\)"),
        (pd.DataFrame({"size": []}), r"at least one row and one column; got shape \(0, 1\)"),
        (pd.DataFrame([[1.0, 2.0]], columns=["size", "size"]), "must be unique; repeated: 'size'"),
        ([1.0], "conditions must be a DataFrame, or a mapping of columns to values; got list"),
        (np.ones((1, 6)), "conditions must be a DataFrame, or a mapping of columns to values; got ndarray"),
    ],
)
def test_conditions_that_cannot_be_used(augmenter, conditions, message):
    with pytest.raises(InvalidTableError, match=message):
        augmenter.sample(2, conditions=conditions)


def test_unknown_categories_are_not_taken_for_missing_entries(quick):
    colour = pd.Categorical(np.tile(["red", "green", None], 20), categories=["red", "green", "black"])
    table = pd.DataFrame({"colour": colour, "text": np.tile(np.array(["a", "b", None], dtype=object), 20)})
    augmenter = quick("augmenter", max_steps=1).fit(table)
    for name, unknown in (("colour", "pink"), ("colour", "black"), ("text", "c")):
        with pytest.raises(InvalidTableError, match=f"conditions .*column {name!r}"):
            augmenter.sample(conditions={name: [None, unknown]})
        assert augmenter.sample(conditions={name: None})[name].isna().all()


@pytest.mark.parametrize("value", [300, -129, 2.5])
def test_conditions_that_the_dtype_cannot_hold(quick, value):
    X = np.random.default_rng(0).integers(-50, 50, size=(50, 2)).astype(np.int8)
    for given, column in ((X, 1), (pd.DataFrame(X, columns=["a", "b"]).astype("Int8"), "b")):
        with pytest.raises(
            InvalidTableError, match=rf"conditions of column {column!r} must be .* \([Ii]nt8\)"
        ):
            quick("augmenter", max_steps=1).fit(given).sample(conditions={column: value})


def test_columns_that_depend_on_given_ones_follow_them(quick):
    rng = np.random.default_rng(0)
    x = rng.normal(size=600)
    kind = np.where(x + 0.3 * rng.normal(size=600) > 0, "high", "low")
    table = pd.DataFrame({"x": x, "y": 2.0 * x + rng.normal(scale=0.5, size=600), "kind": kind})
    augmenter = quick("augmenter", max_steps=250, hidden_features=16).fit(table)
    drawn = augmenter.sample(150, conditions={"x": [-1.0, 1.0]}, random_state=0)
    low, high = drawn[:150], drawn[150:]
    assert low["y"].mean() == pytest.approx(-2.0, abs=0.5)
    assert high["y"].mean() == pytest.approx(2.0, abs=0.5)
    assert 0.3 < low["y"].std() < 0.9
    assert (low["kind"] == "low").mean() > 0.9
    assert (high["kind"] == "high").mean() > 0.9
    given = augmenter.sample(150, conditions={"kind": ["low", "high"]}, random_state=0)
    assert given["x"][:150].mean() < -0.4
    assert given["x"][150:].mean() > 0.4


def test_a_class_of_one_row_with_conditions(quick, table):
    classes = np.repeat(["many", "one"], [199, 1])
    augmenter = quick("augmenter").fit(table, classes)
    drawn = augmenter.sample(10, conditions={"size": 0.5}, y="one", random_state=0)
    assert (drawn["size"] == 0.5).all()
    assert drawn["count"].between(table["count"].min(), table["count"].max()).all()
