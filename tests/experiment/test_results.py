"""Result rows: merged by key, written whole, drawn as a table."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from affetto.errors import RunError
from affetto.experiment import Result, draw_results, read_results, write_results


def row(method: str = "cnn", **values: Any) -> Result:
    basic: dict[str, Any] = {
        "method": method,
        "protocol": "toy-4",
        "seeds": [0, 1, 2],
        "uar": 0.655,
        "uar_low": 0.639,
        "uar_high": 0.671,
        "war": 0.66,
        "command": f"affetto evaluate runs/{method}",
        "manifest_sha256": "ab" * 32,
    }
    return Result.model_validate(basic | values)


def test_a_row_of_the_same_key_is_replaced_in_place(tmp_path: Path) -> None:
    file = tmp_path / "results" / "toy.json"
    write_results(file, [row(), row("svm"), row(enrolment=10)])
    rows = write_results(
        file, [row(uar=0.7, enrolment="0"), row(label_fraction=0.1), row(enrolment="10", uar=0.8)]
    )
    assert [(r.method, r.enrolment, r.label_fraction, r.uar) for r in rows] == [
        ("cnn", 0, 1.0, 0.7),
        ("svm", 0, 1.0, 0.655),
        ("cnn", 10, 1.0, 0.8),
        ("cnn", 0, 0.1, 0.655),
    ]
    assert read_results(file) == rows
    assert not list(file.parent.glob(".*"))


def test_extra_fields_are_kept(tmp_path: Path) -> None:
    write_results(tmp_path / "toy.json", [row(parameters=1_400_000)])
    (again,) = read_results(tmp_path / "toy.json")
    assert again.extra("parameters") == 1_400_000
    assert json.loads((tmp_path / "toy.json").read_text(encoding="utf-8"))[0]["parameters"] == 1_400_000


@pytest.mark.parametrize("wrong", [{"uar": 65.5}, {"uar": float("nan")}, {"war": None}])
def test_percent_and_nan_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        row(**wrong)


def test_a_damaged_file_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "toy.json"
    for text in ('{"method": "cnn"}', "[{", '[{"method": "cnn"}]'):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(RunError, match=r"toy\.json"):
            write_results(file, [row()])
        assert file.read_text(encoding="utf-8") == text


def test_the_drawn_table(tmp_path: Path) -> None:
    file = tmp_path / "toy.json"
    compared = {"against": "svm", "difference": -0.031, "difference_low": -0.05, "difference_high": 0.002}
    leak = row("leak", speaker_dependent=True, uar_low=None, uar_high=None)
    write_results(file, [row("svm", macro_f1=0.5), row(enrolment=10, **compared), leak])
    text = draw_results(file, title="Toy", notes=["*Note.*"], columns=["macro_f1"], figure=True).read_text(
        "utf-8"
    )
    assert text.startswith("# Toy\n\nProtocol `toy-4`.")
    assert " | UAR difference | to | macro-F1 |\n|---|---:|---:|---:|---:|---:|---|---:|" in text
    assert "| svm | 0 | 3 | 65.5 [63.9, 67.1] | 66.0 |  |  | 50.0 |" in text
    minus = "\N{MINUS SIGN}"
    assert f"| cnn | 10 | 3 | 65.5 [63.9, 67.1] | 66.0 | {minus}3.1 [{minus}5.0, +0.2] | svm |  |" in text
    assert "| leak (speaker-dependent) | 0 | 3 | 65.5 | 66.0 |" in text
    assert "not scored" in text
    assert "- *Note.*" in text
    assert "affetto evaluate runs/svm\naffetto evaluate runs/cnn\naffetto evaluate runs/leak\n```" in text
    assert text.count("ab" * 32) == 1
    assert (tmp_path / "toy.png").read_bytes()[:4] == b"\x89PNG"


def test_columns_appear_only_when_they_say_something(tmp_path: Path) -> None:
    file = tmp_path / "toy.json"
    write_results(file, [row()])
    heads = draw_results(file).read_text("utf-8").splitlines()[4]
    assert heads == "| method | enrolment | seeds | UAR | WAR |"
    write_results(file, [row(protocol="other", label_fraction=0.1)])
    heads = draw_results(file).read_text("utf-8").splitlines()[4]
    assert heads == "| method | protocol | labels | enrolment | seeds | UAR | WAR |"


def test_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no result rows"):
        draw_results(tmp_path / "none.json")
