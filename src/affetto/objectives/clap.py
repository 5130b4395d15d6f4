"""Contrastive language-audio learning with the relations of emotion, and of gender, between utterances.

Pan et al. (2024), "GEmo-CLAP: Gender-attribute-enhanced contrastive language-audio pretraining", equations 4
to 7. No code was published; what is written here follows a second-hand account, in which the target is the
softmax of a matrix of zeros and ones, and so nearly flat: with 32 utterances of four classes the positives
of a row hold less than half of its mass.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from affetto.augment import AugmentConfig
from affetto.config import Settings
from affetto.data import Batch
from affetto.models.classifier import EmotionClassifier, Reads
from affetto.models.language import LanguageHead
from affetto.models.text import averaged
from affetto.objectives.objective import Supervised, first_row, gathered, mean_over_processes

Target = Literal["emo", "ml", "sl", "hard"]


class ClapSettings(Settings):
    """Which utterances and texts of a batch belong together.

    Attributes:
        target: ``"emo"``, the softmax of whose emotion is the same (Emo-CLAP, equation 4); ``"ml"``, the loss
            of that and of the same for gender, weighed (ML-GEmo-CLAP, equation 6); ``"sl"``, the softmax of
            both relations, weighed (SL-GEmo-CLAP, equation 7); ``"hard"``, all of the mass on the same
            emotion, in equal shares.
        alpha: share of emotion in ``"ml"`` and ``"sl"``; gender has the rest.
    """

    target: Target = "emo"
    alpha: float = Field(0.9, ge=0, le=1)

    @property
    def needs_gender(self) -> bool:
        """Whether gender takes part."""
        return self.target in ("ml", "sl")


class Clap(Supervised):
    """Draws each utterance to what is said of it, in both directions.

    A batch holds the columns ``target (B, K)``, ``gender (B, G)`` and ``text (B, N)``, each with a one where
    it belongs; where utterances are mixed, so are they.

    Args:
        classifier: the network to train; its head is a :class:`~affetto.models.language.LanguageHead`.
        settings: what belongs together.
        augment: see :class:`Supervised`.
        texts: vectors of the ``N`` texts, ``(N, E)``; or, where the text encoder learns too, a set of
            sentences for each.
        reads: what the batches hold.
    """

    def __init__(
        self,
        classifier: EmotionClassifier,
        settings: ClapSettings,
        augment: AugmentConfig,
        texts: Tensor | Sequence[Sequence[str]],
        reads: Reads = "waveforms",
    ) -> None:
        super().__init__(classifier, augment, reads)
        self.needs = {"target": "scan", "text": "scan"} | (
            {"gender": "scan"} if settings.needs_gender else {}
        )
        self.weights = {}
        self.settings = settings
        self.sets = None if isinstance(texts, Tensor) else texts
        self.register_buffer("texts", texts if isinstance(texts, Tensor) else None, persistent=False)
        self.texts: Tensor | None

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns ``{"clap": loss}``, the mean over the items of all processes."""
        names = list(self.needs)
        widths = [batch.columns[name].shape[1] for name in names]
        vectors, mixed = self.embedded(batch, torch.cat([batch.columns[name] for name in names], 1))
        columns = dict(zip(names, torch.split(mixed, widths, dim=1), strict=True))
        head = self.classifier.head
        assert isinstance(head, LanguageHead)
        heard = head.heard(self.classifier.standardise(vectors)).float()
        meant = head.meant(columns["text"] @ self._texts(head, columns["text"])).float()
        # Targets differ by a tenth; half precision, which a GPU may choose by itself, would blur them.
        with torch.autocast(heard.device.type, enabled=False):
            return {"clap": self._loss(head, heard, meant, columns)}

    def _loss(self, head: LanguageHead, heard: Tensor, meant: Tensor, columns: dict[str, Tensor]) -> Tensor:
        own = slice(first_row(heard), first_row(heard) + len(heard))
        relations = [
            everyone[own] @ everyone.T
            for everyone in (gathered(columns[name].float()) for name in self.needs if name != "text")
        ]
        losses = clap_losses(
            head.scales[0].float() * heard @ gathered(meant).T,
            head.scales[1].float() * meant @ gathered(heard).T,
            clap_targets(self.settings, *relations),
        )
        return mean_over_processes(losses.sum(), losses.new_tensor(float(len(losses))))

    def _texts(self, head: LanguageHead, used: Tensor) -> Tensor:
        """Returns the vectors of all texts, ``(N, E)``; zero for one that nobody in the batch has."""
        if self.texts is not None:
            return self.texts
        assert self.sets is not None
        assert head.encoder is not None
        places = used.any(0).nonzero().flatten()
        found = averaged(head.encoder, [self.sets[place] for place in places.tolist()])
        return found.new_zeros(used.shape[1], found.shape[1]).index_copy(0, places, found)


def clap_targets(
    settings: ClapSettings, emotion: Tensor, gender: Tensor | None = None
) -> list[tuple[float, Tensor]]:
    """Returns what each row should be, ``(B, N)`` that sum to 1, with weights.

    Args:
        settings: which target.
        emotion: 1 where two items have the same emotion, else 0, ``(B, N)``; between, for mixed ones.
        gender: the same for gender.
    """
    if settings.target == "hard":
        return [(1.0, emotion / emotion.sum(1, keepdim=True))]
    if settings.target == "emo":
        return [(1.0, emotion.softmax(1))]
    if gender is None:
        raise ValueError(f"the target {settings.target!r} needs the relations of gender")
    alpha = settings.alpha
    if settings.target == "ml":
        return [(alpha, emotion.softmax(1)), (1 - alpha, gender.softmax(1))]
    return [(1.0, (alpha * emotion + (1 - alpha) * gender).softmax(1))]


def clap_losses(to_texts: Tensor, to_voices: Tensor, targets: list[tuple[float, Tensor]]) -> Tensor:
    """Returns the loss of each item, ``(B,)``: half the divergence from its target, in both directions.

    Args:
        to_texts: cosines of voices with texts over their temperature, ``(B, N)``.
        to_voices: cosines of texts with voices over theirs, ``(B, N)``.
        targets: from :func:`clap_targets`; those of a text are those of its utterance.
    """
    losses = to_texts.new_zeros(len(to_texts))
    for logits in (to_texts, to_voices):
        shares = logits.log_softmax(1)
        for weight, target in targets:
            losses = losses + weight / 2 * (torch.xlogy(target, target) - target * shares).sum(1)
    return losses
