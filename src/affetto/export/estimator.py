"""A recogniser on fixed vectors as a scikit-learn estimator, whose input is paths of recordings."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit
from sklearn.utils.validation import check_is_fitted, column_or_1d
from torch import Tensor

from affetto.errors import AudioError, ConfigError
from affetto.finetuning.classical import fit_logistic, fit_temperature
from affetto.finetuning.run import save_recogniser
from affetto.finetuning.settings import FinetuneSettings, finetune_settings
from affetto.inference.embedding import vectors_of_clips
from affetto.inference.pipeline import Plan
from affetto.inference.sources import Clip
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.models.embedders import build_embedder, load_published
from affetto.models.encoder import chosen_device
from affetto.models.heads import Standardise
from affetto.models.representation import Representation
from affetto.progress import progress

_KEPT = 20_000  # vectors in memory, so that folds of a cross-validation compute none twice
_OF_FILES: dict[tuple[str, str, int, int], Tensor] = {}
_PROTOCOL = "scikit-learn"


class EmotionEstimator(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Logistic regression on fixed vectors of recordings, as ``affetto finetune`` fits it.

    ``fit`` holds some speakers, or without ``groups`` some recordings, back as dev: they choose the strength
    and the temperature, as everywhere in affetto. Recordings that cannot be read raise an AudioError.

    Args:
        vectors: a name that ``affetto finetune --encoder`` takes for fixed vectors, e.g. ``"functionals"``,
            ``"whisper-means"``, or ``"whisper-blocks-means"``, whose weights come with affetto.
        dev_share: the share of the groups, or of the recordings, that are dev.
        random_state: decides which.
        device: where the network runs.
    """

    def __init__(
        self,
        vectors: str = "whisper-blocks-means",
        *,
        dev_share: float = 0.2,
        random_state: int = 0,
        device: str = "auto",
    ) -> None:
        self.vectors = vectors
        self.dev_share = dev_share
        self.random_state = random_state
        self.device = device

    def __sklearn_tags__(self) -> Any:
        """Says that the input is paths, of which most of scikit-learn's own checks know nothing."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.one_d_array = True, True
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        return tags

    def fit(self, paths: Any, labels: Any, groups: Any = None) -> Self:
        """Learns from recordings ``(N,)``, their labels ``(N,)`` and where they are known their speakers."""
        files, labels = _files(paths), column_or_1d(labels, dtype=None)
        self.classes_, truth = np.unique(labels, return_inverse=True)
        for name, column in (("labels", labels), ("groups", files if groups is None else groups)):
            if len(column) != len(files):
                raise ValueError(f"got {len(files)} paths and {len(column)} {name}; one for each is needed")
        if len(self.classes_) < 2:
            raise ValueError(f"got one class, {self.classes_[0]}; at least two are needed")
        speakers = None if groups is None else column_or_1d(groups, dtype=None)
        train, dev = self._parts(len(files), speakers)
        settings = _settings(self.vectors)
        names = tuple(str(label) for label in self.classes_)
        shape = ClassifierSettings(embedder=settings.embedder, labels=names, standardise=True, dropout=0.0)
        classifier = EmotionClassifier(shape, load_published(build_embedder(settings.embedder))).eval()
        self.classifier_ = classifier.requires_grad_(False).to(chosen_device(self.device))
        values = self._vectors(files)
        standard = Standardise(values.shape[1]).fit(values[torch.from_numpy(train)])
        targets = torch.eye(len(names))[torch.from_numpy(truth)]
        head, choices = fit_logistic(standard(values), targets, train, dev, None)
        classifier.standardise.load_state_dict(standard.state_dict())
        classifier.head.load_state_dict(head.state_dict())
        scores = classifier.cpu().scores(values[torch.from_numpy(dev)])
        classifier.temperature.fill_(fit_temperature(scores, targets[torch.from_numpy(dev)]))
        classifier.to(chosen_device(self.device))
        # What a recogniser folder says of its making.
        digest = hashlib.sha256("\n".join(f"{a}\t{b}" for a, b in zip(files, labels, strict=True)).encode())
        known = {"with_labels": train, "chosen_on": dev}
        seen = {
            name: [] if speakers is None else sorted({str(each) for each in speakers[rows]})
            for name, rows in known.items()
        }
        self.config_ = {
            "class": "EmotionClassifier",
            "classifier": shape.model_dump(mode="json"),
            "front_end": classifier.front_end.model_dump(mode="json"),
            "labels": list(names),
            "id2label": {str(number): name for number, name in enumerate(names)},
            "protocol": _PROTOCOL,
            "speaker_dependent": speakers is None,
            "manifest_sha256": digest.hexdigest(),
            "encoder": settings.recipe,
            "weights_from_elsewhere": settings.published_weights,
            "pretrained": False,
            "speakers_seen": {**seen, "without_labels": []},
            "dev_uar": float(choices["dev_uar"]),
        }
        return self

    def predict_proba(self, paths: Any) -> NDArray[np.float64]:
        """Returns the probability of each of ``classes_`` for recordings ``(N,)``, ``(N, K)``."""
        check_is_fitted(self)
        vectors = self._vectors(_files(paths)).to(next(self.classifier_.parameters()).device)
        return np.asarray(self.classifier_.answers(vectors).cpu().double().numpy())

    def predict(self, paths: Any) -> NDArray[Any]:
        """Returns the likeliest class of recordings ``(N,)``."""
        return np.asarray(self.classes_[self.predict_proba(paths).argmax(1)])

    def save(self, folder: str | Path) -> None:
        """Writes a recogniser folder, which ``affetto predict -m`` and ``Recogniser`` take."""
        check_is_fitted(self)
        save_recogniser(Path(folder), self.classifier_.cpu(), self.config_)
        self.classifier_.to(chosen_device(self.device))

    def _parts(
        self, count: int, speakers: NDArray[Any] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Returns the rows of train and of dev."""
        if speakers is not None and len(np.unique(speakers)) < 2:
            raise ValueError("got one group; two speakers are needed, or leave groups out")
        kind = ShuffleSplit if speakers is None else GroupShuffleSplit
        split = kind(1, test_size=self.dev_share, random_state=self.random_state)
        train, dev = next(split.split(np.zeros(count), groups=speakers))
        return np.sort(train), np.sort(dev)

    def _vectors(self, files: Sequence[Path]) -> Tensor:
        """Returns the vectors of recordings, ``(N, D)``."""
        keys = [(self.vectors, str(file), *_state(file)) for file in files]
        missing = {key: file for key, file in zip(keys, files, strict=True) if key not in _OF_FILES}
        if missing:
            model = Representation(None, self.classifier_.embedder, name=self.vectors)
            some = [Clip(str(file), file) for file in missing.values()]
            computed = vectors_of_clips(model, progress(some, "embed"), Plan())
            for key, (piece, vector) in zip(missing, computed, strict=True):
                if vector is None:
                    raise AudioError(piece.fault)
                _OF_FILES[key] = torch.from_numpy(np.asarray(vector, np.float32))
        found = torch.stack([_OF_FILES[key] for key in keys])
        while len(_OF_FILES) > _KEPT:
            del _OF_FILES[next(iter(_OF_FILES))]
        return found


@lru_cache(maxsize=8)
def _settings(vectors: str) -> FinetuneSettings:
    """Returns the settings that ``finetune`` has for fixed vectors."""
    settings = finetune_settings(protocol="all-speakers", encoder=vectors, head="logistic", enrolment=False)
    assert isinstance(settings, FinetuneSettings)
    if settings.untrained:
        raise ConfigError(
            f"{vectors} has no weights of its own; name fixed vectors, such as functionals, "
            "whisper-blocks-means or whisper-means"
        )
    return settings


def _files(paths: Any) -> list[Path]:
    """Returns paths of an array, a list or a column of a table."""
    given = np.asarray(paths, dtype=object)
    if given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    if given.ndim != 1 or not all(isinstance(each, str | Path) for each in given):
        raise ValueError(f"got an array of shape {given.shape}; paths of recordings, (N,), are needed")
    if not len(given):
        raise ValueError("got no recordings; paths of recordings, (N,), are needed")
    return [Path(each) for each in given]


def _state(file: Path) -> tuple[int, int]:
    try:
        found = file.stat()
    except OSError as error:
        raise AudioError(f"{file}: {error.strerror or error}") from error
    return found.st_mtime_ns, found.st_size
