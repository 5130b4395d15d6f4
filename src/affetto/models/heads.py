"""From an embedding to one score a class."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class LinearHead(nn.Module):
    """One linear layer: ``(B, D) -> (B, K)``.

    Args:
        dim: ``D``.
        classes: ``K``.
        dropout: share of the embedding that is hidden in training.
    """

    def __init__(self, dim: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(dim, classes)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Scores ``embeddings (B, D)``."""
        return torch.as_tensor(self.linear(self.dropout(embeddings)))

    def assign(self, weight: NDArray[np.float64], bias: NDArray[np.float64]) -> None:
        """Takes over the solution of a linear classifier: ``weight (K, D)``, ``bias (K,)``."""
        with torch.no_grad():
            self.linear.weight.copy_(torch.as_tensor(weight))
            self.linear.bias.copy_(torch.as_tensor(bias))


class KernelHead(nn.Module):
    """One support vector machine a class against the rest, radial kernel: ``(B, D) -> (B, K)``.

    Score of class k: ``sum_n coefficients[k, n] exp(-gamma |x - support[n]|^2) + bias[k]``.

    Args:
        dim: ``D``.
        classes: ``K``.
        support: number of support vectors, all classes together.
    """

    def __init__(self, dim: int, classes: int, support: int) -> None:
        super().__init__()
        self.register_buffer("support", torch.zeros(support, dim))
        self.register_buffer("coefficients", torch.zeros(classes, support))
        self.register_buffer("bias", torch.zeros(classes))
        self.register_buffer("gamma", torch.ones(()))
        self.support: Tensor
        self.coefficients: Tensor
        self.bias: Tensor
        self.gamma: Tensor

    def forward(self, embeddings: Tensor) -> Tensor:
        """Scores ``embeddings (B, D)``."""
        distances = (
            embeddings.square().sum(1, keepdim=True)
            - 2 * embeddings @ self.support.T
            + self.support.square().sum(1)[None]
        )
        return torch.exp(-self.gamma * distances.clamp_min(0)) @ self.coefficients.T + self.bias


class Standardise(nn.Module):
    """Brings each dimension to mean 0 and standard deviation 1 as fitted, clipped: ``(B, D) -> (B, D)``."""

    CLIP = 8.0

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.ones(dim))
        self.mean: Tensor
        self.deviation: Tensor

    def fit(self, embeddings: Tensor) -> "Standardise":
        """Takes mean and deviation from ``embeddings (N, D)`` and returns itself."""
        with torch.no_grad():
            self.mean.copy_(embeddings.mean(0))
            self.deviation.copy_(embeddings.std(0, correction=0).clamp_min(1e-6))
        return self

    def forward(self, embeddings: Tensor) -> Tensor:
        """Standardises ``embeddings (B, D)``."""
        return ((embeddings - self.mean) / self.deviation).clamp(-self.CLIP, self.CLIP)
