"""Predicts emotions and writes vectors of recordings: of an array, a file, or any number of files.

``from_audio`` scores an array, ``from_file`` a recording, ``files`` any number of them in memory that does
not grow, and :func:`predict` writes a table that an interrupted run continues.
"""

from affetto.inference.enrolment import Enrolment
from affetto.inference.loading import load_representation
from affetto.inference.output import predict
from affetto.inference.recogniser import Recogniser
from affetto.inference.rows import Score
from affetto.inference.segments import Segment
from affetto.inference.writers import Outcome

__all__ = ["Enrolment", "Outcome", "Recogniser", "Score", "Segment", "load_representation", "predict"]
