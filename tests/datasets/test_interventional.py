import warnings

import matplotlib as mpl
import mudata
import numpy as np
import pytest
from scipy import stats

import psalm
from psalm.datasets import _interventional, _pictures

COORDINATES = ["x1", "y1", "x2", "y2"]
VALUES = [0.25, 0.5, 0.75]


def treated(adata):
    """Coordinate (n_cells,) and value (n_cells,) of each cell's treatment, read from its label."""
    labels = adata.obs["intervention"].astype(str).str.split("=", expand=True)
    return labels[0].map(COORDINATES.index).to_numpy(), labels[1].astype(float).to_numpy()


def bounds(latent):
    """Intervals (n_cells, 4) of the observational law, written out once more."""
    far = 1.25 * (latent[:, 0] ** 2 + latent[:, 1] ** 2) >= 1
    low = np.full(latent.shape, 0.1)
    high = np.full(latent.shape, 0.9)
    high[far, 2], low[far, 3] = 0.5, 0.5
    low[~far, 2], high[~far, 3] = 0.5, 0.5
    return low, high


@pytest.fixture(scope="module")
def hard():
    return psalm.datasets.interventional_images(6000, size=8)


@pytest.fixture(scope="module")
def soft():
    return psalm.datasets.interventional_images(6000, size=8, intervention="soft")


@pytest.fixture(scope="module")
def small():
    return psalm.datasets.interventional_images(60, size=16, intervention="soft", paired=True)


@pytest.mark.parametrize("view", ["view1", "view2"])
def test_hard_interventions_set_one_coordinate_and_leave_the_law_of_the_others(hard, view):
    adata = hard[view]
    latent, (columns, values) = adata.obsm["latent"], treated(adata)
    np.testing.assert_array_equal(latent[np.arange(len(latent)), columns], values)
    low, high = bounds(latent)
    for column in range(4):
        free = columns != column
        place = ((latent - low) / (high - low))[free, column]
        assert ((place >= 0) & (place <= 1)).all()
        assert stats.kstest(place, "uniform").pvalue > 1e-3
    assert stats.chisquare(adata.obs["intervention"].value_counts()).pvalue > 1e-3


def test_object_2_follows_object_1_under_interventions_on_it(hard):
    """x1 = 0.75 makes 1.25 (x1² + y1²) ≥ 1 where y1 ≥ 0.4873: 52% of (0.1, 0.9)."""
    cells = hard["view1"][hard["view1"].obs["intervention"] == "x1=0.75"]
    latent = cells.obsm["latent"]
    np.testing.assert_array_equal(latent[:, 2] < 0.5, latent[:, 1] >= np.sqrt(0.8 - 0.75**2))
    assert np.mean(latent[:, 2] < 0.5) == pytest.approx((0.9 - 0.4873) / 0.8, abs=0.08)


def test_categories_are_the_twelve_treatments(hard):
    assert list(hard["view1"].obs["intervention"].cat.categories) == [f"{c}={v:g}" for c in COORDINATES for v in VALUES]
    assert "propensity_true" not in hard["view1"].obsm


def test_soft_interventions_tilt_one_coordinate(soft):
    """Independent: scipy's truncated normal, by its distribution function."""
    adata = soft["view1"]
    latent, (columns, values) = adata.obsm["latent"], treated(adata)
    low, high = bounds(latent)
    assert ((latent >= low) & (latent <= high)).all()
    for column in range(4):
        own = columns == column
        ends = [(end[own, column] - values[own]) / 0.15 for end in (low, high)]
        place = stats.truncnorm.cdf(latent[own, column], *ends, values[own], 0.15)
        assert stats.kstest(place, "uniform").pvalue > 1e-3
        free = ((latent - low) / (high - low))[~own, column]
        assert stats.kstest(free, "uniform").pvalue > 1e-3


def test_true_propensity_is_bayes_rule(soft):
    """Independent: whole densities of z under each treatment, whose constants are summed on a fine grid."""
    latent = soft["view2"].obsm["latent"][:200]
    low, high = bounds(latent)
    density = np.empty((len(latent), 12))
    for cell, z in enumerate(latent):
        for number in range(12):
            factors = 1 / (high[cell] - low[cell])
            column, value = number // 3, VALUES[number % 3]
            grid = np.linspace(low[cell, column], high[cell, column], 4001)
            mass = np.trapezoid(np.exp(-((grid - value) ** 2) / (2 * 0.15**2)), grid)
            factors[column] = np.exp(-((z[column] - value) ** 2) / (2 * 0.15**2)) / mass
            density[cell, number] = factors.prod()
    propensity = density / density.sum(axis=1, keepdims=True)
    log_odds = np.log(propensity) - np.log(propensity).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(soft["view2"].obsm["propensity_true"][:200], log_odds, atol=1e-6)


