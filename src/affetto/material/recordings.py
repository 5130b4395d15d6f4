"""Decoded recordings and their labels, and the outputs of frozen networks on them, each computed once."""

import copy
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affetto.augment import AugmentConfig, augment_waveforms, change_speed
from affetto.corpora.manifest import Manifest
from affetto.data import FeatureCache, PackedWaveforms, Store, WaveformCache
from affetto.errors import ManifestError
from affetto.features import FrontEnd
from affetto.material.forward import Network, run_over
from affetto.models.checkpoint import weights_sha256
from affetto.models.classifier import EmotionClassifier, Reads
from affetto.models.embedders import Joined
from affetto.models.encoder import Embedder, Encoder, Frames, chosen_device, description
from affetto.models.layers import MeanPooling
from affetto.progress import progress
from affetto.protocols.protocol import Protocol


class Copy(NamedTuple):
    """An augmented copy of some rows ``(M,)``; one with another number is drawn independently."""

    rows: NDArray[np.int64]
    augment: AugmentConfig
    number: int


class Augmented:
    """Waveforms that are augmented when they are read, as a store.

    The key of an utterance and the number decide what is drawn for it, whatever is read with it.
    """

    def __init__(self, plain: Store, keys: Sequence[str], augment: AugmentConfig, number: int) -> None:
        self.plain, self.keys, self.augment, self.number = plain, keys, augment, number

    def stack(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Returns rows stacked and padded, and their lengths."""
        made = []
        for row in rows.tolist():
            generator = torch.Generator().manual_seed(zlib.crc32(f"{self.number} {self.keys[row]}".encode()))
            own = self.plain.stack(np.array([row]))
            waveform, length = augment_waveforms(*own, self.augment, generator)
            made.append(waveform[0, : int(length)])
        lengths = torch.tensor([len(waveform) for waveform in made])
        return torch.nn.utils.rnn.pad_sequence(made, batch_first=True), lengths


class Framed:
    """Waveforms that become features of a front end when they are read, as a store."""

    def __init__(self, plain: Store, front_end: FrontEnd, device: torch.device) -> None:
        self.plain, self.front_end, self.device = plain, front_end, device

    @torch.no_grad()
    def stack(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Returns rows stacked and padded, ``(B, T, F)``, and their frames."""
        waveforms, lengths = self.plain.stack(rows)
        return self.front_end(waveforms.to(self.device), lengths.to(self.device))


class Recordings:
    """The utterances of a manifest that can be decoded.

    Attributes:
        manifest: these utterances.
        waveforms: their samples.
        speakers: as :func:`speaker_names` has them.
        unreadable: utterances that had to be left out, by key, with the reason.
        device: where features are computed, and frozen networks go to run.

    With ``streamed`` nothing is decoded beforehand: recordings in tar files are read when they are asked for,
    and those that turn out to be unreadable are silence.
    """

    def __init__(
        self, manifest: Manifest, device: str | torch.device = "auto", streamed: bool = False
    ) -> None:
        self.device, self.streamed = chosen_device(device), streamed
        waveforms: Any = PackedWaveforms(manifest) if streamed else WaveformCache.open(manifest)
        self.unreadable: dict[str, str] = waveforms.errors
        if self.unreadable:
            readable = [key for key in manifest.keys if key not in self.unreadable]
            if not readable:
                first = next(iter(self.unreadable.values()))
                raise ManifestError(
                    f"none of the {len(manifest)} recordings can be decoded; the first: {first}"
                )
            manifest = manifest.where(readable)
            waveforms = WaveformCache.open(manifest)
        self.manifest, self.waveforms = manifest, waveforms
        self.speakers = speaker_names(manifest)
        self._row = {key: row for row, key in enumerate(manifest.keys)}

    def rows(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """Returns the row numbers of keys; those that could not be decoded are left out."""
        return np.array([self._row[key] for key in keys if key in self._row], np.int64)

    def features(self, front_end: FrontEnd) -> FeatureCache:
        """Returns the frames of a front end, computed once."""
        return self._cached([front_end.sha256, "features"], front_end, "features")

    def frames(
        self, encoder: Encoder, speed: float = 1.0, pooled: bool = False, layer: int | None = None
    ) -> FeatureCache:
        """Returns the frames of a frozen encoder, every layer concatenated or one alone, computed once.

        Of an encoder that learns they are its ``fixed_layers``. Utterances are sped up by the factor
        ``speed`` first; ``pooled`` keeps their mean over time alone, as one frame: all that a probe uses.
        """
        count = encoder.fixed_layers or len(encoder.layer_dims)
        kept = slice(count) if layer is None else slice(layer, layer + 1)

        def layers(waveforms: Tensor, lengths: Tensor) -> Tensor | tuple[Tensor, Tensor]:
            if speed != 1.0:
                factors = torch.full_like(lengths, speed, dtype=torch.float32)
                waveforms, lengths = change_speed(waveforms, lengths, factors, (speed, speed))
            frames: Frames = encoder(*encoder.front_end(waveforms, lengths))
            values = torch.cat(frames.layers[kept], dim=2)
            if pooled:
                return torch.as_tensor(MeanPooling(values.shape[2])(values, frames.lengths))
            return values, frames.lengths

        kind = "pooled" if pooled else "frames"
        return self._cached([kind, speed, *([] if layer is None else [layer])], layers, "encode", encoder)

    def vectors(self, embedder: Embedder, copy: Copy | None = None) -> Tensor:
        """Returns the vectors of a frozen embedder, ``(N, D)``, computed once, part by part.

        Those of a copy are of its rows, augmented; all other rows are zero. Each corpus has a cache of its
        own, so that any protocol that joins it with others finds it.
        """
        corpora = self.manifest.table["corpus"].fillna("").to_numpy()
        if len(names := np.unique(corpora)) > 1:
            every = torch.zeros(len(corpora), embedder.dim)
            for mask in (corpora == name for name in names):
                part = copy and copy._replace(rows=np.flatnonzero(np.isin(np.flatnonzero(mask), copy.rows)))
                if part is None or len(part.rows):
                    own = Recordings(self.manifest.where(mask), self.device, self.streamed)
                    every[torch.from_numpy(mask)] = own.vectors(embedder, part)
            return every
        if isinstance(embedder, Joined):
            with torch.no_grad():
                return embedder.eval().joined([self.vectors(part, copy) for part in embedder.embedders])

        def embed(waveforms: Tensor, lengths: Tensor) -> Tensor:
            return torch.as_tensor(embedder(*embedder.front_end(waveforms, lengths)))

        found = torch.from_numpy(np.array(self._cached(["vectors"], embed, "embed", embedder, copy).values))
        if copy is None:
            return found
        return found.new_zeros(len(self.waveforms), embedder.dim).index_copy_(
            0, torch.from_numpy(copy.rows), found
        )

    def _cached(
        self,
        facts: list[object],
        network: Network,
        doing: str,
        module: Encoder | Embedder | None = None,
        copy: Copy | None = None,
    ) -> FeatureCache:
        made_of = [self.waveforms.name, *map(str, facts)]
        if module is not None:
            made_of += [description(module), weights_sha256(module)]
        store: Store = self.waveforms
        rows = np.arange(len(self.waveforms))
        if copy is not None:
            rows, keys = copy.rows, self.manifest.keys
            store = Augmented(store, keys, copy.augment, copy.number)
            made_of += [copy.augment.model_dump_json(), str(copy.number), *(keys[row] for row in rows)]
        sha256 = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()

        def produce() -> Iterator[NDArray[np.float32]]:
            if module is not None:
                module.to(self.device)
            lengths = self.waveforms.lengths[rows]
            results = run_over(network, store, rows, lengths, module=module, device=self.device)
            return progress(results, doing, total=len(rows))

        return FeatureCache.open(sha256, produce)


def speaker_names(manifest: Manifest) -> NDArray[np.str_]:
    """Returns the speaker of each utterance, ``(N,)``: ``corpus/speaker`` where there are several corpora."""
    if len(manifest.corpora) > 1:
        return np.array(manifest.owners)
    return np.array([str(name) for name in manifest.table["speaker"]])


class Material(Recordings):
    """The utterances of a protocol, decoded, with the targets that training needs.

    Attributes:
        labels: the classes or dimensions of the protocol, in order.
        truth: class number of each utterance, ``(N,)``; 0 with dimensions.
        values: of the dimensions, ``(N, K)``; None with classes.
    """

    def __init__(self, manifest: Manifest, protocol: Protocol, device: str | torch.device = "auto") -> None:
        super().__init__(protocol.select(manifest), device)
        self.protocol = protocol
        self.values: Tensor | None = None
        self.truth: NDArray[np.int64] = np.zeros(len(self.manifest), np.int64)
        if protocol.dimensions:
            self.labels = list(protocol.dimensions)
            numbers = self.manifest.table[self.labels].to_numpy(np.float64, copy=True)
            self.values = torch.from_numpy(numbers).float()
            return
        emotions = [str(label) for label in self.manifest.table["emotion"]]
        self.labels = list(protocol.labels) or sorted(set(emotions))
        self.truth = np.array([self.labels.index(name) for name in emotions])

    @cached_property
    def votes(self) -> Tensor | None:
        """Share of raters' votes by class, ``(N, K)``; zero for rows without votes; None without any."""
        table = self.manifest.table
        names = [f"votes_{label}" for label in self.labels]
        if not any(name in table for name in names):
            return None
        counts = np.nan_to_num(table.reindex(columns=names).to_numpy(np.float64))
        return torch.from_numpy(counts / np.maximum(counts.sum(1, keepdims=True), 1e-9)).float()

    def targets(self, vote_share: float) -> Tensor:
        """Returns target distributions ``(N, K)``: labels, mixed with votes where an utterance has any."""
        hard = torch.nn.functional.one_hot(torch.from_numpy(self.truth), len(self.labels)).float()
        if not vote_share or self.votes is None:
            return hard
        share = vote_share * (self.votes.sum(1, keepdim=True) > 0).float()
        return (1 - share) * hard + share * self.votes

    @cached_property
    def learned(self) -> NDArray[np.int64]:
        """The rows that are in the training part of some fold."""
        return np.unique(
            np.concatenate([self.rows(fold.train) for fold in self.protocol.folds(self.manifest)])
        )

    def repeated(self, rows: NDArray[np.int64]) -> "Material":
        """Returns speakers, classes, values and votes of rows ``(M,)``, some of them several times."""
        chosen = copy.copy(self)
        chosen.speakers, chosen.truth = self.speakers[rows], self.truth[rows]
        chosen.values = None if self.values is None else self.values[rows]
        chosen.votes = None if self.votes is None else self.votes[rows]
        return chosen

    def embed(
        self, classifier: EmotionClassifier, rows: NDArray[np.int64], store: Store, reads: Reads
    ) -> Tensor:
        """Returns a classifier's vectors of some rows, ``(len(rows), D)``, from the content of a store."""

        def read(values: Tensor, lengths: Tensor) -> Tensor:
            return classifier.embed_read(values, lengths, reads)

        lengths, module = self.waveforms.lengths[rows], classifier.to(self.device)
        vectors = list(run_over(read, store, rows, lengths, module=module, device=self.device))
        return torch.from_numpy(np.array(vectors, np.float32).reshape(len(rows), classifier.dim))
