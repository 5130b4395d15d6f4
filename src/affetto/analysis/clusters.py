"""``analyse clusters``: agreement of clusters with emotion and with confounds, as a page and as JSON."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from affetto.analysis.clusters_page import clusters_page, overview
from affetto.analysis.comparison import AnalyseSettings, Analysis, compare_clusters, read_clusters
from affetto.corpora.manifest import Manifest
from affetto.runs import RunFolder, write_json

RESULT = "analysis.json"


def analyse_clusters(
    manifest: Manifest | str | Path, settings: AnalyseSettings, out: str | Path
) -> RunFolder:
    """Measures the agreement of clusters with emotion and with everything else that groups utterances.

    The manifest has a column of clusters and one of embeddings. Returns the run folder: ``report.html``,
    ``report.md`` with its figures, and ``analysis.json``.
    """
    manifest = Manifest.of(manifest)
    run = RunFolder(out, "analyse clusters")
    with run.locked():
        facts = {"manifest_sha256": manifest.sha256, "clusters_sha256": _clusters_sha256(manifest, settings)}
        if run.done and not run.start(settings, **facts):
            return run
        embeddings = read_clusters(manifest, settings)  # what cannot be read leaves no folder behind
        run.start(settings, **facts)
        found = compare_clusters(manifest, settings, *embeddings)
        clusters_page(found).write(run.path)
        write_json(run / RESULT, _summary(found))
        run.finish()
    return run


def _clusters_sha256(manifest: Manifest, settings: AnalyseSettings) -> str:
    # A manifest's own hash leaves these columns out.
    names = [name for name in ("key", settings.name, settings.embedding) if name in manifest.table.columns]
    cells = manifest.table[names].astype(str).replace(r"^.*[/\\]", "", regex=True)
    return hashlib.sha256(json.dumps(cells.to_numpy().tolist()).encode()).hexdigest()


def _summary(found: Analysis) -> dict[str, Any]:
    by_speaker = {
        each.column.name: pd.DataFrame({**each.agreement.values, "p": each.agreement.p["ami"]}).to_dict(
            "index"
        )
        for each in found.compared
    }
    speakers = [
        {**row, "agreement": {name: own[number] for name, own in by_speaker.items()}}
        for number, row in found.speakers.to_dict("index").items()
    ]
    compared = {
        each.column.name: {
            "speakers": int(np.isfinite(each.agreement.values["ami"]).sum()),
            "bins": each.column.bins or None,
            **{measure: average._asdict() for measure, average in each.averages.items()},
            **{name: figure._asdict() for name, figure in each.with_emotion.items()},
        }
        for each in found.compared
    }
    partners = None if found.partners is None else found.partners.set_axis(found.emotions).to_dict("index")
    figures = {
        "words": [block.text for block in overview(found)],
        "corpora": found.corpora,
        "clusters": found.settings.name,
        "encoder": found.encoder,
        "emotions": found.emotions,
        "utterances": len(found.groups),
        "clustered": int((found.clusters >= 0).sum()),
        "silhouette": found.silhouette._asdict(),
        "agreement": compared,
        "partners": partners,
        "probe": found.probe and {name: part._asdict() for name, part in found.probe._asdict().items()},
        "not_compared": found.left_out,
        "unreadable": found.unreadable,
        "notes": found.notes,
        "speakers": speakers,
    }
    return dict(json.loads(json.dumps(figures), parse_constant=lambda name: None))  # None for NaN
