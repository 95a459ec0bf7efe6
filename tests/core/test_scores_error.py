"""One draw of the error of the scores: how large it is, where it is not known, and how it is kept."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.special import softmax

import psalm
from psalm._containers import stack
from psalm.core.calibration import NoCalibrator
from psalm.core.classifier import FittedClassifier, log_shares
from psalm.core.compression import Basis
from psalm.core.cross_fit import CrossFit
from psalm.core.ensemble import halves
from psalm.core.layout import one_factor
from psalm.core.logistic import LogisticClassifier
from psalm.core.scoring import Reference, Scores

N_TREATMENTS, N_FEATURES = 3, 4
CENTRES = 0.7 * np.eye(N_FEATURES)[:N_TREATMENTS]


@dataclass(frozen=True)
class Means:
    """Treatments as unit Gaussians around the means of their training cells."""

    means: np.ndarray
    classes_: np.ndarray

    def predict_proba(self, features):
        return softmax(features @ self.means.T - (self.means**2).sum(axis=1) / 2, axis=1)


class NearestMean:
    """A classifier whose error is known: cheap, and nearly linear in the training cells."""

    def fit(self, features, codes, n_treatments, seed=0, weights=None):
        means = np.stack([features[codes == treatment].mean(axis=0) for treatment in range(n_treatments)])
        return FittedClassifier(Means(means, np.arange(n_treatments)), log_shares(codes, n_treatments), 0.0)


def draw(codes, rng):
    """Cells of these treatments, which may not be written to."""
    features = CENTRES[codes] + rng.normal(size=(len(codes), N_FEATURES))
    features.flags.writeable = False
    return features


def cross_fit(n_folds=5, n_repeats=5, classifier=None, **options):
    return CrossFit(classifier or NearestMean(), n_folds, n_repeats, **options)


def rows_of(fit, n_cells, rng, n_unlabelled=0):
    """Cross-fit and scores of as many cells, treatments in turn and the last without one."""
    codes = np.append(np.arange(n_cells) % N_TREATMENTS, np.full(n_unlabelled, -1))
    found = fit(draw(codes, rng), codes, N_TREATMENTS, rng)
    return found, found.rows(np.arange(len(codes)))


@pytest.mark.parametrize(
    ("n_repeats", "means", "variance"),
    [
        pytest.param(2, [1, -1], 1 + 1, id="2"),
        pytest.param(3, [1 / 2, 1 / 2, -1], 1 / 2 + 1, id="3"),
        pytest.param(5, [1 / 3, 1 / 3, 1 / 3, -1 / 2, -1 / 2], 1 / 3 + 1 / 2, id="5"),
    ],
)
def test_weights_of_the_halves_by_hand(n_repeats, means, variance):
    """Difference of two means, over its standard deviation where repeats are independent of unit variance."""
    weights = halves(n_repeats)
    np.testing.assert_allclose(weights, np.array(means) / np.sqrt(variance))
    np.testing.assert_allclose((weights**2).sum(), 1)
    np.testing.assert_allclose(weights.sum(), 0, atol=1e-12)


@pytest.mark.parametrize("n_folds", [2, 3, 5])
def test_error_of_two_repeats_by_hand(rng, n_folds):
    """Independent: scores of each repeat alone. Of two, the variance is half the squared difference: no sampling."""
    found, rows = rows_of(cross_fit(n_folds, 2), 90, rng)
    first, second = (replace(found, repeats=(repeat,)).log_odds for repeat in found.repeats)
    np.testing.assert_allclose(rows.error, (first - second) * np.sqrt((n_folds - 1) / 2), atol=1e-9)
    np.testing.assert_allclose((rows.error**2).sum(axis=1), rows.noise, rtol=1e-6, atol=1e-9)


def test_error_and_noise_are_of_the_same_variance(rng):
    """Independent: the one is a contrast of the five repeats, the other their sample variance.

    They differ by the error's unequal weights of repeats (relative standard deviation 0.037: 0.18 for 3 × 2/15 and
    2 × 3/10 instead of 1/5, times sqrt(2 / 48) for a repeat's 12 means × (5 − 1) free folds) and by products of
    repeats, which cancel over cells (1.2 · sqrt(3 / 3000) = 0.038): 0.053, and 0.065 over 40 seeds. Four times that.
    """
    _, rows = rows_of(cross_fit(), 3000, rng)
    assert (rows.error**2).sum(axis=1).mean() == pytest.approx(rows.noise.mean(), rel=0.26)


def test_rows_of_error_are_centred(rng):
    _, rows = rows_of(cross_fit(n_repeats=3, classifier=LogisticClassifier()), 90, rng)
    assert np.abs(rows.error).mean() > 0.01
    np.testing.assert_allclose(rows.error.sum(axis=1), 0, atol=1e-9)


def test_cells_without_a_treatment_have_no_error(rng):
    found, rows = rows_of(cross_fit(n_repeats=2), 60, rng, n_unlabelled=7)
    assert np.isfinite(rows.error[:60]).all()
    assert np.isnan(rows.error[60:]).all()
    assert np.isnan(rows.noise[60:]).all()
    np.testing.assert_array_equal(found.rows(np.array([63, 5])).error, rows.error[[63, 5]])


def test_one_repeat_knows_no_error(rng):
    _, rows = rows_of(cross_fit(n_repeats=1), 60, rng, n_unlabelled=3)
    assert rows.error.shape == (63, N_TREATMENTS)
    assert np.isnan([*rows.error.ravel(), *rows.noise]).all()


@pytest.mark.parametrize(("n_folds", "n_repeats"), [(2, 40), (5, 10)])
def test_error_has_the_variance_in_closed_form(rng, n_folds, n_repeats):
    """Independent: an error δ of the mean of treatment t moves its log-likelihood by (x − μ_t)·δ, of variance 1/n_t.

    Centred over T treatments, errors add up to ``(1 − 1/T) Σ_t |x − μ_t|² / n_t``. The draw's mean square over cells
    has a relative standard deviation of sqrt(2 / (12 (n_folds − 1) n_repeats)) = 0.065 here, 0.075 over 20 seeds. Four
    times the larger.
    """
    n_cells = 600
    found, rows = rows_of(cross_fit(n_folds, n_repeats, calibrator=NoCalibrator()), n_cells, rng)
    squares = ((found.features[:, None] - CENTRES) ** 2).sum(axis=2)  # (n_cells, n_treatments)
    expected = (1 - 1 / N_TREATMENTS) * squares.sum(axis=1).mean() / (n_cells / N_TREATMENTS)
    assert (rows.error**2).sum(axis=1).mean() == pytest.approx(expected, rel=0.3)


def test_error_is_as_large_as_scores_vary_over_training_sets():
    """Independent: 25 training sets of one population, as if the experiment were done again.

    The same 30 cells are scored out of fold among 300 others that are drawn anew, as many of each treatment, with the
    default ridge and a temperature. Measured is the variance of their scores over the sets, summed over treatments and
    averaged over cells; the 30 are themselves a tenth of the training cells, which makes it a tenth too small, and 25
    sets know it to 10–15 %. The draw's mean square is to be within a factor of 2 of it, and the draw unrelated to the
    error that is there: swapping the halves of the repeats changes its sign and not the scores.
    """
    rng = np.random.default_rng(0)
    codes, n_fixed, n_sets = np.arange(330) % N_TREATMENTS, 30, 25
    fixed, fit = draw(codes[:n_fixed], rng), cross_fit(n_repeats=2, classifier=LogisticClassifier())
    scores, errors = np.zeros((2, n_sets, n_fixed, N_TREATMENTS))
    for position in range(n_sets):
        features = np.vstack([fixed, draw(codes[n_fixed:], rng)])
        rows = fit(features, codes, N_TREATMENTS, rng).rows(np.arange(n_fixed))
        scores[position], errors[position] = rows.log_odds, rows.error
    true = scores.var(axis=0, ddof=1).sum(axis=1).mean()
    drawn = (errors**2).sum(axis=2).mean()
    assert 0.5 < drawn / true < 2
    products = ((scores - scores.mean(axis=0)) * errors).sum(axis=(1, 2))
    assert abs(products.mean()) < 4 * products.std(ddof=1) / np.sqrt(n_sets)


@pytest.fixture
def turned(rng):
    """Two coordinates of three log-odds, with an offset that errors have nothing to do with."""
    return Basis(np.linalg.qr(rng.normal(size=(3, 2)))[0].T, np.array([5.0, -3.0, -2.0]), 0.0, 0.0)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("unknown_first", [False, True])
def test_errors_are_kept_in_portions(read_only, turned, compressed, unknown_first):
    """A portion of cells without a treatment has none, whether it comes first or last."""
    basis, log_odds, error = turned if compressed else None, read_only(6, 3), read_only(3, 3)
    scores = Scores(one_factor(("u", "v", "w")), basis, Reference(np.log(np.full(3, 1 / 3)), None), np.full(6, -1))
    portions = [np.arange(3), np.arange(3, 6)]
    unknown, known = portions if unknown_first else portions[::-1]
    for cells in portions:
        scores.fill(cells, log_odds[cells], None, error if cells is known else np.full((3, 3), np.nan))
    expected = error @ turned.loadings.T if compressed else error
    assert scores.error.dtype == np.float32
    assert scores.error.shape == scores.values.shape
    np.testing.assert_allclose(scores.error[known], expected, rtol=1e-5, atol=1e-6)
    assert np.isnan(scores.error[unknown]).all()


def test_errors_that_are_nowhere_known_are_not_kept(read_only):
    scores = Scores(one_factor(("u", "v", "w")), None, Reference(np.zeros(3), None), np.full(4, -1))
    scores.fill(np.arange(2), read_only(2, 3))
    scores.fill(np.arange(2, 4), read_only(2, 3), np.full(2, np.nan), np.full((2, 3), np.nan))
    assert scores.error is None


def propensity(mdata, n_repeats=2, **options):
    psalm.tl.propensity(mdata, classifier="logistic", n_repeats=n_repeats, progress=False, **options)


@pytest.fixture
def treated(raw):
    psalm.pp.treatment(raw, "perturbation")
    return raw


def squares(cells, key="propensity"):
    """What the errors of a cell add up to."""
    return (cells.obsm[f"{key}_error"].astype(float) ** 2).sum(axis=1)


def test_two_repeats_write_the_error_and_one_takes_it_away(treated):
    """Independent: of two repeats, squares of errors are the variance in obs."""
    propensity(treated)
    for name in ("a", "b"):
        cells = treated[name]
        error = cells.obsm["propensity_error"]
        assert error.dtype == np.float32
        assert error.shape == cells.obsm["propensity"].shape
        np.testing.assert_allclose(squares(cells), cells.obs["propensity_noise"], rtol=1e-4)
        np.testing.assert_allclose(error.sum(axis=1), 0, atol=1e-5)
    propensity(treated, n_repeats=1)
    for name in ("a", "b"):
        assert "propensity_error" not in treated[name].obsm
        assert treated[name].obs["propensity_noise"].isna().all()


def test_runs_under_two_names_keep_errors_apart(treated):
    propensity(treated, key_added="one")
    error = treated["a"].obsm["one_error"].copy()
    propensity(treated, key_added="two", n_repeats=1)
    np.testing.assert_array_equal(treated["a"].obsm["one_error"], error)
    assert "two_error" not in treated["a"].obsm


def test_coordinates_have_the_error_of_the_log_odds_turned():
    """Independent: the same models with log-odds kept whole. Errors have no offset, and lose what the basis loses."""
    mdata = psalm.datasets.simulated(n_cells=600, n_treatments=20, n_latent=3, n_features=(12, 12), n_private=2)
    psalm.pp.treatment(mdata, "perturbation")
    propensity(mdata)
    propensity(mdata, compress_above=12, key_added="short")
    basis = mdata.uns["short"]["basis"]
    assert np.abs(basis["offset"]).max() > 0.1
    for name in ("a", "b"):
        cells = mdata[name]
        error = cells.obsm["short_error"]
        assert error.shape == cells.obsm["short"].shape
        assert error.shape[1] == len(basis["loadings"]) <= 12
        expected = cells.obsm["propensity_error"] @ basis["loadings"].T
        np.testing.assert_allclose(error, expected, rtol=1e-3, atol=1e-5)
        assert (squares(cells, "short") <= squares(cells) * (1 + 1e-4)).all()


def test_cells_without_a_treatment_have_no_error_in_the_container(treated):
    treated["a"].obs.loc[treated["a"].obs_names[:9], "treatment"] = np.nan
    propensity(treated)
    propensity(treated, compress_above=2, distance_error=0.9, key_added="short")
    for key in ("propensity_error", "short_error"):
        error = treated["a"].obsm[key]
        assert np.isnan(error[:9]).all()
        assert np.isfinite(error[9:]).all()
        assert np.isfinite(treated["b"].obsm[key]).all()


@pytest.fixture
def factorial(rng):
    """Two drugs at three doses; each factor moves features of its own."""
    modalities = {}
    for name in ("x", "y"):
        drug, dose = rng.integers(2, size=240), rng.integers(3, size=240)
        features = rng.normal(size=(240, 6)) + 1.5 * (np.eye(6)[drug] + np.eye(6)[2 + dose])
        labels = {"drug": np.array(["A", "B"])[drug], "dose": np.array(["1", "10", "100"])[dose]}
        obs = pd.DataFrame(labels, index=[f"{name}_{i}" for i in range(240)])
        modalities[name] = AnnData(features, obs=obs, var=pd.DataFrame(index=[f"{name}_f{i}" for i in range(6)]))
    mdata = stack(modalities)
    psalm.pp.treatment(mdata, ["drug", "dose"])
    return mdata


@pytest.mark.filterwarnings("ignore:Scores of . fill")
def test_errors_of_all_factors_stand_side_by_side(factorial):
    """Independent: each factor's errors are centred, and of two repeats all squares together are the variance."""
    propensity(factorial, score_on="factors")
    for name in ("x", "y"):
        cells = factorial[name]
        error = cells.obsm["propensity_error"]
        assert error.shape == cells.obsm["propensity"].shape == (240, 5)
        assert (np.abs(error).mean(axis=0) > 1e-3).all()
        np.testing.assert_allclose(error[:, :2].sum(axis=1), 0, atol=1e-5)
        np.testing.assert_allclose(error[:, 2:].sum(axis=1), 0, atol=1e-5)
        np.testing.assert_allclose(squares(cells), cells.obs["propensity_noise"], rtol=1e-4)


