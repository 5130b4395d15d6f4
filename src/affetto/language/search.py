"""``index`` and ``search``: the recordings that sound most like what a text says."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from affetto.errors import CheckpointError, ConfigError, RunError
from affetto.inference.embedding import embed
from affetto.inference.sources import Source
from affetto.inference.writers import Outcome
from affetto.language.prompts import language_head, text_encoder
from affetto.models.classifier import EmotionClassifier, load_classifier
from affetto.models.encoder import Embedder, chosen_device
from affetto.models.folders import RECOGNISER, find_recogniser
from affetto.models.heads import LanguageHead
from affetto.models.representation import Representation

VECTORS, ROWS = "vectors.npy", "vectors.csv"


class Hit(NamedTuple):
    """A recording that was found.

    Attributes:
        file: what the index calls it.
        start: where in the recording it begins, in seconds.
        end: where it ends.
        score: cosine of the recording with the text, -1 to 1.
    """

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
        return language_head(self.classifier).project_audio(self.classifier.standardise(vectors))


def index(
    model: str | Path,
    sources: Source | Iterable[Source],
    folder: str | Path,
    *,
    root: str | Path | None = None,
    device: str = "cpu",
    workers: int | None = None,
) -> Outcome:
    """Writes an index of recordings that :class:`Index` searches; goes on where it was stopped.

    Args:
        model: a recogniser that was trained with language; a copy goes into the index.
        sources: recordings, folders, manifests.
        folder: the index: ``vectors.npy``, ``vectors.csv``, ``recogniser``.
        root: the folder that a manifest's file names are relative to.
        device: where the network runs.
        workers: threads; None for one a core.

    Returns:
        How many recordings there are, and how many of them could not be read.

    Raises:
        ConfigError: when the recogniser knows no words.
        RunError: when the folder was begun with another recogniser, or is in use.
    """
    folder, own = Path(folder), find_recogniser(model)
    classifier = load_classifier(own)[0].to(chosen_device(device))
    shared = Representation(None, SharedSpace(classifier), name=own.resolve().name)
    copy = folder / RECOGNISER
    if copy.exists():
        other = Representation(None, SharedSpace(load_classifier(copy)[0]), name=shared.name)
        if other.sha256 != shared.sha256:
            raise RunError(f"{folder} was made with another recogniser; name another folder, or remove it")
    else:
        partial = folder / f".{RECOGNISER}.part"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(own, partial)
        partial.rename(copy)
    return embed(shared, sources, folder / VECTORS, root=root, workers=workers)


class Index:
    """Recordings that can be searched by text; their vectors stay on disk, and are read as they are needed.

    Args:
        folder: what :func:`index` wrote.

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
        self.vectors: NDArray[np.float32] = np.load(self.folder / VECTORS, mmap_mode="r")
        self._rows: Any = None
        self._head: LanguageHead | None = None
        self._encoder: nn.Module | None = None

    def search(self, texts: Sequence[str], count: int = 10) -> list[list[Hit]]:
        """Returns, for each text, the recordings that are nearest, the nearest first.

        Raises:
            ConfigError: for an empty or too long text.
            CheckpointError: where the text encoder cannot be loaded.
        """
        wanted = self.embed_texts(texts).numpy()
        return [self._hits(*nearest(self.vectors, each, count)) for each in wanted]

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Projects texts into the space, ``(N, W)``, of length 1."""
        if self._head is None:
            self._head = language_head(load_classifier(self.folder / RECOGNISER)[0])
            self._encoder = text_encoder(self.folder / RECOGNISER, self._head)
        assert self._encoder is not None
        return self._head.project_texts(self._encoder(texts))

    def _hits(self, places: NDArray[np.int64], scores: NDArray[np.float32]) -> list[Hit]:
        if self._rows is None:
            import pandas as pd

            table = pd.read_csv(
                self.folder / ROWS, dtype={"file": str}, keep_default_na=False, na_values=[""]
            )
            self._rows = table[table["row"].notna()].reset_index(drop=True)
        rows = self._rows.iloc[places]
        return [
            Hit(str(file), float(start), float(end), float(score))
            for file, start, end, score in zip(rows["file"], rows["start"], rows["end"], scores, strict=True)
        ]


def nearest(
    vectors: NDArray[np.float32], wanted: NDArray[np.float32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Returns the places of the vectors ``(N, W)`` with the greatest product with one, and these products.

    Args:
        vectors: of length 1, in memory or mapped from a file.
        wanted: ``(W,)``, of length 1.
        count: how many, at most.
    """
    if count < 1:
        raise ConfigError(f"got a count of {count}; at least 1 is needed")
    scores = vectors @ wanted
    rest = max(0, len(scores) - count)
    places = np.argpartition(scores, rest)[rest:] if len(scores) else np.arange(0)
    places = places[np.argsort(-scores[places], kind="stable")]
    return places, scores[places]
