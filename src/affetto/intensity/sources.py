"""What curves of intensity are made of: labels, an earlier network, a recogniser, or the sound itself."""

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from affetto.audio import SAMPLE_RATE
from affetto.config import Settings
from affetto.corpora.curves import INTENSITY_COLUMN
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import NewArrayColumn
from affetto.errors import ConfigError, ManifestError, ProtocolError
from affetto.features import FrontEnd
from affetto.intensity.fit import FoldLabels, RankerSettings, fold_network, predict_all, speaker_numbers
from affetto.intensity.network import find_strength_net, load_strength_net
from affetto.intensity.ranker import NEUTRAL, distance_from_class, loudness, scaled_by_corpus
from affetto.material.recordings import Recordings
from affetto.models.checkpoint import find_recogniser, weights_sha256
from affetto.models.classifier import load_classifier
from affetto.progress import progress
from affetto.protocols.protocol import load_protocol
from affetto.runs import RunFolder

DEFAULT_PROTOCOLS = {"crema-d": "crema-d-6-evar"}
"""Whose labels may be used where nothing says so, by corpus."""

Curves = list[NDArray[np.float32]]
Seen = dict[str, list[str]]  # speakers whose labels were seen, by fold, or under "" with one column


class IntensitySettings(Settings):
    """How ``annotate intensity`` makes curves."""

    # Learned from emotion labels by relative attributes; one minus the probability of neutral; or the sound.
    source: Literal["ranker", "recogniser", "loudness", "voicing"] = "ranker"
    name: NewArrayColumn | None = None  # None for ``intensity``, or the source's own name without labels
    protocol: str | None = (
        None  # whose train and dev speakers' labels the ranker sees; None: the corpus's own
    )
    model: str | None = None  # a network that an earlier run made, in place of labels
    recogniser: str | None = None  # a folder; it reads windows of window_seconds every hop_seconds
    window_seconds: float = Field(1.0, ge=0.1)
    hop_seconds: float = Field(0.2, gt=0)
    ranker: RankerSettings = RankerSettings()

    @model_validator(mode="after")
    def _fits(self) -> "IntensitySettings":
        if (self.source == "recogniser") != (self.recogniser is not None):
            raise ValueError("the source recogniser, and no other, takes a recogniser (--recogniser FOLDER)")
        if self.source != "ranker" and (self.model is not None or self.protocol is not None):
            raise ValueError(f"the source {self.source} reads no labels: leave protocol and model out")
        if self.model is not None and self.protocol is not None:
            raise ValueError("a model has learned already; name either a model or a protocol")
        if self.hop_seconds > self.window_seconds:
            raise ValueError("hop_seconds must not be longer than window_seconds, or parts are not heard")
        return self

    @property
    def column(self) -> str:
        """The name of the column."""
        plain = INTENSITY_COLUMN if self.source in ("ranker", "recogniser") else self.source
        return self.name or plain

    def with_protocol(self, manifest: Manifest) -> "IntensitySettings":
        """Returns the settings with the protocol of the manifest's corpus, where the ranker needs one."""
        if self.source != "ranker" or self.protocol or self.model:
            return self
        corpora = manifest.corpora
        if len(corpora) != 1 or corpora[0] not in DEFAULT_PROTOCOLS:
            raise ConfigError(
                "intensity is learned from emotion labels, and nothing says whose may be used: name a "
                "--protocol, of whose training and dev speakers they are, or the --model of an earlier run; "
                "--source loudness and --source voicing need neither"
            )
        return self.model_copy(update={"protocol": DEFAULT_PROTOCOLS[corpora[0]]})


class Made(NamedTuple):
    """Curves of every utterance, one after another, ``values (sum of lengths, C)``: a column a fold, or one.

    ``tested (N,)`` is the column that tests each utterance, of a fold which did not see labels of its
    speaker; -1 for none. ``emotions`` are compared with the curves, ``info`` is for the sidecar, and
    ``choices`` are what dev chose, by fold.
    """

    values: NDArray[np.float32]
    lengths: NDArray[np.int64]
    tested: NDArray[np.int64]
    emotions: list[str | None]
    info: dict[str, Any]
    choices: dict[str, Any]

    def tested_curves(self) -> Curves:
        """Returns the curve ``(T,)`` that tests each utterance; the first one where none does."""
        each = np.split(self.values, np.cumsum(self.lengths)[:-1])
        return [values[:, column] for values, column in zip(each, self.tested.clip(0), strict=True)]


