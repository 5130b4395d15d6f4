"""What the strength network reads: log-mel on which every speaker lies in the same place."""

import numpy as np
import torch

from affetto.corpora.manifest import Manifest
from affetto.models.strength import StrengthNet, StrengthSettings
from affetto.recipes.recordings import Recordings
from affetto.recipes.strength_reading import Centred, read_strengths, reading

NETWORK = StrengthSettings(bins=16, width=12, hidden=8, blocks=1)


def test_the_mean_of_every_speaker_is_moved_to_the_middle(corpus: Manifest) -> None:
    recordings = Recordings(corpus)
    network = StrengthNet(NETWORK, 5)
    speakers = np.unique(recordings.speakers, return_inverse=True)[1]
    store = reading(recordings, network, speakers, centre=True)
    features = recordings.features(network.front_end)
    assert isinstance(store, Centred)
    assert reading(recordings, network, speakers, centre=False) is not store
    rows = np.array([3, 40])
    values, lengths = store.stack(rows)
    for place, row in enumerate(rows.tolist()):
        own = [np.maximum(features[at], -14) for at in np.flatnonzero(speakers == speakers[row])]
        expected = np.maximum(features[row], -14) - np.concatenate(own).mean(0) - 7
        np.testing.assert_allclose(values[place, : lengths[place]], expected, atol=1e-3)
        assert not values[place, lengths[place] :].any()
    whole, lengths = store.stack(np.flatnonzero(speakers == 2))
    frames = torch.cat([own[:length] for own, length in zip(whole, lengths.tolist(), strict=True)])
    torch.testing.assert_close(frames.mean(0), torch.full((16,), -7.0), atol=1e-3, rtol=0)


def test_curves_come_in_the_order_that_was_asked(corpus: Manifest) -> None:
    recordings = Recordings(corpus)
    network = StrengthNet(NETWORK, 5).eval()
    speakers = np.unique(recordings.speakers, return_inverse=True)[1]
    store = reading(recordings, network, speakers, centre=True)
    rows = np.array([50, 2, 33])
    curves = read_strengths(recordings, network, store, rows)
    for row, curve in zip(rows.tolist(), curves, strict=True):
        with torch.no_grad():
            alone = network(*store.stack(np.array([row])))
        np.testing.assert_allclose(curve, alone.frames[0].numpy(), atol=1e-5)
