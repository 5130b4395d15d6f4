"""Frozen networks see utterances of similar length together; results come back in order."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from affetto.errors import AffettoError
from affetto.material import forward
from affetto.material.forward import batches_by_length, run_over

LENGTHS = np.array([5, 900, 20, 20, 300, 7, 1000])


class Counting:
    """Each row counts from its number on."""

    def stack(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        lengths = torch.from_numpy(LENGTHS[rows])
        values = torch.from_numpy(rows)[:, None].float() + torch.arange(int(lengths.max()))
        return values, lengths


@given(st.lists(st.integers(0, 50_000), max_size=60), st.integers(1, 9))
def test_batches_hold_everything_once_and_few_seconds(lengths: list[int], seconds: int) -> None:
    batches = list(batches_by_length(lengths, seconds))
    assert sorted(np.concatenate([[], *batches]).tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[place] for place in batch) <= 16_000 * seconds
    longest = [max(lengths[place] for place in batch) for batch in batches]
    assert longest == sorted(longest)


def test_results_come_in_order_without_padding_and_the_mode_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forward, "_SORTED_TOGETHER", 4)
    monkeypatch.setattr(forward, "BATCH_SECONDS", 0.05)
    module, modes = nn.Linear(1, 1), []

    def frames(values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        modes.append(module.training)
        return values[..., None], lengths

    rows = np.array([6, 0, 1, 2, 5, 4])
    results = list(run_over(frames, Counting(), rows, LENGTHS[rows], module=module))
    for row, result in zip(rows, results, strict=True):
        np.testing.assert_array_equal(result[:, 0], row + np.arange(LENGTHS[row]))
    assert module.training
    assert not any(modes)
    vectors = list(run_over(lambda values, _: values[:, :1], Counting(), rows, LENGTHS[rows]))
    assert np.stack(vectors)[:, 0].tolist() == rows.tolist()


def test_where_memory_is_short_batches_are_halved_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    sizes: list[int] = []
    room = 2

    def small(values: Tensor, lengths: Tensor) -> Tensor:
        sizes.append(len(values))
        if len(values) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return values[:, :1]

    rows = np.arange(7)
    found = np.stack(list(run_over(small, Counting(), rows, LENGTHS)))
    assert found[:, 0].tolist() == rows.tolist()
    assert sizes == [7, 4, 2, 2, 2, 1]  # what was too much is not tried again
    errors = capsys.readouterr().err.splitlines()
    assert errors == [
        f"not enough memory for {size} recordings at once: batches are halved" for size in (7, 4)
    ]
    room = 0
    with pytest.raises(AffettoError, match="not enough memory for a single recording; take --device cpu"):
        list(run_over(small, Counting(), rows, LENGTHS))
