"""What tl.propensity may be given: images, sparse and lazy matrices, and features that say nothing."""

import numpy as np
import pytest

import psalm
from psalm.core.image import ImageClassifier


@pytest.fixture
def images(raw, rng):
    """Modality "a" as images of a bright square, whose place depends on the treatment."""
    psalm.pp.treatment(raw, "perturbation")
    codes = raw["a"].obs["treatment"].cat.codes.to_numpy()
    pixels = rng.normal(size=(240, 1, 12, 12))
    for cell, code in enumerate(codes):
        row, column = 6 * (code // 2), 6 * (code % 2)
        pixels[cell, 0, row : row + 6, column : column + 6] += 1.5
    raw["a"].obsm["images"] = pixels.astype(np.float32)
    return raw


@pytest.mark.filterwarnings("ignore:a tells .* with near certainty")
def test_images_in_obsm(images, tmp_path):
    options = {"classifier": {"a": "image"}, "use_rep": {"a": "images"}, "n_repeats": 1, "n_folds": 2}
    hidden = images["a"].obs_names[:20]
    images["a"].obs.loc[hidden, "treatment"] = np.nan
    psalm.tl.propensity(images, progress=False, save=tmp_path / "m", **options)
    assert (psalm.get.propensity_report(images).query("modality == 'a'")["auc"] > 0.8).all()
    assert images.uns["propensity"]["params"]["classifier"] == ["a: image", "b: kernel"]
    new = images["a"][hidden].copy()
    psalm.tl.score(new, tmp_path / "m", modality="a", key_added="again")
    np.testing.assert_allclose(new.obsm["again"], images["a"][hidden].obsm["propensity"], rtol=1e-4, atol=1e-4)
    new.obsm["images"] = new.obsm["images"][:, :, :8, :8]
    with pytest.raises(ValueError, match="The model takes 1 features of 'a': 'a_0_12×12'"):
        psalm.tl.score(new, tmp_path / "m", modality="a", key_added="again")


@pytest.mark.filterwarnings("ignore:a tells .* with near certainty")
def test_images_folded_into_a_matrix(images):
    images["a"].obsm["flat"] = images["a"].obsm["images"].reshape(240, -1)
    classifier = {"a": ImageClassifier(shape=(1, 12, 12), max_epochs=3)}
    psalm.tl.propensity(images, classifier=classifier, use_rep={"a": "flat"}, n_repeats=1, n_folds=2, progress=False)
    assert np.isfinite(images["a"].obsm["propensity"]).all()


def test_images_need_the_image_classifier(images):
    with pytest.raises(ValueError, match=r'Images, cells × channels × height × width, are for .*classifier="image"'):
        psalm.tl.propensity(images, use_rep={"a": "images"}, progress=False)
    with pytest.raises(ValueError, match="features are a matrix"):
        psalm.tl.propensity(images, classifier={"a": "image"}, progress=False)


def test_a_constant_feature_changes_nothing(scored):
    scored["a"].obsm["wider"] = np.column_stack([scored["a"].X, np.full(240, 3.0)])
    scored["a"].obsm["plain"] = np.asarray(scored["a"].X)
    for key in ("wider", "plain"):
        psalm.tl.propensity(
            scored, use_rep={"a": key}, n_repeats=1, classifier="logistic", progress=False, key_added=f"by_{key}"
        )
    np.testing.assert_allclose(scored["a"].obsm["by_wider"], scored["a"].obsm["by_plain"], atol=1e-4)


def test_dask_arrays_are_read(scored):
    dask = pytest.importorskip("dask.array")
    before = scored["a"].obsm["propensity"].copy()
    scored["a"].X = dask.from_array(scored["a"].X, chunks=(100, -1))
    psalm.tl.propensity(scored, n_repeats=1, progress=False)
    np.testing.assert_array_equal(scored["a"].obsm["propensity"], before)
