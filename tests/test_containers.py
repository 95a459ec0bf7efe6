"""What is built the same way whichever mudata is installed."""

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from psalm._containers import no_pull, stack


@pytest.fixture
def pulling():
    """The user's own choice that containers repeat the columns of their modalities."""
    if hasattr(mudata, "set_options"):  # mudata 0.3
        with mudata.set_options(pull_on_update=True):
            yield
    else:
        with mudata.settings.override(pull_on_update=True):
            yield


def modality(prefix):
    obs = pd.DataFrame({"drug": ["A", "B"]}, index=[f"{prefix}{i}" for i in range(2)])
    return AnnData(np.zeros((2, 3), dtype=np.float32), obs, pd.DataFrame(index=[f"{prefix}_gene{i}" for i in range(3)]))


def repeats(mdata):
    return any("drug" in column for column in mdata.obs)


def test_containers_repeat_no_columns_whatever_the_users_setting(pulling):
    modalities = {"a": modality("a"), "b": modality("b")}
    assert repeats(mudata.MuData(modalities))
    assert not repeats(stack(modalities))
    with no_pull():
        assert not repeats(mudata.MuData(modalities))
    assert repeats(mudata.MuData(modalities))  # the setting is the user's again
