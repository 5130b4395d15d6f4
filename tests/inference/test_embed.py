"""Vectors of recordings are what the encoder says of each alone, in any way asked for and interrupted."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from affetto.audio import decode
from affetto.cli import app
from affetto.corpora.manifest import Manifest
from affetto.errors import AffettoError, CheckpointError, ConfigError, ManifestError, RunError
from affetto.finetuning.run import save_recogniser
from affetto.inference import embedding, writers
from affetto.inference.embedding import embed, vectors_of_clips
from affetto.inference.loading import load_representation
from affetto.inference.pipeline import Plan
from affetto.inference.sources import clips
from affetto.models.checkpoint import save_encoder
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.models.embedders import FunctionalsSettings, NetworkSettings
from affetto.models.encoder import Encoder
from affetto.models.logmel import Cnn, CnnSettings, Tdnn, TdnnSettings
from affetto.models.representation import Representation, read_layer
from helpers import recogniser_config

CNN = CnnSettings(width=16, bins=16, blocks=2)
ALIKE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    torch.manual_seed(3)
    return Cnn(CNN).eval()


@pytest.fixture(scope="module")
def pretrained(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of pretrain, as far as anybody looks at it."""
    run = tmp_path_factory.mktemp("runs") / "vectors"
    config = {
        "encoder": CNN.model_dump(mode="json"),
        "objective": "multitask",
        "tasks": {"vector": 1.0},
        "groups": None,
        "speakers_seen": {"with_labels": [], "without_labels": ["toy/f01"]},
        "protocol": "toy-5",
    }
    save_encoder(run / "seed-0" / "fold-1" / "encoder", encoder, config)
    return run


def recogniser(folder: Path, embedder: Any) -> tuple[Path, EmotionClassifier]:
    torch.manual_seed(4)
    classifier = EmotionClassifier(ClassifierSettings(embedder=embedder, labels=("joy", "grief"))).eval()
    save_recogniser(folder, classifier, recogniser_config(classifier))
    return folder, classifier


