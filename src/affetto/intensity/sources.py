"""What curves of intensity are made of: labels, an earlier network, a recogniser, or the sound itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from affetto.audio import SAMPLE_RATE
from affetto.config import Settings
from affetto.corpora.curves import INTENSITY_COLUMN
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import NewArrayColumn
from affetto.errors import ConfigError, ProtocolError
from affetto.features import FrontEnd
from affetto.intensity.curves import NEUTRAL, distance_from_class, loudness, scaled_by_corpus
from affetto.intensity.fit import (
    FoldLabels,
    RankerSettings,
    check_labels,
    fit_folds,
    network_input,
    predict_curves,
)
from affetto.intensity.network import StrengthNet, find_strength_net, load_strength_net, networks_sha256
from affetto.material.recordings import Recordings
from affetto.models.classifier import load_classifier
from affetto.progress import progress
from affetto.protocols.protocol import load_protocol
from affetto.runs import RunFolder

DEFAULT_PROTOCOLS = {"crema-d": "crema-d-6-evar"}
"""Whose labels may be used where nothing says so, by corpus."""


class IntensitySettings(Settings):
    """How ``annotate intensity`` makes curves.

    Attributes:
        source: ``ranker``, learned from emotion labels by relative attributes; ``recogniser``, one minus the
            probability of neutral; ``loudness``; ``voicing``.
        name: of the column, and of the array beside the manifest; None for ``intensity``, or for the source's
            own name where no label is read.
        protocol: whose training and dev speakers the ranker's labels may come from; None for the one of
            :data:`DEFAULT_PROTOCOLS`.
        model: a network that an earlier run made, in place of labels.
        recogniser: folder of a recogniser, for the source of this name.
        window_seconds: length of the recogniser's windows.
        hop_seconds: step between them.
        ranker: how intensity is learned.
    """

    source: Literal["ranker", "recogniser", "loudness", "voicing"] = "ranker"
    name: NewArrayColumn | None = None
    protocol: str | None = None
    model: str | None = None
    recogniser: str | None = None
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


@dataclass(frozen=True)
class Made:
    """Curves of every utterance, and what is known of them.

    Attributes:
        values: one after another, ``(sum of frames, C)``, 0 to 1.
        lengths: frames of each, ``(N,)``.
        hop_seconds: step between frames.
        sha256: of what made them.
        tested: column that tests each utterance, ``(N,)``: that of a fold which did not see labels of its
            speaker; -1 for none.
        protocol: whose labels were used; None for none.
        folds: number of each column; None with one.
        with_labels: speakers whose labels were seen, by fold, or "" with one column; empty for none at all.
        ends: what became 0 and what 1, by fold, or "" with one column, and corpus; empty without scaling.
        choices: what dev chose.
        unknown: whether weights from elsewhere took part, whose labels are not known.
    """

    values: NDArray[np.float32]
    lengths: NDArray[np.int64]
    hop_seconds: float
    sha256: str
    tested: NDArray[np.int64]
    protocol: str | None = None
    folds: list[int] | None = None
    with_labels: dict[str, list[str]] = field(default_factory=dict)
    ends: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    choices: dict[str, Any] = field(default_factory=dict)
    unknown: bool = False

    def tested_curves(self) -> list[NDArray[np.float32]]:
        """Returns the curve ``(T,)`` that tests each utterance; the first one where none does."""
        each = np.split(self.values, np.cumsum(self.lengths)[:-1])
        return [values[:, column] for values, column in zip(each, self.tested.clip(0), strict=True)]


class CurveMaker(NamedTuple):
    """A source that is ready: what a run folder remembers of it, and how it makes curves.

    ``emotions`` are the classes that curves are compared with, by key of the utterance.
    """

    facts: dict[str, Any]
    emotions: dict[str, str | None]
    make: Callable[[Recordings, RunFolder], Made]


def _from_sound(manifest: Manifest, settings: IntensitySettings) -> CurveMaker:
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
        made_by, tested = f"{settings.source} {front_end.sha256}", np.zeros(len(curves), np.int64)
        return _made(
            recordings, {"": curves}, loud, hop_seconds=front_end.hop_seconds, sha256=made_by, tested=tested
        )

    return CurveMaker({}, _emotions(manifest), make)


def _from_recogniser(manifest: Manifest, settings: IntensitySettings) -> CurveMaker:
    """One minus the probability of neutral, window by window."""
    folder = Path(str(settings.recogniser))
    classifier, config = load_classifier(folder)
    labels = classifier.settings.labels
    if NEUTRAL not in labels:
        raise ConfigError(
            f"{folder} knows {', '.join(labels)} and not {NEUTRAL}; intensity is how far speech is from "
            f"{NEUTRAL}, so name a recogniser that has this class, or another --source"
        )
    sha256, label = networks_sha256([classifier]), labels.index(NEUTRAL)
    window, hop = (round(each * SAMPLE_RATE) for each in (settings.window_seconds, settings.hop_seconds))

    def make(recordings: Recordings, run: RunFolder) -> Made:
        curves = [
            distance_from_class(classifier, label, recordings.waveforms[row], window, hop)
            for row in progress(range(len(recordings.waveforms)), "recognise")
        ]
        names = _speakers_of(config, recordings.manifest)
        return _made(
            recordings,
            {"": curves},
            hop_seconds=hop / SAMPLE_RATE,
            sha256=f"{sha256} {window} {hop}",
            tested=_unseen(recordings.manifest, names),
            protocol=config.get("protocol"),
            with_labels={"": names},
            unknown=bool(config.get("weights_from_elsewhere")),
        )

    return CurveMaker({"source_sha256": sha256}, _emotions(manifest), make)


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
    return sorted(
        {each for name in names for each in ([name] if "/" in name else [f"{of}/{name}" for of in corpora])}
    )


def _from_network(manifest: Manifest, settings: IntensitySettings) -> CurveMaker:
    """The network of an earlier run."""
    network, config = load_strength_net(find_strength_net(str(settings.model)))
    sha256 = networks_sha256([network])

    def make(recordings: Recordings, run: RunFolder) -> Made:
        names = config["speakers_seen"]["with_labels"]
        return _made(
            recordings,
            {"": _predicted(recordings, network, config)},
            scale=True,
            hop_seconds=network.hop_seconds,
            sha256=sha256,
            tested=_unseen(recordings.manifest, names),
            protocol=config["protocol"],
            with_labels={"": names},
        )

    return CurveMaker({"source_sha256": sha256}, _emotions(manifest), make)


def _from_labels(manifest: Manifest, settings: IntensitySettings) -> CurveMaker:
    """A network a fold, trained on the labels of the fold's training and dev speakers."""
    protocol = load_protocol(str(settings.protocol))
    selected = protocol.select(manifest)
    folds = protocol.folds(selected)
    labels = list(protocol.labels) or selected.labels
    check_labels(labels, protocol.name)
    emotions = dict(zip(selected.keys, selected.table["emotion"], strict=True))
    facts = {"labels": labels, "protocol": protocol.name, "protocol_sha256": protocol.sha256}

    def make(recordings: Recordings, run: RunFolder) -> Made:
        owners, speakers = np.array(recordings.manifest.owners), _speakers(recordings.manifest)
        classes = [emotions.get(key) for key in recordings.manifest.keys]
        truth = np.array([-1 if each is None else labels.index(each) for each in classes], np.int64)
        tested = np.full(len(truth), -1)
        known, configs = {}, {}
        for column, fold in enumerate(folds):
            train, dev = recordings.rows(fold.train), recordings.rows(fold.dev)
            seen = np.concatenate([train, dev])
            allowed = np.full(len(truth), -1)
            allowed[seen] = truth[seen]
            known[fold.number] = FoldLabels(train, dev, allowed, labels, speakers)
            tested[recordings.rows(fold.test)] = column
            names = {
                "with_labels": sorted(set(owners[seen].tolist())),
                "without_labels": sorted(set(owners.tolist()) - {""}),
            }
            configs[fold.number] = {**facts, "fold": fold.number, "speakers_seen": names}
        fitted = fit_folds(recordings, known, settings.ranker, run, configs)
        several = len(folds) > 1
        by_fold = {str(number) if several else "": each for number, each in fitted.items()}
        return _made(
            recordings,
            {fold: _predicted(recordings, *each) for fold, each in by_fold.items()},
            scale=True,
            hop_seconds=next(iter(by_fold.values()))[0].hop_seconds,
            sha256=networks_sha256(network for network, _ in by_fold.values()),
            tested=tested,
            protocol=protocol.name,
            folds=list(fitted) if several else None,
            with_labels={fold: each["speakers_seen"]["with_labels"] for fold, (_, each) in by_fold.items()},
            choices={str(number): each["choices"] for number, (_, each) in fitted.items()},
        )

    return CurveMaker({"protocol_sha256": protocol.sha256}, emotions, make)


