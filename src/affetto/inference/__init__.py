"""A finetuned recogniser at work: on an array, a file, a folder of files, and second by second on long ones.

A ladder: ``from_audio`` scores an array, ``from_file`` a recording, ``files`` any number of them in memory
that does not grow, and :func:`predict` writes a table that an interrupted run takes up again.
"""

from affetto.inference.enrolment import Enrolment
from affetto.inference.output import Outcome, predict
from affetto.inference.recogniser import Recogniser
from affetto.inference.rows import Score

__all__ = ["Enrolment", "Outcome", "Recogniser", "Score", "predict"]
