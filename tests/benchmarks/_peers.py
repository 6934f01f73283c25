"""The same spline flow in several libraries: five rational-quadratic layers with conditioners of one size.

Every flow has 5 layers, 8 bins within [-5, 5], linear tails, ReLU, and conditioners that read the other half
of the features (coupling) or those before (autoregressive) through a layer of ``hidden`` units, two residual
blocks of two layers, and a last layer. Where libraries differ:

- nflows and normflows permute the features before each layer; zuko and flowdetect draw new splits or orders.
- normflows' coupling layer also gives the features it keeps a spline of their own; that is switched off.
- zuko's coupling conditioner is a plain network: with five hidden layers it has the matrix products of the
  others' two residual blocks. ``zuko-nsf`` is zuko's other coupling flow, ``NSF(passes=2)``: a masked network
  over all features with splines for all of them, about twice the work in the last layer.
- The context enters zuko's networks once, those of the others in every block as well.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from flowdetect.flows import FlowConfig, build_flow, sample_flow

__all__ = ["LIBRARIES", "Case", "Library", "Product", "find_libraries", "products"]

N_LAYERS, N_BLOCKS, N_BINS, TAIL_BOUND = 5, 2, 8, 5.0


@dataclass(frozen=True)
class Case:
    """What the flows are for: the widths of rows and context, and the kind of layer."""

    n_features: int
    n_context: int = 0
    kind: str = "coupling"

    @property
    def hidden(self) -> int:
        """Hidden units of a conditioner."""
        return 64

    def rows(self, n_rows: int) -> tuple[Tensor, Tensor | None]:
        """Return standard normal rows, and as many of context."""
        generator = torch.Generator().manual_seed(0)
        rows = torch.randn(n_rows, self.n_features, generator=generator)
        context = torch.randn(n_rows, self.n_context, generator=generator) if self.n_context else None
        return rows, context


@dataclass(frozen=True)
class Library:
    """How a library builds a flow, evaluates its density and draws from it."""

    name: str
    build: Callable[[Case], nn.Module]
    log_prob: Callable[[nn.Module, Tensor, Tensor | None], Tensor]
    sample: Callable[[nn.Module, int, Tensor | None], Tensor]

    def checked(self, case: Case) -> nn.Module:
        """Build the flow with the seed 0.

        Raises
        ------
        RuntimeError
            If a log-density or a drawn row is not finite.
        """
        torch.manual_seed(0)
        flow = self.build(case)
        rows, context = case.rows(32)
        with torch.no_grad():
            values, draws = self.log_prob(flow, rows, context), self.sample(flow, 32, context)
        if values.shape != (32,) or draws.shape != rows.shape:
            raise RuntimeError(f"shapes must be {(32,)} and {rows.shape}; got {values.shape}, {draws.shape}.")
        if not (values.isfinite().all() and draws.isfinite().all()):
            raise RuntimeError(f"{self.name} must give finite values; got others in {case}.")
        return flow


@dataclass(frozen=True)
class Product:
    """One linear layer; ``data_first`` says that what it reads needs no gradient."""

    n_outputs: int
    n_inputs: int
    data_first: bool


def products(flow: nn.Module, case: Case) -> list[Product]:
    """Return the linear layers of a flow, each of which is evaluated once per log-density."""
    weights = (getattr(module, "weight", None) for module in flow.modules())
    shapes = [weight.shape for weight in weights if isinstance(weight, nn.Parameter) and weight.ndim == 2]
    # The first layer of the first network reads data, a layer as wide as the context reads context.
    return [
        Product(n_outputs, n_inputs, index == 0 or n_inputs == case.n_context)
        for index, (n_outputs, n_inputs) in enumerate(shapes)
    ]


def find_libraries(names: list[str]) -> tuple[list[Library], dict[str, str]]:
    """Return those of the libraries that are installed, and why the others are left out."""
    found, missing = [], {}
    for name in names:
        try:
            import_module(name.partition("-")[0])
        except ImportError as error:
            missing[name] = f"cannot be imported: {error}"
        else:
            found.append(LIBRARIES[name])
    return found, missing


# --- flowdetect --------------------------------------------------------------------------------------------


def _build_flowdetect(case: Case) -> nn.Module:
    config = FlowConfig(case.n_features, n_context=case.n_context, kind=case.kind, activation="relu")
    return build_flow(config, seed=0)


def _sample_flowdetect(flow: Any, n_rows: int, context: Tensor | None) -> Tensor:
    return sample_flow(flow, n_rows, context=context)


# --- nflows ------------------------------------------------------------------------------------------------


def _build_nflows(case: Case) -> nn.Module:
    from nflows.distributions import StandardNormal
    from nflows.flows import Flow
    from nflows.transforms import CompositeTransform, RandomPermutation

    make = _nflows_coupling if case.kind == "coupling" else _nflows_autoregressive
    layers: list[nn.Module] = []
    for index in range(N_LAYERS):
        layers += [RandomPermutation(case.n_features), make(case, index)]
    return Flow(CompositeTransform(layers), StandardNormal([case.n_features]))


def _nflows_coupling(case: Case, index: int) -> nn.Module:
    from nflows.nn.nets import ResidualNet
    from nflows.transforms.coupling import PiecewiseRationalQuadraticCouplingTransform
    from nflows.utils import create_alternating_binary_mask

    return PiecewiseRationalQuadraticCouplingTransform(
        create_alternating_binary_mask(case.n_features, even=index % 2 == 1),
        partial(
            ResidualNet,
            hidden_features=case.hidden,
            context_features=case.n_context or None,
            num_blocks=N_BLOCKS,
        ),
        num_bins=N_BINS,
        tails="linear",
        tail_bound=TAIL_BOUND,
    )


def _nflows_autoregressive(case: Case, index: int) -> nn.Module:
    from nflows.transforms import MaskedPiecewiseRationalQuadraticAutoregressiveTransform

    return MaskedPiecewiseRationalQuadraticAutoregressiveTransform(
        case.n_features,
        case.hidden,
        context_features=case.n_context or None,
        num_bins=N_BINS,
        tails="linear",
        tail_bound=TAIL_BOUND,
        num_blocks=N_BLOCKS,
    )


def _sample_nflows(flow: Any, n_rows: int, context: Tensor | None) -> Tensor:
    return flow.sample(n_rows) if context is None else flow.sample(1, context=context).squeeze(1)


# --- zuko --------------------------------------------------------------------------------------------------


def _build_zuko(case: Case) -> nn.Module:
    from zuko.flows import NICE
    from zuko.transforms import MonotonicRQSTransform

    if case.kind == "autoregressive":
        return _build_zuko_nsf(case)
    return NICE(
        case.n_features,
        case.n_context,
        transforms=N_LAYERS,
        randmask=True,
        univariate=partial(MonotonicRQSTransform, bound=TAIL_BOUND),
        shapes=[(N_BINS,), (N_BINS,), (N_BINS - 1,)],
        hidden_features=(case.hidden,) * (2 * N_BLOCKS + 1),
    )


def _build_zuko_nsf(case: Case) -> nn.Module:
    from zuko.flows import NSF

    return NSF(
        case.n_features,
        case.n_context,
        bins=N_BINS,
        passes=2 if case.kind == "coupling" else None,
        transforms=N_LAYERS,
        randperm=True,
        residual=True,
        hidden_features=(case.hidden,) * N_BLOCKS,
    )


def _log_prob_zuko(flow: Any, rows: Tensor, context: Tensor | None) -> Tensor:
    return flow(context).log_prob(rows)


def _sample_zuko(flow: Any, n_rows: int, context: Tensor | None) -> Tensor:
    return flow().sample((n_rows,)) if context is None else flow(context).sample()


# --- normflows ---------------------------------------------------------------------------------------------


def _build_normflows(case: Case) -> nn.Module:
    from normflows import ConditionalNormalizingFlow, NormalizingFlow
    from normflows.distributions import DiagGaussian
    from normflows.flows import Permute

    layers: list[nn.Module] = []
    for index in range(N_LAYERS):
        layers += [_normflows_layer(case, index), Permute(case.n_features)]
    make = ConditionalNormalizingFlow if case.n_context else NormalizingFlow
    return make(DiagGaussian(case.n_features, trainable=False), layers)


def _normflows_layer(case: Case, index: int) -> nn.Module:
    from normflows.flows import AutoregressiveRationalQuadraticSpline, CoupledRationalQuadraticSpline

    shape = (case.n_features, N_BLOCKS, case.hidden, case.n_context or None)
    settings = {"num_bins": N_BINS, "tail_bound": TAIL_BOUND}
    if case.kind == "autoregressive":
        return AutoregressiveRationalQuadraticSpline(*shape, **settings)
    layer = CoupledRationalQuadraticSpline(*shape, **settings, reverse_mask=index % 2 == 1)
    layer.prqct.unconditional_transform = None
    return layer


def _log_prob_normflows(flow: Any, rows: Tensor, context: Tensor | None) -> Tensor:
    return flow.log_prob(rows) if context is None else flow.log_prob(rows, context)


def _sample_normflows(flow: Any, n_rows: int, context: Tensor | None) -> Tensor:
    return flow.sample(n_rows)[0] if context is None else flow.sample(n_rows, context=context)[0]


def _log_prob(flow: Any, rows: Tensor, context: Tensor | None) -> Tensor:
    return flow.log_prob(rows, context)


LIBRARIES = {
    library.name: library
    for library in (
        Library("flowdetect", _build_flowdetect, _log_prob, _sample_flowdetect),
        Library("nflows", _build_nflows, _log_prob, _sample_nflows),
        Library("zuko", _build_zuko, _log_prob_zuko, _sample_zuko),
        Library("zuko-nsf", _build_zuko_nsf, _log_prob_zuko, _sample_zuko),
        Library("normflows", _build_normflows, _log_prob_normflows, _sample_normflows),
    )
}
