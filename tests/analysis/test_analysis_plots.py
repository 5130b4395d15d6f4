"""Figures of the analyses show every utterance, speaker, layer and interval."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from affetto.analysis.plots import (
    Map,
    _marker,
    _palette,
    agreement_by_speaker,
    scores_by_layer,
    speaker_maps,
)
from affetto.plots import to_png
from affetto.plots.style import MARKERS


def words(figure: Figure) -> str:
    assert to_png(figure, dpi=40)[:8] == b"\x89PNG\r\n\x1a\n"
    return " ".join(text.get_text() for text in figure.findobj(mpl.text.Text))


def maps(count: int = 4) -> list[Map]:
    generator = np.random.default_rng(0)
    return [
        Map(f"speaker {number}", generator.normal(size=(9, 2)), np.arange(9) % 3 - 1, np.arange(9) % 4 - 1)
        for number in range(count)
    ]


def test_maps_hold_every_utterance_and_say_what_is_what() -> None:
    figure = speaker_maps(maps(), ["anger", "fear"])
    text = words(figure)
    for part in ("speaker 0", "speaker 3", "anger", "fear", "cluster 2", "no cluster"):
        assert part in text
    drawn = figure.axes[0].collections
    assert sum(len(points.get_offsets()) for points in drawn) == 9
    assert [axes.get_visible() for axes in figure.axes] == [True] * 4 + [False] * 2


def test_colour_is_the_class_where_there_is_one_and_the_cluster_where_not() -> None:
    one = Map("x", np.eye(2), np.array([0, 1]), np.array([0, 0]))
    by_class = speaker_maps([one], ["a", "b"]).axes[0].collections[0].get_facecolors()
    by_cluster = speaker_maps([one], []).axes[0].collections[0].get_facecolors()
    assert len(np.unique(by_class, axis=0)) == 2
    assert len(np.unique(by_cluster, axis=0)) == 1
    assert "cluster 0" in words(speaker_maps([one], []))


def test_many_clusters_and_many_classes_are_told_apart() -> None:
    assert len({_marker(number) for number in range(-1, 40)}) == 41
    assert _marker(len(MARKERS)) == f"${len(MARKERS)}$"
    assert len(set(_palette(30))) == 30
    many = Map("x", np.random.default_rng(0).normal(size=(16, 2)), np.arange(16), np.arange(16))
    assert "cluster 15" in words(speaker_maps([many], [f"class {number}" for number in range(16)]))


def test_agreement_shows_means_intervals_and_speakers() -> None:
    values = {"emotion": [0.5, np.nan, 0.7], "duration": [-0.1, 0.1, 0.0]}
    means = {"emotion": (0.6, 0.5, 0.7), "duration": (-0.02, None, None)}
    figure = agreement_by_speaker(values, means, "emotion")
    text = words(figure)
    for part in ("emotion", "duration", "0.60", "\N{MINUS SIGN}0.02"):
        assert part in text


def test_layers_are_drawn_with_their_sum_and_its_weights() -> None:
    lines = {
        "mine": [[0.4, 0.3, 0.5], [0.5, 0.4, 0.6], [0.3, np.nan, np.nan]],
        "untrained": [[0.2, 0.1, 0.3]] * 3,
    }
    weights = {"mine": [0.2, 0.5, 0.3], "untrained": [1 / 3] * 3}
    figure = scores_by_layer(lines, {"mine": 0.55, "untrained": 0.21}, weights, chance=0.25, stamp="made up")
    assert to_png(figure, dpi=40)[:8] == b"\x89PNG\r\n\x1a\n"
    upper, lower = figure.axes
    levels = [line.get_ydata()[0] for line in upper.lines if len(set(np.atleast_1d(line.get_ydata()))) == 1]
    assert {0.55, 0.21, 0.25} <= {round(float(level), 2) for level in levels}
    np.testing.assert_allclose(upper.lines[0].get_ydata(), [0.4, 0.5, 0.3])
    assert [round(bar.get_height(), 2) for bar in lower.patches] == [0.2, 0.5, 0.3, 0.33, 0.33, 0.33]
    text = " ".join(each.get_text() for each in figure.findobj(mpl.text.Text))
    for part in ("mine, weighted sum", "untrained", "chance", "MADE UP", "layer, 0 is nearest"):
        assert part in text
