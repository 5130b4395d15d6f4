"""Rankers against the sum over all pairs written out, and on data where the direction is known."""

import numpy as np
import pytest

from affetto.intensity.ranker import fit_ranker, order_share, order_shares


def planted(
    seed: int = 0, speakers: int = 6, noise: float = 0.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vectors of speakers far apart, in which emotion moves along one direction."""
    generator = np.random.default_rng(seed)
    direction = generator.normal(size=8)
    direction /= np.linalg.norm(direction)
    who = np.repeat(np.arange(speakers), 20)
    more = np.tile(np.arange(20) % 2 == 0, speakers)
    vectors = generator.normal(0, noise, (len(who), 8)) + 2 * more[:, None] * direction
    return vectors + 5 * generator.normal(size=(speakers, 8))[who], who, more, direction


def test_a_planted_direction_is_found_across_speakers() -> None:
    vectors, speakers, more, direction = planted()
    found = fit_ranker(vectors, speakers, more, cost=10.0)
    assert found @ direction / np.linalg.norm(found) > 0.95
    others, who, those, _ = planted(seed=0, noise=0.4)
    shares = order_shares(others @ found, who, those.astype(int), [(1, 0)])
    assert shares.min() > 0.98


@pytest.mark.parametrize("similar", [0.0, 1.0, 5.0])
def test_it_minimises_the_sum_over_all_pairs(similar: float) -> None:
    vectors, speakers, more, _ = planted(speakers=3, noise=2.0)

    def loss(direction: np.ndarray) -> float:
        ordered, alike = [], []
        for i in range(len(vectors)):
            for j in range(len(vectors)):
                if speakers[i] != speakers[j]:
                    continue
                gap = float(direction @ (vectors[i] - vectors[j]))
                if more[i] and not more[j]:
                    ordered.append(max(0.0, 1 - gap) ** 2)
                elif more[i] == more[j] and i < j:
                    alike.append(gap**2)
        return float(direction @ direction) / 2 + 7.0 * (np.mean(ordered) + similar * np.mean(alike))

    found = fit_ranker(vectors, speakers, more, cost=7.0, similar=similar)
    least = loss(found)
    generator = np.random.default_rng(1)
    for _ in range(8):
        assert loss(found + 0.02 * generator.normal(size=8)) > least
    assert least < loss(np.zeros(8)) == 7.0


def test_without_a_pair_there_is_no_direction() -> None:
    vectors, speakers, more, _ = planted(speakers=2)
    assert not fit_ranker(vectors, speakers, np.ones_like(more), 1.0).any()
    assert not fit_ranker(vectors, np.arange(len(speakers)), more, 1.0).any()


def test_the_share_of_pairs_in_order_counts_ties_half() -> None:
    generator = np.random.default_rng(0)
    more, less = generator.integers(0, 5, 30).astype(float), generator.integers(0, 4, 20).astype(float)
    slow = np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a in more for b in less])
    assert order_share(more, less) == pytest.approx(slow)
    assert order_share(np.array([1.0]), np.array([0.0])) == 1.0
    assert np.isnan(order_share(more[:0], less))


def test_speakers_without_neutral_or_emotion_have_no_share() -> None:
    values = np.array([1.0, 0.0, 3.0, 2.0, 9.0])
    groups, classes = np.array([0, 0, 1, 1, 2]), np.array([1, 0, 1, 2, 0])
    shares = order_shares(values, groups, classes, [(1, 0), (2, 0)])
    assert shares[0, 0] == 1.0
    assert np.isnan(shares[[0, 1, 1, 2], [1, 0, 1, 0]]).all()
