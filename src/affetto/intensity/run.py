"""``annotate intensity``: a curve of intensity an utterance, as rows of an array that a column names."""

import os
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from affetto._version import __version__
from affetto.audio import to_int16
from affetto.config import Settings
from affetto.corpora.arrays import cell, content_hash, vector_places
from affetto.corpora.curves import INTENSITY_COLUMN, VERB, write_curves
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import NewArrayColumn
from affetto.errors import ConfigError
from affetto.intensity.curves import level_numbers
from affetto.intensity.fit import RankerSettings
from affetto.intensity.page import PAGE, Findings, blocks, examples, said, title
from affetto.intensity.quality import judge, measure
from affetto.intensity.sources import SOURCES, Made, Source
from affetto.material.recordings import Recordings
from affetto.pages import Page
from affetto.runs import MANIFEST, RunFolder, write_text

DEFAULT_PROTOCOLS = {"crema-d": "crema-d-6-evar"}
"""Whose labels may be used where nobody says so, by corpus."""


class IntensitySettings(Settings):
    """How ``annotate intensity`` makes curves.

    Attributes:
        source: ``ranker``, learned from emotion labels by relative attributes; ``recogniser``, one minus the
            probability of neutral; ``loudness``; ``voicing``.
        name: of the column, and of the array beside the manifest; None for ``intensity``, or for the source's
            own name where no label is looked at.
        protocol: whose training and dev speakers the ranker's labels may come from; None for the one of
            :data:`DEFAULT_PROTOCOLS`.
        model: a network that an earlier run made, in place of labels.
        recogniser: the folder that the source of this name asks.
        window_seconds: what the recogniser hears at once.
        hop_seconds: from one such window to the next.
        ranker: how intensity is learned.
    """

    source: Literal["ranker", "recogniser", "loudness", "voicing"] = "ranker"
    name: NewArrayColumn | None = None
    protocol: str | None = None
    model: str | None = None
    recogniser: str | None = None
    window_seconds: float = Field(1.0, ge=0.1)
    hop_seconds: float = Field(0.2, gt=0)
    ranker: RankerSettings = RankerSettings()

    @model_validator(mode="after")
    def _fits(self) -> "IntensitySettings":
        if (self.source == "recogniser") != (self.recogniser is not None):
            raise ValueError("the source recogniser, and no other, takes a recogniser (--recogniser FOLDER)")
        if self.source != "ranker" and (self.model is not None or self.protocol is not None):
            raise ValueError(f"the source {self.source} reads no labels: leave protocol and model out")
        if self.model is not None and self.protocol is not None:
            raise ValueError("a model has learned already; name either a model or a protocol")
        if self.hop_seconds > self.window_seconds:
            raise ValueError("hop_seconds must not be longer than window_seconds, or parts are not heard")
        return self

    @property
    def column(self) -> str:
        """The name of the column."""
        plain = INTENSITY_COLUMN if self.source in ("ranker", "recogniser") else self.source
        return self.name or plain


def annotate_intensity(
    manifest: str | Path | Manifest, settings: IntensitySettings, out: str | Path
) -> RunFolder:
    """Writes a curve of intensity an utterance, and a manifest with a column that names them.

    What is finished stays: the same call again goes on where it stopped.

    Args:
        manifest: the utterances, or the file that lists them.
        settings: what intensity is, and the name of the column.
        out: the run folder.

    Returns:
        The run folder: ``manifest.csv``; ``NAME.npy`` and ``NAME.json``, see
        :mod:`affetto.corpora.curves`; ``meta.json`` with every figure, and the utterances that cannot be
        read, whose cells are empty; ``intensity.html``; with the source ``ranker`` the network of each fold
        in ``fold-F/strength``.

    Raises:
        ConfigError: for the source ``ranker`` with neither a protocol nor a model.
        ManifestError: when not one utterance can be read, or no label is neutral.
        ProtocolError: when the protocol does not fit the manifest.
        RunError: when the folder is in use or holds other settings.
    """
    manifest = Manifest.of(manifest)
    settings = _with_protocol(settings, manifest)
    if settings.column in manifest.table.columns:
        vector_places(manifest, settings.column, VERB)  # a column of something else is not overwritten
    source = SOURCES[settings.source](manifest, settings)
    run = RunFolder(out, "annotate intensity")
    with run.locked():
        facts = {**manifest.facts, **source.facts}
        if run.start(settings, **facts):
            recordings = Recordings(manifest)
            made = source.make(recordings, run)
            _write(run, manifest, settings, recordings, made)
            _report(run, settings, recordings, made, source)
    return run


