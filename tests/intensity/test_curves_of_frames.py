"""What is read from the sound itself, and what a recogniser says window by window."""

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from affetto.features import FrontEnd
from affetto.intensity.ranker import (
    acted_intensities,
    distance_from_class,
    loudness,
    scaled_by_corpus,
    window_starts,
)


def test_levels_are_those_of_the_front_ends_frames() -> None:
    generator = np.random.default_rng(0)
    samples = (0.1 * generator.normal(size=4321)).astype(np.float32)
    front_end = FrontEnd()
    found = loudness(samples, front_end)
    assert len(found) == front_end.frame_count(len(samples))
    padded = np.pad(samples.astype(np.float64), 400)
    slow = [
        10 * np.log10(max(np.mean(padded[400 + 160 * k - 200 : 400 + 160 * k + 200] ** 2), 1e-10))
        for k in range(len(found))
    ]
    np.testing.assert_allclose(found, slow, atol=1e-3)
    assert loudness(np.zeros(800, np.float32), front_end).tolist() == [-100.0] * 6


def test_each_corpus_is_scaled_by_its_own_percentiles() -> None:
    wide, narrow = np.linspace(-50, 0, 1001), np.linspace(10, 20, 101)
    curves = [np.asarray(each, np.float32) for each in (wide[:400], wide[400:], narrow, np.full(3, 7.0))]
    new, ends = scaled_by_corpus(curves, ["a", "a", "b", "c"])
    assert ends["a"] == pytest.approx((-49.5, -0.5))
    np.testing.assert_allclose(new[:1001], ((wide + 49.5) / 49).clip(0, 1), atol=1e-6)
    assert (new[1001:1102].min(), new[1001:1102].max()) == (0, 1)
    assert not new[1102:].any()


@pytest.mark.parametrize(
    ("samples", "starts"), [(100, [0]), (99, [0]), (140, [0, 20, 40]), (145, [0, 20, 40, 45])]
)
def test_windows_reach_the_last_sample(samples: int, starts: list[int]) -> None:
    assert window_starts(samples, 100, 20).tolist() == starts


class Loudest(nn.Module):
    """Its first class is as likely as the mean of a window is high."""

    front_end = FrontEnd(kind="waveform")

    def embed(self, features: Tensor, lengths: Tensor) -> Tensor:
        return features[:, :, 0].sum(1, keepdim=True) / lengths[:, None]

    def answers(self, vectors: Tensor) -> Tensor:
        return torch.cat([vectors, 1 - vectors], dim=1)


def slow_curve(samples: NDArray[np.float32], window: int, hop: int) -> NDArray[np.float64]:
    size = min(window, len(samples))
    starts = window_starts(len(samples), size, hop)
    means = [1 - samples[start : start + size].mean() for start in starts]
    count = max(1, round(len(samples) / hop))
    return np.interp((np.arange(count) + 0.5) * hop, starts + size / 2, means)


@pytest.mark.parametrize("length", [500, 1600, 16_000, 40_123])
def test_a_recogniser_is_followed_from_window_to_window(length: int) -> None:
    samples = np.random.default_rng(0).random(length, np.float32)
    found = distance_from_class(Loudest(), 0, samples, 1600, 320)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, slow_curve(samples, 1600, 320), atol=1e-5)
    assert found.dtype == np.float32


def test_acted_levels_are_numbers_that_rise() -> None:
    found = acted_intensities(pd.Series(["low", None, "high", "medium", float("nan")]))
    np.testing.assert_array_equal(found, [0, np.nan, 2, 1, np.nan])
    assert acted_intensities(pd.Series([1, "2.5", 3])).tolist() == [1, 2.5, 3]
    assert np.isnan(acted_intensities(pd.Series([None, None]))).all()
    assert np.isnan(acted_intensities(pd.Series(["low", "somewhat"]))).all()