@pytest.mark.parametrize("n_repeats", [1, 2])
def test_scores_of_new_cells_leave_no_stale_error(treated, tmp_path, n_repeats):
    """An old error may not stay: it is replaced, or taken away where models of one repeat know none."""
    hidden = {name: treated[name].obs_names[:20] for name in ("a", "b")}
    for name, cells in hidden.items():
        treated[name].obs.loc[cells, "treatment"] = np.nan
    propensity(treated, n_repeats, save=tmp_path / "m")
    new = treated[[cell for cells in hidden.values() for cell in cells]].copy()
    alone = new["a"].copy()
    for cells in (alone, new["a"], new["b"]):
        cells.obsm["propensity_error"] = np.full((20, 4), 99, np.float32)
        cells.obsm["other_error"] = np.ones((20, 4), np.float32)
    psalm.tl.score(alone, tmp_path / "m", modality="a")
    psalm.tl.score(new, tmp_path / "m")
    for cells in (alone, new["a"], new["b"]):
        assert "other_error" in cells.obsm
        if n_repeats == 1:
            assert "propensity_error" not in cells.obsm
            assert cells.obs["propensity_noise"].isna().all()
        else:
            assert np.abs(cells.obsm["propensity_error"]).max() < 10
            assert (cells.obs["propensity_noise"] > 0).all()
            assert squares(cells).sum() == pytest.approx(cells.obs["propensity_noise"].sum(), rel=1e-4)


