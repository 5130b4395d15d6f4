"""Targets from labels and votes, shares of the labels, and caches that know what they were made of."""

from pathlib import Path

import numpy as np
import pytest
import torch

from affetto.augment import AugmentConfig
from affetto.corpora.manifest import Manifest
from affetto.errors import ManifestError
from affetto.finetuning.fold import labelled_part
from affetto.material.recordings import Augmented, Copy, Material, Recordings
from affetto.models.embedders import (
    FunctionalsSettings,
    Joined,
    JoinedSettings,
    StatisticsSettings,
    build_embedder,
)
from affetto.models.ge2e import Ge2e, Ge2eSettings
from affetto.models.logmel import CnnSettings
from affetto.protocols.protocol import load_protocol


def test_votes_take_their_share_where_there_are_any(corpus: Manifest, protocol: Path) -> None:
    table = corpus.table.copy()
    table["votes_anger"] = [3.0, *[np.nan] * (len(table) - 1)]
    table["votes_fear"] = [1.0, *[np.nan] * (len(table) - 1)]
    material = Material(Manifest(table, corpus.roots), load_protocol(protocol))
    hard = torch.nn.functional.one_hot(torch.from_numpy(material.truth), 5).float()
    torch.testing.assert_close(material.targets(0.0), hard)
    voted = hard.clone()
    voted[0] = 0.6 * hard[0] + 0.4 * torch.tensor([0.75, 0.25, 0, 0, 0])
    torch.testing.assert_close(material.targets(0.4), voted)
    torch.testing.assert_close(material.targets(1.0)[0], torch.tensor([0.75, 0.25, 0, 0, 0]))
    without = Material(corpus, load_protocol(protocol))
    torch.testing.assert_close(without.targets(0.4), hard)


def test_a_share_of_the_labels_is_drawn_within_each_class() -> None:
    truth = np.repeat([0, 1, 2], [40, 10, 1])
    rows = np.arange(51)
    part = labelled_part(rows, truth, 0.3, seed=1)
    assert np.bincount(truth[part]).tolist() == [12, 3, 1]
    assert np.array_equal(part, labelled_part(rows, truth, 0.3, seed=1))
    assert not np.array_equal(part, labelled_part(rows, truth, 0.3, seed=2))
    assert np.array_equal(labelled_part(rows, truth, 1.0, seed=1), rows)


def test_repeated_rows_have_the_targets_of_their_recordings(corpus: Manifest, protocol: Path) -> None:
    material = Material(corpus, load_protocol(str(protocol)))
    material.values = torch.arange(60.0)[:, None]
    assert set(material.speakers[material.learned]) == {"f01", "f02", "m01", "m02"}
    rows = np.concatenate([np.arange(60), material.learned])
    repeated = material.repeated(rows)
    assert repeated.values is not None
    assert repeated.values[:, 0].tolist() == rows.tolist()
    assert repeated.targets(0.5).argmax(1).tolist() == material.truth[rows].tolist()
    assert repeated.speakers.tolist() == material.speakers[rows].tolist()
    assert len(material.truth) == 60


