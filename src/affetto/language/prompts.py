"""Recognisers with texts as their classes, nothing trained."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from affetto.errors import CheckpointError, ConfigError
from affetto.inference.recogniser import Recogniser
from affetto.language.text import TextEncoder, mean_vectors
from affetto.models.checkpoint import TEXT, find_recogniser
from affetto.models.classifier import EmotionClassifier
from affetto.models.heads import LanguageHead


def with_prompts(
    name: str | Path,
    texts: Sequence[str],
    *,
    device: str = "auto",
    revision: str | None = None,
    encoder: str | Path | None = None,
    any_sound: bool = False,
) -> Recogniser:
    """Loads a recogniser that was trained with language, and gives it texts in place of its classes.

    Args:
        name: see :meth:`~affetto.inference.recogniser.Recogniser.from_pretrained`, like what follows.
        texts: at least two, e.g. ``["a furious shout", "a bored voice"]``; they become its labels.
        device: where the network runs.
        revision: branch, tag or commit on the hub.
        encoder: the folder of its published encoder.
        any_sound: whether it answers where there is no speech.

    Raises:
        ConfigError: when it knows no words, and for fewer than two texts, equal, empty or too long ones.
        CheckpointError: where its text encoder cannot be loaded.
    """
    folder = find_recogniser(name, revision)
    recogniser = Recogniser.from_pretrained(folder, device=device, encoder=encoder)
    classifier = recogniser.classifier
    head = language_head(classifier)
    if len(texts) < 2 or len(set(texts)) < len(texts):
        raise ConfigError(f"got the texts {list(texts)}; at least two that differ are needed")
    vectors = text_encoder(folder, head)
    config = {**recogniser.config, "labels": list(texts), "id2label": dict(enumerate(texts))}
    made = Prompted(classifier, texts, vectors(texts))
    return Recogniser(made.eval().requires_grad_(False), config, device, any_sound=any_sound)


class Prompted(EmotionClassifier):
    """A classifier with texts, ``(K, E)`` as vectors, in place of the classes by which it enrols speakers."""

    def __init__(self, trained: EmotionClassifier, texts: Sequence[str], vectors: Tensor) -> None:
        language = language_head(trained).settings.model_copy(
            update={"sentences": tuple((text,) for text in texts)}
        )
        changed = {"labels": tuple(texts), "enrolment": False, "language": language}
        super().__init__(trained.settings.model_copy(update=changed), trained.embedder)
        known = trained.state_dict()
        state = {key: each for key, each in known.items() if not key.startswith("enrolment.")}
        self.load_state_dict({**state, "head.names": vectors})
        if trained.enrolment is not None and trained.enrolment.head is None:
            self.trained, self.enrolment = trained, trained.enrolment

    def offset(self, vectors: Tensor) -> Tensor:
        """Estimates one speaker's offset with the classes of training, which are expected of an utterance."""
        self.must_adapt()
        return self.trained.offset(vectors)


def language_head(classifier: EmotionClassifier) -> LanguageHead:
    """Returns the head of a classifier that was trained with texts; raises ConfigError for any other."""
    if not isinstance(classifier.head, LanguageHead) or classifier.head.settings.text is None:
        raise ConfigError(
            "this recogniser knows classes and no words; make one with affetto pretrain --objective clap"
        )
    return classifier.head


def text_encoder(folder: Path, head: LanguageHead) -> TextEncoder:
    """Returns the text encoder of a recogniser folder: its own where it was trained, else the published one.

    A CheckpointError says when that cannot be loaded, or is not the one of training.
    """
    shape = head.settings.text
    assert shape is not None
    if (folder / TEXT).is_dir():
        shape = shape.model_copy(update={"model": str(folder / TEXT)})
    encoder = TextEncoder(shape).load_published().eval().requires_grad_(False)
    vectors = mean_vectors(encoder, head.settings.sentences)
    if not torch.allclose(vectors, head.names.cpu(), atol=1e-3):
        raise CheckpointError(
            f"{shape.model} is not the text encoder that this recogniser learned with; put back the one that "
            "it learned with"
        )
    return encoder
