"""``analyse layers``: a linear probe on every layer of an encoder, and of an untrained one, and its page."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from affetto.analysis.plots import scores_by_layer
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import write_table
from affetto.errors import ConfigError
from affetto.evaluation.guard import STAMP
from affetto.evaluation.predictions import PREDICTIONS
from affetto.evaluation.summarise import summarise
from affetto.finetuning.fold import fit_recogniser, labelled_part
from affetto.finetuning.run import predictions_table
from affetto.finetuning.settings import FinetuneSettings, finetune_settings
from affetto.finetuning.task import Fitted, FoldTask
from affetto.material.recordings import Material
from affetto.models.embedders import Network, NetworkSettings, build_encoder
from affetto.optimising import make_accelerator
from affetto.pages import Block, Heading, Page, Picture, Table, Text, percent, points
from affetto.plots import to_png
from affetto.progress import progress
from affetto.protocols.protocol import load_protocol
from affetto.runs import META, RunFolder, read_json, write_json

RESULT = "layers.json"
SUM = "weighted"  # the setting `layers` of the probe on a learned sum
TRAINED, UNTRAINED = "trained", "untrained"


def layers_settings(
    protocol: str, encoder: str, overrides: tuple[str, ...] = (), **given: Any
) -> FinetuneSettings:
    """Returns the settings of the probe: those of ``finetune --frozen`` without enrolment, of all layers."""
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


def analyse_layers(
    manifest: str | Path | Manifest, settings: FinetuneSettings, out: str | Path, *, device: str = "auto"
) -> RunFolder:
    """Trains a linear probe on every layer and on their weighted sum, also of an untrained encoder.

    Each probe is trained as ``finetune --frozen`` trains it. Returns the run folder, with ``layers.json``, a
    row a probe, ``layers.png``, ``report.html`` and ``report.md``; an unfinished one is continued. A
    LeakError says that pretraining used labels of a test speaker.
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
            _work(manifest, settings, run, device)
    return run


def _work(manifest: Manifest, settings: FinetuneSettings, run: RunFolder, device: str) -> None:
    protocol = load_protocol(settings.protocol)
    accelerator = make_accelerator(settings.train, device)
    material = Material(manifest, protocol, accelerator.device)
    untrained = settings.model_copy(update={"pretrained": None, "published_weights": False})
    encoders = {UNTRAINED: untrained}
    if settings.pretrained is not None or settings.published_weights:
        encoders = {TRAINED: settings, **encoders}
    folds = protocol.folds(material.manifest)
    todo = [(which, seed, fold) for which in encoders for seed in settings.seeds for fold in folds]
    for which, seed, fold in progress(todo, "probes"):
        folder = RunFolder(run / which / f"seed-{seed}" / f"fold-{fold.number}")
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


def name_of(layer: int | str) -> str:
    """Returns the name of a probe in tables."""
    return "weighted sum" if layer == SUM else f"layer {layer}"


def _probe_fold(task: FoldTask, test: NDArray[np.int64]) -> None:
    shape = task.settings.embedder
    assert isinstance(shape, NetworkSettings)
    layers = [*range(len(build_encoder(shape.encoder).layer_dims)), SUM]
    rows = np.concatenate([task.dev, test])
    parts = np.repeat(np.array(["dev", "test"], dtype=object), [len(task.dev), len(test)])
    tables, choices = [], {}
    for layer in layers:
        fitted = _probe(task, layer)
        with torch.no_grad():
            found = fitted.classifier.answers(fitted.vectors)[rows].double().numpy()
        table = predictions_table(task.material, rows, found, parts)
        tables.append(table.assign(fold=task.fold, seed=task.seed, method=name_of(layer)))
        choices[name_of(layer)] = fitted.choices
    write_table(pd.concat(tables, ignore_index=True), task.run / PREDICTIONS)
    network, seen = fitted.classifier.embedder, fitted.pretrained_on  # of the sum
    assert isinstance(network, Network)
    info = {
        "fold": task.fold,
        "trained_on": sorted({*task.material.speakers[task.train].tolist(), *seen.get("with_labels", [])}),
        "pretrained_without_labels": seen.get("without_labels", []),
        "dev_uar": {name: choice["dev_uar"] for name, choice in choices.items()},
        "epoch": {name: choice["epoch"] for name, choice in choices.items()},
        "weights": network.layer_weights.softmax(0).tolist(),
    }
    task.run.finish(info)


def _probe(task: FoldTask, layer: int | str) -> Fitted:
    """Trains the probe of a layer as ``finetune`` would; means over time are computed once for all layers."""
    scratch = RunFolder(task.run / "scratch")
    shutil.rmtree(scratch.path, ignore_errors=True)  # of a run that was stopped
    scratch.path.mkdir()
    embedder = task.settings.embedder.model_copy(update={"layers": layer})
    settings = task.settings.model_copy(update={"embedder": embedder})
    fitted, _ = fit_recogniser(task._replace(settings=settings, run=scratch))
    shutil.rmtree(scratch.path)
    return fitted


