"""Some nights of a scoring job: scored, refused, drifted, learnt anew, and taken back.

    python examples/nightly_job.py [--fast] [--out FOLDER]

A laboratory's thyroid panels are scored every night. In the third night the file lacks a column; from the
fourth the laboratory gives TSH in another unit. The job refuses the one and notices the other, a new model is
learnt from what was there first and from the nights since, and takes over only if it finds a night that
neither has seen more likely than the old one does. The models lie in a folder under their ids, and a small
file names the one in use: the way back is to name another one, and to score again.

The same as commands: `flowdetect fit`, `flowdetect score` and `flowdetect drift`; examples/jobs/ runs them
from cron, systemd, Airflow and Prefect.
"""

import argparse
from pathlib import Path

import pandas as pd

import flowdetect
from flowdetect.jobs import FitSettings, SchemaError, ScoreSettings, run_fit, run_score

DATASETS = Path(__file__).parents[1] / "datasets"
ROWS_A_NIGHT = 300
COLUMNS = ["age", "sex", "on_thyroxine", "sick", "TSH", "T3", "TT4", "T4U", "FTI"]


def write_nights(folder: Path) -> None:
    """Write the training rows and six nights: the third lacks a column, TSH is in another unit later."""
    table = pd.read_csv(DATASETS / "hypothyroid.csv.gz", na_values="?")[COLUMNS]
    table = table.sample(frac=1.0, random_state=0).reset_index(drop=True)
    table[:1000].to_csv(folder / "history.csv", index=False)
    for night in range(1, 7):
        start = 1000 + (night - 1) * ROWS_A_NIGHT
        rows = table[start : start + ROWS_A_NIGHT].reset_index(names="row")
        if night >= 4:
            rows["TSH"] *= 1000.0
        if night == 3:
            rows = rows.drop(columns="T3")
        rows.to_csv(folder / f"night-{night}.csv", index=False)


class Models:
    """A folder of models under their ids, and the file that names the one in use."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, model_id: str) -> Path:
        """Return the file of a model."""
        return self.folder / f"{model_id[:12]}.flow"

    def fit(self, sources: list[Path], max_steps: int) -> str:
        """Learn a model and keep it; it is not used yet."""
        new = self.folder / "new.flow"
        settings = FitSettings(
            sources=tuple(map(str, sources)),
            out=str(new),
            drop=("row",) if "night" in sources[0].name else (),
            false_alarm_rate=0.01,
            max_steps=max_steps,
        )
        model_id = run_fit(settings).model_id
        new.rename(self.path(model_id))
        return model_id

    def use(self, model_id: str) -> None:
        """Name the model in use, in one step."""
        new = self.folder / "champion.new"
        new.write_text(f"{model_id}\n")
        new.replace(self.folder / "champion")

    @property
    def champion(self) -> str:
        """The id of the model in use."""
        return (self.folder / "champion").read_text().strip()


def score(models: Models, folder: Path, night: int) -> None:
    """Score a night with the model in use, and print what an operator would see."""
    settings = ScoreSettings(
        model=str(models.path(models.champion)),
        sha256=models.champion,
        sources=(str(folder / f"night-{night}.csv"),),
        out=str(folder / f"scored-{night}.csv"),
        quarantine=str(folder / f"refused-{night}.csv"),
        max_bad_rows="5%",
        id_columns=("row",),
        drift=True,
    )
    try:
        report = run_score(settings)
    except SchemaError as error:
        print(f"night {night}: exit code {error.exit_code}: {error}")
        return
    drift = report.drift
    print(
        f"night {night}: model {report.model_id[:8]}, {report.n_scored} rows, {report.n_anomalies} below the "
        f"threshold ({report.expected_false_alarms:.0f} expected), {report.n_quarantined} refused; "
        f"{drift['verdict']}"
    )
    for column in [column for column in drift["columns"] if column["drift"]][:2]:
        print(f"    {column['column']} {column['what']}: {column['expected']:.0%} -> {column['share']:.0%}")


def mean_score(models: Models, model_id: str, rows: pd.DataFrame) -> float:
    return float(flowdetect.load(models.path(model_id)).score_samples(rows).mean())


def main() -> None:
    """Run the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true", help="train less")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for models and scored rows")
    args = parser.parse_args()
    folder = args.out / "nightly"
    folder.mkdir(parents=True, exist_ok=True)
    max_steps = 40 if args.fast else 400

    write_nights(folder)
    models = Models(folder / "models")
    first = models.fit([folder / "history.csv"], max_steps)
    models.use(first)
    for night in (1, 2, 3, 4, 5):
        score(models, folder, night)

    challenger = models.fit([folder / "night-4.csv", folder / "night-5.csv"], max_steps)
    unseen = pd.read_csv(folder / "night-6.csv").drop(columns="row")
    old, new = (mean_score(models, model_id, unseen) for model_id in (first, challenger))
    print(f"\nmean score of night 6: champion {old:.1f}, challenger {new:.1f} nats")
    if new > old:
        models.use(challenger)
    score(models, folder, 6)

    models.use(first)
    print("\ntaken back: the same night with the model before, into the same file")
    score(models, folder, 6)


if __name__ == "__main__":
    main()
