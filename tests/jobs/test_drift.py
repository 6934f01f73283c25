import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from flowdetect import FlowOutlierDetector
from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.jobs import DriftMonitor, TableReference, learn_reference, reference_of_fit
from flowdetect.jobs._drift_tests import GapTest, event_test, holm, level_test
from flowdetect.preprocessing import TableEncoder

COVERAGE = 0.999


def draw(n_rows: int, rng: np.random.Generator, *, shift: float = 0.0) -> pd.DataFrame:
    """Rows of every kind: a number, whole numbers with ties, labels, and missing entries."""
    number = rng.normal(shift, 1.0, n_rows)
    return pd.DataFrame(
        {
            "number": number,
            "count": rng.poisson(2.0, n_rows),
            "label": rng.choice(["a", "b", "c", "d"], n_rows, p=[0.6, 0.3, 0.09, 0.01]),
            "holes": np.where(rng.random(n_rows) < 0.2, np.nan, rng.exponential(size=n_rows)),
        }
    )


def density_of(table: pd.DataFrame) -> Any:
    """A model that scores rows by the square of a number, as one that has learnt it would."""
    schema = TableEncoder().fit(table).schema_
    return SimpleNamespace(
        encoder_=SimpleNamespace(schema_=schema),
        score_samples=lambda X: -0.5 * np.asarray(X["number"], dtype=np.float64) ** 2,
    )


def monitor_of(rng: np.random.Generator, n_rows: int = 300, **settings: Any) -> DriftMonitor:
    """A monitor with a training table and held-out scores of its own."""
    table, held_out = draw(n_rows, rng), draw(n_rows, rng)
    model = density_of(table)
    return DriftMonitor(
        model, learn_reference(table, model.encoder_.schema_, model.score_samples(held_out)), **settings
    )


def verdicts(n_runs: int, n_new: int, change: Callable[[pd.DataFrame], pd.DataFrame], **settings: Any) -> int:
    """Count the drifts that are seen, each time with other training rows."""
    rng, found = np.random.default_rng(0), 0
    for _ in range(n_runs):
        monitor = monitor_of(rng, **settings)
        monitor.update(change(draw(n_new, rng)))
        found += monitor.report().verdict == "drift"
    return found


def band(n_runs: int, rate: float) -> tuple[int, int]:
    low, high = stats.binom.interval(COVERAGE, n_runs, rate)
    return int(low), int(high)


# --- alarms where nothing has changed ------------------------------------------------------


@pytest.mark.parametrize("n_new", [50, 1_000, 100_000])
def test_scores_give_alarms_at_the_rate_stated(n_new: int) -> None:
    rng, alpha, n_runs = np.random.default_rng(n_new), 0.1, 200
    edges = np.linspace(0.0, 1.0, 31)[1:-1]
    alarms = 0
    for _ in range(n_runs):
        old = np.sort(rng.random(400))
        at = np.unique(old[(edges * len(old)).astype(int)])
        alarms += GapTest(counted(old, at), counted(rng.random(n_new), at)).find(999).p_value <= alpha
    low, high = band(n_runs, alpha)
    assert low <= alarms <= high


