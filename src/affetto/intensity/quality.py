"""What curves of intensity are worth: do they order what labels order, and is it more than loudness?"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from affetto.audio import SAMPLE_RATE
from affetto.corpora.curves import aligned
from affetto.evaluation.bootstrap import Interval, speaker_mean
from affetto.features import FrontEnd
from affetto.intensity.curves import levels
from affetto.intensity.folder import NEUTRAL
from affetto.intensity.ranker import order_by_speaker, order_share
from affetto.material.recordings import Recordings

CHANCE = 0.5
ALL = "all"


class Measured(NamedTuple):
    """One figure an utterance, ``(N,)`` each, by which intensity is held against something.

    Attributes:
        intensity: mean of the curve.
        loudness: root mean square of the recording in dB.
        duration: in seconds.
        tracks: correlation of the curve with the level of its frames, NaN where either stands still.
        spread: variance of the curve.
    """

    intensity: NDArray[np.float64]
    loudness: NDArray[np.float64]
    duration: NDArray[np.float64]
    tracks: NDArray[np.float64]
    spread: NDArray[np.float64]


class Quality(NamedTuple):
    """What was found among the utterances that test something.

    Attributes:
        utterances: how many.
        speakers: of how many speakers.
        order: by emotion, and over all: the share of pairs of an emotional and a neutral utterance of a
            speaker that come in this order, by what is ranked by: intensity, loudness, duration.
        means: mean intensity by emotion.
        levels: the share of pairs of two acted levels of a speaker, an emotion and a sentence that come in
            order, by pair of levels and over all, ranked by the same.
        level_correlation: Spearman's, within speakers, of intensity and level.
        correlations: Spearman's, within speakers, of intensity with loudness and duration; and by frame the
            correlation with level.
        within: the share of a speaker's variance, over frames, that lies within utterances.
    """

    utterances: int
    speakers: int
    order: dict[str, dict[str, Interval]]
    means: dict[str, float]
    levels: dict[str, dict[str, Interval]]
    level_correlation: Interval | None
    correlations: dict[str, Interval]
    within: Interval

    def facts(self) -> dict[str, Any]:
        """Returns everything as plain values, for JSON."""

        def plain(value: Any) -> Any:
            if isinstance(value, Interval):
                return [None if each is None or each != each else round(each, 4) for each in value]
            if isinstance(value, dict):
                return {name: plain(each) for name, each in value.items()}
            return round(value, 4) if isinstance(value, float) else value

        return {name: plain(value) for name, value in self._asdict().items()}


def measure(recordings: Recordings, curves: Sequence[NDArray[np.float32]], hop_seconds: float) -> Measured:
    """Measures every utterance once."""
    front_end = FrontEnd()
    rows = []
    for row, curve in enumerate(curves):
        samples = recordings.waveforms[row]
        level = levels(samples, front_end)
        loud = aligned(level, front_end.hop_seconds, len(curve), hop_seconds)
        still = min(float(np.ptp(curve)), float(np.ptp(loud))) < 1e-6
        tracks = np.nan if still else float(np.corrcoef(curve, loud)[0, 1])
        power = max(float(np.mean(np.square(samples, dtype=np.float64))), 1e-10)
        rows.append(
            (
                float(curve.mean()),
                10 * np.log10(power),
                len(samples) / SAMPLE_RATE,
                tracks,
                float(curve.var()),
            )
        )
    return Measured(*np.array(rows, np.float64).reshape(-1, 5).T)


def judge(
    measured: Measured,
    tested: NDArray[np.bool_],
    speakers: NDArray[np.int64],
    truth: NDArray[np.int64],
    labels: Sequence[str],
    acted: NDArray[np.float64] | None,
    sentences: NDArray[np.int64],
) -> Quality:
    """Judges curves on the utterances that test something.

    Args:
        measured: of all N utterances.
        tested: of whose speakers no label was seen, ``(N,)``.
        speakers: number of the speaker of each, ``(N,)``.
        truth: number of the emotion of each, ``(N,)``; -1 for none.
        labels: the K emotions.
        acted: level of each, ``(N,)``, NaN for none; None where the manifest has none.
        sentences: number of what is said, ``(N,)``; -1 where unknown.
    """
    by = {name: getattr(measured, name)[tested] for name in ("intensity", "loudness", "duration")}
    speakers = np.unique(speakers[tested], return_inverse=True)[1]
    truth, sentences = truth[tested], sentences[tested]
    order: dict[str, dict[str, Interval]] = {}
    if NEUTRAL in labels:
        neutral = list(labels).index(NEUTRAL)
        for name, values in by.items():
            shares = order_by_speaker(values, speakers, truth, neutral, len(labels))
            own = {label: speaker_mean(shares[:, number]) for number, label in enumerate(labels)}
            known = {label: found for label, found in own.items() if found.value == found.value}
            if known:
                order[name] = {ALL: speaker_mean(_row_means(shares)), **known}
    means = {
        label: float(by["intensity"][truth == number].mean())
        for number, label in enumerate(labels)
        if (truth == number).any()
    }
    found_levels: dict[str, dict[str, Interval]] = {}
    correlation = None
    if acted is not None:
        groups = np.unique(np.stack([speakers, truth, sentences]), axis=1, return_inverse=True)[1].reshape(-1)
        acted = acted[tested]
        for name, values in by.items():
            if pairs := _level_pairs(values, acted, groups, speakers):
                found_levels[name] = pairs
        if found_levels:
            correlation = _level_correlation(by["intensity"], acted, groups, speakers)
    correlations = {
        f"{name}, by utterance": _within(by["intensity"], by[name], speakers)
        for name in ("loudness", "duration")
    }
    tracks = measured.tracks[tested]
    correlations["loudness, by frame"] = speaker_mean(
        np.array([_mean(tracks[speakers == speaker]) for speaker in np.unique(speakers)])
    )
    spread, inside = measured.spread[tested], []
    for speaker in np.unique(speakers):
        own = speakers == speaker
        all_of_it = float(spread[own].mean() + by["intensity"][own].var())
        inside.append(float(spread[own].mean()) / all_of_it if all_of_it else np.nan)
    return Quality(
        int(tested.sum()),
        len(inside),
        order,
        means,
        found_levels,
        correlation,
        correlations,
        speaker_mean(np.array(inside, np.float64)),
    )


def _level_pairs(
    values: NDArray[np.float64],
    acted: NDArray[np.float64],
    groups: NDArray[np.int64],
    speakers: NDArray[np.int64],
) -> dict[str, Interval]:
    """Returns how often the higher of two levels comes out higher, by pair of levels, over speakers."""
    steps = np.unique(acted[np.isfinite(acted)]).tolist()
    pairs = [(low, high) for place, low in enumerate(steps) for high in steps[place + 1 :]]
    shares = np.full((int(speakers.max(initial=-1)) + 1, len(pairs)), np.nan)
    for speaker in range(len(shares)):
        own = np.flatnonzero((speakers == speaker) & np.isfinite(acted))
        for column, (low, high) in enumerate(pairs):
            found = [
                order_share(values[part[acted[part] == high]], values[part[acted[part] == low]])
                for group in np.unique(groups[own])
                for part in [own[groups[own] == group]]
            ]
            shares[speaker, column] = _mean(np.array(found))
    if not np.isfinite(shares).any():
        return {}
    named = {f"{low:g} < {high:g}": speaker_mean(shares[:, at]) for at, (low, high) in enumerate(pairs)}
    return {ALL: speaker_mean(_row_means(shares)), **named}


def _level_correlation(
    values: NDArray[np.float64],
    acted: NDArray[np.float64],
    groups: NDArray[np.int64],
    speakers: NDArray[np.int64],
) -> Interval:
    """Spearman's correlation with the level in each speaker, the mean of each group taken away first."""
    there = np.isfinite(acted)
    several = np.array([len(np.unique(acted[there & (groups == group)])) > 1 for group in groups])
    used = there & several
    left, right = values.copy(), acted.copy()
    for group in np.unique(groups[used]):
        own = used & (groups == group)
        left[own] -= left[own].mean()
        right[own] -= right[own].mean()
    return _within(left[used], right[used], speakers[used])


def _within(left: NDArray[np.float64], right: NDArray[np.float64], speakers: NDArray[np.int64]) -> Interval:
    """Averages Spearman's correlation within each speaker over the speakers."""
    found = []
    for speaker in np.unique(speakers):
        own = speakers == speaker
        varied = own.sum() > 2 and np.ptp(left[own]) > 0 and np.ptp(right[own]) > 0
        found.append(float(spearmanr(left[own], right[own]).statistic) if varied else np.nan)
    return speaker_mean(np.array(found, np.float64))


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _row_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.array([_mean(row) for row in values])
