import copy
import math

import pytest
import torch
from torch import nn

from flowdetect.training import _weights
from flowdetect.training._weights import AdamW, AveragedWeights, FlatWeights


@pytest.fixture
def module():
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
        module[2].bias.requires_grad_(False)
        module.register_buffer("count", torch.zeros((), dtype=torch.int64))
        return module


@pytest.fixture
def rows():
    return torch.randn(20, 3, generator=torch.Generator().manual_seed(1))


def test_flattening_changes_neither_values_nor_gradients(module, rows):
    twin = copy.deepcopy(module)
    weights = FlatWeights(module)
    module(rows).square().sum().backward()
    twin(rows).square().sum().backward()
    for ours, theirs in zip(module.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert (ours.grad is None) == (theirs.grad is None)
        assert ours.grad is None or torch.equal(ours.grad, theirs.grad)
    # 15 weights and 5 biases, then 5 weights: each starts at a multiple of 16.
    assert [flat.numel() for flat in weights.tensors] == [48]
    assert [int(decayed.sum()) for decayed in weights.decayed] == [20]
    assert not weights.compiled


def test_release_gives_every_parameter_its_own_memory(module):
    weights = FlatWeights(module)
    weights.release()
    sizes = {p.untyped_storage().nbytes() // p.element_size() - p.numel() for p in module.parameters()}
    assert sizes == {0}
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adamw_is_that_of_torch(module, rows, weight_decay):
    twin = copy.deepcopy(module)
    weights = FlatWeights(module)
    ours = AdamW(weights, weight_decay)
    matrices = [p for p in twin.parameters() if p.ndim > 1]
    vectors = [p for p in twin.parameters() if p.ndim == 1 and p.requires_grad]
    theirs = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=0.01,
    )
    for _ in range(20):
        weights.zero_grad()
        theirs.zero_grad()
        module(rows).square().mean().backward()
        twin(rows).square().mean().backward()
        ours.step(0.01)
        theirs.step()
    for mine, reference in zip(module.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-6)


def test_snapshot_and_restore_cover_weights_and_buffers(module, rows):
    weights = FlatWeights(module)
    before = copy.deepcopy(module.state_dict())
    snapshot = weights.snapshot()
    with torch.no_grad():
        for flat in weights.tensors:
            flat.add_(1.0)
    module.count += 3
    assert not torch.equal(module[0].weight, before["0.weight"])
    weights.restore(snapshot)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_gradient_is_clipped_to_a_norm(module, rows):
    weights = FlatWeights(module)
    loss = (100 * module(rows)).square().sum()
    loss.backward()
    assert weights.clip_gradient(loss.detach(), 0.5)
    norm = math.sqrt(sum(float(flat.grad.square().sum()) for flat in weights.tensors))
    assert norm == pytest.approx(0.5, rel=1e-4)


def test_small_gradient_is_left_alone(module, rows):
    weights = FlatWeights(module)
    module(rows).mean().backward()
    before = [flat.grad.clone() for flat in weights.tensors]
    weights.clip_gradient(torch.tensor(0.0), math.inf)
    assert all(torch.equal(a, flat.grad) for a, flat in zip(before, weights.tensors, strict=True))


@pytest.mark.parametrize("limit", [1.0, math.inf])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_bad_gradient_or_loss_becomes_no_gradient(module, bad, limit):
    weights = FlatWeights(module)
    module[0].weight.grad[1, 1] = bad
    module[0].bias.grad += 1.0
    assert not weights.clip_gradient(torch.tensor(0.0), limit)
    assert not any(flat.grad.any() for flat in weights.tensors)
    module[0].bias.grad += 1.0
    assert not weights.clip_gradient(torch.tensor(bad), limit)
    assert not any(flat.grad.any() for flat in weights.tensors)


def test_finite_notices_one_bad_weight(module):
    weights = FlatWeights(module)
    assert weights.finite()
    with torch.no_grad():
        module[2].weight[0, 3] = math.nan
    assert not weights.finite()


def test_average_follows_slowly_and_restarts():
    module = nn.Module()
    module.weight = nn.Parameter(torch.zeros(1, 1))
    weights = FlatWeights(module)
    average = AveragedWeights(weights, 0.9)
    with torch.no_grad():
        module.weight.fill_(1.0)
    average.update()
    assert average.snapshot()[0][0][0].item() == pytest.approx(1 - 2 / 11)
    for _ in range(200):
        average.update()
    assert average.snapshot()[0][0][0].item() == pytest.approx(1.0, abs=1e-4)
    with torch.no_grad():
        module.weight.fill_(5.0)
    average.restart()
    assert average.snapshot()[0][0][0].item() == 5.0


def test_dtypes_live_side_by_side():
    values = [
        torch.zeros(shape, dtype=dtype) for dtype in (torch.float32, torch.float64) for shape in (2, (2, 2))
    ]
    module = nn.ParameterList(values)
    weights = FlatWeights(module)
    assert {flat.dtype for flat in weights.tensors} == {torch.float32, torch.float64}
    assert len(weights.tensors) == 2
    loss = sum(parameter.sum() for parameter in module.parameters()).double()
    loss.backward()
    assert weights.clip_gradient(loss.detach(), 1.0)


class Together(nn.Module):
    """A part that wants its two parameters side by side."""

    def __init__(self, size: int = 3) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.ones(2, size)), nn.Parameter(2 * torch.ones(size))
        self.leaves: list[list[torch.Tensor]] | None = None

    def flat_parameters(self) -> list[list[nn.Parameter]]:
        return [[self.second, self.first]]

    def use_flat(self, leaves: list[list[torch.Tensor]] | None) -> None:
        self.leaves = leaves


