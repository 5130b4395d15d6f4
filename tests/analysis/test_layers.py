"""Each probe of an analysis is the run that finetune would make; the control is an untrained encoder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from affetto.analysis import layers
from affetto.analysis.layers import analyse_layers, layers_settings
from affetto.cli import app
from affetto.corpora.manifest import Manifest
from affetto.errors import ConfigError, LeakError, RunError
from affetto.finetuning.run import finetune
from affetto.finetuning.settings import finetune_settings
from affetto.inference import Recogniser
from affetto.models.checkpoint import save_encoder
from affetto.models.embedders import NetworkSettings, build_embedder
from affetto.models.logmel import Tdnn, TdnnSettings

TDNN = TdnnSettings(width=16, blocks=1, bins=20)
QUICK = ("train.epochs=2", "train.batch_size=8")


def save(folder: Path, **seen: list[str]) -> Path:
    torch.manual_seed(5)
    config = {
        "encoder": TDNN.model_dump(mode="json"),
        "objective": "multitask",
        "tasks": {"vector": 1.0},
        "groups": None,
        "speakers_seen": {"with_labels": [], "without_labels": ["toy/f03"], **seen},
    }
    save_encoder(folder, Tdnn(TDNN), config)
    return folder


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("pretrained") / "vectors")


@pytest.fixture(scope="module")
def analysed(
    corpus: Manifest, protocol: Path, pretrained: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("layers") / "out"
    analyse_layers(corpus, layers_settings(str(protocol), str(pretrained), QUICK), out)
    return out


def rows(out: Path) -> dict[str, Any]:
    return {row["method"]: row for row in json.loads((out / "layers.json").read_text())}


def test_a_row_a_layer_and_one_for_the_sum_each_beside_the_untrained(analysed: Path) -> None:
    found = rows(analysed)
    plain = ["layer 0", "layer 1", "weighted sum"]
    assert list(found) == [*plain, *(f"{name}, untrained" for name in plain)]
    for name in plain:
        own, control = found[name], found[f"{name}, untrained"]
        assert own["against"] == f"{name}, untrained"
        assert own["difference"] == pytest.approx(own["uar"] - control["uar"])
        assert control["difference"] is None
        assert 0 < own["dev_uar"] <= 1
    for name in ("weighted sum", "weighted sum, untrained"):
        assert sum(found[name]["weights"]) == pytest.approx(1)
    assert found["weighted sum"]["weights"] != found["weighted sum, untrained"]["weights"]
    page = (analysed / "report.html").read_text()
    assert "Seen without labels in pretraining: speaker f03" in page
    assert "data:image/png" in page
    assert (analysed / "layers.png").read_bytes().startswith(b"\x89PNG")
    assert (analysed / "DONE").exists()
    assert not list(analysed.rglob("scratch"))
    assert not list(analysed.rglob("*.safetensors"))


@pytest.mark.parametrize("which", ["trained", "untrained"])
@pytest.mark.parametrize("layer", [0, "weighted"])
def test_a_probe_is_what_finetune_makes_of_it(
    corpus: Manifest,
    protocol: Path,
    pretrained: Path,
    analysed: Path,
    tmp_path: Path,
    which: str,
    layer: int | str,
) -> None:
    settings = finetune_settings(
        protocol=str(protocol),
        encoder=str(pretrained),
        frozen=True,
        enrolment=False,
        overrides=(*QUICK, f"embedder.layers={layer}"),
    )
    if which == "untrained":
        settings = settings.model_copy(update={"pretrained": None})
    run = finetune(corpus, settings, tmp_path / "run")
    theirs = pd.read_parquet(run / "predictions.parquet")
    ours = pd.read_parquet(analysed / which / "seed-0" / "fold-1" / "predictions.parquet")
    name = "weighted sum" if layer == "weighted" else f"layer {layer}"
    ours = ours[ours["method"] == name].reset_index(drop=True)
    assert ours["key"].tolist() == theirs["key"].tolist()
    columns = [column for column in theirs if column.startswith("p_")]
    np.testing.assert_allclose(ours[columns], theirs[columns], atol=1e-5)


@pytest.mark.parametrize("change", ["embedder.projector=6", "embedder.layers=1"])
def test_a_recogniser_from_cached_means_says_the_same_of_the_sound(
    corpus: Manifest, protocol: Path, pretrained: Path, tmp_path: Path, change: str
) -> None:
    settings = finetune_settings(
        protocol=str(protocol),
        encoder=str(pretrained),
        frozen=True,
        enrolment=False,
        overrides=(*QUICK, change),
    )
    run = finetune(corpus, settings, tmp_path / "run")
    expected = pd.read_parquet(run / "predictions.parquet").set_index("key")
    recogniser = Recogniser.from_pretrained(run / "recogniser")
    shape = recogniser.config["classifier"]["embedder"]
    assert (shape["projector"], shape["layers"]) == ((6, "weighted") if "projector" in change else (0, 1))
    part = corpus.where(list(expected.index))
    found = pd.DataFrame(recogniser.files(part))
    for label in recogniser.labels:
        theirs = expected.loc[part.keys, f"p_{label}"].to_numpy()
        np.testing.assert_allclose(found[f"p_{label}"], theirs, atol=1e-4)


def test_what_was_stopped_goes_on_and_what_is_finished_is_kept(
    corpus: Manifest,
    protocol: Path,
    pretrained: Path,
    analysed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = layers_settings(str(protocol), str(pretrained), QUICK)
    real, calls = layers._probe, []

    def dies(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(layers, "_probe", dies)
    with pytest.raises(KeyboardInterrupt):
        analyse_layers(corpus, settings, tmp_path / "out")
    analyse_layers(corpus, settings, tmp_path / "out")
    assert len(calls) == 5 + 3  # the control's three once more
    assert rows(tmp_path / "out") == rows(analysed)
    analyse_layers(corpus, settings, tmp_path / "out")
    assert len(calls) == 8
    with pytest.raises(RunError, match="other settings"):
        analyse_layers(
            corpus, layers_settings(str(protocol), str(pretrained), ("train.epochs=3",)), tmp_path / "out"
        )


def test_an_encoder_without_weights_is_its_own_control(
    corpus: Manifest, listed: Path, protocol: Path, tmp_path: Path
) -> None:
    words = ["analyse", "layers", str(listed), "--encoder", "tdnn", "--protocol", str(protocol)]
    small = ["encoder.width=8", "encoder.blocks=1", *QUICK]
    result = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "out"), *small])
    assert result.exit_code == 0, result.output
    assert "layer 1, untrained" in result.output
    assert set(rows(tmp_path / "out")) == {
        f"{name}, untrained" for name in ("layer 0", "layer 1", "weighted sum")
    }
    assert "no weights of its own" in (tmp_path / "out" / "report.md").read_text()


def test_an_encoder_that_heard_test_speakers_with_labels_is_refused(
    corpus: Manifest, protocol: Path, tmp_path: Path
) -> None:
    leaky = save(tmp_path / "leaky", with_labels=["toy/f03"])
    with pytest.raises(LeakError, match="f03"):
        analyse_layers(corpus, layers_settings(str(protocol), str(leaky), QUICK), tmp_path / "out")


def test_what_cannot_be_is_refused(pretrained: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'tdnn'"):
        layers_settings("speaker-kfold", "tdn")
    with pytest.raises(ConfigError, match="probes the layers of an encoder"):
        layers_settings("speaker-kfold", "functionals")
    with pytest.raises(ConfigError, match="leave these as they are"):
        layers_settings("speaker-kfold", str(pretrained), ("embedder.layers=1",))
    with pytest.raises(ConfigError, match="layers 0 to 1"):
        build_embedder(NetworkSettings(encoder=TDNN, layers=2))
