"""Fits the enrolment of a recogniser on training speakers, and measures it on others."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from torch import Tensor

from affetto.models.classifier import EmotionClassifier
from affetto.models.enrolment import SpeakerOffset, adapted, spread

SIZES = (5, 10, 20)
"""Enrolment utterances that fitting and measuring try, beside none and all others of the speaker."""

SKEWED_SIZE = 10
ALL = "all"
_STRENGTHS = (0.001, 0.003, 0.01)
_TRUSTS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
_ALWAYS = {
    "one_sided": (2.0, 3.0),
    "even": (-2.0, -1.0),
}  # evenness by which all moods count as one-sided, or as even
_ROUNDS = 2
_REPEATS = 4  # simulated enrolments of each speaker, size and mix
_SCORED = 12  # utterances scored in one simulated enrolment


class Draw(NamedTuple):
    """One speaker's enrolment: which rows are enrolled and which are scored."""

    enrolled: NDArray[np.int64]
    scored: NDArray[np.int64]


def draws(
    rows: NDArray[np.int64],
    speakers: NDArray[np.str_],
    truth: NDArray[np.int64],
    size: int,
    generator: np.random.Generator,
    emotion: int | None = None,
) -> Iterator[Draw]:
    """Draws enrolment utterances for every speaker that has more than those.

    Args:
        rows: utterances to draw from and to score.
        speakers: speaker of every utterance of the corpus.
        truth: class number of every utterance of the corpus.
        size: enrolment utterances a speaker.
        generator: decides which.
        emotion: draw from one class only, as many as there are up to ``size``; None from all.
    """
    for speaker in np.unique(speakers[rows]):
        own = rows[speakers[rows] == speaker]
        pool = own if emotion is None else own[truth[own] == emotion]
        enrolled = generator.permutation(pool)[:size]
        scored = np.setdiff1d(own, enrolled)
        if len(enrolled) and len(scored):
            yield Draw(enrolled, scored)


def can_enrol(train: NDArray[np.str_], dev: NDArray[np.str_]) -> bool:
    """Whether the speakers of training and dev utterances, ``(N,)`` and ``(M,)``, can fit an enrolment.

    There must be two training speakers, and in either part one with more utterances than the fewest enrolled.
    """
    counts = [np.unique(part, return_counts=True)[1] for part in (train, dev)]
    return len(counts[0]) > 1 and all(count.max(initial=0) > min(SIZES) for count in counts)


