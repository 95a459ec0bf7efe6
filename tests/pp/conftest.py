"""Small containers whose columns are what a test is about."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from psalm._containers import stack


@pytest.fixture
def cells():
    """Make a container of modalities with the given columns; disjoint cells, unless names are shared."""

    def make(*, shared=False, **obs):
        modalities = {}
        for name, columns in obs.items():
            frame = pd.DataFrame(columns)
            frame.index = [f"{'cell' if shared else name}{i}" for i in range(len(frame))]
            var = pd.DataFrame(index=[f"{name}_x", f"{name}_y"])
            modalities[name] = AnnData(np.ones((len(frame), 2), np.float32), obs=frame, var=var)
        return stack(modalities)

    return make
