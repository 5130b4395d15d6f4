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
from affetto.models.enrolment import SpeakerOffset, adapted

SIZES = (5, 10, 20)
"""Enrolment utterances that fitting and measuring try, beside none and all others of the speaker."""

SKEWED_SIZE = 10
ALL = "all"
_STRENGTHS = (0.001, 0.003, 0.01)
_TRUSTS = (0.5, 0.75, 1.0, 1.25, 1.5)
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

    Training speakers play the part of new ones: some of their utterances, at random or of one emotion only,
    give an offset, and a logistic regression learns to tell the emotion of their others without it. Their
    classes are guessed by a model that never saw them, since the recogniser knows its own training
    utterances too well. How strong the regression is held down and how much it counts beside the scores
    without enrolment is chosen on dev speakers in the same way: no mix of enrolment utterances may lose, or
    the worst as little as possible, since who enrols a speaker rarely knows in which mood the utterances
    were said; among those, the mean over mixes decides.

    Args:
        classifier: fitted otherwise, made with a rank.
        vectors: of all utterances, ``(N, D)``; only rows of train and dev are looked at.
        truth: class numbers, ``(N,)``.
        speakers: ``(N,)``.
        train: training rows.
        dev: dev rows.
        seed: of the draws.

    Returns:
        What was chosen, its dev score over all mixes, the gain in the worst mix and over the mixes.
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
    best: dict[str, float] = {"worst_gain": -2.0, "mean_gain": -2.0}
    chosen: dict[str, Tensor] = {}
    temperature = 1.0
    classes = int(truth.max()) + 1
    mixes: list[int | None] = [None, *np.unique(truth[dev]).tolist()]
    for strength in _STRENGTHS:
        # First with guesses as they are, then with guesses refined by the regression of the first round.
        for refined in range(_ROUNDS):
            offset.rounds = 3 if refined else 0
            varied = [mix for _ in range(_REPEATS) for mix in (None, None, int(generator.integers(classes)))]
            inputs, labels, _ = _simulate(
                offset, adaptable, guesses, truth, speakers, train, generator, varied, _SCORED
            )
            with unsettled():
                regression = LogisticRegression(C=strength, max_iter=300).fit(inputs.numpy(), labels)
            offset.head.assign(*all_classes(regression, len(offset.class_offsets)))
        for trust in _TRUSTS:
            offset.trust.fill_(trust)
            everything: list[tuple[Tensor, NDArray[np.int64]]] = []
            gains: list[float] = []
            for mix in mixes:
                drawn = np.random.default_rng([seed, 8])
                repeated = [mix] * _REPEATS
                inputs, labels, scores = _simulate(
                    offset, adaptable, own, truth, speakers, dev, drawn, repeated, None
                )
                joined = offset.trust * scores + offset.head(inputs)
                plain, enrolled = (values.argmax(1).numpy() for values in (scores, joined))
                gains.append(uar(labels, enrolled) - uar(labels, plain))
                everything.append((joined, labels))
            worst, mean = min(gains), float(np.mean(gains))
            if (min(0.0, worst), mean) > (min(0.0, best["worst_gain"]), best["mean_gain"]):
                joined = torch.cat([one for one, _ in everything])
                labels = np.concatenate([one for _, one in everything])
                score = uar(labels, joined.argmax(1).numpy())
                best = {"worst_gain": worst, "mean_gain": mean, "dev_uar": score}
                best |= {"strength": strength, "trust": trust}
                chosen = {name: tensor.clone() for name, tensor in offset.state_dict().items()}
                temperature = fit_temperature(joined, torch.from_numpy(labels))
    offset.load_state_dict(chosen)
    classifier.enrolled_temperature.fill_(temperature)
    return best


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
    scored: int | None,
) -> tuple[Tensor, NDArray[np.int64], Tensor]:
    """Enrols every speaker in each mix and size; returns what was scored: adapted vectors, labels, scores."""
    parts: list[tuple[Tensor, NDArray[np.int64], Tensor]] = []
    for size in SIZES:
        for emotion in mixes:
            for draw in draws(rows, speakers, truth, size, generator, emotion):
                enrolled = torch.from_numpy(draw.enrolled)
                shift = offset.estimate(adaptable[enrolled], scores[enrolled])
                kept = generator.permutation(draw.scored)[:scored]
                index = torch.from_numpy(kept)
                parts.append((adapted(adaptable[index], shift), truth[kept], scores[index]))
    inputs, labels, own = zip(*parts, strict=True)
    return torch.cat(inputs), np.concatenate(labels), torch.cat(own)


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
