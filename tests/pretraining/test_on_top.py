"""A network on top of fixed vectors: what it learns from, what is kept, and a recogniser on both."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from affetto.corpora.manifest import Manifest
from affetto.errors import ConfigError
from affetto.evaluation.run import evaluate
from affetto.finetuning.run import finetune
from affetto.finetuning.settings import finetune_settings
from affetto.inference.loading import load_representation
from affetto.material.recordings import Recordings
from affetto.models.classifier import load_classifier
from affetto.models.embedders import Joined
from affetto.models.representation import named_vectors
from affetto.pretraining.run import pretrain
from affetto.pretraining.settings import PretrainSettings, pretrain_settings
from affetto.protocols.protocol import load_protocol
from affetto.runs import RunFolder

NAME, FOLD, WIDTH = "filterbank-statistics", "seed-0/fold-1", 8
TINY = (f"encoder.top.width={WIDTH}", "encoder.top.hidden=16", "train.epochs=2", "train.batch_size=24")


def settings(*words: str, **given: object) -> PretrainSettings:
    asked = {"groups": "text", "encoder": {"name": NAME}, **given}
    return pretrain_settings(None, (*TINY, "per_speaker=6", *words), **asked)


@pytest.fixture(scope="module")
def run(corpus: Manifest, protocol: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return pretrain(corpus, settings(protocol=str(protocol)), tmp_path_factory.mktemp("top") / "run")


@pytest.fixture(scope="module")
def few(
    corpus: Manifest, protocol: Path, run: RunFolder, tmp_path_factory: pytest.TempPathFactory
) -> RunFolder:
    given = finetune_settings(protocol=str(protocol), encoder=str(run.path), label_fraction=0.2)
    return finetune(corpus, given, tmp_path_factory.mktemp("few") / "run")


def test_incoming_vectors_are_standardised_on_training_speakers_and_only_the_network_is_kept(
    corpus: Manifest, protocol: Path, run: RunFolder
) -> None:
    kept = load_file(run / FOLD / "encoder" / "model.safetensors")
    assert {name.split(".")[0] for name in kept} == {"standardise", "layers"}
    vectors = load_representation(NAME).embedder
    assert vectors is not None
    fold = load_protocol(str(protocol)).folds(corpus)[0]
    recordings = Recordings(corpus)
    own = recordings.vectors(vectors)[torch.from_numpy(recordings.rows(fold.train))]
    torch.testing.assert_close(kept["standardise.mean"], own.mean(0))
    torch.testing.assert_close(kept["standardise.deviation"], own.std(0, correction=0))


def test_what_came_in_stays_beside_what_was_learned(corpus: Manifest, few: RunFolder) -> None:
    classifier, _ = load_classifier(few / "recogniser")
    embedder = classifier.embedder
    assert isinstance(embedder, Joined)
    (alone,) = embedder.embedders
    recordings = Recordings(corpus.where(corpus.keys[:3]))
    both, incoming = recordings.vectors(embedder), recordings.vectors(alone)
    assert both.shape[1] == incoming.shape[1] + WIDTH == embedder.dim
    torch.testing.assert_close(both[:, :-WIDTH], incoming)
    assert embedder.learned.sum() == WIDTH
    features = recordings.waveforms.stack(np.arange(3))
    heard = embedder(*embedder.front_end(*features))
    torch.testing.assert_close(heard, both, rtol=1e-3, atol=1e-3)


def test_the_network_learns_from_the_groups(run: RunFolder) -> None:
    log = pd.read_json(run / FOLD / "metrics.jsonl", lines=True)
    assert log["contrastive"].iloc[-1] < log["contrastive"].iloc[0]


def test_speakers_of_few_labels_are_enrolled_by_their_other_utterances(few: RunFolder) -> None:
    table = pd.read_parquet(few / "enrolled.parquet")
    assert {"0", "5"} <= set(table["enrolment"])


def test_enrolled_runs_are_compared_under_the_same_enrolment(few: RunFolder) -> None:
    gap = evaluate(few.path, few.path, enrolment=5).differences["uar"]
    assert gap.value == 0
    assert evaluate(few.path, enrolment=5).differences["uar"].value != 0  # to none enrolled


def test_a_run_is_a_representation(run: RunFolder) -> None:
    found = load_representation(run.path)
    named = named_vectors(NAME)
    assert named is not None
    assert found.dim == load_representation(NAME).dim + WIDTH
    assert found.encoder is None


def test_parts_that_need_frames_are_refused() -> None:
    with pytest.raises(ConfigError, match="mockingjay for fixed vectors, which have no frames"):
        settings(objective="mockingjay", groups="cluster")
    with pytest.raises(ConfigError, match="settings of views for fixed vectors"):
        settings("views.crop_seconds=1")
