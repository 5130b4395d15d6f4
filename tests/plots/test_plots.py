"""Figures hold what they were given, and leave matplotlib as it was."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from affetto import plots
from affetto.plots.style import look

LABELS = ("anger", "fear", "neutral")
COUNTS = np.array([[8, 1, 1], [0, 0, 0], [1, 2, 7]])


def words(figure: Figure) -> str:
    """All text of a figure, after it was drawn."""
    assert plots.to_png(figure, dpi=40)[:8] == b"\x89PNG\r\n\x1a\n"
    return " ".join(text.get_text() for text in figure.findobj(mpl.text.Text))


def figures(stamp: str | None = None) -> dict[str, Figure]:
    curve = np.array([[0.5, 0.45, 0.55], [0.6, np.nan, np.nan], [np.nan] * 3])
    shares = np.random.default_rng(0).dirichlet(np.ones(3), 9)
    starts = np.arange(9.0)
    return {
        "confusion": plots.confusion(COUNTS, LABELS, stamp=stamp),
        "reliability": plots.reliability([0.2, np.nan], [0.3, np.nan], [5, 0], error=0.1, stamp=stamp),
        "enrolment_curve": plots.enrolment_curve((0, 5, "all"), {"random": curve}, stamp=stamp),
        "timeline": plots.timeline(starts, starts + 2, shares, LABELS, stamp=stamp),
        "bars": plots.bars(["a", "b"], [0.5, 0.6], [0.4, np.nan], [0.6, np.nan], stamp=stamp),
    }


@pytest.mark.parametrize("name", figures())
def test_every_figure_draws_and_carries_its_stamp(name: str) -> None:
    assert "SPEAKER-DEPENDENT" not in words(figures()[name])
    assert "SPEAKER-DEPENDENT" in words(figures("speaker-dependent")[name])


def test_confusion_shows_shares_counts_and_empty_classes() -> None:
    text = words(plots.confusion(COUNTS, LABELS))
    for part in ("80%", "70%", "no test rows", "fear\n(0)", "anger\n(10)"):
        assert part in text
    assert "nan" not in text


def test_reliability_prints_the_error() -> None:
    assert "calibration error 10.0 %" in words(figures()["reliability"])


def test_timeline_stacks_to_one_and_names_the_winner() -> None:
    shares = np.tile([0.1, 0.7, 0.2], (4, 1))
    figure = plots.timeline(np.arange(4.0), np.arange(4.0) + 2, shares, LABELS)
    assert "fear" in words(figure)
    tops = [patch.get_y() + patch.get_height() for patch in figure.axes[0].patches]
    assert max(tops) == pytest.approx(1)
    assert figure.axes[0].get_xlim() == (0, 5)


def test_a_timeline_of_one_window() -> None:
    assert "neutral" in words(plots.timeline([0.0], [2.0], [[0.1, 0.2, 0.7]], LABELS))


def test_bars_name_their_values() -> None:
    text = words(figures()["bars"])
    assert "50.0" in text
    assert "60.0" in text


def test_more_classes_than_colours_are_told_apart_by_hatching() -> None:
    styles = {look(number) for number in range(24)}
    assert len(styles) == 24


def test_no_global_state() -> None:
    code = (
        "import matplotlib, sys; before = matplotlib.rcParams.copy()\n"
        "from affetto import plots; plots.to_png(plots.bars(['a'], [.5], [.4], [.6]), dpi=30)\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules\n"
        "assert matplotlib.rcParams.copy() == before"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_label_curve_has_a_line_a_method_and_marks_the_shares() -> None:
    lines = {"none": [[0.3, 0.25, 0.35], [0.5, 0.45, 0.55]], "clusters": [[0.4, 0.3, 0.5], [np.nan] * 3]}
    figure = plots.label_curve((0.1, 1.0), lines, stamp="speaker-dependent")
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["10 %", "100 %"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["none", "clusters"]
    drawn = [line.get_ydata() for line in axes.get_lines()]
    np.testing.assert_allclose(drawn[0], [0.3, 0.5])
    np.testing.assert_allclose(drawn[1], [0.4])
    ends = [segment[:, 1].tolist() for lines in axes.collections for segment in lines.get_segments()]
    assert ends == [[0.25, 0.35], [0.45, 0.55], [0.3, 0.5]]
    assert "SPEAKER-DEPENDENT" in figure.get_suptitle()
