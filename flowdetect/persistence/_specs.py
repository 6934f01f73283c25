"""How a value of a fitted estimator is written: kinds of values, and what they must be like when read again.

A kind is written as a short text:

========================= ======================================================================
``int float bool str``    themselves; a float may be infinite or not a number
``label``                 a name or a category: text, number, date, ...
``labels``                a one-dimensional array of labels
``param``                 a parameter: None, numbers, texts, and lists, tuples and dicts of them
``f2 F2 i1 b1``           an array of float64 (``F``: NaN and infinity allowed), int64 or bool, of
                          so many dimensions
``reason``                why training stopped
``index``                 time stamps or positions of rows
``span``                  a Timedelta
``encoder density``       a TableEncoder, by its schema; a TableDensity, by its architecture
``Name``                  an object of the class of this name in the table of classes
``?x [x] (x) {x:y}``      x or None; a list, a tuple, a dict of x
========================= ======================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["CLASSES", "ESTIMATORS", "Layout"]


@dataclass(frozen=True)
class Layout:
    """Where a class lives, and the kinds of its attributes.

    Attributes
    ----------
    module : str
    attributes : dict of str to str
    optional : dict of str to str
        Attributes that need not be there.
    is_estimator : bool
        Whether constructor parameters are written as well.
    emptied : tuple of str
        Attributes that are None after reading: what can be made again.
    later : tuple of str
        Constructor parameters that files need not have, as they are younger than the format: these are then
        at their defaults.
    """

    module: str
    attributes: dict[str, str]
    optional: dict[str, str] = field(default_factory=dict)
    is_estimator: bool = False
    emptied: tuple[str, ...] = ()
    later: tuple[str, ...] = ()


def _attributes(text: str) -> dict[str, str]:
    pairs = (entry.split("=") for entry in text.split())
    return {name: kind for name, kind in pairs}


def _estimator(
    module: str,
    text: str,
    optional: str = "",
    emptied: tuple[str, ...] = (),
    later: tuple[str, ...] = (),
) -> Layout:
    return Layout(module, _attributes(text), _attributes(optional), True, emptied, later)


def _plain(module: str, text: str, optional: str = "", emptied: tuple[str, ...] = ()) -> Layout:
    return Layout(module, _attributes(text), _attributes(optional), False, emptied)


_TABLE = "encoder_=encoder n_features_in_=int context_encoder_=?encoder"
_NAMES = "feature_names_in_=labels"
_SERIES = "flowdetect.timeseries."

ESTIMATORS = {
    "FlowDensity": _estimator(
        "flowdetect.estimators._density",
        f"{_TABLE} training_result_=TrainingResult density_=density",
        f"{_NAMES} noise_=NoiseModel",
        later=("noise_scales", "noise_unit"),
    ),
    "FlowGaussianizer": _estimator(
        "flowdetect.estimators._gaussianizer",
        f"{_TABLE} training_result_=TrainingResult density_=density",
        _NAMES,
    ),
    "FlowOutlierDetector": _estimator(
        "flowdetect.estimators._outlier",
        f"{_TABLE} _members=[Member] densities_=[density] training_results_=[TrainingResult] "
        f"scales_=(float) training_scores_=F1 "
        "_calibration_scores=?f1 typical_score_=float _candidates=[f2] _finer_candidates=[f2] _usual_row=f1 "
        "offset_=float",
        _NAMES,
    ),
    "FlowAugmenter": _estimator(
        "flowdetect.estimators._augmenter",
        f"classes_=?labels {_TABLE} _sources=Sources _class_sizes=i1 _value_bounds=ValueBounds "
        "_grids={int:Grid} training_result_=TrainingResult density_=density",
        _NAMES,
    ),
    "FlowClassifier": _estimator(
        "flowdetect.estimators._classifier",
        f"classes_=labels class_prior_=f1 _class_shares=f1 reject_label_=?label {_TABLE} "
        "training_results_=[TrainingResult] densities_=[density] _whitenings=[?Whitening] "
        "temperature_=float rejection_levels_=?f1",
        _NAMES,
    ),
    "FlowMixture": _estimator(
        "flowdetect.inference._mixture",
        f"{_TABLE} density_=density _whitening=?Whitening weights_=f1 lower_bound_=float "
        "lower_bounds_=f1 n_iter_=int converged_=bool init_=str labels_=i1",
        _NAMES,
    ),
    "FlowImputer": _estimator(
        "flowdetect.estimators._imputer",
        f"{_TABLE} training_result_=TrainingResult density_=density _mean=f1 _covariance=f2 "
        "_limits=ColumnLimits",
        _NAMES,
    ),
    "SeriesOutlierDetector": _estimator(
        f"{_SERIES}_detector",
        "_preparer=Preparer windows_=(int) _model=SeriesModel window_density_=FlowDensity "
        "row_density_=FlowDensity "
        "training_scores_=f1 offset_=float",
        "_under_way=bool",
        emptied=("_stream",),
    ),
    "SeriesAugmenter": _estimator(
        f"{_SERIES}_augmenter",
        "_model=NextValue density_=FlowDensity season_=?int window_=int n_features_in_=int "
        "_collection=?Collection classes_=?labels",
        "_paths=SeriesPaths",
    ),
    "SlidingWindow": _estimator(f"{_SERIES}_windows", "n_features_in_=int", _NAMES),
    "FlowPosterior": _estimator(
        "flowdetect.inference._posterior",
        "_map=ParameterMap _trend=LinearTrend _outcomes=Outcomes n_features_in_=int densities_=[FlowDensity]",
        _NAMES,
    ),
    "VariationalFlow": _estimator(
        "flowdetect.inference._variational",
        "location_=f1 scale_=f2 temperature_=float density_=density training_result_=TrainingResult "
        "elbo_history_=F1 draws_=f2 "
        "log_weights_=F1 elbo_=float log_evidence_=float log_evidence_error_=float "
        "effective_sample_size_=float pareto_k_=float",
    ),
}

CLASSES = ESTIMATORS | {
    "ParameterMap": _plain(
        "flowdetect.inference._parameters", "names=[label] low=F1 high=F1 mapped=b1 centre=f1"
    ),
    "Outcomes": _plain("flowdetect.inference._outcomes", "encoder=encoder may_miss=b1 low=F1 high=F1"),
    "LinearTrend": _plain(
        "flowdetect.inference._trend", "encoder=encoder columns=i1 weights=f2 intercepts=f1"
    ),
    "TrainingResult": _plain(
        "flowdetect.training._config",
        "history=[EvaluationRecord] best_step=int best_validation_loss=float stop_reason=reason n_steps=int "
        "seconds=float recoveries=int n_training=int n_validation=int",
    ),
    "EvaluationRecord": _plain(
        "flowdetect.training._config",
        "step=int epoch=int train_loss=float validation_loss=float learning_rate=float seconds=float",
    ),
    "Member": _plain(
        "flowdetect.estimators._members",
        "density=density neighbours=Neighbours anomalies=?Neighbours share=float _levels=f1 "
        "_mean_level=float",
    ),
    "NoiseModel": _plain(
        "flowdetect.estimators._noise",
        "scales=(float) units=f1 weights=f1 reference=float mean=f1 directions=f2 spreads=f1 "
        "shares=f1 trust=f1",
    ),
    "Neighbours": _plain(
        "flowdetect.estimators._neighbours", "points=f2 n_columns=int weights=?f1", emptied=("_packed",)
    ),
    "Whitening": _plain("flowdetect.estimators._whitening", "centres=f2 spreads=f3"),
    "Sources": _plain("flowdetect.estimators._sources", "matrix=f2 classes=i1"),
    "ColumnLimits": _plain("flowdetect.estimators._limits", "low=[?label] high=[?label]"),
    "ValueBounds": _plain("flowdetect.estimators._sources", "low=F1 high=F1"),
    "Grid": _plain("flowdetect.estimators._grids", "observed=f1 decimals=?int anchor=float step=float"),
    "Preparer": _plain(
        f"{_SERIES}_preparing",
        "reader=SeriesReader channels=Channels calendar=bool max_gap=int _context_names=?[label] _span=?span "
        "_step=?span",
    ),
    "SeriesReader": _plain(f"{_SERIES}_reading", "time=?label entity=?label clock=?Clock known=?[label]"),
    "Clock": _plain(f"{_SERIES}_time", "step=float months=bool dates=bool"),
    "Channels": _plain(
        f"{_SERIES}_channels",
        "encoder=encoder names=[label] _numbers=[int] _labels=i1 _origins=i1 _varies=b1 _mean=f1 _scale=f1 "
        "columns=i1 n_channels=int",
    ),
    "SeriesModel": _plain(
        f"{_SERIES}_model",
        "windows=(int) window_density=FlowDensity row_density=FlowDensity _surprise=RowSurprise "
        "views=[WindowViews] context_columns=[str] _centre=f1 _spread=f1",
    ),
    "RowSurprise": _plain(
        f"{_SERIES}_surprise",
        "_n_smoothed=int _most_past=int density=FlowDensity _mix=LinearMap _encoder=?encoder "
        "_next=?NextValue "
        "_typical=float _most=float",
    ),
    "LinearMap": _plain(f"{_SERIES}_views", "mean=f1 directions=f2"),
    "WindowViews": _plain(
        f"{_SERIES}_views",
        "window=int _edges=i1 _mix=LinearMap _level=LinearMap _shape=LinearMap _references=f2 _blocks=i1 "
        "_fine=LinearMap _floors=(float)",
    ),
    "NextValue": _plain(
        f"{_SERIES}_next_value",
        "plan=PastPlan cardinalities=i1 density=FlowDensity starts=bool n_told=?int numeric=b1 flagged=b1 "
        "first_row_=int _change_spreads=f2 _linear=LinearForecast _told=i1 _components=?LinearMap",
    ),
    "PastPlan": _plain(f"{_SERIES}_past", "lags=(int) blocks=(int) season=?int n_seasons=int"),
    "LinearForecast": _plain(
        f"{_SERIES}_linear",
        "levels=b1 n_features_=int _low=f1 _high=f1 _centre=f1 _spread=f1 _weights=f2 _intercepts=f1",
    ),
    "Collection": _plain(
        f"{_SERIES}_collection",
        "contents=Contents range=Range length=int classes=labels counts=i1 labelled=bool pieces=[Piece] "
        "n_told=int _bumps=f2",
    ),
    "Contents": _plain(
        f"{_SERIES}_contents",
        "is_array=bool array_dtype=?str names=[label] _storages=[Storage] _levels=[(label)] cardinalities=i1 "
        "low=F1 high=F1 decimals=F1",
    ),
    "Storage": _plain(
        "flowdetect.preprocessing._schema",
        "dtype=str family=str marker=?str nullable=bool integer=bool origin=int tick=int unit=float "
        "resolution=?str declared=?(label) declared_dtype=?str ordered=bool",
    ),
    "Range": _plain(f"{_SERIES}_pieces", "location=F1 scale=F1 low=F1 high=F1"),
    "Piece": _plain(f"{_SERIES}_next_value", "values=F2 known=f2"),
    "SeriesPaths": _plain(
        f"{_SERIES}_series_paths",
        "reader=PieceReader placed=[PlacedPiece] model=NextValue longest=PlacedPiece",
    ),
    "PieceReader": _plain(
        f"{_SERIES}_pieces",
        "reader=SeriesReader context=?Contents contents=Contents ranges={?label:Range} "
        "_told_entities=[label] "
        "_step=?span",
        "_span=span _context_range=Range",
    ),
    "PlacedPiece": _plain(f"{_SERIES}_pieces", "piece=Piece stretch=Stretch stamps=?index range=Range"),
    "Stretch": _plain(f"{_SERIES}_reading", "entity=?label rows=i1"),
}