def test_true_propensity_is_how_often_treatments_are_drawn(soft):
    """Independent: frequencies of the labels among cells of similar propensity."""
    log_odds = np.vstack([adata.obsm["propensity_true"] for adata in soft.mod.values()])
    codes = np.concatenate([adata.obs["intervention"].cat.codes for adata in soft.mod.values()])
    propensity = np.exp(log_odds) / np.exp(log_odds).sum(axis=1, keepdims=True)
    assert propensity.min() > 1e-6
    assert propensity.max() < 0.6
    for least, most in ((0, 0.02), (0.02, 0.08), (0.08, 0.15), (0.15, 0.25), (0.25, 0.6)):
        cells, treatments = np.nonzero((propensity >= least) & (propensity < most))
        drawn = (codes[cells] == treatments).mean()
        assert drawn == pytest.approx(propensity[cells, treatments].mean(), abs=0.015)


def test_view_2_turns_shifts_and_squeezes():
    """By hand: cos 0.3π = 0.587785, sin 0.3π = 0.809017, and the logistic function of 2 (· + 0.2)."""
    latent = np.array([[0.5, 0.5, 0.9, 0.5], [0.5, 0.1, 0.3, 0.7]])
    inside = np.array([[0.4, 0.4, 0.870228, 1.047214], [1.047214, -0.070228, -0.158721, 0.311507]])
    np.testing.assert_allclose(_interventional._moved(latent), 1 / (1 + np.exp(-inside)), atol=1e-6)


@pytest.mark.parametrize("view", ["view1", "view2"])
@pytest.mark.parametrize("size", [16, 24, 64])
def test_objects_are_drawn_where_they_lie(view, size):
    adata = psalm.datasets.interventional_images(200, size=size)[view]
    latent = adata.obsm["latent"]
    places = size * (latent if view == "view1" else _interventional._moved(latent)).reshape(-1, 2, 2)
    apart = np.linalg.norm(places[:, 0] - places[:, 1], axis=1) > 4 * max(0.02 * size, 1)
    assert apart.sum() > 40
    middles = np.arange(size) + 0.5
    for number, colour in enumerate(_pictures.OBJECT_COLOURS):
        distance = np.linalg.norm(adata.obsm["image"] - np.reshape(colour, (3, 1, 1)).astype(float), axis=1)
        weight = np.clip(1 - distance / 90, 0, None)[apart]
        assert weight.max(axis=(1, 2)).min() > 0.3
        weight /= weight.sum(axis=(1, 2), keepdims=True)
        centroid = np.column_stack([(weight.sum(axis=1) * middles).sum(axis=1), weight.sum(axis=2) @ middles])
        assert np.abs(centroid - places[apart, number]).max() < 0.6


@pytest.mark.parametrize("radius", [1.0, 2.56, 9.0])
def test_covered_areas_are_those_of_the_shapes(radius):
    """A disc's edge falls linearly from radius − 1/2 to radius + 1/2, which adds π / 12 pixels to π radius²."""
    centres = np.random.default_rng(0).uniform(20, 44, size=(50, 2))
    discs, squares = (shape(centres, radius, 64).sum(axis=(1, 2)) for shape in (_pictures._disc, _pictures._square))
    np.testing.assert_allclose(discs, np.pi * (radius**2 + 1 / 12), rtol=0.08)
    np.testing.assert_allclose(squares, 4 * radius**2, rtol=1e-4)


def test_a_background_circle_covers_what_finer_pixels_say():
    """Independent: 16 × 16 points in every pixel."""
    circles, levels = np.array([[[7.3, 8.9]]]), np.array([[0.0, 1.0]])
    drawn = _pictures._background(circles, levels, 16) / 255
    points = (np.arange(256) + 0.5) / 16
    inside = (points[:, None] - 8.9) ** 2 + (points - 7.3) ** 2 < (0.3 * 16) ** 2
    np.testing.assert_allclose(drawn[0], inside.reshape(16, 16, 16, 16).mean(axis=(1, 3)), atol=0.12)


@pytest.mark.parametrize(("points", "name"), [(_pictures.SUMMER, "summer"), (_pictures.WISTIA, "Wistia")])
def test_palettes_are_those_of_matplotlib(points, name):
    expected = 255 * mpl.colormaps[name](np.arange(256))[:, :3].T
    np.testing.assert_allclose(_pictures._palette(points), expected, atol=1.5)


def test_pictures_do_not_depend_on_portions(small, monkeypatch):
    monkeypatch.setattr(_pictures, "PORTION", 7 * 16**2)
    again = psalm.datasets.interventional_images(60, size=16, intervention="soft", paired=True)
    for view in ("view1", "view2"):
        np.testing.assert_array_equal(again[view].obsm["image"], small[view].obsm["image"])
        np.testing.assert_array_equal(again[view].X, small[view].X)


@pytest.mark.parametrize("size", [16, 18])
def test_x_is_the_mean_of_blocks(size):
    adata = psalm.datasets.interventional_images(12, size=size)["view1"]
    blocks = [np.array_split(np.arange(size), np.linspace(0, size, 5).astype(int)[1:-1]) for _ in range(2)]
    expected = [
        adata.obsm["image"][:, channel][:, rows][:, :, columns].mean(axis=(1, 2))
        for channel in range(3)
        for rows in blocks[0]
        for columns in blocks[1]
    ]
    np.testing.assert_allclose(adata.X, np.column_stack(expected), rtol=1e-5)
    assert adata.var_names[[0, 1, 4, 47]].tolist() == [
        "view1_red_0_0",
        "view1_red_0_1",
        "view1_red_1_0",
        "view1_blue_3_3",
    ]