def test_parts_get_leaves_that_are_their_parameters():
    with torch.random.fork_rng([]):
        module = nn.Sequential(nn.Linear(2, 2), Together())
    weights = FlatWeights(module)
    assert weights.compiled
    ((leaf,),) = module[1].leaves
    assert leaf.is_leaf and leaf.tolist() == [2.0] * 3 + [1.0] * 6
    (leaf * torch.arange(9.0)).sum().backward()
    assert module[1].second.grad.tolist() == [0.0, 1.0, 2.0]
    assert module[1].first.grad.tolist() == [[3.0, 4.0, 5.0], [6.0, 7.0, 8.0]]
    AdamW(weights, 0.0).step(0.5)
    assert module[1].second.tolist() == [2.0, 1.5, 1.5] == leaf[:3].tolist()
    weights.zero_grad()
    assert not any(flat.grad.any() for flat in weights.tensors)
    weights.release()
    assert module[1].leaves is None


def test_leaves_are_no_larger_than_what_torch_works_on_in_one_thread():
    part = Together(20_000)
    weights = FlatWeights(part)
    ((*leaves,),) = part.leaves
    assert [leaf.numel() for leaf in leaves] == [32768, 60_000 - 32768]
    torch.testing.assert_close(torch.cat(leaves), weights.tensors[0][:60_000])


def test_a_part_that_is_partly_frozen_keeps_its_parameters(rows):
    part = Together()
    part.first.requires_grad_(False)
    FlatWeights(part)
    assert part.leaves is None


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_the_same_numbers_without_compiled_passes(module, rows, weight_decay, monkeypatch):
    found = []
    for compiled in (True, False):
        if not compiled:
            monkeypatch.setattr(_weights, "_load_passes", lambda: None)
        twin = copy.deepcopy(module)
        weights = FlatWeights(twin)
        optimizer, average = AdamW(weights, weight_decay), AveragedWeights(weights, 0.9)
        for _ in range(5):
            weights.zero_grad()
            loss = (10 * twin(rows)).square().mean()
            loss.backward()
            assert weights.clip_gradient(loss.detach(), 0.5)
            optimizer.step(0.01)
            average.update()
        found.append((*weights.snapshot()[0], *average.snapshot()[0]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
