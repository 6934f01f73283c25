import io
import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from flowdetect.jobs import ScoreSettings, run_score
from flowdetect.jobs._logs import LOGGER, log_event, logging_to, redact, redact_all, warnings_logged


def test_json_lines(folder: Path, settings: Callable[..., ScoreSettings]) -> None:
    stream = io.StringIO()
    with logging_to("json", stream=stream):
        report = run_score(settings())
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["started", "scored", "finished"]
    assert lines[0]["run_id"] == report.run_id
    assert lines[-1]["scored"] == lines[-1]["rows"] == 120
    assert all(line["level"] == "info" and line["time"].endswith("+00:00") for line in lines)


def test_sentences_and_quiet() -> None:
    stream = io.StringIO()
    with logging_to("text", stream=stream):
        log_event("scored", n_rows=3, source="a.csv", nothing=None)
    with logging_to("text", quiet=True, stream=stream):
        log_event("scored", n_rows=4)
        log_event("odd", level=logging.WARNING)
    assert stream.getvalue() == "scored: n rows 3, source a.csv\nodd\n"
    assert not LOGGER.handlers


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("postgresql://me:xyzzy@db/a", "postgresql://me:***@db/a"),
        ("postgresql+psycopg://me:xy:zz@y@db/a", "postgresql+psycopg://me:***@db/a"),
        ("two: a://b:xyzzy@c and d://e:xyzzy@f", "two: a://b:***@c and d://e:***@f"),
        ("mssql://db/a?user=me&password=xyzzy&x=1", "mssql://db/a?user=me&password=***&x=1"),
        ("AWS_SECRET_ACCESS_KEY: xyzzy", "AWS_SECRET_ACCESS_KEY: ***"),
        ("api-key='xyzzy'", "api-key='***'"),
        ("there is no file 'postgresql:/u:xyzzy@h/db#t'", "there is no file 'postgresql:/u:***@h/db#t'"),
        ("postgresql://me:xy/zzy@db/a", "postgresql://me:***@db/a"),
        ("odbc_connect=DRIVER%3DX%3BUID%3Du%3BPWD%3Dxyzzy", "odbc_connect=DRIVER%3DX%3BUID%3Du%3BPWD%3D***"),
        ("UID=u;PWD={xy;zzy xyzzy};x=1", "UID=u;PWD=***;x=1"),
        ("https://example.org:8080/a@b", "https://example.org:8080/a@b"),
        ("nothing to hide: a=1", "nothing to hide: a=1"),
    ],
)
def test_secrets_are_left_out(text: str, safe: str) -> None:
    assert redact(text) == safe
    assert redact_all({"a": [text, 1]}) == {"a": [safe, 1]}
    for form in ("text", "json"):
        stream = io.StringIO()
        with logging_to(form, stream=stream):
            log_event(text, about=text, inside={"list": [text]})
        assert "xyzzy" not in stream.getvalue()


def test_warnings_are_logged_once_each() -> None:
    stream = io.StringIO()
    with logging_to("json", stream=stream), warnings_logged():
        for text in ("one", "two", "one"):
            warnings.warn(text, UserWarning, stacklevel=1)
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["message"] for line in found] == ["one", "two"]
    assert {line["level"] for line in found} == {"warning"}


def test_a_file_that_a_stop_left_open_is_no_warning_for_operators() -> None:
    stream = io.StringIO()
    with logging_to("text", stream=stream), warnings_logged():
        warnings.warn("unclosed file", ResourceWarning, stacklevel=1)
        warnings.warn("for operators", UserWarning, stacklevel=1)
    assert stream.getvalue() == "warning: message for operators\n"
