"""``finetune``: trains a recogniser under a protocol, fold by fold and seed by seed."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray
from torch import Tensor

from affetto._version import __version__
from affetto.corpora.manifest import Manifest
from affetto.errors import ProtocolError, RunError
from affetto.evaluation.predictions import ENROLLED, PREDICTIONS
from affetto.finetuning.card import model_card
from affetto.finetuning.enrolment import SIZES, SKEWED_SIZE, enrolled_probabilities
from affetto.finetuning.fold import Fitted, FoldTask, Supervision, fit_fold, labelled_part
from affetto.finetuning.settings import FinetuneSettings
from affetto.material.labelled import Material
from affetto.models.checkpoint import save_weights
from affetto.models.classifier import EmotionClassifier
from affetto.models.enrolment import all_others, draws
from affetto.models.folders import RECOGNISER
from affetto.progress import progress
from affetto.protocols.folds import Fold
from affetto.protocols.protocol import Protocol, load_protocol
from affetto.runs import META, RunFolder, atomic_write, write_text
from affetto.training import make_accelerator

DEV_SCORES = ("dev_uar", "dev_ccc")


def finetune(
    manifest: str | Path | Manifest,
    settings: FinetuneSettings,
    out: str | Path,
    supervision: type[Supervision] = Supervision,
) -> RunFolder:
    """Trains a recogniser a fold and seed, predicts dev and test, and keeps the best as ``OUT/recogniser``.

    What is finished stays: the same call again goes on where it stopped, and does nothing when all is done.
    Under ``torchrun`` several processes share every batch.

    Args:
        manifest: the utterances, or the file that lists them.
        settings: from :func:`~affetto.finetuning.settings.finetune_settings`.
        out: the run folder.
        supervision: what networks learn from.

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
    _check_classes(protocol, manifest)
    run = RunFolder(out, "finetune")
    accelerator = make_accelerator(settings.train)
    main = accelerator.is_main_process
    with run.locked() if main else nullcontext():
        # The first process decides for all, or the others would wait for it forever in a finished folder.
        if broadcast_object_list([main and run.start(settings, **manifest.facts)])[0]:
            _work(manifest, protocol, settings, run, accelerator, supervision)
    return run


def _check_classes(protocol: Protocol, manifest: Manifest) -> None:
    folds = protocol.folds(manifest)
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


class _Run(NamedTuple):
    """A run under way: its utterances and folds, and how each fold is fitted."""

    material: Material
    folds: list[Fold]
    settings: FinetuneSettings
    folder: RunFolder
    manifest_sha256: str

    def fold_folder(self, seed: int, fold: int) -> RunFolder:
        return RunFolder(self.folder / f"seed-{seed}" / f"fold-{fold}")


class Place(NamedTuple):
    """Where predictions come from: the columns of a predictions table that are the same in all its rows."""

    fold: int
    seed: int
    method: str


def _work(
    manifest: Manifest,
    protocol: Protocol,
    settings: FinetuneSettings,
    folder: RunFolder,
    accelerator: Accelerator,
    supervision: type[Supervision],
) -> None:
    material = Material(manifest, protocol)
    run = _Run(material, protocol.folds(material.manifest), settings, folder, manifest.sha256)
    pairs = [(seed, fold) for seed in settings.seeds for fold in run.folds]
    for seed, fold in progress(pairs, settings.recipe):
        own = run.fold_folder(seed, fold.number)
        if own.done:
            continue
        own.path.mkdir(parents=True, exist_ok=True)
        train, dev = material.rows(fold.train), material.rows(fold.dev)
        task = FoldTask(material, fold.number, train, dev, settings, seed, own, accelerator)
        fitted, source = fit_fold(task, supervision)
        if accelerator.is_main_process:
            _write_fold(run, task, fitted, source, material.rows(fold.test))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        _gather(run)
    accelerator.wait_for_everyone()


