"""The report says what it must, on both faces."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import precision_score, recall_score
from synthetic import LABELS, predictions

from affetto.errors import LeakError, ManifestError
from affetto.evaluation import paired_difference, speaker_bootstrap, summarise
from affetto.evaluation.metrics import same_metric
from affetto.experiment import Result
from affetto.pages import Table, decimal

DEV = {"chosen_on": "dev"}
PROTOCOL: dict[str, Any] = {
    "name": "toy-4",
    "labels": LABELS,
    "average": "mean",
    "caveats": ["All sentences are in every part."],
    "published": [
        {
            "system": "Linear <probe>",
            "metric": "accuracy",
            "value": 65.5,
            "source": "a | b",
            "caveat": "3 runs",
        },
        {"system": "Votes", "metric": "macro_f1 on votes", "value": 0.6, "source": "c"},
        {"system": "Pooled", "metric": "uar", "value": 0.6, "source": "d", "comparable": False},
    ],
}


class Page(HTMLParser):
    """Collects text, tags and attributes; complains about tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_scores_and_tables_equal_their_definitions() -> None:
    table = predictions()
    report = summarise(table, PROTOCOL, DEV, draws=300)
    assert report.scores["macro_f1"] == speaker_bootstrap(table, "macro_f1", draws=300)
    assert report.per_fold["uar"].mean() == pytest.approx(report.scores["uar"].value)
    rows = table[table["part"] == "test"]
    for column, score in (("recall", recall_score), ("precision", precision_score)):
        seeds = [
            score(part["truth"], part["label"], labels=LABELS, average=None)
            for _, part in rows.groupby("seed")
        ]
        np.testing.assert_allclose(report.per_class[column].astype(float), np.mean(seeds, axis=0))
    assert report.per_class["utterances"].sum() == report.utterances == 96
    assert report.confusion.sum() == pytest.approx(96)
    assert report.speakers == len(report.per_speaker) == 12
    assert report.per_gender is not None
    assert list(report.per_gender["gender"]) == ["female", "male"]
    women = rows[rows["gender"] == "female"]
    assert report.per_gender["war"][0] == pytest.approx((women["truth"] == women["label"]).mean())


def test_only_test_rows_count() -> None:
    table = predictions()
    spoilt = table.copy()
    spoilt.loc[spoilt["part"] != "test", "label"] = "anger"
    assert (
        summarise(table, PROTOCOL, DEV, draws=50).scores == summarise(spoilt, PROTOCOL, DEV, draws=50).scores
    )


def test_the_page_stands_alone_and_is_escaped() -> None:
    table = predictions().assign(method="<script>alert(1)</script> & co")
    page = Page(summarise(table, PROTOCOL, DEV, draws=50).html())
    assert page.open == []
    assert page.tags.count("img") == 2
    assert page.sources
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "<script>alert(1)</script> & co on toy-4" in page.text
    assert "prefers-color-scheme: dark" in page.text
    assert "Linear <probe>" in page.text


def test_markdown_names_its_figures_and_keeps_its_tables_whole(tmp_path: Path) -> None:
    summarise(predictions(), PROTOCOL, DEV, draws=50).write(tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    for name in ("confusion", "reliability"):
        assert f"]({name}.png)" in text
        assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert r"a \| b" in text
    assert "Linear &lt;probe>" in text
    assert "All sentences are in every part." in text


def test_figures_are_written_with_their_intervals() -> None:
    assert decimal(0.384, 0.3649, 0.4) == "0.38 [0.36, 0.40]"
    assert decimal(-0.128) == "\N{MINUS SIGN}0.13"
    assert (decimal(-0.001), decimal(None), decimal(float("nan"))) == ("0.00", "", "")
    assert decimal(0.5, None, None) == "0.50"


def test_published_figures_stand_beside_ours_or_apart() -> None:
    report = summarise(predictions(), PROTOCOL, DEV, draws=50)
    beside, apart = report.markdown().split("Not comparable with the scores above")
    war = report.scores["war"].value
    gap = f"{100 * (war - 0.655):+.1f}".replace("-", "\N{MINUS SIGN}")
    assert f"| Linear &lt;probe> | WAR | 65.5 | {100 * war:.1f} | {gap} |" in beside
    assert "Votes" not in beside
    assert "| Votes | macro_f1 on votes | 60.0 | c |" in apart
    assert "| Pooled | uar | 60.0 | d |" in apart


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("UA", "uar"),
        ("balanced_accuracy", "uar"),
        ("WA", "war"),
        ("macro-F1", "macro_f1"),
        ("macro_f1", "macro_f1"),
        ("macro-F1 on votes", "votes_f1"),
        ("score over four corpora", None),
    ],
)
def test_metric_names(name: str, ours: str | None) -> None:
    assert same_metric(name) == ours


