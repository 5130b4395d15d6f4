"""Scores any table of predictions: intervals over speakers, paired tests, reports. No torch."""

from affetto.evaluation.bootstrap import Difference, Interval, paired_difference, speaker_bootstrap
from affetto.evaluation.enrolment import enrolment_scores
from affetto.evaluation.metrics import METRICS, Metric
from affetto.evaluation.predictions import check_predictions, read_predictions
from affetto.evaluation.report import Report
from affetto.evaluation.summarise import summarise

__all__ = [
    "METRICS",
    "Difference",
    "Interval",
    "Metric",
    "Report",
    "check_predictions",
    "enrolment_scores",
    "paired_difference",
    "read_predictions",
    "speaker_bootstrap",
    "summarise",
]
