import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.timeseries._augmenter import SeriesAugmenter

Array = NDArray[np.float64]
SEASON = 12


def augmenter(**settings: Any) -> SeriesAugmenter:
    return SeriesAugmenter(**({"max_steps": 60, "hidden_features": 16, "random_state": 0} | settings))


def waves(n_rows: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return np.sin(np.arange(n_rows) * 2.0 * np.pi / SEASON) + 0.1 * rng.normal(size=n_rows)


def mixed(n_rows: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    wave = waves(n_rows)
    return pd.DataFrame(
        {
            "count": np.round(20.0 + 5.0 * wave).astype(int),
            "level": np.round(rng.normal(size=n_rows), 2),
            "state": pd.Categorical(np.where(wave > 0.0, "high", "low"), categories=["low", "high", "never"]),
            "open": wave > 0.5,
        },
        index=pd.date_range("2024-03-29", periods=n_rows, freq="h", tz="Europe/Berlin", name="when"),
    )


def collection() -> tuple[Array, NDArray[np.str_]]:
    rng = np.random.default_rng(0)
    time = np.linspace(0.0, 2.0 * np.pi, 30)
    slow = np.sin(time) + 0.1 * rng.normal(size=(30, 30))
    fast = np.sin(2.0 * time) + 0.1 * rng.normal(size=(8, 30))
    return np.concatenate([slow, fast]), np.repeat(["slow", "fast"], [30, 8])


@pytest.fixture(scope="module")
def of_waves() -> SeriesAugmenter:
    return augmenter().fit(waves(400))


@pytest.fixture(scope="module")
def of_table() -> SeriesAugmenter:
    return augmenter().fit(mixed())


@pytest.fixture(scope="module")
def of_entities() -> SeriesAugmenter:
    return augmenter(entity="shop", time="when").fit(shops(), context=holidays(len(shops())))


@pytest.fixture(scope="module")
def of_classes() -> SeriesAugmenter:
    return augmenter(max_steps=150).fit(*collection())


def shops() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    when = pd.date_range("2024-01-31", periods=150, freq="D")
    parts = [
        pd.DataFrame({"when": when, "shop": shop, "sold": level * (1.0 + 0.1 * rng.normal(size=150))})
        for shop, level in (("north", 10.0), ("south", 1000.0))
    ]
    return pd.concat(parts, ignore_index=True)


def holidays(n_rows: int) -> pd.DataFrame:
    return pd.DataFrame({"holiday": np.arange(n_rows) % 9 == 0})


class TestForecast:
    def test_continues_a_wave(self, of_waves: SeriesAugmenter) -> None:
        paths = of_waves.forecast(steps=24, n_paths=100, random_state=0)
        assert of_waves.season_ == SEASON
        assert paths.shape == (24, 100) and paths.index.tolist() == list(range(400, 424))
        truth = np.sin(np.arange(400, 424) * 2.0 * np.pi / SEASON)
        np.testing.assert_allclose(paths.median(axis=1), truth, atol=0.15)
        assert paths.std(axis=1).mean() == pytest.approx(0.1, rel=0.4)

    def test_spreads_as_an_autoregression_does(self) -> None:
        rng = np.random.default_rng(0)
        values = np.zeros(1500)
        for row in range(1, 1500):
            values[row] = 0.8 * values[row - 1] + rng.normal()
        paths = augmenter().fit(values).forecast(steps=10, n_paths=1000, random_state=0)
        exact = (1.0 - 0.64 ** np.arange(1, 11)) / (1.0 - 0.64)
        np.testing.assert_allclose(paths.var(axis=1), exact, rtol=0.2)

    def test_continues_the_series_that_is_given(self, of_waves: SeriesAugmenter) -> None:
        shifted = waves(400)[: 400 - SEASON // 2]
        paths = of_waves.forecast(shifted, steps=6, n_paths=50, random_state=0)
        assert paths.index[0] == len(shifted)
        np.testing.assert_allclose(
            paths.median(axis=1), np.sin(np.arange(394, 400) * 2.0 * np.pi / SEASON), atol=0.15
        )

    def test_keeps_types_and_the_clock(self, of_table: SeriesAugmenter) -> None:
        paths = of_table.forecast(steps=5, n_paths=3, random_state=0)
        assert paths.columns.names == ["channel", "path"] and paths.shape == (5, 12)
        last = mixed().index[-1]
        assert paths.index.equals(pd.date_range(last, periods=6, freq="h", name="when")[1:])
        table = mixed()
        for name in table.columns:
            assert paths[name].dtypes.eq(table[name].dtype).all()
        assert set(np.unique(paths["state"].to_numpy())) <= {"low", "high"}
        assert not (np.round(paths["level"], 2) != paths["level"]).any(axis=None)

    def test_continues_each_entity_on_its_own_scale(self, of_entities: SeriesAugmenter) -> None:
        context = holidays(14)
        paths = of_entities.forecast(steps=7, n_paths=50, context=context, random_state=0)
        assert paths.index.names == ["shop", "when"]
        assert paths.loc["north"].median(axis=None) == pytest.approx(10.0, rel=0.1)
        assert paths.loc["south"].median(axis=None) == pytest.approx(1000.0, rel=0.1)
        assert (paths >= 0.0).all(axis=None)

    @pytest.mark.parametrize("freq", ["W", "MS", "ME", "QS", "QE", "YS", "YE"])
    def test_keeps_to_the_calendar_behind_gaps(self, freq: str) -> None:
        index = pd.date_range("1900-01-01", periods=90, freq=freq)
        series = pd.Series(waves(90), index=index).drop(index[[5, *range(20, 33)]])
        paths = augmenter(max_steps=5).fit(series.iloc[:-10]).forecast(steps=10, n_paths=2, random_state=0)
        assert paths.index.equals(index[-10:])

    def test_context_changes_what_is_to_come(self) -> None:
        rng = np.random.default_rng(0)
        flag = rng.random(500) < 0.3
        model = augmenter(max_steps=150).fit(10.0 * flag + rng.normal(size=500), context=flag)
        paths = model.forecast(steps=4, n_paths=200, context=[True, False, True, False], random_state=0)
        np.testing.assert_allclose(paths.mean(axis=1), [10.0, 0.0, 10.0, 0.0], atol=1.0)

    def test_a_trend_goes_on(self) -> None:
        values = 0.5 * np.arange(300.0) + np.random.default_rng(0).normal(size=300)
        paths = augmenter().fit(values).forecast(steps=40, n_paths=100, random_state=0)
        assert paths.iloc[-1].median() == pytest.approx(0.5 * 339, rel=0.06)

    def test_stays_stable_for_thousands_of_steps(self, of_waves: SeriesAugmenter) -> None:
        paths = of_waves.forecast(steps=2000, n_paths=5, random_state=0)
        assert np.abs(paths.to_numpy()).max() < 3.0
        assert paths.iloc[-200:].std().mean() == pytest.approx(waves(400).std(), rel=0.3)


class TestSample:
    def test_is_correlated_as_the_series_is(self) -> None:
        rng = np.random.default_rng(1)
        values = np.zeros(800)
        for row in range(1, 800):
            values[row] = 0.8 * values[row - 1] + rng.normal()
        drawn = augmenter().fit(values).sample(20, random_state=0)
        assert drawn.shape == (20, 800, 1)
        correlation = np.mean([np.corrcoef(one[:-1, 0], one[1:, 0])[0, 1] for one in drawn])
        assert correlation == pytest.approx(0.8, abs=0.04)
        assert drawn.std() == pytest.approx(values.std(), rel=0.1)
        assert values.min() <= drawn.min() and drawn.max() <= values.max()

    def test_is_no_copy(self, of_waves: SeriesAugmenter) -> None:
        drawn = of_waves.sample(3, random_state=0)[:, :, 0]
        assert not np.isin(drawn, waves(400)).mean() > 0.05
        assert np.abs(drawn[0] - drawn[1]).mean() > 0.05

    def test_keeps_types_stamps_and_season(self, of_table: SeriesAugmenter) -> None:
        table, drawn = mixed(), of_table.sample(2, random_state=0)
        assert drawn.columns.tolist() == ["series", *table.columns]
        assert drawn[table.columns.tolist()].dtypes.equals(table.dtypes)
        first = drawn[drawn["series"] == 0]
        assert first.index.equals(table.index)
        assert np.corrcoef(first["count"], table["count"])[0, 1] > 0.8

    def test_with_a_trend_begins_where_the_series_does(self) -> None:
        values = 0.5 * np.arange(300.0) + np.random.default_rng(0).normal(size=300)
        drawn = augmenter().fit(values).sample(5, random_state=0)[:, :, 0]
        np.testing.assert_allclose(drawn[:, 0], values[0], atol=6.0)
        np.testing.assert_allclose(drawn[:, -1], values[-1], atol=60.0)

    @pytest.mark.parametrize("length", [1, 40, 450])
    def test_has_the_length_asked_for(self, of_waves: SeriesAugmenter, length: int) -> None:
        assert of_waves.sample(2, length=length, random_state=0).shape == (2, length, 1)

    def test_numbers_series_under_a_free_name(self) -> None:
        table = pd.DataFrame({"series": waves(60), "series number": waves(60, seed=1)})
        drawn = augmenter(max_steps=5).fit(table).sample(2, length=5, random_state=0)
        assert drawn.columns.tolist() == ["series number number", "series", "series number"]

    def test_names_new_entities_and_keeps_columns(self, of_entities: SeriesAugmenter) -> None:
        drawn = of_entities.sample(3, length=20, random_state=0)
        assert drawn.columns.tolist() == ["shop", "when", "sold"]
        assert drawn["shop"].unique().tolist() == [0, 1, 2]
        assert (drawn.groupby("shop")["when"].diff().dropna() == pd.Timedelta(days=1)).all()

    def test_draws_each_class_in_its_shape(self, of_classes: SeriesAugmenter) -> None:
        series, y = collection()
        for label in ("slow", "fast"):
            drawn = of_classes.sample(60, y=label, random_state=0)
            assert drawn.shape == (60, 30, 1)
            error = np.abs(drawn[:, :, 0].mean(axis=0) - series[y == label].mean(axis=0))
            assert error.max() < 0.25
            assert drawn.std(axis=0).mean() == pytest.approx(0.1, rel=0.5)

    def test_draws_classes_as_asked_for(self, of_classes: SeriesAugmenter) -> None:
        assert of_classes.classes_ is not None and of_classes.classes_.tolist() == ["fast", "slow"]
        assert of_classes.sample(2, y=["fast", "slow"], length=5, random_state=0).shape == (2, 5, 1)

    def test_a_collection_needs_no_classes(self) -> None:
        series = np.round(10.0 * collection()[0]).astype(int)[:, :, None]
        model = augmenter().fit(series)
        drawn = model.sample(3, random_state=0)
        assert model.classes_ is None and drawn.dtype == series.dtype


class TestFitResample:
    def test_fills_rare_classes_behind_the_series_themselves(self) -> None:
        series, y = collection()
        resampled, labels = augmenter().fit_resample(series, y)
        assert resampled.shape == (60, 30)
        np.testing.assert_array_equal(resampled[:38], series)
        np.testing.assert_array_equal(labels, np.concatenate([y, ["fast"] * 22]))

    def test_takes_target_counts(self) -> None:
        series, y = collection()
        strategy = {"fast": 10}
        _, labels = augmenter(max_steps=5, sampling_strategy=strategy).fit_resample(series[:, :, None], y)
        assert dict(zip(*np.unique(labels, return_counts=True), strict=True)) == {"fast": 10, "slow": 30}

    def test_adds_nothing_to_balanced_classes(self) -> None:
        series, y = collection()
        resampled, _ = augmenter(max_steps=5).fit_resample(series[22:], y[22:])
        np.testing.assert_array_equal(resampled, series[22:])

    @pytest.mark.parametrize(
        ("strategy", "message"),
        [
            ("all", "must be 'auto' or a dict"),
            ({"other": 50}, "must name classes of y"),
            ({"slow": 3}, "at least the 30 series that class 'slow' has; got 3"),
        ],
    )
    def test_refuses_what_cannot_be_met(self, strategy: Any, message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            augmenter(sampling_strategy=strategy).fit_resample(*collection())


class TestFill:
    def test_meets_both_ends_of_a_gap(self) -> None:
        rng = np.random.default_rng(0)
        values = 50.0 + rng.normal(size=600).cumsum()
        model = augmenter(season=None).fit(values)
        holed = values.copy()
        holed[300:310] = np.nan
        drawn = np.stack(model.fill(holed, n_draws=20, random_state=0))
        known = ~np.isnan(holed)
        np.testing.assert_array_equal(drawn[:, known], np.tile(values[known], (20, 1)))
        # A bridge between the ends is closer to its line than a path that does not know the far end: its
        # variance is i (11 - i) / 11 after i of 11 steps, not i.
        line = np.linspace(values[299], values[310], 12)[1:-1]
        bridge = np.arange(1, 11) * (11 - np.arange(1, 11)) / 11.0
        spread = np.sqrt(((drawn[:, 300:310] - line) ** 2).mean(axis=0) / bridge)
        assert spread.mean() == pytest.approx(1.0, abs=0.4)

    def test_puts_absent_rows_back(self, of_table: SeriesAugmenter) -> None:
        table = mixed()
        filled = of_table.fill(table.drop(table.index[100:110]), random_state=0)
        assert filled.index.equals(table.index) and filled.index.name == "when"
        assert filled.dtypes.equals(table.dtypes)
        absent = table.index[100:110]
        pd.testing.assert_frame_equal(filled.drop(absent), table.drop(absent), check_freq=False)

    def test_puts_missing_entries_in_and_keeps_the_order(self, of_table: SeriesAugmenter) -> None:
        table = mixed().sample(frac=1.0, random_state=0)
        holed = table.copy()
        holed.loc[holed.index[5], ["level", "state"]] = [np.nan, None]
        holed.loc[holed.index[[0, 70]], "level"] = np.nan
        filled = of_table.fill(holed, random_state=0)
        assert not filled.isna().any(axis=None)
        pd.testing.assert_frame_equal(filled.where(holed.notna(), holed), holed, check_dtype=False)

    def test_of_entities(self, of_entities: SeriesAugmenter) -> None:
        table = shops()
        holed = table.drop([10, 11, 200])
        filled = of_entities.fill(holed, context=holidays(len(holed)), random_state=0)
        pd.testing.assert_frame_equal(filled[["when", "shop"]], table[["when", "shop"]])
        assert filled["sold"].iloc[10] < 50.0 < 500.0 < filled["sold"].iloc[200]

    @pytest.mark.parametrize("missing", [slice(0, 4), slice(396, 400)])
    def test_ends_may_be_missing(self, of_waves: SeriesAugmenter, missing: slice) -> None:
        holed = waves(400)
        holed[missing] = np.nan
        filled = of_waves.fill(holed, random_state=0)
        np.testing.assert_allclose(filled[missing], waves(400)[missing], atol=0.6)

    @pytest.mark.parametrize(
        "write",
        [
            lambda day: day,
            lambda day: day.dt.strftime("%d/%m/%Y"),
            lambda day: day.dt.strftime("%Y-%m-%dT%H:%M:%S"),
            lambda day: day.dt.tz_localize("Etc/GMT-2").astype(str),
            lambda day: day.dt.strftime("%Y%m%d").astype(object),
            lambda day: day.dt.date,
            lambda day: day - day[0],
            lambda day: day.dt.to_period("D"),
            lambda day: np.arange(100) * 5,
        ],
    )
    def test_of_a_column_of_time_keeps_its_form(self, write: Any) -> None:
        day = pd.Series(pd.date_range("2024-01-13", periods=100))
        table = pd.DataFrame({"day": write(day), "wave": waves(100)})
        filled = augmenter(max_steps=5, time="day").fit(table).fill(table.drop([5, 6]), random_state=0)
        pd.testing.assert_series_equal(filled["day"], table["day"])

    def test_of_texts_without_a_common_format_gives_dates(self) -> None:
        hours = pd.date_range("2024-03-29", periods=100, freq="h", tz="Europe/Berlin").to_series(range(100))
        texts = hours.map(pd.Timestamp.isoformat)
        table = pd.DataFrame({"hour": texts, "wave": waves(100)})
        model = augmenter(max_steps=5, time="hour").fit(table)
        assert model.fill(table.drop([5, 6]), random_state=0)["hour"].tolist() == hours.tolist()
        assert model.fill(table)["hour"].tolist() == texts.tolist()

    def test_gives_back_what_has_no_gap(self, of_waves: SeriesAugmenter) -> None:
        series = pd.Series(waves(100), name="wave")
        with pytest.raises(InvalidTableError, match="columns of fit"):
            of_waves.fill(np.zeros((5, 2)))
        np.testing.assert_array_equal(of_waves.fill(series.to_numpy()), series)

    @pytest.mark.parametrize(
        "index",
        [pd.date_range("2024", periods=200, freq="MS"), pd.period_range("1960", periods=200, freq="Q")],
        ids=["months", "quarters"],
    )
    def test_of_a_series_is_a_series(self, index: pd.Index) -> None:
        series = pd.Series(waves(200), name="wave", index=index)
        filled = augmenter(max_steps=5).fit(series).fill(series.drop(series.index[[50, 51]]), random_state=0)
        assert filled.name == "wave" and filled.index.equals(series.index)


class TestReproducibility:
    def test_the_same_seeds_give_the_same(self, of_waves: SeriesAugmenter) -> None:
        again = augmenter().fit(waves(400))
        for one, two in (
            (m.forecast(steps=3, n_paths=2, random_state=1) for m in (of_waves, again)),
            (m.sample(2, length=20, random_state=1) for m in (of_waves, again)),
        ):
            np.testing.assert_array_equal(one, two)
        holed = waves(60)
        holed[20:23] = np.nan
        np.testing.assert_array_equal(of_waves.fill(holed, random_state=1), again.fill(holed, random_state=1))

    def test_other_seeds_give_others(self, of_waves: SeriesAugmenter) -> None:
        one, two = (of_waves.forecast(steps=3, n_paths=2, random_state=seed) for seed in (1, 2))
        assert (one != two).any(axis=None)

    def test_a_copy_on_disk_draws_the_same(
        self, of_waves: SeriesAugmenter, of_classes: SeriesAugmenter
    ) -> None:
        for model in (of_waves, of_classes):
            again = pickle.loads(pickle.dumps(model))
            np.testing.assert_array_equal(
                again.sample(2, length=9, random_state=1), model.sample(2, length=9, random_state=1)
            )

    def test_a_fit_that_fails_leaves_nothing_behind(self) -> None:
        model = augmenter(max_steps=5).fit(waves(60))
        with pytest.raises(InvalidTableError):
            model.fit(waves(3))
        with pytest.raises(NotFittedError):
            model.sample()

    def test_clones_have_the_same_parameters(self) -> None:
        model = augmenter(window=30, season=7, entity="shop")
        assert clone(model).get_params() == model.get_params()
        assert "season=7, window=30" in repr(model)


class TestParameters:
    @pytest.mark.parametrize(("season", "expected"), [("auto", SEASON), (None, None), (7, 7)])
    def test_season(self, season: Any, expected: int | None) -> None:
        assert augmenter(max_steps=5, season=season).fit(waves(200)).season_ == expected

    @pytest.mark.parametrize("window", [1, 40])
    def test_window_is_not_exceeded(self, window: int) -> None:
        assert augmenter(max_steps=5, window=window).fit(waves(200)).window_ <= max(window, 2)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"window": 0}, "window must be a whole number"),
            ({"season": 1}, "season must be at least 2"),
            ({"season": "weekly"}, "season must be a whole number"),
            (
                {"season": 40},
                "season=40 needs .* a series of three times as many; got window='auto', and 100",
            ),
            ({"season": 12, "window": 5}, "season=12 needs a window of more rows.*; got window=5"),
            ({"window": np.array([1, 2])}, "window must be a whole number"),
            ({"random_state": "one"}, "random_state must be None, a non-negative whole number"),
            ({"entity": ["shop"]}, "entity must be the name of one column"),
        ],
    )
    def test_impossible_ones_are_refused(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            augmenter(**settings).fit(waves(100))


class TestRefusals:
    @pytest.mark.parametrize(
        ("series", "y", "message"),
        [
            ([1.0], None, "at least 8 rows with a row before them"),
            (waves(5), None, "at least 8 rows with a row before them; 4 of 5"),
            ([[1.0, 2.0], [3.0]], None, "must have one length; got lists of several"),
            ([[1.0, 2.0], [3.0]], [0, 1], "must have one length; got lists of several"),
            (np.append(waves(50), np.inf), None, "column 0 holds infinity"),
            (waves(50)[:, None].astype(complex), None, "must be real"),
            (
                pd.Series(waves(4), index=pd.MultiIndex.from_product([["a", "b"], [0, 1]])),
                None,
                "The index must have one level.*reset_index",
            ),
            (
                pd.Series(waves(3), index=pd.DatetimeIndex(["2024-01-02", "2024-01-01", "2024-01-02"])),
                None,
                "Each time stamp must occur once; 2024-01-02",
            ),
            (np.zeros((4, 10)), [0, 1, 2, None], "a class for each of the 4 series; 1 have none"),
            (np.zeros((4, 10)), [0.5, 0.1, 1.0, 2.0], "must hold classes: .*; got 0.5 and others"),
            (np.zeros((4, 10)), np.array([0, "a", 1, 2], dtype=object), "must hold classes: .* of one type"),
            (np.zeros((4, 10)), np.zeros((4, 2)), r"one class for each of the 4 series; got \(4, 2\)"),
            (np.full((50, 1), np.nan), None, "all 50 are missing; drop it"),
            (np.zeros((4, 10, 1)), [], "one class for each of the 4 series; got 0"),
            (np.zeros((4, 10)), [0, 1], "one class for each of the 4 series; got 2"),
            (np.zeros((2, 3, 4, 5)), [0, 1], "must have shape"),
            (pd.DataFrame({"day": pd.date_range("2024", periods=50)}), None, "holds times"),
            (
                pd.Series(0.0, index=pd.DatetimeIndex(["2024-01-01", "2024-01-02", "2024-01-03 07:00"])),
                None,
                "apart",
            ),
        ],
    )
    def test_series_that_cannot_be_used(self, series: Any, y: Any, message: str) -> None:
        with pytest.raises(InvalidTableError, match=message):
            augmenter().fit(series, y)

    def test_a_class_that_was_not_there(self, of_classes: SeriesAugmenter) -> None:
        with pytest.raises(ConfigurationError, match="y must hold classes of fit, .*; got 'odd'"):
            of_classes.sample(2, y="odd")
        with pytest.raises(ConfigurationError, match="one for each of the 2 series"):
            of_classes.sample(2, y=["fast"])
        with pytest.raises(ConfigurationError, match="length must be at most that of the series of fit, 30"):
            of_classes.sample(2, length=31)

    def test_what_belongs_to_series_of_the_other_kind(
        self, of_classes: SeriesAugmenter, of_waves: SeriesAugmenter
    ) -> None:
        with pytest.raises(ConfigurationError, match="forecast continues one series"):
            of_classes.forecast(steps=3)
        with pytest.raises(ConfigurationError, match="fill completes one series"):
            of_classes.fill(np.zeros(5))
        with pytest.raises(ConfigurationError, match="was fitted without classes"):
            of_waves.sample(y="fast")
        with pytest.raises(InvalidTableError, match="needs the class of each series"):
            augmenter().fit_resample(np.zeros((3, 4)), None)
        with pytest.raises(ConfigurationError, match="a collection of shape"):
            augmenter(time="when").fit(*collection())

    @pytest.mark.parametrize("numbers", [{"steps": 0}, {"steps": 3, "n_paths": 0}, {"steps": 2.5}])
    def test_numbers_that_are_none(self, of_waves: SeriesAugmenter, numbers: Any) -> None:
        with pytest.raises(ConfigurationError, match="must be a whole number of at least 1"):
            of_waves.forecast(**numbers)

    def test_context_that_is_missing_or_given_in_vain(
        self, of_entities: SeriesAugmenter, of_waves: SeriesAugmenter
    ) -> None:
        with pytest.raises(InvalidTableError, match="so it needs 14 rows of it here; got none"):
            of_entities.forecast(steps=7)
        with pytest.raises(InvalidTableError, match="must have one row per row of the series, 14; got 5"):
            of_entities.forecast(steps=7, context=holidays(5))
        with pytest.raises(ConfigurationError, match="longest stretch of rows whose context is known"):
            of_entities.sample(length=500)
        with pytest.raises(InvalidTableError, match="fitted without context, so it takes none"):
            of_waves.forecast(steps=7, context=np.zeros(7))
        with pytest.raises(InvalidTableError, match="must have one row per row of the series, 50; got 4"):
            augmenter().fit(waves(50), context=np.zeros(4))
        with pytest.raises(InvalidTableError, match=r"context must have shape \(50,\) or .*; got \(\)"):
            augmenter().fit(waves(50), context=3)
        with pytest.raises(
            InvalidTableError, match="context must have the columns of fit; it lacks 'holiday'"
        ):
            of_entities.forecast(steps=7, context=holidays(14).set_axis(["feast"], axis=1))

    def test_before_fit(self) -> None:
        for call in (lambda m: m.sample(), lambda m: m.forecast(steps=1), lambda m: m.fill(waves(9))):
            with pytest.raises(NotFittedError):
                call(augmenter())

    def test_an_unknown_entity(self, of_entities: SeriesAugmenter) -> None:
        with pytest.raises(InvalidTableError, match="'west' in column 'shop' was not"):
            of_entities.forecast(shops().assign(shop="west"), steps=1, context=holidays(1))


class TestConstantAndShort:
    def test_a_constant_stays_one(self) -> None:
        model = augmenter(max_steps=5).fit(np.full(60, 7))
        assert (model.forecast(steps=5, n_paths=3, random_state=0) == 7).all(axis=None)
        assert (model.sample(2, random_state=0) == 7).all()

    def test_one_among_other_channels_stays_one(self) -> None:
        table = pd.DataFrame({"wave": waves(60), "same": 5, "state": "on"})
        drawn = augmenter(max_steps=5).fit(table).sample(2, random_state=0)
        assert (drawn["same"] == 5).all() and (drawn["state"] == "on").all()

    @pytest.mark.parametrize("scale", [1e-200, 1e-10, 1e9, 1e200])
    @pytest.mark.parametrize("offset", [0.0, 1e6])
    def test_units_play_no_part(self, scale: float, offset: float) -> None:
        model, plain = (
            augmenter(max_steps=5).fit(unit * (offset + waves(100)).astype(np.float64))
            for unit in (scale, 1.0)
        )
        paths, usual = (m.forecast(steps=5, n_paths=4, random_state=0) for m in (model, plain))
        np.testing.assert_allclose(paths / scale, usual, rtol=1e-3)

    def test_nine_rows_are_enough(self) -> None:
        model = augmenter(max_steps=5).fit(waves(9))
        assert np.isfinite(model.forecast(steps=2, n_paths=1, random_state=0)).all(axis=None)

    def test_a_class_of_one_series_is_drawn(self) -> None:
        series, y = collection()
        resampled, labels = augmenter(max_steps=5).fit_resample(series[:31], y[:31])
        assert np.isfinite(resampled).all() and (labels == "fast").sum() == 30

    def test_channels_may_lack_all_but_an_entry(self) -> None:
        table = pd.DataFrame({"wave": waves(60), "once": np.nan})
        with pytest.raises(
            InvalidTableError, match="Column 'once' has no entries, all 60 are missing; drop it"
        ):
            augmenter().fit(table)
        table.loc[7, "once"] = 2.0
        drawn = augmenter(max_steps=5).fit(table).sample(1, random_state=0)
        assert (drawn["once"] == 2.0).all()

    def test_a_series_shorter_than_the_window_can_be_continued(self, of_waves: SeriesAugmenter) -> None:
        assert of_waves.window_ > 3
        assert np.isfinite(of_waves.forecast(waves(3), steps=4, n_paths=3, random_state=0)).all(axis=None)

    def test_missing_values_are_no_obstacle(self) -> None:
        values = np.column_stack([waves(300), waves(300, seed=1)])
        values[np.random.default_rng(0).random((300, 2)) < 0.2] = np.nan
        model = augmenter().fit(values)
        assert np.isfinite(model.forecast(steps=5, n_paths=5, random_state=0)).all(axis=None)
        assert np.isfinite(model.sample(1, length=50, random_state=0)).all()