def counted(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Rows below the first edge, at it, between it and the next, and so on."""
    left, right = np.searchsorted(edges, values, "left"), np.searchsorted(edges, values, "right")
    return np.bincount(left + right, minlength=2 * len(edges) + 1)


@pytest.mark.parametrize(("n_new", "n_runs"), [(50, 40), (1_000, 40), (100_000, 15)])
def test_tables_give_no_more_alarms_than_stated(n_new: int, n_runs: int) -> None:
    alpha = 0.1
    found = verdicts(n_runs, n_new, lambda table: table, alpha=alpha)
    # Bonferroni and discrete columns make fewer: only too many are wrong.
    assert found <= band(n_runs, alpha)[1]


def numbers(n_rows: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=(n_rows, 2))


def rare_labels(n_rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """Rows a tenth of which hold a label that hardly any other row holds."""
    labels = np.where(rng.random(n_rows) < 0.9, "usual", rng.integers(10**6, size=n_rows).astype(str))
    return pd.DataFrame({"number": rng.normal(size=n_rows), "label": labels.astype(object)})


def small_detector(table: Any, seed: int) -> FlowOutlierDetector:
    return FlowOutlierDetector(max_steps=10, hidden_features=8, random_state=seed).fit(table)


@pytest.mark.parametrize("draw_rows", [numbers, rare_labels])
def test_a_fitted_detector_gives_no_more_alarms_than_stated(draw_rows: Any) -> None:
    rng, alpha, n_runs = np.random.default_rng(1), 0.1, 30
    alarms = 0
    for seed in range(3):
        table = draw_rows(300, rng)
        detector = small_detector(table, seed)
        reference = reference_of_fit(detector, table)
        for _ in range(n_runs // 3):
            monitor = DriftMonitor(detector, reference, alpha=alpha)
            monitor.update(draw_rows(100, rng))
            alarms += monitor.report().verdict == "drift"
    assert alarms <= band(n_runs, alpha)[1]


def test_scores_of_rows_with_rare_labels_are_not_compared() -> None:
    rng = np.random.default_rng(19)
    table = rare_labels(300, rng)
    detector = small_detector(table, 0)
    reference = reference_of_fit(detector, table)
    assert reference.scores is not None
    # Every third of the held-out scores of usual rows: the three members share training rows.
    n_usual = int((table["label"] == "usual").sum())
    assert sum(reference.scores.counts) == pytest.approx(n_usual / 3, abs=1)
    new = rare_labels(200, rng)
    monitor = DriftMonitor(detector, reference)
    monitor.update(new)
    n_rare = int((new["label"] != "usual").sum())
    assert monitor.counts()["scores"][-1] == n_rare
    assert sum(monitor.counts()["scores"]) == 200


def test_rows_of_rare_labels_alone_are_seen_in_the_labels() -> None:
    rng = np.random.default_rng(20)
    table = rare_labels(300, rng)
    detector = small_detector(table, 0)
    monitor = DriftMonitor(detector, reference_of_fit(detector, table))
    monitor.update(rare_labels(600, rng).query("label != 'usual'"))
    report = monitor.report()
    assert report.verdict == "drift"
    assert report.columns[0].column == "label"
    assert report.score is not None
    assert report.score.p_value == 1.0


def test_scores_are_not_compared_where_it_is_not_known_whose_they_are() -> None:
    rng = np.random.default_rng(21)
    table = rare_labels(300, rng)
    detector = small_detector(table, 0)
    monitor = DriftMonitor(detector, learn_reference(table, detector.encoder_.schema_))
    monitor.update(rare_labels(100, rng))
    assert monitor.report().score is None


def test_a_reference_of_other_columns_is_refused() -> None:
    table = rare_labels(100, np.random.default_rng(22))
    detector = small_detector(table, 0)
    with pytest.raises(InvalidTableError, match="number"):
        reference_of_fit(detector, table.drop(columns="number"))


# --- what changes is seen ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "column", "what"),
    [
        (lambda t: t.assign(number=t["number"] + 0.8), "number", "<"),
        (lambda t: t.assign(number=t["number"] * 0.3), "number", "<"),
        (lambda t: t.assign(count=t["count"] + 1), "count", "<"),
        (lambda t: t.assign(label=np.where(t.index % 2, "b", t["label"])), "label", "= 'b'|= 'a'"),
        (lambda t: t.assign(label=np.where(t.index % 9 == 0, "new", t["label"])), "label", "such as 'new'"),
        (lambda t: t.assign(holes=np.where(t.index % 2, np.nan, t["holes"])), "holes", "missing"),
        (lambda t: t.assign(holes=t["holes"] * 1000), "holes", "<"),
    ],
    ids=["shift", "scale", "count", "share", "unseen", "missing", "unit"],
)
def test_changes_are_seen_and_named(change: Any, column: str, what: str) -> None:
    rng, n_seen, n_runs = np.random.default_rng(2), 0, 12
    for _ in range(n_runs):
        monitor = monitor_of(rng, alpha=0.01)
        monitor.update(change(draw(300, rng)))
        report = monitor.report()
        n_seen += report.verdict == "drift" and report.columns[0].column == column
    assert n_seen >= 11
    worst = report.columns[0]
    assert worst.drift
    assert any(part in worst.what for part in what.split("|"))
    assert worst.expected != worst.share


def test_scores_alone_see_a_change() -> None:
    rng = np.random.default_rng(3)
    model = density_of(draw(300, rng))
    reference = learn_reference(draw(300, rng), model.encoder_.schema_, model.score_samples(draw(300, rng)))
    monitor = DriftMonitor(model, reference, ignore=["number", "count", "label", "holes"])
    monitor.update(draw(200, rng, shift=1.5))
    report = monitor.report()
    assert report.verdict == "drift"
    assert report.columns == ()
    assert report.score is not None
    assert report.score.share > report.score.level


# --- few rows, parts, and mistakes -------------------------------------------------------


def test_too_few_rows_are_never_no_drift() -> None:
    monitor = monitor_of(np.random.default_rng(4))
    assert monitor.report().verdict == "too few rows"
    monitor.update(draw(49, np.random.default_rng(5)))
    report = monitor.report()
    assert report.verdict == "too few rows"
    assert report.p_value is None
    assert report.table.empty
    monitor.update(draw(1, np.random.default_rng(6)))
    assert monitor.report().verdict == "no drift seen"


def test_batches_and_parts_give_the_same_report() -> None:
    rows = draw(400, np.random.default_rng(7))
    whole, parts, first, second = (monitor_of(np.random.default_rng(8)) for _ in range(4))
    whole.update(rows)
    for start in range(0, 400, 70):
        parts.update(rows[start : start + 70])
    assert parts.report() == whole.report()
    first.update(rows[:100])
    second.update(rows[100:])
    second.add(json.loads(json.dumps(first.counts())))
    assert second.report().columns == whole.report().columns
    assert second.n_rows == 400


def test_counts_of_another_model_are_refused() -> None:
    monitor = monitor_of(np.random.default_rng(9))
    counts = monitor.counts()
    counts["columns"]["0"] = [1]
    with pytest.raises(InvalidTableError, match="same model and columns"):
        monitor.add(counts)


def test_a_reference_survives_json() -> None:
    table = draw(200, np.random.default_rng(10))
    schema = TableEncoder().fit(table).schema_
    reference = learn_reference(table, schema, np.arange(50.0))
    again = TableReference.from_dict(json.loads(json.dumps(reference.to_dict())))
    assert again == reference


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("columns"),
        lambda data: data.update(n_rows=7),
        lambda data: data.update(more=1),
        lambda data: data["columns"][0].update(edges=[2.0, 1.0]),
        lambda data: data["columns"].__setitem__(0, None),
    ],
)
def test_a_forged_reference_is_refused(change: Any) -> None:
    table = draw(100, np.random.default_rng(11))
    data = learn_reference(table, TableEncoder().fit(table).schema_).to_dict()
    data = json.loads(json.dumps(data))
    change(data)
    with pytest.raises(InvalidTableError):
        TableReference.from_dict(data)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"alpha": 0.0}, "alpha must be"),
        ({"alpha": 1}, "alpha must be"),
        ({"min_rows": 0}, "min_rows must be"),
        ({"ignore": ["colour"]}, "it has no 'colour'"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        monitor_of(np.random.default_rng(12), **settings)


def test_a_monitor_needs_something_to_compare_with() -> None:
    model = density_of(draw(100, np.random.default_rng(13)))
    with pytest.raises(ConfigurationError, match="nothing to compare"):
        DriftMonitor(model, None)
    with pytest.raises(ConfigurationError, match="fitted estimator"):
        DriftMonitor(object(), None)


def test_scores_that_are_no_numbers_are_refused_and_not_counted() -> None:
    monitor = monitor_of(np.random.default_rng(14))
    with pytest.raises(InvalidTableError, match="finite"):
        monitor.update(draw(60, np.random.default_rng(15)), np.full((60, 1), np.nan))
    assert monitor.n_rows == 0


def test_the_table_has_a_row_for_each_column() -> None:
    monitor = monitor_of(np.random.default_rng(16))
    monitor.update(draw(100, np.random.default_rng(17)))
    table = monitor.report().table
    assert sorted(table["column"]) == ["count", "holes", "label", "number"]
    assert (table["p_adjusted"] >= table["p_value"]).all()
    assert json.loads(json.dumps(monitor.report().to_dict()))["verdict"] == "no drift seen"


# --- the tests below ---------------------------------------------------------------------


def test_events_are_compared_by_fishers_exact_test() -> None:
    sides = [
        stats.fisher_exact([[3, 97], [30, 170]], alternative).pvalue for alternative in ("less", "greater")
    ]
    assert event_test(3, 100, 30, 200).p_value == pytest.approx(2.0 * min(sides))


def test_holm_adjusts_as_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])


def test_levels_give_alarms_at_the_rate_stated() -> None:
    rng, alpha, n_runs = np.random.default_rng(18), 0.1, 200
    shares = np.array([0.5, 0.3, 0.15, 0.05])
    alarms = sum(
        level_test(rng.multinomial(300, shares), rng.multinomial(500, shares), 999).p_value <= alpha
        for _ in range(n_runs)
    )
    low, high = band(n_runs, alpha)
    assert low <= alarms <= high
