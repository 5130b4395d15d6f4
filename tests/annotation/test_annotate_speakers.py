"""annotate speakers, end to end: what is embedded once is never embedded again, whatever comes between."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor
from typer.testing import CliRunner

from affetto.annotation import run_speakers as annotate
from affetto.annotation.run_speakers import SpeakerSettings, annotate_speakers
from affetto.audio import decode, from_int16, to_int16
from affetto.cli import app
from affetto.config import build
from affetto.corpora.arrays import content_hash, read_vectors, vector_info, vector_places
from affetto.corpora.manifest import Manifest
from affetto.errors import ConfigError, ManifestError, RunError
from affetto.features import FrontEnd
from affetto.inference import writers
from affetto.inference.loading import load_speaker
from affetto.models.encoder import Embedder
from affetto.models.representation import Representation
from affetto.runs import RunFolder


class Counting(Embedder):
    """Mean, largest value and length of an utterance; counts the utterances."""

    def __init__(self) -> None:
        super().__init__()
        self.front_end, self.dim, self.count = FrontEnd(kind="waveform"), 3, 0
        self.settings, self.batch_seconds = "", 20.0

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        different = len({row.numpy().tobytes() for row in features})  # a lone one is computed twice
        self.count += different  # counted before, since threads take turns
        own = [row[:length, 0] for row, length in zip(features, lengths.tolist(), strict=True)]
        return torch.tensor([[row.mean(), row.max(), len(row)] for row in own])


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    """Stands in for every encoder; its hash is that of its name."""
    network = Counting()

    def load(name: str, device: str, taper: str) -> Representation:
        network.settings = f"of {name}"
        return Representation(None, network, name=name)

    monkeypatch.setattr(annotate, "load_speaker", load)
    return network


def expected(manifest: Manifest) -> NDArray[np.float32]:
    sounds = [from_int16(to_int16(decode(path))) for path in manifest.paths]
    return np.array([[sound.mean(), sound.max(), len(sound)] for sound in sounds], np.float32)


def again(run: RunFolder) -> Manifest:
    return Manifest.read(run / "manifest.csv")


def test_the_command_writes_a_manifest_and_a_memory_mapped_array(listed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["annotate", "speakers", str(listed), "--encoder", "ge2e", "-o", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert f"{out / 'manifest.csv'}: 60 utterances, 60 vectors of ge2e, 0 unreadable" in result.output
    before, after = Manifest.read(listed), Manifest.read(out / "manifest.csv")
    pd.testing.assert_frame_equal(after.table.drop(columns="speaker_embedding"), before.table)
    assert after.roots == before.roots
    assert after.sha256 == before.sha256
    ge2e = load_speaker("ge2e")
    sounds = [torch.from_numpy(decode(path))[None] for path in before.paths[:3]]
    alone = [ge2e(sound, torch.tensor([sound.shape[1]]))[0].numpy() for sound in sounds]
    np.testing.assert_allclose(read_vectors(after, encoder="ge2e")[:3], alone, atol=1e-3)
    assert isinstance(np.load(out / "speaker_embedding.npy", mmap_mode="r"), np.memmap)
    (info,) = vector_info(after)
    assert info["hashes"][0] == content_hash(to_int16(decode(before.paths[0])))
    assert (info["dim"], info["weights_from_elsewhere"]) == (256, True)
    assert info["speakers_seen"]["with_labels"] == "unknown"
    left = {path.name for path in out.iterdir()}
    assert not [name for name in left if ".part" in name]
    assert {"DONE", "config.yaml", "env.json", "meta.json", "speaker_embedding.json"} < left
    stamp = (out / "speaker_embedding.npy").stat().st_mtime_ns
    result = CliRunner().invoke(app, command)
    assert (result.exit_code, result.output.splitlines()[0]) == (0, "finished before; nothing to do")
    assert (out / "speaker_embedding.npy").stat().st_mtime_ns == stamp


def test_equal_sound_is_embedded_once(corpus: Manifest, counting: Counting, tmp_path: Path) -> None:
    audio = tmp_path / "audio"
    shutil.copytree(next(iter(corpus.roots.values())), audio)
    file = Path(str(corpus.table["file"][0]))
    samples, rate = soundfile.read(audio / file, dtype="int16")
    soundfile.write(audio / "same.wav", samples, rate, subtype="PCM_16")
    extra = corpus.table.iloc[[0, 1]].assign(key=["same", "part"], file=["same.wav", str(file)])
    extra["end"] = [np.nan, 0.5]
    table = pd.concat([corpus.table, extra], ignore_index=True)
    run = annotate_speakers(Manifest(table, {"toy": audio}), SpeakerSettings(), tmp_path / "run")
    assert counting.count == 61
    places = vector_places(again(run))[1].tolist()
    assert places[60] == places[0]
    assert places[61] not in places[:60]
    np.testing.assert_allclose(read_vectors(again(run))[:60], expected(corpus), rtol=1e-4, atol=1e-6)
    assert json.loads((run / "meta.json").read_text())["vectors"] == 61


SLOW = """
import sys, time
sys.path.insert(0, {tests!r})
import torch
from affetto.annotation import run_speakers as annotate
from affetto.inference import pipeline, writers
from affetto.models.representation import Representation
import test_annotate_speakers

