"""``index`` and ``search``: the recordings that sound most like a text."""

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
from affetto.inference.sources import Source
from affetto.inference.writers import Outcome
from affetto.language.prompts import language_head, text_encoder
from affetto.language.text import TextEncoder
from affetto.models.checkpoint import RECOGNISER, copy_folder, find_recogniser
from affetto.models.classifier import EmotionClassifier, load_classifier
from affetto.models.encoder import Embedder, chosen_device, with_company
from affetto.models.heads import LanguageHead
from affetto.models.representation import Representation
from affetto.runs import locked

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
