"""Front ends: waveforms in, feature frames out, the same for training, prediction and export.

One torch code for every device. What a frame holds depends on its own utterance alone, so padding and the
other utterances of a batch never change an answer.

    FrontEnd        the frozen description that is called on waveforms
    band_centres    the frequency of each mel band, and band_places the way back
    functionals     an utterance's frames summed up as one vector
    track_pitch     fundamental frequency and voicing, which a front end can append
"""

from affetto.features.front_end import FrontEnd, band_centres, band_places
from affetto.features.functionals import STATISTICS, functionals
from affetto.features.pitch import VOICED, track_pitch

__all__ = ["STATISTICS", "VOICED", "FrontEnd", "band_centres", "band_places", "functionals", "track_pitch"]
