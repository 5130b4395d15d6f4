"""``pretrain``: teaches an encoder from speech that nobody has labelled."""

from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray

from affetto.corpora.manifest import Manifest
from affetto.data import LengthBuckets, Loader, SpeakerBatches, Store
from affetto.material.recordings import Recordings
from affetto.models.embedders import build_encoder, load_published
from affetto.models.encoder import Encoder
from affetto.models.folders import ENCODER, save_encoder
from affetto.pretraining.groups import Groups, speaker_groups
from affetto.pretraining.guides import Labelled, guide, known_curves, labelled
from affetto.pretraining.settings import PretrainSettings, build_objective, knowledge, spread, target_vectors
from affetto.progress import progress
from affetto.protocols.protocol import load_protocol
from affetto.runs import RunFolder
from affetto.training import fit, make_accelerator, seed_everything


def pretrain(manifest: str | Path | Manifest, settings: PretrainSettings, out: str | Path) -> RunFolder:
    """Pretrains an encoder a seed and fold; no emotion label is looked at, unless ``groups`` says so.

    What is finished stays: the same call again goes on where it stopped. Under ``torchrun`` several
    processes share every batch.

    Args:
        manifest: the utterances, with a speaker each and the columns that the tasks ask for.
        settings: from :func:`~affetto.pretraining.settings.pretrain_settings`.
        out: the run folder; encoders lie in ``OUT/seed-S/fold-F/encoder``.

    Raises:
        ManifestError: for a missing column, with the verb that makes it.
        ProtocolError: when the protocol does not fit the manifest.
        LeakError: when curves that lead masks rest on labels of speakers that the protocol holds out.
    """
    manifest = Manifest.of(manifest)
    manifest.require("speaker")
    parts = _parts(manifest, settings.protocol)
    known = knowledge(manifest, settings)
    leading = {fold: _labelled(manifest, settings, fold, part) for fold, part in parts.items()}
    run = RunFolder(out, "pretrain")
    accelerator = make_accelerator(settings.train)
    main = accelerator.is_main_process
    with run.locked() if main else nullcontext():
        facts = {**manifest.facts, "knowledge_sha256": known}
        started = main and run.start(settings, **facts)
        if broadcast_object_list([started])[0]:
            recordings = Recordings(manifest)
            pairs = [(seed, fold) for seed in settings.seeds for fold in parts]
            for seed, fold in progress(pairs, settings.objective):
                folder = RunFolder(run / f"seed-{seed}" / f"fold-{fold}")
                if not folder.done:
                    folder.path.mkdir(parents=True, exist_ok=True)
                    rows = np.array(
                        [row for row, key in enumerate(recordings.manifest.keys) if key in parts[fold].heard]
                    )
                    job = _Job(seed, fold, rows, leading[fold], folder)
                    _one(recordings, job, settings, accelerator, manifest.sha256)
            accelerator.wait_for_everyone()
            if main:
                run.finish({"unreadable": recordings.unreadable})
            accelerator.wait_for_everyone()
    return run


class _Part(NamedTuple):
    """The keys to pretrain on in a fold, and the speakers whom it tests, ``corpus/speaker``."""

    heard: set[str]
    tested: set[str]


def _parts(manifest: Manifest, protocol: str | None) -> dict[int, _Part]:
    """Returns what to pretrain on, fold by fold; everything as fold 1 without a protocol."""
    if protocol is None:
        return {1: _Part(set(manifest.keys), set())}
    loaded = load_protocol(protocol)
    folds = loaded.folds(loaded.select(manifest))
    owner = pd.Series(manifest.owners, manifest.table["key"])
    parts = {}
    for fold in folds:
        tested = set(owner[list(fold.test)])
        # Recordings that the protocol leaves out, and further corpora, may be heard all the same.
        heard = owner.index[~owner.isin({*tested, *owner[list(fold.dev)]})]
        parts[fold.number] = _Part(set(heard), tested)
    return parts


def _labelled(manifest: Manifest, settings: PretrainSettings, fold: int, part: _Part) -> Labelled:
    """Returns whose emotion labels made the curves that lead a fold's masks."""
    columns = set(settings.curves.values())
    found = [
        labelled(known_curves(manifest, column), settings.protocol, fold, part.tested) for column in columns
    ]
    speakers = sorted({name for each in found for name in each.speakers})
    return Labelled(speakers, any(each.unknown for each in found))


class _Job(NamedTuple):
    """One seed and fold: the rows to hear, and whose labels lead the masks."""

    seed: int
    fold: int
    rows: NDArray[np.int64]
    labelled: Labelled
    folder: RunFolder


def _one(
    recordings: Recordings,
    job: _Job,
    settings: PretrainSettings,
    accelerator: Accelerator,
    manifest_sha256: str,
) -> None:
    seed, rows, folder = job.seed, job.rows, job.folder
    seed_everything(seed, accelerator.process_index)
    encoder = build_encoder(settings.encoder)
    if settings.published_weights:
        load_published(encoder)
    known, speakers = np.unique(recordings.speakers[rows], return_inverse=True)
    groups = Groups(np.zeros(len(recordings.speakers), np.int64), False)
    columns = {"speaker": spread(speakers, rows, len(recordings.speakers))}
    clustered = "contrastive" in settings.task_weights and settings.contrastive.positives == "cluster"
    if clustered:
        groups = speaker_groups(recordings, settings.groups, seed)
        columns["cluster"] = torch.from_numpy(groups.numbers)
    if settings.needs_vectors:
        columns["vector"] = target_vectors(recordings, rows, settings.vectors)
    objective = build_objective(settings, encoder, len(known), columns)
    curves = {
        name: guide(recordings, rows, column, encoder.front_end, job.fold)
        for name, column in settings.curves.items()
    }
    share = {"rank": accelerator.process_index, "world": accelerator.num_processes, "seed": seed}
    size = settings.train.batch_size
    batches = (
        SpeakerBatches(speakers, groups.numbers[rows], size, settings.per_speaker, **share)
        if settings.on_views
        else LengthBuckets(recordings.waveforms.lengths[rows], size, **share)
    )
    loader = Loader(batches, [_store(recordings, encoder, settings)], rows, columns, curves)
    fit(objective, loader, settings.train, folder, accelerator=accelerator)
    if accelerator.is_main_process:
        owners = recordings.manifest.owners
        names = sorted({owners[row] for row in rows.tolist()})
        config = {
            "encoder": settings.encoder.model_dump(mode="json"),
            "front_end": encoder.front_end.model_dump(mode="json"),
            "objective": settings.objective,
            "tasks": settings.task_weights,
            "groups": settings.groups if clustered else None,
            "masking": settings.masking.model_dump(mode="json") if settings.masked else None,
            "switches": settings.switches,
            "protocol": settings.protocol,
            "manifest_sha256": manifest_sha256,
            "weights_from_elsewhere": settings.published_weights or job.labelled.unknown,
            "speakers_seen": {
                "with_labels": sorted({*job.labelled.speakers, *(names if groups.from_labels else ())}),
                "without_labels": names,
            },
        }
        save_encoder(folder / ENCODER, encoder.cpu(), config)
        folder.finish()


def _store(recordings: Recordings, encoder: Encoder, settings: PretrainSettings) -> Store:
    """Returns what batches are made of: cached features where the tasks can do with them, else waveforms.

    Views are made of power spectra, which only a plain log-mel front end tells.
    """
    front_end = encoder.front_end
    plain = front_end.kind == "logmel" and not front_end.deltas and not front_end.cmvn
    on_features = plain if settings.on_views else front_end.kind != "waveform"
    return recordings.features(front_end) if on_features else recordings.waveforms
