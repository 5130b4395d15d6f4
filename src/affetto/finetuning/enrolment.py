"""Fits the enrolment of a recogniser on training speakers, and measures it on others."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from affetto.evaluation.metrics import uar
from affetto.finetuning.classical import Regression, block_path, fit_temperature
from affetto.finetuning.task import FoldTask, Rows
from affetto.models.classifier import EmotionClassifier
from affetto.models.embedders import Joined
from affetto.models.enrolment import SpeakerDraw, SpeakerOffset, draws, spread, with_plain

SIZES = (5, 10, 20)
"""Enrolment utterances that fitting and measuring try, besides none and all others of the speaker."""
SKEWED_SIZE = 10

_STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
_TRUSTS = (0.0, 0.5, 1.0, 2.0)
_REPEATS = 4  # enrolments of each dev speaker, size and mix


def can_enrol(train: NDArray[np.str_], dev: NDArray[np.str_]) -> bool:
    """Whether there are two training speakers, and in both parts one with more utterances than the fewest."""
    counts = [np.unique(part, return_counts=True)[1] for part in (train, dev)]
    return len(counts[0]) > 1 and all(count.max(initial=0) > min(SIZES) for count in counts)


def fit_enrolment(
    classifier: EmotionClassifier, vectors: Tensor, targets: Tensor, task: FoldTask
) -> dict[str, float]:
    """Fits a classifier's :class:`~affetto.models.enrolment.SpeakerOffset`.

    Its head learns the targets ``(N, K)`` from training vectors without the offsets of their speakers. Dev
    speakers are then enrolled with utterances drawn at random, and of one emotion only. The trust is the one
    with the highest gain in the worst mix of one emotion; the strength the one with the highest mean gain
    over random draws, less a loss in that mix. A language head scores such vectors itself.

    Returns what was chosen, its dev score over all mixes and sizes, and its worst and mean gain.
    """
    truth, speakers, offset = task.material.truth, task.material.speakers, classifier.enrolment
    assert offset is not None
    part, train, dev = classifier.adaptable(vectors), task.train, task.dev
    scores = (classifier.scores(vectors) / classifier.temperature).log_softmax(1)
    everyone = task.of_training
    numbers = torch.from_numpy(np.unique(speakers[everyone], return_inverse=True)[1])
    members = scores.softmax(1)
    members[train] = F.one_hot(torch.from_numpy(truth[train]), members.shape[1]).to(members)
    centred = offset.fit(part[everyone], members[everyone], numbers)[: len(train)]
    cells = _cells(truth, speakers, dev, task.seed)
    offset.spreads.copy_(torch.tensor(_spreads(cells, scores)))
    embedder = classifier.embedder
    learned = embedder.learned if isinstance(embedder, Joined) else torch.zeros(0)
    blocks, heads = [~learned, learned] if learned.any() else [], list[Regression]()
    if offset.head:
        on_dev = offset.standardise(part[dev]), targets[dev]
        path = block_path(centred, targets[train], _STRENGTHS, *on_dev, blocks)
        heads = [each for tried in path for each in tried]
    adapted = _by_linear(offset, heads, part, dev) if heads else _by_own(classifier, offset, part)
    tried = [_Try(offset, adapted, part, scores, truth, cell) for cell in cells]
    highest, best, chosen = -np.inf, dict[str, float](), 0
    skewed = [each for each in tried if each.skewed]
    for number, strength in enumerate([each.strength for each in heads] or [0.0]):
        worst = {trust: min([each.gain(number, trust) for each in skewed] or [0.0]) for trust in _TRUSTS}
        trust = max(worst, key=lambda tried: worst[tried])
        gains = [each.gain(number, trust) for each in tried]
        random = [gain for gain, each in zip(gains, tried, strict=True) if not each.skewed]
        reached = float(np.mean(random or [0.0])) + min(0.0, worst[trust])
        if reached > highest:
            highest, chosen, best = reached, number, {"strength": strength, "trust": trust}
            best |= {"share": heads[number].share} if blocks and heads else {}
            best |= {"worst_gain": min(gains), "mean_gain": float(np.mean(gains))}
    if offset.head:
        offset.head.assign(heads[chosen].weight, heads[chosen].bias)
    offset.trust.fill_(best["trust"])
    joined = torch.cat([each.scores(chosen, best["trust"]) for each in tried])
    labels = np.concatenate([each.labels for each in tried])
    classifier.enrolled_temperature.fill_(fit_temperature(joined, torch.from_numpy(labels)))
    return best | {"dev_uar": uar(labels, joined.argmax(1).numpy())}


class _Cell(NamedTuple):
    """Enrolments of dev speakers in one mix and size."""

    skewed: bool  # whether the enrolled are of one emotion
    drawn: list[SpeakerDraw]


def _cells(truth: Rows, speakers: NDArray[np.str_], dev: Rows, seed: int) -> list[_Cell]:
    """Draws the enrolments that dev speakers allow."""
    cells = []
    for mix in (None, *np.unique(truth[dev]).tolist()):
        for size in SIZES:
            generator = np.random.default_rng([seed, 8])
            found = [draws(speakers, truth, dev, size, generator, mix) for _ in range(_REPEATS)]
            if drawn := [each for repeat in found for each in repeat]:
                cells.append(_Cell(mix is not None, drawn))
    return cells


def _spreads(cells: list[_Cell], scores: Tensor) -> tuple[float, float]:
    """Returns the median spread of the scores of one emotion, and the lowest tenth of that of random ones."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for cell in cells:
        found[cell.skewed] += [float(spread(scores[each.enrolled])) for each in cell.drawn]
    return float(np.median(found[True] or [0.0])), float(np.quantile(found[False], 0.1))


