"""Confounds of the clusters: measures of the recordings, and columns of the manifest."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from affetto.analysis.agreement import Codes, quantile_bins
from affetto.audio import SAMPLE_RATE
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import VECTOR
from affetto.features import VOICED, FrontEnd
from affetto.material.recordings import Recordings
from affetto.models.encoder import Embedder

NAMES = {"text": "sentence", "file": "source file", "folder": "source folder"}
NO_CONFOUNDS = ("key", "start", "end", "speaker", "emotion", "corpus")
OWN_SHARE = 0.5
"""Distinct values a speaker, as a share of the utterances, above which a column groups nothing."""

_SILENCE = 1e-10  # mean square of -100 dB


class Column(NamedTuple):
    """Values of each utterance as numbers, ``(N,)``; ``bins`` is 0 for values that were not binned."""

    name: str
    codes: Codes
    bins: int = 0


class Measures(Embedder):
    """Duration in seconds, loudness (root mean square) in dB, and median pitch in log Hz, NaN if unvoiced."""

    names = ("duration", "loudness", "pitch")

    def __init__(self) -> None:
        super().__init__()
        self.front_end = FrontEnd(kind="waveform")
        self.voice = FrontEnd(bins=1, pitch=True)
        self.dim = len(self.names)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Measures waveforms ``(B, S, 1)``: ``(B, 3)``."""
        waveforms = features.squeeze(-1)
        power = waveforms.square().sum(dim=1) / lengths
        track = self.voice(waveforms, lengths)[0]
        pitch = track[:, :, -2].masked_fill(track[:, :, -1] < VOICED, torch.nan).nanmedian(dim=1).values
        return torch.stack([lengths / SAMPLE_RATE, 10 * power.clamp_min(_SILENCE).log10(), pitch], dim=1)


def measured(manifest: Manifest) -> tuple[dict[str, NDArray[np.float64]], dict[str, str]]:
    """Returns :class:`Measures` of every recording, ``(N,)`` by name, and why some cannot be read, by key."""
    recordings = Recordings(manifest)
    vectors = recordings.vectors(Measures()).numpy()
    values = np.full((len(manifest), vectors.shape[1]), np.nan)
    values[~manifest.table["key"].isin(recordings.unreadable)] = vectors
    return dict(zip(Measures.names, values.T, strict=True)), recordings.unreadable


def columns(
    table: pd.DataFrame,
    groups: Codes,
    measures: Mapping[str, NDArray[np.float64]],
    bins: int,
    left_out: Collection[str],
) -> tuple[list[Column], dict[str, str]]:
    """Returns the columns of a table that group utterances, and why others do not, by name.

    ``measures`` are further numbers by name; numbers of a speaker are put into ``bins`` quantile bins;
    columns in ``left_out`` and :data:`NO_CONFOUNDS` are passed over.
    """
    offered: dict[str, Any] = {name: pd.Series(values) for name, values in measures.items()}
    for name in table.columns:
        known = name in (*NO_CONFOUNDS, *left_out) or str(name).startswith("votes_")
        clustering = f"{name}_confidence" in table or str(name).endswith("_confidence")
        if not known and not clustering and table[name].notna().any():
            offered.setdefault(NAMES.get(str(name), str(name)), table[name].reset_index(drop=True))
    folders = table["file"].reset_index(drop=True).str.rpartition("/")[0]
    offered.setdefault(NAMES["folder"], folders)
    found, refused = [], {}
    for name, values in offered.items():
        if not values.dropna().map(np.isscalar).all() or values.astype(str).str.fullmatch(VECTOR).any():
            continue  # arrays and rows of arrays
        column = _column(name, values, groups, bins)
        if reason := _unfit(column, groups):
            refused[name] = reason
        else:
            found.append(column)
    return found, refused


def _column(name: str, values: "pd.Series[Any]", groups: Codes, bins: int) -> Column:
    if values.dtype.kind in "if" and values.nunique() > bins:
        return Column(name, quantile_bins(values.to_numpy(np.float64), groups, bins), bins)
    return Column(name, np.asarray(pd.factorize(values)[0], np.int64))


def _unfit(column: Column, groups: Codes) -> str:
    known = column.codes >= 0
    if not known.any():
        return "no value"
    own = pd.Series(column.codes[known]).groupby(groups[known])
    if (own.nunique() < 2).all():
        return "the same throughout each speaker"
    if not column.bins and (own.nunique() / own.size()).mean() > OWN_SHARE:
        return "nearly every utterance has a value of its own"
    return ""
