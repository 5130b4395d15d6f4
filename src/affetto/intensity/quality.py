"""How good curves of intensity are: do they order what labels order, and are they more than loudness?"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr

from affetto.audio import SAMPLE_RATE
from affetto.corpora.curves import aligned
from affetto.evaluation.bootstrap import Interval, speaker_mean
from affetto.features import FrontEnd
from affetto.intensity.curves import NEUTRAL, loudness
from affetto.intensity.ranker import order_by_speaker, order_share
from affetto.material.recordings import Recordings

ALL = "all"
MEASURES = ("intensity", "loudness", "duration")
"""What utterances are ranked by: the mean of the curve, the root mean square in dB, the seconds."""


class Quality(NamedTuple):
    """Measures over the utterances that test something, with 95 % intervals over their speakers.

    Attributes:
        utterances: how many.
        speakers: of how many speakers.
        order: share of pairs of an emotional and a neutral utterance of a speaker in this order, by measure
            and by emotion or over all.
        means: mean intensity by emotion.
        levels: share of pairs of two acted intensities of a speaker, an emotion and a sentence in order, by
            measure and by pair or over all.
        level_correlation: Spearman's, within speakers, of intensity and acted intensity.
        correlations: Spearman's, within speakers, of intensity with loudness and duration; and Pearson's,
            within utterances, of the curve with the level of its frames.
        within: share of a speaker's variance, over frames, that lies within utterances.
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


def judge(table: pd.DataFrame) -> Quality:
    """Judges curves on utterances of speakers whose labels were not seen.

    Args:
        table: the columns of :func:`measure`, ``speaker``, ``emotion`` and ``text`` (missing where unknown),
            and ``acted``: the acted intensity as a number, NaN for none.
    """
    table = table.assign(speaker=pd.factorize(table["speaker"])[0])
    speakers = table.groupby("speaker")
    spread = speakers["spread"].mean()
    variance = spread + speakers["intensity"].var(ddof=0)
    levels = _level_pairs(table)
    correlations = {
        f"{name}, by utterance": _correlation(table, "intensity", name) for name in ("loudness", "duration")
    }
    return Quality(
        len(table),
        len(speakers),
        _order(table),
        {str(name): float(value) for name, value in table.groupby("emotion")["intensity"].mean().items()},
        levels,
        _level_correlation(table) if levels else None,
        {**correlations, "loudness, by frame": _over(speakers["tracks"].mean())},
        _over(spread / variance.where(variance > 0)),
    )


def _order(table: pd.DataFrame) -> dict[str, dict[str, Interval]]:
    labels = sorted(table["emotion"].dropna().unique())
    if NEUTRAL not in labels:
        return {}
    truth = np.asarray(pd.Categorical(table["emotion"], labels).codes, np.int64)
    found = {}
    for name in MEASURES:
        values, speakers = table[name].to_numpy(), table["speaker"].to_numpy()
        shares = order_by_speaker(values, speakers, truth, labels.index(NEUTRAL), len(labels))
        found[name] = _with_all(pd.DataFrame(shares, columns=labels))
    return {name: own for name, own in found.items() if len(own) > 1}


def _level_pairs(table: pd.DataFrame) -> dict[str, dict[str, Interval]]:
    """Returns how often the higher of two acted intensities comes out higher, by measure and pair."""
    known = table[np.isfinite(table["acted"])]
    pairs = list(combinations(sorted(known["acted"].unique()), 2))
    found = {}
    for name in MEASURES:
        shares = []
        for (speaker, *_), own in known.groupby(["speaker", "emotion", "text"], dropna=False):
            acted, values = own["acted"].to_numpy(), own[name].to_numpy()
            each = [order_share(values[acted == high], values[acted == low]) for low, high in pairs]
            shares.append([speaker, *each])
        names = [f"{low:g} < {high:g}" for low, high in pairs]
        by_speaker = pd.DataFrame(shares, columns=["speaker", *names]).groupby("speaker").mean()
        if by_speaker.notna().any(axis=None):
            found[name] = _with_all(by_speaker)
    return found


def _level_correlation(table: pd.DataFrame) -> Interval:
    """Correlates intensity with acted intensity, the mean of each emotion and sentence subtracted."""
    known = table[np.isfinite(table["acted"])]
    groups = known.groupby(["speaker", "emotion", "text"], dropna=False)
    names = ["intensity", "acted"]
    centred = known.assign(**{name: known[name] - groups[name].transform("mean") for name in names})
    return _correlation(centred[groups["acted"].transform("nunique") > 1], *names)


def _correlation(table: pd.DataFrame, left: str, right: str) -> Interval:
    """Averages Spearman's correlation within each speaker over the speakers."""
    found = {}
    for speaker, own in table.groupby("speaker"):
        varied = len(own) > 2 and np.ptp(own[left]) > 0 and np.ptp(own[right]) > 0
        found[speaker] = float(spearmanr(own[left], own[right]).statistic) if varied else np.nan
    return _over(pd.Series(found, dtype=np.float64))


def _over(by_speaker: pd.Series) -> Interval:
    return speaker_mean(by_speaker.to_numpy(np.float64))


def _with_all(by_speaker: pd.DataFrame) -> dict[str, Interval]:
    """Averages columns over speakers, and first the mean of each speaker's; empty columns are left out."""
    known = by_speaker.dropna(axis=1, how="all")
    return {ALL: _over(known.mean(axis=1)), **{str(name): _over(known[name]) for name in known}}
