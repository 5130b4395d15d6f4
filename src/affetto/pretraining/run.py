"""``pretrain``: trains an encoder on speech without emotion labels."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from numpy.typing import NDArray
from torch import Tensor

from affetto.corpora.arrays import marks_of
from affetto.corpora.manifest import Manifest
from affetto.data import FixedVectors, LengthBuckets, Loader, ShardBatches, SpeakerBatches, Store
from affetto.data.batches import EpochBatches, by_length, by_speaker
from affetto.material.recordings import Framed, Recordings
from affetto.models.checkpoint import ENCODER, save_encoder
from affetto.models.embedders import Joined, JoinedSettings, build_embedder, build_encoder, load_published
from affetto.models.encoder import Encoder
from affetto.models.layers import POOLINGS
from affetto.objectives.tasks import TASKS, task_class
from affetto.objectives.views import Multitask
from affetto.optimising import make_accelerator, seed_everything
from affetto.pretraining.columns import CurveColumn, PlainColumn, task_columns
from affetto.pretraining.settings import PretrainSettings
from affetto.progress import progress
from affetto.protocols.protocol import load_protocol
from affetto.runs import RunFolder
from affetto.training import fit


def pretrain(
    manifest: str | Path | Manifest, settings: PretrainSettings, out: str | Path, *, device: str = "auto"
) -> RunFolder:
    """Pretrains an encoder for each seed and fold; emotion labels are used only where a column rests on them.

    The same call again continues an unfinished run. Under ``torchrun`` several processes share every batch.

    Args:
        manifest: the utterances, with a speaker each and the columns that the tasks ask for.
        settings: from :func:`~affetto.pretraining.settings.pretrain_settings`.
        out: the run folder; encoders are in ``OUT/seed-S/fold-F/encoder``.
        device: where networks run, e.g. ``cpu``; ``auto`` for a GPU where there is one.

    Raises:
        ManifestError: for a missing column, with the verb that makes it.
        ProtocolError: when the protocol does not fit the manifest.
        LeakError: when curves rest on labels of speakers that the protocol tests.
    """
    manifest = Manifest.of(manifest)
    columns = task_columns(manifest, settings)
    parts = _parts(manifest, settings, columns)
    run = RunFolder(out, "pretrain")
    accelerator = make_accelerator(settings.train, device)
    main = accelerator.is_main_process
    with run.locked() if main else nullcontext():
        # So that new clusters are not taken for the old ones: a manifest's own hash leaves them out.
        known = {name: column.sha256 for name, column in columns.items()}
        started = main and run.start(settings, **manifest.facts, knowledge_sha256=known)
        if broadcast_object_list([started])[0]:
            recordings = Recordings(manifest, accelerator.device, bool(settings.shuffle_buffer))
            given = _Given(recordings, columns, settings, accelerator, manifest.sha256)
            pairs = [(seed, part) for seed in settings.seeds for part in parts]
            for seed, part in progress(pairs, settings.objective):
                folder = RunFolder(run / f"seed-{seed}" / f"fold-{part.fold}")
                if not folder.done:
                    folder.path.mkdir(parents=True, exist_ok=True)
                    _one(given, seed, part, folder)
            accelerator.wait_for_everyone()
            unreadable = gather_object([recordings.unreadable])
            if main:
                run.finish({"unreadable": {key: why for each in unreadable for key, why in each.items()}})
            accelerator.wait_for_everyone()
    return run


class _Part(NamedTuple):
    """The keys to pretrain on in a fold, and the speakers whose emotion labels its columns rest on."""

    fold: int
    keys: list[str]
    with_labels: list[str]
    unknown_labels: bool


def _parts(manifest: Manifest, settings: PretrainSettings, columns: dict[str, PlainColumn]) -> list[_Part]:
    """Returns what to pretrain on, fold by fold; everything as fold 1 without a protocol."""
    owner = pd.Series(manifest.owners, manifest.table["key"])
    kept_out: dict[int, tuple[set[str], set[str]]] = {1: (set(), set())}
    if settings.protocol is not None:
        protocol = load_protocol(settings.protocol)
        folds = protocol.folds(protocol.select(manifest))
        kept_out = {each.number: (set(owner[list(each.test)]), set(owner[list(each.dev)])) for each in folds}
    parts = []
    for fold, (tested, dev) in kept_out.items():
        # Recordings that the protocol leaves out, and further corpora, may be trained on all the same.
        trained = owner[~owner.isin(tested | dev)]
        with_labels, unknown = set[str](), False
        for column in columns.values():
            for name in column.columns:
                marks = marks_of(manifest, name)
                with_labels |= {*marks.speakers(fold), *(trained if marks.labels_used else ())}
                unknown |= marks.unknown and isinstance(column, CurveColumn)
            if isinstance(column, CurveColumn):
                column.check(settings.protocol, fold, tested)
        parts.append(_Part(fold, trained.index.tolist(), sorted(with_labels), unknown))
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
    recordings, columns, settings, accelerator, _ = given
    seed_everything(seed, accelerator.process_index)
    rows = recordings.rows(part.keys)
    encoder, vectors = _encoder(settings, recordings, rows)
    front_end = encoder.front_end
    curves = {
        name: column.on_frames(recordings, rows, front_end, part.fold)
        for name, column in columns.items()
        if isinstance(column, CurveColumn)
    }
    values = {name: column.of(recordings, rows) for name, column in columns.items() if name not in curves}
    sizes = {name: column.shape[1] for name, column in values.items() if column.ndim > 1}
    names, numbers = np.unique(recordings.speakers[rows], return_inverse=True)
    sizes["speaker"] = len(names)
    values["speaker"] = torch.zeros(len(recordings.speakers), dtype=torch.long)
    values["speaker"][torch.from_numpy(rows)] = torch.from_numpy(numbers)
    objective = _objective(settings, encoder, sizes)
    # Views are made of power spectra, which only plain log-mel features allow; else batches hold waveforms.
    plain = front_end.kind == "logmel" and not front_end.deltas and not front_end.cmvn
    on_features = plain if settings.on_views else front_end.kind != "waveform"
    store: Store = recordings.waveforms
    if vectors is not None:
        store = FixedVectors(vectors)
    elif on_features and recordings.streamed:
        store = Framed(store, front_end, accelerator.device)
    elif on_features:
        store = recordings.features(front_end)
    groups = values["group"].numpy()[rows] if "group" in values else np.zeros_like(numbers)
    share = {"rank": accelerator.process_index, "world": accelerator.num_processes, "seed": seed}
    buckets = _batches(settings, recordings, rows, numbers, groups, share)
    loader = Loader(buckets, [store], rows, values, curves, accelerator.device)
    fit(objective, loader, settings.train, folder, accelerator=accelerator)
    if accelerator.is_main_process:
        save_encoder(folder / ENCODER, encoder.cpu(), _config(given, part, encoder, rows))
        folder.finish()


def _batches(
    settings: PretrainSettings,
    recordings: Recordings,
    rows: NDArray[np.int64],
    speakers: NDArray[np.int64],
    groups: NDArray[np.int64],
    share: dict[str, int],
) -> EpochBatches:
    """Returns which utterances go together; ``speakers`` and ``groups`` are those of ``rows``, ``(M,)``."""
    size, lengths = settings.train.batch_size, recordings.waveforms.lengths[rows]
    if recordings.streamed and not isinstance(settings.encoder, JoinedSettings):

        def order(places: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
            if settings.on_views:
                return by_speaker(places, speakers, groups, settings.per_speaker, generator)
            return by_length(places, lengths, generator)

        shards = recordings.waveforms.by_shard(rows)
        batches = ShardBatches(shards, size, settings.shuffle_buffer, order, **share)
        recordings.waveforms.keep = batches.together
        return batches
    if settings.on_views:
        return SpeakerBatches(speakers, groups, size, settings.per_speaker, **share)
    return LengthBuckets(lengths, size, **share)


def _encoder(
    settings: PretrainSettings, recordings: Recordings, rows: NDArray[np.int64]
) -> tuple[Encoder, Tensor | None]:
    """Returns what is trained, and where it reads fixed vectors all of these, ``(N, D)``."""
    if not isinstance(settings.encoder, JoinedSettings):
        encoder = build_encoder(settings.encoder)
        return load_published(encoder) if settings.published_weights else encoder, None
    network = build_embedder(settings.encoder)
    assert isinstance(network, Joined)
    assert network.top is not None
    if settings.published_weights:
        load_published(network)
    vectors = torch.cat([recordings.vectors(part.eval()) for part in network.embedders], dim=1)
    network.top.standardise.fit(vectors[torch.from_numpy(rows)])
    return network.top, vectors


def _config(given: _Given, part: _Part, encoder: Encoder, rows: NDArray[np.int64]) -> dict[str, Any]:
    """Returns what is kept of an encoder apart from its weights."""
    settings, owners = given.settings, given.recordings.manifest.owners
    masked = [settings.of_task(name) for name in settings.task_weights if TASKS[name].masked]
    return {
        "encoder": settings.encoder.model_dump(mode="json"),
        "front_end": encoder.front_end.model_dump(mode="json"),
        "objective": settings.objective,
        "tasks": settings.task_weights,
        "groups": settings.groups if "group" in given.columns else None,
        "masking": settings.masking.model_dump(mode="json") if masked else None,
        "switches": {name: value for task in masked for name, value in task},
        "protocol": settings.protocol,
        "manifest_sha256": given.manifest_sha256,
        "weights_from_elsewhere": settings.published_weights or part.unknown_labels,
        "speakers_seen": {
            "with_labels": part.with_labels,
            "without_labels": sorted({owners[row] for row in rows.tolist()}),
        },
    }


def _objective(settings: PretrainSettings, encoder: Encoder, sizes: dict[str, int]) -> Multitask:
    """Builds the tasks that have a weight, on one encoder; ``sizes``: of columns, see TaskSpec."""
    sizes = {**sizes, "pooled": POOLINGS[settings.views.pooling](encoder.dim).dim}
    tasks = {
        name: TASKS[name].build(task_class(name), settings.of_task(name), encoder, settings.masking, sizes)
        for name in settings.task_weights
    }
    return Multitask(encoder, tasks, settings.task_weights, settings.views)