def test_a_copy_of_a_recording_is_the_same_whatever_is_read_with_it(
    corpus: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings = Recordings(corpus)
    augment = AugmentConfig(equalise_db=6, room=0.5, noise_probability=0.5, speed=(0.9, 1.1))
    store = Augmented(recordings.waveforms, corpus.keys, augment, 1)
    together, lengths = store.stack(np.arange(60))
    alone, (length,) = store.stack(np.array([31]))
    assert int(lengths[31]) == int(length) == alone.shape[1]
    assert torch.equal(together[31, :length], alone[0])
    assert not together[31, length:].any()
    other, _ = Augmented(recordings.waveforms, corpus.keys, augment, 2).stack(np.array([31]))
    assert other.shape != alone.shape or not torch.equal(other, alone)
    joined = build_embedder(JoinedSettings(parts=(FunctionalsSettings(bins=8), FunctionalsSettings(bins=16))))
    rows = np.array([3, 31])
    vectors = recordings.vectors(joined.eval(), Copy(rows, augment, 1))
    expected = joined(alone[:, :, None], length[None])
    torch.testing.assert_close(vectors[31], expected[0], atol=1e-4, rtol=1e-4)
    assert vectors.shape == (60, joined.dim)
    assert not vectors[np.setdiff1d(np.arange(60), rows)].any()
    assert not torch.equal(recordings.vectors(joined, Copy(rows, augment, 2)), vectors)
    monkeypatch.setattr(Augmented, "stack", None)  # they are cached
    assert torch.equal(recordings.vectors(joined, Copy(rows, augment, 1)), vectors)


def test_vectors_equal_those_computed_one_by_one(corpus: Manifest, protocol: Path) -> None:
    material = Material(corpus, load_protocol(protocol))
    torch.manual_seed(0)
    embedder = build_embedder(StatisticsSettings(encoder=Ge2eSettings(hidden=8))).eval()
    vectors = material.vectors(embedder)
    assert vectors.shape == (60, embedder.dim)
    for row in (0, 31, 59):
        waveform = torch.from_numpy(material.waveforms[row])[None]
        with torch.no_grad():
            alone = embedder(*embedder.front_end(waveform, torch.tensor([waveform.shape[1]])))
        torch.testing.assert_close(vectors[row], alone[0], atol=1e-5, rtol=1e-5)


def test_encoders_that_differ_in_a_stride_only_share_no_cache(corpus: Manifest, protocol: Path) -> None:
    material = Material(corpus, load_protocol(protocol))
    fine, coarse = Ge2e(Ge2eSettings(hidden=4, stride=2)), Ge2e(Ge2eSettings(hidden=4, stride=8))
    coarse.load_state_dict(fine.state_dict())
    assert material.frames(fine).lengths.sum() > 3.5 * material.frames(coarse).lengths.sum()
    faster = material.frames(fine, speed=2.0).lengths
    np.testing.assert_allclose(faster, material.frames(fine).lengths / 2, atol=1.5)


def test_nothing_that_can_be_decoded_is_an_error(corpus: Manifest, protocol: Path, tmp_path: Path) -> None:
    for file in corpus.table["file"]:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_bytes(b"nothing")
    with pytest.raises(ManifestError, match="none of the 60 recordings can be decoded; the first: "):
        Material(Manifest(corpus.table, {"toy": tmp_path}), load_protocol(protocol))


def test_joined_vectors_are_computed_part_by_part_and_found_again(
    corpus: Manifest, protocol: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    material = Material(corpus, load_protocol(protocol))
    parts = (
        StatisticsSettings(encoder=CnnSettings(width=8, bins=16, blocks=1)),
        FunctionalsSettings(bins=16),
    )
    torch.manual_seed(0)
    joined = build_embedder(JoinedSettings(parts=parts)).eval()
    assert isinstance(joined, Joined)
    first, second = (material.vectors(part) for part in joined.embedders)
    monkeypatch.setattr("affetto.material.recordings.run_over", None)  # everything is in the cache
    assert torch.equal(material.vectors(joined), torch.cat([first, second], dim=1))
    upper = build_embedder(parts[0].model_copy(update={"layers": (1,)}))
    with pytest.raises(TypeError):  # other layers are other vectors
        material.vectors(upper)


def test_vectors_of_a_corpus_are_found_again_in_any_joined_manifest(
    corpus: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = build_embedder(FunctionalsSettings(bins=8)).eval()
    augment, learned = AugmentConfig(gain_db=6, room=0.5), np.array([3, 40, 41])
    table = corpus.table.assign(corpus=np.where(np.arange(60) % 2 == 0, "one", "two"))
    joined = Manifest(table, dict.fromkeys(("one", "two"), *corpus.roots.values()))
    whole, copied = Recordings(joined).vectors(embedder), Copy(learned, augment, 1)
    torch.testing.assert_close(whole, Recordings(corpus).vectors(embedder), atol=1e-4, rtol=1e-4)
    both = Recordings(joined).vectors(embedder, copied)
    torch.testing.assert_close(both, Recordings(corpus).vectors(embedder, copied), atol=1e-4, rtol=1e-4)
    monkeypatch.setattr("affetto.material.recordings.run_over", None)  # everything is in the cache
    alone = Recordings(joined.where(np.arange(60) % 2 == 0))
    assert torch.equal(alone.vectors(embedder), whole[::2])
    assert torch.equal(alone.vectors(embedder, Copy(np.array([20]), augment, 1)), both[::2])
