"""Fits a network that reads strength of emotion frame by frame: rankers make its targets, dev chooses."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from affetto.augment import AugmentConfig
from affetto.config import Settings
from affetto.data import LengthBuckets, Loader
from affetto.errors import ManifestError
from affetto.intensity.curves import TAILS
from affetto.intensity.folder import FOLDER, NEUTRAL, load_strength, save_strength
from affetto.intensity.network import StrengthNet, StrengthSettings
from affetto.intensity.objective import LearnStrength, StrengthLossSettings
from affetto.intensity.ranker import fit_ranker, order_by_speaker
from affetto.intensity.reading import read_strengths, reading
from affetto.material.recordings import Recordings
from affetto.models.embedders import FunctionalsSettings, build_embedder
from affetto.progress import progress
from affetto.runs import RunFolder
from affetto.training import TrainSettings, fit, make_accelerator, seed_everything

COSTS = (1.0, 10.0, 100.0, 1000.0)
"""Costs of the rankers that dev chooses from."""


class RankerSettings(Settings):
    """How intensity is learned from emotion labels.

    Attributes:
        functionals: what the linear rankers look at.
        centre: take each speaker's mean away first, from what rankers and network look at; it is that of
            all the speaker's utterances, and needs no labels.
        similar: weight of similar pairs against ordered ones.
        network: the network that follows them frame by frame.
        loss: weights of its losses.
        augment: what is done to its log-mel frames in training.
        train: the loop.
        seed: of everything random.
    """

    functionals: FunctionalsSettings = FunctionalsSettings()
    centre: bool = True
    similar: float = Field(1.0, ge=0)
    network: StrengthSettings = StrengthSettings()
    loss: StrengthLossSettings = StrengthLossSettings()
    augment: AugmentConfig = AugmentConfig(
        gain_db=6.0,
        speed=(0.9, 1.1),
        time_masks=2,
        time_mask_frames=25,
        frequency_masks=2,
        frequency_mask_bins=14,
    )
    train: TrainSettings = TrainSettings(epochs=10, batch_size=64, learning_rate=2e-3)
    seed: int = 0


class Labelled(NamedTuple):
    """The rows of one fold that labels are read of.

    Attributes:
        train: rows to learn from.
        dev: rows to choose on.
        truth: class of every utterance, ``(N,)``, -1 where it is not to be known.
        labels: the K classes.
        speakers: number of the speaker of every utterance, ``(N,)``.
    """

    train: NDArray[np.int64]
    dev: NDArray[np.int64]
    truth: NDArray[np.int64]
    labels: list[str]
    speakers: NDArray[np.int64]

    @property
    def neutral(self) -> int:
        """The number of the neutral class."""
        return self.labels.index(NEUTRAL)


def check_labels(labels: Sequence[str], what: str) -> None:
    """Checks that classes can be ranked.

    Raises:
        ManifestError: without neutral, or without anything else.
    """
    if NEUTRAL not in labels or len(labels) < 2:
        raise ManifestError(
            f"{what} has the classes {', '.join(labels) or '(none)'}; intensity is how far speech lies above "
            f"{NEUTRAL}, so that {NEUTRAL} and another are needed: choose another protocol, or --source "
            "loudness or voicing"
        )


def utterance_strengths(
    recordings: Recordings, known: Labelled, settings: RankerSettings
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Ranks utterances by relative attributes, one ranker an emotion against neutral.

    An emotional utterance has the score of its emotion's ranker, brought to 0 to 1 by the range over the
    training utterances that are neutral or of that emotion; a neutral one the mean over all rankers.

    Returns:
        Strengths ``(N,)``, NaN outside training and dev, and what dev chose.
    """
    vectors = recordings.vectors(build_embedder(settings.functionals).eval()).double().numpy()
    if settings.centre:
        counts = np.bincount(known.speakers)
        sums = np.zeros((len(counts), vectors.shape[1]))
        np.add.at(sums, known.speakers, vectors)
        vectors = vectors - (sums / np.maximum(counts, 1)[:, None])[known.speakers]
    train = known.train
    mean, deviation = vectors[train].mean(0), vectors[train].std(0)
    # About as long as wide, whatever the number of columns, so that the costs mean the same.
    vectors = (vectors - mean) / np.maximum(deviation, 1e-6) / np.sqrt(vectors.shape[1])
    rows = np.concatenate([known.train, known.dev])
    strengths = np.full(len(vectors), np.nan, np.float32)
    of_neutral = []
    choices: dict[str, Any] = {}
    for number, label in enumerate(known.labels):
        if number == known.neutral:
            continue
        pair = train[np.isin(known.truth[train], (number, known.neutral))]
        if (known.truth[pair] == known.neutral).all():
            continue
        direction, chosen = _best_ranker(vectors, pair, known, number, settings.similar)
        choices[label] = chosen
        scores = vectors @ direction
        low, high = np.percentile(scores[pair], TAILS)
        scores = ((scores - low) / max(high - low, 1e-9)).clip(0, 1)
        own = rows[known.truth[rows] == number]
        strengths[own] = scores[own]
        of_neutral.append(scores)
    calm = rows[known.truth[rows] == known.neutral]
    if not of_neutral or not np.isin(calm, train).any():
        raise ManifestError(
            f"the training part has no utterances of {NEUTRAL} and another emotion; choose another protocol"
        )
    strengths[calm] = np.mean(of_neutral, axis=0)[calm]
    return strengths, choices


