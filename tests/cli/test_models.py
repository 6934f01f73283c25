import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flowdetect.cli import app
from flowdetect.persistence import open_model

Run = Callable[..., Result]


@pytest.fixture
def run(ward: Path) -> Run:
    """Run a command in the ward."""
    return lambda *arguments: CliRunner().invoke(app, [*arguments])


def test_the_card(run: Run) -> None:
    result = run("inspect", "beds.flow")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("FlowOutlierDetector, saved ")
    assert "  weight: " in result.stdout
    assert "owner: ward 3" in result.stdout
    assert "\ndrift_reference: a table of n_rows, " in result.stdout
    assert "{'" not in result.stdout.partition("\ndrift_reference")[2]
    manifest = json.loads(run("inspect", "beds.flow", "--json").stdout)
    assert manifest["metadata"]["owner"] == "ward 3"


def test_the_id(run: Run) -> None:
    model_id = open_model("beds.flow").model_id
    for more in ([], ["--sha256", model_id], ["--sha256", model_id.upper()]):
        result = run("verify", "beds.flow", *more)
        assert (result.exit_code, result.stdout) == (0, f"{model_id}\n")
    result = run("verify", "beds.flow", "--sha256", "0" * 64)
    assert result.exit_code == 4
    assert result.stderr == f"flowdetect: 'beds.flow' has the id {model_id}, not {'0' * 64}.\n"


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_what_is_no_model(run: Run, ward: Path, command: str) -> None:
    (ward / "cut.flow").write_bytes((ward / "beds.flow").read_bytes()[:1000])
    for name in ("none.flow", "new.csv", "cut.flow", "."):
        result = run(command, name)
        assert result.exit_code == 4
        assert result.stderr.startswith(f"flowdetect: '{name}' ")
        assert result.stderr.count("\n") == 1


def test_a_changed_weight(run: Run, ward: Path) -> None:
    content = bytearray((ward / "beds.flow").read_bytes())
    content[len(content) // 2] ^= 1
    (ward / "beds.flow").write_bytes(content)
    assert run("verify", "beds.flow").exit_code == 4
