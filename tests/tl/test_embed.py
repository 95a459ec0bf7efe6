import numpy as np
import pytest

import psalm


def test_one_space_for_both_modalities(scored):
    """Independent: principal components of the pooled scores keep distances in full rank."""
    psalm.tl.embed(scored, n_comps=3)
    x, y = (scored[m].obsm["X_propensity"] for m in ("a", "b"))
    p, q = (scored[m].obsm["propensity"] for m in ("a", "b"))
    np.testing.assert_allclose(np.linalg.norm(x[:9] - y[:9], axis=1), np.linalg.norm(p[:9] - q[:9], axis=1), rtol=1e-4)


def test_no_more_components_than_the_scores_have(scored):
    psalm.tl.embed(scored, n_comps=10)
    assert scored["a"].obsm["X_propensity"].shape == (240, 3)


def test_scores_are_needed(raw):
    with pytest.raises(KeyError, match=r"Run `tl.propensity` first"):
        psalm.tl.embed(raw)
