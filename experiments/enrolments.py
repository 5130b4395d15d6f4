"""Ways of adapting to a speaker, compared on the same vectors inside a corpus and outside.

    python experiments/enrolments.py --manifest all.csv

`all.csv` joins CREMA-D, RAVDESS and EMO-DB. Logistic regressions learn from the training speakers of
`crema-d-to-ravdess`, on the means of Whisper base and GE2E; the regression for speakers that are not enrolled
reads Whisper alone. Scored are the dev speakers of CREMA-D and all speakers of the other two. The ways are:

- `mean`: the mean of the enrolled utterances is taken away;
- `shrunk mean`: less of it, by the spread within and between training speakers;
- `expectation maximisation`: classes of the enrolled utterances and the offset of the speaker are estimated
  in turn, with a prior of classes that follows them;
- `joint assignment`: as `shrunk mean`, then the speaker's utterances are clustered, and clusters and classes
  are matched one to one by the mean score; the class of its cluster is added to an utterance's score;
- `affetto`: the enrolment of the package, strengths fixed to that of the other rows.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn import functional as F

from affetto.corpora.manifest import Manifest
from affetto.evaluation.bootstrap import Tally, draw_speakers, score_draws, tally
from affetto.evaluation.metrics import uar_of
from affetto.finetuning.classical import logistic_path
from affetto.finetuning.settings import finetune_settings
from affetto.material.recordings import Material
from affetto.models.embedders import Joined, build_embedder, load_published
from affetto.models.enrolment import SpeakerOffset, draws, spread
from affetto.pages import percent, points
from affetto.protocols.protocol import load_protocol

STRENGTH, TRUST, REPEATS, DRAWS, ENROLLED = 0.001, 0.5, 3, 2000, 10
NAMES = {"crema-d": "CREMA-D, dev", "ravdess": "RAVDESS", "emodb": "EMO-DB"}
Rows = NDArray[np.int64]


class Bench:
    """The vectors, two regressions on them, and what they give."""

    def __init__(self, manifest: Manifest) -> None:
        self.material = material = Material(manifest, load_protocol("leave-one-corpus-out"), "cpu")
        (fold,) = load_protocol("crema-d-to-ravdess").folds(manifest)
        settings = finetune_settings(protocol="leave-one-corpus-out", encoder="whisper + ge2e")
        embedder = load_published(build_embedder(settings.embedder)).eval()
        assert isinstance(embedder, Joined)
        vectors, train = material.vectors(embedder), material.rows(fold.train)
        targets = material.targets(0.0)[train]
        self.offset = SpeakerOffset(vectors.shape[1], len(material.labels))
        numbers = np.unique(material.speakers[train], return_inverse=True)[1]
        truth = torch.from_numpy(material.truth)
        members = torch.nn.functional.one_hot(truth[train])
        centred = self.offset.fit(vectors[train], members, torch.from_numpy(numbers))
        self.standard = self.offset.standardise(vectors)
        reads = ~embedder.of_speaker
        ((_, weight, bias),) = logistic_path(self.standard[train][:, reads], targets, [STRENGTH])
        self.plain = (self.standard[:, reads] @ weight.T + bias).log_softmax(1)
        ((_, *head),) = logistic_path(centred, targets, [STRENGTH])
        self.offset.head.assign(*head)
        corpus, dev = material.manifest.table["corpus"].to_numpy(), material.rows(fold.dev)
        self.parts = {name: np.flatnonzero(corpus == name) for name in NAMES} | {"crema-d": dev}
        self.vectors = vectors
        self.offset.trust.fill_(TRUST)
        self._spreads(dev)

    def _spreads(self, dev: Rows) -> None:
        found: dict[bool, list[float]] = {True: [], False: []}
        for emotion in (None, *range(len(self.material.labels))):
            for enrolled, _ in self.drawn(dev, emotion):
                found[emotion is not None].append(float(spread(self.plain[enrolled])))
        ends = [float(np.median(found[True])), float(np.quantile(found[False], 0.1))]
        self.offset.spreads.copy_(torch.tensor(ends))

    def drawn(self, rows: Rows, emotion: int | None = None) -> list[tuple[Rows, Rows]]:
        """Draws ten enrolled utterances of each speaker, at random or of one emotion."""
        generator = np.random.default_rng(0)
        speakers, truth = self.material.speakers, self.material.truth
        repeats = [draws(speakers, truth, rows, ENROLLED, generator, emotion) for _ in range(REPEATS)]
        return [(each.enrolled, each.scored) for repeat in repeats for each in repeat]

    def whole(self, rows: Rows) -> list[tuple[Rows, Rows]]:
        """Enrols all utterances of each speaker, without labels, and scores them all."""
        speakers = self.material.speakers[rows]
        return [(rows[speakers == name],) * 2 for name in np.unique(speakers)]

    def shrinkage(self, count: int) -> Tensor:
        """Returns how much of a mean of so many is the speaker's, a dimension, ``(D,)``."""
        return self.offset.between / (self.offset.between + self.offset.within / count)

    def scores(self, rows: Rows, offset: Tensor) -> Tensor:
        """Scores rows without an offset."""
        return self.offset.head(self.standard[rows] - offset).log_softmax(1)


