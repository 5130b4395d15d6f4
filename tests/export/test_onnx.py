"""Exported recognisers answer as torch does: whatever the network, the length, the batch, the speaker."""

import json
import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from typer.testing import CliRunner

from affetto import Recogniser
from affetto.audio import decode
from affetto.cli import app
from affetto.corpora.manifest import Manifest
from affetto.corpora.scanning import find_audio
from affetto.errors import ConfigError, MissingPackageError
from affetto.export import onnx as exporting
from affetto.export.onnx import export_onnx, store_in_8_bits
from affetto.export.traced import traceable
from affetto.finetuning.run import save_recogniser
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.models.embedders import EmbedderSettings
from helpers import ROOT, recogniser_config

TINY: dict[str, dict[str, Any]] = {
    "cnn": {"name": "cnn", "width": 16, "blocks": 1, "bins": 16},
    "tdnn": {"name": "tdnn", "width": 16, "blocks": 1, "bins": 16},
    "mockingjay": {"name": "mockingjay", "width": 16, "blocks": 1, "heads": 2, "bins": 16},
    "kaldi": {"name": "mockingjay", "width": 16, "blocks": 1, "bins": 16, "front_end": "fbank", "deltas": 2},
    "npc": {"name": "npc", "width": 16, "blocks": 1, "bins": 16},
    "filterbank": {"name": "filterbank", "bins": 16},
    "whisper-blocks": {"name": "whisper-blocks", "width": 16, "heads": 2, "feed_forward": 16, "bins": 16},
}
LABELS = ("anger", "neutral", "sadness")
LENGTHS = [1, 399, 16_000, 40_321]


def tiny(embedder: dict[str, Any], **more: Any) -> EmotionClassifier:
    """Builds a classifier whose weights and buffers are all of some size."""
    torch.manual_seed(0)
    settings = TypeAdapter(EmbedderSettings).validate_python(embedder)
    made = EmotionClassifier(ClassifierSettings(embedder=settings, labels=LABELS, **more)).eval()
    with torch.no_grad():
        for each in made.parameters():
            each.add_(0.1 * torch.randn_like(each))
        for name, each in made.named_buffers():
            if each.is_floating_point() and "positions" not in name:
                each.add_(0.1 * torch.rand_like(each))
    return made.requires_grad_(False)


