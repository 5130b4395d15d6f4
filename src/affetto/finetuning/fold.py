"""Fits a recogniser on one fold with one seed: train learns, dev chooses, test is only predicted."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from affetto.augment import AugmentConfig
from affetto.data import FixedVectors, LengthBuckets, Loader, Store
from affetto.evaluation.metrics import mean_ccc, uar
from affetto.finetuning.classical import fit_ridge, fit_svm, fit_temperature
from affetto.finetuning.enrolment import can_enrol, fit_enrolment
from affetto.finetuning.task import (
    Fitted,
    FoldTask,
    Rows,
    Speakers,
    class_weights,
    classifier_shape,
    logistic_head,
    of_statistics,
    refit_head,
)
from affetto.material.recordings import Copy
from affetto.models.checkpoint import fill_encoder, find_encoder, speakers_seen
from affetto.models.classifier import EmotionClassifier, Reads
from affetto.models.embedders import Joined, Network, NetworkSettings, build_embedder, load_published
from affetto.models.encoder import Embedder, Encoder
from affetto.models.heads import KernelHead, LinearHead, Standardise
from affetto.objectives.supervised import Classify, Regress, Supervised
from affetto.objectives.views import SpeakerTask, SpeakerTaskSettings
from affetto.optimising import seed_everything
from affetto.training import fit


class Supervision:
    """What a network learns from: labels, or values of dimensions; a subclass has another head and loss."""

    def __init__(self, task: FoldTask) -> None:
        self.task = task

    def head(self) -> dict[str, Any]:
        """Returns the head's part of :class:`~affetto.models.classifier.ClassifierSettings`."""
        return {"head": "linear"}

    def objective(self, classifier: EmotionClassifier, reads: Reads) -> tuple[Supervised, dict[str, Tensor]]:
        """Returns the loss, and the columns that it needs of a batch."""
        material, settings, rows = self.task.material, self.task.settings, self.task.train
        if material.values is not None:
            targets = {"target": classifier.standardised(material.values)}
            return Regress(classifier, settings.augment, reads), targets
        columns = {"target": material.targets(settings.loss.vote_share)}
        speaker_task = None
        if settings.loss.speaker != "none":
            known = np.unique(material.speakers[rows])
            places = np.searchsorted(known, material.speakers).clip(max=len(known) - 1)
            columns["speaker"] = torch.from_numpy(places)
            dim, reverses = classifier.embedder.dim, settings.loss.speaker == "reversed"
            speaker_task = SpeakerTask(SpeakerTaskSettings(), dim, len(known), reverses)
        weights = class_weights(self.task) if settings.loss.class_weights else None
        return Classify(classifier, settings.loss, settings.augment, weights, reads, speaker_task), columns

    def before_scoring(self, classifier: EmotionClassifier) -> None:
        """Brings the classifier up to date before it scores dev, and at the end."""

    def save(self, folder: Path) -> None:
        """Writes into a recogniser folder what it needs beyond the classifier."""


def fit_recogniser(
    task: FoldTask, supervision: type[Supervision] = Supervision
) -> tuple[Fitted, Supervision]:
    """Fits a recogniser on training rows, every choice made on dev rows; also returns its supervision."""
    material, settings = task.material, task.settings
    seed_everything(task.seed, task.accelerator.process_index)
    enough = can_enrol(material.speakers[task.of_training], material.speakers[task.dev])
    task = task._replace(enrolment=settings.enrolment and enough and material.values is None)
    source = supervision(task)
    if settings.head in ("logistic", "svm", "ridge"):
        return _fit_classical(task), source
    fitted = _fit_network(task, source)
    if material.values is None:
        _calibrate(fitted, task)
    return fitted, source


@torch.no_grad()
def _calibrate(fitted: Fitted, task: FoldTask) -> None:
    """Fits the temperature on dev, and the enrolment."""
    classifier, material, dev = fitted.classifier, task.material, torch.from_numpy(task.dev)
    targets = material.targets(task.settings.loss.vote_share)
    temperature = fit_temperature(classifier.scores(fitted.vectors[dev]), targets[dev])
    classifier.temperature.fill_(temperature)
    fitted.choices["temperature"] = float(classifier.temperature)
    if classifier.enrolment is not None:
        found = fit_enrolment(classifier, fitted.vectors, targets, task)
        fitted.choices["enrolment"] = found


