"""Noise on test utterances: the right amount, the same every time, and nothing where there is none."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from affetto.corpora.manifest import Manifest
from affetto.data import WaveformCache
from affetto.errors import RunError
from affetto.evaluation.run import ENROLLED, PREDICTIONS, evaluate
from affetto.experiment.noise import NoisyWaveforms, with_noise
from affetto.finetuning.run import finetune
from affetto.runs import RunFolder
from smallest import tiny


@pytest.fixture(scope="module")
def run(corpus: Manifest, protocol: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return finetune(corpus, tiny(protocol), tmp_path_factory.mktemp("noise") / "run")


def probabilities(folder: RunFolder, name: str) -> pd.DataFrame:
    table = pd.read_parquet(folder / name)
    index = ["key", *(["enrolment", "mix"] if name == ENROLLED else [])]
    table = table[table["part"] == "test"].set_index(index).sort_index()
    return table[[column for column in table if str(column).startswith("p_")]]


def test_noise_is_as_loud_as_it_says_and_each_utterance_has_its_own(corpus: Manifest) -> None:
    clean = WaveformCache.open(corpus)
    noisy = NoisyWaveforms(clean, corpus.keys, 10.0)
    rows = np.array([3, 7, 8])
    before, lengths = clean.stack(rows)
    after, _ = noisy.stack(rows)
    for place, length in enumerate(lengths.tolist()):
        speech = before[place, :length]
        added = after[place, :length] - speech
        ratio = 10 * float(torch.log10(speech.square().mean() / added.square().mean()))
        assert ratio == pytest.approx(10.0, abs=0.01)
        assert not after[place, length:].any()
    alone, _ = noisy.stack(rows[1:2])
    torch.testing.assert_close(alone[0, : lengths[1]], after[1, : lengths[1]])


def test_next_to_no_noise_changes_nothing_and_much_of_it_does(run: RunFolder, corpus: Manifest) -> None:
    for name in (PREDICTIONS, ENROLLED):
        faint, loud = with_noise(run.path, corpus, 120.0), with_noise(run.path, corpus, -10.0)
        expected = probabilities(run, name)
        pd.testing.assert_frame_equal(probabilities(faint, name), expected, atol=1e-5)
        assert (probabilities(loud, name) - expected).abs().to_numpy().max() > 1e-3
    report = evaluate(with_noise(run.path, corpus, -10.0).path, run.path)
    assert "uar" in report.differences


def test_a_run_of_another_manifest_is_refused(run: RunFolder, corpus: Manifest) -> None:
    other = corpus.where(corpus.keys[:-1])
    with pytest.raises(RunError, match="another manifest"):
        with_noise(run.path, other, 10.0)
