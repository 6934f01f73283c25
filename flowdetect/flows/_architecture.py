"""What a `TableDensity` is built from, so that it can be built again without its training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from flowdetect._utils.layout import MatrixLayout
from flowdetect.exceptions import ConfigurationError
from flowdetect.flows._build import FlowSettings, splits_of
from flowdetect.flows._table import TableDensity

__all__ = ["DensityArchitecture"]

# Weights that may be built for each one that is there: what is built before shapes are compared stays small.
_SLACK, _ALWAYS = 8, 20_000


@dataclass(frozen=True)
class DensityArchitecture:
    """Everything that decides a `TableDensity`, but its weights.

    Parameters
    ----------
    layout : MatrixLayout
    context_layout : MatrixLayout
        Without columns where there is no context.
    n_extra_context : int
    settings : FlowSettings
    smoothing : float
    splits : tuple of tuple of int
        Of the flow's layers; empty without a flow.

    Examples
    --------
    >>> from flowdetect.flows import TableDensity
    >>> density = TableDensity(MatrixLayout(2), settings=FlowSettings(n_layers=2), seed=0).double()
    >>> built = DensityArchitecture.of(density)
    >>> again = DensityArchitecture.from_dict(built.to_dict()).build(density.state_dict())
    >>> DensityArchitecture.of(again) == built
    True
    """

    layout: MatrixLayout
    context_layout: MatrixLayout
    n_extra_context: int
    settings: FlowSettings
    smoothing: float
    splits: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, density: TableDensity) -> DensityArchitecture:
        """Return the architecture of a density."""
        context = density.context_embedding
        return cls(
            layout=density.layout,
            context_layout=context.layout,
            n_extra_context=context.n_columns - context.layout.n_columns,
            settings=density.settings,
            smoothing=1.0 if density.codes is None else float(density.codes.smoothing),
            splits=() if density.flow is None else tuple(map(tuple, splits_of(density.flow))),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able dicts and lists."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DensityArchitecture:
        """Build the architecture that `to_dict` described.

        Raises
        ------
        ConfigurationError
            If it is not such a dict.
        """
        _check_keys(data, {field.name for field in fields(cls)})
        splits = data["splits"]
        if not all(isinstance(split, list | tuple) and _whole(*split) for split in splits):
            raise ConfigurationError(f"splits must be lists of whole numbers; got {str(splits)[:80]}.")
        if not _whole(data["n_extra_context"]) or not 0 <= data["n_extra_context"] <= 1:
            raise ConfigurationError(f"n_extra_context must be 0 or 1; got {data['n_extra_context']!r}.")
        if not isinstance(data["smoothing"], float) or not 0.0 < data["smoothing"] <= 1.0:
            raise ConfigurationError(f"smoothing must lie in (0, 1]; got {data['smoothing']!r}.")
        return cls(
            layout=_layout(data["layout"]),
            context_layout=_layout(data["context_layout"]),
            n_extra_context=data["n_extra_context"],
            settings=_settings(data["settings"]),
            smoothing=data["smoothing"],
            splits=tuple(map(tuple, splits)),
        )

    def build(self, state: Mapping[str, Tensor]) -> TableDensity:
        """Build the density with the weights of a state dict.

        Raises
        ------
        ConfigurationError
            If the names, shapes or types of the weights are not those of this architecture.
        """
        held = sum(weight.numel() for weight in state.values())
        if self._most_weights() > _SLACK * held + _ALWAYS:
            raise ConfigurationError(
                f"the architecture asks for about {self._most_weights()} weights; there are {held}."
            )
        if bool(self.layout.n_values) != bool(self.splits):
            raise ConfigurationError("there must be splits just if there are values.")
        density = TableDensity(
            self.layout,
            context_layout=self.context_layout,
            n_extra_context=self.n_extra_context,
            settings=self.settings,
            seed=0,
            smoothing=self.smoothing,
            splits=self.splits or None,
        ).double()
        _compare(density.state_dict(), state)
        density.load_state_dict(dict(state))
        return density.eval()

    def _most_weights(self) -> int:
        """Return roughly how many numbers building it needs."""
        s, width = self.settings, self.layout.n_columns + self.context_layout.n_columns + self.n_extra_context
        codes = sum(self.layout.cardinalities) + sum(self.context_layout.cardinalities)
        inside = (2 * s.n_blocks + 1) * s.hidden_features**2
        around = s.hidden_features * (2 * width + 64)
        out = s.hidden_features * 3 * s.n_bins * self.layout.n_values
        return s.n_layers * (inside + around + out) + (s.hidden_features + 64) * (2 * codes + 1) + width**2


def _layout(data: Any) -> MatrixLayout:
    _check_keys(data, {"n_values", "cardinalities", "gates"})
    numbers = [data["n_values"], *data["cardinalities"], *data["gates"]]
    if not _whole(*numbers) or data["n_values"] < 0:
        raise ConfigurationError(f"a layout must consist of whole numbers; got {str(data)[:80]}.")
    return MatrixLayout(data["n_values"], tuple(data["cardinalities"]), tuple(data["gates"]))


def _settings(data: Any) -> FlowSettings:
    names = {field.name: field.type for field in fields(FlowSettings)}
    _check_keys(data, set(names))
    for name, kind in names.items():
        if type(data[name]).__name__ != str(getattr(kind, "__name__", kind)):
            raise ConfigurationError(f"{name} must be of type {kind}; got {data[name]!r}.")
    return FlowSettings(**data)


def _check_keys(data: Any, names: set[str]) -> None:
    if not isinstance(data, Mapping) or data.keys() != names:
        raise ConfigurationError(f"expected exactly {sorted(names)}; got {str(data)[:80]}.")


def _whole(*numbers: Any) -> bool:
    return all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)


def _compare(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    odd = sorted(expected.keys() ^ state.keys())
    if odd:
        raise ConfigurationError(f"weights are absent, or too many: {', '.join(odd[:3])}.")
    for name, weight in expected.items():
        given = state[name]
        if not weight.dtype.is_floating_point and not torch.equal(weight, given):
            raise ConfigurationError(f"{name} does not follow from the splits.")
        if weight.shape != given.shape or weight.dtype != given.dtype:
            raise ConfigurationError(
                f"{name} must be {tuple(weight.shape)} of {weight.dtype}; got {tuple(given.shape)} of "
                f"{given.dtype}."
            )
