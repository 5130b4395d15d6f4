"""How curves are judged, against pairs counted one by one; their table and their figure."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from affetto.intensity.quality import ALL, judge, plain
from affetto.intensity.run import Spoken, curve_figure, figures
from affetto.plots import to_png

LABELS = ["anger", "fear", "neutral"]


def made(seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    speakers = np.repeat(np.arange(4), 30)
    truth = np.tile(np.arange(3), 40)
    acted = np.where(truth < 2, generator.integers(0, 3, 120), np.nan)
    sentences = generator.integers(0, 2, 120)
    intensity = (truth < 2) + 0.3 * np.nan_to_num(acted) + generator.normal(size=120)
    columns = {"intensity": intensity}
    columns |= {name: generator.random(120) for name in ("loudness", "duration", "tracks", "spread")}
    names = {
        "speaker": speakers.astype(str),
        "emotion": np.array(LABELS)[truth],
        "text": sentences.astype(str),
    }
    return pd.DataFrame({**columns, **names, "acted": acted}), speakers, truth, acted, sentences


def test_order_is_that_of_all_pairs_speaker_by_speaker() -> None:
    measured, speakers, truth, _, _ = made()
    tested = speakers != 2
    quality = judge(measured[tested])
    assert (quality["utterances"], quality["speakers"]) == (90, 3)
    values = measured["intensity"].to_numpy()
    by_emotion = {}
    for number, name in enumerate(LABELS[:2]):
        shares = [
            np.mean(
                [
                    values[i] > values[j]
                    for i in np.flatnonzero((speakers == who) & (truth == number))
                    for j in np.flatnonzero((speakers == who) & (truth == 2))
                ]
            )
            for who in (0, 1, 3)
        ]
        by_emotion[name] = shares
        assert quality["order"]["intensity"][name].value == pytest.approx(np.mean(shares))
    overall = quality["order"]["intensity"][ALL]
    assert overall.value == pytest.approx(np.mean(list(by_emotion.values())))
    assert overall.low is not None
    assert overall.low < overall.value
    assert "neutral" not in quality["order"]["intensity"]
    assert quality["means"]["neutral"] == pytest.approx(values[tested & (truth == 2)].mean())
    assert quality["correlations"]["loudness, by frame"].value == pytest.approx(
        np.mean([measured["tracks"].to_numpy()[speakers == who].mean() for who in (0, 1, 3)])
    )
    own = [speakers == who for who in (0, 1, 3)]
    shares = [
        measured["spread"].to_numpy()[at].mean()
        / (measured["spread"].to_numpy()[at].mean() + values[at].var())
        for at in own
    ]
    assert quality["within"].value == pytest.approx(np.mean(shares))
    expected = [
        spearmanr(values[speakers == who], measured["duration"].to_numpy()[speakers == who])[0]
        for who in (0, 1, 3)
    ]
    assert quality["correlations"]["duration, by utterance"].value == pytest.approx(np.mean(expected))


def test_levels_are_compared_within_speaker_emotion_and_sentence() -> None:
    measured, speakers, truth, acted, sentences = made()
    quality = judge(measured)
    values = measured["intensity"].to_numpy()
    shares = []
    for who in range(4):
        groups = []
        for emotion in (0, 1):
            for sentence in (0, 1):
                own = (speakers == who) & (truth == emotion) & (sentences == sentence)
                pairs = [
                    values[i] > values[j]
                    for i in np.flatnonzero(own & (acted == 2))
                    for j in np.flatnonzero(own & (acted == 0))
                ]
                groups += [np.mean(pairs)] if pairs else []
        shares += [np.mean(groups)] if groups else []
    assert quality["levels"]["intensity"]["0 < 2"].value == pytest.approx(np.mean(shares))
    assert set(quality["levels"]["intensity"]) == {ALL, "0 < 1", "0 < 2", "1 < 2"}
    assert quality["level_correlation"] is not None
    assert 0 < quality["level_correlation"].value < 1
    turned = judge(measured.assign(intensity=-values))
    assert turned["levels"]["intensity"][ALL].value == pytest.approx(
        1 - quality["levels"]["intensity"][ALL].value
    )
    assert turned["level_correlation"] is not None
    assert turned["level_correlation"].value == pytest.approx(-quality["level_correlation"].value)


def test_without_labels_levels_or_speakers_nothing_is_made_up() -> None:
    unknown = made()[0].assign(emotion=None, acted=np.nan)
    quality = judge(unknown)
    assert (quality["order"], quality["levels"], quality["level_correlation"], quality["means"]) == (
        {},
        {},
        None,
        {},
    )
    nobody = judge(unknown[:0])
    assert (nobody["utterances"], nobody["speakers"]) == (0, 0)
    assert plain(nobody)["correlations"]["loudness, by frame"] == [None, None, None]


def test_the_table_has_what_was_measured_and_nothing_empty() -> None:
    table = figures(judge(made()[0]))
    assert table.heads == ["", "curve", "loudness", "duration"]
    names = [row[0] for row in table.rows]
    assert names[:2] == ["emotional above neutral, % of pairs", "anger above neutral, % of pairs"]
    assert {"0 < 2 acted intensity, % of pairs", "variance within utterances, %", "mean of fear"} <= set(
        names
    )
    assert all(any(row[1:]) for row in table.rows)
    unknown = figures(judge(made()[0].assign(emotion=None, acted=np.nan)))
    assert [row[0] for row in unknown.rows] == [
        "correlation of means (Spearman)",
        "correlation of frames (Pearson)",
        "variance within utterances, %",
    ]


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
    assert to_png(curve_figure([still], "loudness"), dpi=40)
