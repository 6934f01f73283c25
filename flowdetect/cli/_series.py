"""`detect` for tables whose rows follow each other in time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowdetect.cli._common import save_figure

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

__all__ = ["draw_series", "fit_series", "print_events"]


def fit_series(
    X: pd.DataFrame,
    time_and_entity: tuple[str | None, str | None],
    contamination: str | float,
    false_alarms_every: str | None,
    *,
    seed: int,
    settings: dict[str, int | None],
) -> Any:
    """Fit a detector of series to the columns of a table."""
    from flowdetect.timeseries import SeriesOutlierDetector

    rows = false_alarms_every is not None and false_alarms_every.isdigit()
    detector = SeriesOutlierDetector(
        time=time_and_entity[0],
        entity=time_and_entity[1],
        contamination=contamination,
        time_between_false_alarms=int(false_alarms_every or 0) if rows else false_alarms_every,
        random_state=seed,
    )
    detector.set_params(**{name: value for name, value in settings.items() if value is not None})
    return detector.fit(X)


def print_events(console: Console, detector: Any, X: pd.DataFrame, top: int) -> None:
    """Print the odd stretches, in order of time; the most severe ones if there are more than wanted."""
    events = detector.events(X)
    shown = events.loc[events["severity"].nlargest(top).index.sort_values()]
    windows = " and ".join(map(str, detector.windows_))
    found = "1 odd stretch" if len(events) == 1 else f"{len(events):,} odd stretches"
    console.print(
        f"{found} in {len(X):,} rows, by windows of {windows} rows; scores below "
        f"{detector.offset_:.4g} are odd",
        highlight=False,
    )
    for _, event in shown.iterrows():
        whose = "" if detector.entity is None else f"{event[detector.entity]}: "
        console.print(
            f"  {whose}{event['start']} to {event['end']}, most at {event['peak']}, severity "
            f"{event['severity']:.3g}, by {', '.join(map(str, event['channels']))}",
            highlight=False,
            markup=False,
        )


def draw_series(path: Path, detector: Any, X: pd.DataFrame, *, name: str) -> None:
    """Draw the series, the most severe event's where there are several, with its score."""
    from matplotlib.figure import Figure

    from flowdetect.plotting import SeriesDisplay

    entity = None
    if detector.entity is not None:
        events = detector.events(X)
        entity = X[detector.entity].iloc[0]
        if len(events):
            entity = events.loc[events["severity"].idxmax(), detector.entity]
    # Not pyplot's figure: a command must not open, or need, a window system.
    figure = Figure(figsize=(10.0, 6.0), dpi=150, layout="constrained")
    title = name if entity is None else f"{name}, {entity}"
    SeriesDisplay.from_estimator(detector, X, entity=entity, figure=figure, name=title)
    save_figure(figure, path)
