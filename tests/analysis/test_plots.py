"""Maps show every utterance by emotion and cluster; a row a confound, a dot a speaker."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from affetto import plots
from affetto.analysis.plots import MARKERS, _marker, _palette


def words(figure: Figure) -> str:
    assert plots.to_png(figure, dpi=40)[:8] == b"\x89PNG\r\n\x1a\n"
    return " ".join(text.get_text() for text in figure.findobj(mpl.text.Text))


def maps(count: int = 4) -> list[plots.Map]:
    generator = np.random.default_rng(0)
    return [
        plots.Map(
            f"speaker {number}", generator.normal(size=(9, 2)), np.arange(9) % 3 - 1, np.arange(9) % 4 - 1
        )
        for number in range(count)
    ]


def test_maps_hold_every_utterance_and_say_what_is_what() -> None:
    figure = plots.speaker_maps(maps(), ["anger", "fear"], title="Maps", stamp="made up")
    text = words(figure)
    for part in ("speaker 0", "speaker 3", "anger", "fear", "cluster 2", "no cluster", "MADE UP"):
        assert part in text
    drawn = figure.axes[0].collections
    assert sum(len(points.get_offsets()) for points in drawn) == 9
    assert [axes.get_visible() for axes in figure.axes] == [True] * 4 + [False] * 2


def test_colour_is_the_class_where_there_is_one_and_the_cluster_where_not() -> None:
    one = plots.Map("x", np.eye(2), np.array([0, 1]), np.array([0, 0]))
    by_class = plots.speaker_maps([one], ["a", "b"]).axes[0].collections[0].get_facecolors()
    by_cluster = plots.speaker_maps([one], []).axes[0].collections[0].get_facecolors()
    assert len(np.unique(by_class, axis=0)) == 2
    assert len(np.unique(by_cluster, axis=0)) == 1
    assert "cluster 0" in words(plots.speaker_maps([one], []))


def test_many_clusters_and_many_classes_are_told_apart() -> None:
    assert len({_marker(number) for number in range(-1, 40)}) == 41
    assert _marker(len(MARKERS)) == f"${len(MARKERS)}$"
    assert len(set(_palette(30))) == 30
    many = plots.Map("x", np.random.default_rng(0).normal(size=(16, 2)), np.arange(16), np.arange(16))
    assert "cluster 15" in words(plots.speaker_maps([many], [f"class {number}" for number in range(16)]))


def test_followed_shows_means_intervals_and_speakers() -> None:
    values = {"emotion": [0.5, np.nan, 0.7], "duration": [-0.1, 0.1, 0.0]}
    means = {"emotion": (0.6, 0.5, 0.7), "duration": (-0.02, None, None)}
    figure = plots.followed(["emotion", "duration"], values, means, emphasised="emotion", stamp="made up")
    text = words(figure)
    for part in ("emotion", "duration", "0.60", "\N{MINUS SIGN}0.02", "MADE UP"):
        assert part in text