def _write_fold(
    run: _Run, task: FoldTask, fitted: Fitted, source: Supervision, test: NDArray[np.int64]
) -> None:
    material, folder, classifier = task.material, task.run, fitted.classifier
    place = Place(task.fold, task.seed, run.settings.recipe)
    with torch.no_grad():
        answers = classifier.answers(fitted.vectors).double().numpy()
    rows = np.concatenate([task.dev, test])
    parts = np.repeat(np.array(["dev", "test"], dtype=object), [len(task.dev), len(test)])
    write_table(predictions_table(material, rows, answers[rows], parts, place), folder / PREDICTIONS)
    if classifier.enrolment is not None:
        write_table(enrolled_table(material, classifier, fitted.vectors, test, place), folder / ENROLLED)
    used = labelled_part(task.train, material.truth, run.settings.label_fraction, task.seed)
    pretrained_on = fitted.pretrained_on.get("with_labels", [])
    info = {
        "choices": fitted.choices,
        "chosen_on": "dev",
        "trained_on": sorted({*material.speakers[used].tolist(), *pretrained_on}),
        "pretrained_with_labels": pretrained_on,
        "heard": fitted.pretrained_on.get("without_labels", []),
        "dev": sorted(set(material.speakers[task.dev].tolist())),
        "test": sorted(set(material.speakers[test].tolist())),
    }
    save_recogniser(folder / RECOGNISER, classifier, _recogniser_config(run, classifier, info))
    source.save(folder / RECOGNISER)
    folder.finish(info)


def predictions_table(
    material: Material,
    rows: NDArray[np.int64],
    answers: NDArray[np.float64],
    parts: NDArray[Any] | str,
    place: Place,
) -> pd.DataFrame:
    """Returns the predictions table of some rows, as ``evaluation`` reads it.

    Args:
        material: the utterances.
        rows: ``(N,)``.
        answers: probabilities or values, ``(N, K)``.
        parts: ``"dev"`` or ``"test"``, of each row or of all.
        place: what else is in the table.
    """
    kept = ["key", "file", "start", "end", "gender", "corpus"]
    source = material.manifest.table.iloc[rows]
    table = source[[name for name in kept if name in source]].reset_index(drop=True)
    table["speaker"] = material.speakers[rows].astype(object)
    table["part"], table["fold"], table["seed"], table["method"] = parts, *place
    if material.values is not None:
        for number, name in enumerate(material.labels):
            table[f"truth_{name}"] = material.values[rows, number].double().numpy()
            table[name] = answers[:, number]
        return table
    labels = np.array(material.labels, dtype=object)
    table["truth"] = labels[material.truth[rows]]
    table["label"] = labels[answers.argmax(1)]
    table["confidence"] = answers.max(1)
    for number, label in enumerate(material.labels):
        table[f"p_{label}"] = answers[:, number]
    votes = [name for name in source if str(name).startswith("votes_")]
    return pd.concat([table, source[votes].reset_index(drop=True)], axis=1) if votes else table


def enrolled_table(
    material: Material, classifier: EmotionClassifier, vectors: Tensor, test: NDArray[np.int64], place: Place
) -> pd.DataFrame:
    """Predicts test under every number and mix of enrolment utterances that is measured."""
    with torch.no_grad():
        plain = classifier.probabilities(vectors[torch.from_numpy(test)]).double().numpy()
    tables = [predictions_table(material, test, plain, "test", place).assign(enrolment="0", mix="random")]
    mixes: list[tuple[str, int | None, int]] = [("random", None, size) for size in SIZES]
    mixes += [(f"{label} only", number, SKEWED_SIZE) for number, label in enumerate(material.labels)]
    enrolments = [("random", "all", list(all_others(test, material.speakers)))]
    for mix, emotion, size in reversed(mixes):
        generator = np.random.default_rng(
            [place.seed, place.fold, size, 0 if emotion is None else emotion + 1]
        )
        drawn = list(draws(test, material.speakers, material.truth, size, generator, emotion))
        enrolments.insert(0, (mix, str(size), drawn))
    for mix, count, drawn in enrolments:
        by_row = enrolled_probabilities(classifier, vectors, drawn)
        if not by_row:
            continue
        rows = np.array(sorted(by_row), np.int64)
        values = np.stack([by_row[row] for row in rows.tolist()])
        table = predictions_table(material, rows, values, "test", place)
        tables.append(table.assign(enrolment=count, mix=mix))
    return pd.concat(tables, ignore_index=True)


