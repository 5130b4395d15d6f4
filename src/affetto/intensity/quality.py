"""Quality of curves of intensity: what they order, and what loudness alone orders."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affetto.audio import SAMPLE_RATE
from affetto.corpora.curves import aligned
from affetto.evaluation.bootstrap import Interval, speaker_mean
from affetto.features import FrontEnd
from affetto.intensity.ranker import NEUTRAL, loudness, order_shares
from affetto.material.recordings import Recordings

ALL = "all"
ALIKE = ["speaker", "emotion", "text"]  # what utterances share whose acted intensities are compared
MEASURES = ("intensity", "loudness", "duration")
"""What utterances are ranked by: the mean of the curve, the root mean square in dB, the seconds."""


def measure(
    recordings: Recordings, curves: Sequence[NDArray[np.float32]], hop_seconds: float
) -> pd.DataFrame:
    """Returns :data:`MEASURES` of every utterance, the variance of its curve (``spread``), and ``tracks``.

    ``tracks`` is the correlation of the curve with the level of its frames, NaN where either is constant.
    """
    front_end = FrontEnd()
    rows = []
    for row, curve in enumerate(curves):
        samples = recordings.waveforms[row]
        loud = aligned(loudness(samples, front_end), front_end.hop_seconds, len(curve), hop_seconds)
        constant = min(float(np.ptp(curve)), float(np.ptp(loud))) < 1e-6
        tracks = np.nan if constant else float(np.corrcoef(curve, loud)[0, 1])
        power = max(float(np.mean(np.square(samples, dtype=np.float64))), 1e-10)
        level = 10 * np.log10(power)
        rows.append((float(curve.mean()), level, len(samples) / SAMPLE_RATE, float(curve.var()), tracks))
    return pd.DataFrame(rows, columns=[*MEASURES, "spread", "tracks"], dtype=np.float64)


def judge(table: pd.DataFrame) -> dict[str, Any]:
    """Judges curves on utterances of speakers whose labels were not seen, figures as :class:`Interval`.

    ``table`` has the columns of :func:`measure`, ``speaker``, ``emotion`` and ``text`` (missing where
    unknown), and ``acted``, the acted intensity as a number. ``order`` is the share of pairs of an emotional
    and a neutral utterance of a speaker in this order, ``levels`` that of pairs of two acted intensities of a
    speaker, an emotion and a sentence, by measure and over all or part by part; correlations are Spearman's
    within speakers, by frame Pearson's within utterances; ``within`` is the share of a speaker's variance
    over frames that is within utterances.
    """
    table = table.assign(speaker=pd.factorize(table["speaker"])[0])
    speakers = table.groupby("speaker")
    spread = speakers["spread"].mean()
    variance = spread + speakers["intensity"].var(ddof=0)
    levels = _level_pairs(table)
    return {
        "utterances": len(table),
        "speakers": len(speakers),
        "order": _order(table),
        "means": {str(name): float(own.mean()) for name, own in table.groupby("emotion")["intensity"]},
        "levels": levels,
        "level_correlation": _level_correlation(table) if levels else None,
        "correlations": {
            "loudness, by utterance": _correlation(table, "intensity", "loudness"),
            "duration, by utterance": _correlation(table, "intensity", "duration"),
            "loudness, by frame": _over(speakers["tracks"].mean()),
        },
        "within": _over(spread / variance.where(variance > 0)),
    }


def plain(value: Any) -> Any:
    """Returns the figures of :func:`judge` for JSON."""
    if isinstance(value, Interval):
        return [None if each is None or each != each else round(each, 4) for each in value]
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def _order(table: pd.DataFrame) -> dict[str, dict[str, Interval]]:
    labels = sorted(table["emotion"].dropna().unique())
    if NEUTRAL not in labels:
        return {}
    labels.remove(NEUTRAL)
    pairs = [(label, NEUTRAL) for label in labels]
    speakers, classes = table["speaker"].to_numpy(), table["emotion"].to_numpy(object)
    found = {}
    for name in MEASURES:
        shares = order_shares(table[name].to_numpy(), speakers, classes, pairs)
        found[name] = _with_all(pd.DataFrame(shares, columns=labels))
    return {name: own for name, own in found.items() if len(own) > 1}


def _level_pairs(table: pd.DataFrame) -> dict[str, dict[str, Interval]]:
    """Returns how often the higher of two acted intensities comes out higher, by measure and pair."""
    known = table[np.isfinite(table["acted"])]
    pairs = [(high, low) for low, high in combinations(sorted(known["acted"].unique()), 2)]
    groups = known.groupby(ALIKE, dropna=False)
    speakers = groups["speaker"].first().to_numpy()
    found = {}
    for name in MEASURES:
        numbers, acted = groups.ngroup().to_numpy(), known["acted"].to_numpy()
        shares = order_shares(known[name].to_numpy(), numbers, acted, pairs)
        columns = [f"{low:g} < {high:g}" for high, low in pairs]
        by_speaker = pd.DataFrame(shares, columns=columns).groupby(speakers).mean()
        if by_speaker.notna().any(axis=None):
            found[name] = _with_all(by_speaker)
    return found


def _level_correlation(table: pd.DataFrame) -> Interval:
    """Correlates intensity with acted intensity, the mean of each emotion and sentence subtracted."""
    known = table[np.isfinite(table["acted"])]
    groups = known.groupby(ALIKE, dropna=False)
    names = ["intensity", "acted"]
    centred = known.assign(**{name: known[name] - groups[name].transform("mean") for name in names})
    return _correlation(centred[groups["acted"].transform("nunique") > 1], *names)


def _correlation(table: pd.DataFrame, left: str, right: str) -> Interval:
    """Averages Spearman's correlation within each speaker over the speakers."""
    found = [own[left].corr(own[right], "spearman", min_periods=3) for _, own in table.groupby("speaker")]
    return speaker_mean(np.array(found, np.float64))


def _over(by_speaker: pd.Series) -> Interval:
    return speaker_mean(by_speaker.to_numpy(np.float64))


def _with_all(by_speaker: pd.DataFrame) -> dict[str, Interval]:
    """Averages columns over speakers, and first the mean of each speaker's; empty columns are left out."""
    known = by_speaker.dropna(axis=1, how="all")
    return {ALL: _over(known.mean(axis=1)), **{str(name): _over(known[name]) for name in known}}
