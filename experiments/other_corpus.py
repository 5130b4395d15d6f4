"""A recogniser that knows words, asked for the classes of a corpus that it was not trained on.

    python experiments/other_corpus.py --model runs/clap/recogniser --manifest ravdess.csv

Every utterance is scored with the corpus's own class names as prompts, those included that the recogniser was
never trained on. Beside it stands the same with only the classes that it was trained on, among which nothing
unknown can be confused. No utterance of the corpus is trained on, and nothing is chosen on it.
"""

import argparse
import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from affetto.corpora.manifest import Manifest
from affetto.evaluation.bootstrap import interval, tally
from affetto.evaluation.metrics import uar_of
from affetto.inference import Recogniser
from affetto.language import with_prompts, worded


def main() -> None:
    """Scores every corpus and draws the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="recogniser that was trained with language")
    parser.add_argument("--manifest", type=Path, action="append", required=True)
    parser.add_argument("--template", default="the speaker sounds {emotion}")
    parser.add_argument("--out", type=Path, default=Path("experiments"))
    given = parser.parse_args()
    recogniser = Recogniser.from_pretrained(given.model)
    files = [word for file in given.manifest for word in ("--manifest", str(file))]
    command = shlex.join(["python", "experiments/other_corpus.py", "--model", given.model, *files])
    rows = []
    for file in given.manifest:
        manifest = Manifest.read(file)
        manifest = manifest.where(manifest.table["emotion"].notna().to_numpy())
        own = sorted(set(manifest.table["emotion"]))
        known = [label for label in own if label in recogniser.labels]
        for labels in (own, known):
            part = manifest.where(manifest.table["emotion"].isin(labels).to_numpy())
            rows.append(score(given.model, recogniser, part, labels, given.template) | {"command": command})
    name = f"{recogniser.config['protocol']}-other-corpora"
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (given.out / f"{name}.md").write_text(page(rows, recogniser), encoding="utf-8")
    print(page(rows, recogniser))


def score(
    model: str, recogniser: Recogniser, manifest: Manifest, labels: list[str], template: str
) -> dict[str, Any]:
    """Asks for some classes of a corpus, and scores the answers."""
    spoken = {worded(template, label): label for label in labels}
    found = pd.DataFrame(with_prompts(model, list(spoken)).files(manifest))
    table = pd.DataFrame(
        {"speaker": manifest.owners, "truth": manifest.table["emotion"], "seed": 0, "fold": 0}
    )
    table["label"] = found["label"].map(spoken).to_numpy()
    table = table[table["label"].notna()]
    if table.empty:
        raise SystemExit(f"no recording of {', '.join(manifest.corpora)} was read: {found['error'].iloc[0]}")
    uar = interval(tally(table, labels), uar_of, "pooled")
    recalls = {label: float(np.mean(own["label"] == label)) for label, own in table.groupby("truth")}
    return {
        "method": f"{len(labels)} classes by words",
        "corpus": ", ".join(manifest.corpora),
        "utterances": len(table),
        "uar": uar.value,
        "uar_low": uar.low,
        "uar_high": uar.high,
        "war": float((table["label"] == table["truth"]).mean()),
        "recalls": recalls,
        "unknown": [label for label in labels if label not in recogniser.labels],
        "manifest_sha256": manifest.sha256,
    }


def page(rows: list[dict[str, Any]], recogniser: Recogniser) -> str:
    """Draws the table."""
    lines = [
        "# Other corpora, asked for their own classes",
        "",
        f"A recogniser trained under `{recogniser.config['protocol']}` on {', '.join(recogniser.labels)}; "
        "nothing of these corpora was trained on. Percent; in brackets the 95 % interval over speakers "
        "(bootstrap). Recalls of classes that it was never trained on are in bold.",
        "",
        "| corpus | classes | utterances | chance | UAR | accuracy | recall of each |",
        "|---|---:|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        each = ", ".join(
            f"{'**' if label in row['unknown'] else ''}{label} {100 * value:.0f}"
            f"{'**' if label in row['unknown'] else ''}"
            for label, value in row["recalls"].items()
        )
        classes = len(row["recalls"])
        lines.append(
            f"| {row['corpus']} | {classes} | {row['utterances']} | {100 / classes:.1f} | "
            f"{100 * row['uar']:.1f} [{100 * row['uar_low']:.1f}, {100 * row['uar_high']:.1f}] | "
            f"{100 * row['war']:.1f} | {each} |"
        )
    lines += ["", "## How it was made", "", "```sh", rows[0]["command"], "```", ""]
    lines += [f"- manifest `{row['manifest_sha256']}` ({row['corpus']}, {row['method']})" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
