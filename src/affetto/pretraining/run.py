"""``pretrain``: trains an encoder on speech without emotion labels."""

from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray
from torch import Tensor

from affetto.corpora.manifest import Manifest
from affetto.data import FeatureCache, LengthBuckets, Loader, SpeakerBatches
from affetto.features import FrontEnd
from affetto.material.recordings import Recordings
from affetto.models.checkpoint import ENCODER, save_encoder
from affetto.models.embedders import build_encoder, load_published
from affetto.models.encoder import Encoder
from affetto.objectives.objective import Objective
from affetto.objectives.tasks import TASKS, task_class
from affetto.objectives.views import Multitask
from affetto.pretraining.columns import CurveColumn, PlainColumn, labelled, task_columns
from affetto.pretraining.settings import PretrainSettings
from affetto.progress import progress
from affetto.protocols.protocol import load_protocol
from affetto.runs import RunFolder
from affetto.training import fit, make_accelerator, seed_everything


def pretrain(manifest: str | Path | Manifest, settings: PretrainSettings, out: str | Path) -> RunFolder:
    """Pretrains an encoder for each seed and fold; emotion labels are used only where a column rests on them.

    The same call again continues an unfinished run. Under ``torchrun`` several processes share every batch.

    Args:
        manifest: the utterances, with a speaker each and the columns that the tasks ask for.
        settings: from :func:`~affetto.pretraining.settings.pretrain_settings`.
        out: the run folder; encoders are in ``OUT/seed-S/fold-F/encoder``.

    Raises:
        ManifestError: for a missing column, with the verb that makes it.
        ProtocolError: when the protocol does not fit the manifest.
        LeakError: when curves rest on labels of speakers that the protocol tests.
    """
    manifest = Manifest.of(manifest)
    columns = task_columns(manifest, settings)
    parts = _parts(manifest, settings, columns)
    run = RunFolder(out, "pretrain")
    accelerator = make_accelerator(settings.train)
    main = accelerator.is_main_process
    with run.locked() if main else nullcontext():
        # So that new clusters are not taken for the old ones: a manifest's own hash leaves them out.
        known = {name: column.sha256 for name, column in columns.items()}
        started = main and run.start(settings, **manifest.facts, knowledge_sha256=known)
        if broadcast_object_list([started])[0]:
            recordings = Recordings(manifest)
            given = _Given(recordings, columns, settings, accelerator, manifest.sha256)
            pairs = [(seed, part) for seed in settings.seeds for part in parts]
            for seed, part in progress(pairs, settings.objective):
                folder = RunFolder(run / f"seed-{seed}" / f"fold-{part.fold}")
                if not folder.done:
                    folder.path.mkdir(parents=True, exist_ok=True)
                    _one(given, seed, part, folder)
            accelerator.wait_for_everyone()
            if main:
                run.finish({"unreadable": recordings.unreadable})
            accelerator.wait_for_everyone()
    return run


class _Part(NamedTuple):
    """The keys to pretrain on in a fold, and the speakers whose emotion labels its columns rest on."""

    fold: int
    keys: set[str]
    with_labels: list[str]
    unknown_labels: bool


def _parts(manifest: Manifest, settings: PretrainSettings, columns: dict[str, PlainColumn]) -> list[_Part]:
    """Returns what to pretrain on, fold by fold; everything as fold 1 without a protocol."""
    owner = pd.Series(manifest.owners, manifest.table["key"])
    unheard: dict[int, tuple[set[str], set[str]]] = {1: (set(), set())}
    if settings.protocol is not None:
        protocol = load_protocol(settings.protocol)
        folds = protocol.folds(protocol.select(manifest))
        unheard = {each.number: (set(owner[list(each.test)]), set(owner[list(each.dev)])) for each in folds}
    parts = []
    for fold, (tested, dev) in unheard.items():
        # Recordings that the protocol leaves out, and further corpora, may be trained on all the same.
        heard = owner[~owner.isin(tested | dev)]
        seen = labelled(manifest, columns, settings.protocol, fold, set(heard), tested)
        parts.append(_Part(fold, set(heard.index), *seen))
    return parts


class _Given(NamedTuple):
    """What all seeds and folds of a run share."""

    recordings: Recordings
    columns: dict[str, PlainColumn]
    settings: PretrainSettings
    accelerator: Accelerator
    manifest_sha256: str


