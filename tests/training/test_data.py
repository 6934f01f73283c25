import numpy as np
import pytest
import torch

from flowdetect.exceptions import ConfigurationError
from flowdetect.training import ArraySource, Batch
from flowdetect.training._data import (
    epoch_batches,
    fetch_rows,
    index_blocks,
    n_batches,
    split_rows,
    stream_batches,
)


class CountingSource:
    """A table that exists only as row numbers, and remembers how much was asked for at once."""

    def __init__(self, n_rows, weights=None):
        self.n_rows, self.weights, self.requests = n_rows, weights, []

    def __len__(self):
        return self.n_rows

    def rows(self, index, rng):
        self.requests.append(len(index))
        return Batch(torch.from_numpy(index[:, None].astype(np.float64)))


def stream(source, n_steps, rows=None, seed=0, **settings):
    rows = np.arange(len(source)) if rows is None else rows
    return stream_batches(
        source,
        rows,
        n_steps=n_steps,
        rng=np.random.default_rng(seed),
        device=torch.device("cpu"),
        dtype=torch.float64,
        **{"batch_size": 256, **settings},
    )


@pytest.mark.parametrize("n_rows", [1, 2, 100, 255, 256, 257, 383, 385, 1000, 5000])
def test_an_epoch_is_every_row_once_in_batches_of_similar_size(n_rows):
    batches = list(epoch_batches(np.arange(n_rows), 256, np.random.default_rng(0)))
    assert sorted(np.concatenate(batches)) == list(range(n_rows))
    sizes = [len(batch) for batch in batches]
    assert len(sizes) == n_batches(n_rows, 256)
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= 1.5 * 256
    assert min(sizes) >= min(n_rows, 256 * 2 // 3)


def test_a_million_rows_are_never_asked_for_at_once():
    source = CountingSource(1_000_000)
    seen = [batch.inputs for batch in stream(source, n_steps=3000)]
    assert max(source.requests) <= 16384
    assert sum(source.requests) <= 3000 * 257 + 16384
    assert torch.cat(seen).unique().numel() == sum(map(len, seen)), "a row came twice within one epoch"


def test_a_small_table_is_fetched_for_many_steps_at_once():
    source = CountingSource(300)
    assert len(list(stream(source, n_steps=2000))) == 2000
    assert len(source.requests) < 60
    assert max(source.requests) <= 16384


def test_the_first_request_is_small():
    source = CountingSource(100_000)
    next(iter(stream(source, n_steps=2000)))
    assert source.requests == [pytest.approx(1024, abs=8)]


def test_a_batch_larger_than_a_block_is_one_request():
    source = CountingSource(5000)
    batches = list(stream(source, n_steps=3, batch_size=5000, block_rows=100))
    assert [len(batch) for batch in batches] == [5000] * 3


@pytest.mark.parametrize("n_steps", [1, 2, 7, 100])
def test_as_many_batches_as_steps(n_steps):
    assert len(list(stream(CountingSource(1000), n_steps))) == n_steps
    blocks = index_blocks(np.arange(1000), 256, n_steps, np.random.default_rng(0), 16384)
    assert sum(len(block) for block in blocks) == n_steps


def test_the_order_depends_on_the_seed_only():
    one, two, three = (
        [batch.inputs for batch in stream(CountingSource(1000), 9, seed=seed)] for seed in (0, 0, 1)
    )
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, three, strict=True))


def test_split_leaves_rows_without_weight_out():
    weights = np.ones(100)
    weights[::2] = 0
    training, validation = split_rows(100, weights, 10, np.random.default_rng(0))
    assert len(validation) == 10
    assert sorted(np.concatenate([training, validation])) == list(range(1, 100, 2))


def test_weights_come_from_the_source_even_if_rows_does_not_fill_them_in():
    batch = fetch_rows(CountingSource(4, weights=np.arange(4.0)), np.array([3, 1]), None)
    assert batch.weights.tolist() == [3.0, 1.0]


def test_array_source_keeps_context_and_weights_with_their_rows():
    source = ArraySource(np.eye(3), context=np.arange(3.0)[:, None], weights=[1, 0, 2])
    batch = source.rows(np.array([2, 0]), np.random.default_rng(0))
    assert batch.inputs.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert batch.context.tolist() == [[2.0], [0.0]]
    assert batch.weights.tolist() == [2.0, 1.0]


def test_batch_slices_repeats_and_converts():
    batch = Batch(torch.arange(3.0)[:, None], context=torch.ones(3, 1))
    assert len(batch[1:]) == 2
    assert batch.repeat(2).inputs.flatten().tolist() == [0, 1, 2, 0, 1, 2]
    assert batch.repeat(1) is batch
    assert batch.to(torch.device("cpu"), torch.float64).context.dtype == torch.float64


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inputs": np.ones(3)}, r"inputs must have two dimensions \(rows, columns\); got shape \(3,\)"),
        ({"context": np.ones((2, 1))}, "context must have one row per row of inputs; got 2 for 3"),
        ({"weights": np.ones(2)}, r"weights must have shape \(3,\); got \(2,\)"),
        ({"weights": [1, -1, 1]}, "weights must be finite and not negative"),
        ({"weights": [1, np.nan, 1]}, "weights must be finite and not negative"),
        ({"weights": [0, 0, 0]}, "weights must not all be zero"),
    ],
)
def test_what_array_source_refuses(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        ArraySource(**{"inputs": np.ones((3, 1)), **settings})
