"""psalm: Propensity Score ALignment of Modalities."""

from importlib.metadata import version

from psalm import datasets, get, model, pl, pp, tl

__all__ = ["datasets", "get", "model", "pl", "pp", "tl"]
__version__ = version("scpsalm")
