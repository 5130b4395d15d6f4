"""``affetto analyse`` in Python: a run folder with a report; settings go by name."""

from pathlib import Path
from typing import Any

from affetto.runs import RunFolder
from affetto.verbs import Utterances
from affetto.verbs import settings as composed


def clusters(manifest: Utterances, out: str | Path, **settings: Any) -> RunFolder:
    """Measures what the clusters of the column ``name`` agree with, emotion and everything else."""
    from affetto.analysis.clusters import analyse_clusters

    return analyse_clusters(manifest, composed("analyse clusters", **settings), out)


def layers(
    manifest: Utterances,
    out: str | Path,
    *,
    protocol: str,
    encoder: str,
    device: str = "auto",
    **settings: Any,
) -> RunFolder:
    """Probes every layer of an encoder under a protocol, and of an untrained encoder of the same shape."""
    from affetto.analysis.layers import analyse_layers

    chosen = composed("analyse layers", protocol=protocol, encoder=encoder, **settings)
    return analyse_layers(manifest, chosen, out, device=device)
