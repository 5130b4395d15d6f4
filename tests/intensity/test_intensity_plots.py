"""Curves lie over the spectrograms that they were read from, on one axis of time."""

import matplotlib as mpl
import numpy as np
import pytest

from affetto.intensity.page import Spoken, curve_figure
from affetto.plots import to_png


def spoken(number: int, values: int = 10) -> Spoken:
    generator = np.random.default_rng(number)
    return Spoken(
        f"utterance {number}", generator.normal(size=(40, 8)), 0.01, np.linspace(0, 1, values), 0.4 / values
    )


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_utterance_has_its_curve_and_its_mean(count: int) -> None:
    figure = curve_figure([spoken(number) for number in range(count)], name="loudness")
    assert to_png(figure, dpi=40)[:8] == b"\x89PNG\r\n\x1a\n"
    text = " ".join(each.get_text() for each in figure.findobj(mpl.text.Text))
    for part in ("utterance 0, mean 0.50", f"utterance {count - 1}", "loudness", "seconds"):
        assert part in text
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == count
    for axes in shown:
        outline, curve, mean = axes.get_lines()
        times, values = np.asarray(curve.get_data())
        np.testing.assert_allclose(times, 0.02 + 0.04 * np.arange(10))
        np.testing.assert_allclose(values, np.linspace(0, 1, 10))
        np.testing.assert_array_equal(outline.get_data(), curve.get_data())
        assert mean.get_ydata()[0] == pytest.approx(0.5)
        assert axes.get_xlim() == pytest.approx((0, 0.4))


def test_silence_can_be_drawn() -> None:
    still = Spoken("silence", np.full((5, 4), -23.0), 0.01, np.zeros(1), 0.05)
    assert to_png(curve_figure([still]), dpi=40)
