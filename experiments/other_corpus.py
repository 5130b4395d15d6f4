"""Recognisers that know words, on corpora that they were not trained on: asked for classes, and searched.

    python experiments/other_corpus.py --run runs/crema-d-clap/class-vectors --run runs/crema-d-clap/emo \
        --manifest ravdess.csv --manifest emodb.csv

Recognition: every utterance is scored with the corpus's own class names as prompts, those included that the
recogniser was never trained on, and with the classes of training alone. Search: the corpus is ranked for each
emotion of training, by the cosine with its text and by the probability of its class; average precision, the
mean over the emotions. A run with class vectors, named first, is what the others are compared with. Speakers
have none, ten or all of their utterances enrolled, without labels; the ten are left out of what is scored.
Means over the seeds of a run; intervals over speakers. No utterance of the corpora is trained or chosen on.
"""

import argparse
import json
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from affetto.corpora.manifest import Manifest
from affetto.errors import ConfigError
from affetto.evaluation.bootstrap import draw_speakers
from affetto.language.clap import worded
from affetto.language.search import Prompted, language_head, text_encoder
from affetto.material.recordings import Recordings
from affetto.models.checkpoint import RECOGNISER, read_config
from affetto.models.classifier import EmotionClassifier, load_classifier
from affetto.models.enrolment import draws
from affetto.pages import MINUS

TEMPLATE = "the speaker sounds {emotion}"
SIZES = ("0", "10", "all")
OWN, NEW, KNOWN = "own classes", "of these, never trained on", "known classes"
BY_TEXT, BY_CLASS = "search by text", "search by class"
DRAWS = 1000
Scores = dict[tuple[str, str], NDArray[np.float64]]  # by measure and size: as it is, and in draws of speakers


class Corpus(NamedTuple):
    """A corpus: its classes, the true ones ``(N,)``, speakers ``(N,)``, and weights of speakers in draws."""

    name: str
    recordings: Recordings
    labels: list[str]
    truth: NDArray[np.int64]
    speakers: NDArray[np.str_]
    weights: NDArray[np.float64]  # of each utterance in each draw, (1 + DRAWS, N); ones in the first


