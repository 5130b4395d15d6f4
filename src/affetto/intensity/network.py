"""StrengthNet: intensity frame by frame from stacked log-mel frames; its losses and its folder."""

from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from affetto._version import __version__
from affetto.augment import AugmentConfig, spec_augment
from affetto.augment_features import augment_spectra
from affetto.config import Settings, build
from affetto.data import Batch
from affetto.errors import CheckpointError, ConfigError
from affetto.features import FrontEnd
from affetto.intensity.ranker import NEUTRAL
from affetto.models.checkpoint import CONFIG, WEIGHTS, load_weights, read_config, save_weights
from affetto.models.encoder import frame_mask, normalise_logmel, stacked
from affetto.models.layers import Context, MeanPooling
from affetto.objectives.objective import Objective, mean_over_processes
from affetto.runs import write_text

FOLDER = "strength"


class StrengthNetSettings(Settings):
    """Shape of :class:`StrengthNet`.

    ``stack`` log-mel frames of ``bins`` bands are concatenated to one frame of the network; ``width`` are the
    channels of its residual ``blocks`` over time, ``hidden`` the units of its recurrent layer a direction.
    """

    bins: int = Field(80, ge=8)
    stack: int = Field(4, ge=1)
    width: int = Field(96, ge=4)
    blocks: int = Field(3, ge=0)
    hidden: int = Field(64, ge=2)
    dropout: float = Field(0.2, ge=0, lt=1)


