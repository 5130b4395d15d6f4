"""A residual block over time, shared by encoders and by what sits on top of frozen ones."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Context(nn.Module):
    """A residual block over time: depthwise convolution, layer norm, two pointwise layers.

    The block of ConvNeXt (Liu et al. 2022) in one dimension. Layer norm looks at one frame alone, so that
    neither padding nor the rest of the batch matters. ``drop_path`` is the share of utterances for which the
    block is skipped in training.
    """

    def __init__(self, width: int, expansion: int = 2, drop_path: float = 0.1) -> None:
        super().__init__()
        self.depthwise = OverTime(width)
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, expansion * width)
        self.narrow = nn.Linear(expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.2))
        self.drop_path = drop_path

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Maps ``frames (B, T, D)``, zero where ``mask (B, T, 1)`` is zero, to the same shape."""
        hidden = self.depthwise(frames)
        hidden = self.narrow(F.gelu(self.widen(self.norm(hidden)))) * self.scale
        if self.training and self.drop_path:
            kept = torch.rand(len(hidden), 1, 1, device=hidden.device) >= self.drop_path
            hidden = hidden * kept / (1 - self.drop_path)
        return torch.as_tensor((frames + hidden) * mask)


class OverTime(nn.Conv1d):
    """A depthwise convolution over time on ``(B, T, D)``."""

    def __init__(self, width: int, kernel: int = 5) -> None:
        super().__init__(width, width, kernel, padding=kernel // 2, groups=width)

    def forward(self, frames: Tensor) -> Tensor:
        """Maps ``(B, T, D)`` to the same shape."""
        # As an image one line high, channels last, it costs a quarter of what Conv1d does on a CPU.
        image = frames.transpose(1, 2)[:, :, None].contiguous(memory_format=torch.channels_last)
        padding = (0, int(self.padding[0]))
        image = F.conv2d(image, self.weight[:, :, None], self.bias, padding=padding, groups=self.groups)
        return image[:, :, 0].transpose(1, 2)


def all_layers(blocks: nn.ModuleList, frames: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    """Returns frames and what each block in turn makes of them."""
    layers = [frames]
    for block in blocks:
        layers.append(block(layers[-1], mask))
    return tuple(layers)