def _best_ranker(
    vectors: NDArray[np.float64], pair: NDArray[np.int64], known: Labelled, number: int, similar: float
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Fits a ranker with every cost, and keeps the one that orders dev best (the first, of equals)."""
    best, best_direction = {"dev_order": -1.0}, np.zeros(vectors.shape[1])
    dev = known.dev
    for cost in COSTS:
        direction = fit_ranker(
            vectors[pair], known.speakers[pair], known.truth[pair] == number, cost, similar
        )
        shares = order_by_speaker(
            vectors[dev] @ direction, known.speakers[dev], known.truth[dev], known.neutral, len(known.labels)
        )[:, number]
        order = float(np.nanmean(shares)) if np.isfinite(shares).any() else 0.0
        if order > best["dev_order"]:
            best, best_direction = {"dev_order": order, "cost": cost}, direction
    return best_direction, best


def fit_strength(
    recordings: Recordings, known: Labelled, settings: RankerSettings, run: RunFolder
) -> tuple[StrengthNet, dict[str, Any]]:
    """Fits the rankers and then the network; the epoch is the one that orders dev best.

    Args:
        recordings: all utterances, labelled or not.
        known: who may be learned from.
        settings: how.
        run: folder for checkpoints and metrics; an unfinished training there goes on.

    Returns:
        The network in evaluation mode, and what dev chose.
    """
    strengths, choices = utterance_strengths(recordings, known, settings)
    accelerator = make_accelerator(settings.train)
    seed_everything(settings.seed, accelerator.process_index)
    network = StrengthNet(settings.network, len(known.labels))
    store = reading(recordings, network, known.speakers, settings.centre)
    train = known.train[np.isfinite(strengths[known.train])]
    columns = {
        "strength": torch.from_numpy(np.nan_to_num(strengths)),
        "label": torch.from_numpy(known.truth.clip(0)),
    }
    buckets = LengthBuckets(
        recordings.waveforms.lengths[train],
        settings.train.batch_size,
        seed=settings.seed,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    loader = Loader(buckets, [store], train, columns)
    dev = known.dev

    def dev_order(epoch: int) -> float | None:
        means = np.array([curve.mean() for curve in read_strengths(recordings, network, store, dev)])
        shares = order_by_speaker(
            means, known.speakers[dev], known.truth[dev], known.neutral, len(known.labels)
        )
        return float(np.nanmean(shares)) if np.isfinite(shares).any() else None

    history = fit(
        LearnStrength(network, settings.loss, settings.augment),
        loader,
        settings.train,
        run,
        dev_order,
        accelerator,
    )
    best = max(history, key=lambda row: -1.0 if row["score"] is None else row["score"])
    network.cpu().eval()
    return network, {"rankers": choices, "epoch": best["epoch"], "dev_order": best["score"]}


def fit_folds(
    recordings: Recordings,
    folds: dict[int, Labelled],
    settings: RankerSettings,
    run: RunFolder,
    config: dict[int, dict[str, Any]],
) -> dict[int, tuple[StrengthNet, dict[str, Any]]]:
    """Fits a network a fold, or takes what an earlier call of the same run left.

    Args:
        recordings: all utterances.
        folds: who may be learned from, by fold.
        settings: how.
        run: the run; networks go to ``RUN/fold-F/strength``.
        config: what each folder remembers.

    Returns:
        Each network with the config of its folder, by fold.
    """
    networks = {}
    for number, known in progress(folds.items(), "intensity", total=len(folds)):
        folder = RunFolder(run / f"fold-{number}")
        if not folder.done:
            network, choices = fit_strength(recordings, known, settings, folder)
            save_strength(
                folder / FOLDER, network, {**config[number], "centre": settings.centre, "choices": choices}
            )
            folder.finish()
        networks[number] = load_strength(folder / FOLDER)
    return networks
