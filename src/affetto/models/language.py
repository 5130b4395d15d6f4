"""A head that speaks: voices and texts in one space, scored by their angle.

Pan et al. (2024), "GEmo-CLAP: Gender-attribute-enhanced contrastive language-audio pretraining": two towers,
a projection on each, and a temperature for each direction. The size of the projections is not published.
"""

import math

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.config import Settings
from affetto.errors import CheckpointError
from affetto.models.text import TextEncoder, TextSettings, averaged

_MOST = 100.0  # of a scale, as CLIP has it (Radford et al. 2021, section 2.5)


class LanguageSettings(Settings):
    """Shape of :class:`LanguageHead`.

    Attributes:
        text: the text encoder; None for class vectors that are learned, with nothing to do with words.
        sentences: what each class is called, as the recogniser learned it; filled in by training.
        width: ``W``, of the space that voices and texts share.
        hidden: width of the projections' hidden layer.
        temperature: at first; both are learned.
    """

    text: TextSettings | None = None
    sentences: tuple[tuple[str, ...], ...] = ()
    width: int = Field(512, ge=2)
    hidden: int = Field(512, ge=2)
    temperature: float = Field(0.07, ge=1 / _MOST, le=1)


class LanguageHead(nn.Module):
    """Scores an embedding by its cosine with what each class is called: ``(B, D) -> (B, K)``.

    What a class is called is kept as the text encoder's vector, so that scoring needs no text encoder.

    Args:
        dim: ``D``.
        classes: ``K``.
        settings: the rest of its shape.
        dropout: share of the embedding that is hidden in training.
    """

    def __init__(self, dim: int, classes: int, settings: LanguageSettings, dropout: float = 0.0) -> None:
        super().__init__()
        self.settings = settings
        self.dropout = nn.Dropout(dropout)
        self.audio = _projection(dim, settings)
        self.log_scales = nn.Parameter(torch.full((2,), math.log(1 / settings.temperature)))
        self.encoder: TextEncoder | None = None
        if settings.text is None:
            self.vectors = nn.Parameter(torch.randn(classes, settings.width))
            return
        self.text = _projection(settings.text.dim, settings)
        self.register_buffer("names", torch.zeros(classes, settings.text.dim))
        self.names: Tensor
        if not settings.text.frozen:
            self.encoder = TextEncoder(settings.text)

    @property
    def scales(self) -> Tensor:
        """One over the temperatures, from voices to texts and back, ``(2,)``; 1 to 100."""
        return self.log_scales.exp().clamp(1.0, _MOST)

    def heard(self, embeddings: Tensor) -> Tensor:
        """Brings ``embeddings (B, D)`` into the shared space, ``(B, W)``, each of length 1."""
        return F.normalize(self.audio(self.dropout(embeddings)), dim=1)

    def meant(self, texts: Tensor) -> Tensor:
        """Brings vectors of a text encoder ``(N, E)`` into the shared space, ``(N, W)``, of length 1."""
        return F.normalize(self.text(texts), dim=1)

    @property
    def classes(self) -> Tensor:
        """The classes in the shared space, ``(K, W)``."""
        return F.normalize(self.vectors, dim=1) if self.settings.text is None else self.meant(self.names)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Scores ``embeddings (B, D)``."""
        return self.scales[0] * self.heard(embeddings) @ self.classes.T

    def text_encoder(self) -> TextEncoder:
        """Returns the text encoder, its own where that was trained, else the published one.

        Raises:
            CheckpointError: where the published one is not to be had, or does not say of the classes what the
                head learned from: it is another one, or the head learned with the words of a control.
        """
        assert self.settings.text is not None  # a classifier's property `language` has seen to it
        encoder = self.encoder or TextEncoder(self.settings.text).load_published()
        encoder = encoder.eval().requires_grad_(False)
        with torch.no_grad():
            said = averaged(encoder, self.settings.sentences).to(self.names.device)
        if not torch.allclose(said, self.names, atol=1e-3):
            raise CheckpointError(
                f"{self.settings.text.model} is not the text encoder that this recogniser learned with, or "
                "it learned with shuffled or random words (clap.words); name one that learned with its own"
            )
        return encoder


def _projection(dim: int, settings: LanguageSettings) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(dim, settings.hidden), nn.ReLU(), nn.Linear(settings.hidden, settings.width)
    )
