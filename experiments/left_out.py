"""Emotions that were never trained on, recognised by their words alone.

Each emotion of a protocol is left out of training in turn; the recogniser is then asked for all of them, by
prompts. A run is scored by its UAR on the seen emotions, its recall of the left-out one, and the average
precision of a search for the left-out one by its word, which need not win against the seen ones there. The
runs are averaged. The controls are the same runs in which every emotion has a made-up word.

    python experiments/left_out.py --manifest crema-d.csv --text sentence-transformers/all-MiniLM-L6-v2

Finished runs are kept, and the same command continues an interrupted one.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from affetto.corpora.manifest import Manifest
from affetto.evaluation.bootstrap import draw_speakers
from affetto.language import language_settings, pretrain_language, worded
from affetto.language.clap import FEELINGS
from affetto.language.search import Prompted, language_head, text_encoder
from affetto.material.recordings import Recordings
from affetto.models.classifier import load_classifier
from affetto.pages import MINUS
from affetto.protocols.protocol import Protocol, load_protocol

MADE_UP = ("dax", "wug", "blick", "toma", "fep", "zorch", "kiv", "mep", "gorp", "nalt")
TEMPLATE = "the speaker sounds {emotion}"
DRAWS = 2000
MEASURES = ("seen", "left_out", "found")
Scores = dict[str, NDArray[np.float64]]


def main() -> None:
    """Runs what is missing and draws the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--text", required=True, help="text encoder: a folder, or a name on the hub")
    parser.add_argument("--protocol", default="crema-d-6-evar")
    parser.add_argument("--encoder", default="whisper-means")
    parser.add_argument("--target", default="emo", choices=("emo", "hard"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("experiments"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    given = parser.parse_args()
    manifest = Manifest.read(given.manifest)
    labels = load_protocol(given.protocol).labels
    found: dict[str, Scores] = {}
    each: dict[str, dict[str, Scores]] = {}
    for words in ("own", "random"):
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
    dumped.pop("label_map", None)  # of all classes
    file.write_text(yaml.safe_dump({**dumped, "labels": seen}), encoding="utf-8")
    settings = language_settings(
        overrides=(f"train.epochs={given.epochs}", "train.learning_rate=1e-3", "train.batch_size=128"),
        protocol=str(file),
        encoder=given.encoder,
        language={"text": {"model": given.text, "templates": [TEMPLATE]}},
        clap={"target": given.target, "words": {each: said[each] for each in seen}},
        enrolment=False,
    )
    trained = pretrain_language(manifest, settings, folder)
    truth, speakers, probabilities, cosines = asked_for_all(manifest, protocol, trained.path, said)
    known, place = np.unique(speakers, return_inverse=True)
    weights = draw_speakers(len(known), DRAWS, 0)[:, place]
    right = {
        each: (weights[:, truth == number] @ (probabilities[truth == number].argmax(1) == number))
        / np.maximum(weights[:, truth == number].sum(1), 1e-9)
        for number, each in enumerate(protocol.labels)
    }
    column = protocol.labels.index(label)
    order = np.argsort(-cosines[:, column], kind="stable")
    relevant = weights[:, order] * (truth[order] == column)
    share = np.cumsum(relevant, 1) / np.maximum(np.cumsum(weights[:, order], 1), 1e-9)
    found = (share * relevant).sum(1) / np.maximum(relevant.sum(1), 1e-9)
    return {"seen": np.mean([right[each] for each in seen], 0), "left_out": right[label], "found": found}


def words_of(kind: str, labels: tuple[str, ...]) -> dict[str, str]:
    """Returns a word for each class: its own, or a made-up one."""
    own = [FEELINGS.get(label, label) for label in labels]
    return dict(zip(labels, own if kind == "own" else MADE_UP, strict=False))


@torch.no_grad()
def asked_for_all(
    manifest: Manifest, protocol: Protocol, run: Path, words: dict[str, str]
) -> tuple[NDArray[np.int64], NDArray[np.str_], NDArray[np.float64], NDArray[np.float64]]:
    """Asks the recogniser of each fold for all emotions.

    Returns of test the true classes and speakers, ``(N,)``, and probabilities and cosines, ``(N, K)``.
    """
    texts = [worded(TEMPLATE, label, words=words) for label in protocol.labels]
    recordings = Recordings(protocol.select(manifest))
    emotions = recordings.manifest.table["emotion"]
    truth = np.array([protocol.labels.index(each) for each in emotions])
    parts = []
    for fold in protocol.folds(recordings.manifest):
        folder = run / f"seed-0/fold-{fold.number}/recogniser"
        classifier, rows = load_classifier(folder)[0], recordings.rows(fold.test)
        head = language_head(classifier)
        vectors = recordings.vectors(classifier.embedder)[torch.from_numpy(rows)]
        encoded = text_encoder(folder, head)(texts)
        answers = Prompted(classifier, texts, encoded).eval().answers(vectors)
        cosines = head.project_audio(classifier.standardise(vectors)) @ head.project_texts(encoded).T
        parts.append((truth[rows], recordings.speakers[rows], answers.double().numpy(), cosines.numpy()))
    joined = [np.concatenate(each) for each in zip(*parts, strict=True)]
    return joined[0], joined[1], joined[2], joined[3]


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
        gap = found["own"]["found"] - found[words]["found"]
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
        f"Protocol `{rows[0]['protocol']}`, one seed, percent; {len(labels)} runs, each without one "
        "emotion, averaged; in brackets the 95 % interval over speakers (bootstrap). Chosen among all "
        "emotions. Search: average precision of the left-out emotion where test is ranked by its word; "
        f"chance is {100 / len(labels):.0f}.",
        "",
        "| words | UAR, seen | recall, left out | search, left out | own words better at search by |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        scores = " | ".join(shown(row, name) for name in MEASURES)
        lines.append(f"| {row['method']} | {scores} | {shown(row, 'own_is_better_by', '+')} |")
    lines += ["", "Average precision of the left-out emotion:", "", f"| words | {' | '.join(labels)} |"]
    lines.append("|---|" + "---:|" * len(labels))
    for row in rows:
        own = " | ".join(f"{100 * row['by_emotion'][label]['found']:.1f}" for label in labels)
        lines.append(f"| {row['method']} | {own} |")
    lines += ["", "## How it was made", "", "```sh", rows[0]["command"], "```", ""]
    lines.append(f"- manifest `{rows[0]['manifest_sha256']}`")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
