"""Tools: score, match, predict, leave treatments out, evaluate."""

from psalm.tl._diagnose import diagnose
from psalm.tl._embed import embed
from psalm.tl._evaluate import evaluate
from psalm.tl._holdout import holdout
from psalm.tl._match import match
from psalm.tl._predict import predict
from psalm.tl._propensity import propensity
from psalm.tl._score import score
from psalm.tl._transfer import transfer

__all__ = ["diagnose", "embed", "evaluate", "holdout", "match", "predict", "propensity", "score", "transfer"]
