"""Texts for a recogniser that was trained with language: as its classes, and to search recordings by."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from affetto.errors import CheckpointError, ConfigError, RunError
from affetto.inference.embedding import embed
from affetto.inference.recogniser import Recogniser
from affetto.inference.sources import Source
from affetto.inference.writers import Outcome
from affetto.language.text import TextEncoder, mean_vectors
from affetto.models.checkpoint import RECOGNISER, TEXT, copy_folder, find_recogniser
from affetto.models.classifier import EmotionClassifier, load_classifier
from affetto.models.encoder import Embedder, chosen_device, with_company
from affetto.models.heads import LanguageHead
from affetto.models.representation import Representation
from affetto.runs import locked


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


VECTORS, ROWS = "vectors.npy", "vectors.csv"


class Hit(NamedTuple):
    """A recording that was found: file, start and end in seconds, and its cosine with the text."""

    file: str
    start: float
    end: float
    score: float


class SharedSpace(Embedder):
    """A recogniser's network up to the space that it shares with texts, ``(B, W)``, of length 1."""

    unit = True

    def __init__(self, classifier: EmotionClassifier) -> None:
        super().__init__()
        self.classifier, self.front_end = classifier, classifier.front_end
        self.settings = classifier.settings
        self.dim = language_head(classifier).settings.width

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Projects ``features (B, T, F)`` into the space."""
        vectors = self.classifier.embed(features, lengths)[:, : self.classifier.embedder.dim]
        project = language_head(self.classifier).project_audio
        return with_company(project, self.classifier.standardise(vectors))


def index(
    model: str | Path,
    sources: Source | Iterable[Source],
    folder: str | Path,
    *,
    root: str | Path | None = None,
    device: str = "auto",
    workers: int | None = None,
    shard: str | None = None,
) -> Outcome:
    """Writes an index of recordings that :class:`Index` searches; continues an interrupted one.

    Args:
        model: a recogniser that was trained with language; a copy goes into the index.
        sources: recordings, folders, manifests.
        folder: the index: ``vectors.npy``, ``vectors.csv``, ``recogniser``.
        root: the folder that a manifest's file names are relative to.
        device: where the network runs.
        workers: threads; None for one a core.
        shard: as of :func:`~affetto.inference.output.predict`.

    Returns:
        How many recordings there are, and how many of them could not be read.

    Raises:
        ConfigError: when the recogniser knows no words.
        RunError: when the folder was begun with another recogniser, or is in use.
    """
    folder, own = Path(folder), find_recogniser(model)
    copy, name = folder / RECOGNISER, own.resolve().name
    classifier = load_classifier(own)[0].to(chosen_device(device))
    shared = Representation(None, SharedSpace(classifier), name=name)
    if not copy.exists():
        with locked(copy):
            copy_folder(own, copy)
    elif Representation(None, SharedSpace(load_classifier(copy)[0]), name=name).sha256 != shared.sha256:
        raise RunError(f"{folder} was made with another recogniser; name another folder, or remove it")
    return embed(shared, sources, folder / VECTORS, root=root, workers=workers, shard=shard)


class Index:
    """Recordings that can be searched by text; their vectors stay on disk, and are read as they are needed.

    Args:
        folder: the folder that :func:`index` wrote.

    Raises:
        CheckpointError: when it is not there, or not complete.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        missing = [name for name in (RECOGNISER, VECTORS, ROWS) if not (self.folder / name).exists()]
        if missing:
            raise CheckpointError(
                f"{self.folder} is no finished index: it lacks {', '.join(missing)}; "
                "make it with affetto index"
            )
        self.vectors: NDArray[np.float32] = np.load(self.folder / VECTORS, mmap_mode="r", allow_pickle=False)

    def search(self, texts: Sequence[str], count: int = 10) -> list[list[Hit]]:
        """Returns, for each text, the recordings that are nearest, the nearest first.

        Raises:
            ConfigError: for an empty or too long text.
            CheckpointError: where the text encoder cannot be loaded.
        """
        found = []
        for wanted in self.embed_texts(texts).numpy():
            places, scores = nearest(self.vectors, wanted, count)
            rows = self._rows.iloc[places]
            columns = (rows["file"], rows["start"], rows["end"], scores.tolist())
            found.append([Hit(*hit) for hit in zip(*columns, strict=True)])
        return found

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Projects texts into the space, ``(N, W)``, of length 1."""
        head, encoder = self._network
        return head.project_texts(encoder(texts))

    @cached_property
    def _network(self) -> tuple[LanguageHead, TextEncoder]:
        head = language_head(load_classifier(self.folder / RECOGNISER)[0])
        return head, text_encoder(self.folder / RECOGNISER, head)

    @cached_property
    def _rows(self) -> pd.DataFrame:
        table = pd.read_csv(self.folder / ROWS, dtype={"file": str}, keep_default_na=False, na_values=[""])
        return table[table["row"].notna()].reset_index(drop=True)


def nearest(
    vectors: NDArray[np.float32], wanted: NDArray[np.float32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns the ``count`` vectors ``(N, W)`` of the greatest product with one: places and products."""
    if count < 1:
        raise ConfigError(f"got a count of {count}; at least 1 is needed")
    scores = vectors @ wanted
    rest = max(0, len(scores) - count)
    places = np.argpartition(scores, rest)[rest:] if len(scores) else np.arange(0)
    places = places[np.argsort(-scores[places], kind="stable")]
    return places, scores[places]