def main() -> None:
    """Scores every run on every corpus and draws the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, action="append", required=True, help="folder of finetune")
    parser.add_argument("--manifest", type=Path, action="append", required=True)
    parser.add_argument("--out", type=Path, default=Path("experiments"))
    given = parser.parse_args()
    words = [word for run in given.run for word in ("--run", str(run))]
    words += [word for file in given.manifest for word in ("--manifest", file.name)]
    config = read_config(given.run[0] / RECOGNISER)
    rows = []
    for file in given.manifest:
        corpus = read(Manifest.read(file))
        first: Scores = {}
        for run in given.run:
            found = score(run, corpus)
            first = first or found
            rows += described(run, corpus, found, first, config["labels"])
    name = f"{config['protocol']}-other-corpora"
    made = {"command": shlex.join(["python", "experiments/other_corpus.py", *words]), "rows": rows}
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / f"{name}.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    (given.out / f"{name}.md").write_text(page(made), encoding="utf-8")
    print(page(made))


def read(manifest: Manifest) -> Corpus:
    """Reads the utterances with an emotion."""
    recordings = Recordings(manifest.where(manifest.table["emotion"].notna().to_numpy()))
    emotions = recordings.manifest.table["emotion"].astype(str)
    labels = sorted(set(emotions))
    known, place = np.unique(recordings.speakers, return_inverse=True)
    weights = np.asarray(draw_speakers(len(known), DRAWS, 0), np.float64)[:, place]
    truth = np.array([labels.index(each) for each in emotions])
    return Corpus(", ".join(manifest.corpora), recordings, labels, truth, recordings.speakers, weights)


@torch.no_grad()
def score(run: Path, corpus: Corpus) -> Scores:
    """Returns the measures of a run, its seeds averaged."""
    found: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
    for seed, folder in enumerate(sorted(run.glob("seed-*/fold-1/recogniser"))):
        classifier = load_classifier(folder)[0]
        for key, values in measures(folder, classifier, corpus, seed).items():
            found.setdefault(key, []).append(values)
    return {key: np.mean(values, 0) for key, values in found.items()}


def measures(folder: Path, classifier: EmotionClassifier, corpus: Corpus, seed: int) -> Scores:
    """Returns the measures of one recogniser."""
    vectors = corpus.recordings.vectors(classifier.embedder)
    known = [corpus.labels.index(label) for label in classifier.settings.labels]
    asked, queries = None, None
    try:
        head = language_head(classifier)
        encoder = text_encoder(folder, head)
        texts = [worded(TEMPLATE, label) for label in corpus.labels]
        asked = Prompted(classifier, texts, encoder(texts)).eval()
        queries = head.project_texts(encoder([worded(TEMPLATE, each) for each in classifier.settings.labels]))
    except ConfigError:
        pass  # it knows classes alone
    found: Scores = {}
    for size in SIZES:
        offsets, scored = offsets_of(classifier, vectors, corpus, size, seed)
        kept = scored & np.isin(corpus.truth, known)
        classes = probabilities(classifier, vectors, offsets)
        best = np.array(known)[classes.argmax(1)]
        found[KNOWN, size] = recalls(corpus, best, kept)
        found[BY_CLASS, size] = precision(corpus, classes, known, scored)
        if asked is not None and queries is not None:
            best = probabilities(asked, vectors, offsets).argmax(1)
            found[OWN, size] = recalls(corpus, best, scored)
            if (new := ~np.isin(corpus.truth, known)).any():
                found[NEW, size] = recalls(corpus, best, scored & new)
            centred = classifier.standardise(vectors) - (0 if offsets is None else offsets[:, :-1])
            cosines = language_head(classifier).project_audio(centred) @ queries.T
            found[BY_TEXT, size] = precision(corpus, cosines.double().numpy(), known, scored)
    return found


def offsets_of(
    classifier: EmotionClassifier, vectors: torch.Tensor, corpus: Corpus, size: str, seed: int
) -> tuple[torch.Tensor | None, NDArray[np.bool_]]:
    """Returns the offset of each utterance's speaker, and which utterances are scored."""
    scored = np.ones(len(vectors), bool)
    if size == "0":
        return None, scored
    offsets = torch.zeros(len(vectors), vectors.shape[1] + 1)
    rows = np.arange(len(vectors))
    if size == "all":
        for speaker in np.unique(corpus.speakers):
            own = torch.from_numpy(corpus.speakers == speaker)
            offsets[own] = classifier.offset(vectors[own])
        return offsets, scored
    for each in draws(corpus.speakers, corpus.truth, rows, int(size), np.random.default_rng([seed, 31])):
        offsets[torch.from_numpy(each.scored)] = classifier.offset(vectors[torch.from_numpy(each.enrolled)])
        scored[each.enrolled] = False
    return offsets, scored


def probabilities(
    classifier: EmotionClassifier, vectors: torch.Tensor, offsets: torch.Tensor | None
) -> NDArray[np.float64]:
    """Returns the probability of each class, ``(N, K)``."""
    return classifier.answers(vectors, offsets).double().numpy()


