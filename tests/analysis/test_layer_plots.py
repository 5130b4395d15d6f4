"""A line an encoder, a bar a weight, and what is not known is not drawn."""

import matplotlib as mpl
import numpy as np

from affetto import plots


def test_layers_are_drawn_with_their_sum_and_its_weights() -> None:
    lines = {
        "mine": [[0.4, 0.3, 0.5], [0.5, 0.4, 0.6], [0.3, np.nan, np.nan]],
        "untrained": [[0.2, 0.1, 0.3]] * 3,
    }
    weights = {"mine": [0.2, 0.5, 0.3], "untrained": [1 / 3] * 3}
    figure = plots.layers(lines, {"mine": 0.55, "untrained": 0.21}, weights, chance=0.25, stamp="made up")
    assert plots.to_png(figure, dpi=40)[:8] == b"\x89PNG\r\n\x1a\n"
    upper, lower = figure.axes
    levels = [line.get_ydata()[0] for line in upper.lines if len(set(np.atleast_1d(line.get_ydata()))) == 1]
    assert {0.55, 0.21, 0.25} <= {round(float(level), 2) for level in levels}
    np.testing.assert_allclose(upper.lines[0].get_ydata(), [0.4, 0.5, 0.3])
    assert [round(bar.get_height(), 2) for bar in lower.patches] == [0.2, 0.5, 0.3, 0.33, 0.33, 0.33]
    text = " ".join(each.get_text() for each in figure.findobj(mpl.text.Text))
    for part in ("mine, weighted sum", "untrained", "chance", "MADE UP", "layer, 0 is nearest"):
        assert part in text


def test_one_encoder_alone() -> None:
    figure = plots.layers({"untrained": [[0.2, 0.1, 0.3]]}, {}, {})
    assert plots.to_png(figure, dpi=40)
    assert not figure.axes[1].patches
