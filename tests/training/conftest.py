import math

import numpy as np
import pytest
import torch
from torch import nn


class Gaussian(nn.Module):
    """Independent normals with learnable mean and log-scale; the mean may depend on the context."""

    def __init__(self, n_features: int = 1, n_context: int = 0, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(n_features, dtype=dtype))
        self.log_scale = nn.Parameter(torch.zeros(n_features, dtype=dtype))
        self.slope = nn.Parameter(torch.zeros(n_context, n_features, dtype=dtype)) if n_context else None

    def log_prob(self, inputs, context=None):
        mean = self.mean if self.slope is None else self.mean + context @ self.slope
        z = (inputs - mean) * torch.exp(-self.log_scale)
        return (-0.5 * z * z - self.log_scale - 0.5 * math.log(2 * math.pi)).sum(1)


@pytest.fixture
def gaussian():
    return Gaussian


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(3.0, 2.0, size=(1000, 1))
