"""Decoded recordings and what fixed networks say about them, each computed once."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from affetto.augment import change_speed
from affetto.corpora.manifest import Manifest
from affetto.data import FeatureCache, Store, WaveformCache
from affetto.errors import ManifestError
from affetto.features import FrontEnd
from affetto.models.checkpoint import weights_sha256
from affetto.models.encoder import Embedder, Encoder, Frames, description
from affetto.models.pooling import MeanPooling
from affetto.progress import progress

Compute = Callable[[Tensor, Tensor], list[NDArray[np.float32]]]
TOGETHER_SECONDS = 160.0
"""Seconds of speech that go through a network at once where nothing is learned."""


class Recordings:
    """The utterances of a manifest that can be decoded.

    Args:
        manifest: the utterances.

    Attributes:
        manifest: those that can be decoded.
        waveforms: their samples.
        speakers: speaker of each utterance, ``(N,)`` text; ``corpus/speaker`` where there are several
            corpora.
        unreadable: utterances that had to be left out, by key, with the reason.
    """

    def __init__(self, manifest: Manifest) -> None:
        waveforms = WaveformCache.open(manifest)
        self.unreadable = dict(waveforms.errors)
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

        def compute(waveforms: Tensor, lengths: Tensor) -> list[NDArray[np.float32]]:
            values, frames = front_end(waveforms, lengths)
            return [row[:length].numpy() for row, length in zip(values, frames.tolist(), strict=True)]

        return self._cached([front_end.sha256, "features"], None, compute, "features")

    def frames(self, encoder: Encoder, speed: float = 1.0, pooled: bool = False) -> FeatureCache:
        """Returns the frames of a fixed encoder, every layer side by side, computed once.

        Args:
            encoder: the encoder with its weights.
            speed: factor by which every utterance is sped up first.
            pooled: keep only their mean over time, as one frame: all that a probe looks at.
        """

        def layers(waveforms: Tensor, lengths: Tensor) -> list[NDArray[np.float32]]:
            if speed != 1.0:
                waveforms, lengths = change_speed(waveforms, lengths, torch.full((len(lengths),), speed))
            frames: Frames = encoder(*encoder.front_end(waveforms, lengths))
            values = torch.cat(frames.all_layers, dim=2)
            if pooled:
                return list(MeanPooling(values.shape[2])(values, frames.lengths).numpy())
            return [row[:length] for row, length in zip(values.numpy(), frames.lengths.tolist(), strict=True)]

        kind = "pooled" if pooled else "frames"
        return self._cached(
            [description(encoder), weights_sha256(encoder), kind, speed], encoder, layers, "encode"
        )

    def vectors(self, embedder: Embedder) -> Tensor:
        """Returns the vectors of a fixed embedder, ``(N, D)``, computed once."""

        def embed(waveforms: Tensor, lengths: Tensor) -> list[NDArray[np.float32]]:
            return list(embedder(*embedder.front_end(waveforms, lengths)).numpy())

        cache = self._cached(
            [description(embedder), weights_sha256(embedder), "vectors"], embedder, embed, "embed"
        )
        return torch.from_numpy(np.array(cache.values))

    def pooled(self, encoder: Encoder, rows: NDArray[np.int64], store: Store) -> NDArray[np.float32]:
        """Returns the mean of an encoder's last layer over each of some rows, ``(len(rows), D)``.

        Args:
            encoder: in whatever state of training it is.
            rows: row numbers.
            store: the recordings' waveforms, or the features of the encoder's front end.
        """
        order = np.argsort(self.waveforms.lengths[rows], kind="stable")
        out = np.zeros((len(rows), encoder.dim), np.float32)
        pooling, device, mode = MeanPooling(encoder.dim), next(encoder.parameters()).device, encoder.training
        encoder.eval()
        with torch.inference_mode():
            for part in self.together(self.waveforms.lengths[rows][order]):
                values, lengths = (each.to(device) for each in store.stack(rows[order[part]]))
                features = (values, lengths) if values.ndim == 3 else encoder.front_end(values, lengths)
                frames = encoder(*features)
                out[order[part]] = pooling(frames.values, frames.lengths).cpu().numpy()
        encoder.train(mode)
        return out

    def together(self, lengths: NDArray[np.int64]) -> Iterator[slice]:
        """Cuts utterances, sorted by length, into batches of about equal seconds, padding counted."""
        begin = 0
        for end in range(1, len(lengths) + 1):
            if end == len(lengths) or (end + 1 - begin) * int(lengths[end]) > TOGETHER_SECONDS * 16_000:
                yield slice(begin, end)
                begin = end

    def _cached(
        self, description: list[object], module: nn.Module | None, compute: Compute, doing: str
    ) -> FeatureCache:
        sha = hashlib.sha256(
            json.dumps([self.waveforms.folder.name, *map(str, description)]).encode()
        ).hexdigest()

        def produce() -> Iterator[NDArray[np.float32]]:
            # Rows are computed by length and handed over in order, a stretch of the corpus at a time.
            stretch = 2048
            mode = module is not None and module.training
            if module is not None:
                module.eval()
            starts = range(0, len(self.waveforms), stretch)
            with torch.inference_mode():
                for start in progress(starts, doing):
                    rows = np.arange(start, min(start + stretch, len(self.waveforms)))
                    order = rows[np.argsort(self.waveforms.lengths[rows], kind="stable")]
                    done: dict[int, NDArray[np.float32]] = {}
                    for part in self.together(self.waveforms.lengths[order]):
                        computed = compute(*self.waveforms.stack(order[part]))
                        done.update(zip(order[part].tolist(), computed, strict=True))
                    for row in rows.tolist():
                        yield done.pop(row)
            if module is not None:
                module.train(mode)

        return FeatureCache.open(sha, produce)


def speaker_names(manifest: Manifest) -> NDArray[np.str_]:
    """Returns the speaker of each utterance, ``(N,)``: ``corpus/speaker`` where there are several corpora."""
    if len(manifest.corpora) > 1:
        return np.array(manifest.owners)
    return np.array([str(name) for name in manifest.table["speaker"]])
