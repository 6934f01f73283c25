"""The recipes for schedulers: read as their programs would read them, without those programs."""

import ast
import configparser
import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from flowdetect.cli import app
from flowdetect.jobs import FitSettings, ScoreSettings
from flowdetect.jobs._settings import read_settings

FOLDER = Path(__file__).parents[1] / "examples" / "jobs"
README = FOLDER.parents[1] / "README.md"


def commands_in(text: str) -> list[list[str]]:
    """Return the arguments of each line that calls the command, without comments."""
    lines = [line.split(" #")[0] for line in re.sub(r"\\\n\s*", " ", text).splitlines()]
    found = [
        re.search(r"(?:^|[ /=])flowdetect ((?:fit|score|drift|inspect|verify) .*)", line) for line in lines
    ]
    return [shlex.split(match[1]) for match in found if match]


def parse(arguments: list[str]) -> None:
    """Parse arguments as the command does, and do nothing else."""
    command = typer.main.get_command(app).commands[arguments[0]]  # type: ignore[attr-defined]
    command.make_context(arguments[0], arguments[1:])


def test_every_recipe_is_in_the_table() -> None:
    named = set(re.findall(r"`([\w.-]+)`", (FOLDER / "README.md").read_text()))
    assert {path.name for path in FOLDER.iterdir() if path.name not in ("README.md", "__pycache__")} <= named


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_python_recipes_parse_and_call_the_command_rightly(path: Path) -> None:
    tree = ast.parse(path.read_text())
    names = {part.value for part in ast.walk(tree) if isinstance(part, ast.Constant)}
    flags = {name for name in names if isinstance(name, str) and name.startswith("--")}
    known = {
        flag
        for command in typer.main.get_command(app).commands.values()  # type: ignore[attr-defined]
        for parameter in command.params
        for flag in parameter.opts
    }
    assert flags
    assert flags <= known


@pytest.mark.parametrize("name", ["crontab", "flowdetect-score.service", "nightly.toml"])
def test_commands_of_recipes_can_be_parsed(name: str) -> None:
    found = commands_in((FOLDER / name).read_text().replace("# flowdetect fit nightly.toml, then", "#"))
    assert found
    for arguments in found:
        parse(arguments)


def test_commands_of_the_readme_can_be_parsed() -> None:
    blocks = re.findall(r"^```\w*\n(.*?)^```$", README.read_text(), flags=re.MULTILINE | re.DOTALL)
    found = [arguments for block in blocks for arguments in commands_in(block)]
    assert {arguments[0] for arguments in found} >= {"fit", "score", "drift"}
    for arguments in found:
        parse(arguments)


def test_the_settings_are_settings() -> None:
    config = str(FOLDER / "nightly.toml")
    fit = read_settings(FitSettings, "fit", config=config, environment={}, flags={})
    score = read_settings(ScoreSettings, "score", config=config, environment={}, flags={})
    assert score.model == fit.out
    assert score.resume


def test_systemd_units_are_complete() -> None:
    units = {}
    for path in (FOLDER / "flowdetect-score.service", FOLDER / "flowdetect-score.timer"):
        units[path.suffix] = configparser.ConfigParser(interpolation=None)
        units[path.suffix].read_string(path.read_text())
    assert units[".service"]["Service"]["Type"] == "oneshot"
    assert units[".service"]["Service"]["RestartForceExitStatus"] == "75"
    assert units[".timer"]["Timer"]["OnCalendar"]


def test_the_crontab_has_a_schedule() -> None:
    lines = [line for line in (FOLDER / "crontab").read_text().splitlines() if "flowdetect score" in line]
    assert all(re.match(r"(?:[\d*/,-]+ ){5}flowdetect ", line) for line in lines)
    assert lines


def test_the_container_file_has_known_instructions() -> None:
    text = re.sub(r"\\\n", " ", (FOLDER / "Containerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert {line.split()[0] for line in lines} <= {"FROM", "COPY", "ENV", "RUN", "USER", "ENTRYPOINT", "CMD"}


def test_alerts_use_metrics_that_exist() -> None:
    from flowdetect.jobs import _metrics

    used = set(re.findall(r"flowdetect_(\w+)", (FOLDER / "alerts.yml").read_text()))
    source = Path(_metrics.__file__).read_text()
    assert used
    assert not [name for name in used if f'"{name}"' not in source]


def test_the_help_names_every_exit_code() -> None:
    text = CliRunner().invoke(app, ["--help"]).output
    assert all(code in text for code in ("0 done", "75"))
