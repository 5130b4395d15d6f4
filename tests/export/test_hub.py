"""A recogniser goes to the hub with its card; the hub is replaced by a folder."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from typer.testing import CliRunner

from affetto import Recogniser, push_to_hub
from affetto.cli import app
from affetto.errors import AffettoError, CheckpointError, ConfigError
from affetto.export import hub
from affetto.finetuning.run import save_recogniser
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.models.embedders import FunctionalsSettings
from helpers import recogniser_config


class FakeHub:
    """Keeps what it is sent in a folder."""

    def __init__(self, place: Path) -> None:
        self.place, self.private, self.token = place, dict[str, bool](), ""

    def __call__(self, token: str | None = None) -> "FakeHub":
        self.token = token or ""
        return self

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
        if repo_id.startswith("other/"):
            raise OSError("403 Forbidden\nmore")
        assert exist_ok
        self.private[repo_id] = private
        return f"https://hub.example/{repo_id}"

    def upload_folder(
        self, *, repo_id: str, folder_path: Path, allow_patterns: list[str], commit_message: str
    ) -> None:
        sent = [each for pattern in allow_patterns for each in Path(folder_path).glob(pattern)]
        for file in sent:
            target = self.place / repo_id / file.relative_to(folder_path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    made = FakeHub(tmp_path / "hub")
    monkeypatch.setattr(hub, "HfApi", made)
    return made


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with a recogniser."""
    torch.manual_seed(0)
    settings = ClassifierSettings(embedder=FunctionalsSettings(bins=8), labels=("anger", "joy"))
    network = EmotionClassifier(settings)
    save_recogniser(tmp_path / "run" / "recogniser", network, recogniser_config(network))
    (tmp_path / "run" / "recogniser" / "notes.txt").write_text("not sent")
    return tmp_path / "run"


def report(run: Path, **values: Any) -> None:
    (run / "report").mkdir()
    (run / "report" / "report.json").write_text(json.dumps({"uar": 0.61234, "war": 0.7, **values}))


def scores(card: Path) -> dict[tuple[str, str], float]:
    head = yaml.safe_load(card.read_text(encoding="utf-8").split("---\n")[1])
    assert head["library_name"] == "affetto"
    assert head["pipeline_tag"] == "audio-classification"
    [model] = head["model-index"]
    assert model["name"] == "calls"
    assert {each["task"]["type"] for each in model["results"]} == {"audio-classification"}
    return {
        (each["dataset"]["split"], metric["type"]): metric["value"]
        for each in model["results"]
        for metric in each["metrics"]
    }


def test_a_run_goes_with_the_scores_of_its_report(fake: FakeHub, run: Path) -> None:
    report(run, enrolment=0)
    result = CliRunner().invoke(app, ["push", str(run), "jane/calls"])
    assert result.exit_code == 0, result.output
    assert "https://hub.example/jane/calls" in result.output
    sent = fake.place / "jane" / "calls"
    assert {file.name for file in sent.rglob("*")} == {"config.json", "model.safetensors", "README.md"}
    assert fake.private == {"jane/calls": True}
    assert scores(sent / "README.md") == {("test", "recall"): 0.6123, ("test", "accuracy"): 0.7}
    assert ModelCard.load(sent / "README.md").data.eval_results is not None
    assert 'from_pretrained("jane/calls")' in (sent / "README.md").read_text(encoding="utf-8")
    assert Recogniser.from_pretrained(sent).sha256 == Recogniser.from_pretrained(run).sha256
    assert "PATH/OF" in (run / "recogniser" / "README.md").read_text(encoding="utf-8")  # left as it was


@pytest.mark.parametrize("with_report", [False, True])
def test_without_a_report_of_unknown_speakers_the_score_is_that_of_dev(
    fake: FakeHub, run: Path, with_report: bool
) -> None:
    if with_report:
        report(run, enrolment=10)
    address = push_to_hub(run / "recogniser", "jane/calls", public=True, token="abc")
    assert address == "https://hub.example/jane/calls"
    assert (fake.private, fake.token) == ({"jane/calls": False}, "abc")
    assert scores(fake.place / "jane" / "calls" / "README.md") == {("validation", "recall"): 0.5}


def test_what_is_refused(fake: FakeHub, run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'calls'; owner/name is needed"):
        push_to_hub(run, "calls")
    with pytest.raises(CheckpointError, match="no such folder"):
        push_to_hub(tmp_path / "nothing", "jane/calls")
    with pytest.raises(AffettoError, match=r"other/calls \(403 Forbidden\).*hf auth login"):
        push_to_hub(run, "other/calls")
    assert not fake.place.exists()