def _with_protocol(settings: IntensitySettings, manifest: Manifest) -> IntensitySettings:
    if settings.source != "ranker" or settings.protocol or settings.model:
        return settings
    corpora = manifest.corpora
    if len(corpora) != 1 or corpora[0] not in DEFAULT_PROTOCOLS:
        raise ConfigError(
            "intensity is learned from emotion labels, and nothing says whose may be used: name a "
            "--protocol, "
            "of whose training and dev speakers they are, or the --model of an earlier run; --source "
            "loudness "
            "and --source voicing need neither"
        )
    return settings.model_copy(update={"protocol": DEFAULT_PROTOCOLS[corpora[0]]})


def _write(
    run: RunFolder, manifest: Manifest, settings: IntensitySettings, recordings: Recordings, made: Made
) -> None:
    """Puts array, description and manifest in place."""
    array = Path(os.path.abspath(run / f"{settings.column}.npy"))
    waveforms = recordings.waveforms
    hashes = [content_hash(to_int16(waveforms[row])) for row in range(len(waveforms))]
    info = {
        "source": settings.source,
        "source_sha256": made.sha256,
        "hop_seconds": made.hop_seconds,
        "protocol": made.protocol,
        "folds": made.folds,
        "speakers_seen": {
            "with_labels": made.with_labels,
            "without_labels": sorted(set(recordings.manifest.owners) - {""}),
        },
        "weights_from_elsewhere": made.unknown,
        "ends": made.ends,
        "settings": settings.model_dump(mode="json"),
        "affetto_version": __version__,
    }
    write_curves(array, made.values, made.lengths, hashes, info)
    rows = {key: row for row, key in enumerate(recordings.manifest.keys)}
    cells = [cell(array, rows[key]) if key in rows else None for key in manifest.keys]
    column = pd.Series(cells, manifest.table.index, dtype=object)
    manifest.with_columns({settings.column: column}).write(run / MANIFEST)


def _report(
    run: RunFolder, settings: IntensitySettings, recordings: Recordings, made: Made, source: Source
) -> None:
    """Measures the curves on speakers whose labels were not seen, and writes page and figures."""
    starts = np.concatenate([[0], np.cumsum(made.lengths)])
    columns = np.maximum(made.tested, 0)
    curves = [
        np.asarray(made.values[starts[row] : starts[row + 1], columns[row]]) for row in range(len(columns))
    ]
    table = recordings.manifest.table
    emotions = source.emotions(recordings)
    labels = sorted({str(name) for name in emotions if name is not None})
    truth = np.array([-1 if name is None else labels.index(str(name)) for name in emotions], np.int64)
    speakers = np.unique(np.array(recordings.manifest.owners), return_inverse=True)[1]
    tested = (made.tested >= 0) & (table["speaker"].notna().to_numpy())
    quality = judge(
        measure(recordings, curves, made.hop_seconds),
        tested,
        np.asarray(speakers, np.int64),
        truth,
        labels,
        level_numbers(table["intensity_level"].tolist()),
        np.asarray(pd.factorize(table["text"])[0], np.int64),
    )
    found = Findings(
        settings.source,
        settings.column,
        recordings.manifest.corpora,
        len(curves),
        made,
        quality,
        labels,
        dict(recordings.unreadable),
    )
    shown = examples(recordings, curves, made.hop_seconds, tested, truth, labels)
    write_text(run / PAGE, Page(title(found), blocks(found, shown)).html())
    run.finish(
        {
            "utterances": len(curves) + len(recordings.unreadable),
            "curves": len(curves),
            "column": settings.column,
            "source": settings.source,
            "hop_seconds": made.hop_seconds,
            "protocol": made.protocol,
            "folds": made.folds,
            "words": [block.text for block in said(found)],
            "quality": quality.facts(),
            "choices": made.choices,
            "unreadable": recordings.unreadable,
        },
    )
