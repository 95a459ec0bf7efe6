"""Propensity scores of every cell, per modality."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from psalm import _access, _before_scoring, _checks, _design, _ensembles, _features, _keys, _obs, _scores
from psalm._calls import recorded
from psalm._progress import bar
from psalm.core import findings, report
from psalm.core.calibration import CALIBRATORS
from psalm.core.classifiers import DEFAULT, as_classifier, require_device
from psalm.core.cross_fit import CrossFit
from psalm.core.joint import Cells, Space, frequencies, score_jointly
from psalm.core.propensity import as_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mudata import MuData

    from psalm.core._types import FloatArray, IntArray


PRIORS = ("shared", "own")
SCORE_ON = ("treatment", "factors")


@recorded
def propensity(
    mdata: MuData,
    *,
    treatment: str = _keys.TREATMENT,
    use_rep: str | Mapping[str, str] | None = None,
    classifier: Any = DEFAULT,
    calibration: str = "temperature",
    prior: str = "shared",
    score_on: str = "treatment",
    groups: str | None = None,
    batch_key: str | None = None,
    n_folds: int = 5,
    n_repeats: int = 5,
    compress_above: int = 256,
    distance_error: float = 0.01,
    rng: int | np.random.Generator | None = 0,
    n_jobs: int | None = None,
    checkpoint: str | Path | None = None,
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
        Images are arrays (n_cells, channels, height, width) in ``obsm``.
    classifier
        "kernel" (multinomial logistic regression on the features and on a Gaussian kernel of them, with a firm ridge
        and softly balanced treatments; in minibatches where cells × treatments are many; the features of ``obsm`` keep
        their proportions, those of ``X`` and layers are standardised), "logistic" (the same on standardised features
        alone, without a kernel: faster), "mlp" (a torch network with one hidden layer, on
        a GPU where there is one), "image" (a small convolutional network), any scikit-learn classifier with
        ``predict_proba``, pipelines and skorch networks included, or a mapping from modality to these.
    calibration
        "temperature" (one number), "vector" (a weight and a bias per treatment), "isotonic" (a monotone curve per
        treatment; its steps hide differences between cells) or "none". From out-of-fold scores: the temperature from
        those of all cells, the same for all; "vector" and "isotonic", for each fold, from the other folds' cells.
    prior
        "shared": log-odds refer to the mean of the modalities' treatment frequencies, so that a treatment that is
        frequent in one modality and rare in the other does not push their scores apart.
        "own": each modality's own frequencies. A classifier of yours that balances classes is taken as it is.
    score_on
        "treatment": one classifier tells all treatments apart. "factors": one classifier per factor of a factorial
        design (:func:`psalm.pp.treatment` with several columns, or with ``separator=``), whose log-odds stand side by
        side. Combinations that have few cells then share what is known of their parts. Cells are matched within the
        combination either way.
    groups
        Column in ``obs`` of each modality, or of ``mdata``, with the donor or plate; folds never split a group, so that
        a cell is scored by models that have not seen its donor. Every treatment must occur in two groups. Values are
        read as labels, as :func:`psalm.pp.treatment` reads them: plates 1 and "1" are one.
    batch_key
        Column, found and read likewise, with the batch (plate, lane, donor) that scores are to be free of. Its
        additive shift of the features is taken away, and training cells are weighted so that treatment and batch are
        independent. The table then says how far the batch alone tells each treatment (``batch_auc``).
    n_folds
        Parts into which the cells of each treatment are split. More folds train on more cells and take longer.
        A treatment with fewer cells than folds is left out of no training set unless it has a single cell, which is
        then scored by a model that has not seen its treatment.
    n_repeats
        How often folds are drawn anew and scores averaged. More repeats make scores steadier.
    compress_above
        With more treatments than this, scores are kept as coordinates in an orthogonal basis of at most as many
        components, which all modalities share; :func:`psalm.get.propensity` reads log-odds back.
    distance_error
        How far distances between compressed scores may be from those between log-odds (root mean square, relative).
    rng
        Seed or generator of the folds.
    n_jobs
        Folds trained at a time, as in joblib. The scores do not depend on it.
    checkpoint
        Folder that keeps every trained model as soon as there is one, and from which a call that was interrupted goes
        on with the same scores to the last bit. Files are named by a hash of classifier, features, treatments, seed and
        versions, so that a call with others does not read them. Remove the folder when you are done.
    progress
        Show a bar for what takes longer than a second.
    save
        File to write the ensemble of models to, for :func:`psalm.tl.score` on new cells. Psalm's classifiers and
        scikit-learn's can be written; it holds no code.
    key_added
        Name of the slots that are written.

    Returns
    -------
    None. Writes, in each modality, ``obsm[key_added]`` (n_cells, n_treatments) float32, centred log-odds in nats, for
    every cell, with a treatment or without (those are scored by all models); ``obs[key_added + "_own"]``, the
    calibrated probability of the cell's own treatment; ``obs[key_added + "_response"]``, the probability at even odds
    that the cell has its treatment rather than the control (where :func:`psalm.pp.treatment` was not told a control:
    rather than another treatment), so that perturbed cells below 0.5 look as if they had not responded;
    ``obs[key_added + "_treatment"]``, the treatment it was scored with; and ``obs[key_added + "_run"]``, by which
    scores of different runs are told apart where containers are joined.
    With two repeats or more also ``obsm[key_added + "_error"]``, one draw of the error of the scores: scores plus and
    minus it are as noisy as two independent estimates, which :func:`psalm.tl.diagnose` matches twice.
    Writes ``mdata.uns[key_added]`` with ``treatments`` (column order), ``params``, ``table``, ``calibration``,
    ``reliability``, ``dimensions``, ``agreement``, ``confusion`` and ``findings``, which
    :func:`psalm.get.propensity_report` describes, and where scores are compressed ``basis`` with the measured errors of
    distances and of log-odds read back.

    Raises
    ------
    KeyError
        The treatment column, a representation, factors or a batch column is missing.
    TypeError
        The classifier has no ``predict_proba``, cannot weigh cells where ``batch_key`` asks for it, or cannot be kept
        by ``checkpoint``, as networks of skorch cannot.
    MemoryError
        It would not fit into the memory that is free; says what takes most.
    ValueError
        NaN or infinity in features, fewer than two treatments, an unknown name, or groups or batches that leave a
        treatment or batch without cells to train on.

    Warns
    -----
    UserWarning
        Where the method's assumptions visibly fail: a modality that does not tell a treatment, or tells it with
        certainty, scores of two modalities that lie apart, too few treatments, calibration that is off, a batch that
        tells the treatment, treatments of very few cells. Treatments are named.

    References
    ----------
    Xi, Osea, Xu and Hartford, *Propensity Score Alignment of Unpaired Multimodal Data*, NeurIPS 2024, section 3.
    Guo et al., *On Calibration of Modern Neural Networks*, ICML 2017 (temperature).

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> mdata["a"].obsm["propensity"].shape
    (300, 8)
    """
    _access.container(mdata)
    _access.claim(mdata, key_added, _scores.STEP)
    for name, adata in mdata.mod.items():
        _scores.claim(adata, name, key_added, written=_access.is_run(mdata, key_added, _scores.STEP))
    _checks.jobs(n_jobs)
    _before_scoring.require_folder(checkpoint, rng)
    _checks.file("save", save)
    _before_scoring.require_numbers(n_folds, n_repeats, compress_above, distance_error)
    _checks.one_of("calibration", calibration, CALIBRATORS)
    _checks.one_of("prior", prior, PRIORS)
    _checks.one_of("score_on", score_on, SCORE_ON)
    chosen = _by_modality(mdata, classifier)
    for choice in chosen.values():
        require_device(choice)
        _before_scoring.require_writable_models(choice, checkpoint, save)
    inputs = {
        name: _features.features(mdata, name, use_rep, tensors=_takes_tensors(chosen[name])) for name in mdata.mod
    }
    _before_scoring.require_images(inputs, chosen)
    fits = {
        name: CrossFit(
            as_classifier(choice, equal_scales=not inputs[name].is_representation),
            n_folds,
            n_repeats,
            CALIBRATORS[calibration](),
            None if checkpoint is None else Path(checkpoint),
        )
        for name, choice in chosen.items()
    }
    codes, treatments = _design.treatment_codes(mdata, treatment)
    layout = _design.layout(mdata, treatment, treatments, score_on)
    grouped = {name: _design.groups(mdata, name, groups, codes[name], treatments, n_folds) for name in mdata.mod}
    batched = {name: _design.batches(mdata, name, batch_key, codes[name]) for name in mdata.mod}
    _design.check_held_out({name: numbers for name, (numbers, _) in batched.items()}, grouped)
    if batch_key is not None:
        _before_scoring.require_dense(inputs)
    _before_scoring.require_memory(inputs, layout.n_columns, compress_above, n_jobs)
    _before_scoring.warn_of_small(codes, treatments, n_folds)

    shares, control = _shares(codes, len(treatments), prior), _design.control(mdata, treatment, treatments)
    generator = _checks.generator(rng)
    joint = score_jointly(
        {
            name: Cells(as_rows(found.values), codes[name], grouped[name], batched[name][0], fits[name])
            for name, found in inputs.items()
        },
        Space(layout, control, shares, compress_above, distance_error),
        generator,
        n_jobs=n_jobs,
        progress=_bars(show=progress),
    )
    reading = _scores.Kept(tuple(treatments), layout, joint.basis)
    tables = report.tables(layout, reading.treatments, joint, generator)
    params = {
        "step": _scores.STEP,
        "treatment": treatment,
        "control": "" if control is None else treatments[control],
        "classifier": [f"{name}: {choice}" for name, choice in chosen.items()],
        "calibration": calibration,
        "prior": prior,
        "score_on": score_on,
        "groups": groups or "",
        "batch_key": batch_key or "",
        "n_folds": n_folds,
        "n_repeats": n_repeats,
        "use_rep": [f"{name}: {found.said}" for name, found in inputs.items()],
    }
    fingerprint = _access.fingerprint(*(scores.values for scores in joint.scores.values()))
    run = _access.identity(mdata.mod.values(), fingerprint.encode())
    for name, scores in joint.scores.items():
        labels = _obs.find(mdata, name, treatment, "treatment", joint=False)
        _scores.write(mdata.mod[name], key_added, scores, labels.values, run)
    mdata.uns[key_added] = {**reading.to_uns(), "params": params, **tables, "fingerprint": fingerprint, "run": run}
    if prior == "shared":
        mdata.uns[key_added]["shares"] = next(iter(shares.values()))
    if save is not None:
        stored = _ensembles.Stored(
            run,
            treatment,
            reading,
            {name: _ensembles.Part.of(joint, name, inputs[name], batch_key, batched[name][1]) for name in mdata.mod},
            {name: mdata.mod[name].obs_names[code >= 0] for name, code in codes.items()},
        )
        _save(save, stored)
    if len(tables["findings"]):
        warnings.warn(findings.as_warning(tables["findings"], key_added), UserWarning, stacklevel=3)


