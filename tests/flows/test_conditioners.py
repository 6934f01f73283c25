from collections.abc import Callable

import pytest
import torch
from nflows.nn.nets import MLP, ResidualNet
from nflows.transforms.made import MADE

from flowdetect.exceptions import ConfigurationError
from flowdetect.flows import LearntParameters, MaskedNetwork, PlainNetwork, ResidualNetwork

ACTIVATIONS = {"silu": torch.nn.functional.silu, "relu": torch.nn.functional.relu}


@pytest.mark.parametrize("n_context", [None, 2])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_residual_network_agrees_with_nflows(n_context: int | None, activation: str, shake: Callable) -> None:
    theirs = shake(ResidualNet(3, 7, 16, n_context, num_blocks=3, activation=ACTIVATIONS[activation]))
    ours = ResidualNetwork(
        3, 7, n_context=n_context or 0, hidden_features=16, n_blocks=3, activation=activation
    )
    ours.double().load_state_dict(theirs.state_dict())
    inputs = torch.randn(20, 3, dtype=torch.float64)
    context = None if n_context is None else torch.randn(20, n_context, dtype=torch.float64)
    torch.testing.assert_close(ours(inputs, context), theirs(inputs, context), atol=1e-10, rtol=1e-10)


def test_plain_network_agrees_with_nflows(shake: Callable) -> None:
    theirs = shake(MLP((5,), (7,), [16, 16, 16], activation=ACTIVATIONS["silu"]))
    ours = PlainNetwork(3, 7, n_context=2, hidden_features=16, n_blocks=3).double()
    ours.load_state_dict(theirs.state_dict())
    inputs, context = torch.randn(20, 3).double(), torch.randn(20, 2).double()
    joined = torch.cat((inputs, context), dim=1)
    torch.testing.assert_close(ours(inputs, context), theirs(joined), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("n_context", [None, 2])
@pytest.mark.parametrize("residual", [True, False])
def test_masked_network_agrees_with_nflows(
    n_context: int | None, residual: bool, shake: Callable, sort_units: Callable
) -> None:
    theirs = MADE(
        4, 16, n_context, output_multiplier=3, use_residual_blocks=residual, activation=ACTIVATIONS["silu"]
    )
    shake(theirs)
    degrees = torch.arange(1, 5)
    ours = MaskedNetwork(
        degrees,
        degrees.repeat_interleave(3),
        n_context=n_context or 0,
        hidden_features=16,
        residual=residual,
    ).double()
    ours.load_state_dict(sort_units(theirs.state_dict()), strict=False)
    inputs = torch.randn(20, 4, dtype=torch.float64)
    context = None if n_context is None else torch.randn(20, n_context, dtype=torch.float64)
    torch.testing.assert_close(ours(inputs, context), theirs(inputs, context), atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("network", [ResidualNetwork, PlainNetwork])
def test_dropout_acts_in_training_only(network: type) -> None:
    module = network(3, 4, hidden_features=32, dropout=0.5)
    inputs = torch.randn(5, 3)
    assert not torch.equal(module.train()(inputs), module(inputs))
    assert torch.equal(module.eval()(inputs), module(inputs))


def test_learnt_parameters_are_the_same_for_every_row() -> None:
    module = LearntParameters(3)
    module.values.data.copy_(torch.tensor([1.0, 2.0, 3.0]))
    assert torch.equal(module(torch.zeros(2, 0)), torch.tensor([[1.0, 2.0, 3.0]] * 2))


@pytest.mark.parametrize("network", [ResidualNetwork, PlainNetwork])
def test_refuses_an_unknown_activation(network: type) -> None:
    with pytest.raises(ConfigurationError, match=r"activation must be one of \['relu', 'silu'\]; got 'gelu'"):
        network(1, 1, activation="gelu")
