"""Propensity scores of every cell, per modality."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from psalm import _access, _checks, _keys
from psalm._progress import bar
from psalm.core import diagnostics
from psalm.core.calibration import log_loss, probabilities
from psalm.core.classifier import CLASSIFIERS, EstimatorClassifier
from psalm.core.propensity import CrossFit, as_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData

    from psalm.core._types import IntArray
    from psalm.core.classifier import Classifier
    from psalm.core.propensity import Propensity


STEP = "tl.propensity"


def propensity(
    mdata: MuData,
    *,
    treatment: str = _keys.TREATMENT,
    use_rep: str | Mapping[str, str] | None = None,
    classifier: Any = "logistic",
    n_folds: int = 5,
    n_repeats: int = 5,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
    progress: bool = True,
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
        treatments), or any scikit-learn classifier with ``predict_proba``, pipelines included.
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
    key_added
        Name of the slots that are written.

    Returns
    -------
    None. Writes, in each modality, ``obsm[key_added]`` (n_cells, n_treatments) float32, centred log-odds in nats, for
    every cell, with a treatment or without (those are scored by all models); ``obs[key_added + "_own"]``, the
    calibrated probability of the cell's own treatment. Writes ``mdata.uns[key_added]`` with ``treatments`` (column
    order), ``params``, ``table`` (per modality and treatment: cells, out-of-fold AUC, overlap), ``calibration`` (per
    modality: temperature, log loss and calibration error before and after) and ``reliability`` (curves).

    Raises
    ------
    KeyError
        The treatment column or a representation is missing.
    TypeError
        The classifier has no ``predict_proba``.
    ValueError
        NaN or infinity in features, fewer than two treatments, unknown classifier.

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
    cross_fit = CrossFit(_classifier(classifier), n_folds, n_repeats)
    codes, treatments = _codes(mdata, treatment, n_folds)
    inputs = {name: _access.features(mdata, name, use_rep) for name in mdata.mod}
    streams = dict(zip(mdata.mod, np.random.default_rng(rng).spawn(len(mdata.mod)), strict=True))

    found: dict[str, Propensity] = {}
    for name, features in inputs.items():
        with bar(n_folds * n_repeats, f"propensity of {name}", unit="model", show=progress) as progress_bar:
            found[name] = cross_fit(
                as_rows(features.values),
                codes[name],
                len(treatments),
                streams[name],
                n_jobs=n_jobs,
                tick=progress_bar.update,
            )
    params = {
        "step": STEP,
        "treatment": treatment,
        "classifier": str(classifier),
        "n_folds": n_folds,
        "n_repeats": n_repeats,
        "use_rep": [f"{name}: {features.said}" for name, features in inputs.items()],
    }
    _write(mdata, key_added, found, codes, treatments, params)


def _classifier(classifier: Any) -> Classifier:
    if isinstance(classifier, str):
        _checks.one_of("classifier", classifier, CLASSIFIERS)
        return CLASSIFIERS[classifier]()
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
    key_added: str,
    found: Mapping[str, Propensity],
    codes: Mapping[str, IntArray],
    treatments: pd.Index,
    params: dict[str, Any],
) -> None:
    keys = _keys.PropensityKeys(key_added)
    reports = [_report(name, scored, codes[name], treatments) for name, scored in found.items()]
    table, calibration, curves = (pd.concat(parts, ignore_index=True) for parts in zip(*reports, strict=True))
    for name, scored in found.items():
        code, adata = codes[name], mdata.mod[name]
        own = np.full(len(code), np.nan)
        labelled = np.flatnonzero(code >= 0)
        own[labelled] = probabilities(scored.log_odds[labelled])[np.arange(len(labelled)), code[labelled]]
        adata.obsm[keys.scores] = scored.log_odds.astype(np.float32)
        adata.obs[keys.own] = own
    mdata.uns[keys.uns] = {
        "treatments": treatments.to_numpy(dtype=object),
        "params": params,
        "table": table,
        "calibration": calibration,
        "reliability": curves,
        "fingerprint": _access.fingerprint(*(mdata.mod[name].obsm[keys.scores] for name in found)),
    }


def _report(
    name: str, scored: Propensity, code: IntArray, treatments: pd.Index
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Per treatment, per modality, and reliability curves, on the labelled cells."""
    labelled = code >= 0
    code = code[labelled]
    after = probabilities(scored.log_odds[labelled])
    before = probabilities(scored.uncalibrated[labelled])
    curves = {"before": diagnostics.reliability(before, code), "after": diagnostics.reliability(after, code)}
    table = pd.DataFrame({"modality": name, "treatment": treatments.to_numpy(dtype=object)})
    table["n_cells"] = np.bincount(code, minlength=len(treatments))
    table["auc"] = diagnostics.one_vs_rest_auc(scored.log_odds[labelled], code)
    table["overlap"] = diagnostics.overlap(after, code)
    calibration = pd.DataFrame({"modality": [name], "temperature": scored.temperature.mean()})
    for when, p in (("before", before), ("after", after)):
        calibration[f"log_loss_{when}"] = log_loss(np.log(p), code)
        calibration[f"calibration_error_{when}"] = diagnostics.calibration_error(curves[when])
    reliability = pd.concat(
        [
            pd.DataFrame(curve, columns=["predicted", "observed", "n_cells"]).assign(when=when)
            for when, curve in curves.items()
        ]
    ).assign(modality=name)
    return table, calibration, reliability
