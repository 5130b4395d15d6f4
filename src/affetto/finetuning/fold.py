"""Fits a recogniser on one fold with one seed: train learns, dev chooses, test waits."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor

from affetto.augment import AugmentConfig
from affetto.data import FixedVectors, LengthBuckets, Loader, Store
from affetto.evaluation.dimensions import mean_ccc
from affetto.finetuning.classical import fit_logistic, fit_ridge, fit_svm
from affetto.finetuning.enrolment import can_enrol, fit_enrolment, fit_temperature, uar
from affetto.finetuning.language import Sentences, keep_names, read_sentences, sentences, spoken, without
from affetto.finetuning.settings import FinetuneSettings
from affetto.material.labelled import Material
from affetto.models.classifier import ClassifierSettings, EmotionClassifier, Reads
from affetto.models.embedders import Network, NetworkSettings, Statistics, build_embedder, load_published
from affetto.models.encoder import Encoder
from affetto.models.folders import fill_encoder, find_encoder, speakers_seen
from affetto.models.heads import KernelHead, LinearHead, Standardise
from affetto.objectives.clap import Clap
from affetto.objectives.classify import Classify
from affetto.objectives.objective import Supervised
from affetto.objectives.regress import Regress
from affetto.objectives.speakers import SpeakerSettings, SpeakerTask
from affetto.runs import RunFolder
from affetto.training import fit, seed_everything


class Fitted:
    """What fitting a fold leaves.

    Attributes:
        classifier: the network.
        vectors: of every utterance, ``(N, D)``.
        choices: what dev chose.
        heard: whom a pretrained encoder had heard ``with_labels`` and ``without_labels``.
    """

    def __init__(
        self,
        classifier: EmotionClassifier,
        vectors: Tensor,
        choices: dict[str, Any],
        heard: dict[str, list[str]] | None = None,
    ) -> None:
        self.classifier, self.vectors, self.choices, self.heard = classifier, vectors, choices, heard or {}


class FoldTask(NamedTuple):
    """What fitting one fold with one seed asks for; ``rank`` is 0 where no enrolment is to be fitted."""

    material: Material
    fold: int
    train: NDArray[np.int64]
    dev: NDArray[np.int64]
    settings: FinetuneSettings
    seed: int
    rank: int
    run: RunFolder
    accelerator: Accelerator


def fit_fold(
    material: Material,
    fold: int,
    train: NDArray[np.int64],
    dev: NDArray[np.int64],
    settings: FinetuneSettings,
    seed: int,
    run: RunFolder,
    accelerator: Accelerator,
) -> Fitted:
    """Fits a recogniser on training rows, with every choice made on dev rows.

    Args:
        material: the utterances.
        fold: its number.
        train: training rows.
        dev: dev rows; of other speakers.
        settings: what to fit.
        seed: of everything random.
        run: folder for checkpoints and metrics.
        accelerator: device and processes.
    """
    seed_everything(seed, accelerator.process_index)
    train = labelled_part(train, material.truth, settings.label_fraction, seed)
    enough = can_enrol(material.speakers[train], material.speakers[dev])
    rank = settings.rank if settings.enrolment and enough and material.values is None else 0
    if settings.clap.left_out:
        train, dev = (without(rows, material, settings.clap.left_out) for rows in (train, dev))
    fitter = _fit_network if settings.head in ("network", "language") else _fit_classical
    fitted = fitter(FoldTask(material, fold, train, dev, settings, seed, rank, run, accelerator))
    classifier, vectors = fitted.classifier, fitted.vectors
    classifier.eval()
    if material.values is not None:
        return fitted
    with torch.no_grad():
        scores = classifier.scores(vectors[torch.from_numpy(dev)])
        targets = material.targets(settings.loss.vote_share)[torch.from_numpy(dev)]
        classifier.temperature.fill_(fit_temperature(scores, targets))
        fitted.choices["temperature"] = float(classifier.temperature)
        if classifier.enrolment is not None:
            fitted.choices["enrolment"] = fit_enrolment(
                classifier, vectors, material.truth, material.speakers, train, dev, seed
            )
    return fitted


def labelled_part(
    rows: NDArray[np.int64], truth: NDArray[np.int64], fraction: float, seed: int
) -> NDArray[np.int64]:
    """Draws a share of the rows, class by class, at least one of each; all of them for a fraction of 1."""
    if fraction == 1.0:
        return rows
    generator = np.random.default_rng([seed, 11])
    kept = []
    for label in np.unique(truth[rows]):
        own = generator.permutation(rows[truth[rows] == label])
        kept.append(own[: max(1, round(fraction * len(own)))])
    return np.sort(np.concatenate(kept))


def _fit_network(task: FoldTask) -> Fitted:
    material, settings, accelerator = task.material, task.settings, task.accelerator
    train, dev = task.train, task.dev
    language, said = settings.language, None
    if settings.head == "language" and language.text is not None:
        said = sentences(material, language.text, settings.clap, train, task.seed)
        language = spoken(language, said)
    shape = ClassifierSettings(
        embedder=settings.embedder,
        labels=tuple(material.labels),
        output="classes" if material.values is None else "values",
        head="language" if settings.head == "language" else "linear",
        language=language,
        standardise=not isinstance(settings.embedder, NetworkSettings),
        dropout=settings.dropout,
        rank=task.rank,
    )
    classifier = EmotionClassifier(shape)
    if material.values is not None:
        classifier.fit_scale(material.values[torch.from_numpy(train)])
    network = classifier.embedder
    if settings.published_weights:
        load_published(network)
    reads: Reads = settings.reads
    stores: list[Store] = [material.waveforms]
    heard: dict[str, list[str]] = {}
    if isinstance(network, Network | Statistics) and settings.pretrained:
        heard = start_from(network.encoder, task)
    if not isinstance(network, Network):
        assert isinstance(classifier.standardise, Standardise)
        reads, fixed = "vectors", material.vectors(network.requires_grad_(False).eval())
        classifier.standardise.fit(fixed[torch.from_numpy(train)])
        stores = [FixedVectors(fixed)]
    elif not settings.train_encoder:
        network.encoder.requires_grad_(False)
        reads = "frames"
        pooled = _is_probe(settings) and task.rank == 0
        speeds = (1.0, *_speeds(settings))
        stores = [material.frames(network.encoder, speed, pooled) for speed in speeds]
    elif reads == "features":
        stores = [material.features(classifier.front_end)]
    objective, columns = _objective(classifier, task, reads, said)
    if classifier.enrolment is not None:
        classifier.enrolment.requires_grad_(False)
    buckets = LengthBuckets(
        material.waveforms.lengths[train],
        settings.train.batch_size,
        seed=task.seed,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    loader = Loader(buckets, stores, train, columns)

    def dev_score(epoch: int) -> float:
        keep_names(classifier, said)
        vectors = material.embed(classifier, dev, stores[0], reads).to(accelerator.device)
        with torch.no_grad():
            if material.values is not None:
                return mean_ccc(material.values[dev].numpy(), classifier.answers(vectors).cpu().numpy())
            return uar(material.truth[dev], classifier.scores(vectors).argmax(1).cpu().numpy())

    history = fit(objective, loader, settings.train, task.run, dev_score, accelerator)
    best = max(history, key=lambda row: row["score"])
    everyone = np.arange(len(material.truth))
    classifier.cpu()
    keep_names(classifier, said)
    vectors = material.embed(classifier, everyone, stores[0], reads)
    score = "dev_uar" if material.values is None else "dev_ccc"
    return Fitted(classifier, vectors, {"epoch": best["epoch"], score: best["score"]}, heard)


def _objective(
    classifier: EmotionClassifier, task: FoldTask, reads: Reads, said: Sentences | None
) -> tuple[Supervised, dict[str, Tensor]]:
    """Returns what is learned, and the columns it needs."""
    material, settings, rows = task.material, task.settings, task.train
    if material.values is not None:
        targets = {"target": classifier.standardised(material.values)}
        return Regress(classifier, settings.augment, reads), targets
    columns = {"target": material.targets(settings.loss.vote_share)}
    if said is not None:
        texts = read_sentences(classifier.language, said, settings.clap, task.seed)
        return Clap(classifier, settings.clap, settings.augment, texts, reads), columns | said.columns
    speaker_task = None
    if settings.loss.speaker != "none":
        known = np.unique(material.speakers[rows])
        places = np.searchsorted(known, material.speakers).clip(max=len(known) - 1)
        columns["speaker"] = torch.from_numpy(places)
        reverse = settings.loss.speaker == "reversed"
        speaker_task = SpeakerTask(SpeakerSettings(), classifier.embedder.dim, len(known), reverse)
    weights = class_weights(material, rows, settings)
    classify = Classify(classifier, settings.loss, settings.augment, weights, reads, speaker_task)
    return classify, columns


def _is_probe(settings: FinetuneSettings) -> bool:
    """Whether the mean over time of each layer is all that is looked at; a linear projector keeps it so."""
    shape = settings.embedder
    return (
        isinstance(shape, NetworkSettings)
        and (shape.pooling, shape.context) == ("mean", 0)
        and settings.augment == AugmentConfig()
    )


def start_from(encoder: Encoder, task: FoldTask) -> dict[str, list[str]]:
    """Fills an encoder with pretrained weights; returns whom they had heard, with labels and without."""
    settings, material = task.settings, task.material
    assert settings.pretrained is not None
    folder = find_encoder(settings.pretrained, settings.protocol, task.seed, task.fold)
    config = fill_encoder(folder, encoder)
    called = dict(zip(material.manifest.owners, material.speakers.tolist(), strict=True))
    return {kind: speakers_seen(config, kind, called) for kind in ("with_labels", "without_labels")}


def _speeds(settings: FinetuneSettings) -> list[float]:
    """Returns the speeds of the further views, spread evenly on a logarithmic scale, without 1 itself."""
    if settings.views == 1 or settings.augment.speed is None:
        return []
    low, high = (math.log(value) for value in settings.augment.speed)
    steps = np.linspace(low, high, settings.views - 1) if settings.views > 2 else np.array([high])
    return [round(float(np.exp(step)), 4) for step in steps]


def class_weights(material: Material, train: NDArray[np.int64], settings: FinetuneSettings) -> Tensor | None:
    """Returns a factor a class, ``(K,)``, by the inverse of its frequency in train; None for ones."""
    if not settings.loss.class_weights:
        return None
    counts = np.bincount(material.truth[train], minlength=len(material.labels))
    return torch.from_numpy(len(train) / (len(counts) * np.maximum(counts, 1))).float()


def _fit_classical(task: FoldTask) -> Fitted:
    material, settings, train, dev = task.material, task.settings, task.train, task.dev
    embedder = build_embedder(settings.embedder)
    if settings.published_weights:
        load_published(embedder)
    heard: dict[str, list[str]] = {}
    if settings.pretrained:
        assert isinstance(embedder, Statistics)
        heard = start_from(embedder.encoder, task)
    vectors = material.vectors(embedder.eval())
    standard = Standardise(vectors.shape[1]).fit(vectors[torch.from_numpy(train)])
    values = standard(vectors).double().numpy()
    head: LinearHead | KernelHead
    if material.values is not None:
        head, best = fit_ridge(values, material.values.double().numpy(), train, dev)
    else:
        weights = "balanced" if settings.loss.class_weights else None
        learn = fit_logistic if settings.head == "logistic" else fit_svm
        head, best = learn(values, material.truth, train, dev, len(material.labels), weights)
    shape = ClassifierSettings(
        embedder=settings.embedder,
        labels=tuple(material.labels),
        output="classes" if material.values is None else "values",
        head="kernel" if isinstance(head, KernelHead) else "linear",
        support=len(head.support) if isinstance(head, KernelHead) else 0,
        standardise=True,
        dropout=0.0,
        rank=task.rank,
    )
    classifier = EmotionClassifier(shape)
    classifier.embedder.load_state_dict(embedder.state_dict())
    classifier.standardise.load_state_dict(standard.state_dict())
    classifier.head.load_state_dict(head.state_dict())
    task.run.log(**best)
    return Fitted(classifier, vectors, best, heard)
