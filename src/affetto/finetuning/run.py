"""``finetune``: trains a recogniser under a protocol, fold by fold and seed by seed."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray

from affetto._version import __version__
from affetto.corpora.manifest import Manifest
from affetto.errors import ProtocolError, RunError
from affetto.evaluation.run import ENROLLED, PREDICTIONS
from affetto.finetuning.card import model_card
from affetto.finetuning.enrolment import (
    ALL,
    SIZES,
    SKEWED_SIZE,
    Draw,
    all_others,
    draws,
    enrolled_probabilities,
)
from affetto.finetuning.fold import Fitted, fit_fold, labelled_part
from affetto.finetuning.settings import FinetuneSettings
from affetto.material.labelled import Material
from affetto.models.checkpoint import save_weights
from affetto.models.classifier import EmotionClassifier
from affetto.models.folders import RECOGNISER
from affetto.progress import progress
from affetto.protocols.folds import Fold
from affetto.protocols.protocol import Protocol, load_protocol
from affetto.runs import META, RunFolder, atomic_write, write_text
from affetto.training import make_accelerator

DEV_SCORES = ("dev_uar", "dev_ccc")


def finetune(manifest: str | Path | Manifest, settings: FinetuneSettings, out: str | Path) -> RunFolder:
    """Trains a recogniser a fold and seed, predicts dev and test, and keeps the best as ``OUT/recogniser``.

    What is finished stays: the same call again goes on where it stopped, and does nothing when all is done.
    Under ``torchrun`` several processes share every batch.

    Args:
        manifest: the utterances, or the file that lists them.
        settings: from :func:`~affetto.finetuning.settings.finetune_settings`.
        out: the run folder.

    Returns:
        The run folder: ``predictions.parquet``, ``enrolled.parquet`` where enrolment was measured,
        ``meta.json`` for the guard against leaks, a folder a seed and fold, and ``recogniser``.

    Raises:
        ProtocolError: when the protocol does not fit the manifest.
        RunError: when the folder is in use or holds other settings.
    """
    manifest = Manifest.of(manifest)
    # A protocol that does not fit leaves no folder behind.
    protocol = load_protocol(settings.protocol)
    _check_classes(protocol, manifest, protocol.folds(manifest))
    run = RunFolder(out, "finetune")
    accelerator = make_accelerator(settings.train)
    main = accelerator.is_main_process
    with run.locked() if main else nullcontext():
        # The first process decides for all, or the others would wait for it forever in a finished folder.
        if broadcast_object_list([main and run.start(settings, **manifest.facts)])[0]:
            _work(manifest, settings, run, accelerator)
    return run


def _check_classes(protocol: Protocol, manifest: Manifest, folds: list[Fold]) -> None:
    if protocol.dimensions:
        return
    selected = protocol.select(manifest)
    emotion = dict(zip(selected.keys, selected.table["emotion"], strict=True))
    for fold in folds:
        found = sorted({str(emotion[key]) for key in fold.train})
        if len(found) < 2:
            raise ProtocolError(
                f"{protocol.name}: all {len(fold.train)} training utterances of fold {fold.number} are "
                f"{found[0] if found else 'missing'}; at least two emotions are needed: label more, or "
                "choose a protocol with larger folds"
            )


def _work(manifest: Manifest, settings: FinetuneSettings, run: RunFolder, accelerator: Accelerator) -> None:
    protocol = load_protocol(settings.protocol)
    material = Material(manifest, protocol)
    folds = protocol.folds(material.manifest)
    pairs = [(seed, fold) for seed in settings.seeds for fold in folds]
    for seed, fold in progress(pairs, settings.encoder):
        folder = RunFolder(run / f"seed-{seed}" / f"fold-{fold.number}")
        if not folder.done:
            folder.path.mkdir(parents=True, exist_ok=True)
            _one(material, fold, settings, seed, folder, accelerator, manifest.sha256)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        _gather(run, material, folds, settings, manifest.sha256)
    accelerator.wait_for_everyone()


def _one(
    material: Material,
    fold: Fold,
    settings: FinetuneSettings,
    seed: int,
    folder: RunFolder,
    accelerator: Accelerator,
    manifest_sha256: str,
) -> None:
    train, dev, test = (material.rows(keys) for keys in (fold.train, fold.dev, fold.test))
    fitted = fit_fold(material, fold.number, train, dev, settings, seed, folder, accelerator)
    if not accelerator.is_main_process:
        return
    used = labelled_part(train, material.truth, settings.label_fraction, seed)
    parts = np.array([""] * len(material.truth), dtype=object)
    parts[train], parts[dev], parts[test] = "train", "dev", "test"
    with torch.no_grad():
        answers = fitted.classifier.answers(fitted.vectors).double().numpy()
    rows = np.concatenate([dev, test])
    table = predictions_table(material, rows, answers[rows], parts[rows], fold.number, seed, settings.encoder)
    write_table(table, folder / PREDICTIONS)
    if fitted.classifier.enrolment is not None:
        write_table(
            enrolled_table(material, fitted, test, fold.number, seed, settings.encoder), folder / ENROLLED
        )
    info = {
        "choices": fitted.choices,
        "chosen_on": "dev",
        "trained_on": sorted({*material.speakers[used].tolist(), *fitted.heard.get("with_labels", [])}),
        "pretrained_with_labels": fitted.heard.get("with_labels", []),
        "heard": fitted.heard.get("without_labels", []),
        "dev": sorted(set(material.speakers[dev].tolist())),
        "test": sorted(set(material.speakers[test].tolist())),
    }
    config = recogniser_config(fitted.classifier, material, settings, info, manifest_sha256)
    save_recogniser(folder / RECOGNISER, fitted.classifier, config)
    folder.finish(info)


def predictions_table(
    material: Material,
    rows: NDArray[np.int64],
    answers: NDArray[np.float64],
    parts: NDArray[Any] | str,
    fold: int,
    seed: int,
    method: str,
) -> pd.DataFrame:
    """Returns the predictions table of some rows: what ``evaluation`` reads."""
    kept = ["key", "file", "start", "end", "gender", "corpus"]
    source = material.manifest.table.iloc[rows]
    table = source[[name for name in kept if name in source]].reset_index(drop=True)
    labels = np.array(material.labels, dtype=object)
    table["speaker"] = material.speakers[rows].astype(object)
    table["part"], table["fold"], table["seed"], table["method"] = parts, fold, seed, method
    if material.values is not None:
        for number, name in enumerate(material.labels):
            table[f"truth_{name}"] = material.values[rows, number].double().numpy()
            table[name] = answers[:, number]
        return table
    table["truth"] = labels[material.truth[rows]]
    table["label"] = labels[answers.argmax(1)]
    table["confidence"] = answers.max(1)
    for number, label in enumerate(material.labels):
        table[f"p_{label}"] = answers[:, number]
    votes = [name for name in source if str(name).startswith("votes_")]
    return pd.concat([table, source[votes].reset_index(drop=True)], axis=1) if votes else table


def enrolled_table(
    material: Material, fitted: Fitted, test: NDArray[np.int64], fold: int, seed: int, method: str
) -> pd.DataFrame:
    """Predicts test under every number and mix of enrolment utterances that is measured."""
    with torch.no_grad():
        plain = fitted.classifier.probabilities(fitted.vectors[torch.from_numpy(test)]).double().numpy()
    base = predictions_table(material, test, plain, "test", fold, seed, method)
    tables = [base.assign(enrolment="0", mix="random")]
    mixes: list[tuple[str, int | None, int]] = [("random", None, size) for size in SIZES]
    mixes += [(f"{label} only", number, SKEWED_SIZE) for number, label in enumerate(material.labels)]
    chosen: list[tuple[str, str, list[Draw]]] = []
    for mix, emotion, size in mixes:
        generator = np.random.default_rng([seed, fold, size, 0 if emotion is None else emotion + 1])
        drawn = list(draws(test, material.speakers, material.truth, size, generator, emotion))
        chosen.append((mix, str(size), drawn))
    chosen.append(("random", ALL, list(all_others(test, material.speakers))))
    for mix, count, drawn in chosen:
        by_row = enrolled_probabilities(fitted.classifier, fitted.vectors, drawn)
        if not by_row:
            continue
        rows = np.array(sorted(by_row), np.int64)
        values = np.stack([by_row[row] for row in rows.tolist()])
        table = predictions_table(material, rows, values, "test", fold, seed, method)
        tables.append(table.assign(enrolment=count, mix=mix))
    return pd.concat(tables, ignore_index=True)


def recogniser_config(
    classifier: EmotionClassifier,
    material: Material,
    settings: FinetuneSettings,
    info: dict[str, Any],
    manifest_sha256: str,
) -> dict[str, Any]:
    """Returns what ``config.json`` of a recogniser holds."""
    return {
        "class": "EmotionClassifier",
        "affetto_version": __version__,
        "classifier": classifier.settings.model_dump(mode="json"),
        "front_end": classifier.front_end.model_dump(mode="json"),
        "labels": material.labels,
        "id2label": {str(number): label for number, label in enumerate(material.labels)},
        "protocol": material.protocol.name,
        "protocol_sha256": material.protocol.sha256,
        "speaker_dependent": material.protocol.speaker_dependent,
        "manifest_sha256": manifest_sha256,
        "encoder": settings.encoder,
        "weights_from_elsewhere": settings.published_weights,
        "pretrained": settings.pretrained is not None,
        "left_out": list(settings.clap.left_out),
        "speakers_seen": {
            "with_labels": info["trained_on"],
            "without_labels": info["heard"],
            "chosen_on": info["dev"],
        },
        **{name: value for name, value in info["choices"].items() if name in DEV_SCORES},
    }


def dev_score(choices: dict[str, Any]) -> float:
    """Returns the score on dev that a fold's choices went by: UAR, or mean concordance of dimensions."""
    return float(next(choices[name] for name in DEV_SCORES if name in choices))


