"""What StrengthNet reads: log-mel on which every speaker lies in the same place."""

import numpy as np
import torch

from affetto.corpora.manifest import Manifest
from affetto.intensity.fit import SpokenMeanCentred, network_input, predict_curves
from affetto.intensity.network import StrengthNet, StrengthNetSettings
from affetto.material.recordings import Recordings

NETWORK = StrengthNetSettings(bins=16, width=12, hidden=8, blocks=1)


def spoken(frames: np.ndarray) -> list[np.ndarray]:
    """The frames of an utterance that are no pause, one by one."""
    powers = [10 * np.log10(np.exp(np.maximum(frame, -14).astype(float)).sum()) for frame in frames]
    kept = [
        np.maximum(frame, -14)
        for frame, power in zip(frames, powers, strict=True)
        if power >= max(powers) - 25
    ]
    assert 0 < len(kept) < len(frames)
    return kept


def test_the_mean_of_every_speaker_is_moved_to_the_middle(corpus: Manifest) -> None:
    recordings = Recordings(corpus)
    network = StrengthNet(NETWORK, 5)
    speakers = np.unique(recordings.speakers, return_inverse=True)[1]
    store = network_input(recordings, network, speakers, centre=True)
    features = recordings.features(network.front_end)
    assert isinstance(store, SpokenMeanCentred)
    assert network_input(recordings, network, speakers, centre=False) is not store
    rows = np.array([3, 40])
    values, lengths = store.stack(rows)
    for place, row in enumerate(rows.tolist()):
        own = [frame for at in np.flatnonzero(speakers == speakers[row]) for frame in spoken(features[at])]
        expected = np.maximum(features[row], -14) - np.mean(own, axis=0) - 7
        np.testing.assert_allclose(values[place, : lengths[place]], expected, atol=1e-3)
        assert not values[place, lengths[place] :].any()


def test_silence_around_speech_moves_nothing(corpus: Manifest) -> None:
    recordings = Recordings(corpus)
    features = recordings.features(StrengthNet(NETWORK, 5).front_end)
    speakers = np.unique(recordings.speakers, return_inverse=True)[1]

    class Padded:
        values, lengths = features.values, features.lengths + 80

        def __getitem__(self, row: int) -> np.ndarray:
            return np.pad(features[row], ((40, 40), (0, 0)), constant_values=-23.0)

    plain, padded = SpokenMeanCentred(features, speakers), SpokenMeanCentred(Padded(), speakers)  # type: ignore[arg-type]
    torch.testing.assert_close(plain.means, padded.means)


def test_curves_come_in_the_order_that_was_asked(corpus: Manifest) -> None:
    recordings = Recordings(corpus)
    network = StrengthNet(NETWORK, 5).eval()
    speakers = np.unique(recordings.speakers, return_inverse=True)[1]
    store = network_input(recordings, network, speakers, centre=True)
    rows = np.array([50, 2, 33])
    curves = predict_curves(recordings, network, store, rows)
    for row, curve in zip(rows.tolist(), curves, strict=True):
        with torch.no_grad():
            alone, _, _ = network(*store.stack(np.array([row])))
        np.testing.assert_allclose(curve, alone[0].numpy(), atol=1e-5)
