import numpy as np
import pandas as pd
import pytest

import psalm


def test_slots(matched):
    model = psalm.tl.predict(matched, source="a", target="b", max_epochs=3, progress=False)
    predicted = matched["a"].obsm["b_predicted"]
    assert isinstance(predicted, pd.DataFrame)
    assert list(predicted.columns) == list(matched["b"].var_names)
    assert list(predicted.index) == list(matched["a"].obs_names)
    assert np.isfinite(predicted.to_numpy()).all()
    assert len(model.history["validation_loss"]) == 3


def test_either_direction_of_a_match(matched):
    psalm.tl.predict(matched, source="b", target="a", max_epochs=2, progress=False, key_added="guess")
    assert matched["b"].obsm["guess"].shape == (240, 12)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        pytest.param({"loss": "l1"}, ValueError, "`loss='l1'` is not known", id="loss"),
        pytest.param({"match_key": "m"}, KeyError, "`match_key='m'`", id="match"),
        pytest.param({"target_rep": "counts"}, KeyError, "`use_rep='counts'`", id="representation"),
        pytest.param({"device": "tpu9"}, ValueError, "`device='tpu9'` is not available", id="device"),
    ],
)
def test_bad_input(matched, options, error, message):
    with pytest.raises(error, match=message):
        psalm.tl.predict(matched, source="a", target="b", progress=False, **options)
    assert "b_predicted" not in matched["a"].obsm
