"""Fits the enrolment of a recogniser on training speakers, and measures it on others."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from torch import Tensor

from affetto.evaluation.metrics import uar
from affetto.finetuning.classical import all_classes, unsettled
from affetto.material.labelled import Material
from affetto.models.classifier import EmotionClassifier
from affetto.models.enrolment import SpeakerDraw, SpeakerOffset, adapted, draws, evenness

Rows = NDArray[np.int64]
Cell = tuple[int | None, int]
"""The mix of enrolled utterances, None or one emotion, and their number."""

SIZES = (5, 10, 20)
"""Enrolment utterances that fitting and measuring try, besides none and all others of the speaker."""
SKEWED_SIZE = 10

_STRENGTHS = (0.001, 0.003, 0.01)
_TRUSTS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
# While one head is fitted, these limits of evenness make every enrolment count for that head alone.
_ALWAYS = {"one_sided": (2.0, 3.0), "even": (-2.0, -1.0)}
_REPEATS = 4  # simulated enrolments of each speaker, size and mix
_SCORED = 12  # utterances scored in one simulated enrolment
_NEVER = -1e4  # log-probability of a class that no training utterance has


def can_enrol(train: NDArray[np.str_], dev: NDArray[np.str_]) -> bool:
    """Whether there are two training speakers, and in both parts one with more utterances than the fewest."""
    counts = [np.unique(part, return_counts=True)[1] for part in (train, dev)]
    return len(counts[0]) > 1 and all(count.max(initial=0) > min(SIZES) for count in counts)


def fit_enrolment(
    classifier: EmotionClassifier, vectors: Tensor, material: Material, train: Rows, dev: Rows, seed: int
) -> dict[str, float]:
    """Fits a classifier's :class:`~affetto.models.enrolment.SpeakerOffset` by simulated enrolments.

    Some utterances of a training speaker are enrolled and give an offset. A logistic regression then learns
    the emotion of the speaker's others from their vectors without the offset. There are two regressions. The
    one for even moods learns from enrolments drawn at random. The one for one-sided moods also learns from
    enrolments of a single emotion. The strength of each, and the weight of the scores without enrolment, are
    chosen on dev speakers, enrolled in the same way: the even one for the highest mean gain, the one-sided
    one for the highest gain in its worst mix and size, since the mood of enrolled utterances is rarely known.

    Returns what was chosen, its dev score over all mixes and sizes, and its worst and mean gain.
    """
    truth, speakers, offset = material.truth, material.speakers, classifier.enrolment
    assert offset is not None
    part = vectors[:, classifier.embedder.dim :] if classifier.statistics_dim else vectors
    numbers = torch.from_numpy(np.unique(speakers[train], return_inverse=True)[1])
    offset.fit(part[torch.from_numpy(train)], torch.from_numpy(truth[train]), numbers)
    scores = (classifier.scores(vectors) / classifier.temperature).log_softmax(1)
    draw = partial(draws, speakers, truth)
    mixes = [None, *np.unique(truth[dev]).tolist()]
    fitting = _Fitting(offset, classifier.adaptable(vectors), scores, truth, train, dev, mixes, draw, seed)
    generator = np.random.default_rng([seed, 7])
    guesses = fitting.guesses(speakers)
    best = fitting.head("one_sided", guesses, generator) | fitting.head("even", guesses, generator)
    offset.trust.copy_(torch.tensor([best["trust_one_sided"], best["trust_even"]]))
    offset.evenness.copy_(torch.tensor(fitting.evenness()))
    scored, truths, gains = zip(*(fitting.measure(*cell) for cell in fitting.cells()), strict=True)
    joined, labels = torch.cat(scored), np.concatenate(truths)
    classifier.enrolled_temperature.fill_(fit_temperature(joined, torch.from_numpy(labels)))
    best |= {"worst_gain": min(gains), "mean_gain": float(np.mean(gains))}
    return best | {"dev_uar": uar(labels, joined.argmax(1).numpy())}


class _Fitting(NamedTuple):
    """One fold under way: projected vectors, scores without enrolment, and both parts."""

    offset: SpeakerOffset
    adaptable: Tensor
    scores: Tensor
    truth: Rows
    train: Rows
    dev: Rows
    mixes: list[int | None]  # an emotion, or None for a random mix
    draw: Callable[..., Iterator[SpeakerDraw]]
    seed: int

    def guesses(self, speakers: NDArray[np.str_]) -> Tensor:
        """Returns log-probabilities of training utterances by models without their speakers."""
        train, truth = self.train, self.truth[self.train]
        with unsettled():
            guessed = cross_val_predict(
                LogisticRegression(C=0.01, max_iter=200),
                self.adaptable[torch.from_numpy(train)].numpy(),
                truth,
                groups=speakers[train],
                cv=GroupKFold(min(5, len(np.unique(speakers[train])))),
                method="predict_log_proba",
            )
        guesses = torch.full(self.scores.shape, _NEVER)
        guesses[np.ix_(train, np.unique(truth))] = torch.from_numpy(np.maximum(guessed, _NEVER)).float()
        return guesses

    def head(self, name: str, guesses: Tensor, generator: np.random.Generator) -> dict[str, float]:
        """Fits one of the two heads, and returns its strength and trust."""
        head, one_sided = getattr(self.offset, name), name == "one_sided"
        self.offset.evenness.copy_(torch.tensor(_ALWAYS[name]))
        cells = [cell for cell in self.cells() if one_sided or cell[0] is None]
        highest, best, chosen = (-3.0, -3.0), {}, {}
        for strength in _STRENGTHS:
            self._learn(name, strength, guesses, generator)
            for trust in _TRUSTS:
                self.offset.trust.fill_(trust)
                gains = [self.measure(*cell)[2] for cell in cells]
                reached = (min(gains) if one_sided else 0.0, float(np.mean(gains)))
                if reached > highest:
                    highest, best = reached, {f"strength_{name}": strength, f"trust_{name}": trust}
                    chosen = {part: tensor.clone() for part, tensor in head.state_dict().items()}
        head.load_state_dict(chosen)
        return best

    def _learn(self, name: str, strength: float, guesses: Tensor, generator: np.random.Generator) -> None:
        self.offset.trust.fill_(1.0)
        # First with the guesses as they are, then with guesses refined by the regression of the first round.
        for rounds in (0, 3):
            self.offset.rounds = rounds
            drawn = generator.integers(int(self.truth.max()) + 1, size=_REPEATS).tolist()
            mixes: list[int | None] = [mix for emotion in drawn for mix in (None, None, emotion)]
            if name == "even":
                mixes = [mix for mix in mixes if mix is None]
            cells = [(mix, size) for size in SIZES for mix in mixes]
            projected, offsets, labels, _ = self._simulate(self.train, guesses, cells, generator, _SCORED)
            inputs = adapted(projected, offsets[:, :-1])
            with unsettled():
                regression = LogisticRegression(C=strength, max_iter=300).fit(inputs.numpy(), labels)
            getattr(self.offset, name).assign(*all_classes(regression, len(self.offset.class_offsets)))

    def measure(self, mix: int | None, size: int) -> tuple[Tensor, Rows, float]:
        """Enrols dev speakers, always the same utterances; returns scores, labels, and the gain in UAR."""
        generator = np.random.default_rng([self.seed, 8])
        cells = [(mix, size)] * _REPEATS
        projected, offsets, labels, plain = self._simulate(self.dev, self.scores, cells, generator, None)
        joined = self.offset.combine(plain, projected, offsets)
        before, after = (uar(labels, each.argmax(1).numpy()) for each in (plain, joined))
        return joined, labels, after - before

    def cells(self) -> list[Cell]:
        """Returns the mixes and sizes that a dev speaker can be enrolled in."""
        cells = [(mix, size) for mix in self.mixes for size in SIZES]
        generator = np.random.default_rng(0)
        return [
            (mix, size) for mix, size in cells if any(True for _ in self.draw(self.dev, size, generator, mix))
        ]

    def evenness(self) -> tuple[float, float]:
        """Returns the spread of predictions: upper quartile of one-sided mixes, median of random ones."""
        generator = np.random.default_rng([self.seed, 9])
        found: dict[bool, list[float]] = {True: [], False: []}
        for size in SIZES:
            for mix in self.mixes:
                for drawn in self.draw(self.dev, size, generator, mix):
                    found[mix is None].append(float(evenness(self.scores[torch.from_numpy(drawn.enrolled)])))
        return float(np.quantile(found[False] or [0.0], 0.75)), float(np.median(found[True]))

    def _simulate(
        self,
        rows: Rows,
        scores: Tensor,
        cells: Iterable[Cell],
        generator: np.random.Generator,
        most: int | None,
    ) -> tuple[Tensor, Tensor, Rows, Tensor]:
        """Enrols every speaker of some rows in each mix and size, and scores up to ``most`` of the others.

        Returns their projected vectors, their speakers' offsets ``(B, R + 1)``, labels, and plain scores.
        """
        parts = []
        for mix, size in cells:
            for drawn in self.draw(rows, size, generator, mix):
                enrolled = torch.from_numpy(drawn.enrolled)
                known = self.offset.estimate(self.adaptable[enrolled], scores[enrolled])
                kept = generator.permutation(drawn.scored)[:most]
                index = torch.from_numpy(kept)
                offsets = known.expand(len(kept), -1)
                parts.append((self.adaptable[index], offsets, self.truth[kept], scores[index]))
        projected, every, labels, plain = zip(*parts, strict=True)
        return torch.cat(projected), torch.cat(every), np.concatenate(labels), torch.cat(plain)


@torch.no_grad()
def enrolled_probabilities(
    classifier: EmotionClassifier, vectors: Tensor, drawn: Sequence[SpeakerDraw]
) -> NDArray[np.float64]:
    """Returns class probabilities ``(N, K)`` of the scored rows under their speakers' enrolment, NaN else."""
    found = np.full((len(vectors), len(classifier.settings.labels)), np.nan)
    for each in drawn:
        offset = classifier.offset(vectors[torch.from_numpy(each.enrolled)])
        scored = classifier.answers(vectors[torch.from_numpy(each.scored)], offset)
        found[each.scored] = scored.double().numpy()
    return found


def fit_temperature(scores: Tensor, target: Tensor) -> float:
    """Returns the best temperature of ``scores (N, K)`` for classes ``(N,)`` or shares (Guo et al. 2017)."""
    from scipy.optimize import minimize_scalar

    target = target.double() if target.is_floating_point() else target

    def loss(log_temperature: float) -> float:
        scaled = scores.double() / float(np.exp(log_temperature))
        return float(torch.nn.functional.cross_entropy(scaled, target))

    return float(np.exp(minimize_scalar(loss, bounds=(-4.0, 4.0), method="bounded").x))