def _save(path: str | Path, stored: _ensembles.Stored) -> None:
    """Write the models. The scores are in the container by now, and stay there if the disk has become full."""
    try:
        _ensembles.write(path, stored)
    except (OSError, TypeError) as reason:
        msg = (
            f"`save={str(path)!r}`: the models could not be written ({reason}), while all scores are in the container. "
            "Make space or pass another file, and call again; with `checkpoint=` nothing is trained twice."
        )
        warnings.warn(msg, UserWarning, stacklevel=4)


def _by_modality(mdata: MuData, classifier: Any) -> dict[str, Any]:
    """The choice of classifier for each modality; the default for modalities that a mapping leaves out."""
    if not isinstance(classifier, Mapping):
        return dict.fromkeys(mdata.mod, classifier)
    _access.by_modality(mdata, classifier, "classifier")
    return {name: classifier.get(name, DEFAULT) for name in mdata.mod}


def _takes_tensors(choice: Any) -> bool:
    """Whether a classifier may be given arrays of more than two dimensions."""
    return choice == "image" or not isinstance(choice, str)


def _shares(codes: Mapping[str, IntArray], n_treatments: int, prior: str) -> dict[str, FloatArray]:
    """The treatment frequencies that each modality's log-odds are to refer to."""
    own = {name: frequencies(code, n_treatments) for name, code in codes.items()}
    if prior == "own":
        return own
    shared: FloatArray = np.mean(list(own.values()), axis=0)
    return dict.fromkeys(own, shared)


def _bars(*, show: bool) -> Callable[[int, str, str], Any]:
    @contextmanager
    def one(total: int, name: str, unit: str) -> Iterator[Callable[[int], object]]:
        with bar(total, name, unit=unit, show=show) as progress_bar:
            yield progress_bar.update

    return one
