"""What messages advise is accepted: every `argument="value"` that a message of psalm's names."""

import ast
import re
from pathlib import Path

import pytest

import psalm
from psalm.core.calibration import CALIBRATORS
from psalm.core.classifiers import CLASSIFIERS
from psalm.core.cost import COSTS
from psalm.core.likelihoods import LIKELIHOODS
from psalm.core.losses import LOSSES
from psalm.core.methods import METHODS
from psalm.pp._represent import KINDS as REPRESENTATIONS
from psalm.tl._embed import KINDS as EMBEDDINGS
from psalm.tl._match import ON_ERROR
from psalm.tl._propensity import PRIORS, SCORE_ON

ALLOWED = {
    "calibration": CALIBRATORS,
    "classifier": CLASSIFIERS,
    "cost": COSTS,
    "epsilon": ("auto",),
    "kind": (*REPRESENTATIONS, *EMBEDDINGS),
    "layout": ("constrained",),  # matplotlib's
    "likelihood": LIKELIHOODS,
    "loss": LOSSES,
    "method": METHODS,
    "on_error": ON_ERROR,
    "prior": PRIORS,
    "score_on": SCORE_ON,
}
ADVICE = re.compile(r"""(\w+)=["'](\w+)["']""")


def texts(path):
    """Every string of a file that is no docstring, pieces of f-strings as they stand."""
    for node in ast.walk(ast.parse(path.read_text())):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            body[0].value = ast.Constant(None)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def advised():
    root = Path(psalm.__file__).parent
    for path in sorted(root.rglob("*.py")):
        for text in texts(path):
            for name, value in ADVICE.findall(text):
                yield pytest.param(name, value, id=f"{path.relative_to(root)}: {name}={value}")


@pytest.mark.parametrize(("name", "value"), list(advised()))
def test_what_is_advised_is_accepted(name, value):
    assert value in ALLOWED[name]
