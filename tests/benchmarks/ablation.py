"""What each ingredient of FlowOutlierDetector gives: mean AUROC and average precision without it.

    python tests/benchmarks/ablation.py --data FOLDER [--protocols clean,mixed] [--seeds 0] [--only WBC,yeast]

The flows of a table are fitted once; all variants score with them. Data and protocols are those of
``detection.py``.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
from _report import print_table
from _tables import find_tables, read_table
from sklearn.metrics import average_precision_score, roc_auc_score

from flowdetect import FlowOutlierDetector
from flowdetect.estimators import _ensemble, _members
from flowdetect.estimators._members import Member
from flowdetect.estimators._neighbours import Neighbours, core_rows, marginal_log_density


@dataclass(frozen=True)
class Variant:
    """How to score with fitted flows; the defaults are the detector's."""

    neighbours: float = 0.75
    local: float = 0.5
    core: bool = True
    scales: Sequence[float] = _ensemble.SCORING_SCALES
    n_members: int | None = None
    mean: bool = False


DEFAULT = Variant()
VARIANTS = {
    "default": DEFAULT,
    "flow alone": replace(DEFAULT, neighbours=0.0),
    "flow alone, level kept": replace(DEFAULT, neighbours=0.0, local=0.0),
    "neighbours alone": replace(DEFAULT, neighbours=1.0),
    "neighbours alone, level kept, all rows": replace(DEFAULT, neighbours=1.0, local=0.0, core=False),
    "level of density kept": replace(DEFAULT, local=0.0),
    "whole level taken out": replace(DEFAULT, local=1.0),
    "all rows as neighbours": replace(DEFAULT, core=False),
    "smallest noise scale alone": replace(DEFAULT, scales=(0.01,)),
    "largest noise scale alone": replace(DEFAULT, scales=(1.0,)),
    "mean of members": replace(DEFAULT, mean=True),
    "one member": replace(DEFAULT, n_members=1),
}


class Rescorer:
    """A fitted detector and its rows, scored again in other ways."""

    def __init__(self, fit: np.ndarray, score: np.ndarray, protocol: str, seed: int) -> None:
        self.detector = FlowOutlierDetector(random_state=seed).fit(fit)
        encoder = self.detector.encoder_
        *_, split_seed = self.detector._seeds(2 * self.detector.n_models + 1)
        self.splits = self.detector._splits(np.zeros(len(fit)), np.random.default_rng(split_seed))
        self.fit, self.fit_det = encoder.encode(fit)
        self.score, self.score_det = encoder.encode(score)
        self.held_out = protocol == "mixed" and len(self.splits) > 1

    def scores(self, variant: Variant) -> np.ndarray:
        """Return the scores of the rows to score."""
        weights = {"_NEIGHBOURS_WEIGHT": variant.neighbours, "_LOCAL_WEIGHT": variant.local}
        with patch.multiple(_members, **weights):
            members = [self._member(k, variant) for k in range(len(self.splits))]
            if not self.held_out:
                chosen = members[: variant.n_members]
                every = [self._score(member, self.score, self.score_det, variant) for member in chosen]
                return np.mean(every, axis=0) if variant.mean else np.max(every, axis=0)
            scores = np.empty(len(self.fit))
            for member, (_, rows) in zip(members, self.splits, strict=True):
                scores[rows] = self._score(member, self.fit[rows], self.fit_det[rows], variant)
            return scores

    def _member(self, number: int, variant: Variant) -> Member:
        layout = self.detector.encoder_.layout_
        near, _ = self.splits[number]
        fitted = self.detector._members[number]
        if variant.core:
            marginal = marginal_log_density(self.fit[near], layout.n_values, layout.cardinalities)
            near = near[core_rows(self._points(self.fit[near]), marginal, fitted.neighbours.n_columns)]
        neighbours = Neighbours(self._points(self.fit[near]), fitted.neighbours.n_columns)
        member = Member(fitted.density, neighbours, None, fitted.share)
        member.learn_levels(self.fit_det[near], self._flow(member, self.fit[near], variant))
        return member

    def _score(self, member: Member, matrix: np.ndarray, det: np.ndarray, variant: Variant) -> np.ndarray:
        return member.score(self._points(matrix), det, self._flow(member, matrix, variant))

    def _points(self, matrix: np.ndarray) -> np.ndarray:
        return self.detector.encoder_.coordinates(matrix)

    def _flow(self, member: Member, matrix: np.ndarray, variant: Variant) -> np.ndarray:
        if variant.neighbours == 1.0:
            return np.zeros(len(matrix))
        parts = [
            self.detector._by_scale(part, member.density, variant.scales).mean(axis=0)
            for part in np.array_split(matrix, len(matrix) // 2000 + 1)
        ]
        return np.concatenate(parts)


def main() -> None:
    """Run the ablation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--protocols", default="clean,mixed")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--only", default="", help="comma separated parts of file names")
    args = parser.parse_args()
    protocols = args.protocols.split(",")
    figures: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for protocol in protocols:
        for path in find_tables(args.data, args.only):
            for seed in map(int, args.seeds.split(",")):
                fit, score, labels = read_table(path, protocol, seed)
                rescorer = Rescorer(fit, score, protocol, seed)
                for name, variant in VARIANTS.items():
                    odd = -rescorer.scores(variant)
                    pair = roc_auc_score(labels, odd), average_precision_score(labels, odd)
                    figures.setdefault((protocol, name), []).append(pair)
            print(
                protocol, path.stem, *(f"{100.0 * figures[protocol, name][-1][0]:.1f}" for name in VARIANTS)
            )
    header = ["variant", *(f"{what}, {protocol}" for protocol in protocols for what in ("AUROC", "AP"))]
    lines = []
    for name in VARIANTS:
        means = [100.0 * np.mean(figures[protocol, name], axis=0) for protocol in protocols]
        lines.append([name, *(f"{figure:.1f}" for pair in means for figure in pair)])
    print_table(header, lines)


if __name__ == "__main__":
    main()
