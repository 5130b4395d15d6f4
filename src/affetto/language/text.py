"""Text encoders of Hugging Face transformers, such as RoBERTa: texts to vectors."""

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from pydantic import field_validator
from torch import Tensor, nn
from torch.nn import functional as F

from affetto.errors import CheckpointError, ConfigError
from affetto.models.checkpoint import save_weights
from affetto.models.heads import TextShape
from affetto.models.hub import LookedUp, library, load_weights_of, published_part

DEFAULT = str(TextShape.model_fields["model"].default)
FIELDS = ("emotion", "gender", "intensity")  # what a template may name in braces


class TextSettings(LookedUp, TextShape):
    """Which text encoder; its shape is looked up unless given."""

    gives: ClassVar[str] = "a text encoder"

    @field_validator("templates")
    @classmethod
    def _known_fields(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            try:
                named = {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}
            except ValueError as error:
                raise ValueError(f"got the template {template!r}: {error}") from error
            if not named <= set(FIELDS) or "emotion" not in named:
                raise ValueError(
                    f"got the template {template!r}; it must name {{emotion}}, and may name {{gender}} and "
                    "{intensity}"
                )
        return templates

    @classmethod
    def look_up(cls, model: str, config: Any) -> dict[str, Any]:
        """Returns the size of the model's vectors."""
        readable = hasattr(config, "vocab_size") and hasattr(config, "hidden_size")
        if not readable or config.is_encoder_decoder:
            raise CheckpointError(f"{model} is no encoder of text; name one, such as {DEFAULT}")
        return {"dim": int(config.hidden_size)}


class TextEncoder(nn.Module):
    """Turns texts into vectors of length 1; a text's vector does not depend on the rest of its batch.

    Its weights are random until :meth:`load_published`.
    """

    def __init__(self, settings: TextShape) -> None:
        super().__init__()
        self.settings = settings
        transformers = library(TextSettings.gives)
        config = transformers.AutoConfig.for_model(**settings.shape)
        self.network = transformers.AutoModel.from_config(config).float()  # some are stored as halves
        self.tokenizer: Any = None

    def load_published(self) -> Self:
        """Loads the weights and the tokenizer of the model's folder or the hub; returns itself."""
        load_weights_of(self.network, self.settings.model, "pooler")
        self.tokenizer = published_part("AutoTokenizer", self.settings.model, TextSettings.gives)
        if self.tokenizer.pad_token is None:
            raise CheckpointError(
                f"{self.settings.model} has no padding token, so that texts cannot go through together; "
                f"name another model, such as {DEFAULT}"
            )
        return self

    def save(self, folder: Path) -> None:
        """Writes a folder that ``model`` can name."""
        save_weights(folder, self.network, self.settings.shape)
        self.tokenizer.save_pretrained(folder)

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Returns a vector of length 1 for each text, ``(N, E)``; refuses empty and too long ones."""
        for text in texts:
            if not text.strip():
                raise ConfigError("got an empty text; say what a voice sounds like, e.g. 'a furious shout'")
        encoded = self.tokenizer(list(texts), padding=True, return_tensors="pt")
        counts, most = encoded["attention_mask"].sum(1), self._most_tokens()
        if int(counts.max()) > most:
            longest = texts[int(counts.argmax())]
            raise ConfigError(
                f"got a text of {int(counts.max())} tokens ({longest[:40]!r}...); {self.settings.model} "
                f"reads at most {most}: shorten it"
            )
        device = next(self.network.parameters()).device
        hidden = self.network(**{name: each.to(device) for name, each in encoded.items()}).last_hidden_state
        if self.settings.pooling == "first":
            return F.normalize(hidden[:, 0], dim=1)
        mask = encoded["attention_mask"].to(device)[:, :, None].to(hidden.dtype)
        return F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)

    def _most_tokens(self) -> int:
        positions = int(getattr(self.network.config, "max_position_embeddings", 512))
        embeddings = getattr(getattr(self.network, "embeddings", None), "position_embeddings", None)
        padding = getattr(embeddings, "padding_idx", None)
        # RoBERTa and models like it count positions from behind their padding token.
        return positions if padding is None else positions - padding - 1


def mean_vectors(encoder: TextEncoder, sets: Sequence[Sequence[str]]) -> Tensor:
    """Returns the mean vector of each set of texts, again of length 1, ``(len(sets), E)``."""
    unique = list(dict.fromkeys(text for texts in sets for text in texts))
    vectors = encoder(unique)
    places = {text: place for place, text in enumerate(unique)}
    means = [vectors[[places[text] for text in texts]].mean(0) for texts in sets]
    return F.normalize(torch.stack(means), dim=1)
