from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from affetto import corpora
from affetto.cli import app
from affetto.corpora.manifest import Manifest
from affetto.experiment import demo as demo_module
from smallest import few_trials


def test_the_demo_ends_by_naming_its_report_and_its_recogniser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def smaller(name: str, root: Path) -> Manifest:
        return corpora.scan(name, root, speakers=6, sentences=2, takes=1)

    quick: Any = (*demo_module.SMALL_CNN, "train.epochs=1", "encoder.width=16")
    monkeypatch.setattr(demo_module, "scan", smaller)
    monkeypatch.setattr(demo_module, "SMALL_CNN", quick)
    with few_trials():
        result = CliRunner().invoke(app, ["demo", str(tmp_path / "demo")])
    assert result.exit_code == 0, result.output
    lines = dict(line.split(":", 1) for line in result.output.splitlines() if ":" in line)
    assert Path(lines["report"].strip()).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert (Path(lines["recogniser"].strip()) / "model.safetensors").exists()
    page = Path(lines["page"].partition(",")[0].strip())
    assert "m03" in page.read_text(encoding="utf-8")  # the second speaker of the call
    assert lines["your file"].strip().startswith("affetto predict YOUR_FILE.wav ")
    again = CliRunner().invoke(app, ["demo", str(tmp_path / "demo")])
    assert again.output == result.output