@pytest.mark.filterwarnings("ignore:Scores of . fill")
def test_new_cells_of_factors_and_coordinates_have_errors(factorial, treated, tmp_path):
    """Columns of all factors side by side, and of coordinates as many as these."""
    kinds = {"factors": (factorial, {"score_on": "factors"}), "short": (treated, {"compress_above": 2})}
    for kind, (mdata, options) in kinds.items():
        names = [name for m in mdata.mod for name in mdata[m].obs_names[::4]]
        trained = mdata[[name for name in mdata.obs_names if name not in set(names)]].copy()
        if kind == "short":
            options |= {"distance_error": 0.9}
        propensity(trained, save=tmp_path / kind, **options)
        new = mdata[names].copy()
        psalm.tl.score(new, tmp_path / kind)
        for name in mdata.mod:
            cells = new[name]
            assert cells.obsm["propensity_error"].shape == cells.obsm["propensity"].shape
            # of one population as those that were trained on: about as noisy
            ratio = cells.obs["propensity_noise"].mean() / trained[name].obs["propensity_noise"].mean()
            assert 0.4 < ratio < 2.5


@pytest.mark.parametrize("n_folds", [2, 5])
def test_error_of_new_cells_has_the_variance_in_closed_form(rng, n_folds):
    """Independent: as for the cells of training.

    All new cells share one draw of the error of 12 means, of which the mean square over cells has a relative standard
    deviation of at least sqrt(2 / 12) = 0.41; 0.05 over 60 cross-fits. Four times that.
    """
    n_cells, n_fits = 600, 60
    new = draw(np.arange(90) % N_TREATMENTS, rng)
    squares = ((new[:, None] - CENTRES) ** 2).sum(axis=2)
    expected = (1 - 1 / N_TREATMENTS) * squares.sum(axis=1).mean() / (n_cells / N_TREATMENTS)
    noise, error = np.zeros((2, n_fits))
    for position in range(n_fits):
        estimate = rows_of(cross_fit(n_folds, 2, calibrator=NoCalibrator()), n_cells, rng)[0].ensemble.estimate(new)
        noise[position], error[position] = estimate.noise.mean(), (estimate.error**2).sum(axis=1).mean()
        np.testing.assert_allclose(estimate.error.sum(axis=1), 0, atol=1e-9)
    assert noise.mean() == pytest.approx(expected, rel=0.2)
    assert error.mean() == pytest.approx(expected, rel=0.2)


