"""What a fold is fitted on: selected utterances, cached waveforms and frames, targets, groups."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from affetto.augment import change_speed
from affetto.corpora.manifest import Manifest
from affetto.data import FeatureCache, WaveformCache
from affetto.errors import ManifestError
from affetto.models.classifier import EmotionClassifier
from affetto.models.encoder import Embedder, Encoder, Frames
from affetto.progress import progress
from affetto.protocols.protocol import Protocol

Compute = Callable[[Tensor, Tensor], list[NDArray[np.float32]]]
TOGETHER_SECONDS = 160.0
"""Seconds of speech that go through a network at once where nothing is learned."""


class Material:
    """The utterances of a protocol, decoded, with what training asks of them.

    Args:
        manifest: any manifest; the protocol selects from it.
        protocol: decides the classes and who is left out.

    Attributes:
        manifest: the selected utterances that can be decoded.
        labels: the classes, in order.
        truth: class number of each utterance, ``(N,)``.
        speakers: speaker of each utterance, ``(N,)`` text.
        unreadable: utterances that had to be left out, by key, with the reason.
    """

    def __init__(self, manifest: Manifest, protocol: Protocol) -> None:
        selected = protocol.select(manifest)
        waveforms = WaveformCache.open(selected)
        self.unreadable = dict(waveforms.errors)
        if self.unreadable:
            readable = [key for key in selected.keys if key not in self.unreadable]
            if not readable:
                first = next(iter(self.unreadable.values()))
                raise ManifestError(
                    f"none of the {len(selected)} recordings can be decoded; the first: {first}"
                )
            selected = selected.where(readable)
            waveforms = WaveformCache.open(selected)
        self.manifest, self.protocol, self.waveforms = selected, protocol, waveforms
        table = selected.table
        self.labels = list(protocol.labels) or sorted({str(label) for label in table["emotion"]})
        self.truth: NDArray[np.int64] = np.array([self.labels.index(str(name)) for name in table["emotion"]])
        corpora = table["corpus"].astype(str)
        several = corpora.nunique() > 1
        self.speakers: NDArray[np.str_] = np.array(
            [
                f"{corpus}/{name}" if several else str(name)
                for corpus, name in zip(corpora, table["speaker"], strict=True)
            ]
        )
        self._row = {key: row for row, key in enumerate(selected.keys)}

    def rows(self, keys: Sequence[str]) -> NDArray[np.int64]:
        """Returns the row numbers of keys; those that could not be decoded are left out."""
        return np.array([self._row[key] for key in keys if key in self._row], np.int64)

    @cached_property
    def votes(self) -> Tensor | None:
        """Share of raters' votes by class, ``(N, K)``; zero for rows without votes; None without any."""
        table = self.manifest.table
        names = [f"votes_{label}" for label in self.labels]
        if not any(name in table for name in names):
            return None
        counts = np.stack(
            [table[name].to_numpy(np.float64) if name in table else np.zeros(len(table)) for name in names],
            axis=1,
        )
        counts = np.nan_to_num(counts)
        return torch.from_numpy(counts / np.maximum(counts.sum(1, keepdims=True), 1e-9)).float()

    def targets(self, vote_share: float) -> Tensor:
        """Returns target distributions ``(N, K)``: labels, mixed with votes where an utterance has any."""
        hard = torch.nn.functional.one_hot(torch.from_numpy(self.truth), len(self.labels)).float()
        if not vote_share or self.votes is None:
            return hard
        share = vote_share * (self.votes.sum(1, keepdim=True) > 0).float()
        return (1 - share) * hard + share * self.votes

    def frames(self, encoder: Encoder, speed: float = 1.0) -> FeatureCache:
        """Returns the frames of a fixed encoder, every layer side by side, computed once.

        Args:
            encoder: the encoder with its weights.
            speed: factor by which every utterance is sped up first.
        """

        def layers(waveforms: Tensor, lengths: Tensor) -> list[NDArray[np.float32]]:
            if speed != 1.0:
                waveforms, lengths = change_speed(waveforms, lengths, torch.full((len(lengths),), speed))
            frames: Frames = encoder(*encoder.front_end(waveforms, lengths))
            values = torch.cat(frames.all_layers, dim=2).numpy()
            return [row[:length] for row, length in zip(values, frames.lengths.tolist(), strict=True)]

        return self._cached([*_description(encoder), "frames", speed], encoder, layers, "encode")

    def vectors(self, embedder: Embedder) -> Tensor:
        """Returns the vectors of a fixed embedder, ``(N, D)``, computed once."""

        def embed(waveforms: Tensor, lengths: Tensor) -> list[NDArray[np.float32]]:
            return list(embedder(*embedder.front_end(waveforms, lengths)).numpy())

        cache = self._cached([*_description(embedder), "vectors"], embedder, embed, "embed")
        return torch.from_numpy(np.array(cache.values))

    def embed(
        self, classifier: EmotionClassifier, rows: NDArray[np.int64], frames: FeatureCache | None
    ) -> Tensor:
        """Returns a classifier's vectors of some rows, ``(len(rows), D)``, from cached frames if given."""
        order = np.argsort(self.waveforms.lengths[rows], kind="stable")
        out = torch.zeros(len(rows), classifier.dim)
        device, mode = classifier.temperature.device, classifier.training
        classifier.eval()
        with torch.no_grad():
            for part in self._together(self.waveforms.lengths[rows][order]):
                chosen = order[part]
                if frames is None:
                    waveforms, lengths = self.waveforms.stack(rows[chosen])
                    features = classifier.front_end(waveforms.to(device), lengths.to(device))
                    vectors = classifier.embed(*features)
                else:
                    values, lengths = frames.stack(rows[chosen])
                    vectors = classifier.embed_frames(
                        split_layers(classifier, values.to(device), lengths.to(device))
                    )
                out[torch.from_numpy(chosen)] = vectors.cpu()
        classifier.train(mode)
        return out

    def _together(self, lengths: NDArray[np.int64]) -> Iterator[slice]:
        """Cuts utterances, sorted by length, into batches of about equal seconds, padding counted."""
        begin = 0
        for end in range(1, len(lengths) + 1):
            if end == len(lengths) or (end + 1 - begin) * int(lengths[end]) > TOGETHER_SECONDS * 16_000:
                yield slice(begin, end)
                begin = end

    def _cached(
        self, description: list[object], module: nn.Module, compute: Compute, doing: str
    ) -> FeatureCache:
        sha = hashlib.sha256(
            json.dumps([self.waveforms.folder.name, *map(str, description)]).encode()
        ).hexdigest()

        def produce() -> Iterator[NDArray[np.float32]]:
            # Rows are computed by length and handed over in order, a stretch of the corpus at a time.
            stretch = 2048
            mode = module.training
            module.eval()
            starts = range(0, len(self.waveforms), stretch)
            with torch.inference_mode():
                for start in progress(starts, doing):
                    rows = np.arange(start, min(start + stretch, len(self.waveforms)))
                    order = rows[np.argsort(self.waveforms.lengths[rows], kind="stable")]
                    done: dict[int, NDArray[np.float32]] = {}
                    for part in self._together(self.waveforms.lengths[order]):
                        computed = compute(*self.waveforms.stack(order[part]))
                        done.update(zip(order[part].tolist(), computed, strict=True))
                    for row in rows.tolist():
                        yield done.pop(row)
            module.train(mode)

        return FeatureCache.open(sha, produce)


def split_layers(classifier: EmotionClassifier, values: Tensor, lengths: Tensor) -> Frames:
    """Turns cached frames ``(B, T, sum(D_i))`` back into the layers of the classifier's encoder."""
    encoder = classifier.embedder.get_submodule("encoder")
    assert isinstance(encoder, Encoder)
    layers = tuple(torch.split(values, list(encoder.layer_dims), dim=2))
    return Frames(layers[-1], lengths, layers)


def _description(module: Encoder | Embedder) -> list[str]:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    # What has no weights of its own, such as a stride, shows in settings and front ends only.
    parts = [part for part in module.modules() if isinstance(part, Encoder | Embedder)]
    settings = [repr(getattr(part, "settings", None)) for part in parts]
    return [str(module), *settings, *(part.front_end.sha256 for part in parts), digest.hexdigest()]
