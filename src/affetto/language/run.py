"""``pretrain --objective clap``: a recogniser that learns from labels and texts, trained by ``finetune``."""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from affetto.config import merge
from affetto.corpora.manifest import Manifest
from affetto.errors import ConfigError
from affetto.finetuning.fold import Supervision
from affetto.finetuning.run import finetune
from affetto.finetuning.settings import RECIPES, FinetuneSettings, asked_for, complete
from affetto.finetuning.task import FoldTask
from affetto.language.clap import Clap, ClapSettings, sentences
from affetto.language.text import TextEncoder, TextSettings, mean_vectors
from affetto.models.checkpoint import TEXT
from affetto.models.classifier import EmotionClassifier, Reads
from affetto.models.heads import LanguageHead, LanguageSettings
from affetto.objectives.supervised import ClassifySettings, Supervised
from affetto.runs import RunFolder


class TextLanguageSettings(LanguageSettings):
    """Shape of the language head; None in place of a text encoder learns class vectors by cross-entropy."""

    text: TextSettings | None = None


class LanguageRunSettings(FinetuneSettings):
    """Settings of ``pretrain --objective clap``: those of ``finetune``, and of texts."""

    head: Literal["language"] = "language"  # type: ignore[assignment]
    language: TextLanguageSettings = TextLanguageSettings()
    clap: ClapSettings = ClapSettings()


def language_settings(
    file: Path | None = None, overrides: tuple[str, ...] = (), **given: Any
) -> LanguageRunSettings:
    """Composes settings as :func:`~affetto.finetuning.settings.finetune_settings` does."""
    asked = asked_for(file, overrides, **given)
    asked["head"] = "language"
    asked["language"] = {"text": {}, **(asked.get("language") or {})}
    recipe = RECIPES.get(str(asked.get("recipe", "cnn")))
    if recipe and recipe["embedder"]["name"] != "network":
        asked = merge({"train": {"epochs": 30, "learning_rate": 1e-3}}, asked)
    settings = complete(LanguageRunSettings, asked)
    if settings.language.text is not None and settings.loss != ClassifySettings():
        raise ConfigError(
            "got settings of loss, which language-audio training does not look at; leave them out"
        )
    if settings.language.text is None and settings.clap != ClapSettings():
        given_names = ", ".join(settings.clap.model_dump(exclude_defaults=True))
        raise ConfigError(f"learned class vectors look at nothing of: {given_names}; leave it out")
    return settings


def pretrain_language(
    manifest: str | Path | Manifest, settings: LanguageRunSettings, out: str | Path, *, device: str = "auto"
) -> RunFolder:
    """Trains a recogniser with a language head; else as :func:`~affetto.finetuning.run.finetune`."""
    return finetune(manifest, settings, out, TextSupervision, device=device)


class TextSupervision(Supervision):
    """Learns from labels and the sentences of each utterance."""

    def __init__(self, task: FoldTask) -> None:
        super().__init__(task)
        assert isinstance(task.settings, LanguageRunSettings)
        self.settings, self.text = task.settings, task.settings.language.text
        self.encoder: TextEncoder | None = None  # where it learns too
        if self.text is not None:
            self.sentences = sentences(task.material, self.text.templates, self.settings.clap, task.train)

    def head(self) -> dict[str, Any]:
        """Returns the shape of the language head, with the sentences of its classes."""
        language = self.settings.language
        if self.text is None:
            return {"head": "language", "language": language}
        # A recogniser must find the text encoder from any folder.
        model = str(Path(self.text.model).resolve()) if Path(self.text.model).is_dir() else self.text.model
        text = self.text.model_copy(update={"model": model})
        classes = tuple(map(tuple, self.sentences.classes))
        update = {"text": text, "sentences": classes}
        return {"head": "language", "language": language.model_copy(update=update)}

    def objective(self, classifier: EmotionClassifier, reads: Reads) -> tuple[Supervised, dict[str, Tensor]]:
        """Returns the loss of :class:`~affetto.language.clap.Clap`, and its columns."""
        labels, columns = super().objective(classifier, reads)
        if self.text is None:
            return labels, columns
        encoder = TextEncoder(self.text).load_published()
        texts: Tensor | list[list[str]] = self.sentences.sets
        if self.text.frozen:
            with torch.no_grad():
                encoder = encoder.eval().to(self.task.material.device)
                found = mean_vectors(encoder, [*texts, *self.sentences.classes]).cpu()
            _write_names(classifier, found[len(texts) :])
            texts = found[: len(texts)]
        else:
            self.encoder = encoder
        loss = Clap(classifier, self.settings.clap, self.settings.augment, texts, reads, self.encoder)
        return loss, columns | self.sentences.columns

    def before_scoring(self, classifier: EmotionClassifier) -> None:
        """Gives the head the class vectors of a text encoder that has learned."""
        if self.encoder is not None:
            with torch.no_grad():
                _write_names(classifier, mean_vectors(self.encoder.eval(), self.sentences.classes))

    def save(self, folder: Path) -> None:
        """Writes the text encoder, where it has learned."""
        if self.encoder is not None:
            self.encoder.save(folder / TEXT)


def _write_names(classifier: EmotionClassifier, vectors: Tensor) -> None:
    assert isinstance(classifier.head, LanguageHead)
    classifier.head.names.copy_(vectors)