Adapted = Callable[[Rows, Tensor, Tensor], Tensor]
"""Scores ``(H, M, K)`` of rows ``(M,)`` by ``H`` heads, without the offsets ``(S, D)`` of their speakers.

Next to these come the rows of each, ``(S,)``.
"""


def _by_linear(offset: SpeakerOffset, heads: Sequence[Regression], vectors: Tensor, dev: Rows) -> Adapted:
    """Linear heads score vectors and offsets once each; the latter are then subtracted."""
    weights = torch.stack([each.weight for each in heads])
    biases = torch.stack([each.bias for each in heads])[:, None]
    plain = torch.zeros(len(heads), len(vectors), weights.shape[1])
    plain[:, dev] = offset.standardise(vectors[dev]) @ weights.mT + biases
    return lambda rows, known, sizes: plain[:, rows] - (known @ weights.mT).repeat_interleave(sizes, 1)


def _by_own(classifier: EmotionClassifier, offset: SpeakerOffset, vectors: Tensor) -> Adapted:
    """The head of the recogniser scores vectors without the offsets."""

    def adapted(rows: Rows, known: Tensor, sizes: Tensor) -> Tensor:
        centred = offset.standardise(vectors[rows]) - known.repeat_interleave(sizes, 0)
        return classifier.calibrated(centred)[None]

    return adapted


class _Try:
    """The scores that heads give the utterances of a cell that are not enrolled."""

    def __init__(
        self,
        offset: SpeakerOffset,
        adapted: Adapted,
        vectors: Tensor,
        scores: Tensor,
        truth: Rows,
        cell: _Cell,
    ) -> None:
        self.skewed = cell.skewed
        scored = np.concatenate([each.scored for each in cell.drawn])
        sizes = torch.tensor([len(each.scored) for each in cell.drawn])
        known = torch.stack(
            [offset.estimate(vectors[each.enrolled], scores[each.enrolled]) for each in cell.drawn]
        )
        self.adapted = adapted(scored, known[:, :-1], sizes)
        self.one_sided = (1 - known[:, -1:]).repeat_interleave(sizes, 0)
        self.plain, self.labels = scores[scored], truth[scored]
        self.before = uar(self.labels, self.plain.argmax(1).numpy())

    def scores(self, head: int, trust: float) -> Tensor:
        """Returns what :meth:`SpeakerOffset.combine` gives with a head."""
        return with_plain(self.adapted[head], self.plain, self.one_sided * trust)

    def gain(self, head: int, trust: float) -> float:
        """Returns the gain in UAR over scores without enrolment."""
        return uar(self.labels, self.scores(head, trust).argmax(1).numpy()) - self.before


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
