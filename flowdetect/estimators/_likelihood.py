"""What the estimators have in common whose density learns by plain maximum likelihood."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowdetect.estimators._base import FlowEstimator

if TYPE_CHECKING:
    from flowdetect.flows import FlowSettings
    from flowdetect.training import Objective

__all__ = ["LikelihoodEstimator"]


class LikelihoodEstimator(FlowEstimator):
    """Base of an estimator with one density, fitted by maximum likelihood."""

    n_layers: int | str

    def _flow_settings(self) -> FlowSettings:
        from flowdetect.flows import FlowSettings

        # A learnt linear map mixes all columns, which it must not do where some are absent from a row.
        mixing = "permutation" if self.encoder_.layout_.gated else "lu"
        settings = self._parameters("kind", "n_layers", "hidden_features", "n_bins", "dropout")
        if isinstance(self.n_layers, str) and self.n_layers == "auto":
            settings["n_layers"] = 2 if self.encoder_.layout_.n_values == 1 else 5
        return FlowSettings(**settings, mixing=mixing)

    def _weight_decay(self, n_rows: int) -> float:
        # The fewer the rows, the more there is to be gained from small weights.
        return min(0.5, 500.0 / n_rows)

    def _objective(self) -> Objective:
        from flowdetect.training import MaximumLikelihood

        return MaximumLikelihood()
