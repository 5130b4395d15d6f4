"""ONNX speaker models: a tiny one made on the spot, against the same arithmetic on Kaldi's own features."""

import sys
from pathlib import Path
from typing import Literal

import kaldi_native_fbank
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from affetto.errors import CheckpointError, MissingPackageError
from affetto.models.speaker_models import OnnxSpeaker

DIM = 6
WEIGHTS = np.random.default_rng(1).standard_normal((80, DIM)).astype(np.float32) / 9


def tiny(file: Path, shape: tuple[int | str, ...] = ("B", "T", 80)) -> Path:
    """Writes a model: a linear map of each frame, tanh, mean and largest value over time side by side."""
    from onnx import TensorProto, helper, numpy_helper, save

    nodes = [
        helper.make_node("MatMul", ["feats", "weights"], ["mapped"]),
        helper.make_node("Tanh", ["mapped"], ["bent"]),
        helper.make_node("ReduceMean", ["bent"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("ReduceMax", ["bent"], ["largest"], axes=[1], keepdims=0),
        helper.make_node("Concat", ["mean", "largest"], ["embs"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "speaker",
        [helper.make_tensor_value_info("feats", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("embs", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(WEIGHTS[: shape[-1] if isinstance(shape[-1], int) else 80], "weights")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(file))
    return file


def kaldi(samples: NDArray[np.float32], taper: str) -> NDArray[np.float32]:
    """Kaldi's filterbank of samples in the 16-bit range."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.window_type = taper
    options.mel_opts.num_bins = 80
    bank = kaldi_native_fbank.OnlineFbank(options)
    bank.accept_waveform(16_000, (32768 * samples).tolist())
    bank.input_finished()
    return np.stack([bank.get_frame(number) for number in range(bank.num_frames_ready)])


def slow(samples: NDArray[np.float32], taper: str = "hamming") -> NDArray[np.float32]:
    frames = kaldi(samples, taper)
    bent = np.tanh((frames - frames.mean(0)) @ WEIGHTS)
    return np.concatenate([bent.mean(0), bent.max(0)])


@pytest.fixture(scope="module")
def voices() -> list[NDArray[np.float32]]:
    generator = np.random.default_rng(0)
    times = [np.arange(length) / 16_000 for length in (16_000, 9_000, 16_100, 30_000, 9_000)]
    return [
        (
            0.2 * np.sin(2 * np.pi * generator.uniform(90, 300) * time * (1 + time / 9))
            + 0.02 * generator.standard_normal(len(time))
            + 0.05
        ).astype(np.float32)
        for time in times
    ]


def embedded(embedder: OnnxSpeaker, voices: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    values = np.full((len(voices), max(map(len, voices))), 7.0, np.float32)
    for row, voice in zip(values, voices, strict=True):
        row[: len(voice)] = voice
    lengths = torch.tensor([len(voice) for voice in voices])
    return embedder(*embedder.front_end(torch.from_numpy(values), lengths)).numpy()


@pytest.mark.parametrize("taper", ["hamming", "povey"])
@pytest.mark.parametrize("shape", [("B", "T", 80), (None, None, None), (1, "T", 80), (2, "T", 80)])
def test_a_batch_is_what_slow_arithmetic_says_of_each_alone(
    tmp_path: Path,
    voices: list[NDArray[np.float32]],
    taper: Literal["hamming", "povey"],
    shape: tuple[int | str, ...],
) -> None:
    embedder = OnnxSpeaker(tiny(tmp_path / "m.onnx", shape), taper=taper)
    expected = np.stack([slow(voice, taper) for voice in voices])
    assert embedder.dim == 2 * DIM
    np.testing.assert_allclose(embedded(embedder, voices), expected, atol=2e-4)
    assert np.abs(expected[0] - expected[2]).max() > 0.01


def test_the_shortest_utterance_has_a_vector(tmp_path: Path) -> None:
    vectors = embedded(OnnxSpeaker(tiny(tmp_path / "m.onnx")), [np.ones(1, np.float32)])
    assert np.isfinite(vectors).all()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (("B", "T", 40), r"takes feats \['B', 'T', 40\]; .*\(utterances, frames, 80\)"),
        (("B", 1, "T", 80), r"one input \(utterances, frames, 80\) is needed"),
        (("B", 200, 80), "takes 200 frames and no other number; export it"),
    ],
)
def test_a_model_of_another_input_is_refused(
    tmp_path: Path, shape: tuple[int | str, ...], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        OnnxSpeaker(tiny(tmp_path / "m.onnx", shape))


def test_a_model_that_cannot_be_run_is_refused(tmp_path: Path) -> None:
    from onnx import load, numpy_helper, save

    file = tiny(tmp_path / "m.onnx", ("B", "T", None))
    model = load(str(file))
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(WEIGHTS[:40], "weights"))
    save(model, str(file))
    with pytest.raises(CheckpointError, match="cannot be run on filterbanks"):
        OnnxSpeaker(file)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(CheckpointError, match="is no ONNX model"):
        OnnxSpeaker(tmp_path / "m.onnx")


def test_the_missing_package_comes_with_its_install_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match=r"pip install onnxruntime$"):
        OnnxSpeaker(tmp_path / "m.onnx")


def test_a_runtime_without_a_gpu_says_which_package_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(MissingPackageError, match="pip install onnxruntime-gpu"):
        OnnxSpeaker(tiny(tmp_path / "m.onnx"), device="cuda")
