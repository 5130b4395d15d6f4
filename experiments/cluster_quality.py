"""How well intra-speaker clusters find emotion, and what each step adds.

Every way of clustering is scored by its agreement with emotion (AMI), speaker by speaker and then averaged,
compared with plain k-means on d-vectors. The steps were chosen by the train and dev speakers of
``crema-d-6-evar``; its test speakers, and every further corpus, are looked at once the choice is made. Parts
are clustered apart, so that nothing of a test speaker can reach the others.

    python experiments/cluster_quality.py --crema-d MANIFEST.csv --other MANIFEST.csv --out experiments

Manifests come from ``affetto annotate speakers``, four times: ``--encoder ge2e``, ``--encoder ge2e-statistics
--name voice``, ``--encoder whisper-means --name whisper`` and ``--encoder whisper --name content``.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from affetto.analysis.agreement import measure_agreement
from affetto.annotation.clusters import ClusterSettings, cluster
from affetto.corpora.arrays import read_vectors
from affetto.corpora.manifest import Manifest
from affetto.evaluation.bootstrap import speaker_mean
from affetto.pages import MINUS
from affetto.protocols.protocol import load_protocol
from affetto.vectors.spaces import content_groups

ALL = "voice + whisper + speaker_embedding"
PLAIN = {"centre": False, "middle": 0.0}
STEPS: dict[str, tuple[str, bool, dict[str, Any]]] = {
    # name: (columns of vectors, content taken out, settings)
    "plain k-means on d-vectors": ("speaker_embedding", False, PLAIN),
    "d-vectors, centred, content out": ("speaker_embedding", True, {"middle": 0.0}),
    "statistics of the speaker encoder, centred": ("voice", False, {"middle": 0.0}),
    "statistics, centred, content out": ("voice", True, {"middle": 0.0}),
    "the same, calm ones apart": ("voice", True, {}),
    "means of Whisper, likewise": ("whisper", True, {}),
    "statistics + Whisper": ("voice + whisper", True, {}),
    "statistics + Whisper + d-vectors": (ALL, True, {}),
    "the same, content left in": (ALL, False, {}),
    "the same, all speakers together": (ALL, True, {"together": True}),
}


def main() -> None:
    """Scores every step on every part and draws the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--crema-d", type=Path, required=True)
    parser.add_argument("--other", type=Path, action="append", default=[])
    parser.add_argument("--out", type=Path, default=Path("experiments"))
    given = parser.parse_args()
    manifest = Manifest.read(given.crema_d)
    protocol = load_protocol("crema-d-6-evar")
    fold = protocol.folds(protocol.select(manifest))[0]
    parts = {"CREMA-D train and dev": manifest.where([*fold.train, *fold.dev])}
    parts["CREMA-D test"] = manifest.where(fold.test)
    for file in given.other:
        other = Manifest.read(file)
        parts[", ".join(other.corpora)] = other
    rows = [row for name, part in parts.items() for row in score(part, name)]
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "cluster-quality.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (given.out / "cluster-quality.md").write_text(page(rows), encoding="utf-8")
    print(page(rows))


def score(manifest: Manifest, part: str) -> list[dict[str, Any]]:
    """Clusters one part in every way, ``len(STEPS)`` rows."""
    embedded = manifest.table[[*ALL.split(" + "), "content"]].notna().all(axis=1)
    manifest = manifest.where((embedded & manifest.table["emotion"].notna()).to_numpy())
    table = manifest.table
    _, speakers = np.unique(table["speaker"].to_numpy(str), return_inverse=True)
    emotions = pd.factorize(table["emotion"], sort=True)[0]
    said = content_groups(read_vectors(manifest, "content"), speakers)
    rows: list[dict[str, Any]] = []
    reference = None
    for name, (columns, content, settings) in STEPS.items():
        vectors = [read_vectors(manifest, column) for column in columns.split(" + ")]
        labels = cluster(vectors, speakers, ClusterSettings(**settings), said if content else None).labels
        figures = measure_agreement(labels, emotions, speakers, permutations=1).values
        reference = figures["ami"] if reference is None else reference
        gap = speaker_mean(figures["ami"] - reference)
        mean = speaker_mean(figures["ami"])
        rows.append(
            {
                "part": part,
                "method": name,
                "speakers": len(figures["ami"]),
                "clustered": float((labels >= 0).mean()),
                "ami": mean.value,
                "ami_low": mean.low,
                "ami_high": mean.high,
                "nmi": speaker_mean(figures["nmi"]).value,
                "purity": speaker_mean(figures["purity"]).value,
                "against": next(iter(STEPS)),
                "difference": gap.value,
                "difference_low": gap.low,
                "difference_high": gap.high,
                "command": "python experiments/cluster_quality.py --crema-d MANIFEST --other MANIFEST ...",
                "manifest_sha256": manifest.sha256,
            }
        )
    return rows


def page(rows: list[dict[str, Any]]) -> str:
    """Draws the table, part by part."""
    lines = [
        "# How well clusters within a speaker find emotion",
        "",
        "Agreement of each speaker's clusters with emotion, averaged over speakers; AMI is 0 by chance and 1 "
        "for equal groups. In brackets the 95 % interval over speakers (bootstrap), of the difference as a "
        "paired one. No step looks at emotions. Steps were chosen on train and dev speakers of "
        "`crema-d-6-evar`; each part is clustered apart.",
        "",
        f"Command: `{rows[0]['command']}`",
    ]
    for part in dict.fromkeys(row["part"] for row in rows):
        own = [row for row in rows if row["part"] == part]
        lines += ["", f"## {part}, {own[0]['speakers']} speakers", ""]
        lines += [
            "| clusters | AMI | difference to the first | clustered | NMI | purity |",
            "|---|---|---|---:|---:|---:|",
        ]
        for row in own:
            gap = f"{row['difference']:+.3f} [{row['difference_low']:+.3f}, {row['difference_high']:+.3f}]"
            lines.append(
                f"| {row['method']} | {row['ami']:.3f} [{row['ami_low']:.3f}, {row['ami_high']:.3f}] | "
                f"{'' if row is own[0] else gap.replace('-', MINUS)} | {100 * row['clustered']:.0f} % | "
                f"{row['nmi']:.3f} | {row['purity']:.3f} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
