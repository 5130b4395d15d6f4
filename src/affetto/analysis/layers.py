"""``analyse layers``: a linear probe on every layer of an encoder, and of an untrained one."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from affetto.analysis.layers_page import SUM, UNTRAINED, layers_page, name_of
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import write_table
from affetto.errors import ConfigError
from affetto.evaluation.predictions import PREDICTIONS
from affetto.evaluation.report import Report
from affetto.evaluation.summarise import summarise
from affetto.finetuning.fold import FoldTask, Speakers, fit_recogniser, labelled_part
from affetto.finetuning.run import predictions_table
from affetto.finetuning.settings import FinetuneSettings, finetune_settings
from affetto.material.labelled import Material
from affetto.models.embedders import Network, NetworkSettings, build_encoder
from affetto.progress import progress
from affetto.protocols.protocol import load_protocol
from affetto.runs import META, RunFolder, write_json
from affetto.training import make_accelerator

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
            train, dev, test = (material.rows(keys) for keys in (fold.train, fold.dev, fold.test))
            train = labelled_part(train, material.truth, settings.label_fraction, seed)
            given = (encoders[which], seed, folder, accelerator)
            _probe_fold(FoldTask(material, fold.number, train, dev, *given), test)
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


def _probe_fold(task: FoldTask, test: NDArray[np.int64]) -> None:
    shape = task.settings.embedder
    assert isinstance(shape, NetworkSettings)
    count = len(build_encoder(shape.encoder).layer_dims)
    probes = {layer: _probe(task, test, layer) for layer in (*range(count), SUM)}
    tables = [
        probed.table.assign(fold=task.fold, seed=task.seed, method=name_of(layer))
        for layer, (probed, _) in probes.items()
    ]
    write_table(pd.concat(tables, ignore_index=True), task.run / PREDICTIONS)
    seen = probes[SUM][1]
    info = {
        "trained_on": sorted({*task.material.speakers[task.train].tolist(), *seen.get("with_labels", [])}),
        "pretrained_without_labels": seen.get("without_labels", []),
        "dev_uar": {name_of(layer): probed.dev_uar for layer, (probed, _) in probes.items()},
        "epoch": {name_of(layer): probed.epoch for layer, (probed, _) in probes.items()},
        "weights": probes[SUM][0].weights,
    }
    task.run.finish(info)


def _probe(task: FoldTask, test: NDArray[np.int64], layer: int | str) -> tuple[_Probed, Speakers]:
    """Trains the probe of a layer as ``finetune`` would; means over time are computed once for all layers."""
    scratch = RunFolder(task.run / "scratch")
    shutil.rmtree(scratch.path, ignore_errors=True)  # of a run that was stopped
    scratch.path.mkdir()
    embedder = task.settings.embedder.model_copy(update={"layers": layer})
    settings = task.settings.model_copy(update={"embedder": embedder})
    fitted, _ = fit_recogniser(task._replace(settings=settings, run=scratch))
    shutil.rmtree(scratch.path)
    rows = np.concatenate([task.dev, test])
    parts = np.repeat(np.array(["dev", "test"], dtype=object), [len(task.dev), len(test)])
    with torch.no_grad():
        found = fitted.classifier.answers(fitted.vectors)[rows].double().numpy()
    table = predictions_table(task.material, rows, found, parts)
    network = fitted.classifier.embedder
    assert isinstance(network, Network)
    learned = network.layer_weights.softmax(0).tolist() if layer == SUM else []
    choices = fitted.choices
    return _Probed(table, choices["dev_uar"], choices["epoch"], learned), fitted.pretrained_on


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
            else {str(fold): info["pretrained_without_labels"] for (_, fold), info in own.items()},
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
