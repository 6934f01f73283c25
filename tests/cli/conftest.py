from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flowdetect.jobs import FitSettings, run_fit


@pytest.fixture(scope="session")
def beds() -> pd.DataFrame:
    """Two numbers that go together, a category, and an id."""
    rng = np.random.default_rng(0)
    weight = rng.normal(70.0, 8.0, size=200)
    return pd.DataFrame(
        {
            "bed": [f"b{i:03d}" for i in range(200)],
            "weight": weight.round(2),
            "height": (100.0 + weight + rng.normal(size=200)).round(1),
            "sex": rng.choice(["F", "M"], size=200),
        }
    )


@pytest.fixture(scope="session")
def model_file(beds: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of the table without its id."""
    folder = tmp_path_factory.mktemp("model")
    beds.to_csv(folder / "train.csv", index=False)
    settings = FitSettings(
        sources=(str(folder / "train.csv"),),
        out=str(folder / "beds.flow"),
        drop=("bed",),
        max_steps=10,
        metadata={"owner": "ward 3"},
    )
    run_fit(settings)
    return folder / "beds.flow"


@pytest.fixture
def ward(beds: pd.DataFrame, model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with `beds.flow`, and `new.csv` with an anomaly in row 3."""
    (tmp_path / "beds.flow").write_bytes(model_file.read_bytes())
    new = beds[:50].copy()
    new.loc[2, "weight"] = 400.0
    new.to_csv(tmp_path / "new.csv", index=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path
