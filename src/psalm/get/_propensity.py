"""Propensity scores with their names, and what is known about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import softmax

from psalm import _access, _checks, _keys, _scores
from psalm._arguments import checked

if TYPE_CHECKING:
    from mudata import MuData

TABLES = ("table", "calibration", "reliability", "dimensions", "agreement", "findings")


@checked
def propensity(
    mdata: MuData,
    modality: str,
    key: str = _keys.PROPENSITY,
    *,
    reference: str | None = None,
    probability: bool = False,
) -> pd.DataFrame:
    """Log-odds, or probabilities, of every treatment for every cell of one modality.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.propensity`.
    modality
        Which one.
    key
        ``key_added`` of :func:`psalm.tl.propensity`.
    reference
        A treatment such as the control, against which log-odds are given; by default against the mean of all.

    probability
        Give probabilities instead, which sum to 1 (per factor), under the treatment frequencies that scores refer to.

    Returns
    -------
    DataFrame (n_cells, n_treatments), in nats or probabilities; index the cell names, columns the treatments (for
    scores on factors: "factor=level"). Rows of log-odds sum to 0 (per factor), or the reference's column is 0. Scores
    that were compressed are read back, as exactly as ``mdata.uns[key]["basis"]["log_odds_error"]`` says.

    Raises
    ------
    KeyError
        Unknown modality or reference, or there are no scores.
    ValueError
        Both ``reference`` and ``probability``.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> psalm.get.propensity(mdata, "a").shape
    (300, 8)
    """
    adata = _access.modality(_access.container(mdata), modality)
    reading = _scores.kept(_scores.run(mdata, key, "key"))
    stored = _scores.scores(mdata, modality, key)
    values = stored if reading.basis is None else reading.log_odds(stored).astype(np.float32)
    if probability and reference is not None:
        msg = f"`reference={reference!r}` is for log-odds, and `probability=True` has none. Leave one of them out."
        raise ValueError(msg)
    if probability:
        values = values.copy()
        for columns in reading.layout.columns:
            values[:, columns] = softmax(values[:, columns].astype(np.float64), axis=1)
    if reference is not None:
        if reference not in reading.treatments:
            msg = f"`reference={reference!r}` is not a treatment. Found: {_checks.listed(reading.treatments)}."
            raise KeyError(msg)
        values = values.copy()
        for factor, columns in zip(reading.layout.factors, reading.layout.columns, strict=True):
            level = factor.of_treatment[reading.treatments.index(reference)]
            values[:, columns] -= values[:, columns][:, [level]]
    return pd.DataFrame(values, index=adata.obs_names, columns=reading.layout.names)


@checked
def propensity_report(mdata: MuData, key: str = _keys.PROPENSITY, *, table: str = "table") -> pd.DataFrame:
    """What is known about the scores, and whether they can be trusted.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.propensity`.
    key
        ``key_added`` of :func:`psalm.tl.propensity`.
    table
        Which table:

        - "table": per modality and treatment. ``n_cells``, ``frequency``; ``auc``, out of fold, against all other
          treatments, and its standard error ``auc_error``; ``log_loss`` in nats; ``calibration_error_before`` and
          ``_after`` calibration: mean absolute difference of stated and observed frequency; ``overlap``: the share of
          the treatment's variance that cells leave open, 0 where it is told with certainty, 1 where it cannot be told;
          ``batch_auc``: how far the batch alone tells it (with ``batch_key``).
        - "calibration": per modality. ``temperature``; ``log_loss`` and ``calibration_error`` of the most probable
          treatment before and after, with ``chance_error``, what faultless probabilities would show on as few cells.
        - "reliability": points of the reliability curves.
        - "dimensions": per modality. ``effective`` number of directions that scores vary in (participation ratio),
          how many hold 95 % of the variance, and the ``largest`` number that the treatments allow.
        - "agreement": per treatment and pair of modalities. ``energy_share``: energy distance between the two
          modalities' scores, 0 where their distributions are equal (then a little below or above), 1 where they are
          two points; ``random_split_share``: what all but one in a hundred random splits of the same cells stay below.
          Scores of a modality share the errors of its models, so that the first exceeds the second also where the
          method's model holds: this is no test of it.
        - "findings": where the method's assumptions visibly fail, in words, as :func:`psalm.tl.propensity` warned.

    Returns
    -------
    A copy of the table.

    Raises
    ------
    KeyError
        There are no scores.
    ValueError
        Unknown table, or scores of :func:`psalm.tl.score`, which have no report.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> bool(psalm.get.propensity_report(mdata)["auc"].gt(0.5).all())
    True
    """
    stored = _scores.run(_access.container(mdata), key, "key")
    _checks.one_of("table", table, TABLES)
    if table not in stored:
        msg = f"The scores {key!r} come from `tl.score`, which has no report. Ask for that of `tl.propensity`."
        raise ValueError(msg)
    found: pd.DataFrame = stored[table]
    return found.copy()
