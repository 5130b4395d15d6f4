"""Where curves of intensity come from: labels, a recogniser, or the sound itself."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from affetto.audio import SAMPLE_RATE
from affetto.corpora.manifest import Manifest
from affetto.errors import ConfigError, ProtocolError
from affetto.features import FrontEnd
from affetto.intensity.curves import away_from, levels, squeezed
from affetto.intensity.fit import Labelled, check_labels, fit_folds
from affetto.intensity.folder import NEUTRAL, find_strength, load_strength, networks_sha256
from affetto.intensity.reading import read_strengths, reading
from affetto.material.recordings import Recordings
from affetto.models.classifier import load_classifier
from affetto.progress import progress
from affetto.protocols.protocol import load_protocol
from affetto.runs import RunFolder

if TYPE_CHECKING:
    from affetto.intensity.run import IntensitySettings


Ends = dict[str, dict[str, tuple[float, float]]]
"""What became 0 and what 1, by fold, or "" with one column, and corpus."""


class Made(NamedTuple):
    """Curves of every utterance, and what is to be known of them.

    Attributes:
        values: one after another, ``(sum of frames, C)``, 0 to 1.
        lengths: frames of each, ``(N,)``.
        hop_seconds: step between frames.
        sha256: tells one maker from another.
        protocol: whose labels were used; None for nobody's.
        folds: number of each column; None with one.
        with_labels: speakers whose labels were seen, by fold, or "" with one column; empty for none at all.
        tested: column that tests each utterance, ``(N,)``: that of a fold which did not see labels of its
            speaker; -1 for none.
        ends: what became 0 and what 1, by fold and corpus; empty where nothing had to be squeezed.
        choices: what dev chose.
        unknown: whether weights from elsewhere took part, whose labels nobody knows.
    """

    values: NDArray[np.float32]
    lengths: NDArray[np.int64]
    hop_seconds: float
    sha256: str
    protocol: str | None
    folds: list[int] | None
    with_labels: dict[str, list[str]]
    tested: NDArray[np.int64]
    ends: Ends
    choices: dict[str, Any]
    unknown: bool = False


class Source(Protocol):
    """Something that makes curves.

    Attributes:
        facts: what a run folder remembers, so that another maker is not taken for this one.
    """

    facts: dict[str, Any]

    def make(self, recordings: Recordings, run: RunFolder) -> Made:
        """Makes the curves of all utterances."""

    def emotions(self, recordings: Recordings) -> list[str | None]:
        """Returns the emotion of every utterance that curves are held against."""


class _Plain:
    """What all sources share: the manifest's own labels."""

    facts: dict[str, Any]

    def emotions(self, recordings: Recordings) -> list[str | None]:
        return list(recordings.manifest.table["emotion"])


class Sound(_Plain):
    """Loudness or voicing: read from the sound, without labels."""

    def __init__(self, manifest: Manifest, settings: "IntensitySettings") -> None:
        self.settings, self.facts = settings, {}

    def make(self, recordings: Recordings, run: RunFolder) -> Made:
        """Makes a value every 10 ms."""
        del run
        loud = self.settings.source == "loudness"
        front_end = FrontEnd() if loud else FrontEnd(bins=1, pitch=True)
        rows = range(len(recordings.waveforms))
        if loud:
            curves = [levels(recordings.waveforms[row], front_end) for row in progress(rows, "loudness")]
        else:
            features = recordings.features(front_end)
            curves = [np.asarray(features[row][:, -1]) for row in progress(rows, "voicing")]
        lengths = np.array([len(curve) for curve in curves], np.int64)
        values = np.concatenate(curves)
        ends: Ends = {}
        if loud:
            values, ends = _squeezed(values, lengths, recordings.manifest)
        tested = np.zeros(len(lengths), np.int64)
        hop = front_end.hop_seconds
        made_by = f"{self.settings.source} {front_end.sha256}"
        return Made(values[:, None], lengths, hop, made_by, None, None, {}, tested, ends, {})


