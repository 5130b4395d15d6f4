"""Vectors of the content of an utterance: the course of an encoder's layer over time."""

import torch
from torch import Tensor

from affetto.models.encoder import Embedder, Encoder


class Course(Embedder):
    """Means of an encoder's layer over equal parts of an utterance, minus the mean of the whole.

    Voice and mood mostly last from the beginning of an utterance to its end and cancel; the sounds in their
    order remain. Utterances of the same sentence have similar vectors.
    """

    def __init__(self, encoder: Encoder, layer: int, parts: int) -> None:
        """Reads ``layer`` of the encoder, cut into ``parts``: ``D = parts * layer_dims[layer]``."""
        super().__init__()
        self.encoder, self.layer, self.parts = encoder, layer, parts
        self.settings = (layer, parts)
        self.front_end = encoder.front_end
        self.dim = parts * encoder.layer_dims[layer]

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Embeds ``features (B, T, F)`` as ``(B, D)``."""
        frames = self.encoder(features, lengths)
        values = frames.layers[self.layer]
        part = frames.lengths[:, None, None] / self.parts  # in frames; edges fall within frames
        ends = torch.arange(1, self.parts + 1, device=values.device)[:, None] * part
        begin = torch.arange(values.shape[1], device=values.device)
        shares = (torch.minimum(ends, begin + 1) - torch.maximum(ends - part, begin)).clamp_min(0)
        means = shares @ values / part
        return torch.as_tensor((means - means.mean(1, keepdim=True)).flatten(1))
