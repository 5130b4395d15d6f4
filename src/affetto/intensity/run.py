"""``annotate intensity``: a curve of intensity an utterance, as rows of an array that a column names."""

from pathlib import Path

import numpy as np
import pandas as pd

from affetto._version import __version__
from affetto.audio import to_int16
from affetto.corpora.arrays import cell, content_hash, vector_places
from affetto.corpora.curves import VERB, write_curves
from affetto.corpora.manifest import Manifest
from affetto.intensity.curves import acted_intensities
from affetto.intensity.page import PAGE, curve_page, examples, facts_in_words, figures
from affetto.intensity.quality import judge, measure, plain
from affetto.intensity.sources import SOURCES, IntensitySettings, Made
from affetto.material.recordings import Recordings
from affetto.runs import MANIFEST, RunFolder, write_text


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
        The run folder: ``manifest.csv``; ``NAME.npy`` and ``NAME.json``, see :mod:`affetto.corpora.curves`;
        ``meta.json`` with every figure, and the utterances that cannot be read, whose cells are empty;
        ``intensity.html``; with the source ``ranker`` the network of each fold in ``fold-F/strength``.

    Raises:
        ConfigError: for the source ``ranker`` with neither a protocol nor a model.
        ManifestError: when not one utterance can be read, or no label is neutral.
        ProtocolError: when the protocol does not fit the manifest.
        RunError: when the folder is in use or holds other settings.
    """
    manifest = Manifest.of(manifest)
    settings = settings.with_protocol(manifest)
    if settings.column in manifest.table.columns:
        vector_places(manifest, settings.column, VERB)  # a column of something else is not overwritten
    facts, make = SOURCES[settings.source](manifest, settings)
    run = RunFolder(out, "annotate intensity")
    with run.locked():
        if run.start(settings, **manifest.facts, **facts):
            recordings = Recordings(manifest)
            made = make(recordings, run)
            _write(run, manifest, settings, recordings, made)
            run.finish(_report(run, settings, recordings, made))
    return run


def _write(
    run: RunFolder, manifest: Manifest, settings: IntensitySettings, recordings: Recordings, made: Made
) -> None:
    """Writes array, sidecar and manifest."""
    array = (run / f"{settings.column}.npy").absolute()
    waveforms = recordings.waveforms
    hashes = [content_hash(to_int16(waveforms[row])) for row in range(len(waveforms))]
    info = {"source": settings.source, "settings": settings.model_dump(mode="json"), **made.info}
    write_curves(array, made.values, made.lengths, hashes, {**info, "affetto_version": __version__})
    cells = {key: cell(array, row) for row, key in enumerate(recordings.manifest.keys)}
    column = pd.Series([cells.get(key) for key in manifest.keys], manifest.table.index, dtype=object)
    manifest.with_columns({settings.column: column}).write(run / MANIFEST)


def _report(
    run: RunFolder, settings: IntensitySettings, recordings: Recordings, made: Made
) -> dict[str, object]:
    """Measures the curves on speakers whose labels were not seen, writes the page and returns the figures."""
    manifest, curves, hop_seconds = recordings.manifest, made.tested_curves(), made.info["hop_seconds"]
    acted = acted_intensities(manifest.table["intensity_level"])
    table = measure(recordings, curves, hop_seconds).assign(
        speaker=manifest.owners,
        emotion=pd.Series(made.emotions, dtype=object),
        text=manifest.table["text"].to_numpy(),
        acted=np.nan if acted is None else acted,
    )
    tested = (made.tested >= 0) & manifest.table["speaker"].notna().to_numpy()
    quality = judge(table[tested])
    words, rows = facts_in_words(settings.source, made, quality, len(recordings.unreadable)), figures(quality)
    shown = examples(recordings, curves, hop_seconds, table[tested] if tested.any() else table)
    page = curve_page(settings.column, manifest.corpora, [*words, rows], shown)
    write_text(run / PAGE, page.html())
    return {
        "utterances": len(curves) + len(recordings.unreadable),
        "curves": len(curves),
        "column": settings.column,
        "source": settings.source,
        "words": [block.text for block in words],
        "table": [rows.heads, *rows.rows],
        "quality": plain(quality),
        "choices": made.choices,
        "unreadable": recordings.unreadable,
        **{name: made.info[name] for name in ("hop_seconds", "protocol", "folds")},
    }
