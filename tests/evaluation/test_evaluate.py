import importlib
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from affetto.__main__ import main
from affetto.cli import app
from affetto.config import build
from affetto.corpora import scan
from affetto.corpora.manifest import Manifest
from affetto.errors import ConfigError, LeakError, ManifestError, ProtocolError, RunError
from affetto.evaluation.metrics import METRICS
from affetto.evaluation.run import evaluate
from affetto.experiment import Result, draw_results, read_results, write_results
from affetto.experiment.run import Experiment, experiment
from affetto.finetuning.run import finetune
from affetto.finetuning.settings import finetune_settings
from affetto.runs import RunFolder
from smallest import few_trials


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return scan("toy", tmp_path_factory.mktemp("toy"), speakers=6, takes=1)


@pytest.fixture(scope="module")
def run(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    settings = finetune_settings(protocol="speaker-kfold", encoder="functionals")
    with few_trials():
        return finetune(manifest, settings, tmp_path_factory.mktemp("runs") / "functionals")


def test_a_baseline_is_scored_above_chance_with_an_interval(run: RunFolder) -> None:
    report = evaluate(run.path)
    score = report.scores["uar"]
    assert score.value > 0.3  # chance is 0.2
    assert score.low is not None
    assert score.high is not None
    assert score.low < score.value < score.high
    assert report.utterances == 6 * 4 * 5


def test_enrolment_is_compared_with_none_on_the_utterances_that_both_score(run: RunFolder) -> None:
    report = evaluate(run.path, enrolment=5)
    assert report.enrolment == 5
    assert report.utterances == 6 * (20 - 5)
    assert "uar" in report.differences
    assert report.curve is not None
    assert {"random", "anger only"} <= set(report.curve["mix"])


def test_an_enrolment_that_was_not_measured_is_refused_by_name(run: RunFolder) -> None:
    with pytest.raises(ManifestError, match=r"unknown enrolment \(number and mix\) '7 random'; .*5 random"):
        evaluate(run.path, enrolment=7)


def test_a_mix_without_a_number_is_refused(run: RunFolder) -> None:
    with pytest.raises(ConfigError, match="--enrolment 10"):
        evaluate(run.path, mix="anger only")


def test_a_protocol_that_does_not_fit_leaves_no_folder(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ProtocolError):
        finetune(
            manifest, finetune_settings(protocol="crema-d-6-evar", encoder="functionals"), tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


def test_an_unfinished_run_is_refused(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no finished run"):
        evaluate(tmp_path)


def test_the_command_refuses_a_run_of_another_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    RunFolder(tmp_path, "pretrain").finish()
    monkeypatch.setattr("sys.argv", ["affetto", "evaluate", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert f"error: {tmp_path} holds a run of pretrain; allowed: a run of finetune" in capsys.readouterr().err


def test_a_metric_is_a_function_and_a_row_of_the_table(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "examples")
    monkeypatch.setitem(METRICS, "worst_recall", None)  # what the example puts there is taken out again
    importlib.import_module("own_metric")
    shown = CliRunner().invoke(app, ["evaluate", str(run.path), "--against", str(run.path)])
    assert shown.exit_code == 0, shown.output
    row = json.loads((run / "report" / "report.json").read_text())
    assert 0 <= row["worst_recall_low"] <= row["worst_recall"] <= row["uar"]
    [line] = [line for line in shown.output.splitlines() if re.match(r"\| worst recall \| \d", line)]
    assert f"{100 * row['worst_recall']:.1f} [" in line
    assert "| worst recall | +0.0 [+0.0, +0.0] |" in shown.output
    assert "<td>worst recall</td>" in (run / "report" / "report.html").read_text()
    assert build(Experiment, {"title": "T", "rows": [{"method": "a"}], "columns": ["worst_recall"]})
    table = run.path / "table.json"
    write_results(table, [Result.model_validate(row)])
    assert f" {100 * row['worst_recall']:.1f} |" in draw_results(table, columns=["worst_recall"]).read_text()


def test_the_docs_list_every_metric() -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    lines = [f"| `{name}` | {metric.title} | {metric.about} |" for name, metric in METRICS.items()]
    assert "\n".join(["| field | score | what it is |", "|---|---|---|", *lines]) in page


def test_a_run_that_chose_on_test_or_saw_a_test_speaker_is_refused(run: RunFolder) -> None:
    meta = json.loads((run / "meta.json").read_text())
    try:
        for change in ({"chosen_on": "test"}, {"speakers_seen_with_labels": {"1": [_tested(run)]}}):
            (run / "meta.json").write_text(json.dumps(meta | change))
            with pytest.raises(LeakError):
                evaluate(run.path)
    finally:
        (run / "meta.json").write_text(json.dumps(meta))


def test_an_experiment_writes_its_rows_and_does_nothing_twice(
    manifest: Manifest, protocol: Path, tmp_path: Path
) -> None:
    file = tmp_path / "toy.yaml"
    file.write_text(
        "title: Toy\n"
        f"settings: {{protocol: {protocol}, encoder: functionals}}\n"
        "rows:\n"
        "  - {method: svm}\n"
        "  - {method: logistic, settings: {head: logistic}, against: svm, enrolment: [5]}\n"
    )
    with few_trials():
        page = experiment(file, manifest, tmp_path / "results", tmp_path / "runs")
    rows = read_results(tmp_path / "results" / "toy.json")
    assert [(row.method, row.enrolment) for row in rows] == [("svm", 0), ("logistic", 0), ("logistic", 5)]
    assert rows[1].against == "svm"
    assert rows[1].difference == pytest.approx(rows[1].uar - rows[0].uar, abs=1e-6)
    assert all(row.manifest_sha256 == manifest.sha256 and row.command for row in rows)
    assert "logistic" in page.read_text()
    made = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*.safetensors")}
    experiment(file, manifest, tmp_path / "results", tmp_path / "runs")
    assert made == {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*.safetensors")}
    assert len(read_results(tmp_path / "results" / "toy.json")) == 3


def test_an_experiment_that_refers_to_no_row_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    file = tmp_path / "toy.yaml"
    rows = "[{method: svm}, {method: other, against: smv}]"
    file.write_text(f"title: Toy\nsettings: {{protocol: speaker-kfold}}\nrows: {rows}\n")
    with pytest.raises(ConfigError, match="did you mean 'svm'"):
        experiment(file, manifest, tmp_path, tmp_path)


def test_a_leak_on_purpose_is_stamped(manifest: Manifest, tmp_path: Path) -> None:
    settings = finetune_settings(protocol="random-by-clip", encoder="functionals", enrolment=False)
    report = evaluate(finetune(manifest, settings, tmp_path / "leak").path)
    assert report.speaker_dependent
    assert "speaker-dependent" in report.markdown()
    assert "speaker-dependent" in report.html()
    assert "speaker-dependent" in (tmp_path / "leak" / "recogniser" / "README.md").read_text()


def _tested(run: RunFolder) -> str:
    table = pd.read_parquet(run / "predictions.parquet")
    return str(table[(table["part"] == "test") & (table["fold"] == 1)]["speaker"].iloc[0])
