"""Scores of finished recognisers on their test utterances with noise added."""

import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from affetto.augment import add_noise
from affetto.config import read
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import write_table
from affetto.data import WaveformCache
from affetto.errors import RunError
from affetto.evaluation.predictions import ENROLLED, PREDICTIONS
from affetto.finetuning.run import enrolled_table, predictions_table
from affetto.material.labelled import Material
from affetto.models.checkpoint import RECOGNISER
from affetto.models.classifier import load_classifier
from affetto.progress import progress
from affetto.protocols.protocol import load_protocol
from affetto.runs import RunFolder, read_meta


class NoisyWaveforms:
    """Waveforms with pink noise added, ``snr_db`` below the speech; an utterance's key decides its noise."""

    def __init__(self, clean: WaveformCache, keys: list[str], snr_db: float) -> None:
        self.clean, self.keys, self.snr_db = clean, keys, snr_db

    def stack(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Returns rows stacked and padded, and their lengths."""
        waveforms, lengths = self.clean.stack(rows)
        for place, row in enumerate(rows.tolist()):
            generator = torch.Generator().manual_seed(zlib.crc32(self.keys[row].encode()))
            own, length = waveforms[place : place + 1], lengths[place : place + 1]
            own[:] = add_noise(own, length, torch.tensor([self.snr_db]), "pink", generator)
        return waveforms, lengths


def with_noise(run: str | Path, manifest: Manifest, snr_db: float) -> RunFolder:
    """Scores the test part of a finished run of ``finetune`` with noise, also what its speakers enrol.

    The manifest is that of the run. Returns ``RUN/noise-SNR``, which ``evaluate`` reads like a run.
    """
    run = Path(run)
    meta = read_meta(run, "finetune")
    if meta["manifest_sha256"] != manifest.sha256:
        raise RunError(f"{run} was made on another manifest; give the one that it was made on")
    out = RunFolder(run / f"noise-{snr_db:g}", "finetune")
    if out.done:
        return out
    protocol = load_protocol(str(read(run / "config.yaml")["protocol"]))
    material = Material(manifest, protocol)
    store = NoisyWaveforms(material.waveforms, material.manifest.keys, snr_db)
    plain, enrolled = [], []
    pairs = [(seed, fold) for seed in meta["seeds"] for fold in protocol.folds(material.manifest)]
    for seed, fold in progress(pairs, "noise"):
        folder = run / f"seed-{seed}" / f"fold-{fold.number}" / RECOGNISER
        classifier, _ = load_classifier(folder)
        test = material.rows(fold.test)
        vectors = torch.zeros(len(material.truth), classifier.dim)
        vectors[torch.from_numpy(test)] = material.embed(classifier, test, store, "waveforms")
        classifier.cpu()
        with torch.no_grad():
            found = classifier.answers(vectors[torch.from_numpy(test)]).double().numpy()
        place = {"fold": fold.number, "seed": seed, "method": str(meta["method"])}
        plain.append(predictions_table(material, test, found, "test").assign(**place))
        if classifier.enrolment is not None:
            table = enrolled_table(material, classifier, vectors, test, seed, fold.number)
            enrolled.append(table.assign(**place))
    out.path.mkdir(exist_ok=True)
    write_table(pd.concat(plain, ignore_index=True), out / PREDICTIONS)
    if enrolled:
        write_table(pd.concat(enrolled, ignore_index=True), out / ENROLLED)
    out.finish({**meta, "noise_db": snr_db})
    return out