def test_slots(small):
    for adata in small.mod.values():
        assert adata.obsm["image"].shape == (60, 3, 16, 16)
        assert adata.obsm["image"].dtype == np.uint8
        assert adata.obsm["latent"].shape == (60, 4)
        np.testing.assert_allclose(adata.obsm["propensity_true"].sum(axis=1), 0, atol=1e-9)


def test_paired_views_show_the_same_samples(small):
    first, second = small["view1"], small["view2"]
    assert small.n_obs == 60
    assert first.obs_names.tolist() == second.obs_names.tolist() == [f"cell_{number}" for number in range(60)]
    np.testing.assert_array_equal(first.obsm["latent"], second.obsm["latent"])
    assert first.obs["intervention"].tolist() == second.obs["intervention"].tolist()


def test_unpaired_views_show_different_samples():
    mdata = psalm.datasets.interventional_images(60, size=8)
    assert mdata.n_obs == 120
    assert not np.isin(mdata["view1"].obsm["latent"][:, 0], [*mdata["view2"].obsm["latent"][:, 0], *VALUES]).all()
    assert mdata["view1"].obs_names[0] == "view1_0"
    assert mdata["view2"].obs_names[0] == "view2_0"


def test_the_seed_decides_everything_and_size_only_resolution(small):
    same = psalm.datasets.interventional_images(
        60, size=16, intervention="soft", paired=True, rng=np.random.default_rng(0)
    )
    finer, other = (
        psalm.datasets.interventional_images(60, intervention="soft", paired=True, **options)
        for options in ({"size": 32}, {"size": 16, "rng": 1})
    )
    for view in ("view1", "view2"):
        np.testing.assert_array_equal(same[view].obsm["image"], small[view].obsm["image"])
        np.testing.assert_array_equal(finer[view].obsm["latent"], small[view].obsm["latent"])
        assert np.corrcoef(finer[view].X.ravel(), small[view].X.ravel())[0, 1] > 0.99
        assert (other[view].obsm["image"] != small[view].obsm["image"]).mean() > 0.5


def test_treatments_that_are_not_shared_show_in_view_1_only():
    shared, tinted = (
        psalm.datasets.interventional_images(400, size=16, paired=True, shared=shared) for shared in (True, False)
    )
    codes = shared["view1"].obs["intervention"].cat.codes
    red = {
        (name, view): np.corrcoef(codes, mdata[view].obsm["image"][:, 0].mean(axis=(1, 2)))[0, 1]
        for name, mdata in (("shared", shared), ("tinted", tinted))
        for view in ("view1", "view2")
    }
    assert red["tinted", "view1"] > 0.7
    assert max(abs(red[key]) for key in red if key != ("tinted", "view1")) < 0.15
    np.testing.assert_array_equal(tinted["view2"].obsm["image"], shared["view2"].obsm["image"])
    np.testing.assert_array_equal(tinted["view1"].obsm["latent"], shared["view1"].obsm["latent"])


def test_write_and_read(small, tmp_path):
    small.write(tmp_path / "images.h5mu")
    read = mudata.read_h5mu(tmp_path / "images.h5mu")
    for view in ("view1", "view2"):
        for key in ("image", "latent", "propensity_true"):
            np.testing.assert_array_equal(read[view].obsm[key], small[view].obsm[key])
        assert read[view].obsm["image"].dtype == np.uint8
        assert read[view].obs["intervention"].tolist() == small[view].obs["intervention"].tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"n_cells": 11}, "`n_cells=11` must be a whole number, 12 or more", id="few cells"),
        pytest.param({"size": 7}, "`size=7` must be a whole number, 8 or more", id="small"),
        pytest.param({"size": 32.0}, "`size=32.0`", id="fraction of a pixel"),
        pytest.param({"intervention": "gentle"}, "Pass one of 'hard', 'soft'", id="kind"),
        pytest.param({"spread": 0}, "`spread=0` must be a finite number above zero", id="spread"),
        pytest.param({"radius": -0.1}, "`radius=-0.1`", id="negative radius"),
        pytest.param({"radius": 2}, "Pass pixels divided by `size=32`", id="radius in pixels"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        psalm.datasets.interventional_images(**options)


def test_images_are_matched_better_than_by_chance():
    """Truth by construction; 1 is the error of a coupling that knows the treatment alone."""
    mdata = psalm.datasets.interventional_images(360, size=16, radius=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # hard interventions are told with certainty
        psalm.pp.treatment(mdata, "intervention")
        psalm.tl.propensity(mdata, classifier="image", use_rep="image", n_folds=2, n_repeats=1, progress=False)
        psalm.tl.match(mdata, source="view1", target="view2", progress=False)
    table = psalm.tl.evaluate(mdata, latent="latent")
    assert table["latent_error"].iloc[-1] < 0.9
