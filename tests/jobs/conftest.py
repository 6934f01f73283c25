from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flowdetect.jobs import FitSettings, ScoreSettings, run_fit


@pytest.fixture(scope="session")
def visits() -> Callable[..., pd.DataFrame]:
    """Rows as they are trained on: two numbers that go together, a category, and an id."""

    def draw(n_rows: int, seed: int = 0) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        weight = rng.normal(70.0, 8.0, size=n_rows)
        return pd.DataFrame(
            {
                "visit": [f"v{seed}-{i}" for i in range(n_rows)],
                "weight": weight.round(3),
                "height": (100.0 + weight + rng.normal(size=n_rows)).round(3),
                "sex": rng.choice(["F", "M"], size=n_rows),
            }
        )

    return draw


@pytest.fixture(scope="session")
def models(visits: Callable[..., pd.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `train.csv`, `detector.flow` and `density.flow`."""
    folder = tmp_path_factory.mktemp("models")
    visits(300).to_csv(folder / "train.csv", index=False)
    for name in ("detector", "density"):
        settings = FitSettings(
            sources=(str(folder / "train.csv"),),
            out=str(folder / f"{name}.flow"),
            estimator=name,
            drop=("visit",),
            max_steps=15,
            false_alarm_rate=0.02 if name == "detector" else None,
            parameters={"hidden_features": 16},
            metadata={"owner": "ward 3"},
        )
        run_fit(settings)
    return folder


@pytest.fixture
def folder(
    models: Path, visits: Callable[..., pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The working folder, with three tables of 40 rows and one of 120 that holds the same and an anomaly."""
    tables = [visits(40, seed) for seed in (1, 2, 3)]
    tables[1].loc[7, "weight"] = 400.0
    (tmp_path / "days").mkdir()
    for day, table in enumerate(tables, 1):
        table.to_csv(tmp_path / "days" / f"day{day}.csv", index=False)
    pd.concat(tables, ignore_index=True).to_parquet(tmp_path / "all.parquet", index=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def settings(models: Path) -> Callable[..., ScoreSettings]:
    """Settings of a job with the detector; all.parquet to out.parquet unless told otherwise."""

    def make(**changes: object) -> ScoreSettings:
        given = {
            "model": str(models / "detector.flow"),
            "sources": ("all.parquet",),
            "out": "out.parquet",
            **changes,
        }
        return ScoreSettings(**given)  # type: ignore[arg-type]

    return make