def sound(seconds: float, seed: int = 0, rate: int = 16_000) -> NDArray[np.float32]:
    times = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(size=len(times))
    return (0.2 * np.sin(2 * np.pi * (120 + 30 * seed) * times) + 0.02 * noise).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six recordings of all lengths: one of 8 kHz and two channels, one silent."""
    root = tmp_path / "audio"
    root.mkdir()
    for number in range(6):
        soundfile.write(root / f"{number}.flac", sound(0.15 + 0.5 * (5 - number), number), 16_000)
    stereo = np.stack([sound(1.0, 7, 8000), sound(1.0, 8, 8000)], axis=1)
    soundfile.write(root / "1.flac", stereo, 8000)
    soundfile.write(root / "2.flac", np.zeros(9000), 16_000)
    return root


def frames_alone(encoder: Encoder, path: Path) -> list[NDArray[np.float32]]:
    """Every layer of one file, by itself."""
    samples = torch.from_numpy(decode(path))[None]
    with torch.no_grad():
        found = encoder(*encoder.front_end(samples, torch.tensor([samples.shape[1]])))
    return [layer[0].numpy() for layer in found.layers]


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["embed", *map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stderr


# what it gives


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (None, lambda layers: layers[-1]),
        ("last", lambda layers: layers[-1]),
        ("1", lambda layers: layers[1]),
        ("0", lambda layers: layers[0]),
        ("mean", lambda layers: np.mean(layers, axis=0)),
        ("all", lambda layers: np.concatenate(layers, axis=1)),
    ],
)
def test_vectors_are_means_over_frames_and_frames_are_the_encoders(
    pretrained: Path, encoder: Encoder, folder: Path, tmp_path: Path, layer: str | None, expected: Any
) -> None:
    chosen = ["--layer", layer] if layer else []
    assert run(folder, "-e", pretrained, "-o", tmp_path / "v.npy", *chosen)[0] == 0
    assert run(folder, "-e", pretrained, "-o", tmp_path / "f.npy", "--frames", *chosen)[0] == 0
    vectors, frames = np.load(tmp_path / "v.npy"), np.load(tmp_path / "f.npy")
    named, counted = pd.read_csv(tmp_path / "v.csv"), pd.read_csv(tmp_path / "f.csv")
    assert vectors.dtype == frames.dtype == np.float32
    assert named["row"].tolist() == list(range(6))
    assert (counted["hop_seconds"] == encoder.hop_seconds).all()
    assert counted["frames"].sum() == len(frames)
    for place, number in enumerate(range(6)):
        path = folder / f"{number}.flac"
        alone = expected(frames_alone(encoder, path))
        assert named["file"][place] == str(path)
        np.testing.assert_allclose(vectors[place], alone.mean(0), **ALIKE)
        first = int(counted["row"][place])
        own = frames[first : first + int(counted["frames"][place])]
        np.testing.assert_allclose(own, alone, **ALIKE)


def test_parquet_holds_vectors_and_frames_in_its_rows(
    pretrained: Path, encoder: Encoder, folder: Path, tmp_path: Path
) -> None:
    (folder / "3.flac").write_bytes(b"no sound")
    assert run(folder, "-e", pretrained, "-o", tmp_path / "v.parquet")[0] == 1
    assert run(folder, "-e", pretrained, "-o", tmp_path / "f.parquet", "--frames")[0] == 1
    table, framed = (pd.read_parquet(tmp_path / name) for name in ("v.parquet", "f.parquet"))
    assert list(table) == ["key", "file", "start", "end", "vector", "warning", "error"]
    assert table["error"].notna().tolist() == [False] * 3 + [True] + [False] * 2
    assert table["vector"][3] is None
    assert framed["frames"][3] is None
    for place in (0, 1, 2, 4, 5):
        alone = frames_alone(encoder, folder / f"{place}.flac")[-1]
        np.testing.assert_allclose(np.stack(framed["frames"][place]), alone, **ALIKE)
        np.testing.assert_allclose(table["vector"][place], alone.mean(0), **ALIKE)
    schema = pyarrow.parquet.read_schema(tmp_path / "f.parquet")
    assert schema.metadata[b"hop_seconds"] == b"0.04"
    assert schema.metadata[b"encoder"] == b"vectors"


def test_a_manifest_brings_its_keys_and_parts(
    pretrained: Path, encoder: Encoder, folder: Path, tmp_path: Path
) -> None:
    rows = pd.DataFrame(
        {"key": ["b", "a"], "file": ["0.flac", "0.flac"], "start": [0.5, None], "end": [1.5, None]}
    )
    Manifest(rows, {"": folder}).write(tmp_path / "list.csv")
    assert run(tmp_path / "list.csv", "-e", pretrained, "-o", tmp_path / "v.npy")[0] == 0
    named = pd.read_csv(tmp_path / "v.csv")
    assert named["key"].tolist() == ["b", "a"]
    assert named["start"].tolist() == [0.5, 0.0]
    assert named["end"].tolist() == [1.5, 2.65]
    whole = frames_alone(encoder, folder / "0.flac")[-1].mean(0)
    np.testing.assert_allclose(np.load(tmp_path / "v.npy")[1], whole, **ALIKE)


def test_a_long_recording_is_the_mean_of_its_parts_and_its_frames_are_a_row_a_part(
    pretrained: Path, encoder: Encoder, tmp_path: Path
) -> None:
    samples = sound(70.0)
    soundfile.write(tmp_path / "long.wav", samples, 16_000)
    run(tmp_path / "long.wav", "-e", pretrained, "-o", tmp_path / "v.npy")
    run(tmp_path / "long.wav", "-e", pretrained, "-o", tmp_path / "f.npy", "--frames")
    parts = pd.read_csv(tmp_path / "f.csv")
    assert parts["start"].tolist() == [0, 30, 60]
    assert parts["end"].tolist() == [30, 60, 70]
    frames = np.split(np.load(tmp_path / "f.npy"), parts["row"][1:])
    means = [own.mean(0) for own in frames]
    expected = (30 * means[0] + 30 * means[1] + 10 * means[2]) / 70
    np.testing.assert_allclose(np.load(tmp_path / "v.npy")[0], expected, **ALIKE)


def test_a_recogniser_gives_its_own_vector_or_its_encoders_frames(folder: Path, tmp_path: Path) -> None:
    path, classifier = recogniser(tmp_path / "model", NetworkSettings(encoder=CNN))
    assert run(folder, "-e", path, "-o", tmp_path / "own.npy")[0] == 0
    assert run(folder, "-e", path, "-o", tmp_path / "last.npy", "--layer", "last")[0] == 0
    samples = torch.from_numpy(decode(folder / "0.flac"))[None]
    with torch.no_grad():
        expected = classifier.embed(*classifier.front_end(samples, torch.tensor([samples.shape[1]])))
    own, last = np.load(tmp_path / "own.npy"), np.load(tmp_path / "last.npy")
    np.testing.assert_allclose(own[0], expected[0].numpy(), **ALIKE)
    assert own.shape[1] == 32  # attentive pooling: mean and deviation
    encoder = classifier.embedder.get_submodule("encoder")
    assert isinstance(encoder, Encoder)
    np.testing.assert_allclose(last[0], frames_alone(encoder, folder / "0.flac")[-1].mean(0), **ALIKE)


def test_names_stand_for_encoders_and_an_untrained_one_says_so(folder: Path, tmp_path: Path) -> None:
    code, said = run(folder, "-e", "tdnn", "-o", tmp_path / "t.npy", "encoder.width=8")
    assert (code, "untrained" in said) == (0, True)
    assert np.load(tmp_path / "t.npy").shape == (6, 8)
    run(folder, "-e", "tdnn", "-o", tmp_path / "again.npy", "encoder.width=8")
    assert (np.load(tmp_path / "again.npy") == np.load(tmp_path / "t.npy")).all()
    code, said = run(folder, "-e", "functionals", "-o", tmp_path / "s.npy")
    assert (code, "untrained" in said) == (0, False)
    assert np.isfinite(np.load(tmp_path / "s.npy")).all()  # also of silence


# what is wrong


def test_bad_files_are_rows_and_the_array_is_without_them(
    pretrained: Path, folder: Path, tmp_path: Path
) -> None:
    (folder / "0.flac").write_bytes(b"")
    (folder / "4.flac").write_text("no sound")
    for _ in range(2):  # the second time there is nothing left to do, and still something wrong
        code, said = run(folder, folder / "absent.wav", "-e", pretrained, "-o", tmp_path / "v.npy")
        assert code == 1
    assert "nothing was done" in said
    named = pd.read_csv(tmp_path / "v.csv")
    assert named["error"].notna().tolist() == [True, False, False, False, True, False, True]
    assert named["row"].dropna().tolist() == [0, 1, 2, 3]
    assert "no such file" in named["error"][6].lower()
    assert len(np.load(tmp_path / "v.npy")) == 4


def test_what_is_not_finite_is_an_error_and_never_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Representation(Cnn(CNN).eval(), None, name="mine")
    whole = model.forward

    def broken(waveforms: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        found = whole(waveforms, lengths)
        found[lengths == 9000] = torch.nan  # the silent one
        return found

    monkeypatch.setattr(model, "forward", broken)
    outcome = embed(model, folder, tmp_path / "v.npy")
    assert (outcome.clips, outcome.failed) == (6, 1)
    assert "mine gives no finite vector" in pd.read_csv(tmp_path / "v.csv")["error"][2]
    assert np.isfinite(np.load(tmp_path / "v.npy")).all()
    assert len(np.load(tmp_path / "v.npy")) == 5


def test_all_bad_is_an_empty_array(pretrained: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"")
    assert run(tmp_path / "bad.wav", "-e", pretrained, "-o", tmp_path / "v.npy")[0] == 1
    assert np.load(tmp_path / "v.npy").shape == (0, 16)


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (["-e", "tdn", "-o", "v.npy"], ConfigError, "did you mean 'tdnn'"),
        (["-e", "cnn", "-o", "v.txt"], ConfigError, "allowed: .npy, .parquet"),
        (["-e", "cnn", "-o", "v.npy", "--layer", "9"], ConfigError, "layers 0 to 4"),
        (["-e", "cnn", "-o", "v.npy", "--layer", "-1"], ConfigError, "layers 0 to 4"),
        (["-e", "cnn", "-o", "v.npy", "--layer", "lats"], ConfigError, "did you mean 'last'"),
        (
            ["-e", "cnn", "-o", "v.npy", "encoder.widht=8"],
            ConfigError,
            "did you mean 'encoder.width'",
        ),
        (["-e", "functionals", "-o", "v.npy", "--frames"], ConfigError, "no frames"),
        (["-e", "functionals", "-o", "v.npy", "--layer", "0"], ConfigError, "has no layers"),
        (["-e", "cnn", "-o", "v.npy", "--device", "nowhere"], ConfigError, "cpu is always there"),
        (["-e", ".", "-o", "v.npy"], CheckpointError, "no pretrained encoder"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing_behind(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], error: Any, says: str
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(error, match=says):
        run(folder, *words)
    assert list((tmp_path / "work").iterdir()) == []


def test_a_table_without_files_and_settings_of_a_folder_are_refused(pretrained: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("speaker,emotion\na,joy\n")
    with pytest.raises(ManifestError, match="file"):
        run(tmp_path / "list.csv", "-e", pretrained, "-o", tmp_path / "v.npy")
    with pytest.raises(ConfigError, match="only names and published models take any"):
        run(tmp_path, "-e", pretrained, "-o", tmp_path / "v.npy", "encoder.width=8")


def test_layers_of_several_widths_have_no_mean() -> None:
    encoder = Tdnn(TdnnSettings(width=8))
    encoder.layer_dims = (8, 9)
    with pytest.raises(ConfigError, match="--layer all"):
        Representation(encoder, None, "mean")
    assert read_layer("3") == 3


# what is there already


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
@pytest.mark.parametrize("frames", [False, True])
def test_what_was_stopped_goes_on_and_ends_the_same(
    pretrained: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, frames: bool
) -> None:
    (folder / "3.flac").write_bytes(b"")
    monkeypatch.setattr(writers, "SHARD_CLIPS", 2)
    model = load_representation(pretrained)
    straight, stopped = tmp_path / f"straight{suffix}", tmp_path / f"stopped{suffix}"
    embed(model, folder, straight, frames=frames)
    real, done = embedding.in_order, []

    def dies(everything: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        for number, found in enumerate(real(everything, *args, **kwargs)):
            if number == 5 and not done:
                done.append(True)
                raise KeyboardInterrupt
            yield found

    monkeypatch.setattr(embedding, "in_order", dies)
    with pytest.raises(KeyboardInterrupt):
        embed(model, folder, stopped, frames=frames)
    assert not stopped.exists()
    part = stopped.with_name(f"{stopped.name}.part")
    (part / "part-00002.parquet").write_bytes(b"PAR1, damaged")
    other = load_representation("tdnn")
    with pytest.raises(RunError, match="begun with other options"):
        embed(other, folder, stopped, frames=frames)
    outcome = embed(model, folder, stopped, frames=frames)
    assert (outcome.clips, outcome.failed, outcome.resumed) == (6, 1, 4)
    assert sorted(path.name for path in tmp_path.glob("stopped*")) == sorted(
        path.name.replace("straight", "stopped") for path in tmp_path.glob("straight*")
    )
    if suffix == ".npy":
        np.testing.assert_allclose(np.load(stopped), np.load(straight), **ALIKE)
        pd.testing.assert_frame_equal(
            pd.read_csv(stopped.with_suffix(".csv")), pd.read_csv(straight.with_suffix(".csv"))
        )
    else:
        ours, theirs = (pyarrow.parquet.read_table(path).to_pydict() for path in (stopped, straight))
        for name in ("key", "file", "start", "end", "error"):
            assert ours[name] == theirs[name]
        for one, two in zip(
            ours["frames" if frames else "vector"], theirs["frames" if frames else "vector"], strict=True
        ):
            assert (one is None) == (two is None)
            np.testing.assert_allclose(one or [], two or [], **ALIKE)
    again = embed(model, folder, stopped, frames=frames)
    assert (again.finished, again.failed) == (True, 1)


def test_a_table_of_ones_own_is_never_written_over(pretrained: Path, folder: Path, tmp_path: Path) -> None:
    model = load_representation(pretrained)
    (tmp_path / "mine.csv").write_text("file\n0.flac\n")
    with pytest.raises(
        RunError, match=r"mine.csv is there already, and mine.npy, which goes with it, is not"
    ):
        embed(model, folder, tmp_path / "mine.npy")
    np.save(tmp_path / "mine.npy", np.zeros(3))
    with pytest.raises(RunError, match="not of affetto embed"):
        embed(model, folder, tmp_path / "mine.npy")
    assert (tmp_path / "mine.csv").read_text() == "file\n0.flac\n"


def test_the_hash_changes_with_layer_weights_and_settings(encoder: Encoder) -> None:
    hashes = [
        Representation(encoder, None).sha256,
        Representation(encoder, None, 1).sha256,
        Representation(encoder, None, "all").sha256,
        Representation(Cnn(CNN), None).sha256,
        load_representation("functionals").sha256,
        load_representation("functionals", settings=("encoder.bins=32",)).sha256,
    ]
    assert len(set(hashes)) == len(hashes)
    assert Representation(encoder, None).sha256 == hashes[0]
    assert json.dumps(FunctionalsSettings().model_dump())


def test_settings_of_a_recogniser_are_no_pretrained_encoder(tmp_path: Path) -> None:
    from affetto.finetuning.settings import finetune_settings

    path, _ = recogniser(tmp_path / "model", NetworkSettings(encoder=CNN))
    with pytest.raises(AffettoError, match="no pretrained encoder"):
        finetune_settings(protocol="speaker-kfold", encoder=str(path))


def test_statistics_and_joined_vectors_go_by_name(tmp_path: Path) -> None:
    waveform, lengths = torch.randn(1, 16000) / 9, torch.tensor([16000])
    one = load_representation("cnn-statistics", None, ("encoder.width=16", "encoder.bins=16"))
    assert one.untrained
    assert one.dim == 2 * sum(one.embedder.encoder.layer_dims)  # type: ignore[union-attr,operator]
    means = load_representation("cnn-means", None, ("encoder.width=16", "encoder.bins=16"))
    means.load_state_dict(one.state_dict())
    of_layers = one(waveform, lengths).split([2 * dim for dim in one.embedder.encoder.layer_dims], dim=1)  # type: ignore[union-attr,arg-type]
    torch.testing.assert_close(
        means(waveform, lengths), torch.cat([each.chunk(2, dim=1)[0] for each in of_layers], dim=1)
    )
    joined = load_representation("cnn-statistics + functionals")
    alone = [load_representation(name)(waveform, lengths) for name in ("cnn-statistics", "functionals")]
    torch.testing.assert_close(joined(waveform, lengths), torch.cat(alone, dim=1))
    with pytest.raises(ConfigError, match="got settings for cnn \\+ tdnn, which has several encoders"):
        load_representation("cnn + tdnn", None, ("encoder.width=16",))
    with pytest.raises(ConfigError, match="has no layers: it makes one vector an utterance"):
        load_representation("cnn-statistics", 1)


@pytest.mark.parametrize("name", ["small", "functionals", "ge2e-statistics"])
def test_what_goes_together_changes_no_vector(name: str, tmp_path: Path) -> None:
    if name.startswith("ge2e"):
        pytest.importorskip("resemblyzer")
    chance = np.random.default_rng(0)
    times = np.arange(3 * 16_000) / 16_000
    voice = 0.2 * np.sin(2 * np.pi * 150 * times * (1 + 0.05 * times)) + 0.01 * chance.normal(size=len(times))
    sounds = [voice[:length] for length in (1, 300, 640, 5_000, 16_001, 31_999)]
    sounds += [0 * voice, 0 * voice + 0.5, np.sign(voice), 1e-4 * voice, voice * (times > 1), voice]
    for number, sound in enumerate(sounds):
        soundfile.write(tmp_path / f"{number:02d}.wav", sound, 16_000, "FLOAT")
    model = load_representation(name)
    files = sorted(tmp_path.glob("*.wav"))
    together = [vector for _, vector in vectors_of_clips(model, clips(files), Plan(workers=1))]
    for file, vector in zip(files, together, strict=True):
        ((_, single),) = vectors_of_clips(model, clips(file), Plan(workers=0))
        # The skew of three frames is mostly rounding.
        np.testing.assert_allclose(vector, single, atol=5e-5, rtol=1e-5, err_msg=file.name)