Way = Callable[[Bench, Rows, Rows], Tensor]


def none(bench: Bench, enrolled: Rows, scored: Rows) -> Tensor:
    """No enrolment."""
    return bench.plain[scored]


def mean(bench: Bench, enrolled: Rows, scored: Rows) -> Tensor:
    """Takes the mean away."""
    return bench.scores(scored, bench.standard[enrolled].mean(0))


def shrunk(bench: Bench, enrolled: Rows, scored: Rows) -> Tensor:
    """Takes the shrunk mean away."""
    return bench.scores(scored, bench.shrinkage(len(enrolled)) * bench.standard[enrolled].mean(0))


def maximised(bench: Bench, enrolled: Rows, scored: Rows) -> Tensor:
    """Estimates classes and offset in turn; the prior of classes has two utterances of each on top."""
    count, classes = bench.plain[enrolled].shape
    shares, average = bench.plain[enrolled].exp(), bench.standard[enrolled].mean(0)
    for _ in range(3):
        offset = bench.shrinkage(count) * (average - shares.mean(0) @ bench.offset.class_offsets)
        prior = (shares.sum(0) + 2) / (count + 2 * classes)
        shares = (bench.scores(enrolled, offset) + prior.log()).softmax(1)
    offset = bench.shrinkage(count) * (average - shares.mean(0) @ bench.offset.class_offsets)
    return bench.scores(scored, offset)


def assigned(bench: Bench, enrolled: Rows, scored: Rows) -> Tensor:
    """Matches clusters of a speaker with classes one to one."""
    found, classes = shrunk(bench, enrolled, scored), bench.plain.shape[1]
    if len(scored) <= classes:
        return found
    own = (bench.standard[scored] - bench.standard[scored].mean(0)).numpy()
    clusters = KMeans(classes, n_init=4, random_state=0).fit_predict(own)
    means = np.stack([found[clusters == number].mean(0).numpy() for number in range(classes)])
    matched = torch.from_numpy(linear_sum_assignment(-means)[1])
    return found + F.one_hot(matched[torch.from_numpy(clusters).long()], classes)


def own(bench: Bench, enrolled: Rows, scored: Rows) -> Tensor:
    """The package's."""
    known = bench.offset.estimate(bench.vectors[enrolled], bench.plain[enrolled])
    return bench.offset.combine(bench.plain[scored], bench.vectors[scored], known)


WAYS: dict[str, Way] = {
    "none": none,
    "mean": mean,
    "shrunk mean": shrunk,
    "expectation maximisation": maximised,
    "joint assignment": assigned,
    "affetto": own,
}


