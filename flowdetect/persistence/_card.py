"""What a person wants to know of a model before using it."""

from __future__ import annotations

from typing import Any

__all__ = ["card_of", "printable", "summary_of"]

_MOST_COLUMNS = 40
_LONGEST_ENTRY = 200  # characters of an entry of the metadata


def summary_of(estimator: Any) -> dict[str, Any]:
    """Return what a fitted estimator learnt from, and how its training went, JSON-able."""
    summary: dict[str, Any] = {}
    encoder = getattr(estimator, "encoder_", None)
    if encoder is not None:
        summary["columns"] = [[_text(c.name), c.kind, c.storage.dtype] for c in encoder.schema_.columns]
    if getattr(estimator, "context_encoder_", None) is not None:
        summary["context"] = [_text(name) for name in estimator.context_encoder_.schema_.names]
    scores = getattr(estimator, "training_scores_", None)
    if scores is not None:
        summary["training_rows"] = len(scores)
    if hasattr(estimator, "offset_"):
        summary["threshold"] = float(estimator.offset_)
    if getattr(estimator, "_calibration_scores", None) is not None:
        summary["calibration_rows"] = len(estimator._calibration_scores)
    if getattr(estimator, "classes_", None) is not None:
        summary["classes"] = [_text(label) for label in estimator.classes_.tolist()]
    if hasattr(estimator, "windows_"):
        summary["windows"] = list(estimator.windows_)
    results = getattr(estimator, "training_results_", None) or [getattr(estimator, "training_result_", None)]
    summary["training"] = [_training(result) for result in results if result is not None]
    return summary


def card_of(manifest: dict[str, Any]) -> str:
    """Return the model card of a manifest."""
    summary = manifest["summary"]
    lines = [
        f"{manifest['class']}, saved {manifest['created']} by flowdetect "
        f"{manifest['libraries']['flowdetect']}"
    ]
    for name in ("training_rows", "calibration_rows", "threshold", "windows", "classes"):
        if name in summary:
            lines.append(f"{name.replace('_', ' ')}: {_listed(summary[name])}")
    columns = summary.get("columns", [])
    if columns:
        lines.append(f"columns ({len(columns)}):")
        lines += [f"  {name}: {kind}, {dtype}" for name, kind, dtype in columns[:_MOST_COLUMNS]]
        lines += [f"  and {len(columns) - _MOST_COLUMNS} more"] if len(columns) > _MOST_COLUMNS else []
    if "context" in summary:
        lines.append(f"context: {_listed(summary['context'])}")
    for k, training in enumerate(summary["training"], 1):
        lines.append(
            f"training {k}: {training['rows']} rows, {training['steps']} steps, {training['seconds']:.0f} s, "
            f"validation loss {training['validation_loss']}; ended by {training['ended_by']}"
        )
    parameters = manifest["model"]["parameters"]
    lines.append("parameters: " + ", ".join(f"{name}={value!r}" for name, value in parameters.items()))
    lines += [f"{key}: {_short(value)}" for key, value in manifest["metadata"].items()]
    return "\n".join(printable(line) for line in lines)


def printable(text: str) -> str:
    r"""Return a text without characters that a terminal would obey, such as "\x1b".

    Examples
    --------
    >>> printable("red\x1b[31m")
    'red\\x1b[31m'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _training(result: Any) -> dict[str, Any]:
    return {
        "rows": result.n_training,
        "steps": result.n_steps,
        "seconds": float(result.seconds),
        "validation_loss": f"{result.best_validation_loss:.4g}",
        "ended_by": str(result.stop_reason),
    }


def _text(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) else str(value)


def _short(value: Any) -> str:
    text = str(value)
    if isinstance(value, dict) and len(text) > _LONGEST_ENTRY:
        text = f"a table of {', '.join(map(str, value))}"  # its beginning alone would say nothing
    return text if len(text) <= _LONGEST_ENTRY else f"{text[: _LONGEST_ENTRY - 3]}..."


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
