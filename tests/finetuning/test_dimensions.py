"""Recognisers of dimensions, from finetune to predict."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from affetto.analysis.layers import analyse_layers, layers_settings
from affetto.corpora.manifest import Manifest
from affetto.errors import ConfigError
from affetto.evaluation.metrics import ccc
from affetto.evaluation.run import evaluate
from affetto.experiment.run import Experiment, check
from affetto.finetuning.run import finetune
from affetto.finetuning.settings import finetune_settings
from affetto.inference import Recogniser, predict
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.objectives.supervised import concordance
from smallest import tiny

VALENCE = {"anger": 1.5, "fear": 2.0, "happiness": 6.5, "neutral": 4.0, "sadness": 2.5}
AROUSAL = {"anger": 60.0, "fear": 55.0, "happiness": 50.0, "neutral": 30.0, "sadness": 10.0}


@pytest.fixture(scope="module")
def rated(corpus: Manifest) -> Manifest:
    """The corpus with two dimensions of different scales, and one row that nobody rated."""
    emotions = corpus.table["emotion"]
    table = corpus.table.assign(valence=emotions.map(VALENCE), arousal=emotions.map(AROUSAL))
    table.loc[0, "valence"] = np.nan
    return replace(corpus, table=table)


@pytest.fixture(scope="module")
def dimensions(protocol: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = protocol.read_text().replace("toy-5", "toy-dimensions")
    lines = [
        "dimensions: [valence, arousal]" if line.startswith("labels:") else line for line in text.splitlines()
    ]
    file = tmp_path_factory.mktemp("protocol") / "toy-dimensions.yaml"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.mark.parametrize("encoder", ["cnn", "functionals"])
def test_values_are_told_on_the_scale_of_the_raters(
    encoder: str, rated: Manifest, dimensions: Path, tmp_path: Path
) -> None:
    if encoder == "cnn":
        settings = tiny(dimensions, "train.epochs=6")
    else:
        settings = finetune_settings(protocol=str(dimensions), encoder=encoder)
        assert settings.head == "ridge"
    run = finetune(rated, settings, tmp_path / "run")
    table = pd.read_parquet(run / "predictions.parquet")
    assert set(table["part"]) == {"dev", "test"}
    assert not {"label", "confidence", "truth"} & set(table)
    assert table["arousal"].between(-40, 110).all()
    assert abs(table["arousal"].mean() - 41) < 15
    report = evaluate(run.path)
    measured = {f"{metric}_{name}" for metric in ("ccc", "error") for name in ("valence", "arousal", "mean")}
    assert set(report.scores) == measured
    test = table[table["part"] == "test"]
    names = ["valence", "arousal"]
    found = ccc(test[[f"truth_{name}" for name in names]], test[names])
    assert [report.scores[f"ccc_{name}"].value for name in names] == pytest.approx(found)
    assert "Dimensions: valence, arousal" in (run / "recogniser" / "README.md").read_text()
    recogniser = Recogniser.from_pretrained(run / "recogniser")
    again = pd.DataFrame(recogniser.files(rated.where(test["key"].tolist())))
    assert again[names].to_numpy() == pytest.approx(test[names].to_numpy(), abs=2e-3, rel=1e-3)


def test_predict_writes_a_column_a_dimension(rated: Manifest, dimensions: Path, tmp_path: Path) -> None:
    settings = finetune_settings(protocol=str(dimensions), encoder="functionals")
    run = finetune(rated, settings, tmp_path / "run")
    recogniser = Recogniser.from_pretrained(run / "recogniser")
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    sources = [rated.path(0), tmp_path / "broken.wav"]
    for suffix in ("csv", "parquet"):
        outcome = predict(recogniser, sources, tmp_path / f"out.{suffix}")
        assert (outcome.clips, outcome.failed) == (2, 1)
    table = pd.read_parquet(tmp_path / "out.parquet")
    names = ["file", "start", "end", "valence", "arousal", "withheld", "warning", "error"]
    assert list(table) == names
    assert table["valence"].dtype == np.float64
    assert table["valence"].isna().tolist() == [False, True]
    assert recogniser.predict(rated.path(0)) == [
        {"label": "valence", "score": pytest.approx(table["valence"][0], abs=1e-4)},
        {"label": "arousal", "score": pytest.approx(table["arousal"][0], abs=1e-3)},
    ]
    assert list(recogniser.timeline(rated.path(0), 1.0)) == list(table)
    with pytest.raises(ConfigError, match="of dimensions enrols nobody; leave the enrolment out"):
        recogniser.enrol([rated.path(1)])
    for given in ({"enrolment": 5}, {"mix": "anger only"}):
        with pytest.raises(ConfigError, match="enrols nobody; leave out --enrolment"):
            evaluate(run.path, **given)


def test_what_does_not_go_with_dimensions_is_refused(dimensions: Path, protocol: Path) -> None:
    for head in ("logistic", "svm"):
        with pytest.raises(ConfigError, match="choose --head network or --head ridge"):
            finetune_settings(protocol=str(dimensions), encoder="functionals", head=head)
    with pytest.raises(ConfigError, match="ridge tells dimensions"):
        finetune_settings(protocol=str(protocol), encoder="functionals", head="ridge")
    with pytest.raises(ConfigError, match="settings of loss"):
        finetune_settings(protocol=str(dimensions), overrides=("loss.class_weights=true",))
    plan = Experiment(title="t", settings={"protocol": str(dimensions)}, rows=[{"method": "cnn"}])
    with pytest.raises(ConfigError, match="tables are of UAR"):
        check(plan)
    with pytest.raises(ValueError, match="without enrolment"):
        ClassifierSettings(labels=("valence",), output="values", enrolment=True)
    with pytest.raises(ValueError, match="at least two classes"):
        ClassifierSettings(labels=("anger",))


def test_the_loss_is_one_minus_the_concordance_and_knows_shift_and_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(64, 2, generator=generator)
    told = truth + 0.5 * torch.randn(64, 2, generator=generator)
    assert concordance(told, truth).tolist() == pytest.approx(ccc(truth.numpy(), told.numpy()), abs=1e-4)
    assert concordance(truth, truth).tolist() == pytest.approx([1, 1], abs=1e-4)
    assert (concordance(told + 2, truth) < concordance(told, truth)).all()
    assert concordance(torch.ones(8, 2), torch.ones(8, 2)).tolist() == [0, 0]


@pytest.mark.filterwarnings("error:.*not writable")
def test_one_dimension_is_enough(rated: Manifest, dimensions: Path, tmp_path: Path) -> None:
    text = dimensions.read_text().replace("[valence, arousal]", "[arousal]")
    (tmp_path / "one.yaml").write_text(text)
    settings = finetune_settings(protocol=str(tmp_path / "one.yaml"), encoder="functionals")
    run = finetune(rated, settings, tmp_path / "run")
    assert set(evaluate(run.path).scores) == {"ccc_arousal", "error_arousal"}
    classifier = EmotionClassifier(ClassifierSettings(labels=("valence",), output="values"))
    values = torch.tensor([[1.0], [3.0]])
    classifier.fit_scale(values)
    assert classifier.standardised(values).squeeze(1).tolist() == pytest.approx([-1, 1])
    assert classifier.answers(torch.zeros(2, classifier.dim)).shape == (2, 1)


def test_layers_are_of_classes(rated: Manifest, dimensions: Path, tmp_path: Path) -> None:
    settings = layers_settings(str(dimensions), "cnn")
    with pytest.raises(ConfigError, match="layers are compared by the UAR of classes"):
        analyse_layers(rated, settings, tmp_path / "layers")
    assert not (tmp_path / "layers").exists()
