"""From an embedding to one score a class."""

import math
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.config import Settings

LARGEST_SCALE = 100.0  # of a cosine, as in CLIP (Radford et al. 2021, section 2.5)


class LinearHead(nn.Module):
    """One linear layer after dropout: ``(B, D) -> (B, K)``."""

    def __init__(self, dim: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(dim, classes)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Scores ``embeddings (B, D)``."""
        return torch.as_tensor(self.linear(self.dropout(embeddings)))

    def assign(self, weight: Tensor | NDArray[np.float64], bias: Tensor | NDArray[np.float64]) -> None:
        """Takes over the solution of a linear classifier: ``weight (K, D)``, ``bias (K,)``."""
        with torch.no_grad():
            self.linear.weight.copy_(torch.as_tensor(weight))
            self.linear.bias.copy_(torch.as_tensor(bias))


class KernelHead(nn.Module):
    """One support vector machine a class against the rest, radial kernel: ``(B, D) -> (B, K)``.

    Score of class k: ``sum_n coefficients[k, n] exp(-gamma |x - support[n]|^2) + bias[k]``; the support
    vectors are those of all classes together.
    """

    def __init__(self, dim: int, classes: int, support: int) -> None:
        super().__init__()
        self.support = nn.Buffer(torch.zeros(support, dim))
        self.coefficients = nn.Buffer(torch.zeros(classes, support))
        self.bias = nn.Buffer(torch.zeros(classes))
        self.gamma = nn.Buffer(torch.ones(()))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Scores ``embeddings (B, D)``, in double precision where the device has it.

        In single precision the last digits of a row depend on its place among the rows that go with it.
        """
        exact = torch.float32 if embeddings.device.type == "mps" else torch.float64
        rows, support = embeddings.to(exact), self.support.to(exact)
        distances = rows.square().sum(1, keepdim=True) - 2 * rows @ support.T + support.square().sum(1)
        kernel = torch.exp(-self.gamma.to(exact) * distances.clamp_min(0))
        return (kernel @ self.coefficients.T.to(exact) + self.bias.to(exact)).to(embeddings.dtype)


class Standardise(nn.Module):
    """Brings each dimension to mean 0 and standard deviation 1 as fitted, clipped: ``(B, D) -> (B, D)``."""

    CLIP = 8.0

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.zeros(dim))
        self.deviation = nn.Buffer(torch.ones(dim))

    def fit(self, embeddings: Tensor) -> "Standardise":
        """Takes mean and deviation from ``embeddings (N, D)`` and returns itself."""
        with torch.no_grad():
            self.mean.copy_(embeddings.mean(0))
            self.deviation.copy_(embeddings.std(0, correction=0).clamp_min(1e-6))
        return self

    def forward(self, embeddings: Tensor) -> Tensor:
        """Standardises ``embeddings (B, D)``."""
        return ((embeddings - self.mean) / self.deviation).clamp(-self.CLIP, self.CLIP)


class TextShape(Settings):
    """Which text encoder made the vectors of a language head; ``affetto.language.text`` builds it."""

    model: str = "FacebookAI/roberta-base"  # a folder, or a model of the Hugging Face hub
    pooling: Literal["mean", "first"] = "mean"  # of the tokens; the paper does not say which
    # Sentences around a class. Several are averaged, each of length 1. What is not known of an utterance,
    # such as the gender of its speaker, is left out of the sentence.
    templates: tuple[str, ...] = Field(("the speaker sounds {emotion}",), min_length=1)
    frozen: bool = True  # whether the encoder stays as published; every text is then encoded once
    shape: dict[str, Any]  # the model's own config
    dim: int  # E, size of its vectors


class LanguageSettings(Settings):
    """Shape of :class:`LanguageHead`."""

    text: TextShape | None = None  # None for class vectors that are learned without any text
    sentences: tuple[tuple[str, ...], ...] = ()  # of each class; filled in by training
    width: int = Field(512, ge=2)  # W, of the space that utterances and texts share
    hidden: int = Field(512, ge=2)  # width of the projections' hidden layer
    temperature: float = Field(0.07, ge=1 / LARGEST_SCALE, le=1)  # at first; both are learned


class LanguageHead(nn.Module):
    """Scores an embedding by its cosine with the text vector of each class: ``(B, D) -> (B, K)``.

    Pan et al. (2024), "GEmo-CLAP": a projection on the vectors of either encoder, and a temperature for each
    direction. The text vectors of the classes are kept, so that scoring needs no text encoder.
    """

    def __init__(self, dim: int, classes: int, settings: LanguageSettings, dropout: float = 0.0) -> None:
        super().__init__()
        self.settings = settings
        self.dropout = nn.Dropout(dropout)
        self.audio = _projection(dim, settings)
        self.log_scales = nn.Parameter(torch.full((2,), math.log(1 / settings.temperature)))
        if settings.text is None:
            self.vectors = nn.Parameter(torch.randn(classes, settings.width))
            return
        self.text = _projection(settings.text.dim, settings)
        self.names = nn.Buffer(torch.zeros(classes, settings.text.dim))

    @property
    def scales(self) -> Tensor:
        """One over the temperatures, from utterances to texts and back, ``(2,)``; 1 to 100."""
        return self.log_scales.exp().clamp(1.0, LARGEST_SCALE)

    def project_audio(self, embeddings: Tensor) -> Tensor:
        """Projects ``embeddings (B, D)`` into the shared space, ``(B, W)``, each of length 1."""
        return F.normalize(self.audio(self.dropout(embeddings)), dim=1)

    def project_texts(self, texts: Tensor) -> Tensor:
        """Projects vectors of a text encoder ``(N, E)`` into the shared space, ``(N, W)``, of length 1."""
        return F.normalize(self.text(texts), dim=1)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Scores ``embeddings (B, D)``."""
        learned = self.settings.text is None
        classes = F.normalize(self.vectors, dim=1) if learned else self.project_texts(self.names)
        return self.scales[0] * self.project_audio(embeddings) @ classes.T


def _projection(dim: int, settings: LanguageSettings) -> nn.Sequential:
    hidden = settings.hidden
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, settings.width))