def fit_enrolment(
    classifier: EmotionClassifier,
    vectors: Tensor,
    truth: NDArray[np.int64],
    speakers: NDArray[np.str_],
    train: NDArray[np.int64],
    dev: NDArray[np.int64],
    seed: int,
) -> dict[str, float]:
    """Fits a classifier's :class:`~affetto.models.enrolment.SpeakerOffset`.

    Training speakers play the part of new ones: some of their utterances give an offset, and a logistic
    regression learns to tell the emotion of their others without it. Their classes are guessed by a model
    that never saw them, since the recogniser knows its own training utterances too well. There are two of
    them. One learns from enrolments at random, for even moods. The other learns from those and from
    enrolments of one emotion only, for one-sided moods. How strong each is held down and how much it counts
    beside the scores without enrolment is chosen on dev speakers in the same way: the first gains the most
    with random utterances; the second gains the most where it gains least, over all mixes and numbers of
    utterances, since who enrols a speaker rarely knows in which mood the utterances were said.

    Args:
        classifier: fitted otherwise, made with a rank.
        vectors: of all utterances, ``(N, D)``; only rows of train and dev are looked at.
        truth: class numbers, ``(N,)``.
        speakers: ``(N,)``.
        train: training rows.
        dev: dev rows.
        seed: of the draws.

    Returns:
        What was chosen, its dev score over all mixes and numbers of utterances, the gain in the worst of them
        and the mean gain.
    """
    offset = classifier.enrolment
    assert offset is not None
    generator = np.random.default_rng([seed, 7])
    part = vectors[:, classifier.embedder.dim :] if classifier.statistics_dim else vectors
    numbers = torch.from_numpy(np.unique(speakers[train], return_inverse=True)[1])
    offset.fit(part[torch.from_numpy(train)], torch.from_numpy(truth[train]), numbers)
    adaptable = classifier.adaptable(vectors)
    groups = min(5, len(np.unique(speakers[train])))
    # A class that no training utterance has is never guessed.
    guesses = torch.full((len(vectors), len(offset.class_offsets)), -1e4)
    with unsettled():
        guessed = cross_val_predict(
            LogisticRegression(C=0.01, max_iter=200),
            adaptable[torch.from_numpy(train)].numpy(),
            truth[train],
            groups=speakers[train],
            cv=GroupKFold(groups),
            method="predict_log_proba",
        )
    places = np.ix_(train, np.unique(truth[train]))
    guesses[places] = torch.from_numpy(np.maximum(guessed, -1e4)).float()
    own = (classifier.scores(vectors) / classifier.temperature).log_softmax(1)
    classes = int(truth.max()) + 1
    mixes: list[int | None] = [None, *np.unique(truth[dev]).tolist()]

    def scored(mix: int | None, size: int) -> tuple[Tensor, NDArray[np.int64], float]:
        """Returns enrolled scores of dev utterances, their classes, and what enrolment gains in UAR."""
        drawn = np.random.default_rng([seed, 8])
        projected, offsets, labels, plain = _simulate(
            offset, adaptable, own, truth, speakers, dev, drawn, [mix] * _REPEATS, (size,), None
        )
        joined = offset.combine(plain, projected, offsets)
        before, after = (uar(labels, values.argmax(1).numpy()) for values in (plain, joined))
        return joined, labels, after - before

    every = [(mix, size) for mix in mixes for size in SIZES if _can_draw(dev, speakers, truth, size, mix)]
    best: dict[str, float] = {}
    for head, name in ((offset.one_sided, "one_sided"), (offset.even, "even")):
        highest = (-3.0, -3.0)
        chosen: dict[str, Tensor] = {}
        offset.evenness.copy_(torch.tensor(_ALWAYS[name]))
        for strength in _STRENGTHS:
            offset.trust.fill_(1.0)
            # First with guesses as they are, then with guesses refined by the regression of the first round.
            for refined in range(_ROUNDS):
                offset.rounds = 3 if refined else 0
                varied = [
                    mix for _ in range(_REPEATS) for mix in (None, None, int(generator.integers(classes)))
                ]
                projected, offsets, labels, _ = _simulate(
                    offset,
                    adaptable,
                    guesses,
                    truth,
                    speakers,
                    train,
                    generator,
                    [mix for mix in varied if mix is None or name == "one_sided"],
                    SIZES,
                    _SCORED,
                )
                inputs = adapted(projected, offsets[:, :-1])
                with unsettled():
                    regression = LogisticRegression(C=strength, max_iter=300).fit(inputs.numpy(), labels)
                head.assign(*all_classes(regression, len(offset.class_offsets)))
            for trust in _TRUSTS:
                offset.trust.fill_(trust)
                gains = [scored(*cell)[2] for cell in every if name == "one_sided" or cell[0] is None]
                reached = (min(gains) if name == "one_sided" else 0.0, float(np.mean(gains)))
                if reached > highest:
                    highest = reached
                    best |= {f"strength_{name}": strength, f"trust_{name}": trust}
                    chosen = {part: tensor.clone() for part, tensor in head.state_dict().items()}
        head.load_state_dict(chosen)
    offset.trust.copy_(torch.tensor([best["trust_one_sided"], best["trust_even"]]))
    offset.evenness.copy_(torch.tensor(_evenness(own, truth, speakers, dev, seed, mixes)))
    everything = [scored(*cell) for cell in every]
    gains = [gain for _, _, gain in everything]
    joined = torch.cat([one for one, _, _ in everything])
    labels = np.concatenate([one for _, one, _ in everything])
    classifier.enrolled_temperature.fill_(fit_temperature(joined, torch.from_numpy(labels)))
    best |= {"worst_gain": min(gains), "mean_gain": float(np.mean(gains))}
    return best | {"dev_uar": uar(labels, joined.argmax(1).numpy())}


def enrolled_probabilities(
    classifier: EmotionClassifier, vectors: Tensor, chosen: Sequence[Draw]
) -> dict[int, NDArray[np.float64]]:
    """Returns class probabilities of each scored row under its speaker's enrolment."""
    out: dict[int, NDArray[np.float64]] = {}
    with torch.no_grad():
        for draw in chosen:
            offset = classifier.offset(vectors[torch.from_numpy(draw.enrolled)])
            values = classifier.probabilities(vectors[torch.from_numpy(draw.scored)], offset)
            out.update(zip(draw.scored.tolist(), values.double().numpy(), strict=True))
    return out


