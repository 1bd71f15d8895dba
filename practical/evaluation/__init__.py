"""A benchmark: every explanation by every metric on a data set, and what it says."""

from practical.evaluation.measures import MEASURES, Measure
from practical.evaluation.report import agreement, markdown, summarise, write_report
from practical.evaluation.run import COLUMNS, evaluate, method_options

__all__ = [
    "COLUMNS",
    "MEASURES",
    "Measure",
    "agreement",
    "evaluate",
    "markdown",
    "method_options",
    "summarise",
    "write_report",
]