def recalls(corpus: Corpus, best: NDArray[np.int64], scored: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns the UAR of predictions ``(N,)``, as it is and in every draw of speakers."""
    found = []
    for label in np.unique(corpus.truth[scored]):
        own = corpus.weights[:, scored & (corpus.truth == label)]
        right = best[scored & (corpus.truth == label)] == label
        found.append((own @ right) / np.maximum(own.sum(1), 1e-9))
    return np.mean(found, 0)


def precision(
    corpus: Corpus, scores: NDArray[np.float64], known: list[int], scored: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Returns the mean average precision of rankings by scores ``(N, K)``, in the same draws."""
    found = []
    for column, label in enumerate(known):
        order = np.flatnonzero(scored)[np.argsort(-scores[scored, column], kind="stable")]
        weights = corpus.weights[:, order]
        relevant = weights * (corpus.truth[order] == label)
        share = np.cumsum(relevant, 1) / np.maximum(np.cumsum(weights, 1), 1e-9)
        found.append((share * relevant).sum(1) / np.maximum(relevant.sum(1), 1e-9))
    return np.mean(found, 0)


def described(
    run: Path, corpus: Corpus, found: Scores, first: Scores, known: list[str]
) -> list[dict[str, Any]]:
    """Returns a row for each measure, with what it is above the first run's; by text above by class."""
    rows: list[dict[str, Any]] = []
    for measure in dict.fromkeys(measure for measure, _ in found):
        row: dict[str, Any] = {"corpus": corpus.name, "run": run.name, "measure": measure, "sizes": {}}
        row["chance"] = chance(corpus, measure, known)
        for size in SIZES:
            values = found[measure, size]
            each: dict[str, list[float]] = {"value": ends(values)}
            rival = first.get((BY_CLASS if measure == BY_TEXT else measure, size))
            if rival is not None and rival is not values:
                each["over_first"] = ends(values - rival)
            row["sizes"][size] = each
        rows.append(row | {"manifest_sha256": corpus.recordings.manifest.sha256})
    return rows


def ends(values: NDArray[np.float64]) -> list[float]:
    """Returns the value and the ends of its 95 % interval over draws of speakers."""
    return [float(values[0]), *map(float, np.percentile(values[1:], [2.5, 97.5]))]


def chance(corpus: Corpus, measure: str, known: list[str]) -> float:
    """Returns what guessing reaches: one over the classes, or the mean share of the emotions of training."""
    if measure in (OWN, NEW, KNOWN):
        return 1 / len(known if measure == KNOWN else corpus.labels)
    return float(np.isin(np.array(corpus.labels)[corpus.truth], known).mean() / len(known))


def page(made: dict[str, Any]) -> str:
    """Draws the table."""

    def shown(values: list[float] | None, sign: str = "") -> str:
        if values is None:
            return ""
        value, low, high = (f"{100 * each:{sign}.1f}" for each in values)
        return f"{value} [{low}, {high}]".replace("-", MINUS)

    first = made["rows"][0]["run"]
    lines = [
        "# Other corpora: asked for their own classes, and searched by text",
        "",
        "UAR for classes, mean average precision over the emotions for search, in percent; in brackets "
        "the 95 % interval over speakers (bootstrap). Nothing of these corpora was trained on or chosen "
        "on. Own classes are all of the corpus, asked for by text, some of which were never trained on; "
        "known classes are those of training. Searches rank the whole corpus for each emotion of "
        "training, by its text or by the probability of its class. Enrolled: utterances of each speaker,"
        " without labels; ten are not scored, with all they are.",
        "",
        "| corpus | run | measure | chance | none enrolled | ten | all |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for row in made["rows"]:
        values = " | ".join(shown(each["value"]) for each in row["sizes"].values())
        lines.append(
            f"| {row['corpus']} | {row['run']} | {row['measure']} | {100 * row['chance']:.1f} | {values} |"
        )
    lines += ["", f"Above {first}, paired; a search by text against its search by class:", ""]
    lines += ["| corpus | run | measure | none enrolled | ten | all |", "|---|---|---|---:|---:|---:|"]
    for row in made["rows"]:
        gaps = [shown(each.get("over_first"), "+") for each in row["sizes"].values()]
        if any(gaps):
            lines.append(f"| {row['corpus']} | {row['run']} | {row['measure']} | {' | '.join(gaps)} |")
    lines += ["", "## How it was made", "", "```sh", made["command"], "```", ""]
    hashes = dict.fromkeys((row["corpus"], row["manifest_sha256"]) for row in made["rows"])
    lines += [f"- manifest `{sha256}` ({corpus})" for corpus, sha256 in hashes]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
