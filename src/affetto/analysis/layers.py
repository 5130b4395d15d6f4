"""``analyse layers``: a linear probe on every layer of an encoder, and of an untrained one."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from numpy.typing import NDArray

from affetto.analysis.layers_page import SUM, UNTRAINED, layers_page, name_of
from affetto.corpora.manifest import Manifest
from affetto.data import LengthBuckets, Loader, Store
from affetto.errors import ConfigError
from affetto.evaluation.metrics import uar
from affetto.evaluation.predictions import PREDICTIONS
from affetto.evaluation.report import Report
from affetto.evaluation.summarise import summarise
from affetto.finetuning.enrolment import fit_temperature
from affetto.finetuning.fold import FoldTask, class_weights, labelled_part, load_weights_into
from affetto.finetuning.run import predictions_table, write_table
from affetto.finetuning.settings import FinetuneSettings, finetune_settings
from affetto.material.labelled import Material
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.models.embedders import Network, NetworkSettings
from affetto.models.encoder import Encoder
from affetto.objectives.classify import Classify
from affetto.progress import progress
from affetto.protocols.folds import Fold
from affetto.protocols.protocol import load_protocol
from affetto.runs import META, RunFolder, write_json
from affetto.training import fit, make_accelerator, seed_everything

RESULT = "layers.json"


def layers_settings(
    protocol: str, encoder: str, overrides: tuple[str, ...] = (), **given: Any
) -> FinetuneSettings:
    """Returns the settings of the probe: those of ``finetune --frozen`` without enrolment.

    Raises:
        ConfigError: as :func:`~affetto.finetuning.settings.finetune_settings`; also where a layer is chosen.
    """
    settings = finetune_settings(
        overrides=overrides, protocol=protocol, encoder=encoder, frozen=True, enrolment=False, **given
    )
    shape = settings.embedder
    assert isinstance(shape, NetworkSettings)
    if (shape.layers, shape.pooling, shape.context) != ("weighted", "mean", 0) or settings.head != "network":
        raise ConfigError(
            "every layer and their weighted sum are probed, by means over time; leave these as they are"
        )
    return settings


def analyse_layers(manifest: str | Path | Manifest, settings: FinetuneSettings, out: str | Path) -> RunFolder:
    """Trains a linear probe on every layer and on their weighted sum, also of an untrained encoder.

    Each probe is trained as ``finetune --frozen`` trains it. The means over time of all layers are computed
    once.

    Args:
        manifest: the utterances, or the file that lists them.
        settings: from :func:`layers_settings`.
        out: the run folder; an unfinished one is continued.

    Returns:
        The run folder: ``layers.json``, a row a probe; ``layers.png``; ``report.html``, ``report.md``.

    Raises:
        ProtocolError: when the protocol does not fit the manifest.
        LeakError: when pretraining used labels of a test speaker.
        RunError: when the folder is in use or holds another analysis.
    """
    manifest = Manifest.of(manifest)
    protocol = load_protocol(settings.protocol)
    if protocol.dimensions:
        raise ConfigError(
            f"{settings.protocol} asks for dimensions; layers are compared by the UAR of classes"
        )
    protocol.folds(manifest)  # a protocol that does not fit leaves no folder behind
    run = RunFolder(out, "analyse layers")
    with run.locked():
        if run.start(settings, manifest_sha256=manifest.sha256):
            _work(manifest, settings, run)
    return run


def _work(manifest: Manifest, settings: FinetuneSettings, run: RunFolder) -> None:
    protocol = load_protocol(settings.protocol)
    material = Material(manifest, protocol)
    trained = settings.pretrained is not None or settings.published_weights
    untrained = settings.model_copy(update={"pretrained": None, "published_weights": False})
    encoders = {"": settings, UNTRAINED: untrained} if trained else {UNTRAINED: untrained}
    accelerator = make_accelerator(settings.train)
    todo = [
        (which, seed, fold)
        for which in encoders
        for seed in settings.seeds
        for fold in protocol.folds(material.manifest)
    ]
    for which, seed, fold in progress(todo, "probes"):
        folder = RunFolder(run / (which or "trained") / f"seed-{seed}" / f"fold-{fold.number}")
        if not folder.done:
            folder.path.mkdir(parents=True, exist_ok=True)
            _probe_fold(material, fold, encoders[which], seed, folder, accelerator)
    rows = _scored(material, encoders, run, manifest.sha256)
    write_json(run / RESULT, rows)
    shown = Path(settings.pretrained).resolve().name if settings.pretrained else settings.recipe
    layers_page(shown, rows, material.protocol.name, len(material.labels)).write(run.path)
    run.finish()


class _Probed(NamedTuple):
    table: pd.DataFrame
    dev_uar: float
    epoch: int
    weights: list[float]


def _probe_fold(
    material: Material,
    fold: Fold,
    settings: FinetuneSettings,
    seed: int,
    folder: RunFolder,
    accelerator: Accelerator,
) -> None:
    train, dev, test = (material.rows(keys) for keys in (fold.train, fold.dev, fold.test))
    used = labelled_part(train, material.truth, settings.label_fraction, seed)
    task = FoldTask(material, fold.number, used, dev, settings, seed, folder, accelerator)
    encoder = _classifier(task, SUM)[1].encoder.requires_grad_(False)
    seen = load_weights_into(encoder, task)
    store = material.frames(encoder, pooled=True)
    layers = (*range(len(encoder.layer_dims)), SUM)
    probes = {layer: _probe(task, test, layer, store) for layer in layers}
    tables = [probe.table.assign(method=name_of(layer)) for layer, probe in probes.items()]
    write_table(pd.concat(tables, ignore_index=True), folder / PREDICTIONS)
    info = {
        "trained_on": sorted({*material.speakers[used].tolist(), *seen.get("with_labels", [])}),
        "heard": seen.get("without_labels", []),
        "dev_uar": {name_of(layer): probe.dev_uar for layer, probe in probes.items()},
        "epoch": {name_of(layer): probe.epoch for layer, probe in probes.items()},
        "weights": probes[SUM].weights,
    }
    folder.finish(info)


def _classifier(task: FoldTask, layer: int | str) -> tuple[EmotionClassifier, Network]:
    # seeded as a run of its own would be
    settings = task.settings
    seed_everything(task.seed, task.accelerator.process_index)
    embedder = settings.embedder.model_copy(update={"layers": layer})
    labels = tuple(task.material.labels)
    classifier = EmotionClassifier(
        ClassifierSettings(embedder=embedder, labels=labels, dropout=settings.dropout)
    )
    network = classifier.embedder
    assert isinstance(network, Network)
    return classifier, network


def _probe(task: FoldTask, test: NDArray[np.int64], layer: int | str, store: Store) -> _Probed:
    material, settings = task.material, task.settings
    classifier, network = _classifier(task, layer)
    network.encoder = _Cached(network.encoder)
    weights = class_weights(material, task.train, settings)
    objective = Classify(classifier, settings.loss, settings.augment, weights, "frames")
    lengths = material.waveforms.lengths[task.train]
    buckets = LengthBuckets(lengths, settings.train.batch_size, seed=task.seed)
    loader = Loader(buckets, [store], task.train, {"target": material.targets(settings.loss.vote_share)})

    def scores(rows: NDArray[np.int64]) -> torch.Tensor:
        with torch.no_grad():
            vectors = material.embed(classifier, rows, store, "frames")
            return classifier.scores(vectors.to(classifier.temperature.device)).cpu()

    def dev_uar(epoch: int) -> float:
        return uar(material.truth[task.dev], scores(task.dev).argmax(1).numpy())

    scratch = RunFolder(task.run / "scratch")
    shutil.rmtree(scratch.path, ignore_errors=True)  # of a run that was stopped
    scratch.path.mkdir()
    history = fit(objective, loader, settings.train, scratch, dev_uar, task.accelerator)
    shutil.rmtree(scratch.path)
    best = max(history, key=lambda row: row["score"])
    classifier.cpu().eval()
    classifier.temperature.fill_(
        fit_temperature(scores(task.dev), torch.from_numpy(material.truth[task.dev]))
    )
    rows = np.concatenate([task.dev, test])
    parts = np.repeat(np.array(["dev", "test"], dtype=object), [len(task.dev), len(test)])
    found = (scores(rows) / classifier.temperature).softmax(1).double().numpy()
    table = predictions_table(material, rows, found, parts).assign(fold=task.fold, seed=task.seed)
    learned = network.layer_weights.softmax(0).tolist() if layer == SUM else []
    return _Probed(table, best["score"], best["epoch"], learned)


class _Cached(Encoder):
    """Stands for an encoder whose frames are cached, so that no checkpoint holds its weights."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.front_end, self.dim, self.layer_dims = encoder.front_end, encoder.dim, encoder.layer_dims
        self.hop_seconds, self.level_layers = encoder.hop_seconds, encoder.level_layers