def _one(given: _Given, seed: int, part: _Part, folder: RunFolder) -> None:
    """Pretrains one encoder and writes its folder."""
    recordings, columns, settings, accelerator, manifest_sha256 = given
    seed_everything(seed, accelerator.process_index)
    encoder = build_encoder(settings.encoder)
    if settings.published_weights:
        load_published(encoder)
    keys = recordings.manifest.keys
    rows = np.array([row for row, key in enumerate(keys) if key in part.keys])
    speakers, numbers = np.unique(recordings.speakers[rows], return_inverse=True)
    speaker = torch.zeros(len(keys), dtype=torch.long)
    speaker[torch.from_numpy(rows)] = torch.from_numpy(numbers)
    curves = {
        name: column.on_frames(recordings, rows, encoder.front_end, part.fold)
        for name, column in columns.items()
        if isinstance(column, CurveColumn)
    }
    values = {name: column.of(recordings, rows) for name, column in columns.items() if name not in curves}
    widths = {name: column.shape[1] for name, column in values.items() if column.ndim > 1}
    objective = _objective(settings, encoder, {"speaker": len(speakers), **widths})
    loader = _loader(given, rows, {"speaker": speaker, **values}, curves, encoder.front_end, seed)
    fit(objective, loader, settings.train, folder, accelerator=accelerator)
    if accelerator.is_main_process:
        masked, owners = settings.masked, recordings.manifest.owners
        config = {
            "encoder": settings.encoder.model_dump(mode="json"),
            "front_end": encoder.front_end.model_dump(mode="json"),
            "objective": settings.objective,
            "tasks": settings.task_weights,
            "groups": settings.groups if "group" in columns else None,
            "masking": settings.masking.model_dump(mode="json") if masked else None,
            "switches": {name: value for task in masked.values() for name, value in task},
            "protocol": settings.protocol,
            "manifest_sha256": manifest_sha256,
            "weights_from_elsewhere": settings.published_weights or part.unknown_labels,
            "speakers_seen": {
                "with_labels": part.with_labels,
                "without_labels": sorted({owners[row] for row in rows.tolist()}),
            },
        }
        save_encoder(folder / ENCODER, encoder.cpu(), config)
        folder.finish()


def _objective(settings: PretrainSettings, encoder: Encoder, sizes: dict[str, int]) -> Objective:
    """Builds the tasks that have a weight, on one encoder; ``sizes``: of columns, see TaskSpec."""
    weights = settings.task_weights
    built = {
        name: TASKS[name].build(task_class(name), settings.of_task(name), encoder, settings.masking, sizes)
        for name in weights
    }
    masked = [built.pop(name) for name in settings.masked]
    for name, objective in zip(settings.masked, masked, strict=True):
        own = objective.weights
        objective.weights = {loss: weights[name] * weight for loss, weight in own.items()}
    if not built and len(masked) == 1:
        return cast(Objective, masked[0])
    return Multitask(encoder, built, weights, settings.views, masked)


def _loader(
    given: _Given,
    rows: NDArray[np.int64],
    columns: dict[str, Tensor],
    curves: dict[str, FeatureCache],
    front_end: FrontEnd,
    seed: int,
) -> Loader:
    """Returns batches by speaker and group for tasks on views, else by length."""
    recordings, settings, size = given.recordings, given.settings, given.settings.train.batch_size
    share = {"rank": given.accelerator.process_index, "world": given.accelerator.num_processes, "seed": seed}
    # Views are made of power spectra, which only plain log-mel features allow; else batches hold waveforms.
    plain = front_end.kind == "logmel" and not front_end.deltas and not front_end.cmvn
    on_features = plain if settings.on_views else front_end.kind != "waveform"
    store = recordings.features(front_end) if on_features else recordings.waveforms
    if not settings.on_views:
        by_length = LengthBuckets(recordings.waveforms.lengths[rows], size, **share)
        return Loader(by_length, [store], rows, columns, curves)
    speakers = columns["speaker"].numpy()[rows]
    groups = columns["group"].numpy()[rows] if "group" in columns else np.zeros_like(speakers)
    by_speaker = SpeakerBatches(speakers, groups, size, settings.per_speaker, **share)
    return Loader(by_speaker, [store], rows, columns, curves)