def _scored(
    material: Material, encoders: dict[str, FinetuneSettings], run: RunFolder, manifest_sha256: str
) -> list[dict[str, Any]]:
    """Returns the rows of ``layers.json``; each probe is compared with that of the untrained encoder."""
    protocol = material.protocol
    files = {which: sorted((run / which).glob(f"seed-*/fold-*/{PREDICTIONS}")) for which in encoders}
    tables = {
        (which, str(name)): own
        for which, paths in files.items()
        for name, own in pd.concat(map(pd.read_parquet, paths), ignore_index=True).groupby("method")
    }
    rows = []
    for which, settings in encoders.items():
        infos = [read_json(file.parent / META) for file in files[which]]
        unlabelled = {str(info["fold"]): info["pretrained_without_labels"] for info in infos}
        meta = {
            "chosen_on": "dev",
            "speaker_dependent": protocol.speaker_dependent,
            "speakers_seen_with_labels": {str(info["fold"]): info["trained_on"] for info in infos},
            "speakers_seen_without_labels": "unknown" if settings.published_weights else unlabelled,
        }
        weights = np.mean([info["weights"] for info in infos], axis=0).tolist()
        for layer in (*range(len(weights)), SUM):
            name = name_of(layer)
            report = summarise(
                tables[which, name],
                protocol.model_dump(mode="json"),
                meta,
                method=name if which == TRAINED else f"{name}, {which}",
                against=None if which == UNTRAINED else tables[UNTRAINED, name],
                against_name=f"{name}, {UNTRAINED}",
            )
            facts: dict[str, Any] = {
                "encoder": which,
                "layer": layer,
                "dev_uar": float(np.mean([info["dev_uar"][name] for info in infos])),
                "notes": list(report.notes),
                "command": f"affetto analyse layers MANIFEST --encoder ENCODER --protocol {protocol.name}",
                "manifest_sha256": manifest_sha256,
                "label_fraction": settings.label_fraction,
            }
            rows.append(report.row(**facts, **({"weights": weights} if layer == SUM else {})))
    return rows


def layers_page(encoder: str, rows: Sequence[dict[str, Any]], protocol: str, classes: int) -> Page:
    """Lays out the rows of ``layers.json`` for an encoder, a protocol and ``K`` classes."""
    probes = {which: [row for row in rows if row["encoder"] == which] for which in (TRAINED, UNTRAINED)}
    *layers, total = probes[TRAINED] or probes[UNTRAINED]
    best = max(layers, key=lambda row: row["dev_uar"])
    words = [
        f"Protocol {protocol}. The layer that is best on dev is {best['layer']} of 0 to {len(layers) - 1}: "
        f"{_score(best)} % UAR on test. The weighted sum of all reaches {_score(total)} %."
    ]
    if not probes[TRAINED]:
        words.append("This encoder has no weights of its own: this is an untrained network.")
    shown = {{TRAINED: encoder}.get(which, which): own for which, own in probes.items() if own}
    scores = {name: [_interval(row) for row in own[:-1]] for name, own in shown.items()}
    sums, weights = ({name: own[-1][of] for name, own in shown.items()} for of in ("uar", "weights"))
    stamp = STAMP if any(row.get("speaker_dependent") for row in rows) else None
    png = to_png(scores_by_layer(scores, sums, weights, 1 / classes, stamp))
    picture = Picture("layers.png", "UAR of a probe on each layer, and the weights of their sum", png)
    page: list[Block] = [*map(Text, words), picture, Heading("Every probe"), _table(probes)]
    notes = dict.fromkeys(note for row in rows for note in row["notes"])
    page += [Heading("Method"), *map(Text, (_METHOD, *notes))]
    return Page(f"Probes on the layers of {encoder}", page)


_METHOD = (
    "A probe is a linear layer on the mean over time of one layer of the frozen encoder, or of a learned "
    "weighted sum of all. Its epoch is chosen on dev speakers, and test is scored once. Intervals are over "
    "test speakers (bootstrap, 95 %). The untrained encoder has the same shape and random weights, the "
    "same in every fold of a seed. The layer that is best on test is a choice in hindsight. Layers differ "
    "in scale, so a large weight in the sum alone does not show that a layer matters."
)


def _table(probes: dict[str, list[dict[str, Any]]]) -> Table:
    cells = []
    for own in probes.values():
        for row in own:
            weight = "" if row["layer"] == SUM else percent(own[-1]["weights"][row["layer"]])
            gap = [points(*(row.get(f"difference{end}") for end in ("", "_low", "_high")))]
            line = [row["method"], percent(row["dev_uar"]), _score(row), percent(row["war"])]
            cells.append([*line, *(gap if probes[TRAINED] else []), weight])
    compared = ["above untrained"] if probes[TRAINED] else []
    heads = ["probe on", "UAR on dev", "UAR", "WAR", *compared, "weight"]
    return Table(heads, cells, "Percent, with the 95 % interval; last the layer's weight in the learned sum")


def _interval(row: dict[str, Any]) -> list[float]:
    return [np.nan if row[name] is None else row[name] for name in ("uar", "uar_low", "uar_high")]


def _score(row: dict[str, Any]) -> str:
    return percent(*_interval(row))
