"""A device that is not there is one line, exit code 2 and no output, in every verb that has ``--device``."""

import sys
from pathlib import Path

import pytest
from typer.main import get_command

from affetto.__main__ import main
from affetto.cli import app
from affetto.models.checkpoint import save_weights
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.models.embedders import NetworkSettings
from affetto.models.logmel import CnnSettings

PROTOCOL = ("--protocol", "speaker-kfold")
VERBS: dict[str, tuple[str, ...]] = {
    "finetune": ("--manifest", "LIST", *PROTOCOL, "--encoder", "functionals", "-o", "OUT"),
    "pretrain": ("--manifest", "LIST", "-o", "OUT"),
    "annotate speakers": ("LIST", "-o", "OUT"),
    "annotate clusters": ("LIST", "-o", "OUT"),
    "annotate intensity": ("LIST", "--source", "loudness", "-o", "OUT"),
    "analyse layers": ("LIST", "--encoder", "cnn", *PROTOCOL, "-o", "OUT"),
    "embed": ("LIST", "--encoder", "cnn", "-o", "OUT.npy"),
    "predict": ("LIST", "--model", "MODEL", "-o", "OUT.csv"),
    "index": ("LIST", "--model", "MODEL", "-o", "OUT"),
}


def test_the_verbs_below_are_all_that_have_a_device() -> None:
    found, todo = set(), [("", get_command(app))]
    while todo:
        name, command = todo.pop()
        todo += [(f"{name} {each}".strip(), part) for each, part in getattr(command, "commands", {}).items()]
        found |= {name} if any("--device" in each.opts for each in command.params) else set()
    assert found == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_a_device_that_is_not_there_is_refused(
    verb: str, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    embedder = NetworkSettings(encoder=CnnSettings(width=8, bins=16, blocks=1))
    network = EmotionClassifier(ClassifierSettings(embedder=embedder, labels=("joy", "grief")))
    shape = {"class": "EmotionClassifier", "classifier": network.settings.model_dump(mode="json")}
    save_weights(tmp_path / "model", network, shape)
    places = {"LIST": str(listed), "MODEL": str(tmp_path / "model"), "OUT": str(tmp_path / "out")}
    words = [places.get(word, word.replace("OUT", places["OUT"])) for word in VERBS[verb]]
    monkeypatch.setattr(sys, "argv", ["affetto", *verb.split(), *words, "--device", "cuda:64"])
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert error.startswith("error: cannot use the device 'cuda:64': ")
    assert error.endswith("cpu is always there\n")
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("out*"))
