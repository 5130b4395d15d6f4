"""A speaker's offset: as slow loops compute it, and as close to the true one as the model allows."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from affetto.models.enrolment import SpeakerOffset, spread

CLASSES, DIM = 4, 6
ALWAYS_ONE_SIDED = torch.tensor([50.0, 60.0])


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
        offset = SpeakerOffset(DIM, CLASSES)
        offset.fit(vectors, F.one_hot(torch.from_numpy(labels)), numbers)
        return offset

    def truth(self, offset: SpeakerOffset, speaker: np.ndarray) -> Tensor:
        """The true offset in the space of estimates; standardising is linear while nothing is clipped."""
        return torch.from_numpy(speaker).float() / offset.standardise.deviation


def knowing(labels: np.ndarray) -> Tensor:
    """Scores of a recogniser that is always right."""
    return 30.0 * torch.nn.functional.one_hot(torch.from_numpy(labels), CLASSES).float()


def slow_estimate(offset: SpeakerOffset, vectors: Tensor, scores: Tensor) -> list[float]:
    """The formula, number by number."""
    count, dim = vectors.shape
    shares = [sum(math.exp(scores[n, k]) for n in range(count)) / count for k in range(CLASSES)]
    variances = []
    for k in range(CLASSES):
        relative = [float(scores[n, k]) - float(sum(scores[n])) / CLASSES for n in range(count)]
        mean = sum(relative) / count
        variances.append(sum((each - mean) ** 2 for each in relative) / count)
    low, high = offset.spreads.tolist()
    place = (math.log(sum(variances) / CLASSES + 1e-3) - low) / (high - low)
    mixed = min(1.0, max(0.0, place))
    result = []
    for d in range(dim):
        mean, deviation = float(offset.standardise.mean[d]), float(offset.standardise.deviation[d])
        total = sum((float(vectors[n, d]) - mean) / deviation for n in range(count)) / count
        total -= (1 - mixed) * sum(shares[k] * float(offset.class_offsets[k, d]) for k in range(CLASSES))
        between, within = float(offset.between[d]), float(offset.within[d])
        result.append(between / (between + within / count) * total)
    return [*result, mixed]


@pytest.mark.parametrize("spreads", [(-1.0, 1.0), (-3.0, -2.0), (2.0, 3.0)])
def test_estimates_are_those_of_slow_loops(spreads: tuple[float, float]) -> None:
    torch.manual_seed(0)
    world = World()
    offset = world.fitted()
    offset.spreads.copy_(torch.tensor(spreads))
    vectors = world.say(world.speaker(), np.array([0, 1, 1, 3, 2]))
    scores = torch.randn(5, CLASSES).log_softmax(1)
    expected = torch.tensor(slow_estimate(offset, vectors, scores))
    torch.testing.assert_close(offset.estimate(vectors, scores), expected, atol=1e-4, rtol=1e-4)


def test_known_offsets_are_recovered_the_better_the_more_is_heard() -> None:
    world = World()
    offset = world.fitted()
    offset.spreads.copy_(ALWAYS_ONE_SIDED)
    errors = {}
    for count in (4, 16, 200):
        found = []
        for _ in range(20):
            speaker = world.speaker()
            labels = world.generator.integers(CLASSES, size=count)
            estimate = offset.estimate(world.say(speaker, labels), knowing(labels))
            found.append(float((estimate[:-1] - world.truth(offset, speaker)).square().mean()))
        errors[count] = float(np.mean(found))
    assert errors[4] > errors[16] > errors[200]
    between = float(offset.between.mean())
    assert errors[200] < 0.02 * between
    assert errors[4] < 0.25 * between


@pytest.mark.parametrize("certain", [True, False])
def test_one_emotion_only_does_better_than_the_plain_mean(certain: bool) -> None:
    world = World()
    offset = world.fitted()
    offset.spreads.copy_(ALWAYS_ONE_SIDED)
    ours, plain = [], []
    for number in range(20):
        speaker = world.speaker()
        labels = np.full(10, number % CLASSES)
        vectors = world.say(speaker, labels)
        # A recogniser that is right half of the time, and says so, still helps.
        scores = knowing(labels) if certain else knowing(labels).clamp_max(1.1).log_softmax(1)
        truth = world.truth(offset, speaker)
        ours.append(float((offset.estimate(vectors, scores)[:-1] - truth).square().mean()))
        plain.append(float((offset.standardise(vectors).mean(0) - truth).square().mean()))
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
    scale = 1 / offset.standardise.deviation
    within, between = ((scale * each) ** 2 for each in (0.7, 1.5))
    torch.testing.assert_close(offset.within, within, rtol=0.1, atol=0)
    torch.testing.assert_close(offset.between, 2 * between, rtol=0.35, atol=0)  # with other rooms to come


def test_training_vectors_come_back_without_the_offsets_of_their_speakers() -> None:
    world = World(seed=5)
    labels = np.tile(np.arange(40) % CLASSES, 30)
    vectors = torch.cat([world.say(world.speaker(), labels[:40]) for _ in range(30)])
    numbers = torch.arange(30).repeat_interleave(40)
    offset = SpeakerOffset(DIM, CLASSES)
    centred = offset.fit(vectors, F.one_hot(torch.from_numpy(labels)), numbers)
    means = torch.stack([centred[numbers == speaker].mean(0) for speaker in range(30)])
    assert float(means.abs().max()) < 0.02  # every speaker has every class as often
    assert float((centred - offset.class_offsets[labels]).std()) < float(centred.std())


def test_scores_without_enrolment_count_where_one_emotion_alone_is_enrolled() -> None:
    world = World()
    offset = world.fitted()
    offset.spreads.copy_(torch.tensor([0.0, 1.0]))
    offset.trust.fill_(2.0)
    mixed, angry = np.arange(12) % CLASSES, np.zeros(12, int)
    found = {}
    for name, labels in (("mixed", mixed), ("angry", angry)):
        found[name] = offset.estimate(world.say(world.speaker(), labels), knowing(labels))
    assert float(found["mixed"][-1]) == 1.0
    assert float(found["angry"][-1]) == 0.0
    # What speaker, room and language add to all scores alike does not count.
    torch.testing.assert_close(spread(knowing(mixed)), spread(knowing(mixed) + torch.randn(CLASSES)))
    assert float(spread(knowing(mixed))) > float(spread(knowing(mixed)[:2])) > float(spread(knowing(angry)))
    vectors, scores = torch.randn(3, DIM), torch.randn(3, CLASSES).log_softmax(1)
    for name, trust in (("mixed", 0.0), ("angry", 2.0)):
        head = offset.head(offset.standardise(vectors) - found[name][:-1])
        expected = (trust * scores + head) / (1 + trust)
        torch.testing.assert_close(offset.combine(scores, vectors, found[name]), expected)
    both = torch.stack([found["mixed"], found["angry"], found["mixed"]])
    each = [offset.combine(scores[[n]], vectors[[n]], both[n]) for n in range(3)]
    torch.testing.assert_close(offset.combine(scores, vectors, both), torch.cat(each))


def test_a_guess_counts_as_much_as_it_says() -> None:
    world = World(seed=7)
    labels = np.tile(np.arange(24) % CLASSES, 20)
    vectors = torch.cat([world.say(world.speaker(), labels[:24]) for _ in range(20)])
    numbers, known = torch.arange(20).repeat_interleave(24), F.one_hot(torch.from_numpy(labels)).float()
    sure, unsure, blind = (SpeakerOffset(DIM, CLASSES) for _ in range(3))
    sure.fit(vectors, known, numbers)
    unsure.fit(vectors, 0.7 * known + 0.3 / CLASSES, numbers)
    blind.fit(vectors, torch.full_like(known, 1 / CLASSES), numbers)
    torch.testing.assert_close(unsure.class_offsets, 0.7 * sure.class_offsets, rtol=0.05, atol=0.02)
    torch.testing.assert_close(blind.class_offsets, torch.zeros(CLASSES, DIM), rtol=0, atol=1e-5)
