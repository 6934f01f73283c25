from pathlib import Path

import pytest

from flowdetect.jobs._errors import UsageError
from flowdetect.jobs._settings import BadRowLimit, FitSettings, ScoreSettings, read_settings

LEAST = {"model": "m.flow", "sources": ("a.csv",), "out": "b.csv"}


def test_flags_win_over_variables_and_these_over_the_file(tmp_path: Path) -> None:
    config = tmp_path / "job.toml"
    config.write_text(
        '[score]\nmodel = "file.flow"\nsources = ["a.csv", "b.csv"]\nout = "file.csv"\nreasons = 1\n'
        'max-bad-rows = "1%"\nresume = true\n[fit]\nout = "other.flow"\n'
    )
    found = read_settings(
        ScoreSettings,
        "score",
        config=config,
        environment={"FLOWDETECT_SCORE_OUT": "variable.csv", "FLOWDETECT_SCORE_REASONS": "2", "HOME": "/"},
        flags={"reasons": 0, "model": None, "fail_on": [], "quarantine": "q.csv"},
    )
    assert (found.model, found.sources, found.out) == ("file.flow", ("a.csv", "b.csv"), "variable.csv")
    assert (found.reasons, found.resume, found.fail_on) == (0, True, ())
    assert (found.quarantine, found.limit) == ("q.csv", BadRowLimit(share=0.01))


def test_lists_and_switches_as_variables() -> None:
    environment = {
        "FLOWDETECT_SCORE_SOURCES": "a.csv, b.csv",
        "FLOWDETECT_SCORE_RESUME": "yes",
        "FLOWDETECT_SCORE_FAIL_ON": "drift,anomalies",
        "FLOWDETECT_SCORE_ALPHA": "0.05",
        "FLOWDETECT_SCORE_CONFIG": "elsewhere.toml",
    }
    flags = {"model": "m.flow", "out": "b.csv"}
    found = read_settings(ScoreSettings, "score", environment=environment, flags=flags)
    assert found.sources == ("a.csv", "b.csv")
    assert (found.resume, found.fail_on, found.alpha) == (True, ("drift", "anomalies"), 0.05)


def test_tables_of_the_file_for_a_fit(tmp_path: Path) -> None:
    config = tmp_path / "job.toml"
    config.write_text(
        '[fit]\nsources = "t.csv"\nout = "m.flow"\ncontamination = "auto"\n'
        '[fit.parameters]\nn_models = 2\n[fit.metadata]\nowner = "ward 3"\n'
    )
    found = read_settings(FitSettings, "fit", config=config, environment={}, flags={"seed": 3})
    assert (found.sources, found.seed) == (("t.csv",), 3)
    assert (found.parameters, found.metadata) == ({"n_models": 2}, {"owner": "ward 3"})


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[score]\nreason = 1", "sets 'reason' in .score.; there are model, sources"),
        ("[scores]\nreasons = 1", "has 'scores' at its top; there are .score., .fit., .drift."),
        ("score = 1", "'score' in '.*' must be a table"),
        ("[score", "is not TOML"),
        ("[score]\nreasons = -1", "'reasons' in '.*' must be a whole number of at least 0; got -1"),
        ("[score]\nreasons = true", "must be a whole number of at least 0; got True"),
        ("[score]\nsources = [1]", "must be a list of texts"),
        ('[score]\nfail_on = ["anything"]', "must be some of anomalies, drift, quarantine"),
        ('[score]\nmax_bad_rows = "many"', "must be a whole number of rows, or a percentage"),
        ('[score]\nmax_bad_rows = "101%"', "must be a whole number of rows, or a percentage"),
        ('[score]\nresume = "perhaps"', "must be true or false; got 'perhaps'"),
        ("[score]\nalpha = nan", "must be a number from 0.0001 to 0.49; got nan"),
        ('[score]\nout = ""', "must be a text that is not empty"),
    ],
)
def test_a_file_that_says_something_else(tmp_path: Path, content: str, sentence: str) -> None:
    config = tmp_path / "job.toml"
    config.write_text(content)
    with pytest.raises(UsageError, match=sentence):
        read_settings(ScoreSettings, "score", config=config, environment={}, flags=LEAST)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'.*none.toml' cannot be read: No such file"):
        read_settings(ScoreSettings, "score", config=tmp_path / "none.toml", environment={}, flags=LEAST)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "FLOWDETECT_SCORE_OUTT",
            "x",
            "there is no setting for the environment variable FLOWDETECT_SCORE_OUTT",
        ),
        ("FLOWDETECT_SCORE_THREADS", "two", "FLOWDETECT_SCORE_THREADS must be a whole number of at least 1"),
    ],
)
def test_a_variable_that_says_something_else(name: str, value: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        read_settings(ScoreSettings, "score", environment={name: value}, flags=LEAST)


@pytest.mark.parametrize("name", ["model", "sources", "out"])
def test_what_must_be_said(name: str) -> None:
    with pytest.raises(UsageError, match=f"'{name}' is not set"):
        read_settings(ScoreSettings, "score", environment={}, flags={**LEAST, name: None})


def test_what_is_given_in_code_is_checked_too() -> None:
    with pytest.raises(UsageError, match="'estimator' must be one of detector, density; got 'forest'"):
        FitSettings(sources=("a.csv",), out="m.flow", estimator="forest")
    with pytest.raises(UsageError, match="'contamination' must be 'auto' or a fraction"):
        FitSettings(sources=("a.csv",), out="m.flow", contamination=0.7)
