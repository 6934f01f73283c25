from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp, spearmanr

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.quality import compare_columns, compare_tables
from flowdetect.quality._classifiers import _folds, boosting_features, two_sample_auroc
from flowdetect.quality._fidelity import ks_distance, pair_similarities, total_variation
from flowdetect.quality._neighbours import coverage, density, expected_coverage, radii
from flowdetect.quality._tables import read_tables, row_ids

MEASURES = [
    *("marginal fidelity", "worst column", "pairwise fidelity", "C2ST AUROC"),
    *("closest record, median", "closest record, 5 %", "exact copies", "near copies"),
    *("coverage", "density"),
]
CLASS_MEASURES = ["TSTR AUROC", "TSTR average precision"]


def gaussian(n_rows: int, seed: int, *, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n_rows, 3)) + shift


def mixed(n_rows: int, seed: int) -> pd.DataFrame:
    """A column of every kind, with missing entries; the class can be told from size and colour."""
    rng = np.random.default_rng(seed)
    size, colour = rng.normal(size=n_rows), rng.choice(["red", "blue", "green"], n_rows)
    frame = pd.DataFrame(
        {
            "size": np.where(rng.random(n_rows) < 0.1, np.nan, size),
            "colour": pd.Categorical(colour),
            "word": pd.array(rng.choice(["a", "b", None], n_rows), dtype="string"),
            "count": pd.array(rng.integers(0, 50, n_rows), dtype="Int64"),
            "flag": rng.random(n_rows) < 0.5,
            "when": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 999, n_rows), unit="h"),
            "anything": np.array([None, "x", "y"], dtype=object)[rng.integers(0, 3, n_rows)],
            "constant": 1.0,
            "empty": np.nan,
            "class": np.where((size > 0.0) | (colour == "red"), "yes", "no"),
        }
    )
    frame.loc[::7, "count"] = pd.NA
    return frame


