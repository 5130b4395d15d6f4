"""What a fold is fitted on: the utterances of a protocol, with their targets and groups."""

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affetto.corpora.manifest import Manifest
from affetto.data import Store
from affetto.material.recordings import Recordings
from affetto.models.classifier import EmotionClassifier, Reads
from affetto.protocols.protocol import Protocol


class Material(Recordings):
    """The utterances of a protocol, decoded, with what training asks of them.

    Args:
        manifest: any manifest; the protocol selects from it.
        protocol: decides the classes and who is left out.

    Attributes:
        labels: the classes, or the dimensions, in order.
        truth: class number of each utterance, ``(N,)``; with dimensions all are of one class.
        values: of the dimensions, ``(N, K)``; None with classes.
    """

    def __init__(self, manifest: Manifest, protocol: Protocol) -> None:
        super().__init__(protocol.select(manifest))
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

    def embed(
        self, classifier: EmotionClassifier, rows: NDArray[np.int64], store: Store, reads: Reads
    ) -> Tensor:
        """Returns a classifier's vectors of some rows, ``(len(rows), D)``, from what a store holds."""
        order = np.argsort(self.waveforms.lengths[rows], kind="stable")
        out = torch.zeros(len(rows), classifier.dim)
        device, mode = classifier.temperature.device, classifier.training
        classifier.eval()
        with torch.no_grad():
            for part in self.together(self.waveforms.lengths[rows][order]):
                chosen = order[part]
                values, lengths = store.stack(rows[chosen])
                vectors = classifier.embed_read(values.to(device), lengths.to(device), reads)
                out[torch.from_numpy(chosen)] = vectors.cpu()
        classifier.train(mode)
        return out