def _scored(
    material: Material, encoders: dict[str, FinetuneSettings], run: RunFolder, manifest_sha256: str
) -> list[dict[str, Any]]:
    protocol = material.protocol.model_dump(mode="json")
    tables: dict[str, pd.DataFrame] = {}
    infos: dict[str, dict[tuple[int, int], dict[str, Any]]] = {}
    for which in encoders:
        files = sorted((run / (which or "trained")).glob(f"seed-*/fold-*/{PREDICTIONS}"))
        tables[which] = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
        infos[which] = {
            (int(file.parents[1].name[5:]), int(file.parent.name[5:])): json.loads(
                (file.parent / META).read_text(encoding="utf-8")
            )
            for file in files
        }
    rows = []
    for which, settings in encoders.items():
        own = infos[which]
        meta: dict[str, Any] = {
            "chosen_on": "dev",
            "speaker_dependent": material.protocol.speaker_dependent,
            "speakers_seen_with_labels": {str(fold): info["trained_on"] for (_, fold), info in own.items()},
            "speakers_seen_without_labels": "unknown"
            if settings.published_weights
            else {str(fold): info["heard"] for (_, fold), info in own.items()},
        }
        for name in tables[which]["method"].unique():
            control = None if which == UNTRAINED else tables[UNTRAINED].query("method == @name")
            shown = f"{name}, {which}" if which else str(name)
            report: Report = summarise(
                tables[which].query("method == @name"),
                protocol,
                meta,
                method=shown,
                against=control,
                against_name=f"{name}, {UNTRAINED}",
            )
            extra: dict[str, Any] = {
                "encoder": which or "trained",
                "layer": SUM if name == name_of(SUM) else int(str(name).split()[-1]),
                "dev_uar": float(np.mean([info["dev_uar"][name] for info in own.values()])),
                "notes": list(report.notes),
                "command": "affetto analyse layers MANIFEST --encoder ENCODER "
                f"--protocol {material.protocol.name}",
                "manifest_sha256": manifest_sha256,
                "label_fraction": settings.label_fraction,
            }
            if extra["layer"] == SUM:
                extra["weights"] = np.mean([info["weights"] for info in own.values()], axis=0).tolist()
            rows.append(report.row(**extra))
    return rows
