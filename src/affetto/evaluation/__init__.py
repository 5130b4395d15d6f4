"""Scores anybody's predictions table: intervals over speakers, paired tests, reports, results. No torch."""

from affetto.evaluation.bootstrap import Difference, Interval, paired_difference, speaker_bootstrap
from affetto.evaluation.enrolment import enrolment_curve
from affetto.evaluation.predictions import check_predictions, read_predictions
from affetto.evaluation.report import Report, summarise
from affetto.experiment.results import Result, draw_results, read_results, write_results

__all__ = [
    "Difference",
    "Interval",
    "Report",
    "Result",
    "check_predictions",
    "draw_results",
    "enrolment_curve",
    "paired_difference",
    "read_predictions",
    "read_results",
    "speaker_bootstrap",
    "summarise",
    "write_results",
]
