"""``finetune``: trains a recogniser under a protocol, fold by fold and seed by seed."""

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

from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import write_table
from affetto.errors import ProtocolError, RunError
from affetto.evaluation.metrics import withholding
from affetto.evaluation.predictions import ENROLLED, PREDICTIONS
from affetto.finetuning.enrolment import SIZES, SKEWED_SIZE, enrolled_probabilities
from affetto.finetuning.fold import Supervision, fit_recogniser, labelled_part
from affetto.finetuning.settings import FinetuneSettings
from affetto.finetuning.task import Fitted, FoldTask, Rows, model_card
from affetto.material.recordings import Material
from affetto.models.checkpoint import RECOGNISER, copy_folder, save_weights, weights_sha256
from affetto.models.classifier import ELSEWHERE, EmotionClassifier
from affetto.models.enrolment import SpeakerDraw, all_others, draws
from affetto.optimising import make_accelerator
from affetto.progress import progress
from affetto.protocols.protocol import Protocol, load_protocol
from affetto.runs import META, RunFolder, read_json, write_text

DEV_SCORES = ("dev_uar", "dev_ccc")


class _Run(NamedTuple):
    """A run under way."""

    manifest: Manifest
    protocol: Protocol
    settings: FinetuneSettings
    folder: RunFolder
    accelerator: Accelerator

    def fold(self, seed: int, fold: int) -> RunFolder:
        return RunFolder(self.folder / f"seed-{seed}" / f"fold-{fold}")