def voices(lengths: list[int]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    generator = np.random.default_rng(0)
    waveforms = np.zeros((len(lengths), max(lengths)), np.float32)
    for row, length in zip(waveforms, lengths, strict=True):
        row[:length] = 0.2 * generator.standard_normal(length)
    return waveforms, np.array(lengths)


def in_torch(network: EmotionClassifier, waveforms: Any, lengths: Any, offset: Any = None) -> Any:
    read = torch.from_numpy(waveforms.copy()), torch.from_numpy(lengths)
    return network.answers(network.embed(*network.front_end(*read)), offset).numpy()


def session(file: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return onnxruntime.InferenceSession(str(file), options)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recogniser on the statistics of a tiny Whisper, which enrols, and its export."""
    folder = tmp_path_factory.mktemp("made")
    network = tiny(
        {"name": "statistics", "encoder": TINY["whisper-blocks"] | {"width": 64}},
        enrolment=True,
        standardise=True,
    )
    save_recogniser(folder / "recogniser", network, recogniser_config(network), False)
    line = ["export", "onnx", str(folder / "recogniser"), "-o", str(folder / "exported")]
    result = CliRunner().invoke(app, line)
    assert result.exit_code == 0, result.output
    assert "model.onnx: " in result.output
    return folder


@pytest.mark.parametrize("name", TINY)
def test_what_is_followed_does_what_the_network_does(name: str) -> None:
    network = tiny({"name": "network", "encoder": TINY[name], "pooling": "attentive"})
    waveforms, lengths = voices(LENGTHS[1:])
    wanted = in_torch(network, waveforms, lengths)
    assert np.abs(in_torch(traceable(network), waveforms, lengths) - wanted).max() < 1e-5
    assert np.ptp(wanted, axis=0).max() > 1e-3  # else anything would do


@pytest.mark.parametrize("lengths", [[1], LENGTHS, [480_000, 479_300], [470_000, 480_001, 200]])
def test_answers_are_those_of_torch(made: Path, lengths: list[int]) -> None:
    network = Recogniser.from_pretrained(made / "recogniser").classifier
    waveforms, counts = voices(lengths)
    given = {"waveforms": waveforms, "lengths": counts}
    [found] = session(made / "exported" / "model.onnx").run(["probabilities"], given)
    assert np.abs(found - in_torch(network, waveforms, counts)).max() < 1e-5
    waveforms[counts[:, None] <= np.arange(waveforms.shape[1])] = np.nan  # past the ends, as a caller may
    [again] = session(made / "exported" / "model.onnx").run(["probabilities"], given)
    assert np.array_equal(found, again)


def test_a_speaker_is_enrolled_as_by_torch(made: Path) -> None:
    recogniser = Recogniser.from_pretrained(made / "recogniser")
    waveforms, counts = voices([16_000] * 5)
    given = {"waveforms": waveforms, "lengths": counts}
    model = session(made / "exported" / "model.onnx")
    [vectors] = model.run(["vectors"], given)
    [offset] = session(made / "exported" / "enrol.onnx").run(None, {"vectors": vectors})
    own = recogniser.enrol(torch.from_numpy(vectors)).offset
    assert np.abs(offset[0] - own.numpy()).max() < 1e-5
    wanted = in_torch(recogniser.classifier, waveforms, counts, own)
    [plain] = model.run(["probabilities"], given)
    [adapted] = model.run(["probabilities"], {**given, "enrolment": offset})
    assert np.abs(adapted - wanted).max() < 1e-5
    assert np.abs(adapted - plain).max() > 1e-3
    some = np.concatenate([offset, 0 * offset, offset, 0 * offset, offset])
    [mixed] = model.run(["probabilities"], {**given, "enrolment": some})
    assert np.allclose(mixed[::2], adapted[::2], atol=1e-6)
    assert np.allclose(mixed[1::2], plain[1::2], atol=1e-6)


def test_weights_in_8_bits_are_smaller_and_nearly_the_same(made: Path, tmp_path: Path) -> None:
    files = [made / "exported" / "model.onnx", tmp_path / "model.onnx"]
    model = onnx.load(files[0])
    store_in_8_bits(onnx, model)
    onnx.save(model, files[1])
    assert files[1].stat().st_size < files[0].stat().st_size - 64 * 64 * 3 * 2.9  # of the second convolution
    waveforms, lengths = voices(LENGTHS[2:])
    given = {"waveforms": waveforms, "lengths": lengths}
    answers = [session(file).run(["probabilities"], given)[0] for file in files]
    assert 0 < np.abs(answers[1] - answers[0]).max() < 0.02


def test_the_file_says_what_it_is(made: Path) -> None:
    recogniser = Recogniser.from_pretrained(made / "recogniser")
    facts = session(made / "exported" / "model.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(facts["labels"]) == list(LABELS)
    assert facts["recogniser"] == recogniser.sha256
    assert facts["sample_rate"] == "16000"
    assert "1 speakers, protocol speaker-kfold" in facts["trained_on"]
    assert json.loads(facts["withholding"]) == recogniser.config.get("withholding", {})
    assert facts["licence"]
    card = (made / "exported" / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in card for name in ("waveforms", "lengths", "probabilities", *facts))
    assert "Article 5(1)(f)" in card


def test_the_example_runs_without_affetto(made: Path, corpus: Manifest, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.wav" for number in range(3)]
    for file, source in zip(files, corpus.paths, strict=False):
        soundfile.write(file, decode(source), 16_000, subtype="FLOAT")
    without = "import sys; sys.modules.update(affetto=None, torch=None); sys.argv.pop(0); "
    code = without + "exec(open(sys.argv[0]).read())"
    line = [
        sys.executable,
        "-c",
        code,
        "examples/onnx_predict.py",
        str(made / "exported" / "model.onnx"),
        *map(str, files),
    ]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    table = Recogniser.from_pretrained(made / "recogniser", any_sound=True)
    for line_, file in zip(done.stdout.splitlines(), files, strict=True):
        best = table.from_file(file)[0]
        assert line_ == f"{file} {best['label']} {best['score']:.3f}"


@pytest.mark.parametrize("name", ["functionals", "d-vector", "ge2e"])
def test_what_cannot_be_exported_names_what_can(name: str, tmp_path: Path) -> None:
    network = tiny({"name": "network", "encoder": {"name": name}} if name == "ge2e" else {"name": name})
    save_recogniser(tmp_path / "recogniser", network, recogniser_config(network), False)
    with pytest.raises(ConfigError, match=rf"{name} cannot be exported.*cnn, tdnn, .*whisper-blocks"):
        export_onnx(tmp_path / "recogniser", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'affetto\[onnx\]'"):
        export_onnx("small", tmp_path)


@pytest.mark.skipif(
    not ("AFFETTO_ONNXRUNTIME_WEB" in os.environ and shutil.which("chromium")),
    reason="set AFFETTO_ONNXRUNTIME_WEB to the folder dist of the npm package onnxruntime-web",
)
def test_the_page_answers_as_torch_does(made: Path, corpus: Manifest, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    runtime = Path(os.environ["AFFETTO_ONNXRUNTIME_WEB"])
    for name in ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        shutil.copy(runtime / name, tmp_path)
    for name in ("model.onnx", "model.json"):
        shutil.copy(made / "exported" / name, tmp_path)
    shutil.copy(ROOT / "examples" / "browser" / "index.html", tmp_path)
    sound = tmp_path / "sound.wav"
    soundfile.write(sound, decode(corpus.paths[0]), 16_000, subtype="FLOAT")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, sync_playwright() as play:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = play.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport={"width": 360, "height": 640})
        wrong: list[str] = []
        page.on("console", lambda each: wrong.append(each.text))
        page.on("pageerror", lambda each: wrong.append(str(each)))
        page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
        page.wait_for_selector("#file:enabled", timeout=60_000)
        page.set_input_files("#file", str(sound))
        page.wait_for_selector("td", timeout=60_000)
        shown = [row.inner_text().split() for row in page.query_selector_all("tr")]
        assert " s of sound in " in page.inner_text("#state")
        if pictures := os.environ.get("AFFETTO_PICTURES"):
            page.screenshot(path=f"{pictures}/browser.png")
        browser.close()
        server.shutdown()
    assert wrong == []
    wanted = Recogniser.from_pretrained(made / "recogniser", any_sound=True).from_file(sound)
    assert shown == [[each["label"], f"{each['score']:.3f}"] for each in wanted]


@pytest.mark.corpora
def test_small_on_real_recordings(corpora_root: Path, tmp_path: Path) -> None:
    sources = [find_audio(folder) for folder in sorted(corpora_root.iterdir()) if folder.is_dir()]
    files = [own[place] for own in sources for place in np.linspace(0, len(own) - 1, 5).astype(int)]
    export_onnx("small", tmp_path)
    sounds = [decode(file) for file in files]
    waveforms, lengths = voices([len(each) for each in sounds])
    for row, each in zip(waveforms, sounds, strict=True):
        row[: len(each)] = each
    given = {"waveforms": waveforms, "lengths": lengths}
    [found] = session(tmp_path / "model.onnx").run(["probabilities"], given)
    wanted = in_torch(Recogniser.from_pretrained("small").classifier, waveforms, lengths)
    assert np.abs(found - wanted).max() < exporting.TOLERANCE
