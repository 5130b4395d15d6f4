"""Batches of speakers and groups: nobody is left out, pairs stay together, processes share."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affetto.data import NONE, SpeakerBatches
from affetto.errors import ConfigError

SPEAKERS = np.repeat(np.arange(5), [40, 33, 7, 1, 19])
GROUPS = np.arange(100) % 4


def made(**other: int) -> SpeakerBatches:
    return SpeakerBatches(SPEAKERS, GROUPS, 24 // other.get("world", 1), 8, seed=3, **other)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    per_speaker=st.integers(2, 9),
    hands=st.integers(1, 4),
    epoch=st.integers(0, 3),
)
def test_every_utterance_comes_and_the_count_is_right(
    sizes: list[int], per_speaker: int, hands: int, epoch: int
) -> None:
    speakers = np.repeat(np.arange(len(sizes)), sizes)
    if len(speakers) < 2:
        return
    groups = np.arange(len(speakers)) % 3 - 1
    source = SpeakerBatches(speakers, groups, hands * per_speaker, per_speaker)
    batches = source.batches(epoch)
    assert len(batches) == len(source)
    assert set(np.concatenate(batches)) == set(range(len(speakers)))
    assert all(len(batch) <= (hands + 1) * per_speaker for batch in batches)


def test_a_hand_has_pairs_of_one_group() -> None:
    source = made()
    together = alone = 0
    for batch in source.batches(0):
        for speaker in np.unique(SPEAKERS[batch]):
            own = GROUPS[batch][SPEAKERS[batch] == speaker]
            _, counts = np.unique(own, return_counts=True)
            together, alone = together + int((counts > 1).sum()), alone + int((counts == 1).sum())
    assert together > 4 * alone


def test_the_order_changes_with_the_epoch_and_comes_back_with_the_seed() -> None:
    one, two = made(), made()
    first = [batch.tolist() for batch in one]
    assert first == [batch.tolist() for batch in two]
    assert first != [batch.tolist() for batch in one]


def test_shares_of_two_processes_are_the_batches_of_one() -> None:
    whole = made().batches(2)
    shares = [made(rank=rank, world=2).batches(2) for rank in (0, 1)]
    assert len(shares[0]) == len(shares[1]) == len(whole)
    for batch, left, right in zip(whole, *shares, strict=True):
        assert sorted(batch) == sorted([*left, *right])


def test_it_goes_on_where_it_stopped() -> None:
    source, other = made(), made()
    iterator = iter(source)
    next(iterator)
    state = source.state_dict()
    rest = [batch.tolist() for batch in iterator]
    other.load_state_dict(state)
    assert [batch.tolist() for batch in other] == rest
    assert other.state_dict() == {"epoch": 1, "position": 0}


def test_utterances_of_no_group_are_dealt_one_by_one() -> None:
    source = SpeakerBatches(SPEAKERS, np.full(100, NONE), 24, 8)
    assert set(np.concatenate(source.batches(0))) == set(range(100))


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="per_speaker must be at least 2"):
        SpeakerBatches(SPEAKERS, GROUPS, 4, 8)
    with pytest.raises(ConfigError, match="too few to compare"):
        SpeakerBatches(np.zeros(1, int), np.zeros(1, int), 8, 8)