def labelled_part(rows: Rows, truth: Rows, fraction: float, seed: int) -> Rows:
    """Draws a share of the rows, class by class, at least one of each; all of them for a fraction of 1."""
    if fraction == 1.0:
        return rows
    generator = np.random.default_rng([seed, 11])
    kept = []
    for label in np.unique(truth[rows]):
        own = generator.permutation(rows[truth[rows] == label])
        kept.append(own[: max(1, round(fraction * len(own)))])
    return np.sort(np.concatenate(kept))


def _load_weights(network: Embedder, task: FoldTask) -> Speakers:
    """Loads published or pretrained weights, where asked for; returns the speakers of the latter."""
    settings, material = task.settings, task.material
    if settings.published_weights:
        load_published(network)
    if not settings.pretrained:
        return {}
    folder = find_encoder(settings.pretrained, settings.protocol, task.seed, task.fold)
    encoder = network.top if isinstance(network, Joined) else getattr(network, "encoder", None)
    assert isinstance(encoder, Encoder)
    config = fill_encoder(folder, encoder)
    called = dict(zip(material.manifest.owners, material.speakers.tolist(), strict=True))
    return {kind: speakers_seen(config, kind, called) for kind in ("with_labels", "without_labels")}


def _fit_network(task: FoldTask, source: Supervision) -> Fitted:
    material, settings, accelerator = task.material, task.settings, task.accelerator
    network = isinstance(settings.embedder, NetworkSettings)
    shape = classifier_shape(task, standardise=not network, dropout=settings.dropout, **source.head())
    classifier = EmotionClassifier(shape)
    if material.values is not None:
        classifier.fit_scale(material.values[torch.from_numpy(task.train)])
    pretrained_on = _load_weights(classifier.embedder, task)
    reads, stores = _stores(classifier, task)
    objective, columns = source.objective(classifier, reads)
    if classifier.enrolment is not None:
        classifier.enrolment.requires_grad_(False)
    lengths, size = material.waveforms.lengths[task.train], settings.train.batch_size
    rank, world = accelerator.process_index, accelerator.num_processes
    buckets = LengthBuckets(lengths, size, seed=task.seed, rank=rank, world=world)

    def embedded(rows: Rows) -> Tensor:
        source.before_scoring(classifier)
        return material.embed(classifier, rows, stores[0], reads)

    def dev_score(epoch: int) -> float:
        vectors = embedded(task.dev).to(accelerator.device)
        with torch.no_grad():
            if material.values is not None:
                return mean_ccc(material.values[task.dev].numpy(), classifier.answers(vectors).cpu().numpy())
            return uar(material.truth[task.dev], classifier.scores(vectors).argmax(1).cpu().numpy())

    every, before = np.arange(len(material.truth)), dict[str, Any]()
    linear = material.values is None and isinstance(classifier.head, LinearHead)
    keeps = linear and settings.tunes
    if keeps:
        classifier.keep_statistics()
    if linear and settings.train.head_epochs:
        # From a random head the first gradients would spoil the encoder (Kumar et al. 2022).
        before = refit_head(Fitted(classifier.cpu().eval(), embedded(every), {}, {}), task).choices
    loader = Loader(buckets, stores, task.train, columns, device=accelerator.device)
    history = fit(objective, loader, settings.train, task.run, dev_score, accelerator)
    best = max(history, key=lambda row: row["score"])
    score = "dev_uar" if material.values is None else "dev_ccc"
    choices = {"epoch": best["epoch"], score: best["score"]} | ({"untouched": before} if before else {})
    vectors = embedded(every)
    fitted = Fitted(classifier.cpu().eval(), vectors, choices, pretrained_on)
    fitted = refit_head(fitted, task) if linear else fitted
    return of_statistics(fitted, task) if keeps else fitted


