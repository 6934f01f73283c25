"""From the formula to the code: a chain of invertible layers, its determinant, its training, its pictures.

A normalising flow is an invertible map z = f(x) to a z that is standard normal, and then

    log p(x) = log N(z; 0, 1) + log |det dz/dx|.

`NormalizingFlow` below is that formula and nothing else: layers one after the other, the logarithms of their
determinants added up. Its layers are those of the package, so what the estimators use is what you see. The
script compares map and determinant with the Jacobian of autograd and with the chain of the package, fits the
layers to two half moons by maximum likelihood, integrates the density over the plane, and draws what each
layer does.

    python examples/change_of_variables.py --out pictures
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot as plt
from sklearn.datasets import make_moons
from torch import Tensor, nn

from flowdetect.flows import FlowConfig, build_flow
from flowdetect.training import ArraySource, TrainingConfig, train

WIDE = 4.0  # the square that is drawn and integrated over


class NormalizingFlow(nn.Module):
    """A chain of layers; each, called, returns its outputs and log|det| of its Jacobian."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map x to z, and return it with log|det dz/dx|: determinants of a chain multiply."""
        z, log_det = x, x.new_zeros(len(x))
        for layer in self.layers:
            z, log_det_of_layer = layer(z)
            log_det = log_det + log_det_of_layer
        return z, log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Map z back to x, the last layer first."""
        for layer in reversed(self.layers):
            z, _ = layer.inverse(z)
        return z

    def log_prob(self, x: Tensor, context: None = None) -> Tensor:
        """Return log p(x) in nats: the change of variables."""
        z, log_det = self(x)
        return torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(dim=1) + log_det

    def sample(self, n_rows: int, generator: torch.Generator) -> Tensor:
        """Draw z, and map it back."""
        like = next(self.parameters())
        return self.inverse(torch.randn(n_rows, 2, generator=generator, dtype=like.dtype))


def main() -> None:
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    packaged = build_flow(FlowConfig(2, n_layers=4, hidden_features=32), seed=0)
    flow = NormalizingFlow(list(packaged._transform._transforms))

    points = make_moons(2000, noise=0.06, random_state=0)[0]
    points = (points - points.mean(axis=0)) / points.std(axis=0)
    config = TrainingConfig(max_steps=100 if arguments.fast else 2000, learning_rate=5e-3, seed=0)
    result = train(flow, ArraySource(points[:1500]), config=config)
    flow.double()
    held_out = torch.from_numpy(points[1500:])
    with torch.no_grad():
        score = float(flow.log_prob(held_out).mean())
    print(f"Trained for {result.n_steps} steps; held-out log-likelihood {score:.2f} nats a point,")
    print(f"of the best Gaussian {gaussian_score(points[:1500], points[1500:]):.2f}.")

    print_checks(flow, packaged.double(), held_out)
    path = arguments.out / "change_of_variables.png"
    draw(flow, points, path)
    print(f"The picture is in {arguments.out}/.")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder to write to")
    parser.add_argument("--fast", action="store_true", help="train for a few steps only")
    return parser.parse_args()


def gaussian_score(learnt: np.ndarray, held_out: np.ndarray) -> float:
    normal = torch.distributions.MultivariateNormal(
        torch.from_numpy(learnt.mean(axis=0)), torch.from_numpy(np.cov(learnt.T))
    )
    return float(normal.log_prob(torch.from_numpy(held_out)).mean())


def print_checks(flow: NormalizingFlow, packaged: nn.Module, x: Tensor) -> None:
    """Compare with autograd, with the package's chain, and with what a density must fulfil."""
    z, log_det = (part.detach() for part in flow(x))
    jacobians = [torch.autograd.functional.jacobian(lambda row: flow(row[None])[0][0], row) for row in x[:50]]
    of_autograd = torch.linalg.slogdet(torch.stack(jacobians)).logabsdet
    print("The largest difference between")
    print(f"  log|det| of the layers and of autograd's Jacobian   {largest(log_det[:50] - of_autograd):.1e}")
    with torch.no_grad():
        print(f"  x and the way there and back                        {largest(flow.inverse(z) - x):.1e}")
        difference = flow.log_prob(x) - packaged.log_prob(x)
        print(f"  this log p(x) and that of the package's chain       {largest(difference):.1e}")
    print(f"The density integrates to {integral(flow):.4f} over the square of the picture.")


def largest(difference: Tensor) -> float:
    return float(difference.abs().max())


def grid(n: int) -> Tensor:
    """Return the midpoints of n x n cells of the square, shape (n * n, 2)."""
    middle = (torch.arange(n, dtype=torch.float64) + 0.5) / n * 2 * WIDE - WIDE
    return torch.cartesian_prod(middle, middle)


def density_on_grid(flow: NormalizingFlow, n: int = 500) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(flow.log_prob(grid(n)).exp()).reshape(n, n).T


def integral(flow: NormalizingFlow) -> float:
    return float(density_on_grid(flow).mean() * (2 * WIDE) ** 2)


def draw(flow: NormalizingFlow, points: np.ndarray, path: Path) -> None:
    """Show the points after each layer above; the density and drawn points below."""
    figure, axes = plt.subplots(2, 5, figsize=(13.0, 5.6), dpi=130, layout="constrained")
    colours = np.arctan2(points[:, 1], points[:, 0])
    style = {"c": colours, "cmap": "twilight", "s": 3}
    z = torch.from_numpy(points)
    for place, ax in enumerate(axes[0]):
        ax.scatter(*z.T, **style)
        name = "x: the data" if place == 0 else f"after layer {place}"
        ax.set_title("z: after layer 4" if place == 4 else name, loc="left", fontsize="medium")
        if place < len(flow.layers):
            z = flow.layers[place](z)[0].detach()
    noise = torch.randn(len(points), 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = flow.inverse(noise).detach()
    below = axes[1]
    below[0].scatter(*noise.T, s=3, color="0.5")
    below[0].set_title("noise", loc="left", fontsize="medium")
    below[1].scatter(*drawn.T, s=3, color="#0072B2")
    below[1].set_title("drawn: the noise, mapped back", loc="left", fontsize="medium")
    below[2].imshow(density_on_grid(flow), origin="lower", extent=[-WIDE, WIDE] * 2, cmap="viridis")
    below[2].set_title("p(x)", loc="left", fontsize="medium")
    draw_lines(flow, below[3])
    below[4].set_axis_off()
    for ax in [*axes[0], *below[:4]]:
        ax.set(xlim=(-WIDE, WIDE), ylim=(-WIDE, WIDE), aspect="equal", xticks=[], yticks=[])
    figure.savefig(path)


def draw_lines(flow: NormalizingFlow, ax: plt.Axes) -> None:
    """Show where the straight lines of z lie in x."""
    along = torch.linspace(-3.0, 3.0, 400, dtype=torch.float64)
    for level in torch.linspace(-2.5, 2.5, 11, dtype=torch.float64):
        for line in ((along, level.expand_as(along)), (level.expand_as(along), along)):
            ax.plot(*flow.inverse(torch.stack(line, dim=1)).detach().T, color="0.3", linewidth=0.6)
    ax.set_title("a square grid of z, in x", loc="left", fontsize="medium")


if __name__ == "__main__":
    main()
