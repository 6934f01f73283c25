from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

Shake = Callable[..., nn.Module]


@pytest.fixture(autouse=True)
def local_stream() -> Iterator[None]:
    """Give every test the same torch stream, and put the global one back behind it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(20)
        yield


@pytest.fixture
def shake() -> Shake:
    """Move every parameter away from where it starts: near the identity many errors cannot be seen."""

    def move(module: nn.Module, size: float = 0.15, dtype: torch.dtype = torch.float64) -> nn.Module:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(size * torch.randn_like(parameter))
        return module.to(dtype)

    return move
