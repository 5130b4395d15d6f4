"""Losses over epochs, and a score along a quantity."""

from affetto import plots


def test_losses_have_a_panel_each_and_a_training_one_colour_in_all_of_them() -> None:
    figure = plots.loss_curves(
        {"contrastive": {"a": [3.0, 2.0], "b": [3.0, 2.5, 2.25]}, "speaker": {"b": [4.0, 1.0, 0.5]}}
    )
    first, second = figure.axes
    assert [first.get_title(), second.get_title()] == ["contrastive", "speaker"]
    lines = [list(line.get_ydata()) for line in first.get_lines()]
    assert lines == [[3.0, 2.0], [3.0, 2.5, 2.25]]
    assert list(first.get_lines()[1].get_xdata()) == [1, 2, 3]
    assert first.get_lines()[1].get_color() == second.get_lines()[0].get_color()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    assert len(plots.to_png(figure)) > 1000


def test_a_score_along_a_quantity_is_drawn_in_its_order_beside_a_level() -> None:
    values = [(0.5, 0.4, 0.6), (0.3, 0.2, 0.4)]
    figure = plots.score_along([1.0, 0.2], values, axis="purity", level=("none", 0.25))
    [axes] = figure.axes
    line, level = axes.get_lines()[0], axes.get_lines()[-1]
    assert list(line.get_xdata()) == [0.2, 1.0]
    assert list(line.get_ydata()) == [0.3, 0.5]
    assert set(level.get_ydata()) == {0.25}
    assert axes.get_xlabel() == "purity"
