"""Emotions that were never trained on, recognised by their words alone.

Each emotion of a protocol is left out of training in turn; the recogniser is then asked for all of them, by
prompts. A run is scored by the harmonic mean of its UAR on the seen emotions and its recall of the left-out
one, and the runs are averaged. The controls are the same runs in which every emotion has the word of another,
or a made-up word.

    python experiments/left_out.py --manifest crema-d.csv --text sentence-transformers/all-MiniLM-L6-v2

Finished runs are kept, and the same command continues an interrupted one.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from affetto.corpora.manifest import Manifest
from affetto.evaluation.bootstrap import draw_speakers, score_draws, tally
from affetto.language import language_settings, pretrain_language, with_prompts, worded
from affetto.language.sentences import FEELINGS
from affetto.pages import MINUS
from affetto.protocols.protocol import load_protocol

MADE_UP = ("dax", "wug", "blick", "toma", "fep", "zorch", "kiv", "mep", "gorp", "nalt")
TEMPLATE = "the speaker sounds {emotion}"
DRAWS = 2000
MEASURES = ("harmonic", "seen", "left_out")
Scores = dict[str, NDArray[np.float64]]


def main() -> None:
    """Runs what is missing and draws the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--text", required=True, help="text encoder: a folder, or a name on the hub")
    parser.add_argument("--protocol", default="crema-d-6-evar")
    parser.add_argument("--encoder", default="ge2e + functionals")
    parser.add_argument("--target", default="emo", choices=("emo", "hard"))
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("experiments"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    given = parser.parse_args()
    manifest = Manifest.read(given.manifest)
    labels = load_protocol(given.protocol).labels
    found: dict[str, Scores] = {}
    each: dict[str, dict[str, Scores]] = {}
    for words in ("own", "shuffled", "random"):
        each[words] = {label: run(manifest, given, words, label) for label in labels}
        found[words] = {name: np.mean([own[name] for own in each[words].values()], 0) for name in MEASURES}
    rows = [row(given, manifest, words, found, each[words]) for words in found]
    name = f"{load_protocol(given.protocol).name}-left-out-{given.target}"
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (given.out / f"{name}.md").write_text(page(rows), encoding="utf-8")
    print(page(rows))


def run(manifest: Manifest, given: argparse.Namespace, words: str, label: str) -> Scores:
    """Trains without an emotion, one seed; returns each measure, as it is and in every draw of speakers."""
    protocol = load_protocol(given.protocol)
    said = words_of(words, protocol.labels)
    folder = given.runs / f"{protocol.name}-left-out-{given.target}" / words / label
    seen = [each for each in protocol.labels if each != label]
    file = folder.with_suffix(".yaml")
    file.parent.mkdir(parents=True, exist_ok=True)
    dumped = protocol.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    file.write_text(yaml.safe_dump({**dumped, "labels": seen}), encoding="utf-8")
    settings = language_settings(
        overrides=(f"train.epochs={given.epochs}", "train.learning_rate=3e-4"),
        protocol=str(file),
        encoder=given.encoder,
        language={"text": {"model": given.text, "templates": [TEMPLATE]}},
        clap={"target": given.target, "words": {each: said[each] for each in seen}},
        enrolment=False,
    )
    trained = pretrain_language(manifest, settings, folder)
    table = asked_for_all(manifest, given.protocol, trained.path, said)
    labels = protocol.labels
    counted = tally(table, labels)
    weights, place = draw_speakers(len(counted.speakers), DRAWS, 0), labels.index(label)
    known = score_draws(counted, weights, lambda matrices: np.delete(recalls(matrices), place, 1).mean(1))
    left_out = score_draws(counted, weights, lambda matrices: recalls(matrices)[:, place])
    harmonic = 2 * known * left_out / np.maximum(known + left_out, 1e-9)
    return {"harmonic": harmonic, "seen": known, "left_out": left_out}


def words_of(kind: str, labels: tuple[str, ...]) -> dict[str, str]:
    """Returns a word for each class: its own, that of another class, or a made-up one."""
    own = [FEELINGS.get(label, label) for label in labels]
    if kind == "random":
        own = list(MADE_UP[: len(labels)])
    order = np.random.default_rng([0, 23]).permutation(len(labels))
    if kind == "shuffled":
        other = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
        own = [own[other[place]] for place in range(len(labels))]
    return dict(zip(labels, own, strict=True))


def asked_for_all(manifest: Manifest, protocol: str, run: Path, words: dict[str, str]) -> pd.DataFrame:
    """Asks the recogniser of each fold for all emotions, and returns its predictions of test."""
    prompts = {worded(TEMPLATE, label, words=words): label for label in words}
    tables = []
    selected = load_protocol(protocol).select(manifest)
    for fold in load_protocol(protocol).folds(manifest):
        test = selected.where(fold.test)
        recogniser = with_prompts(run / f"seed-0/fold-{fold.number}/recogniser", list(prompts))
        found = pd.DataFrame(recogniser.files(test))
        table = pd.DataFrame({"speaker": test.owners, "truth": test.table["emotion"], "seed": 0})
        table["label"] = found["label"].map(prompts).to_numpy()
        tables.append(table.assign(fold=fold.number))
    joined = pd.concat(tables, ignore_index=True)
    return joined[joined["label"].notna()]


def recalls(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the recall of each class, ``(N, K)``, of confusion matrices ``(N, K, K)``."""
    return np.diagonal(matrices, axis1=1, axis2=2) / np.maximum(matrices.sum(2), 1e-9)


def row(
    given: argparse.Namespace,
    manifest: Manifest,
    words: str,
    found: dict[str, Scores],
    each: dict[str, Scores],
) -> dict[str, Any]:
    """Returns a row of the table, its differences taken from the own words."""
    made: dict[str, Any] = {"method": f"{words} words", "protocol": given.protocol, "seeds": [0]}
    for name in MEASURES:
        made[name], made[f"{name}_low"], made[f"{name}_high"] = ends(found[words][name])
    made["by_emotion"] = {label: {name: own[name][0] for name in MEASURES} for label, own in each.items()}
    if words != "own":
        gap = found["own"]["harmonic"] - found[words]["harmonic"]
        made["own_is_better_by"], made["own_is_better_by_low"], made["own_is_better_by_high"] = ends(gap)
    made["command"] = (
        f"python experiments/left_out.py --manifest MANIFEST --text {given.text} --protocol {given.protocol} "
        f"--encoder {given.encoder} --target {given.target} --epochs {given.epochs}"
    )
    made["manifest_sha256"] = manifest.sha256
    return made


def ends(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Returns the value and the ends of its 95 % interval over draws of speakers."""
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return float(values[0]), float(low), float(high)


def page(rows: list[dict[str, Any]]) -> str:
    """Draws the tables."""

    def shown(row: dict[str, Any], name: str, sign: str = "") -> str:
        if name not in row:
            return ""
        value, low, high = (f"{100 * row[name + end]:{sign}.1f}" for end in ("", "_low", "_high"))
        return f"{value} [{low}, {high}]".replace("-", MINUS)

    labels = list(rows[0]["by_emotion"])
    lines = [
        "# Emotions left out of training, by their words alone",
        "",
        f"Protocol `{rows[0]['protocol']}`, one seed, percent; {len(labels)} runs, each without one emotion, "
        "averaged; in brackets the 95 % interval over speakers (bootstrap). Chosen among all emotions. The "
        "harmonic mean is that of UAR on the seen emotions and recall of the left-out one, run by run.",
        "",
        "| words | harmonic mean | UAR, seen | recall, left out | own words better by |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        scores = " | ".join(shown(row, name) for name in MEASURES)
        lines.append(f"| {row['method']} | {scores} | {shown(row, 'own_is_better_by', '+')} |")
    lines += ["", "Recall of the left-out emotion:", "", f"| words | {' | '.join(labels)} |"]
    lines.append("|---|" + "---:|" * len(labels))
    for row in rows:
        own = " | ".join(f"{100 * row['by_emotion'][label]['left_out']:.1f}" for label in labels)
        lines.append(f"| {row['method']} | {own} |")
    lines += ["", "## How it was made", "", "```sh", rows[0]["command"], "```", ""]
    lines.append(f"- manifest `{rows[0]['manifest_sha256']}`")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