class Asked(_Plain):
    """One minus the probability of neutral, by a recogniser that hears a second at a time."""

    def __init__(self, manifest: Manifest, settings: "IntensitySettings") -> None:
        assert settings.recogniser is not None
        folder = Path(settings.recogniser)
        self.settings = settings
        self.classifier, self.config = load_classifier(folder)
        labels = self.classifier.settings.labels
        if NEUTRAL not in labels:
            raise ConfigError(
                f"{folder} knows {', '.join(labels)} and not {NEUTRAL}; intensity is how far speech is from "
                f"{NEUTRAL}, so name a recogniser that has this class, or another --source"
            )
        self.label = labels.index(NEUTRAL)
        digest = networks_sha256([self.classifier])
        self.facts = {"source_sha256": digest}

    def make(self, recordings: Recordings, run: RunFolder) -> Made:
        """Makes a value a hop."""
        del run
        window, hop = (
            round(each * SAMPLE_RATE) for each in (self.settings.window_seconds, self.settings.hop_seconds)
        )
        curves = [
            away_from(self.classifier, self.label, recordings.waveforms[row], window, hop)
            for row in progress(range(len(recordings.waveforms)), "recognise")
        ]
        lengths = np.array([len(curve) for curve in curves], np.int64)
        names = self._speakers(recordings.manifest)
        tested = _unseen(recordings.manifest, set(names))
        made_by = f"{self.facts['source_sha256']} {window} {hop}"
        protocol = self.config.get("protocol")
        seen = {"": names}
        hop_seconds = hop / SAMPLE_RATE
        return Made(
            np.concatenate(curves)[:, None],
            lengths,
            hop_seconds,
            made_by,
            protocol,
            None,
            seen,
            tested,
            {},
            {},
            bool(self.config.get("weights_from_elsewhere")),
        )

    def _speakers(self, manifest: Manifest) -> list[str]:
        """Returns whose labels it saw, with their corpus, also where its config leaves that out."""
        seen = self.config.get("speakers_seen", {})
        corpora = manifest.corpora
        try:
            own = load_protocol(str(self.config.get("protocol"))).corpus
            corpora = [own] if own else corpora
        except ProtocolError:
            pass  # a protocol of one's own; its speakers may be of any corpus here
        names = [name for kind in ("with_labels", "chosen_on") for name in seen.get(kind, [])]
        return sorted(
            {
                each
                for name in names
                for each in ([name] if "/" in name else [f"{of}/{name}" for of in corpora])
            }
        )


class Given(_Plain):
    """A network that an earlier run made."""

    def __init__(self, manifest: Manifest, settings: "IntensitySettings") -> None:
        assert settings.model is not None
        self.network, self.config = load_strength(find_strength(settings.model))
        self.facts = {"source_sha256": networks_sha256([self.network])}

    def make(self, recordings: Recordings, run: RunFolder) -> Made:
        """Reads every utterance."""
        del run
        store = reading(recordings, self.network, _speakers(recordings.manifest), self.config["centre"])
        curves = read_strengths(recordings, self.network, store, np.arange(len(recordings.waveforms)))
        lengths = np.array([len(curve) for curve in curves], np.int64)
        values, ends = _squeezed(np.concatenate(curves), lengths, recordings.manifest)
        names = self.config["speakers_seen"]["with_labels"]
        tested = _unseen(recordings.manifest, set(names))
        sha, hop, protocol = self.facts["source_sha256"], self.network.hop_seconds, self.config["protocol"]
        return Made(values[:, None], lengths, hop, sha, protocol, None, {"": names}, tested, ends, {})


