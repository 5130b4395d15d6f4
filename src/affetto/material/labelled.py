"""The utterances of a protocol, with their targets and votes."""

import copy
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affetto.corpora.manifest import Manifest
from affetto.data import Store
from affetto.material.forward import run_over
from affetto.material.recordings import Recordings
from affetto.models.classifier import EmotionClassifier, Reads
from affetto.protocols.protocol import Protocol


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