Ready = tuple[dict[str, Any], Callable[[Recordings, RunFolder], Made]]
"""What a run folder records of a source that is ready, and what makes its curves."""


def _from_sound(manifest: Manifest, settings: IntensitySettings) -> Ready:
    """Loudness or voicing, a value every 10 ms."""

    def make(recordings: Recordings, run: RunFolder) -> Made:
        loud = settings.source == "loudness"
        front_end = FrontEnd() if loud else FrontEnd(bins=1, pitch=True)
        rows = progress(range(len(recordings.waveforms)), settings.source)
        if loud:
            curves = [loudness(recordings.waveforms[row], front_end) for row in rows]
        else:
            features = recordings.features(front_end)
            curves = [np.asarray(features[row][:, -1]) for row in rows]
        made_by = {"protocol": None, "source_sha256": f"{settings.source} {front_end.sha256}"}
        return _made(recordings, {"": curves}, {}, loud, hop_seconds=front_end.hop_seconds, **made_by)

    return {}, make


def _from_recogniser(manifest: Manifest, settings: IntensitySettings) -> Ready:
    """One minus the probability of neutral, window by window."""
    folder = find_recogniser(str(settings.recogniser))
    classifier, config = load_classifier(folder)
    labels = classifier.settings.labels
    if NEUTRAL not in labels:
        raise ConfigError(
            f"{folder} knows {', '.join(labels)} and not {NEUTRAL}; intensity is how far speech is from "
            f"{NEUTRAL}, so name a recogniser that has this class, or another --source"
        )
    sha256, label = weights_sha256(classifier), labels.index(NEUTRAL)
    window, hop = (round(each * SAMPLE_RATE) for each in (settings.window_seconds, settings.hop_seconds))

    def make(recordings: Recordings, run: RunFolder) -> Made:
        curves = [
            distance_from_class(classifier, label, recordings.waveforms[row], window, hop)
            for row in progress(range(len(recordings.waveforms)), "recognise")
        ]
        facts = {"hop_seconds": hop / SAMPLE_RATE, "source_sha256": f"{sha256} {window} {hop}"}
        facts["weights_from_elsewhere"] = bool(config.get("weights_from_elsewhere"))
        seen = {"": _speakers_of(config, recordings.manifest)}
        return _made(recordings, {"": curves}, seen, False, protocol=config.get("protocol"), **facts)

    return {"source_sha256": sha256}, make


def _speakers_of(config: dict[str, Any], manifest: Manifest) -> list[str]:
    """Returns whose labels a recogniser saw, with their corpus, also where its config leaves that out."""
    corpora = manifest.corpora
    try:
        own = load_protocol(str(config.get("protocol"))).corpus
        corpora = [own] if own else corpora
    except ProtocolError:
        pass  # an unpublished protocol; its speakers may be of any corpus here
    seen = config.get("speakers_seen", {})
    names = [name for kind in ("with_labels", "chosen_on") for name in seen.get(kind, [])]
    full = ([name] if "/" in name else [f"{of}/{name}" for of in corpora] for name in names)
    return sorted({name for each in full for name in each})


def _from_network(manifest: Manifest, settings: IntensitySettings) -> Ready:
    """The network of an earlier run."""
    network, config = load_strength_net(find_strength_net(str(settings.model)))
    facts = {"source_sha256": weights_sha256(network)}

    def make(recordings: Recordings, run: RunFolder) -> Made:
        curves = predict_all(recordings, network, config["centre"])
        of = {"protocol": config["protocol"], "hop_seconds": network.hop_seconds, **facts}
        return _made(recordings, {"": curves}, {"": config["speakers_seen"]["with_labels"]}, True, **of)

    return facts, make


