"""Compile what numba compiles and keeps on disk, once, before the test processes would each do it at once.

python tests/compile_kernels.py
"""

import numpy as np
import pandas as pd

from flowdetect import FlowDensity, FlowOutlierDetector
from flowdetect.inference import FlowMixture

SMALL = {"n_layers": 2, "hidden_features": 8, "n_bins": 4, "max_steps": 3, "random_state": 0}


def table(n_rows: int = 80) -> pd.DataFrame:
    """Return numbers, numbers with holes and labels."""
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(n_rows, 3))
    numbers[::7, 2] = np.nan
    return pd.DataFrame(numbers, columns=list("abc")).assign(label=rng.choice(["x", "y", "z"], n_rows))


def main() -> None:
    """Train, score and draw in each way that has compiled passes of its own."""
    mixed = table()
    for kind in ("coupling", "autoregressive", "iaf"):
        for X, context in ((mixed, None), (mixed[["a", "b"]], mixed[["label"]]), (mixed[["a"]], None)):
            density = FlowDensity(kind=kind, **SMALL).fit(X, context=context)
            density.score_samples(X, context=context)
            density.sample(2, context=context, random_state=0)
    detector = FlowOutlierDetector(**SMALL).fit(mixed)
    detector.score_samples(mixed)
    numbers = mixed[["a", "b"]]
    FlowMixture(2, max_iter=1, **SMALL).fit(numbers)
    FlowDensity(noise_scales=(0.5, 1.0), **SMALL).fit(numbers).denoise(numbers, 0.5)


if __name__ == "__main__":
    main()