def _recogniser_config(run: _Run, classifier: EmotionClassifier, info: dict[str, Any]) -> dict[str, Any]:
    """Returns what ``config.json`` of a recogniser holds."""
    labels, protocol = run.material.labels, run.material.protocol
    return {
        "class": "EmotionClassifier",
        "affetto_version": __version__,
        "classifier": classifier.settings.model_dump(mode="json"),
        "front_end": classifier.front_end.model_dump(mode="json"),
        "labels": labels,
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "protocol": protocol.name,
        "protocol_sha256": protocol.sha256,
        "speaker_dependent": protocol.speaker_dependent,
        "manifest_sha256": run.manifest_sha256,
        "encoder": run.settings.recipe,
        "weights_from_elsewhere": run.settings.published_weights,
        "pretrained": run.settings.pretrained is not None,
        "speakers_seen": {
            "with_labels": info["trained_on"],
            "without_labels": info["heard"],
            "chosen_on": info["dev"],
        },
        **{name: value for name, value in info["choices"].items() if name in DEV_SCORES},
    }


def dev_score(choices: dict[str, Any]) -> float:
    """Returns the score on dev that decided a fold's choices: UAR, or mean concordance of dimensions."""
    return float(next(choices[name] for name in DEV_SCORES if name in choices))


def save_recogniser(folder: Path, classifier: EmotionClassifier, config: dict[str, Any]) -> None:
    """Writes a recogniser folder: weights, config, model card."""
    save_weights(folder, classifier, config)
    write_text(folder / "README.md", model_card(config))


def _gather(run: _Run) -> None:
    """Joins the folds' tables, describes the run for the guard, and keeps the recogniser best on dev."""
    settings, protocol = run.settings, run.material.protocol
    folders = {
        (seed, fold.number): run.fold_folder(seed, fold.number)
        for seed in settings.seeds
        for fold in run.folds
    }
    for name in (PREDICTIONS, ENROLLED):
        files = [folder / name for folder in folders.values() if (folder / name).exists()]
        if files:
            table = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
            write_table(table, run.folder / name)
    infos = {key: json.loads((folder / META).read_text(encoding="utf-8")) for key, folder in folders.items()}

    def by_fold(name: str) -> dict[str, Any]:
        return {str(fold.number): infos[settings.seeds[0], fold.number][name] for fold in run.folds}

    meta = {
        "chosen_on": "dev",
        "protocol": protocol.model_dump(mode="json"),
        "method": settings.recipe,
        "manifest_sha256": run.manifest_sha256,
        "label_fraction": settings.label_fraction,
        "seeds": list(settings.seeds),
        "speaker_dependent": protocol.speaker_dependent,
        "speakers_seen_with_labels": by_fold("trained_on"),
        "speakers_seen_without_labels": by_fold("heard"),
        "speakers_pretrained_with_labels": by_fold("pretrained_with_labels"),
        "weights_from_elsewhere": settings.published_weights,
        "unreadable": run.material.unreadable,
        "choices": {f"seed-{seed}/fold-{fold}": info["choices"] for (seed, fold), info in infos.items()},
    }
    best = max(folders, key=lambda key: dev_score(infos[key]["choices"]))
    target = run.folder / RECOGNISER
    partial = target.with_name(f".{RECOGNISER}.part")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folders[best] / RECOGNISER, partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    if not (run.folder / PREDICTIONS).exists():
        raise RunError(f"{run.folder.path} holds no predictions; remove it and run finetune again")
    run.folder.finish(meta)


def write_table(table: pd.DataFrame, file: Path) -> None:
    """Writes a predictions table as Parquet, all of it or nothing."""
    with atomic_write(file) as temporary:
        table.to_parquet(temporary, index=False)