class Counting(test_annotate_speakers.Counting):  # of the same name, so that its hash is the same
    def forward(self, features, lengths):
        time.sleep(0.1)
        return super().forward(features, lengths)

slow = Counting()
slow.settings, slow.batch_seconds = "of ge2e", 6.0
annotate.load_speaker = lambda *_: Representation(None, slow, name="ge2e")
pipeline.CHUNK_PIECES = writers.SHARD_CLIPS = 8
annotate.annotate_speakers({listed!r}, annotate.SpeakerSettings(), {out!r}, workers=1)
"""


def test_a_killed_run_goes_on_where_it_was(
    listed: Path, corpus: Manifest, counting: Counting, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    code = SLOW.format(tests=str(Path(__file__).parent), listed=str(listed), out=str(out))
    process = subprocess.Popen([sys.executable, "-c", code])
    part = out / "speaker_embedding.part"
    until = time.monotonic() + 60
    while len(list(part.glob("part-*.parquet"))) < 2:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    stored = 8 * len(list(part.glob("part-*.parquet")))
    assert 16 <= stored < 60
    assert not (out / "DONE").exists()
    run = annotate_speakers(listed, SpeakerSettings(), out)
    assert counting.count <= 60 - stored
    straight = annotate_speakers(listed, SpeakerSettings(), tmp_path / "straight")
    assert (run / "manifest.csv").read_text() == (straight / "manifest.csv").read_text()
    np.testing.assert_allclose(
        np.load(run / "speaker_embedding.npy"), np.load(straight / "speaker_embedding.npy"), rtol=1e-5
    )
    assert vector_info(again(run)) == vector_info(again(straight))
    np.testing.assert_allclose(read_vectors(again(run)), expected(corpus), rtol=1e-4, atol=1e-6)


def test_what_was_half_written_is_computed_again(
    listed: Path, corpus: Manifest, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writers, "SHARD_CLIPS", 16)
    with monkeypatch.context() as context:
        context.setattr(annotate, "write_vectors", stop)
        with pytest.raises(KeyboardInterrupt):
            annotate_speakers(listed, SpeakerSettings(), tmp_path / "run")
    assert counting.count == 60
    shards = sorted((tmp_path / "run" / "speaker_embedding.part").glob("part-*.parquet"))
    assert len(shards) == 4
    content = bytearray(shards[2].read_bytes())
    content[600] ^= 1  # a disk that lost its power: a flipped bit, and a shard that is cut short
    shards[2].write_bytes(content)
    shards[3].write_bytes(shards[3].read_bytes()[:-9])
    run = annotate_speakers(listed, SpeakerSettings(), tmp_path / "run")
    assert counting.count == 60 + 28
    np.testing.assert_allclose(read_vectors(again(run)), expected(corpus), rtol=1e-4, atol=1e-6)
    assert not list((tmp_path / "run").glob("*.part*"))


@pytest.fixture
def damaged(corpus: Manifest, tmp_path: Path) -> Path:
    """The corpus with one recording that is no sound, one that is empty and one that is gone."""
    audio = tmp_path / "audio"
    shutil.copytree(next(iter(corpus.roots.values())), audio)
    files = [audio / str(file) for file in corpus.table["file"][[3, 20, 59]]]
    files[0].write_text("no sound")
    files[1].write_bytes(b"")
    files[2].unlink()
    Manifest(corpus.table, {"toy": audio}).write(tmp_path / "damaged.csv")
    return tmp_path / "damaged.csv"


def test_bad_recordings_are_listed_and_can_be_added_later(
    damaged: Path, corpus: Manifest, counting: Counting, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    for _ in range(2):  # also when it was finished before
        result = CliRunner().invoke(app, ["annotate", "speakers", str(damaged), "-o", str(out)])
        assert result.exit_code == 1, result.output
        for row in (3, 20, 59):
            assert f"unreadable: {corpus.keys[row]}: " in result.output
        assert "60 utterances, 57 vectors of ge2e, 3 unreadable" in result.output
    first = Manifest.read(out / "manifest.csv")
    assert np.flatnonzero(vector_places(first)[1][:, 0] < 0).tolist() == [3, 20, 59]
    with pytest.raises(ManifestError, match="empty in 3 rows"):
        read_vectors(first)
    for file in corpus.table["file"]:
        shutil.copy(next(iter(corpus.roots.values())) / str(file), tmp_path / "audio" / str(file))
    counting.count = 0
    run = annotate_speakers(out / "manifest.csv", SpeakerSettings(), tmp_path / "repaired")
    assert counting.count == 3
    np.testing.assert_allclose(read_vectors(again(run)), expected(corpus), rtol=1e-4, atol=1e-6)


def test_a_wrong_root_is_an_error_that_says_so(listed: Path, counting: Counting, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"none of the 60 utterances .* no such file.*--root"):
        annotate_speakers(Manifest.read(listed, tmp_path), SpeakerSettings(), tmp_path / "run")
    run = annotate_speakers(listed, SpeakerSettings(), tmp_path / "run")  # and the right one goes on
    assert len(read_vectors(again(run))) == 60


def test_an_extended_corpus_costs_what_is_new(corpus: Manifest, counting: Counting, tmp_path: Path) -> None:
    old = annotate_speakers(corpus.where(corpus.keys[:50]), SpeakerSettings(), tmp_path / "old")
    table = pd.concat([again(old).table, corpus.table.iloc[50:]], ignore_index=True)
    counting.count = 0
    new = annotate_speakers(Manifest(table, corpus.roots), SpeakerSettings(), tmp_path / "new")
    assert counting.count == 10
    shutil.rmtree(old.path)
    np.testing.assert_allclose(read_vectors(again(new)), expected(corpus), rtol=1e-4, atol=1e-6)


def test_vectors_of_another_encoder_or_gone_ones_are_made_anew(
    corpus: Manifest, counting: Counting, tmp_path: Path
) -> None:
    manifest = corpus.where(corpus.keys[:5])
    old = annotate_speakers(manifest, SpeakerSettings(), tmp_path / "old")
    other = annotate_speakers(again(old), SpeakerSettings(encoder="other"), tmp_path / "other")
    assert counting.count == 10
    assert vector_info(again(other))[0]["encoder"] == "other"
    both = annotate_speakers(again(old), SpeakerSettings(encoder="other", name="voice"), tmp_path / "both")
    np.testing.assert_array_equal(
        read_vectors(again(both), "voice", "other"), read_vectors(again(both), encoder="ge2e")
    )
    (tmp_path / "old" / "speaker_embedding.npy").unlink()
    annotate_speakers(again(old), SpeakerSettings(), tmp_path / "anew")
    assert counting.count == 20


def test_a_folder_of_other_settings_weights_or_utterances_is_refused(
    corpus: Manifest, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = corpus.where(corpus.keys[:5])
    annotate_speakers(manifest, SpeakerSettings(), tmp_path / "run")
    with pytest.raises(RunError, match="other settings"):
        annotate_speakers(manifest, SpeakerSettings(encoder="other"), tmp_path / "run")
    with pytest.raises(RunError, match="manifest_sha256"):
        annotate_speakers(corpus, SpeakerSettings(), tmp_path / "run")
    (tmp_path / "run" / "DONE").unlink()
    counting.register_buffer("other", torch.ones(1))
    with pytest.raises(RunError, match="encoder_sha256"):
        annotate_speakers(manifest, SpeakerSettings(), tmp_path / "run")
    with RunFolder(tmp_path / "run").locked(), pytest.raises(RunError, match="another process"):
        annotate_speakers(manifest, SpeakerSettings(), tmp_path / "run")


def test_an_encoder_that_gives_no_number_is_said_so(
    corpus: Manifest, counting: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(features: Tensor, lengths: Tensor) -> Tensor:
        vectors = Counting.forward(counting, features, lengths)
        vectors[vectors[:, 2] == len(decode(corpus.paths[2]))] = float("nan")
        return vectors

    monkeypatch.setattr(counting, "forward", odd)
    run = annotate_speakers(corpus.where(corpus.keys[:3]), SpeakerSettings(), tmp_path / "run")
    faults = json.loads((run / "meta.json").read_text())["unreadable"]
    assert "gives no finite embedding" in faults[corpus.keys[2]]
    assert vector_places(again(run))[1][2].tolist() == [-1, -1]
    assert np.isfinite(np.load(run / "speaker_embedding.npy")).all()


@pytest.mark.parametrize("name", ["speaker", "manifest", "meta", "../up", "a b", ""])
def test_a_name_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="name: got"):
        build(SpeakerSettings, {"name": name})


def test_a_column_of_something_else_is_not_overwritten(
    corpus: Manifest, counting: Counting, tmp_path: Path
) -> None:
    manifest = Manifest(corpus.table.assign(mood="low"), corpus.roots)
    with pytest.raises(ManifestError, match=r"the column 'mood' holds 'low'; FILE\.npy#ROW is needed"):
        annotate_speakers(manifest, SpeakerSettings(name="mood"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_misspelt_encoder_leaves_no_folder(listed: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'ge2e'"):
        annotate_speakers(listed, SpeakerSettings(encoder="ge2"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_utterance_that_waits_takes_few_bytes(corpus: Manifest) -> None:
    rows = 3000
    table = corpus.table.iloc[np.zeros(rows, int)].assign(key=[f"u{row}" for row in range(rows)])
    manifest = Manifest(table, corpus.roots)
    tracemalloc.start()
    try:
        todo = annotate._Todo(manifest, bytearray(b"1" * rows))
        assert tracemalloc.get_traced_memory()[1] < 100 * rows
    finally:
        tracemalloc.stop()
    assert [clip.utterance for clip in todo] == manifest.keys
    assert {todo.state(clip) for clip in todo} == {todo.states[0].decode()}
