"""From frames to one vector an utterance."""

import torch
from torch import Tensor, nn

from affetto.models.encoder import Frames, frame_mask


class MeanPooling(nn.Module):
    """The mean over an utterance's valid frames: ``(B, T, D) -> (B, D)``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Pools ``frames (B, T, D)`` over valid ``lengths (B,)``."""
        mask = frame_mask(lengths, frames.shape[1])
        return (frames * mask).sum(1) / mask.sum(1).clamp_min(1.0)


class StatisticsPooling(nn.Module):
    """Mean and standard deviation over valid frames: ``(B, T, D) -> (B, 2 D)``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = 2 * dim

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Pools ``frames (B, T, D)`` over valid ``lengths (B,)``."""
        weights = self._weights(frames, frame_mask(lengths, frames.shape[1]))
        mean = (weights * frames).sum(1)
        variance = (weights * (frames - mean.unsqueeze(1)).square()).sum(1)
        return torch.cat([mean, variance.clamp_min(1e-6).sqrt()], dim=1)

    def _weights(self, frames: Tensor, mask: Tensor) -> Tensor:
        return mask / mask.sum(1, keepdim=True).clamp_min(1.0)


class AttentiveStatistics(StatisticsPooling):
    """Mean and standard deviation under learned weights, a set for each channel: ``(B, T, D) -> (B, 2 D)``.

    Attentive statistics pooling of Okabe et al. (2018), with the channel-wise weights of ECAPA-TDNN
    (Desplanques et al. 2020).
    """

    def __init__(self, dim: int, hidden: int = 64) -> None:
        super().__init__(dim)
        self.score = nn.Sequential(nn.Linear(dim, hidden), nn.Tanh(), nn.Linear(hidden, dim))

    def _weights(self, frames: Tensor, mask: Tensor) -> Tensor:
        return torch.as_tensor(self.score(frames).masked_fill(mask == 0, -1e4).softmax(1))


def frame_statistics(frames: Frames) -> Tensor:
    """Returns mean and deviation over time of every layer, concatenated: ``(B, 2 sum(D_i))``."""
    pools = [(StatisticsPooling(layer.shape[2]), layer) for layer in frames.layers]
    return torch.cat([pool(layer, frames.lengths) for pool, layer in pools], dim=1)


POOLINGS: dict[str, type[MeanPooling] | type[StatisticsPooling]] = {
    "mean": MeanPooling,
    "statistics": StatisticsPooling,
    "attentive": AttentiveStatistics,
}