def _from_labels(manifest: Manifest, settings: IntensitySettings) -> Ready:
    """A network a fold, trained on the labels of the fold's training and dev speakers, or that of a model."""
    if settings.model:
        return _from_network(manifest, settings)
    protocol = load_protocol(str(settings.protocol))
    selected = protocol.select(manifest)
    folds = protocol.folds(selected)
    labels = list(protocol.labels) or selected.labels
    if NEUTRAL not in labels or len(labels) < 2:
        raise ManifestError(
            f"{protocol.name} has the classes {', '.join(labels) or '(none)'}; intensity is how far speech "
            f"lies above {NEUTRAL}, so that {NEUTRAL} and another are needed: choose another protocol, or "
            "--source loudness or voicing"
        )
    emotions = dict(zip(selected.keys, selected.table["emotion"], strict=True))
    facts = {"labels": labels, "protocol": protocol.name, "protocol_sha256": protocol.sha256}

    def make(recordings: Recordings, run: RunFolder) -> Made:
        owners = np.array(recordings.manifest.owners)
        classes = [emotions.get(key) for key in recordings.manifest.keys]
        truth = np.array([-1 if each is None else labels.index(each) for each in classes], np.int64)
        tested = np.full(len(truth), -1)
        networks, choices, curves, seen = [], {}, {}, {}
        for column, fold in enumerate(progress(folds, "intensity")):
            train, dev = recordings.rows(fold.train), recordings.rows(fold.dev)
            known = np.isin(np.arange(len(truth)), np.concatenate([train, dev]))
            learned = FoldLabels(train, dev, np.where(known, truth, -1), labels, speaker_numbers(recordings))
            speakers = {"with_labels": _names(owners[known]), "without_labels": _names(owners)}
            about = {**facts, "fold": fold.number, "speakers_seen": speakers}
            folder = RunFolder(run / f"fold-{fold.number}")
            network, config = fold_network(recordings, learned, settings.ranker, folder, about)
            number = str(fold.number) if len(folds) > 1 else ""
            choices[str(fold.number)] = config["choices"]
            seen[number] = config["speakers_seen"]["with_labels"]
            networks.append(network)
            curves[number] = predict_all(recordings, network, config["centre"])
            tested[recordings.rows(fold.test)] = column
        of = {"hop_seconds": network.hop_seconds, "source_sha256": "".join(map(weights_sha256, networks))}
        made = _made(recordings, curves, seen, True, protocol=protocol.name, **of)
        return made._replace(tested=tested, emotions=classes, choices=choices)

    return {"protocol_sha256": protocol.sha256}, make


def _made(recordings: Recordings, columns: dict[str, Curves], seen: Seen, scale: bool, **facts: Any) -> Made:
    """Puts the curves of each fold together; ``scale`` brings the frames of each corpus to 0 to 1."""
    manifest, ends, values = recordings.manifest, {}, []
    corpora = manifest.table["corpus"].fillna("").to_numpy(str)
    for fold, curves in columns.items():
        if scale:
            joined, ends[fold] = scaled_by_corpus(curves, corpora)
        values.append(joined if scale else np.concatenate(curves))
    known = set().union(*seen.values(), [""])
    tested = [-1 if name in known else 0 for name in manifest.owners]
    info = {
        "folds": None if "" in columns else list(map(int, columns)),
        "speakers_seen": {"with_labels": seen, "without_labels": _names(manifest.owners)},
        "weights_from_elsewhere": False,
        "ends": ends,
        **facts,
    }
    lengths = np.array([len(curve) for curve in curves], np.int64)
    emotions = list(manifest.table["emotion"])
    return Made(np.stack(values, axis=1), lengths, np.array(tested), emotions, info, {})


def _names(owners: Iterable[str]) -> list[str]:
    return sorted({str(name) for name in owners} - {""})


SOURCES: dict[str, Callable[[Manifest, IntensitySettings], Ready]] = {
    "ranker": _from_labels,
    "recogniser": _from_recogniser,
    "loudness": _from_sound,
    "voicing": _from_sound,
}
"""What prepares each source; raises before anything is written where the source cannot make curves."""