def all_others(rows: NDArray[np.int64], speakers: NDArray[np.str_]) -> Iterator[Draw]:
    """For each row, enrols all other rows of its speaker."""
    for speaker in np.unique(speakers[rows]):
        own = rows[speakers[rows] == speaker]
        for row in own:
            if len(own) > 1:
                yield Draw(own[own != row], np.array([row]))


def fit_temperature(scores: Tensor, target: Tensor) -> float:
    """Returns the temperature at which ``scores (N, K)`` explain a target best (Guo et al. 2017).

    Args:
        scores: ``(N, K)``.
        target: class numbers ``(N,)``, or distributions ``(N, K)``.
    """
    from scipy.optimize import minimize_scalar

    target = target.double() if target.is_floating_point() else target

    def loss(log_temperature: float) -> float:
        scaled = scores.double() / float(np.exp(log_temperature))
        return float(torch.nn.functional.cross_entropy(scaled, target))

    return float(np.exp(minimize_scalar(loss, bounds=(-4.0, 4.0), method="bounded").x))


def _simulate(
    offset: SpeakerOffset,
    adaptable: Tensor,
    scores: Tensor,
    truth: NDArray[np.int64],
    speakers: NDArray[np.str_],
    rows: NDArray[np.int64],
    generator: np.random.Generator,
    mixes: Sequence[int | None],
    sizes: Sequence[int],
    scored: int | None,
) -> tuple[Tensor, Tensor, NDArray[np.int64], Tensor]:
    """Enrols every speaker in each mix and size.

    Returns:
        Of what was scored: projected vectors, what is known of their speakers ``(B, R + 1)``, labels, scores.
    """
    parts: list[tuple[Tensor, Tensor, NDArray[np.int64], Tensor]] = []
    for size in sizes:
        for emotion in mixes:
            for draw in draws(rows, speakers, truth, size, generator, emotion):
                enrolled = torch.from_numpy(draw.enrolled)
                known = offset.estimate(adaptable[enrolled], scores[enrolled])
                kept = generator.permutation(draw.scored)[:scored]
                index = torch.from_numpy(kept)
                parts.append((adaptable[index], known.expand(len(kept), -1), truth[kept], scores[index]))
    projected, offsets, labels, own = zip(*parts, strict=True)
    return torch.cat(projected), torch.cat(offsets), np.concatenate(labels), torch.cat(own)


def _evenness(
    scores: Tensor,
    truth: NDArray[np.int64],
    speakers: NDArray[np.str_],
    rows: NDArray[np.int64],
    seed: int,
    mixes: Sequence[int | None],
) -> tuple[float, float]:
    """Returns how evenly guesses are spread: upper quartile of one emotion only, median of random ones."""
    generator = np.random.default_rng([seed, 9])
    found: dict[bool, list[float]] = {True: [], False: []}
    for size in SIZES:
        for emotion in mixes:
            for draw in draws(rows, speakers, truth, size, generator, emotion):
                found[emotion is None].append(float(spread(scores[torch.from_numpy(draw.enrolled)])))
    return float(np.quantile(found[False] or [0.0], 0.75)), float(np.median(found[True]))


def _can_draw(
    rows: NDArray[np.int64],
    speakers: NDArray[np.str_],
    truth: NDArray[np.int64],
    size: int,
    emotion: int | None,
) -> bool:
    return any(True for _ in draws(rows, speakers, truth, size, np.random.default_rng(0), emotion))


@contextmanager
def unsettled() -> Iterator[None]:
    """Lets a regression stop after its last step, settled or not: dev scores it as it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def all_classes(
    regression: LogisticRegression, classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns weights and bias with a row for every class, even if some were missing or there were two."""
    weight, bias = np.atleast_2d(regression.coef_), np.atleast_1d(regression.intercept_)
    if len(weight) == 1 and len(regression.classes_) == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    full = np.zeros((classes, weight.shape[1]))
    offset = np.full(classes, -20.0)
    full[regression.classes_], offset[regression.classes_] = weight, bias
    return full, offset


def uar(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
    """Returns the recall of ``labels (N,)`` by ``predicted (N,)``, averaged over the classes that occur."""
    return float(np.mean([np.mean(predicted[labels == label] == label) for label in np.unique(labels)]))