class Ranked(_Plain):
    """A network a fold, learned from the labels of the fold's training and dev speakers."""

    def __init__(self, manifest: Manifest, settings: "IntensitySettings") -> None:
        assert settings.protocol is not None
        self.settings, self.protocol = settings, load_protocol(settings.protocol)
        self.selected = self.protocol.select(manifest)
        self.folds = self.protocol.folds(self.selected)
        self.labels = list(self.protocol.labels) or self.selected.labels
        check_labels(self.labels, self.protocol.name)
        self.facts = {"protocol_sha256": self.protocol.sha256}

    def emotions(self, recordings: Recordings) -> list[str | None]:
        """Returns the protocol's classes."""
        known = dict(zip(self.selected.keys, self.selected.table["emotion"], strict=True))
        return [known.get(key) for key in recordings.manifest.keys]

    def make(self, recordings: Recordings, run: RunFolder) -> Made:
        """Fits what is not fitted yet, and reads every utterance with the network of every fold."""
        names = np.array(recordings.manifest.owners)
        speakers = _speakers(recordings.manifest)
        truth = np.array(
            [-1 if each is None else self.labels.index(each) for each in self.emotions(recordings)], np.int64
        )
        tested = np.full(len(names), -1)
        known: dict[int, Labelled] = {}
        configs: dict[int, dict[str, Any]] = {}
        for column, fold in enumerate(self.folds):
            train, dev = recordings.rows(fold.train), recordings.rows(fold.dev)
            hidden = np.full(len(truth), -1)
            hidden[np.concatenate([train, dev])] = truth[np.concatenate([train, dev])]
            known[fold.number] = Labelled(train, dev, hidden, self.labels, speakers)
            tested[recordings.rows(fold.test)] = column
            both = sorted(set(names[np.concatenate([train, dev])].tolist()))
            configs[fold.number] = {
                "labels": self.labels,
                "protocol": self.protocol.name,
                "protocol_sha256": self.protocol.sha256,
                "fold": fold.number,
                "speakers_seen": {"with_labels": both, "without_labels": sorted(set(names.tolist()) - {""})},
            }
        fitted = fit_folds(recordings, known, self.settings.ranker, run, configs)
        networks = {number: network for number, (network, _) in fitted.items()}
        columns = []
        ends: Ends = {}
        lengths = np.zeros(0, np.int64)
        for number, network in networks.items():
            store = reading(recordings, network, speakers, self.settings.ranker.centre)
            curves = read_strengths(recordings, network, store, np.arange(len(names)))
            lengths = np.array([len(curve) for curve in curves], np.int64)
            values, own = _squeezed(np.concatenate(curves), lengths, recordings.manifest)
            columns.append(values)
            ends |= {str(number): own[""]} if len(networks) > 1 else own
        several = [fold.number for fold in self.folds] if len(self.folds) > 1 else None
        seen = {str(number): config["speakers_seen"]["with_labels"] for number, config in configs.items()}
        choices = {str(number): config["choices"] for number, (_, config) in fitted.items()}
        return Made(
            np.stack(columns, axis=1),
            lengths,
            next(iter(networks.values())).hop_seconds,
            networks_sha256(list(networks.values())),
            self.protocol.name,
            several,
            seen if several else {"": next(iter(seen.values()))},
            tested,
            ends,
            choices,
        )


def _speakers(manifest: Manifest) -> NDArray[np.int64]:
    """Returns the number of each utterance's speaker, ``(N,)``; those of nobody known are one."""
    return np.asarray(np.unique(manifest.owners, return_inverse=True)[1], np.int64)


def _unseen(manifest: Manifest, seen: set[str]) -> NDArray[np.int64]:
    """Returns 0 for utterances of known speakers whose labels were not seen, ``(N,)``, and -1 for others."""
    return np.array([0 if name and name not in seen else -1 for name in manifest.owners], np.int64)


def _squeezed(
    values: NDArray[np.float32], lengths: NDArray[np.int64], manifest: Manifest
) -> tuple[NDArray[np.float32], Ends]:
    """Brings each corpus to 0 to 1, and says what its ends were."""
    names, corpora = np.unique(manifest.table["corpus"].fillna("").to_numpy(str), return_inverse=True)
    new, ends = squeezed(values, np.repeat(corpora, lengths))
    return new, {"": {str(names[number]): own for number, own in ends.items()}}


def _ranker(manifest: Manifest, settings: "IntensitySettings") -> Source:
    return Given(manifest, settings) if settings.model else Ranked(manifest, settings)


SOURCES: dict[str, Callable[[Manifest, "IntensitySettings"], Source]] = {
    "ranker": _ranker,
    "recogniser": Asked,
    "loudness": Sound,
    "voicing": Sound,
}
"""What makes curves, by name; raises before anything is written where it cannot."""
