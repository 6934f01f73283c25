"""What the parts of a model must have in common: each could be right by itself, and all of them wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flowdetect.estimators._entries import Entries
from flowdetect.exceptions import ModelFileError
from flowdetect.flows import TableDensity, completion_layouts
from flowdetect.preprocessing import TableEncoder

__all__ = ["check_object"]


def check_object(kind: str, built: Any) -> None:
    """Refuse an object whose parts do not go together.

    Raises
    ------
    ModelFileError
    """
    if kind in _CHECKS:
        _CHECKS[kind](built)


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise ModelFileError(f"{sentence}.")


def _density_fits(
    density: TableDensity, encoder: TableEncoder, context: TableEncoder | None, extra: int
) -> None:
    embedding = density.context_embedding
    given = embedding.layout
    fits = density.layout == encoder.layout_ and embedding.n_columns == given.n_columns + extra
    fits = fits and (given.n_columns == 0 if context is None else given == context.layout_)
    _require(fits, "a density and the encoder of its columns have different columns")


def _check_density(built: Any) -> None:
    _check_table(built)
    noise = getattr(built, "noise_", None)
    _density_fits(built.density_, built.encoder_, built.context_encoder_, 0 if noise is None else 1)
    _require(
        noise is None
        or (
            len(noise.units) == built.n_features_in_
            and len(noise.weights) == built.encoder_.layout_.n_values
            and all(column.values is None or column.values.tail is None for column in _noisy_columns(built))
        ),
        "the noise is of other columns than the schema's",
    )


def _noisy_columns(built: Any) -> list[Any]:
    columns = built.encoder_.schema_.columns
    return [column for column, unit in zip(columns, built.noise_.units, strict=True) if unit != 0.0]


def _check_noise(built: Any) -> None:
    n_values = len(built.weights)
    shapes = built.mean.shape, built.directions.shape, built.spreads.shape
    _require(shapes == ((n_values,), (n_values, n_values), (n_values,)), "the noise's shapes differ")
    _require(
        len(built.scales) == 2 and 0.0 < built.scales[0] <= built.scales[1] < float("inf"),
        "the noise scales are no range",
    )
    _require(0.0 < built.reference < float("inf"), "the unit of the noise is not positive")
    ordered = len(built.shares) == len(built.trust) >= 1 and bool((np.diff(built.shares) > 0.0).all())
    _require(
        ordered and 0.0 < built.shares[0] and built.shares[-1] <= 1.0, "the shares are no shares in order"
    )
    sizes = np.concatenate([built.units, built.weights, built.spreads, built.trust])
    _require(bool((sizes >= 0.0).all()), "a size of the noise is negative")
    _require(bool(np.linalg.slogdet(built.directions)[0]), "the directions of the noise are no basis")


def _check_posterior(built: Any) -> None:
    _require(len(built.densities_) >= 1, "there is no density")
    first = built.densities_[0]
    for density in built.densities_:
        _require(
            density.context_encoder_ is not None
            and density.encoder_.layout_ == first.encoder_.layout_
            and density.context_encoder_.layout_ == first.context_encoder_.layout_,
            "the densities have different columns",
        )
    outcomes = built._outcomes
    n_outcomes, n_parameters = (e.n_features_in_ for e in (first.context_encoder_, first.encoder_))
    _require(
        {len(each) for each in (outcomes.may_miss, outcomes.low, outcomes.high)} == {n_outcomes}
        and outcomes.encoder.layout_ == first.context_encoder_.layout_
        and len(built._map.names) == n_parameters
        and built._trend.encoder.layout_ == first.context_encoder_.layout_
        and all(0 <= j < n_parameters for j in built._trend.columns.tolist())
        and list(built._map.names) == list(first.encoder_.schema_.names)
        and built.n_features_in_ == n_parameters,
        "the parameters and the outcomes are not those of the densities",
    )


def _check_trend(built: Any) -> None:
    n_targets, n_coordinates = len(built.columns), len(built.encoder.coordinate_columns_)
    _require(
        built.weights.shape == (n_coordinates, n_targets) and len(built.intercepts) == n_targets,
        "the trend is of other outcomes, or of other parameters",
    )


def _check_parameter_map(built: Any) -> None:
    arrays = (built.low, built.high, built.mapped, built.centre)
    _require(all(len(each) == len(built.names) for each in arrays), "there is not one map for each parameter")
    # Written so that NaN is wrong.
    _require(bool((built.low < built.high).all()), "a lower bound is not below the upper one")


def _check_table(built: Any) -> None:
    _require(
        built.n_features_in_ == built.encoder_.n_features_in_, "n_features_in_ is another than the schema's"
    )
    names, own = (list(getattr(each, "feature_names_in_", ())) for each in (built, built.encoder_))
    _require(names == own, "feature_names_in_ are other names than the schema's")


def _check_detector(built: Any) -> None:
    _check_table(built)
    _require(built.context_encoder_ is None, "a detector has no context")
    _require(
        len(built._members) >= 1
        and [m.density for m in built._members] == built.densities_
        and len(built.training_results_) == len(built.densities_),
        "members and densities are not the same",
    )
    width = len(built.encoder_.coordinate_columns_)
    for member in built._members:
        _density_fits(member.density, built.encoder_, None, 1)
        for neighbours in (member.neighbours, member.anomalies):
            _require(neighbours is None or neighbours.points.shape[1] == width, "points have another width")
    calibration = built._calibration_scores
    _require(
        calibration is None or (len(calibration) >= 1 and _sorted(calibration)), "calibration is not sorted"
    )
    rows = [built._usual_row[None], *built._candidates, *built._finer_candidates]
    _require(np.isfinite(built.offset_), "the threshold is not finite")
    _require(
        all(len(row.T) == built.encoder_.layout_.n_columns for row in rows[:1]),
        "the usual row has another width",
    )


def _check_member(built: Any) -> None:
    _require(len(built._levels) == len(built.neighbours.points), "there is not one level for each point")
    _require(0.0 <= built.share <= 1.0, "the share of numbers is no share")


def _check_neighbours(built: Any) -> None:
    _require(len(built.points) >= 1 and built.n_columns >= 0, "there are no points")
    weights = built.weights
    _require(
        weights is None or (len(weights) == len(built.points) and bool((weights > 0.0).all())),
        "weights must be positive, one for each point",
    )


def _check_augmenter(built: Any) -> None:
    _check_density(built)
    sources = built._sources
    n_classes = len(built._class_sizes)
    _require(
        sources.matrix.shape == (len(sources.classes), built.encoder_.layout_.n_columns),
        "the rows to draw from have other columns than the schema",
    )
    _require(
        len(sources.classes) >= 1 and 0 <= sources.classes.min() and sources.classes.max() < n_classes,
        "a row to draw from is of no class",
    )
    _require(built.classes_ is None or len(built.classes_) == n_classes, "classes and their sizes differ")
    _codes_fit(sources.matrix, built.encoder_)
    _bounds_fit(built)


def _bounds_fit(built: Any) -> None:
    bounds, shape = built._value_bounds, (built.encoder_.layout_.n_values,)
    _require(
        bounds.low.shape == bounds.high.shape == shape and bool((bounds.low <= bounds.high).all()),
        "the bounds are of other columns, or none",
    )


def _check_classifier(built: Any) -> None:
    _check_table(built)
    _require(len(built.densities_) == len(built._whitenings) > 0, "densities and their whitenings differ")
    for density in built.densities_:
        _density_fits(density, built.encoder_, built.context_encoder_, 0)
    n_classes = len(built.classes_)
    _require(
        built.class_prior_.shape == built._class_shares.shape == (n_classes,)
        and bool((built.class_prior_ >= 0.0).all())
        and bool((built._class_shares > 0.0).all()),
        "classes and their shares differ",
    )
    levels = built.rejection_levels_
    _require(levels is None or levels.shape == (n_classes,), "classes and their levels differ")
    _require(0.0 < built.temperature_ < np.inf, "the temperature is not positive")
    for whitening in built._whitenings:
        _whitening_fits(built, whitening, n_classes)


def _check_mixture(built: Any) -> None:
    _check_density(built)
    weights = built.weights_
    _require(
        weights.shape == (built.n_components,)
        and bool((weights >= 0.0).all())
        and bool(np.isclose(weights.sum(), 1.0)),
        "the weights are not those of the components",
    )
    _require(bool(np.isin(built.labels_, np.arange(built.n_components)).all()), "a label is of no component")
    _whitening_fits(built, built._whitening, built.n_components)


def _whitening_fits(built: Any, whitening: Any, n_classes: int) -> None:
    _require(built.context_encoder_ is not None, "a density of classes has no context")
    n_values = built.encoder_.layout_.n_values
    if whitening is None:
        _require(n_values == 0, "the whitening of the classes is absent")
        return
    shape = (n_classes, n_values)
    _require(
        whitening.centres.shape == shape and whitening.spreads.shape == (*shape, n_values),
        "the whitening is of other classes or columns",
    )
    diagonals = np.diagonal(whitening.spreads, axis1=1, axis2=2)
    lower = np.array_equal(np.tril(whitening.spreads), whitening.spreads)
    _require(lower and bool((diagonals > 0.0).all()), "the whitening has no inverse")


def _check_imputer(built: Any) -> None:
    _check_table(built)
    _require(built.context_encoder_ is None, "an imputer has no context")
    columns = built.encoder_.schema_.columns
    _require(all(column.missing for column in columns), "a column must not be missing")
    entries = Entries.of(built.encoder_)
    n_coordinates = entries.layout.n_values + sum(table.shape[1] for table in entries.coordinates())
    rows, context = completion_layouts(entries.layout.n_values, entries.cardinalities, n_coordinates)
    density, covariance = built.density_, built._covariance
    _require(
        density.layout == rows and density.context_embedding.layout == context,
        "a density and the encoder of its columns have different columns",
    )
    _require(
        built._mean.shape == (n_coordinates,) and covariance.shape == (n_coordinates, n_coordinates),
        "the normal distribution has other columns than the schema",
    )
    _require(
        n_coordinates == 0
        or (np.array_equal(covariance, covariance.T) and bool(np.linalg.eigvalsh(covariance)[0] > 0.0)),
        "the covariance is none",
    )
    _require(
        len(built._limits.low) == len(built._limits.high) == len(columns),
        "the limits are not those of the columns",
    )


def _codes_fit(matrix: np.ndarray, encoder: TableEncoder) -> None:
    codes = matrix[:, encoder.layout_.n_values :]
    limits = np.array(encoder.layout_.cardinalities, dtype=np.float64)
    whole = (codes == np.rint(codes)) & (codes >= 0) & (codes < limits)
    _require(bool(whole.all()), "a row to draw from holds a code that its column has not")


def _check_series(built: Any) -> None:
    _require(built.windows_ == built._model.windows, "the windows are not those of the model")
    _require(
        built.window_density_ is built._model.window_density
        and built.row_density_ is built._model.row_density,
        "the densities are not those of the model",
    )


def _check_series_model(built: Any) -> None:
    n_measures = 3 * len(built.windows) + 2
    _require(
        len(built.windows) in (1, 2) and min(built.windows) >= 1 and len(built.views) == len(built.windows),
        "windows and views differ",
    )
    _require(tuple(view.window for view in built.views) == built.windows, "windows and views differ")
    _require(len(built._centre) == len(built._spread) == n_measures, "the scales have another number")
    _require(bool((built._spread > 0.0).all()), "a scale is not positive")


def _check_views(built: Any) -> None:
    edges, blocks = built._edges, built._blocks
    _require(
        len(edges) >= 2 and edges[0] == 0 and edges[-1] == built.window and bool((np.diff(edges) > 0).all()),
        "the segments do not divide the window",
    )
    _require(
        len(blocks) >= 1
        and blocks[0] == 0
        and bool((np.diff(blocks) > 0).all())
        and blocks[-1] < len(built._references),
        "the blocks do not divide the references",
    )


def _check_map(built: Any) -> None:
    _require(len(built.mean) == len(built.directions), "the directions have another length than the mean")


def _check_channels(built: Any) -> None:
    n_columns, n_coordinates = built.encoder.n_features_in_, len(built.encoder.coordinate_columns_)
    inside = [
        *(0 <= place < n_columns for place in [*built._numbers, *built.columns.tolist()]),
        *(0 <= place < n_coordinates for place in built._labels.tolist()),
    ]
    _require(all(inside), "a channel is of no column")


def _check_variational(built: Any) -> None:
    width = built.density_.layout.n_values
    _require(
        built.density_.layout.n_codes == 0 and built.density_.context_embedding.n_columns == 0,
        "a variational flow is of numbers alone",
    )
    _require(
        built.location_.shape == (width,) and built.scale_.shape == (width, width),
        "location and scale have another width than the flow",
    )
    _require(
        bool((np.diag(built.scale_) > 0.0).all()) and not np.triu(built.scale_, 1).any(),
        "the scale is not triangular and positive",
    )
    _require(
        built.draws_.shape == (len(built.log_weights_), width) and len(built.draws_) >= 1,
        "there is not one weight for each draw",
    )
    _require(bool(np.isfinite(built.log_weights_.max())), "no draw has a weight")


def _sorted(values: np.ndarray) -> bool:
    return bool((np.diff(values) >= 0.0).all())


_CHECKS: dict[str, Callable[[Any], None]] = {
    "FlowDensity": _check_density,
    "FlowGaussianizer": _check_density,
    "FlowOutlierDetector": _check_detector,
    "FlowAugmenter": _check_augmenter,
    "FlowPosterior": _check_posterior,
    "ParameterMap": _check_parameter_map,
    "LinearTrend": _check_trend,
    "FlowClassifier": _check_classifier,
    "FlowMixture": _check_mixture,
    "FlowImputer": _check_imputer,
    "Member": _check_member,
    "NoiseModel": _check_noise,
    "Neighbours": _check_neighbours,
    "SeriesOutlierDetector": _check_series,
    "SeriesModel": _check_series_model,
    "WindowViews": _check_views,
    "LinearMap": _check_map,
    "Channels": _check_channels,
    "VariationalFlow": _check_variational,
}
