"""Which utterances of a speaker belong together: clusters, and controls that say what they are worth."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from affetto.analysis.agreement import quantile_bins
from affetto.analysis.confounds import Measures
from affetto.corpora.manifest import Manifest
from affetto.data import NONE
from affetto.errors import ConfigError, ManifestError
from affetto.material.recordings import Recordings

KINDS = {
    "random": "random:COLUMN, groups of the sizes that a column has, dealt at random within each speaker",
    "duration": "duration:K, each speaker's utterances in K groups by length",
    "loudness": "loudness:K, in K groups by level",
    "pitch": "pitch:K, in K groups by median pitch, those without voice in none",
    "purity": "purity:SHARE, the true emotion for this share of the utterances, another one for the rest",
}
"""Groups that are made up, by name; anything else is a column of the manifest."""


class Groups(NamedTuple):
    """Groups within speakers.

    Attributes:
        numbers: ``(N,)``; -1 for none.
        from_labels: whether emotion labels made them.
    """

    numbers: NDArray[np.int64]
    from_labels: bool


def speaker_groups(recordings: Recordings, name: str, seed: int) -> Groups:
    """Returns the groups that a name stands for.

    Args:
        recordings: the utterances.
        name: a column of the manifest, such as ``cluster``, ``text`` or ``emotion`` (the oracle), or one of
            :data:`KINDS`, such as ``random:cluster`` or ``purity:0.6``.
        seed: of what is drawn.

    Raises:
        ManifestError: for a column that does not exist, or holds nothing.
        ConfigError: for an argument that does not fit.
    """
    kind, _, argument = name.partition(":")
    generator = np.random.default_rng([seed, 13])
    if kind not in KINDS:
        return Groups(_column(recordings.manifest, name), name == "emotion")
    if kind == "random":
        numbers = _column(recordings.manifest, argument or "cluster")
        for own in _by_speaker(recordings):
            numbers[own] = generator.permutation(numbers[own])
        return Groups(numbers, False)
    value = _number(name, argument)
    if kind == "purity":
        truth = _column(recordings.manifest, "emotion")
        others = (truth + generator.integers(1, max(2, truth.max() + 1), len(truth))) % (truth.max() + 1)
        kept = generator.random(len(truth)) < value
        return Groups(np.where(truth == NONE, NONE, np.where(kept, truth, others)), True)
    measured = recordings.vectors(Measures())[:, Measures.names.index(kind)].double().numpy()
    speakers = np.unique(recordings.speakers, return_inverse=True)[1]
    return Groups(quantile_bins(measured, speakers, int(value)), False)


def group_column(manifest: Manifest, name: str) -> str | None:
    """Returns the column that :func:`speaker_groups` takes groups from, if any, after checking the name.

    Raises:
        ManifestError: for a column that does not exist, or holds nothing.
        ConfigError: for an argument that does not fit.
    """
    kind, _, argument = name.partition(":")
    if kind in KINDS and kind != "random":
        _number(name, argument)
    if kind in Measures.names:
        return None
    column = {"random": argument or "cluster", "purity": "emotion"}.get(kind, name)
    _column(manifest, column)
    return column


def _column(manifest: Manifest, name: str) -> NDArray[np.int64]:
    table = manifest.table
    if name not in table:
        made = ", ".join(KINDS.values())
        raise ManifestError(
            f"the manifest has no column {name!r} to take groups from; run affetto annotate clusters, name "
            f"another column, or one of: {made}"
        )
    numbers, _ = pd.factorize(table[name], sort=True)
    if (numbers == NONE).all():
        raise ManifestError(f"the column {name!r} is empty in every row; run affetto annotate clusters")
    return np.asarray(numbers, np.int64)


def _number(name: str, argument: str) -> float:
    kind = name.partition(":")[0]
    try:
        value = float(argument or ("1" if kind == "purity" else "6"))
    except ValueError:
        value = -1.0
    if (kind == "purity" and 0 <= value <= 1) or (kind != "purity" and value >= 1 and value.is_integer()):
        return value
    raise ConfigError(f"got the groups {name!r}; it must look like {KINDS[kind].split(',')[0]}")


def _by_speaker(recordings: Recordings) -> list[NDArray[np.int64]]:
    return [np.flatnonzero(recordings.speakers == name) for name in np.unique(recordings.speakers)]