@pytest.fixture(autouse=True)
def fewer_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for tables of some hundred rows, and five times as fast."""
    monkeypatch.setattr("flowdetect.quality._classifiers._N_TREES", 20)


# --- distances -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_the_distance_of_numbers_is_that_of_scipy(decimals: int) -> None:
    first, second = gaussian(70, 0)[:, 0].round(decimals), gaussian(40, 1, shift=0.3)[:, 0].round(decimals)
    assert ks_distance(first, second) == pytest.approx(ks_2samp(first, second).statistic)


def test_the_similarity_of_numbers_is_of_present_entries_or_of_missing_shares() -> None:
    real, drawn = gaussian(100, 0), gaussian(100, 1, shift=0.5)
    real[:10, 0] = drawn[:10, 0] = np.nan
    real[:90, 1] = np.nan
    drawn[:, 2] = np.nan
    similarities = compare_columns(real, drawn)["similarity"]
    assert similarities[0] == pytest.approx(1.0 - ks_2samp(real[10:, 0], drawn[10:, 0]).statistic)
    assert similarities[1] == pytest.approx(0.1)
    assert similarities[2] == 0.0


def test_the_distance_of_categories_is_half_the_differences_of_shares() -> None:
    assert total_variation(np.array([0, 0, 1, 2]), np.array([0, 3, 1, 1])) == pytest.approx(0.5)
    real = pd.DataFrame({"c": ["a", "a", "b", None]})
    assert compare_columns(real, pd.DataFrame({"c": ["a", "a", "b", "b"]}))["similarity"].item() == 0.75
    assert compare_columns(real, pd.DataFrame({"c": [None, "a", "b", "a"]}))["similarity"].item() == 1.0


def test_columns_tell_kinds_missing_shares_and_what_is_new() -> None:
    real, drawn = mixed(100, 0), mixed(100, 1)
    drawn["colour"] = ["violet"] * 25 + ["red"] * 75
    drawn["when"] += pd.Timedelta(days=999)
    columns = compare_columns(real, drawn)
    assert columns.index.tolist() == real.columns.tolist()
    kinds = columns["kind"]
    assert kinds[["size", "count", "constant"]].eq("number").all()
    assert kinds[["colour", "word", "flag", "anything", "empty", "class"]].tolist() == ["category"] * 4 + [
        *("category", "category")
    ]
    assert kinds["when"] == "time"
    assert columns["missing_real"].tolist() == real.isna().mean().tolist()
    assert columns["missing_drawn"].tolist() == drawn.isna().mean().tolist()
    assert columns.loc[["colour", "when", "flag", "constant"], "new"].tolist() == [0.25, 1.0, 0.0, 0.0]
    assert np.isnan(columns.loc["empty", "new"])
    assert columns["similarity"].between(0.0, 1.0).all()
    assert columns.loc["empty", "similarity"] == 1.0


@pytest.mark.parametrize("n_missing", [0, 30])
def test_pairs_of_numbers_compare_correlations(n_missing: int) -> None:
    real = gaussian(200, 0)
    drawn = real @ np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    drawn[:n_missing, 1] = np.nan
    pairs = pair_similarities(real, drawn, np.zeros(3, dtype=bool), max_pairs=9, rng=np.random.default_rng(0))
    for similarity, (i, j) in zip(pairs, [(0, 1), (0, 2), (1, 2)], strict=True):
        ours, theirs = (spearmanr(x[:, i], x[:, j], nan_policy="omit").statistic for x in (real, drawn))
        assert similarity == pytest.approx(1.0 - abs(ours - theirs) / 2.0)


def test_pairs_with_categories_compare_contingency_tables() -> None:
    category = np.repeat([0.0, 1.0], 50)
    number = np.tile(np.arange(10.0), 10)
    real = np.column_stack([category, number])
    drawn = np.column_stack([category, np.where(category == 1.0, 0.0, number)])
    drawn[:25, 1] = np.nan
    cut = pd.cut(
        pd.Series(number), [-np.inf, *np.quantile(number, np.linspace(0.1, 0.9, 9)), np.inf]
    ).cat.codes
    theirs = pd.Series(np.where(category == 1.0, 0, cut))
    theirs[:25] = -1
    cells = [pd.crosstab(category, codes).stack() / 100 for codes in (cut, theirs)]
    expected = cells[0].sub(cells[1], fill_value=0.0).abs().sum() / 2.0
    found = pair_similarities(real, drawn, np.array([True, False]), max_pairs=9, rng=np.random.default_rng(0))
    assert found.tolist() == pytest.approx([1.0 - expected])


def test_the_pairs_are_bounded() -> None:
    arguments: dict[str, Any] = {"max_pairs": 5, "rng": np.random.default_rng(0)}
    rows = np.random.default_rng(0).normal(size=(20, 12))
    assert len(pair_similarities(rows, rows, np.zeros(12, dtype=bool), **arguments)) == 5


# --- classifiers -----------------------------------------------------------------------------------------


def test_rows_of_the_same_distribution_cannot_be_told_apart_and_shifted_ones_can() -> None:
    numbers = np.zeros(3, dtype=bool)
    real = gaussian(400, 0)
    assert two_sample_auroc(real, gaussian(400, 1), numbers, seed=0) == pytest.approx(0.5, abs=0.08)
    assert two_sample_auroc(real, gaussian(400, 2, shift=3.0), numbers, seed=0) > 0.99


def test_categories_that_go_together_otherwise_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 4, 400), rng.integers(0, 4, 400)
    real, drawn = np.column_stack([first, first]), np.column_stack([first, second])
    assert two_sample_auroc(real * 1.0, drawn * 1.0, np.array([True, True]), seed=0) > 0.7


@pytest.mark.parametrize("bootstrap", [False, True])
def test_copies_of_real_rows_cannot_be_told_apart(bootstrap: bool) -> None:
    real = gaussian(300, 0)
    chosen = np.random.default_rng(1).integers(300, size=300) if bootstrap else np.arange(300)
    auroc = two_sample_auroc(real, real[chosen], np.zeros(3, dtype=bool), seed=0)
    assert auroc == pytest.approx(0.5, abs=0.08)


def test_a_real_row_and_its_copies_are_in_one_fold_and_frequent_contents_in_all() -> None:
    real_ids = np.concatenate([np.arange(40), np.full(40, 99)])
    other_ids = np.concatenate([np.arange(40), np.full(40, 99)])
    folds = _folds(real_ids, other_ids, np.random.default_rng(0))
    assert np.array_equal(folds[:40], folds[80:120])
    for rows in (slice(0, 80), slice(80, 160), slice(40, 80), slice(120, 160)):
        assert np.bincount(folds[rows], minlength=5).tolist() == [(rows.stop - rows.start) // 5] * 5


def test_shares_of_a_single_flag_are_told_apart() -> None:
    real, drawn = (np.arange(300.0) % 10 < k for k in (9, 1))
    auroc = two_sample_auroc(real[:, None] * 1.0, drawn[:, None] * 1.0, np.array([True]), seed=0)
    assert auroc == pytest.approx(0.9, abs=0.02)


def test_rare_categories_share_a_code() -> None:
    column = np.concatenate([np.full(5, 700.0), np.arange(600.0), [np.nan]])[:, None]
    features = boosting_features([column], np.array([True]))[0].ravel()
    assert features[:5].tolist() == [0.0] * 5
    assert np.nanmax(features) == 254.0 and np.isnan(features[-1])
    assert boosting_features([column], np.array([False]))[0][604, 0] == 599.0


def test_what_is_learnt_from_drawn_rows_is_measured_on_held_out_ones() -> None:
    real, held_out, good = mixed(300, 0), mixed(200, 1), mixed(300, 2)
    bad = good.assign(**{"class": np.random.default_rng(3).permutation(good["class"])})
    of_good, of_bad = (
        compare_tables(real, drawn, held_out=held_out, target="class", random_state=0)
        for drawn in (good, bad)
    )
    assert of_good.index.tolist() == [*MEASURES[:4], *CLASS_MEASURES, *MEASURES[4:]]
    assert (of_good.loc[CLASS_MEASURES, ["value", "baseline"]] > 0.85).all(axis=None)
    assert of_bad.loc["TSTR AUROC", "value"] == pytest.approx(0.5, abs=0.15)
    assert of_bad.loc["TSTR AUROC", "baseline"] == of_good.loc["TSTR AUROC", "baseline"]


def test_a_numeric_target_is_measured_by_r2() -> None:
    tables = [gaussian(n, seed) for n, seed in ((200, 0), (200, 1), (100, 2))]
    real, drawn, held_out = (np.column_stack([x, x @ [1.0, -1.0, 0.0]]) for x in tables)
    quality = compare_tables(real, drawn, held_out=held_out, target=3, random_state=0)
    assert (quality.loc["TSTR R2", ["value", "baseline"]].astype(float) > 0.8).all()
    drawn[:, 3] = np.nan
    assert np.isnan(
        compare_tables(real, drawn, held_out=held_out, target=3, random_state=0).loc["TSTR R2", "value"]
    )


@pytest.mark.parametrize("drawn_classes", [["no"], [None], ["never seen"], ["yes", None, "never seen"]])
def test_classes_that_the_drawn_rows_lack_are_at_chance(drawn_classes: list[Any]) -> None:
    real, held_out = mixed(40, 0), mixed(40, 1)
    drawn = mixed(40, 2).assign(**{"class": pd.Series((drawn_classes * 40)[:40], dtype=object)})
    quality = compare_tables(real, drawn, held_out=held_out, target="class", random_state=0)
    if len(drawn_classes) == 1:
        assert quality.loc["TSTR AUROC", "value"] == 0.5
    assert quality.loc[CLASS_MEASURES, "value"].between(0.0, 1.0).all()


def test_held_out_rows_of_one_class_measure_nothing() -> None:
    quality = compare_tables(
        *(mixed(20, 0), mixed(20, 1)), held_out=mixed(20, 2).assign(**{"class": "yes"}), target="class"
    )
    assert quality.loc[CLASS_MEASURES, ["value", "baseline"]].isna().all(axis=None)


# --- neighbours ------------------------------------------------------------------------------------------


def test_copies_are_counted_exactly() -> None:
    real, held_out = mixed(80, 0), mixed(40, 1)
    drawn = pd.concat([real.iloc[[3, 3, 5, 70, 11]], mixed(15, 2)])
    quality = compare_tables(real, drawn, held_out=held_out, random_state=0)
    assert quality.loc["exact copies", ["value", "baseline"]].tolist() == [0.25, 0.0]
    assert quality.loc["near copies", "value"] >= 0.25
    assert quality.loc["closest record, 5 %", "value"] == 0.0
    assert quality.loc["closest record, 5 %", "baseline"] > 0.0


def test_jittered_copies_are_near_but_not_exact() -> None:
    real, held_out = gaussian(200, 0), gaussian(200, 1)
    drawn = real + 1e-3 * gaussian(200, 2)
    quality = compare_tables(real, drawn, held_out=held_out, random_state=0)
    assert quality.loc["exact copies", "value"] == 0.0
    assert quality.loc["near copies", "value"] > 0.95 > 0.4 > quality.loc["near copies", "baseline"]
    assert (
        quality.loc["closest record, median", "value"]
        < 0.05 * quality.loc["closest record, median", "baseline"]
    )


def test_real_rows_that_repeat_each_other_have_no_near_copies() -> None:
    real = np.repeat(gaussian(10, 0), 2, axis=0)
    quality = compare_tables(real, real[::2], random_state=0)
    assert quality.loc[["exact copies", "near copies"], "value"].tolist() == [1.0, 0.0]


def test_rows_have_the_same_number_where_they_are_equal() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.choice([0.0, 1.0, np.nan], (60, 3)) for _ in range(2))
    ids = np.concatenate(row_ids(first, second))
    rows = list(map(str, np.concatenate([first, second]).tolist()))
    assert len(set(zip(ids, rows, strict=True))) == len(set(ids)) == len(set(rows))


def test_coverage_and_density_are_those_of_all_pairs() -> None:
    real, drawn = gaussian(60, 0), gaussian(40, 1, shift=0.5)
    apart = np.linalg.norm(real[:, None] - real, axis=2)
    expected_radii = np.sort(apart, axis=1)[:, 5]
    found = radii(real, 5)
    assert np.allclose(found, expected_radii)
    inside = np.linalg.norm(real[:, None] - drawn, axis=2) <= expected_radii[:, None]
    assert coverage(drawn, real, found) == pytest.approx(inside.any(axis=1).mean())
    assert density(drawn, real, found, 5) == pytest.approx(inside.sum() / (5 * 40))


def test_the_expected_coverage_is_that_of_rows_of_the_same_distribution() -> None:
    shares = [
        coverage(gaussian(30, 2 * seed), real, radii(real, 5))
        for seed in range(100)
        for real in [gaussian(50, 2 * seed + 1)]
    ]
    assert np.mean(shares) == pytest.approx(expected_coverage(50, 30, 5), abs=0.02)


def test_drawn_rows_of_one_place_cover_little() -> None:
    quality = compare_tables(
        gaussian(200, 0), 0.01 * gaussian(200, 1), held_out=gaussian(200, 2), random_state=0
    )
    assert quality.loc["coverage", "value"] < 0.2 < 0.9 < quality.loc["coverage", "baseline"]
    away = compare_tables(gaussian(200, 0), gaussian(200, 1, shift=9.0), random_state=0)
    assert away.loc[["coverage", "density"], "value"].tolist() == [0.0, 0.0]


# --- the whole -------------------------------------------------------------------------------------------


def test_held_out_rows_give_the_baseline() -> None:
    real, drawn, held_out = (mixed(n, seed) for n, seed in ((60, 0), (60, 1), (40, 2)))
    without = compare_tables(real, drawn, random_state=0)
    assert without.index.tolist() == MEASURES
    assert without["baseline"].isna().all() and without["value"].notna().all()
    swapped = compare_tables(real, held_out, held_out=held_out, random_state=0)
    assert swapped["value"].tolist() == swapped["baseline"].tolist()
    assert without.columns.tolist() == ["value", "baseline", "ideal", "meaning"]
    assert all(isinstance(ideal, float) or ideal == "the baseline" for ideal in without["ideal"])
    assert without["meaning"].str.endswith(".").all()


def test_marginal_measures_are_those_of_the_columns() -> None:
    real, drawn = mixed(60, 0), mixed(60, 1)
    drawn["flag"] = True
    columns = compare_columns(real, drawn)["similarity"]
    quality = compare_tables(real, drawn, random_state=0)
    assert quality.loc["marginal fidelity", "value"] == pytest.approx(columns.mean())
    assert quality.loc["worst column", "value"] == columns.min()
    assert "'flag'" in quality.loc["worst column", "meaning"]


def test_the_same_seed_gives_the_same_numbers() -> None:
    tables = [mixed(n, seed) for n, seed in ((50, 0), (70, 1), (30, 2))]
    first, second, third = (
        compare_tables(*tables[:2], held_out=tables[2], target="class", random_state=seed)
        for seed in (3, np.int64(3), 4)
    )
    pd.testing.assert_frame_equal(first, second)
    assert not first["value"].equals(third["value"])
    assert compare_tables(*tables[:2]).shape == (10, 4)


def test_big_tables_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowdetect.quality._compare._MAX_ROWS", 20)
    real, drawn = gaussian(300, 0), gaussian(400, 1)
    quality = compare_tables(real, np.concatenate([drawn, real[:100]]), random_state=0)
    assert quality.loc["exact copies", "value"] == 0.2  # of all rows
    assert quality.loc["coverage", "ideal"] == expected_coverage(20, 20, 5)


def test_ten_rows_are_enough() -> None:
    tables = [mixed(10, seed) for seed in range(3)]
    quality = compare_tables(*tables[:2], held_out=tables[2], target="class", random_state=0)
    assert quality["value"].drop(CLASS_MEASURES).notna().all()


@pytest.mark.parametrize(
    ("real", "drawn", "kind"),
    [
        ([1.0, 2.0], [None, None], "number"),
        ([None, None], ["a", "b"], "category"),
        ([None, None], [0.5, 1.5], "number"),
        ([None, None], [None, None], "category"),
        ([True, False], [1.0, 0.5], "number"),
        ([True, False], [None, True], "category"),
        (pd.Categorical([1, 2]), [1, 2], "category"),
        (["a", 1], [1, 2], "category"),
        (pd.array([1, None], dtype="Int64"), pd.array([0.5, None], dtype="Float32"), "number"),
        (pd.array(["a", None], dtype="string"), pd.Categorical(["b", "a"]), "category"),
        ([2**60, 2**60 + 1], [2**60 + 1, 2**60], "number"),
        (pd.to_datetime(["2024-01-01", None]), pd.to_datetime(["2024-01-01", "2025-01-01"]), "time"),
        (pd.to_timedelta([1, 2], unit="h"), pd.to_timedelta([1, None], unit="D"), "time"),
        (pd.date_range("2024", periods=2, tz="UTC"), pd.date_range("2024", periods=2, tz="CET"), "time"),
    ],
)
def test_awkward_columns_are_compared(real: Any, drawn: Any, kind: str) -> None:
    tables = [pd.DataFrame({"c": entries, "x": [0.5, 1.5]}) for entries in (real, drawn)]
    tables = [pd.concat([table] * 6, ignore_index=True) for table in tables]
    assert compare_columns(*tables).loc["c", "kind"] == kind
    target = "c" if tables[0]["c"].notna().any() else None
    quality = compare_tables(*tables, held_out=tables[1], target=target, random_state=0)
    assert quality.loc[MEASURES, "value"].notna().all()


def test_exact_numbers_beyond_float_are_told_apart() -> None:
    real, drawn = (pd.DataFrame({"id": np.arange(10) * 2 + 2**62 + k}) for k in (0, 1))
    assert compare_tables(real, drawn).loc["exact copies", "value"] == 0.0
    assert compare_tables(real, real).loc["exact copies", "value"] == 1.0


def test_columns_are_found_by_name_between_frames_and_by_position_otherwise() -> None:
    real = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    assert compare_columns(real, real[["b", "a"]])["similarity"].tolist() == [1.0, 1.0]
    assert compare_columns(real, real[["b", "a"]].to_numpy())["similarity"].tolist() == [0.0, 0.0]
    assert compare_columns(real.to_numpy(), real).index.tolist() == [0, 1]
    one = compare_tables(gaussian(20, 0)[:, :1], gaussian(20, 1)[:, :1])
    assert np.isnan(one.loc["pairwise fidelity", "value"])


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        ({"a": [1.0]}, "drawn must have the columns of real: it lacks 'b'. Add, rename"),
        ({"a": [1.0], "b": ["x"], "c": [2]}, "drawn must have the columns of real: it also has 'c'"),
        ({"a": ["1.0"], "b": ["x"]}, r"Column 'a' must hold the same .* real holds numbers .*, drawn text"),
        ({"a": [1.0], "b": [2.0]}, r"Column 'b' must hold the same .* real holds text .*, drawn numbers"),
        ({"a": pd.to_datetime(["2024"]), "b": ["x"]}, "Column 'a' .* drawn times"),
        ({"a": [np.inf], "b": ["x"]}, "column 'a' holds infinity"),
        (np.zeros((2, 3)), "drawn must have the columns of real, .* real has 2, drawn 3"),
        (np.zeros((0, 2)), r"drawn must have at least 1 row\(s\) and one column; got shape \(0, 2\)"),
    ],
)
def test_tables_that_do_not_go_together_are_refused(drawn: Any, message: str) -> None:
    drawn = pd.DataFrame(drawn) if isinstance(drawn, dict) else drawn
    with pytest.raises(InvalidTableError, match=message):
        compare_columns(pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}), drawn)


def test_kinds_of_times_are_not_mixed() -> None:
    zoned = pd.date_range("2024", periods=3, tz="UTC")
    for other in (zoned.tz_localize(None), zoned - zoned[0]):
        with pytest.raises(InvalidTableError, match="real holds times with a zone .* drawn times? "):
            compare_columns(pd.DataFrame({"t": zoned}), pd.DataFrame({"t": other}))


@pytest.mark.parametrize("role", ["real", "drawn", "held_out"])
def test_too_few_rows_are_refused(role: str) -> None:
    tables = {name: gaussian(9 if name == role else 10, 0) for name in ("real", "drawn", "held_out")}
    with pytest.raises(InvalidTableError, match=rf"{role} must have at least 10 row\(s\) .* \(9, 3\)"):
        compare_tables(**tables)


def test_targets_that_are_no_columns_are_refused() -> None:
    for target in ("size", 3, True):
        with pytest.raises(
            ConfigurationError, match=r"target must be a column .*; got .*, but it has 0, 1, 2"
        ):
            compare_tables(gaussian(10, 0), gaussian(10, 1), target=target)
    with pytest.raises(ConfigurationError, match="target must have entries in real; all of them are missing"):
        compare_tables(mixed(10, 0), mixed(10, 1), held_out=mixed(10, 2), target="empty")
    with pytest.raises(ConfigurationError, match="predicted by other columns; 0 is the only one"):
        compare_tables(gaussian(10, 0)[:, :1], gaussian(10, 1)[:, :1], target=0)


def test_many_names_are_listed_in_part() -> None:
    wide = pd.DataFrame(np.zeros((2, 30)), columns=[f"c{k}" for k in range(30)])
    with pytest.raises(InvalidTableError, match="it lacks 'c0', .*'c19' and 10 more; it also has 0"):
        read_tables({"real": wide, "drawn": pd.DataFrame(np.zeros((2, 1)))})
