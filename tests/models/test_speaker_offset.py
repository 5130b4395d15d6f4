"""A speaker's offset: as slow loops compute it, and as close to the true one as the model allows."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from affetto.models.enrolment import SpeakerOffset, adapted, evenness

CLASSES, DIM = 4, 6


class World:
    """Speakers who are what the model takes them for: class offset + speaker offset + rest."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = np.random.default_rng(seed)
        self.class_offsets = self.generator.normal(0, 2.0, (CLASSES, DIM))
        self.class_offsets -= self.class_offsets.mean(0)

    def speaker(self) -> np.ndarray:
        return self.generator.normal(0, 1.5, DIM)

    def say(self, speaker: np.ndarray, labels: np.ndarray) -> Tensor:
        rest = self.generator.normal(0, 0.7, (len(labels), DIM))
        return torch.from_numpy(3.0 + speaker + self.class_offsets[labels] + rest).float()

    def fitted(self, speakers: int = 60, each: int = 24) -> SpeakerOffset:
        labels = np.tile(np.arange(each) % CLASSES, speakers)
        vectors = torch.cat([self.say(self.speaker(), labels[:each]) for _ in range(speakers)])
        numbers = torch.arange(speakers).repeat_interleave(each)
        offset = SpeakerOffset(DIM, DIM, CLASSES, rounds=0)
        return offset.fit(vectors, torch.from_numpy(labels), numbers)

    def truth(self, offset: SpeakerOffset, speaker: np.ndarray) -> Tensor:
        """The true offset in the space of estimates; the projection is linear while nothing is clipped."""
        here, there = (torch.from_numpy(value).float()[None] for value in (3.0 + speaker, np.full(DIM, 3.0)))
        return (offset.project(here) - offset.project(there))[0]


def knowing(labels: np.ndarray) -> Tensor:
    """Scores of a recogniser that is always right."""
    return 30.0 * torch.nn.functional.one_hot(torch.from_numpy(labels), CLASSES).float()


def slow_estimate(offset: SpeakerOffset, projected: Tensor, scores: Tensor) -> list[float]:
    """The formula, number by number."""
    count, rank = projected.shape
    shares = [sum(math.exp(scores[n, k]) for n in range(count)) / count for k in range(CLASSES)]
    entropy = -sum(share * math.log(share) for share in shares) / math.log(CLASSES)
    low, high = offset.evenness.tolist()
    even = min(1.0, max(0.0, (entropy - low) / (high - low)))
    result = [0.0] * rank
    for step in range(offset.rounds + 1):
        total = [0.0] * rank
        for utterance in range(count):
            logits = scores[utterance].tolist()
            if step:
                vector = [float(projected[utterance, r]) - result[r] for r in range(rank)] + result
                logits = [
                    sum(
                        share * float(trust) * logits[k]
                        + share * float(head.linear.bias[k])
                        + share * sum(float(head.linear.weight[k, r]) * vector[r] for r in range(2 * rank))
                        for share, trust, head in zip(
                            (1 - even, even), offset.trust, (offset.one_sided, offset.even), strict=True
                        )
                    )
                    for k in range(CLASSES)
                ]
            highest = max(logits)
            powers = [math.exp(value - highest) for value in logits]
            guesses = [power / sum(powers) for power in powers]
            for r in range(rank):
                expected = sum(guesses[k] * float(offset.class_offsets[k, r]) for k in range(CLASSES))
                total[r] += (float(projected[utterance, r]) - expected) / count
        for r in range(rank):
            between, within = float(offset.between[r]), float(offset.within[r])
            result[r] = between / (between + within / count) * total[r]
    return [*result, even]


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_estimates_are_those_of_slow_loops(rounds: int) -> None:
    torch.manual_seed(0)
    world = World()
    offset = world.fitted()
    offset.rounds = rounds
    offset.trust.copy_(torch.tensor([1.5, 0.5]))
    offset.evenness.copy_(torch.tensor([0.5, 1.0]))
    offset.requires_grad_(False)
    labels = np.array([0, 1, 1, 3, 2])
    projected = offset.project(world.say(world.speaker(), labels))
    scores = torch.randn(5, CLASSES).log_softmax(1)
    expected = torch.tensor(slow_estimate(offset, projected, scores))
    torch.testing.assert_close(offset.estimate(projected, scores), expected, atol=1e-4, rtol=1e-4)


