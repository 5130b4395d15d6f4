"""``affetto annotate`` in Python: a run folder with a manifest that has one more column.

Settings go by name; ``overrides=["ranker.train.epochs=2"]`` sets those in groups.
"""

from pathlib import Path
from typing import Any

from affetto.runs import RunFolder
from affetto.verbs import Utterances
from affetto.verbs import settings as composed


def speakers(manifest: Utterances, out: str | Path, *, device: str = "auto", **settings: Any) -> RunFolder:
    """Embeds the voice of every utterance, by ``encoder``, in the column ``name``."""
    from affetto.annotation.run_speakers import annotate_speakers

    return annotate_speakers(manifest, composed("annotate speakers", **settings), out, device=device)


def clusters(manifest: Utterances, out: str | Path, *, device: str = "auto", **settings: Any) -> RunFolder:
    """Clusters each speaker's utterances, ``count`` a speaker, by the vectors of the column ``embedding``."""
    from affetto.annotation.clusters import ClusterSettings, annotate_clusters

    shape = {name: settings.pop(name) for name in ClusterSettings.model_fields if name in settings}
    chosen = composed("annotate clusters", **{"clusters": shape, **settings})
    return annotate_clusters(manifest, chosen, out, device=device)


def intensity(manifest: Utterances, out: str | Path, *, device: str = "auto", **settings: Any) -> RunFolder:
    """Writes a curve of intensity for every utterance, by ``source``, in the column ``name``."""
    from affetto.intensity.run import annotate_intensity

    return annotate_intensity(manifest, composed("annotate intensity", **settings), out, device=device)
