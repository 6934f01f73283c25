"""An objective that hides entries of the rows and asks for them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from flowdetect.exceptions import ConfigurationError
from flowdetect.training._data import Batch

__all__ = ["HiddenEntries"]


@dataclass(frozen=True)
class HiddenEntries:
    """Negative log-likelihood of entries hidden at random, given those left, in nats.

    The context of a batch says which entries are observed, (n, n_units). Of these some are hidden, anew each
    time: in a third of the rows a share between 0 and 1, in a third one entry, and in a third those that are
    missing in another row of the batch. The module is asked for the hidden ones; entries that are not
    observed are neither given nor asked for.

    Raises
    ------
    ConfigurationError
        If a batch has no context.

    Examples
    --------
    >>> HiddenEntries().stochastic
    True
    """

    stochastic = True

    def __call__(self, module: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return ``-log p(hidden entries | the others)``, shape (n,)."""
        if batch.context is None:
            raise ConfigurationError(
                "context must say which entries of the rows are observed; got a batch without context."
            )
        observed = batch.context > 0.5
        hidden = self.hide(observed, generator)
        # 0 neither known nor asked for, 1 known, 2 asked for.
        roles = observed.long() + (observed & hidden).long()
        log_prob = cast(Callable[[Tensor, Tensor], Tensor], module.log_prob)
        return -log_prob(batch.inputs, roles)

    def hide(self, observed: Tensor, generator: torch.Generator) -> Tensor:
        """Return which of the observed entries are hidden, at least one in each row that has some."""
        n_rows, device = len(observed), observed.device

        def uniform(n_columns: int) -> Tensor:
            return torch.rand(n_rows, n_columns, generator=generator, device=device)

        at_random = uniform(observed.shape[1])
        by_share = at_random < uniform(1)
        first = torch.where(observed, uniform(observed.shape[1]), -1.0)
        one = first == first.amax(dim=1, keepdim=True)
        other = observed[torch.randperm(n_rows, generator=generator, device=device)]
        kind = uniform(1)
        hidden = torch.where(kind < 1 / 3, by_share, torch.where(kind < 2 / 3, ~other, one)) & observed
        return torch.where(hidden.any(dim=1, keepdim=True), hidden, one & observed)
