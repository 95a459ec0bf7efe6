"""Containers for plots; the numbers of ``stored`` are made by hand, the same on every machine."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from psalm import _access, _keys

MODALITIES = ("a", "b")
N_FEATURES = 6


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def names_of(n_treatments):
    return ["control", *(f"t{position}" for position in range(1, n_treatments))]


def waves(n_rows, n_columns=1, shift=0.0):
    """Numbers between −1 and 1 that look irregular and need no generator (n_rows, n_columns)."""
    places = np.arange(n_rows)[:, None] * 12.9898 + np.arange(n_columns) * 78.233 + shift
    return np.sin(places) * np.cos(1.7 * places)


def container(names, n_per_treatment):
    """Modalities "a" and "b" with labels, scores and embeddings."""
    n_treatments, mods = len(names), {}
    for position, name in enumerate(MODALITIES):
        codes = np.repeat(np.arange(n_treatments), n_per_treatment + position + np.arange(n_treatments) % 3)
        n_cells = len(codes)
        state = waves(n_cells, 1, position)[:, 0]
        centre = waves(n_treatments, N_FEATURES, 5.0)[codes]
        adata = AnnData(centre + 0.3 * state[:, None] + 0.1 * waves(n_cells, N_FEATURES, 2.0 + position))
        adata.obs_names = [f"{name}{cell}" for cell in range(n_cells)]
        adata.var_names = [f"{name}_{feature}" for feature in range(N_FEATURES)]
        adata.obs["treatment"] = pd.Categorical.from_codes(codes, names)
        adata.obs["state"] = state
        adata.obs["kind"] = pd.Categorical(np.where(state > 0, "high", "low"))
        adata.obsm["X_umap"] = np.column_stack([state + 0.2 * position, waves(n_cells, 1, 9.0 + position)[:, 0]])
        adata.obsm[_keys.EMBEDDING] = centre[:, :2] + 0.2 * adata.obsm["X_umap"]
        adata.obsm[_keys.PROPENSITY] = centre
        mods[name] = adata
    mdata = MuData(mods)
    table = pd.DataFrame({name: mods[name].obs["treatment"].value_counts(sort=False) for name in MODALITIES})
    mdata.uns[_keys.TREATMENT] = _with_left_out(table.set_axis(names))
    return mdata


def _with_left_out(counts):
    counts = counts.assign(status="kept", control=counts.index == "control")
    counts.loc["gone"], counts.loc["small"] = (7, 0, "not shared", False), (3, 4, "rare", False)
    return counts


def add_propensity(mdata, names):
    keys, n = _keys.PropensityKeys(_keys.PROPENSITY), len(names)
    steps, tables = np.linspace(0.2, 0.9, 6), {}
    for position, name in enumerate(MODALITIES):
        obs = mdata[name].obs
        obs[keys.own] = 0.5 + 0.3 * obs["state"]
        obs[keys.treatment] = obs["treatment"].to_numpy()
        tables[name] = 1 / n + 0.5 / n * waves(n, n, position) + np.eye(n) * 0.3
    rows = [(name, names[k], 0.75 + 0.2 * waves(n, 1, i)[k, 0]) for i, name in enumerate(MODALITIES) for k in range(n)]
    curves = [
        (name, when, step, step + shift * (1 + position) * waves(6, 1, position)[k, 0])
        for position, name in enumerate(MODALITIES)
        for when, shift in (("before", 0.1), ("after", 0.03))
        for k, step in enumerate(steps)
    ]
    mdata.uns[_keys.PROPENSITY] = {
        "params": {"step": "tl.propensity", "treatment": "treatment"},
        "treatments": np.array(names, dtype=object),
        "table": pd.DataFrame(rows, columns=["modality", "treatment", "auc"]),
        "reliability": pd.DataFrame(curves, columns=["modality", "when", "predicted", "observed"]),
        "calibration": pd.DataFrame(
            {"modality": MODALITIES, "calibration_error_before": [0.08, 0.12], "calibration_error_after": [0.02, 0.03]}
        ),
        "agreement": pd.DataFrame(
            {
                "modality_1": "a",
                "modality_2": "b",
                "treatment": names,
                "energy_share": 0.1 + 0.08 * waves(n)[:, 0],
                "random_split_share": np.where(waves(n, 1, 3.0)[:, 0] > 0, 0.0, 0.4),
            }
        ),
        "confusion": tables,
    }


def add_match(mdata, names):
    keys = _keys.MatchKeys(_keys.MATCH)
    obs = [mdata[name].obs for name in MODALITIES]
    same = obs[0]["treatment"].to_numpy()[:, None] == obs[1]["treatment"].to_numpy()
    distance = (obs[0]["state"].to_numpy()[:, None] - obs[1]["state"].to_numpy()) ** 2
    mass = np.where(same, np.exp(-distance / 0.1) + 0.05, 0.0)
    mass /= mass.sum()
    rows, columns = (_access.place(mdata, name) for name in MODALITIES)
    whole = np.zeros((mdata.n_obs, mdata.n_obs))
    whole[np.ix_(rows, columns)] = mass
    mdata.obsp[_keys.MATCH] = sparse.csr_matrix(whole)
    for side, values in zip(obs, (mass, mass.T), strict=True):
        share = values / values.sum(axis=1, keepdims=True)
        side[keys.entropy] = -(share * np.log(np.where(share > 0, share, 1.0))).sum(axis=1)
        side[keys.block] = side["treatment"].cat.codes.to_numpy().astype(float)
    effective = np.exp(obs[0][keys.entropy]).groupby(obs[0]["treatment"], observed=False).mean().to_numpy()
    n = len(names)
    mdata.uns[_keys.MATCH] = {
        "params": {
            "step": "tl.match",
            "source": "a",
            "target": "b",
            "treatment": "treatment",
            "propensity_key": _keys.PROPENSITY,
            "settings": {"tolerance": 1e-3},
            "from_potentials": False,
        },
        "table": pd.DataFrame(
            {
                "treatment": names,
                "n_source": obs[0]["treatment"].value_counts(sort=False).to_numpy(),
                "n_target": obs[1]["treatment"].value_counts(sort=False).to_numpy(),
                "effective_matches": effective,
                "marginal_error": 10 ** (-4.5 + 1.4 * waves(n, 1, 4.0)[:, 0]),
                "converged": np.arange(n) % 12 != 5,
            }
        ),
    }


def add_prediction(mdata, names):
    key, n = _keys.predicted("b"), len(names)
    codes = mdata["a"].obs["treatment"].cat.codes.to_numpy()
    target = pd.DataFrame(mdata["b"].X).groupby(mdata["b"].obs["treatment"].cat.codes.to_numpy()).mean().to_numpy()
    noise = waves(n, N_FEATURES, 7.0) * np.linspace(0.05, 0.8, N_FEATURES)
    mdata["a"].obsm[key] = pd.DataFrame(
        (target + noise)[codes], index=mdata["a"].obs_names, columns=mdata["b"].var_names
    )
    mean = 0.5 + 0.2 * waves(n + 1, 1, 1.0)[:, 0]
    mdata.uns[key] = {
        "params": {
            "step": "tl.predict",
            "source": "a",
            "target": "b",
            "match_key": _keys.MATCH,
            "target_rep": "X",
            "likelihood": "gaussian",
            "use_treatment": False,
        },
        "features": mdata["b"].var_names.to_numpy().astype(object),
        "means": {"treatments": np.array(names, dtype=object), "measured": target, "predicted": target + noise},
        "table": pd.DataFrame(
            {
                "treatment": [*sorted(names), "all"],
                "n_cells": 5,
                "loss": mean * 0.9,
                "loss_with_treatment": mean - 0.15 - 0.1 * waves(n + 1, 1, 2.0)[:, 0],
                "treatment_mean_loss": mean,
            }
        ),
    }


def add_evaluation(mdata, names):
    keys, n = _keys.MatchKeys(_keys.MATCH), len(names) + 1
    table = pd.DataFrame({"scope": ["treatment"] * (n - 1) + ["all"], "treatment": [*names, ""]})
    for position, (name, middle) in enumerate({"foscttm": 0.35, "recall": 0.3, "r2": 0.15, "trace": np.nan}.items()):
        table[name] = middle + 0.12 * waves(n, 1, position)[:, 0]
        table[f"{name}_lower"], table[f"{name}_upper"] = table[name] - 0.1, table[name] + 0.1
    table["recall_chance"] = 0.1 + 0.04 * waves(n, 1, 8.0)[:, 0]
    mdata.uns[keys.evaluation] = table
    rows = [
        (check, name, 20, 0.5 + 0.3 * waves(n, 1, position)[k, 0], 0.4, 0.3, 0.5, 0.01 if k % 3 else 0.4)
        for position, check in enumerate(("stability", "hubness"))
        for k, name in enumerate([*names, ""])
    ]
    columns = ["check", "treatment", "n_cells", "value", "null", "null_lower", "null_upper", "p_value"]
    mdata.uns[keys.diagnosis] = {"params": {}, "table": pd.DataFrame(rows, columns=columns)}


def make(n_treatments, n_per_treatment=6, names=None):
    names = names or names_of(n_treatments)
    mdata = container(names, n_per_treatment)
    for add in (add_propensity, add_match, add_prediction, add_evaluation):
        add(mdata, names)
    return mdata


@pytest.fixture
def make_stored():
    """Build a container with everything that plots read, for any number of treatments."""
    return make


@pytest.fixture
def stored():
    """The same with 12 treatments."""
    return make(12)


@pytest.fixture
def model():
    """What plots read of a trained model."""
    epochs = pd.RangeIndex(30, name="epoch")
    train = pd.DataFrame({"train_loss_epoch": 0.2 + 0.8 * np.exp(-epochs.to_numpy() / 6)}, index=epochs)
    held_out = pd.DataFrame({"validation_loss": 0.3 + 0.6 * np.exp(-epochs.to_numpy() / 4)}, index=epochs)
    held_out.loc[20:, "validation_loss"] += 0.01 * np.arange(10)
    return SimpleNamespace(
        history={"train_loss_epoch": train, "validation_loss": held_out}, best_epoch=19, loss="barycentric"
    )
