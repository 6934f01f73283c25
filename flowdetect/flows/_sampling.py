"""Rows drawn from a flow, alone or with their density."""

import torch
from nflows.flows import Flow
from torch import Tensor

__all__ = ["sample_flow", "sample_flow_and_log_prob"]


def sample_flow(
    flow: Flow, n_rows: int, *, context: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Draw rows from a flow: one for each row of the context, if there is one.

    Parameters
    ----------
    flow : Flow
        Made by :func:`~flowdetect.flows.build_flow`.
    n_rows : int
    context : Tensor of shape (n_rows, context_width), optional
    generator : torch.Generator, optional
        On the flow's device; torch's global stream if None.

    Returns
    -------
    Tensor of shape (n_rows, n_features)
    """
    return flow._transform.inverse(_draw_noise(flow, n_rows, context, generator), context)[0]


def sample_flow_and_log_prob(
    flow: Flow, n_rows: int, *, context: Tensor | None = None, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Draw rows as :func:`sample_flow` does, with their log-density, which costs nothing more.

    Both are differentiable in the flow's parameters. It takes one pass for coupling flows and
    ``kind="iaf"``, n_features passes for ``kind="autoregressive"``.

    Parameters
    ----------
    flow : Flow
    n_rows : int
    context : Tensor of shape (n_rows, context_width), optional
    generator : torch.Generator, optional
        On the flow's device; torch's global stream if None.

    Returns
    -------
    rows : Tensor of shape (n_rows, n_features)
    log_prob : Tensor of shape (n_rows,)
        ``flow.log_prob(rows, context)`` in nats: ``log p(z) - log|det dx/dz|`` on the way from the noise z.

    Examples
    --------
    >>> from flowdetect.flows import FlowConfig, build_flow
    >>> flow = build_flow(FlowConfig(2, kind="iaf", n_layers=2), seed=0)
    >>> rows, log_prob = sample_flow_and_log_prob(flow, 3, generator=torch.Generator().manual_seed(0))
    >>> torch.allclose(log_prob, flow.log_prob(rows), atol=1e-4)
    True
    """
    noise = _draw_noise(flow, n_rows, context, generator)
    rows, log_det = flow._transform.inverse(noise, context)
    return rows, flow._distribution.log_prob(noise, context) - log_det


def _draw_noise(flow: Flow, n_rows: int, context: Tensor | None, generator: torch.Generator | None) -> Tensor:
    noise: Tensor = flow._distribution.draw(
        n_rows, context, generator=generator, like=next(flow.parameters())
    )
    return noise
