"""The network of a recogniser, put to pieces of sound."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from affetto.errors import AudioError, ConfigError
from affetto.inference.enrolment import Enrolments, enrolment_of, vectors_of
from affetto.inference.pipeline import in_order, stacked
from affetto.inference.sources import Clip, Piece
from affetto.models.classifier import EmotionClassifier
from affetto.models.encoder import chosen_device


class Scorer:
    """Vectors, probabilities and offsets on one device; safe to use from several threads.

    Args:
        classifier: the network.
        device: where it runs.
    """

    def __init__(self, classifier: EmotionClassifier, device: str) -> None:
        self.device = chosen_device(device)
        self.classifier = classifier.to(self.device).eval()

    @torch.inference_mode()
    def vectors(self, pieces: list[Piece]) -> Tensor:
        """Embeds pieces, ``(B, D)``."""
        waveforms, lengths = (each.to(self.device) for each in stacked(pieces))
        return self.classifier.embed(*self.classifier.front_end(waveforms, lengths))

    @torch.inference_mode()
    def answers(self, pieces: list[Piece], enrolment: Enrolments | None) -> Tensor:
        """Probabilities or values of pieces, ``(B, K)``, adapted to the speaker where one is enrolled."""
        vectors = self.vectors(pieces)
        own = [enrolment_of(enrolment, piece.clip) for piece in pieces]
        rows = [row for row, each in enumerate(own) if each is not None]
        if not rows:
            return self.classifier.answers(vectors)
        offsets = torch.stack([each.offset for each in own if each is not None]).to(self.device)
        adapted = self.classifier.answers(vectors[rows], offsets)
        if len(rows) == len(own):
            return adapted
        plain = self.classifier.answers(vectors)
        return plain.index_copy(0, torch.tensor(rows, device=self.device), adapted)

    @torch.inference_mode()
    def offset(self, vectors: Tensor) -> Tensor:
        """Estimates a speaker's offset, ``(R + 1,)``, from vectors ``(N, D)``."""
        return self.classifier.offset(vectors.to(self.device)).cpu()

    def readable(self, everything: Iterable[Clip]) -> tuple[list[Clip], Tensor]:
        """Returns clips, and the vectors ``(N, D)`` of their pieces.

        Raises:
            AudioError: for the first that cannot be read.
            ConfigError: when there is none.
        """
        found: list[Clip] = []
        vectors: list[NDArray[np.float32]] = []
        for clip, own, fault in vectors_of(in_order(everything, self.vectors)):
            if fault:
                raise AudioError(fault)
            found.append(clip)
            vectors += own
        if not vectors:
            raise ConfigError("got no recording at all; name files, folders or manifests")
        return found, torch.from_numpy(np.stack(vectors))

    def must_adapt(self) -> None:
        """Checks that speakers can be enrolled.

        Raises:
            ConfigError: when the recogniser was made without.
        """
        if self.classifier.enrolment is None:
            raise ConfigError(
                "this recogniser was made without enrolment, or is asked with prompts, which enrol nobody; "
                "run finetune without --no-enrolment, and predict without --prompts"
            )
