"""`HiddenEntries`: what is hidden, and what a module is asked for."""

import pytest
import torch
from torch import Tensor, nn

from flowdetect.exceptions import ConfigurationError
from flowdetect.training import Batch, HiddenEntries


class Recorder(nn.Module):
    """Remembers the roles it was called with."""

    def log_prob(self, inputs: Tensor, roles: Tensor) -> Tensor:
        self.roles = roles
        return inputs.sum(dim=1)


def draw(observed: Tensor) -> Tensor:
    module = Recorder()
    inputs = torch.ones(len(observed), 2)
    loss = HiddenEntries()(module, Batch(inputs, observed.float()), torch.Generator().manual_seed(0))
    assert torch.equal(loss, torch.full((len(observed),), -2.0))
    return module.roles


def test_only_observed_entries_are_given_or_asked_for() -> None:
    observed = torch.rand(500, 6, generator=torch.Generator().manual_seed(1)) < 0.5
    roles = draw(observed)
    assert torch.equal(roles == 0, ~observed)
    assert set(roles.unique().tolist()) == {0, 1, 2}


def test_every_row_with_observed_entries_is_asked_for_some() -> None:
    observed = torch.rand(500, 6, generator=torch.Generator().manual_seed(1)) < 0.3
    asked = (draw(observed) == 2).any(dim=1)
    assert torch.equal(asked, observed.any(dim=1))


def test_complete_rows_have_every_number_of_entries_hidden() -> None:
    counts = (draw(torch.ones(3000, 4, dtype=torch.bool)) == 2).sum(dim=1)
    shares = torch.bincount(counts, minlength=5) / 3000
    assert shares[0] == 0.0
    assert bool((shares[1:] > 0.04).all())
    assert shares[1] > 0.5


def test_needs_to_know_what_is_observed() -> None:
    with pytest.raises(ConfigurationError, match="context must say which entries"):
        HiddenEntries()(Recorder(), Batch(torch.ones(2, 2)), torch.Generator())