def main() -> None:
    """Compares the ways, and writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("experiments"))
    given = parser.parse_args()
    manifest = Manifest.read(given.manifest)
    bench = Bench(manifest)
    with torch.inference_mode():
        rows = [row | {"manifest_sha256": manifest.sha256} for row in compare(bench)]
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "enrolments.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (given.out / "enrolments.md").write_text(page(rows), encoding="utf-8")
    print(page(rows))


def compare(bench: Bench) -> list[dict[str, Any]]:
    """Returns a row a corpus, a draw and a way."""
    found = []
    for corpus, rows in bench.parts.items():
        kinds = {"ten": bench.drawn(rows), "all": bench.whole(rows)}
        for number, label in enumerate(bench.material.labels):
            kinds[f"ten {label} only"] = bench.drawn(rows, number)
        for kind, drawn in kinds.items():
            base = _draws(bench, none, drawn)
            for name, way in WAYS.items():
                values = _draws(bench, way, drawn)
                gaps = values - base
                found.append(
                    {"corpus": corpus, "enrolled": kind, "way": name}
                    | dict(zip(("uar", "uar_low", "uar_high"), _ends(values), strict=True))
                    | dict(zip(("gain", "gain_low", "gain_high"), _ends(gaps), strict=True))
                )
    return found


def _draws(bench: Bench, way: Way, drawn: list[tuple[Rows, Rows]]) -> NDArray[np.float64]:
    """Returns the UAR of a way, and that of every draw of speakers."""
    labels, parts = bench.material.labels, []
    for enrolled, scored in drawn:
        told = way(bench, enrolled, scored).argmax(1).numpy()
        names = {"speaker": bench.material.speakers[scored], "seed": 0, "fold": 0}
        truth = [labels[code] for code in bench.material.truth[scored]]
        parts.append(pd.DataFrame(names | {"truth": truth, "label": [labels[code] for code in told]}))
    counted: Tally = tally(pd.concat(parts, ignore_index=True), labels)
    return score_draws(counted, draw_speakers(len(counted.speakers), DRAWS, 0), uar_of, "pooled")


def _ends(values: NDArray[np.float64]) -> tuple[float, float, float]:
    low, high = np.nanpercentile(values[1:], [2.5, 97.5])
    return float(values[0]), float(low), float(high)


def page(rows: list[dict[str, Any]]) -> str:
    """Draws the table: ten and all enrolled, and the worst of ten of one emotion."""
    lines = [
        "# Ways of adapting to a speaker, inside a corpus and outside",
        "",
        "Trained on CREMA-D, six classes. UAR in percent with the 95 % interval over speakers. *Ten*: "
        f"{REPEATS} random draws a speaker, not scored; *all*: every utterance of the speaker, without "
        "labels, which are all scored. *Worst of one emotion*: the gain over no enrolment with ten of one "
        "emotion, for the emotion where it is lowest.",
        "",
        "| scored | way | ten | all | worst of one emotion |",
        "|---|---|---:|---:|---:|",
    ]
    for corpus, title in NAMES.items():
        for way in WAYS:
            own = {row["enrolled"]: row for row in rows if (row["corpus"], row["way"]) == (corpus, way)}
            uars = [
                percent(own[kind]["uar"], own[kind]["uar_low"], own[kind]["uar_high"])
                for kind in ("ten", "all")
            ]
            worst = min((row for kind, row in own.items() if "only" in kind), key=lambda row: row["gain"])
            gain = points(worst["gain"], worst["gain_low"], worst["gain_high"])
            last = "" if way == "none" else f"{gain} ({worst['enrolled'].split()[1]})"
            lines.append(f"| {title} | {way} | {' | '.join(uars)} | {last} |")
    lines += ["", "## How it was made", "", "```sh"]
    lines += ["python experiments/enrolments.py --manifest all.csv", "```", ""]
    lines.append(f"- manifest `{rows[0]['manifest_sha256']}`")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
