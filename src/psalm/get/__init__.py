"""Readers of what the tools stored."""

from psalm.get._coupling import coupling
from psalm.get._predicted import predicted
from psalm.get._propensity import propensity, propensity_report
from psalm.get._provenance import provenance
from psalm.get._report import report

__all__ = ["coupling", "predicted", "propensity", "propensity_report", "provenance", "report"]
