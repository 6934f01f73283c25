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


@pytest.fixture
def sort_units() -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Put the hidden units of nflows' masked networks into the order they have here: by degree."""

    def sort(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        name = next(name for name in state if name.endswith("initial_layer.degrees"))
        order = torch.argsort(state[name], stable=True)
        found = {}
        for name, values in state.items():
            if name.endswith((".mask", ".degrees")):
                continue
            of_hidden = "final_layer" not in name
            reads_hidden = name.endswith("weight") and ("final_layer" in name or ".linear" in name)
            values = values[order] if of_hidden else values
            found[name] = values[:, order] if reads_hidden else values
        return found

    return sort