def finetune(
    manifest: str | Path | Manifest,
    settings: FinetuneSettings,
    out: str | Path,
    supervision: type[Supervision] = Supervision,
    *,
    device: str = "auto",
) -> RunFolder:
    """Trains a recogniser a fold and seed, predicts dev and test, and keeps the best as ``OUT/recogniser``.

    What is finished stays: the same call again goes on where it stopped, and does nothing when all is done.
    Under ``torchrun`` several processes share every batch.

    Args:
        manifest: the utterances, or the file that lists them.
        settings: from :func:`~affetto.finetuning.settings.finetune_settings`.
        out: the run folder.
        supervision: what networks learn from.
        device: where networks run, e.g. ``cpu``; ``auto`` for a GPU where there is one.

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
    folder, accelerator = RunFolder(out, "finetune"), make_accelerator(settings.train, device)
    main = accelerator.is_main_process
    with folder.locked() if main else nullcontext():
        # The first process decides for all, or the others would wait for it forever in a finished folder.
        if broadcast_object_list([main and folder.start(settings, **manifest.facts)])[0]:
            _work(_Run(manifest, protocol, settings, folder, accelerator), supervision)
    return folder


def _check_classes(protocol: Protocol, manifest: Manifest) -> None:
    folds = protocol.folds(manifest)
    if protocol.dimensions:
        return
    emotion = protocol.select(manifest).table.set_index("key")["emotion"]
    for fold in folds:
        found = sorted(emotion[list(fold.train)].astype(str).unique())
        if len(found) < 2:
            raise ProtocolError(
                f"{protocol.name}: all {len(fold.train)} training utterances of fold {fold.number} are "
                f"{found[0] if found else 'missing'}; at least two emotions are needed: label more, or "
                "choose a protocol with larger folds"
            )


def _work(run: _Run, supervision: type[Supervision]) -> None:
    accelerator = run.accelerator
    material = Material(run.manifest, run.protocol, accelerator.device)
    folds = run.protocol.folds(material.manifest)  # of what can be decoded
    places = [(seed, fold) for seed in run.settings.seeds for fold in folds]
    for seed, fold in progress(places, run.settings.recipe):
        folder = run.fold(seed, fold.number)
        if folder.done:
            continue
        folder.path.mkdir(parents=True, exist_ok=True)
        whole, dev = material.rows(fold.train), material.rows(fold.dev)
        train = labelled_part(whole, material.truth, run.settings.label_fraction, seed)
        part = material, fold.number, train, dev, run.settings, seed, folder, accelerator
        task = FoldTask(*part, unlabelled=np.setdiff1d(whole, train))
        fitted, source = fit_recogniser(task, supervision)
        if accelerator.is_main_process:
            info = _write_tables(task, fitted, material.rows(fold.test))
            config = _recogniser_config(run, fitted.classifier, info)
            save_recogniser(folder / RECOGNISER, fitted.classifier, config, run.settings.head_only)
            source.save(folder / RECOGNISER)
            folder.finish(info)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        _gather(run, [fold.number for fold in folds], material.unreadable)
    accelerator.wait_for_everyone()


def _write_tables(task: FoldTask, fitted: Fitted, test: Rows) -> dict[str, Any]:
    """Writes the tables of a fold, and returns its choices and speakers."""
    material, classifier, folder = task.material, fitted.classifier, task.run
    place: dict[str, Any] = {"fold": task.fold, "seed": task.seed, "method": task.settings.recipe}
    with torch.no_grad():
        answers = classifier.answers(fitted.vectors).double().numpy()
    rows = np.concatenate([task.dev, test])
    parts = np.repeat(np.array(["dev", "test"], dtype=object), [len(task.dev), len(test)])
    table = predictions_table(material, rows, answers[rows], parts)
    write_table(table.assign(**place), folder / PREDICTIONS)
    if classifier.enrolment is not None and len(test):
        table = enrolled_table(material, classifier, fitted.vectors, test, task.seed, task.fold)
        write_table(table.assign(**place), folder / ENROLLED)
    pretrained_on = fitted.pretrained_on.get("with_labels", [])
    known = {}
    if material.values is None:
        sure, right = answers[task.dev].max(1), answers[task.dev].argmax(1) == material.truth[task.dev]
        known["withholding"] = withholding(sure, right)
    return {
        **known,
        "choices": fitted.choices,
        "chosen_on": "dev",
        "trained_on": sorted({*material.speakers[task.train].tolist(), *pretrained_on}),
        "pretrained_with_labels": pretrained_on,
        "pretrained_without_labels": fitted.pretrained_on.get("without_labels", []),
        "dev": sorted(set(material.speakers[task.dev].tolist())),
        "test": sorted(set(material.speakers[test].tolist())),
    }


def predictions_table(
    material: Material, rows: Rows, answers: NDArray[np.float64], parts: NDArray[Any] | str
) -> pd.DataFrame:
    """Returns the predictions table of rows ``(N,)`` with probabilities or values ``(N, K)``.

    Fold, seed and method are for the caller to add.
    """
    kept = ["key", "file", "start", "end", "gender", "corpus"]
    source = material.manifest.table.iloc[rows]
    table = source[[name for name in kept if name in source]].reset_index(drop=True)
    table["speaker"], table["part"] = material.speakers[rows].astype(object), parts
    if material.values is not None:
        for number, name in enumerate(material.labels):
            table[f"truth_{name}"] = material.values[rows, number].double().numpy()
            table[name] = answers[:, number]
        return table
    labels = np.array(material.labels, dtype=object)
    table["truth"], table["label"] = labels[material.truth[rows]], labels[answers.argmax(1)]
    table["confidence"] = answers.max(1)
    for number, label in enumerate(material.labels):
        table[f"p_{label}"] = answers[:, number]
    votes = [name for name in source if str(name).startswith("votes_")]
    return pd.concat([table, source[votes].reset_index(drop=True)], axis=1) if votes else table


def enrolled_table(
    material: Material, classifier: EmotionClassifier, vectors: Tensor, test: Rows, seed: int, fold: int
) -> pd.DataFrame:
    """Predicts test under every number and mix of enrolment utterances that is measured."""
    with torch.no_grad():
        plain = classifier.answers(vectors[torch.from_numpy(test)]).double().numpy()
    tables = [predictions_table(material, test, plain, "test").assign(enrolment="0", mix="random")]
    cells: list[tuple[str, int | None, int]] = [("random", None, size) for size in SIZES]
    cells += [(f"{label} only", number, SKEWED_SIZE) for number, label in enumerate(material.labels)]
    drawn: dict[tuple[str, str], list[SpeakerDraw]] = {}
    for mix, emotion, size in cells:
        generator = np.random.default_rng([seed, fold, size, 0 if emotion is None else emotion + 1])
        found = draws(material.speakers, material.truth, test, size, generator, emotion)
        drawn[mix, str(size)] = list(found)
    drawn["random", "all"] = list(all_others(test, material.speakers))
    for (mix, count), enrolments in drawn.items():
        if enrolments:
            answers = enrolled_probabilities(classifier, vectors, enrolments)
            rows = np.flatnonzero(np.isfinite(answers[:, 0]))
            table = predictions_table(material, rows, answers[rows], "test")
            tables.append(table.assign(enrolment=count, mix=mix))
    return pd.concat(tables, ignore_index=True)


def _recogniser_config(run: _Run, classifier: EmotionClassifier, info: dict[str, Any]) -> dict[str, Any]:
    labels = list(classifier.settings.labels)
    return {
        "class": "EmotionClassifier",
        "classifier": classifier.settings.model_dump(mode="json"),
        "front_end": classifier.front_end.model_dump(mode="json"),
        "labels": labels,
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "protocol": run.protocol.name,
        "protocol_sha256": run.protocol.sha256,
        "speaker_dependent": run.protocol.speaker_dependent,
        "manifest_sha256": run.manifest.sha256,
        "encoder": run.settings.recipe,
        "weights_from_elsewhere": run.settings.published_weights,
        "pretrained": run.settings.pretrained is not None,
        "speakers_seen": {
            "with_labels": info["trained_on"],
            "without_labels": info["pretrained_without_labels"],
            "chosen_on": info["dev"],
        },
        **{name: value for name, value in info["choices"].items() if name in DEV_SCORES},
        **{name: info[name] for name in ("withholding",) if name in info},
    }


def save_recogniser(
    folder: Path, classifier: EmotionClassifier, config: dict[str, Any], head_only: bool = False
) -> None:
    """Writes a recogniser folder: weights, config, model card.

    ``head_only`` leaves the weights of published encoders out, and notes their hashes.
    """
    elsewhere = classifier.published() if head_only else {}
    hashes = {name: weights_sha256(part) for name, part in elsewhere.items()}
    config = {**config, ELSEWHERE: hashes} if hashes else config
    save_weights(folder, classifier, config, tuple(hashes))
    write_text(folder / "README.md", model_card(config))


def _gather(run: _Run, folds: list[int], unreadable: dict[str, str]) -> None:
    """Joins the folds' tables, describes the run for the guard, and keeps the recogniser best on dev."""
    settings, protocol = run.settings, run.protocol
    folders = {(seed, fold): run.fold(seed, fold) for seed in settings.seeds for fold in folds}
    for name in (PREDICTIONS, ENROLLED):
        files = [folder / name for folder in folders.values() if (folder / name).exists()]
        if files:
            table = pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)
            write_table(table, run.folder / name)
    infos = {key: read_json(folder / META) for key, folder in folders.items()}

    def by_fold(name: str) -> dict[str, Any]:
        return {str(fold): infos[settings.seeds[0], fold][name] for fold in folds}

    def dev_score(key: tuple[int, int]) -> float:
        choices = infos[key]["choices"]
        return float(next(choices[name] for name in DEV_SCORES if name in choices))

    meta = {
        "chosen_on": "dev",
        "protocol": protocol.model_dump(mode="json"),
        "method": settings.recipe,
        "manifest_sha256": run.manifest.sha256,
        "label_fraction": settings.label_fraction,
        "seeds": list(settings.seeds),
        "speaker_dependent": protocol.speaker_dependent,
        "speakers_seen_with_labels": by_fold("trained_on"),
        "speakers_seen_without_labels": by_fold("pretrained_without_labels"),
        "speakers_pretrained_with_labels": by_fold("pretrained_with_labels"),
        "weights_from_elsewhere": settings.published_weights,
        "unreadable": unreadable,
        "left_out": run.protocol.left_out(run.manifest),
        "choices": {f"seed-{seed}/fold-{fold}": info["choices"] for (seed, fold), info in infos.items()},
    }
    copy_folder(folders[max(folders, key=dev_score)] / RECOGNISER, run.folder / RECOGNISER)
    if not (run.folder / PREDICTIONS).exists():
        raise RunError(f"{run.folder.path} holds no predictions; remove it and run finetune again")
    run.folder.finish(meta)
