"""Trains networks for intensity: rankers make the targets of utterances, dev speakers choose."""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from affetto.augment import AugmentConfig
from affetto.config import Settings
from affetto.data import FeatureCache, LengthBuckets, Loader, Store
from affetto.errors import ManifestError
from affetto.intensity.network import (
    FOLDER,
    IntensityLossSettings,
    IntensityObjective,
    StrengthNet,
    StrengthNetSettings,
    load_strength_net,
    save_strength_net,
)
from affetto.intensity.ranker import NEUTRAL, fit_ranker, order_shares, scaled
from affetto.material.forward import run_over
from affetto.material.recordings import Recordings
from affetto.models.embedders import FunctionalsSettings, build_embedder
from affetto.models.encoder import frame_mask
from affetto.optimising import TrainSettings, make_accelerator, seed_everything
from affetto.runs import RunFolder
from affetto.training import fit
from affetto.vectors.spaces import centred

COSTS = (1.0, 10.0, 100.0, 1000.0)
"""Costs of the rankers that dev chooses from."""

_QUIET, _MIDDLE = -14.0, -7.0  # log-mel of near silence, and of speech on average, as networks expect it
_PAUSE = 25 * np.log(10) / 10  # 25 dB below the loudest frame of an utterance


class RankerSettings(Settings):
    """How intensity is learned from emotion labels."""

    functionals: FunctionalsSettings = FunctionalsSettings()  # features of the linear rankers
    centre: bool = True  # subtract each speaker's mean from what rankers and network read
    similar: float = Field(1.0, ge=0)  # weight of similar pairs against ordered ones
    network: StrengthNetSettings = StrengthNetSettings()  # predicts frame by frame
    loss: IntensityLossSettings = IntensityLossSettings()
    augment: AugmentConfig = AugmentConfig(
        gain_db=6,
        speed=(0.9, 1.1),
        time_masks=2,
        time_mask_frames=25,
        frequency_masks=2,
        frequency_mask_bins=14,
    )
    train: TrainSettings = TrainSettings(epochs=10, batch_size=64, learning_rate=2e-3)
    seed: int = 0


class FoldLabels(NamedTuple):
    """What one fold may learn from: rows to train and to choose on, and the K classes.

    ``truth (N,)`` is every utterance's class, -1 where it must not be known; ``speakers (N,)`` its speaker.
    """

    train: NDArray[np.int64]
    dev: NDArray[np.int64]
    truth: NDArray[np.int64]
    labels: list[str]
    speakers: NDArray[np.int64]

    def dev_order(self, values: NDArray[np.floating], label: str | None = None) -> float | None:
        """Returns how often dev is above neutral, by a value for each of its rows; None for unknown."""
        names = [name for name in self.labels if name != NEUTRAL] if label is None else [label]
        pairs = [(self.labels.index(name), self.labels.index(NEUTRAL)) for name in names]
        shares = order_shares(values, self.speakers[self.dev], self.truth[self.dev], pairs)
        return float(np.nanmean(shares)) if np.isfinite(shares).any() else None