def test_error_of_new_cells_by_hand(rng):
    """Independent: two repeats of two folds, each member alone."""
    found, _ = rows_of(cross_fit(2, 2), 90, rng)
    new = draw(np.arange(7) % N_TREATMENTS, rng)
    a, b, c, d = (member.calibrated(member.log_likelihood(new, None)) for member in found.ensemble.members)
    estimate = found.ensemble.estimate(new)
    np.testing.assert_allclose(estimate.log_odds, (a + b + c + d) / 4)
    np.testing.assert_allclose(estimate.noise, np.var([a, b, c, d], axis=0).sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(estimate.error, (a - b + c - d) / 2 / np.sqrt(2), atol=1e-9)


def test_error_of_new_cells_is_as_large_as_scores_vary_over_training_sets():
    """Independent: 40 training sets of one population and the same new cells, as for cells of training above."""
    rng = np.random.default_rng(0)
    codes, n_sets = np.arange(330) % N_TREATMENTS, 40
    new, fit = draw(codes[:30], rng), cross_fit(n_repeats=2, classifier=LogisticClassifier())
    scores, errors = np.zeros((2, n_sets, 30, N_TREATMENTS))
    noise = np.zeros(n_sets)
    for position in range(n_sets):
        estimate = fit(draw(codes, rng), codes, N_TREATMENTS, rng).ensemble.estimate(new)
        scores[position], errors[position], noise[position] = estimate.log_odds, estimate.error, estimate.noise.mean()
    true = scores.var(axis=0, ddof=1).sum(axis=1).mean()
    assert 0.6 < noise.mean() / true < 1.7
    assert 0.5 < (errors**2).sum(axis=2).mean() / true < 2
    products = ((scores - scores.mean(axis=0)) * errors).sum(axis=(1, 2))
    assert abs(products.mean()) < 4 * products.std(ddof=1) / np.sqrt(n_sets)


@pytest.mark.filterwarnings("ignore:. does not tell")  # few cells a treatment
def test_noise_of_compressed_scores_is_that_of_the_coordinates():
    """With two repeats the noise of a cell is the square of its drawn error, in the space that is kept."""
    mdata = psalm.datasets.simulated(n_cells=300, n_treatments=12, n_features=(12, 10))
    psalm.pp.treatment(mdata, "perturbation")
    psalm.tl.propensity(mdata, n_repeats=2, compress_above=4, progress=False)
    for name in ("a", "b"):
        squares = (mdata[name].obsm["propensity_error"].astype(float) ** 2).sum(axis=1)
        np.testing.assert_allclose(mdata[name].obs["propensity_noise"], squares, rtol=1e-4)


def test_noise_counts_the_cells_that_all_folds_leave_out(rng):
    """Independent: scores of each repeat alone. Of 7 cells of each treatment 2 are left out: variance times 5/2."""
    found, rows = rows_of(cross_fit(5, 2), 7 * N_TREATMENTS, rng)
    first, second = (replace(found, repeats=(repeat,)).log_odds for repeat in found.repeats)
    np.testing.assert_allclose(rows.error, (first - second) * np.sqrt(5 / 2 / 2), atol=1e-9)