def _made(
    recordings: Recordings, columns: dict[str, list[NDArray[np.float32]]], scale: bool = False, **facts: Any
) -> Made:
    """Puts the curves of each fold together; ``scale`` brings each corpus to 0 to 1."""
    corpora = recordings.manifest.table["corpus"].fillna("").to_numpy(str)
    values, ends = [], {}
    for fold, curves in columns.items():
        if scale:
            joined, ends[fold] = scaled_by_corpus(curves, corpora)
        else:
            joined = np.concatenate(curves)
        values.append(joined)
    lengths = np.array([len(curve) for curve in next(iter(columns.values()))], np.int64)
    return Made(np.stack(values, axis=1), lengths, ends=ends, **facts)


def _predicted(
    recordings: Recordings, network: StrengthNet, config: dict[str, Any]
) -> list[NDArray[np.float32]]:
    store = network_input(recordings, network, _speakers(recordings.manifest), config["centre"])
    return predict_curves(recordings, network, store, np.arange(len(recordings.waveforms)))


def _emotions(manifest: Manifest) -> dict[str, str | None]:
    return dict(zip(manifest.keys, manifest.table["emotion"], strict=True))


def _speakers(manifest: Manifest) -> NDArray[np.int64]:
    """Returns the number of each utterance's speaker, ``(N,)``; those of unknown speakers are one."""
    return np.asarray(np.unique(manifest.owners, return_inverse=True)[1], np.int64)


def _unseen(manifest: Manifest, seen: Sequence[str]) -> NDArray[np.int64]:
    """Returns 0 for utterances of known speakers whose labels were not seen, ``(N,)``, and -1 for others."""
    return np.array([0 if name and name not in set(seen) else -1 for name in manifest.owners], np.int64)


class IntensitySource(NamedTuple):
    """A source: what it is, in words, and how it is made ready.

    ``prepare`` raises before anything is written where the source cannot make curves.
    """

    about: str
    prepare: Callable[[Manifest, IntensitySettings], CurveMaker]


def _ranker(manifest: Manifest, settings: IntensitySettings) -> CurveMaker:
    return (_from_network if settings.model else _from_labels)(manifest, settings)


SOURCES = {
    "ranker": IntensitySource(
        "learned from emotion labels: only whole utterances were ranked, so that the value of a single frame "
        "is the network's own guess",
        _ranker,
    ),
    "recogniser": IntensitySource("one minus a recogniser's probability of neutral", _from_recogniser),
    "loudness": IntensitySource("the level of each frame in decibels", _from_sound),
    "voicing": IntensitySource("how similar each frame is to itself one period later", _from_sound),
}