def utterance_intensities(
    recordings: Recordings, known: FoldLabels, settings: RankerSettings
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Ranks utterances by relative attributes, one ranker an emotion against neutral.

    The intensity of an emotional utterance is the score of its emotion's ranker, scaled by the training
    utterances that are neutral or of that emotion; that of a neutral one is the mean over all rankers.
    Returns intensities ``(N,)``, NaN outside training and dev, and what dev chose.
    """
    vectors = recordings.vectors(build_embedder(settings.functionals).eval()).double().numpy()
    if settings.centre:
        vectors = centred(vectors, known.speakers)
    train, truth, neutral = known.train, known.truth, known.labels.index(NEUTRAL)
    mean, deviation = vectors[train].mean(0), vectors[train].std(0)
    # Vectors of length about 1, whatever the number of columns, so that the costs mean the same.
    vectors = (vectors - mean) / np.maximum(deviation, 1e-6) / np.sqrt(vectors.shape[1])
    rows = np.concatenate([train, known.dev])
    found = np.full(len(vectors), np.nan, np.float32)
    of_neutral, choices = [], {}
    for number, label in enumerate(known.labels):
        pair = train[np.isin(truth[train], (number, neutral))]
        if number == neutral or (truth[pair] == neutral).all():
            continue
        direction, choices[label] = _best_ranker(vectors, pair, known, label, settings.similar)
        scores = vectors @ direction
        scores, _ = scaled(scores, scores[pair])
        own = rows[truth[rows] == number]
        found[own] = scores[own]
        of_neutral.append(scores)
    calm = rows[truth[rows] == neutral]
    if not of_neutral or not np.isin(calm, train).any():
        raise ManifestError(
            f"the training part has no utterances of {NEUTRAL} and another emotion; choose another protocol"
        )
    found[calm] = np.mean(of_neutral, axis=0)[calm]
    return found, choices


def _best_ranker(
    vectors: NDArray[np.float64], pair: NDArray[np.int64], known: FoldLabels, label: str, similar: float
) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Fits a ranker with every cost, and keeps the one that orders dev best (the first, of equals)."""
    more, tried = known.truth[pair] == known.labels.index(label), []
    for cost in COSTS:
        direction = fit_ranker(vectors[pair], known.speakers[pair], more, cost, similar)
        tried.append((known.dev_order(vectors[known.dev] @ direction, label) or 0.0, cost, direction))
    order, cost, direction = max(tried, key=lambda each: each[0])
    return direction, {"dev_order": order, "cost": cost}


class SpokenMeanCentred:
    """Log-mel frames minus each speaker's mean, moved to the level of average speech.

    What a voice and its microphone always sound like is gone, loudness against the speaker's own stays.
    Pauses do not count, frames 25 dB below the loudest of an utterance: corpora differ in how much silence
    they leave around speech. ``speakers`` is the number of the speaker of each row.
    """

    def __init__(self, features: FeatureCache, speakers: NDArray[np.int64]) -> None:
        self.features, self.speakers = features, speakers
        count = int(speakers.max(initial=-1)) + 1
        sums, frames = np.zeros((count, features.values.shape[1])), np.zeros((count, 1))
        for row, speaker in enumerate(speakers.tolist()):
            own = np.maximum(features[row], _QUIET)
            loud = np.log(np.exp(own).sum(1))
            spoken = loud >= loud.max() - _PAUSE
            sums[speaker] += own[spoken].sum(0, dtype=np.float64)
            frames[speaker] += spoken.sum()
        means = sums / np.maximum(frames, 1) - _MIDDLE
        self.means = torch.from_numpy(means.astype(np.float32))

    def stack(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Returns frames ``(B, T, F)``, zero past their ends, and lengths ``(B,)``."""
        values, lengths = self.features.stack(rows)
        moved = values.clamp_min(_QUIET) - self.means[self.speakers[rows]][:, None]
        return moved * frame_mask(lengths, values.shape[1]), lengths


def network_input(
    recordings: Recordings, network: StrengthNet, speakers: NDArray[np.int64], centre: bool
) -> Store:
    """Returns log-mel of a network's front end, with or without the speakers' means."""
    features = recordings.features(network.front_end)
    return SpokenMeanCentred(features, speakers) if centre else features


def predict_curves(
    recordings: Recordings, network: StrengthNet, store: Store, rows: NDArray[np.int64]
) -> list[NDArray[np.float32]]:
    """Returns the intensity of every frame of some utterances, ``(T,)`` each, in the order of the rows."""
    lengths, device = recordings.waveforms.lengths[rows], recordings.device
    network.to(device)
    return list(
        run_over(lambda *batch: network(*batch)[:2], store, rows, lengths, module=network, device=device)
    )


def predict_all(recordings: Recordings, network: StrengthNet, centre: bool) -> list[NDArray[np.float32]]:
    """Returns the curve of every recording."""
    store = network_input(recordings, network, speaker_numbers(recordings), centre)
    return predict_curves(recordings, network, store, np.arange(len(recordings.waveforms)))


def speaker_numbers(recordings: Recordings) -> NDArray[np.int64]:
    """Returns the number of each recording's speaker, ``(N,)``; all unknown speakers are one."""
    return np.asarray(np.unique(recordings.manifest.owners, return_inverse=True)[1], np.int64)


def fold_network(
    recordings: Recordings, known: FoldLabels, settings: RankerSettings, run: RunFolder, facts: dict[str, Any]
) -> tuple[StrengthNet, dict[str, Any]]:
    """Fits the rankers and then the network into ``RUN/strength``, or loads what an earlier call left.

    The epoch is the one that orders dev best. The config, which is returned too, holds ``facts`` of the fold.
    """
    if run.done:
        return load_strength_net(run / FOLDER)
    intensities, choices = utterance_intensities(recordings, known, settings)
    accelerator = make_accelerator(settings.train, recordings.device)
    seed_everything(settings.seed, accelerator.process_index)
    network = StrengthNet(settings.network, len(known.labels))
    store = network_input(recordings, network, known.speakers, settings.centre)
    train = known.train[np.isfinite(intensities[known.train])]
    share = {"rank": accelerator.process_index, "world": accelerator.num_processes, "seed": settings.seed}
    buckets = LengthBuckets(recordings.waveforms.lengths[train], settings.train.batch_size, **share)
    columns = {
        "intensity": torch.from_numpy(np.nan_to_num(intensities)),
        "label": torch.from_numpy(known.truth.clip(0)),
    }
    loader = Loader(buckets, [store], train, columns, device=accelerator.device)

    def dev_order(epoch: int) -> float | None:
        curves = predict_curves(recordings, network, store, known.dev)
        return known.dev_order(np.array([curve.mean() for curve in curves]))

    objective = IntensityObjective(network, settings.loss, settings.augment)
    history = fit(objective, loader, settings.train, run, dev_order, accelerator)
    best = max(history, key=lambda row: -1.0 if row["score"] is None else row["score"])
    chosen = {"rankers": choices, "epoch": best["epoch"], "dev_order": best["score"]}
    save_strength_net(run / FOLDER, network, {**facts, "centre": settings.centre, "choices": chosen})
    run.finish()
    return load_strength_net(run / FOLDER)