def _stores(classifier: EmotionClassifier, task: FoldTask) -> tuple[Reads, list[Store]]:
    """Returns what the batches hold, and where it comes from; what does not learn is computed once."""
    material, settings, network = task.material, task.settings, classifier.embedder
    if not isinstance(network, Network):
        assert isinstance(classifier.standardise, Standardise)
        fixed = material.vectors(network.requires_grad_(False).eval())
        classifier.standardise.fit(fixed[torch.from_numpy(task.train)])
        return "vectors", [FixedVectors(each) for each in (fixed, *_copies(network, task))]
    if not settings.train_encoder:
        network.encoder.requires_grad_(False)
    augment = settings.augment
    sound = augment.model_copy(update={"speed": augment.speed if settings.views == 1 else None}).sound
    if not settings.train_encoder or (network.encoder.fixed_layers and not sound):
        # A probe needs the mean over time of each layer alone; a linear projector keeps it so.
        shape = network.settings
        means = (shape.pooling, shape.context) == ("mean", 0) and augment == AugmentConfig()
        pooled = means and not task.enrolment and not settings.train_encoder
        alone = network.reads_alone and not classifier.statistics_dim and not settings.train_encoder
        layer = network.alone if alone else None
        speeds = [1.0]
        if settings.views > 1 and augment.speed is not None:
            low, high = augment.speed
            speeds += [round(float(each), 4) for each in np.geomspace(high, low, settings.views - 1)[::-1]]
        return "frames", [material.frames(network.encoder, speed, pooled, layer) for speed in speeds]
    if settings.reads == "features":
        return "features", [material.features(classifier.front_end)]
    return settings.reads, [material.waveforms]


def _copies(embedder: Embedder, task: FoldTask) -> list[Tensor]:
    """Returns the vectors of the augmented copies of training rows, each ``(N, D)``, zero elsewhere."""
    material, settings = task.material, task.settings
    numbers = range(1, settings.copies + 1)
    return [material.vectors(embedder, Copy(material.learned, settings.augment, each)) for each in numbers]


def _with_copies(embedder: Embedder, task: FoldTask) -> tuple[Tensor, FoldTask]:
    """Returns the vectors of all rows and of augmented copies, and a task that learns from both."""
    material = task.material
    plain, copies = material.vectors(embedder), _copies(embedder, task)
    if not copies:
        return plain, task
    rows = np.concatenate([np.arange(len(plain)), *[material.learned] * len(copies)])
    task = task._replace(material=material.repeated(rows), train=np.flatnonzero(np.isin(rows, task.train)))
    return torch.cat([plain, *(each[material.learned] for each in copies)]), task


def _blocks(embedder: Embedder, enrolment: bool) -> list[Tensor]:
    """Returns which dimensions the head reads: of vectors that came in, and of what was learned on top."""
    if not isinstance(embedder, Joined):
        return []
    speaker, learned = embedder.of_speaker, embedder.learned
    kept = torch.ones_like(learned)
    if enrolment and not speaker[~learned].all():
        # A speaker encoder misleads off the corpus of training as long as the speaker is not enrolled. So
        # this head, which scores those, gives its dimensions no weight; the enrolment's head does.
        kept = ~speaker
    return [block for block in (kept & ~learned, kept & learned) if block.any()]


def _fit_classical(task: FoldTask) -> Fitted:
    embedder = build_embedder(task.settings.embedder)
    pretrained_on = _load_weights(embedder, task)
    count = len(task.material.truth)
    vectors, task = _with_copies(embedder.eval(), task)
    material, settings, train, dev = task.material, task.settings, task.train, task.dev
    standard = Standardise(vectors.shape[1]).fit(vectors[torch.from_numpy(train)])
    values = standard(vectors)
    head: LinearHead | KernelHead
    if settings.head == "logistic":
        head, best = logistic_head(values, task, _blocks(embedder, task.enrolment))
    elif material.values is not None:
        head, best = fit_ridge(values.double().numpy(), material.values.double().numpy(), train, dev)
    else:
        balanced = "balanced" if settings.loss.class_weights else None
        numbers = values.double().numpy()
        head, best = fit_svm(numbers, material.truth, train, dev, len(material.labels), balanced)
    kernel = {"head": "kernel", "support": len(head.support)} if isinstance(head, KernelHead) else {}
    shape = classifier_shape(task, standardise=True, dropout=0.0, **kernel)
    classifier = EmotionClassifier(shape, embedder).cpu().eval()
    classifier.standardise.load_state_dict(standard.state_dict())
    classifier.head.load_state_dict(head.state_dict())
    task.run.rewrite_log([best])
    fitted = Fitted(classifier, vectors, best, pretrained_on)
    if material.values is None:
        _calibrate(fitted, task)
    return fitted._replace(vectors=vectors[:count])
