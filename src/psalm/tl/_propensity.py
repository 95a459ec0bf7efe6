"""Propensity scores of every cell, per modality."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from psalm import _access, _checks, _ensembles, _keys
from psalm._progress import bar
from psalm.core import diagnostics
from psalm.core.calibration import CALIBRATORS
from psalm.core.estimator import EstimatorClassifier
from psalm.core.log_odds import change_prior, probabilities
from psalm.core.logistic import LogisticClassifier
from psalm.core.propensity import CrossFit, as_rows

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

    from psalm.core._types import FloatArray, IntArray
    from psalm.core.classifier import Classifier
    from psalm.core.propensity import Propensity


STEP = "tl.propensity"
CLASSIFIERS = ("logistic", "mlp")
PRIORS = ("shared", "own")


def propensity(
    mdata: MuData,
    *,
    treatment: str = _keys.TREATMENT,
    use_rep: str | Mapping[str, str] | None = None,
    classifier: Any = "logistic",
    calibration: str = "temperature",
    prior: str = "shared",
    groups: str | None = None,
    n_folds: int = 5,
    n_repeats: int = 5,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
    progress: bool = True,
    save: str | Path | None = None,
    key_added: str = _keys.PROPENSITY,
) -> None:
    """Score each cell by its calibrated, out-of-fold log-odds of every treatment, in each modality alone.

    A classifier of the treatment is trained per modality by cross-fitting, so that no cell is scored by a model that
    has seen it; folds are drawn independently for each modality. Log-odds are calibrated by one temperature, the
    certainty about the most probable treatment is capped at odds of twice the number of cells, rows are centred, and
    repeats are averaged. The scores of all modalities then live in one space.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.pp.treatment`.
    treatment
        Column written by :func:`psalm.pp.treatment`.
    use_rep
        Features to classify: "X", a key of ``obsm`` or of ``layers``, or a mapping from modality to one of these.
        By default ``obsm["X_psalm"]`` where :func:`psalm.pp.represent` wrote it, else ``X``.
    classifier
        "logistic" (standardised features, multinomial logistic regression with a firm ridge and softly balanced
        treatments), "mlp" (a torch network with one hidden layer, trained in minibatches, on a GPU where there is one),
        any scikit-learn classifier with ``predict_proba``, pipelines included, or a mapping from modality to these.
    calibration
        "temperature" (one number), "vector" (a weight and a bias per treatment), "isotonic" (a monotone curve per
        treatment; its steps hide differences between cells) or "none". Learnt, for each fold, from the other folds.
    prior
        "shared": log-odds refer to the mean of the modalities' treatment frequencies, so that a treatment that is
        frequent in one modality and rare in the other does not push their scores apart.
        "own": each modality's own frequencies. A classifier of yours that balances classes is taken as it is.
    groups
        Column in ``obs`` of each modality with the donor or plate; folds never split a group, so that a cell is scored
        by models that have not seen its donor. Every treatment must occur in two groups.
    n_folds
        Parts into which the cells of each treatment are split. More folds train on more cells and take longer.
        A treatment with fewer cells than folds is left out of no training set unless it has a single cell, which is
        then scored by a model that has not seen its treatment.
    n_repeats
        How often folds are drawn anew and scores averaged. More repeats make scores steadier.
    rng
        Seed or generator of the folds.
    n_jobs
        Folds trained at a time, as in joblib. The scores do not depend on it.
    progress
        Show a bar for what takes longer than a second.
    save
        File to write the ensemble of models to, for :func:`psalm.tl.score` on new cells.
    key_added
        Name of the slots that are written.

    Returns
    -------
    None. Writes, in each modality, ``obsm[key_added]`` (n_cells, n_treatments) float32, centred log-odds in nats, for
    every cell, with a treatment or without (those are scored by all models); ``obs[key_added + "_own"]``, the
    calibrated probability of the cell's own treatment. Writes ``mdata.uns[key_added]`` with ``treatments`` (column
    order), ``params``, ``table`` (per modality and treatment: cells, frequency, out-of-fold AUC, and overlap: the share
    of the treatment's variance that cells leave open, 0 where it is told with certainty, 1 where it cannot be told),
    ``calibration`` (per
    modality: temperature, log loss and calibration error before and after) and ``reliability`` (curves).

    Raises
    ------
    KeyError
        The treatment column or a representation is missing.
    TypeError
        The classifier has no ``predict_proba``.
    ValueError
        NaN or infinity in features, fewer than two treatments, an unknown name, or groups that leave a treatment
        without cells to train on.

    References
    ----------
    Xi, Osea, Xu and Hartford, *Propensity Score Alignment of Unpaired Multimodal Data*, NeurIPS 2024, section 3.
    Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017 (temperature).

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300, n_treatments=3)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> mdata["a"].obsm["propensity"].shape
    (300, 3)
    """
    _access.container(mdata)
    _access.claim(mdata, key_added, STEP)
    _checks.whole_number("n_folds", n_folds, least=2)
    _checks.whole_number("n_repeats", n_repeats, least=1)
    _checks.one_of("calibration", calibration, CALIBRATORS)
    _checks.one_of("prior", prior, PRIORS)
    cross_fits = {
        name: CrossFit(_classifier(choice), n_folds, n_repeats, CALIBRATORS[calibration]())
        for name, choice in _by_modality(mdata, classifier).items()
    }
    codes, treatments = _codes(mdata, treatment, n_folds)
    grouped = {name: _access.groups(mdata, name, groups, codes[name], treatments, n_folds) for name in mdata.mod}
    inputs = {name: _access.features(mdata, name, use_rep) for name in mdata.mod}
    streams = dict(zip(mdata.mod, np.random.default_rng(rng).spawn(len(mdata.mod)), strict=True))

    found: dict[str, Propensity] = {}
    for name, features in inputs.items():
        with bar(n_folds * n_repeats, f"propensity of {name}", unit="model", show=progress) as progress_bar:
            found[name] = cross_fits[name](
                as_rows(features.values),
                codes[name],
                len(treatments),
                streams[name],
                groups=grouped[name],
                n_jobs=n_jobs,
                tick=progress_bar.update,
            )
    params = {
        "step": STEP,
        "treatment": treatment,
        "classifier": [f"{name}: {choice}" for name, choice in _by_modality(mdata, classifier).items()],
        "calibration": calibration,
        "prior": prior,
        "groups": groups or "",
        "n_folds": n_folds,
        "n_repeats": n_repeats,
        "use_rep": [f"{name}: {features.said}" for name, features in inputs.items()],
    }
    shifts = _shifts(codes, len(treatments), prior)
    if save is not None:
        parts = {name: _part(scored, inputs[name], shifts[name]) for name, scored in found.items()}
        trained = {name: mdata.mod[name].obs_names[code >= 0] for name, code in codes.items()}
        _ensembles.write(save, _ensembles.Stored(treatment, list(treatments), parts, trained))
    result = {"treatments": treatments.to_numpy(dtype=object), "params": params}
    _write(mdata, _keys.PropensityKeys(key_added), found, codes, shifts, result)


def _part(scored: Propensity, inputs: _access.Features, shift: FloatArray) -> _ensembles.Part:
    """What the file keeps of one modality."""
    return _ensembles.Part(scored.ensemble, inputs.key, list(inputs.names.astype(str)), inputs.space, shift)


def _by_modality(mdata: MuData, classifier: Any) -> dict[str, Any]:
    """The choice of classifier for each modality; "logistic" for modalities that a mapping leaves out."""
    if not isinstance(classifier, Mapping):
        return dict.fromkeys(mdata.mod, classifier)
    _access.by_modality(mdata, classifier, "classifier")
    return {name: classifier.get(name, "logistic") for name in mdata.mod}


def _shifts(codes: Mapping[str, IntArray], n_treatments: int, prior: str) -> dict[str, FloatArray]:
    """What each modality's log-odds must be moved by to refer to the prior: ``log p(t) − log p_m(t)``."""
    counts = {name: np.bincount(code[code >= 0], minlength=n_treatments) for name, code in codes.items()}
    shares = {name: count / count.sum() for name, count in counts.items()}
    shared = np.mean(list(shares.values()), axis=0)
    return {name: np.log(shared if prior == "shared" else share) - np.log(share) for name, share in shares.items()}


def _by_name(name: str) -> Classifier:
    if name == "mlp":
        from psalm.core.mlp import PerceptronClassifier

        return PerceptronClassifier()
    return LogisticClassifier()


def _classifier(classifier: Any) -> Classifier:
    if isinstance(classifier, str):
        _checks.one_of("classifier", classifier, CLASSIFIERS)
        return _by_name(classifier)
    if not (hasattr(classifier, "predict_proba") and hasattr(classifier, "fit")):
        msg = (
            f"`classifier` is {type(classifier).__name__}, which has no `fit` and `predict_proba`. "
            f"Pass one of {_checks.listed(CLASSIFIERS)} or a scikit-learn classifier that predicts probabilities "
            "(wrap others in `sklearn.calibration.CalibratedClassifierCV`)."
        )
        raise TypeError(msg)
    return EstimatorClassifier(classifier)


def _codes(mdata: MuData, treatment: str, n_folds: int) -> tuple[dict[str, IntArray], pd.Index]:
    """Treatment codes of all modalities in one order, and a warning for very small treatments."""
    present = {name: _access.treatment_codes(mdata, name, treatment)[1] for name in mdata.mod}
    treatments = next(iter(present.values()))
    for name, found in present.items():
        missing = treatments.symmetric_difference(found)
        if len(missing):
            msg = (
                f"The modalities do not have the same treatments in obs[{treatment!r}]: {_checks.listed(missing)} "
                f"are in {next(iter(present))!r} or {name!r}, not in both. Run `pp.treatment` again on these cells."
            )
            raise ValueError(msg)
    if len(treatments) < 2:  # noqa: PLR2004, nothing to tell apart
        msg = (
            f"There are {len(treatments)} treatments in obs[{treatment!r}], and two are needed. "
            "Run `pp.treatment` on a column with more treatments."
        )
        raise ValueError(msg)
    codes = {name: _access.treatment_codes(mdata, name, treatment, treatments)[0] for name in mdata.mod}
    counts = np.array([np.bincount(code[code >= 0], minlength=len(treatments)) for code in codes.values()])
    small = set(treatments[(counts < n_folds).any(axis=0)])
    if small:
        msg = (
            f"{len(small)} treatments have fewer cells than folds ({n_folds}): {_checks.listed(sorted(small))}. "
            "Their scores rest on very few cells; raise `min_cells` in `pp.treatment` to leave them out."
        )
        warnings.warn(msg, UserWarning, stacklevel=3)
    return codes, treatments


def _write(
    mdata: MuData,
    keys: _keys.PropensityKeys,
    found: Mapping[str, Propensity],
    codes: Mapping[str, IntArray],
    shifts: Mapping[str, FloatArray],
    result: dict[str, Any],
) -> None:
    treatments = result["treatments"]
    reports = [diagnostics.report(name, scored, codes[name], treatments) for name, scored in found.items()]
    table, calibration, curves = (pd.concat(parts, ignore_index=True) for parts in zip(*reports, strict=True))
    for name, scored in found.items():
        write_scores(mdata.mod[name], keys, change_prior(scored.log_odds, shifts[name]), codes[name])
    mdata.uns[keys.uns] = {
        **result,
        "table": table,
        "calibration": calibration,
        "reliability": curves,
        "fingerprint": _access.fingerprint(*(mdata.mod[name].obsm[keys.scores] for name in found)),
    }


def write_scores(adata: AnnData, keys: _keys.PropensityKeys, log_odds: FloatArray, codes: IntArray) -> None:
    """Write the scores of one modality, and the probability of each cell's own treatment."""
    own = np.full(len(codes), np.nan)
    labelled = np.flatnonzero(codes >= 0)
    own[labelled] = probabilities(log_odds[labelled])[np.arange(len(labelled)), codes[labelled]]
    adata.obsm[keys.scores] = log_odds.astype(np.float32)
    adata.obs[keys.own] = own
