"""Front ends: waveforms in, feature frames out, the same for training, prediction and export.

One torch code for every device. What a frame holds depends on its own utterance alone, so neither padding nor
the other utterances of a batch change an answer.
"""

from affetto.features.front_end import FrontEnd
from affetto.features.mel import band_centres, band_places
from affetto.features.pitch import STATISTICS, VOICED, functionals

__all__ = ["STATISTICS", "VOICED", "FrontEnd", "band_centres", "band_places", "functionals"]
