"""Plots of what the tools stored."""

from psalm.pl._agreement import agreement
from psalm.pl._coupling import coupling
from psalm.pl._embedding import embedding
from psalm.pl._evaluation import evaluation
from psalm.pl._history import history
from psalm.pl._links import links
from psalm.pl._match import match
from psalm.pl._overlap import overlap
from psalm.pl._prediction import prediction
from psalm.pl._propensity import propensity
from psalm.pl._treatments import treatments

__all__ = [
    "agreement",
    "coupling",
    "embedding",
    "evaluation",
    "history",
    "links",
    "match",
    "overlap",
    "prediction",
    "propensity",
    "treatments",
]