def save_recogniser(folder: Path, classifier: EmotionClassifier, config: dict[str, Any]) -> None:
    """Writes a recogniser folder: weights, config, model card."""
    save_weights(folder, classifier, config)
    write_text(folder / "README.md", model_card(config))


def _gather(
    run: RunFolder, material: Material, folds: list[Fold], settings: FinetuneSettings, manifest_sha256: str
) -> None:
    """Joins the folds' tables, describes the run for the guard, and keeps the recogniser best on dev."""
    folders = {
        (seed, fold.number): run / f"seed-{seed}" / f"fold-{fold.number}"
        for seed in settings.seeds
        for fold in folds
    }
    for name in (PREDICTIONS, ENROLLED):
        files = [folder / name for folder in folders.values() if (folder / name).exists()]
        if files:
            write_table(pd.concat([pd.read_parquet(file) for file in files], ignore_index=True), run / name)
    infos = {key: json.loads((folder / META).read_text(encoding="utf-8")) for key, folder in folders.items()}
    first = settings.seeds[0]
    meta = {
        "chosen_on": "dev",
        "protocol": material.protocol.model_dump(mode="json"),
        "method": settings.encoder,
        "manifest_sha256": manifest_sha256,
        "label_fraction": settings.label_fraction,
        "seeds": list(settings.seeds),
        "speaker_dependent": material.protocol.speaker_dependent,
        "speakers_seen_with_labels": {
            str(fold.number): infos[first, fold.number]["trained_on"] for fold in folds
        },
        "speakers_seen_without_labels": {
            str(fold.number): infos[first, fold.number]["heard"] for fold in folds
        },
        "speakers_pretrained_with_labels": {
            # A run that was begun before this was kept has none of it.
            str(fold.number): infos[first, fold.number].get("pretrained_with_labels", [])
            for fold in folds
        },
        "weights_from_elsewhere": settings.published_weights,
        "unreadable": material.unreadable,
        "choices": {f"seed-{seed}/fold-{fold}": info["choices"] for (seed, fold), info in infos.items()},
    }
    best = max(folders, key=lambda key: dev_score(infos[key]["choices"]))
    target = run / RECOGNISER
    partial = target.with_name(f".{RECOGNISER}.part")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folders[best] / RECOGNISER, partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    if not (run / PREDICTIONS).exists():
        raise RunError(f"{run.path} holds no predictions; remove it and run finetune again")
    run.finish(meta)


def write_table(table: pd.DataFrame, file: Path) -> None:
    """Writes a predictions table as Parquet, all of it or nothing."""
    with atomic_write(file) as temporary:
        table.to_parquet(temporary, index=False)
