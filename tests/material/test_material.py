"""Targets from labels and votes, shares of the labels, and caches that know what they were made of."""

from pathlib import Path

import numpy as np
import pytest
import torch

from affetto.corpora.manifest import Manifest
from affetto.errors import ManifestError
from affetto.finetuning.fold import labelled_part
from affetto.material.labelled import Material
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
