"""Parts of networks over frames: a residual block over time, and poolings from frames to one vector."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.models.encoder import Frames, frame_mask


class Context(nn.Module):
    """A residual block over time: depthwise convolution, layer norm, two pointwise layers.

    The block of ConvNeXt (Liu et al. 2022) in one dimension. Layer norm looks at one frame alone, so that
    neither padding nor the rest of the batch matters.
    """

    def __init__(self, width: int, drop_path: float = 0.1) -> None:
        super().__init__()
        self.depthwise = OverTime(width)
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.2))
        self.drop_path = drop_path  # share of utterances for which the block is skipped in training

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Maps ``frames (B, T, D)``, zero where ``mask (B, T, 1)`` is zero, to the same shape."""
        hidden = self.depthwise(frames)
        hidden = self.narrow(F.gelu(self.widen(self.norm(hidden)))) * self.scale
        if self.training and self.drop_path:
            kept = torch.rand(len(hidden), 1, 1, device=hidden.device) >= self.drop_path
            hidden = hidden * kept / (1 - self.drop_path)
        return torch.as_tensor((frames + hidden) * mask)


class OverTime(nn.Conv1d):
    """A depthwise convolution over five frames on ``(B, T, D)``."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 5, padding=2, groups=width)

    def forward(self, frames: Tensor) -> Tensor:
        """Maps ``(B, T, D)`` to the same shape."""
        # As an image one line high, channels last, it costs a quarter of what Conv1d does on a CPU.
        image = frames.transpose(1, 2)[:, :, None].contiguous(memory_format=torch.channels_last)
        image = F.conv2d(image, self.weight[:, :, None], self.bias, padding=(0, 2), groups=self.groups)
        return image[:, :, 0].transpose(1, 2)


def all_layers(blocks: nn.ModuleList, frames: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    """Returns frames and what each block in turn makes of them."""
    layers = [frames]
    for block in blocks:
        layers.append(block(layers[-1], mask))
    return tuple(layers)


class MeanPooling(nn.Module):
    """The mean over an utterance's valid frames: ``(B, T, D) -> (B, D)``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, frames: Tensor, lengths: Tensor, weights: Tensor | float = 1.0) -> Tensor:
        """Pools ``frames (B, T, D)`` over valid ``lengths (B,)``, with ``weights (B, T, 1)``."""
        mask = frame_mask(lengths, frames.shape[1]) * weights
        return (frames * mask).sum(1) / mask.sum(1).clamp_min(1.0)


class StatisticsPooling(nn.Module):
    """Mean and standard deviation over valid frames: ``(B, T, D) -> (B, 2 D)``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = 2 * dim

    def forward(self, frames: Tensor, lengths: Tensor, weights: Tensor | float = 1.0) -> Tensor:
        """Pools ``frames (B, T, D)`` over valid ``lengths (B,)``, with ``weights (B, T, 1)``."""
        weights = self._weights(frames, frame_mask(lengths, frames.shape[1]) * weights)
        mean = (weights * frames).sum(1)
        variance = (weights * (frames - mean.unsqueeze(1)).square()).sum(1)
        return torch.cat([mean, variance.clamp_min(1e-6).sqrt()], dim=1)

    def _weights(self, frames: Tensor, mask: Tensor) -> Tensor:
        return mask / mask.sum(1, keepdim=True).clamp_min(1.0)


class AttentiveStatistics(StatisticsPooling):
    """Mean and standard deviation under learned weights, a set for each channel: ``(B, T, D) -> (B, 2 D)``.

    Attentive statistics pooling (Okabe et al. 2018) with the weights of ECAPA-TDNN (Desplanques et al. 2020).
    """

    def __init__(self, dim: int, hidden: int = 64) -> None:
        super().__init__(dim)
        self.score = nn.Sequential(nn.Linear(dim, hidden), nn.Tanh(), nn.Linear(hidden, dim))

    def _weights(self, frames: Tensor, mask: Tensor) -> Tensor:
        return torch.as_tensor(self.score(frames).masked_fill(mask == 0, -1e4).softmax(1))


def frame_statistics(frames: Frames, deviation: bool = True, weights: Tensor | float = 1.0) -> Tensor:
    """Returns mean and deviation over time of every layer, concatenated: ``(B, 2 sum(D_i))``; or the mean.

    ``weights (B, T, 1)`` say how much each frame counts.
    """
    pooling = StatisticsPooling if deviation else MeanPooling
    pools = [(pooling(layer.shape[2]), layer) for layer in frames.layers]
    return torch.cat([pool(layer, frames.lengths, weights) for pool, layer in pools], dim=1)


POOLINGS: dict[str, type[MeanPooling] | type[StatisticsPooling]] = {
    "mean": MeanPooling,
    "statistics": StatisticsPooling,
    "attentive": AttentiveStatistics,
}