def test_a_class_without_test_rows_is_said_and_never_nan() -> None:
    table = predictions()
    table = table[(table["part"] != "test") | (table["truth"] != "fear")]
    report = summarise(table, PROTOCOL, DEV, draws=50)
    text = report.markdown()
    assert "Class fear has no test rows" in text
    assert "| fear | no test rows |" in text
    assert "nan" not in text.lower()
    assert "nan" not in Page(report.html()).text.lower()
    assert report.row()["uar"] == pytest.approx(speaker_bootstrap(table).value)


def test_paired_test_is_printed_and_goes_into_the_row() -> None:
    ours, theirs = predictions(skill=1.0), predictions(skill=0.3, draw=1, seeds=(0,))
    report = summarise(ours, PROTOCOL, DEV, method="new", against=theirs, against_name="old", draws=200)
    gap = paired_difference(ours, theirs, draws=200)
    assert report.differences["uar"] == gap
    assert "## Against old\n\n*Points above old" in report.markdown()
    row = Result.model_validate(
        report.row(command="affetto evaluate new", manifest_sha256="ab", label_fraction=0.1)
    )
    assert (row.against, row.difference, row.difference_low) == ("old", gap.value, gap.low)
    assert (row.method, row.protocol, row.label_fraction, row.seeds) == ("new", "toy-4", 0.1, [0, 1])
    assert row.extra("macro_f1") == report.scores["macro_f1"].value


def test_leaks_are_refused_and_the_marked_run_is_stamped_everywhere() -> None:
    table = predictions()
    table.loc[table["part"] == "dev", "part"] = "train"
    index = table.index[table["part"] == "test"][0]
    table.loc[index, "part"] = "train"
    with pytest.raises(LeakError, match="fold 0 has speaker"):
        summarise(table, PROTOCOL, DEV)
    with pytest.raises(LeakError, match="chosen on 'test'"):
        summarise(predictions(), PROTOCOL, {"chosen_on": "test"})
    report = summarise(table, PROTOCOL | {"speaker_dependent": True}, DEV, draws=50)
    captions = [line for line in report.markdown().splitlines() if line.startswith("*")]
    assert len(captions) > 4
    assert all(line.startswith(("*speaker-dependent: ", "*Not comparable")) for line in captions)
    assert "> **speaker-dependent: " in report.markdown()
    assert report.row()["speaker_dependent"] is True
    plain = summarise(predictions(), PROTOCOL, DEV, draws=50)
    assert "speaker-dependent" not in plain.markdown()


def test_enrolment_is_stated_in_every_table_of_scores() -> None:
    report = summarise(predictions().assign(enrolment=10), PROTOCOL, DEV, draws=50)
    words = "10 unlabelled enrolment utterances a speaker, not scored"
    captions = [line for line in report.markdown().splitlines() if line.startswith("*")]
    assert all(words in line for line in captions if not line.startswith("*Not comparable"))
    assert report.row()["enrolment"] == 10


def test_a_curve_is_drawn_where_one_is_given() -> None:
    curve = pd.DataFrame(
        {
            "enrolment": [0, 5, "all"],
            "utterances": [96, 36, 96],
            "uar": [0.5, 0.55, 0.6],
            "difference": [None, 0.05, 0.1],
        }
    )
    report = summarise(predictions(), PROTOCOL, DEV, curve=curve, draws=50)
    assert "| all | 96 | 60.0 | +10.0 |" in report.markdown()
    assert "enrolment" in report.pictures()
    assert "nan" not in report.markdown()


def test_bare_tables_and_single_speakers_still_report() -> None:
    columns = ["key", "speaker", "part", "fold", "seed", "truth", "label"]
    report = summarise(predictions(speakers=1, folds=1)[columns], {}, {})
    text = report.markdown()
    assert "an interval over speakers cannot be given" in text
    assert "does not say on which part" in text
    assert "Calibration" not in text
    assert report.per_gender is None
    assert report.row()["uar_low"] is None
    with pytest.raises(ManifestError, match="lacks the column truth"):
        summarise(predictions().drop(columns="truth"), PROTOCOL, DEV)


def test_markdown_escapes_only_what_would_be_read_otherwise() -> None:
    table = Table(("score", "p"), [("a|b & <i>", "< 0.001")], caption="*all*")
    assert table.markdown().splitlines()[0] == r"*\*all\**"
    assert table.markdown().splitlines()[-1] == r"| a\|b &amp; &lt;i> | < 0.001 |"
