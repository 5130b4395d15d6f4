"""The front door is pinned, and so is the second ring; neither it nor the help loads anything heavy."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

import affetto
from affetto.corpora.arrays import cell, write_vectors
from affetto.errors import AffettoError

HEAVY = ["torch", "pandas", "scipy", "sklearn", "matplotlib", "transformers", "accelerate", "numpy"]


FRONT_DOOR = [
    *[
        "AffettoError",
        "EmotionEstimator",
        "Encoder",
        "Manifest",
        "Recogniser",
        "Report",
        "analyse",
        "annotate",
        "embed",
        "evaluate",
        "export_onnx",
    ],
    *[
        "finetune",
        "list_protocols",
        "load_protocol",
        "plots",
        "predict",
        "pretrain",
        "push_to_hub",
        "scan",
        "settings",
    ],
]
# What the pages may import in addition, by module: the second ring of docs/index.md.
SECOND_RING = {
    "affetto.corpora": [
        "About",
        "Corpus",
        "Marks",
        "dividing",
        "known_corpora",
        "marks_of",
        "read_curves",
        "read_vectors",
    ],
    "affetto.evaluation": [
        *["METRICS", "Difference", "Interval", "Metric", "check_predictions", "enrolment_scores"],
        *["paired_difference", "read_predictions", "speaker_bootstrap", "summarise"],
    ],
    "affetto.experiment": ["Result", "draw_results", "read_results", "write_results"],
    "affetto.features": ["STATISTICS", "VOICED", "FrontEnd", "band_centres", "band_places", "functionals"],
    "affetto.inference": ["Enrolment", "Outcome", "Score", "Segment", "load_representation"],
    "affetto.language": [
        *["Hit", "Index", "index", "language_settings", "pretrain_language", "with_prompts", "worded"]
    ],
    "affetto.models": [
        *["build_encoder", "CnnSettings", "TdnnSettings", "MockingjaySettings", "NpcSettings"],
        *[
            "FilterbankSettings",
            "Ge2eSettings",
            "Ge2eSpectrumSettings",
            "Wav2Vec2Settings",
            "WhisperBlocksSettings",
            "WhisperSettings",
        ],
    ],
    "affetto.objectives": [
        *["TASKS", "TaskSpec", "contrastive_losses", "margin_losses", "reverse_gradient", "mean_distance"],
        *["concordance", "gathered", "mean_over_processes"],
    ],
    "affetto.hear": ["HearModel", "get_scene_embeddings", "get_timestamp_embeddings", "load_model"],
    "affetto.serving": ["Limits", "application"],
}


def test_the_front_door_is_pinned() -> None:
    assert affetto.__all__ == FRONT_DOOR
    assert dir(affetto) == sorted([*FRONT_DOOR, "__version__"])
    assert public(affetto.annotate) == ["clusters", "intensity", "speakers"]
    assert public(affetto.analyse) == ["clusters", "layers"]


def public(module: ModuleType) -> list[str]:
    """Returns the public functions and classes that a module defines."""
    own = {name: thing for name, thing in vars(module).items() if not name.startswith("_")}
    return sorted(name for name, thing in own.items() if getattr(thing, "__module__", "") == module.__name__)


@pytest.mark.parametrize("name", FRONT_DOOR)
def test_every_name_leads_somewhere(name: str) -> None:
    thing = getattr(affetto, name)
    assert thing.__doc__
    if not isinstance(thing, ModuleType):
        assert thing.__name__ == name
        assert thing.__module__.startswith("affetto.")


@pytest.mark.parametrize("room", SECOND_RING)
def test_the_second_ring_is_pinned(room: str) -> None:
    module = import_module(room)
    names = getattr(module, "__all__", None) or public(module)
    assert sorted(set(names) - set(FRONT_DOOR)) == sorted(SECOND_RING[room])
    assert all(getattr(module, name) is not None for name in names)


def test_settings_of_every_verb_are_composed() -> None:
    chosen = affetto.settings(
        "finetune", protocol="speaker-kfold", encoder="cnn", overrides=["train.epochs=2"]
    )
    assert (chosen.recipe, chosen.train.epochs) == ("cnn", 2)
    assert affetto.settings("pretrain", objective="npc").encoder.name == "npc"
    assert affetto.settings("annotate clusters", overrides=["clusters.count=3"]).clusters.count == 3
    assert affetto.settings("annotate speakers", name=None) == affetto.settings("annotate speakers")
    assert affetto.settings("annotate intensity", source="loudness").column == "loudness"
    assert affetto.settings("analyse clusters", map="pca").map == "pca"
    assert affetto.settings("analyse layers", protocol="speaker-kfold", encoder="tdnn").frozen
    with pytest.raises(AffettoError, match="did you mean 'finetune'"):
        affetto.settings("finetun")
    with pytest.raises(AffettoError, match="unknown setting 'cuont'"):
        affetto.settings("annotate clusters", overrides=["cuont=3"])


def test_settings_come_from_a_file_too(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text("clusters: {count: 3, fewest: 4}\n", encoding="utf-8")
    chosen = affetto.settings("annotate clusters", file, clusters={"fewest": 5}).clusters
    assert (chosen.count, chosen.fewest) == (3, 5)


def test_annotate_and_analyse_are_the_verbs(tmp_path: Path) -> None:
    manifest = affetto.scan("toy", tmp_path / "toy", speakers=2, takes=1)
    run = affetto.annotate.intensity(manifest, tmp_path / "curves", source="loudness")
    annotated = affetto.Manifest.read(run / "manifest.csv")
    assert annotated.table["loudness"].notna().all()
    vectors = np.random.default_rng(0).normal(size=(len(manifest), 4)).astype(np.float32)
    info = {"encoder": "made up", "encoder_sha256": "0"}
    write_vectors(tmp_path / "v.npy", vectors, [str(row) for row in range(len(manifest))], info)
    cells = [cell(tmp_path / "v.npy", row) for row in range(len(manifest))]
    column = pd.Series(cells, manifest.table.index, dtype=object)
    run = affetto.annotate.clusters(
        manifest.with_columns({"voice": column}), tmp_path / "c", count=2, embedding="voice"
    )
    found = affetto.Manifest.read(run / "manifest.csv")
    assert set(found.table["cluster"]) == {0, 1}
    run = affetto.analyse.clusters(found, tmp_path / "a", embedding="voice", map="none", measure=False)
    assert (run / "report.html").exists()


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'recognizer'"):
        _ = affetto.recognizer


@pytest.mark.parametrize("code", ["import affetto", "import affetto.__main__, affetto.cli"])
def test_importing_loads_nothing_heavy(code: str) -> None:
    assert _loaded(code) == []


@pytest.mark.parametrize("arguments", [["--help"], ["finetune", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["affetto", *{arguments!r}]
from affetto.__main__ import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""
    assert _loaded(code) == []


def test_the_module_runs_as_a_command() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "affetto", "--help"], capture_output=True, text=True, check=True, env=_env()
    )
    for verb in ("scan", "manifest", "protocols", "finetune", "evaluate", "predict"):
        assert f"\n  {verb} " in ran.stdout


def _env() -> dict[str, str]:
    return {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}


def _loaded(code: str) -> list[str]:
    code += f"\nimport json, sys\nprint(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_env())
    return json.loads(ran.stdout.splitlines()[-1])  # type: ignore[no-any-return]