class StrengthNet(nn.Module):
    """Intensity, a value a frame, and the emotion of the utterance, one of ``classes`` with neutral.

    After StrengthNet (Liu et al. 2022, arXiv 2206.07229, and its published code): convolutions, a recurrent
    layer in both directions, two heads. Unlike there, frames are stacked first, convolutions run over time
    alone, and intensity passes a sigmoid, all to be cheap. Every norm looks at one frame alone, so that
    neither padding nor the rest of a batch changes an answer.
    """

    def __init__(self, settings: StrengthNetSettings, classes: int) -> None:
        super().__init__()
        self.settings = settings
        self.front_end = FrontEnd(kind="logmel", bins=settings.bins)
        self.input = nn.Linear(settings.stack * settings.bins, settings.width)
        self.input_norm = nn.LayerNorm(settings.width)
        self.blocks = nn.ModuleList(Context(settings.width) for _ in range(settings.blocks))
        self.dropout = nn.Dropout(settings.dropout)
        self.recurrent = nn.GRU(settings.width, settings.hidden, batch_first=True, bidirectional=True)
        self.pooling = MeanPooling(2 * settings.hidden)
        self.strength = nn.Linear(2 * settings.hidden, 1)
        self.emotion = nn.Linear(2 * settings.hidden, classes)

    @property
    def hop_seconds(self) -> float:
        """Step between the frames that come out."""
        return self.settings.stack * self.front_end.hop_seconds

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reads log-mel ``features (B, T, F)`` of valid ``lengths (B,)``; ``T' = ceil(T / stack)``.

        Returns intensities ``(B, T')``, 0 to 1 and zero past each length, their lengths, and scores of the
        emotions ``(B, K)``.
        """
        values, lengths = stacked(normalise_logmel(features), lengths, self.settings.stack)
        mask = frame_mask(lengths, values.shape[1])
        frames = F.gelu(self.input_norm(self.input(values))) * mask
        for block in self.blocks:
            frames = block(frames, mask)
        packed = pack_padded_sequence(
            self.dropout(frames), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        hidden = pad_packed_sequence(self.recurrent(packed)[0], True, total_length=values.shape[1])[0]
        hidden = self.dropout(hidden)
        intensity = torch.sigmoid(self.strength(hidden)) * mask
        return intensity.squeeze(2), lengths, self.emotion(self.pooling(hidden, lengths))


class IntensityLossSettings(Settings):
    """Weights of the absolute errors of utterances and of frames, and of the emotion's cross-entropy."""

    utterance: float = Field(1.0, ge=0)
    frame: float = Field(1.0, ge=0)
    emotion: float = Field(1.0, ge=0)


class IntensityObjective(Objective):
    """The losses of StrengthNet: absolute errors of utterances and frames, cross-entropy of the emotion.

    The intensity of a frame is not known: its target is that of the whole utterance, so that frames differ
    only as far as the network finds intensity in some and not in others. A batch holds log-mel frames, which
    are augmented in training, and the columns ``intensity (B,)``, 0 to 1, and ``label (B,)``.
    """

    def __init__(
        self, network: StrengthNet, settings: IntensityLossSettings, augment: AugmentConfig | None = None
    ) -> None:
        super().__init__()
        self.weights = settings.model_dump()
        self.network = network
        self.augment = augment or AugmentConfig()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Returns ``utterance``, ``frame`` and ``emotion``, each a mean over the batch of all processes."""
        values, lengths = batch.values, batch.lengths
        if self.training:
            front_end = self.network.front_end
            values, lengths = augment_spectra(values, lengths, self.augment, front_end)
            values = spec_augment(values, lengths, self.augment)
        frames, lengths, emotions = self.network(values, lengths)
        target = batch.columns["intensity"]
        mask = frame_mask(lengths, frames.shape[1]).squeeze(2)
        errors = (frames - target[:, None]).abs() * mask
        count = torch.full_like(target[0], len(target))
        wrong = F.cross_entropy(emotions.float(), batch.columns["label"], reduction="sum")
        means = frames.sum(1) / lengths
        return {
            "utterance": mean_over_processes((means - target).abs().sum(), count),
            "frame": mean_over_processes(errors.sum(), mask.sum()),
            "emotion": mean_over_processes(wrong, count),
        }


def save_strength_net(folder: Path, network: StrengthNet, config: dict[str, Any]) -> None:
    """Writes weights, config and model card."""
    shape = network.settings.model_dump(mode="json")
    save_weights(folder, network, {"class": StrengthNet.__name__, "network": shape, **config})
    seen = config["speakers_seen"]["with_labels"]
    card = (
        f"# Emotional intensity, by affetto {__version__}\n\n"
        f"Predicts for every {1000 * network.hop_seconds:g} ms of speech how far it lies above {NEUTRAL}, "
        f"from 0 to 1. Trained on the labels {', '.join(config['labels'])} of {len(seen)} speakers, "
        "whose names are in config.json: its curves of these speakers are no test.\n\n"
        "Use it: `affetto annotate intensity MANIFEST --model THIS_FOLDER -o RUN`.\n"
    )
    write_text(folder / "README.md", card)


def load_strength_net(folder: Path) -> tuple[StrengthNet, dict[str, Any]]:
    """Returns the network of a folder in evaluation mode, and its ``config.json``."""
    config = read_config(folder)
    if config.get("class") != StrengthNet.__name__:
        raise CheckpointError(
            f"{folder / CONFIG} is of the class {config.get('class')!r}, not {StrengthNet.__name__}; name a "
            f"folder {FOLDER} that affetto annotate intensity wrote"
        )
    try:
        network = StrengthNet(build(StrengthNetSettings, config["network"]), len(config["labels"]))
        config["speakers_seen"]["with_labels"], config["protocol"], config["centre"]
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG} describes no such network: {error}") from error
    load_weights(folder, network)
    return network.eval().requires_grad_(False), config


def find_strength_net(path: str | Path) -> Path:
    """Returns the network's folder that ``path`` is, or the only one of a run."""
    path = Path(path)
    if (path / WEIGHTS).exists():
        return path
    found = [file.parent for file in sorted(path.glob(f"fold-*/{FOLDER}/{CONFIG}"))]
    if len(found) != 1:
        there = (
            f"it holds {', '.join(map(str, found))}: name one of these" if found else "there is none in it"
        )
        raise CheckpointError(f"{path} is no folder of one strength network; {there}")
    return found[0]
