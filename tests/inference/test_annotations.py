"""Label files hold what the rows hold: each is read by the parser of its own program."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from affetto.errors import ConfigError
from affetto.inference.annotations import FORMS, SINGLE, render

LABELS = ["anger", "neutral"]
ODD = 'Zoë "Z"\t<b> & --> 1\n2\x0c\x07\ud8003'
ODD_LINE = 'Zoë "Z" <b> & --> 1 2 3'


def row(start: float, end: float, label: str | None, file: str = "a b/ö.wav", **more: Any) -> dict[str, Any]:
    sure = None if label in (None, "unknown") else 0.75
    error = None if label else "a b/ö.wav: truncated"
    shares = {f"p_{name}": sure for name in LABELS}
    withheld = "no speech" if label == "unknown" else None
    known: dict[str, Any] = {"file": file, "start": start, "end": end, "label": label, "confidence": sure}
    return known | shares | {"withheld": withheld, "error": error} | more


WINDOWS = [row(0, 2, "anger"), row(1, 3, "neutral"), row(2, 4, "unknown"), row(4, 4, None)]
CUT = [(0, 1.5, "anger"), (1.5, 2.5, "neutral"), (2.5, 4, "unknown")]
CALL = [
    row(0.5, 2, "anger", speaker="anna"),
    row(1.25, 3, "neutral", speaker=ODD),
    row(3605.5, 3606.25, ODD, speaker="anna"),
    row(3605.75, 3606, "neutral", speaker="anna"),  # within the one before
]


def textgrid(rows: list[dict[str, Any]], folder: Path) -> dict[str, list[tuple[float, float, str]]]:
    from praatio import textgrid as praat

    (folder / "a.TextGrid").write_text(render("textgrid", rows, LABELS), encoding="utf-8")
    read = praat.openTextgrid(str(folder / "a.TextGrid"), includeEmptyIntervals=False)
    return {tier.name: [tuple(entry) for entry in tier.entries] for tier in read.tiers}


def elan(rows: list[dict[str, Any]], folder: Path) -> dict[str, list[tuple[float, float, str]]]:
    from pympi import Elan

    (folder / "a.eaf").write_text(render("eaf", rows, LABELS), encoding="utf-8")
    read = Elan.Eaf(str(folder / "a.eaf"))
    assert [linked["MEDIA_URL"] for linked in read.get_linked_files()] == ["a%20b/%C3%B6.wav"]
    return {
        name: [
            (start / 1000, end / 1000, text)
            for start, end, text in sorted(read.get_annotation_data_for_tier(name))
        ]
        for name in read.get_tier_names()
    }


@pytest.mark.parametrize("read", [textgrid, elan])
def test_speakers_are_tiers_and_windows_are_cut_midway(read: Any, tmp_path: Path) -> None:
    assert read(WINDOWS, tmp_path) == {"emotion": CUT}
    assert read(CALL, tmp_path) == {
        "anna": [(0.5, 2, "anger"), (3605.5, 3606.25, ODD_LINE)],
        ODD_LINE: [(1.25, 3, "neutral")],
        "anna 2": [(3605.75, 3606, "neutral")],
    }


def test_subtitles_are_read_by_srt() -> None:
    import srt

    read = list(srt.parse(render("srt", WINDOWS, LABELS)))
    assert [(cue.start.total_seconds(), cue.end.total_seconds()) for cue in read] == [
        each[:2] for each in CUT
    ]
    assert [cue.content for cue in read] == ["anger 0.75", "neutral 0.75", "unknown"]
    read = list(srt.parse(render("srt", CALL, LABELS)))
    assert [cue.content for cue in read] == [
        *["anna: anger 0.75", f"{ODD_LINE}: neutral 0.75", f"anna: {ODD_LINE} 0.75", "anna: neutral 0.75"]
    ]
    assert [cue.start.total_seconds() for cue in read] == [0.5, 1.25, 3605.5, 3605.75]


def test_subtitles_are_read_by_webvtt() -> None:
    import webvtt

    read = webvtt.from_string(render("vtt", WINDOWS, LABELS))
    assert [(cue.start_in_seconds, cue.end_in_seconds) for cue in read] == [(0, 1), (1, 2), (2, 4)]  # whole
    assert [cue.start for cue in read] == ["00:00:00.000", "00:00:01.500", "00:00:02.500"]
    read = webvtt.from_string(render("vtt", CALL, LABELS))
    assert [cue.start for cue in read] == ["00:00:00.500", "00:00:01.250", "01:00:05.500", "01:00:05.750"]
    assert read[0].text == "anna: anger 0.75"
    assert read[1].raw_text == 'Zoë "Z" &lt;b&gt; &amp; --&gt; 1 2 3: neutral 0.75'


def test_audacity_has_exact_times_and_one_line_a_label() -> None:
    lines = [line.split("\t") for line in render("audacity", [*WINDOWS[:3], *CALL], LABELS).splitlines()]
    assert [(float(start), float(end)) for start, end, _ in lines] == [
        (each["start"], each["end"]) for each in [*WINDOWS[:3], *CALL]
    ]
    assert [text for *_, text in lines][1:5] == ["neutral", "unknown", "anna: anger", f"{ODD_LINE}: neutral"]


def test_rttm_has_ten_fields_and_names_the_speaker_or_the_emotion() -> None:
    lines = [line.split() for line in render("rttm", [*WINDOWS, *CALL], LABELS).splitlines()]
    assert {len(fields) for fields in lines} == {10}
    assert " ".join(lines[0]) == "SPEAKER a_b/ö.wav 1 0.000000 2.000000 <NA> anger anger 0.750000 <NA>"
    assert lines[2][6:9] == ["unknown", "unknown", "<NA>"]
    assert lines[3][3:9] == ["0.500000", "1.500000", "<NA>", "anger", "anna", "0.750000"]
    assert lines[4][7] == ODD_LINE.replace(" ", "_")


def test_label_studio_gets_a_task_a_recording() -> None:
    tasks = json.loads(
        render("labelstudio", [*WINDOWS, *(each | {"file": "c.wav"} for each in CALL)], LABELS)
    )
    assert [task["data"]["audio"] for task in tasks] == ["a b/ö.wav", "c.wav"]
    (first,), (second,) = (task["predictions"] for task in tasks)
    assert [region["value"]["labels"] for region in first["result"]] == [["anger"], ["neutral"], ["unknown"]]
    assert second["result"][0] == {
        "id": "2-1",
        **{"from_name": "emotion", "to_name": "audio", "type": "labels", "score": 0.75},
        "value": {"start": 0.5, "end": 2, "channel": 0, "labels": ["anger"]},
        "meta": {"text": ["anna"]},
    }


def test_tables_keep_what_could_not_be_read() -> None:
    read = list(csv.DictReader(io.StringIO(render("csv", WINDOWS, LABELS))))
    assert [each["error"] for each in read] == ["", "", "", "a b/ö.wav: truncated"]
    assert [each["label"] for each in json.loads(render("json", WINDOWS, LABELS))["segments"]] == [
        *["anger", "neutral", "unknown", None]
    ]
    assert json.loads(render("verbose_json", CALL, LABELS)) == {"labels": LABELS, "segments": CALL}


@pytest.mark.parametrize("form", FORMS)
def test_no_row_at_all_is_no_crash(form: str) -> None:
    assert isinstance(render(form, [], LABELS), str)
    if form in SINGLE:
        with pytest.raises(
            ConfigError, match=r"holds one recording, and got several; .csv, .jsonl, .parquet, .rttm"
        ):
            render(form, [row(0, 1, "anger"), row(0, 1, "anger", "b.wav")], LABELS)


def test_another_format_and_dimensions_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'textgrid'"):
        render("textgird", WINDOWS, LABELS)
    values = [{"file": "a", "start": 0.0, "end": 1.0, "valence": 0.5, "withheld": None, "error": None}]
    with pytest.raises(ConfigError, match="predicts dimensions"):
        render("srt", values, ["valence"])
    assert json.loads(render("json", values, ["valence"]))["segments"][0]["valence"] == 0.5
