"""The script that makes the recognisers of the package: which neurons stay, and what the cards say."""

from itertools import combinations

import pytest
import torch

from affetto.models.checkpoint import SHIPPED_FOLDER, WITHOUT_GE2E, read_config
from helpers import script

recognisers = script("experiments/recognisers.py")


@pytest.fixture
def sums() -> tuple[torch.Tensor, torch.Tensor]:
    """Means of products of six neurons, two of which say the same, and a constant, with three outputs."""
    generator = torch.Generator().manual_seed(0)
    neurons = torch.randn(500, 6, generator=generator).double()
    neurons[:, 4] = neurons[:, 1] + 0.01 * neurons[:, 4]
    outputs = neurons @ torch.randn(6, 3, generator=generator).double() + 2.0
    neurons = torch.cat([neurons, torch.ones(500, 1)], 1)
    return neurons.T @ neurons / 500, neurons.T @ outputs / 500


def lost(gram: torch.Tensor, cross: torch.Tensor, kept: list[int]) -> float:
    """What the fitted neurons explain less than all of them."""

    def explained(rows: list[int]) -> torch.Tensor:
        return (cross[rows] * torch.linalg.solve(gram[rows][:, rows], cross[rows])).sum()

    return float(explained([*range(7)]) - explained([*kept, 6]))


def test_the_neurons_that_can_be_missed_go(sums: tuple[torch.Tensor, torch.Tensor]) -> None:
    gram, cross = sums
    kept = recognisers.chosen(gram, cross, 5).tolist()
    assert not {1, 4} <= set(kept)  # either says what both say
    assert lost(gram, cross, kept) == min(lost(gram, cross, list(each)) for each in combinations(range(6), 5))
    weight, bias = recognisers.fitted(gram, cross, torch.tensor(kept))
    assert weight.shape == (3, 5)
    torch.testing.assert_close(bias, torch.full((3,), 2.0), rtol=0, atol=0.01)
    assert len(recognisers.chosen(gram, cross, 2)) == 2


@pytest.mark.parametrize(
    ("method", "place"),
    [("small", "small"), ("base", "base"), ("base, without GE2E", f"base/{WITHOUT_GE2E}")],
)
def test_cards_are_what_the_script_writes(method: str, place: str) -> None:
    folder = SHIPPED_FOLDER / place
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card == recognisers.card(method, read_config(folder))
