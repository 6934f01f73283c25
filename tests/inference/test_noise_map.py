import numpy as np
import pytest
import torch

from flowdetect.inference._noise_map import N_VALIDATION, NoiseSource
from flowdetect.training import TrainingConfig


def source(**settings: object) -> NoiseSource:
    config = TrainingConfig(max_steps=100, batch_size=50, time_budget=settings.pop("time_budget", None))  # type: ignore[arg-type]
    return NoiseSource(3, config, **{"temperature": 16.0, "annealing": 0.5, "seed": 0, **settings})  # type: ignore[arg-type]


def test_rows_to_validate_on_stay_the_same_and_are_standard_normal() -> None:
    noise, index = source(), np.arange(N_VALIDATION)
    batch = noise.rows(index, None)
    assert torch.equal(batch.inputs, noise.rows(index, None).inputs)
    assert batch.context is not None and (batch.context == 1.0).all()
    # Evenly spread points: moments are far nearer than those of as many random ones, 0.03 and 0.04.
    assert batch.inputs.mean(dim=0).abs().max() < 0.005
    assert (batch.inputs.var(dim=0) - 1.0).abs().max() < 0.02
    assert not torch.equal(batch.inputs, source(seed=1).rows(index, None).inputs)


def test_the_temperature_falls_geometrically_with_the_rows_handed_out() -> None:
    noise, rng = source(), np.random.default_rng(0)
    # 5,000 rows in all, of which the first half cools.
    temperatures = torch.cat([noise.rows(np.arange(500), rng).context for _ in range(10)])[:, 0].numpy()
    np.testing.assert_allclose(temperatures[[0, 1250, 2500, 4999]], [16.0, 4.0, 1.0, 1.0])
    assert (np.diff(temperatures) <= 0.0).all()


@pytest.mark.parametrize("annealing", [0.0, 1.0])
def test_no_annealing_and_nothing_but_annealing(annealing: float) -> None:
    first = source(annealing=annealing).rows(np.arange(2), np.random.default_rng(0)).context
    assert first is not None
    assert first[0, 0] == (1.0 if annealing == 0.0 else 16.0)


def test_a_time_budget_cools_as_well() -> None:
    late = source(time_budget=1e-9).rows(np.arange(4), np.random.default_rng(0)).context
    assert late is not None and (late == 1.0).all()


def test_training_rows_are_fresh_and_whole_batches() -> None:
    noise, rng = source(), np.random.default_rng(0)
    one, two = (noise.rows(np.arange(4), rng).inputs for _ in range(2))
    assert not torch.equal(one, two)
    assert (len(noise) - N_VALIDATION) % 50 == 0
    assert noise.weights is None
