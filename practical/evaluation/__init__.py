"""A benchmark: every explanation by every metric on a data set, and what it says."""

from practical.evaluation.choices import method_options
from practical.evaluation.hosts import join
from practical.evaluation.measures import MEASURES, Measure
from practical.evaluation.report import agreement, markdown, summarise, write_report
from practical.evaluation.run import COLUMNS, evaluate

__all__ = [
    "COLUMNS",
    "MEASURES",
    "Measure",
    "agreement",
    "evaluate",
    "join",
    "markdown",
    "method_options",
    "summarise",
    "write_report",
]