def test_known_offsets_are_recovered_the_better_the_more_is_heard() -> None:
    world = World()
    offset = world.fitted()
    errors = {}
    for count in (4, 16, 200):
        found = []
        for _ in range(20):
            speaker = world.speaker()
            labels = world.generator.integers(CLASSES, size=count)
            estimate = offset.estimate(offset.project(world.say(speaker, labels)), knowing(labels))
            found.append(float((estimate[:-1] - world.truth(offset, speaker)).square().mean()))
        errors[count] = float(np.mean(found))
    assert errors[4] > errors[16] > errors[200]
    spread = float(offset.between.mean())
    assert errors[200] < 0.02 * spread
    assert errors[4] < 0.25 * spread


@pytest.mark.parametrize("certain", [True, False])
def test_one_emotion_only_does_better_than_the_plain_mean(certain: bool) -> None:
    world = World()
    offset = world.fitted()
    ours, plain = [], []
    for number in range(20):
        speaker = world.speaker()
        labels = np.full(10, number % CLASSES)
        projected = offset.project(world.say(speaker, labels))
        # A recogniser that is right half of the time, and says so, still helps.
        scores = knowing(labels) if certain else knowing(labels).clamp_max(1.1).log_softmax(1)
        truth = world.truth(offset, speaker)
        ours.append(float((offset.estimate(projected, scores)[:-1] - truth).square().mean()))
        plain.append(float((projected.mean(0) - truth).square().mean()))
    assert np.mean(ours) < (0.1 if certain else 0.6) * np.mean(plain)


def test_a_single_utterance_is_trusted_less() -> None:
    world = World()
    offset = world.fitted()
    vector = torch.full((1, DIM), 2.0)
    scores = torch.zeros(1, CLASSES)  # every class alike: nothing is expected of any
    one = offset.estimate(vector, scores)
    many = offset.estimate(vector.expand(50, -1), scores.expand(50, -1))
    assert (one.abs() < many.abs())[:-1].all()
    assert not offset.estimate(vector[:0], scores[:0]).any()


def test_spread_within_and_between_speakers_is_found() -> None:
    world = World(seed=3)
    offset = world.fitted(speakers=300)
    scale = (offset.project(torch.eye(DIM)) - offset.project(torch.zeros(1, DIM))).T  # (R, DIM)
    within, between = (scale.square().sum(1) * spread**2 for spread in (0.7, 1.5))
    torch.testing.assert_close(offset.within, within, rtol=0.1, atol=0)
    torch.testing.assert_close(offset.between, between, rtol=0.35, atol=0)


def test_fewer_utterances_than_dimensions_leave_empty_axes() -> None:
    torch.manual_seed(0)
    offset = SpeakerOffset(DIM, 20, CLASSES)
    offset.fit(torch.randn(5, DIM), torch.tensor([0, 1, 2, 0, 1]), torch.tensor([0, 0, 1, 1, 1]))
    assert not offset.projection[5:].any()
    assert torch.isfinite(offset.estimate(offset.project(torch.randn(3, DIM)), torch.zeros(3, CLASSES))).all()


def test_adapted_vectors_hold_the_rest_and_the_offset() -> None:
    projected, offset = torch.randn(3, 2), torch.randn(2)
    assert torch.equal(adapted(projected, offset), torch.cat([projected - offset, offset.expand(3, 2)], 1))
    assert torch.equal(adapted(projected, offset.expand(3, 2)), adapted(projected, offset))


def test_what_is_known_counts_the_more_the_more_even_the_moods() -> None:
    world = World()
    offset = world.fitted()
    offset.evenness.copy_(torch.tensor([0.2, 0.9]))
    offset.trust.copy_(torch.tensor([2.0, 0.5]))
    mixed, angry = np.arange(12) % CLASSES, np.zeros(12, int)
    found = {}
    for name, labels in (("mixed", mixed), ("angry", angry)):
        found[name] = offset.estimate(offset.project(world.say(world.speaker(), labels)), knowing(labels))
    assert float(found["mixed"][-1]) == 1.0
    assert float(found["angry"][-1]) == 0.0
    assert float(evenness(knowing(mixed))) == pytest.approx(1, abs=1e-5)
    assert float(evenness(knowing(angry))) == pytest.approx(0, abs=1e-5)
    projected, scores = torch.randn(3, DIM), torch.randn(3, CLASSES).log_softmax(1)
    for name, trust, head in (("mixed", 0.5, offset.even), ("angry", 2.0, offset.one_sided)):
        expected = trust * scores + head(adapted(projected, found[name][:-1]))
        torch.testing.assert_close(offset.combine(scores, projected, found[name]), expected)
    both = torch.stack([found["mixed"], found["angry"], found["mixed"]])
    each = [offset.combine(scores[[n]], projected[[n]], both[n]) for n in range(3)]
    torch.testing.assert_close(offset.combine(scores, projected, both), torch.cat(each))
