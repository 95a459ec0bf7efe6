"""Plots of 12 treatments against stored pictures.

What is drawn is made by hand (``conftest.py``), so only drawing can differ. Text is taken away, since fonts and their
widths differ between versions of matplotlib and FreeType; ``test_plots.py`` reads labels and legends instead.

After a wanted change, draw the pictures anew, look at them, and commit them:
``PSALM_NEW_BASELINE=1 python -m pytest tests/pl/test_images.py``
"""

import os
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.ticker import NullFormatter

import psalm
from psalm import _keys

BASELINE = Path(__file__).parent / "baseline"
DPI, PANEL, BAR, MARGIN = 50, 240, 12, 6
"""Pixels per inch, and pixels that a panel, a colour bar and the room between panels take."""
TOLERANCE = 3.0
"""Root mean square over pixels and colours, of 255. Matplotlib 3.9 and 3.11 draw the same pictures to the last pixel
(measured on Linux); 3 leaves room for edges that another processor rounds to the pixel beside. One changed number moves
a picture by 6 or more, as the last test shows."""
LARGEST = 30_000
HEATMAPS = {"coupling_of_one", "coupling_by_label", "overlap"}

PLOTS = {
    "agreement": lambda m, _: psalm.pl.agreement(m, return_fig=True),
    "coupling": lambda m, _: psalm.pl.coupling(m, return_fig=True),
    "coupling_of_one": lambda m, _: psalm.pl.coupling(m, treatment="t1", order_by="state", return_fig=True),
    "coupling_by_label": lambda m, _: psalm.pl.coupling(m, treatment="t1", order_by="kind", return_fig=True),
    "embedding": lambda m, _: psalm.pl.embedding(m, return_fig=True),
    "evaluation": lambda m, _: psalm.pl.evaluation(m, return_fig=True),
    "history": lambda _, model: psalm.pl.history(model, return_fig=True),
    "links": lambda m, _: psalm.pl.links(m, n_links=12, return_fig=True),
    "links_by_number": lambda m, _: psalm.pl.links(m, n_links=12, color="state", return_fig=True),
    "match": lambda m, _: psalm.pl.match(m, return_fig=True),
    "overlap": lambda m, _: psalm.pl.overlap(m, return_fig=True),
    "prediction": lambda m, _: psalm.pl.prediction(m, return_fig=True),
    "propensity": lambda m, _: psalm.pl.propensity(m, return_fig=True),
    "treatments": lambda m, _: psalm.pl.treatments(m, return_fig=True),
}


@pytest.fixture(autouse=True)
def plain_style():
    with mpl.rc_context():
        mpl.rcdefaults()
        yield


def without_text(figure):
    """Take away everything that is written."""
    for legend in figure.legends:
        legend.remove()
    for ax in figure.axes:
        ax.set(title="", xlabel="", ylabel="")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(NullFormatter())
            axis.set_minor_formatter(NullFormatter())
        for part in (*ax.texts, *([ax.get_legend()] if ax.get_legend() else [])):
            part.remove()
    return figure


def side_by_side(figure):
    """Place panels on whole pixels: the room that a layout leaves for text differs between versions."""
    figure.set_layout_engine("none")
    widths = [BAR if ax.get_label() == "<colorbar>" else PANEL for ax in figure.axes]
    shape = np.array([sum(widths) + MARGIN * (len(widths) + 1), PANEL + 2 * MARGIN])
    for position, (ax, width) in enumerate(zip(figure.axes, widths, strict=True)):
        box = np.array([sum(widths[:position]) + MARGIN * (position + 1), MARGIN, width, PANEL])
        ax.set_axes_locator(None)
        ax.set_box_aspect(None)
        ax.set_aspect("auto")
        ax.set_position(box / np.tile(shape, 2))
    figure.set_size_inches((shape + 0.1) / DPI)  # versions round a pixel's fraction in different ways
    return figure


def pixels(figure):
    """The figure as it is drawn (height, width, 3), from 0 to 255."""
    figure.set_dpi(DPI)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(float)


def drawn(name, mdata, model):
    return pixels(side_by_side(without_text(PLOTS[name](mdata, model))))


def flat(picture):
    """Pixels that equal those around them, in colour."""
    moves = [(down, right) for down in (-2, 0, 2) for right in (-2, 0, 2)]
    return np.all([(np.roll(picture, move, (0, 1)) == picture).all(axis=2) for move in moves], axis=0)


def rms(name, first, second):
    """Root mean square difference; of heatmaps inside cells, since versions round the edges of cells differently."""
    assert first.shape == second.shape
    compared = flat(first) & flat(second) if name in HEATMAPS else np.ones(first.shape[:2], dtype=bool)
    assert compared.mean() > 0.5
    return float(np.sqrt(np.mean((first - second)[compared] ** 2)))


def read(name):
    return np.round(plt.imread(BASELINE / f"{name}.png")[..., :3] * 255)


@pytest.mark.parametrize("name", PLOTS)
def test_picture_is_the_stored_one(name, stored, model):
    found = drawn(name, stored, model)
    if os.environ.get("PSALM_NEW_BASELINE"):
        plt.imsave(BASELINE / f"{name}.png", found.astype(np.uint8))
    assert rms(name, found, read(name)) <= TOLERANCE


def test_pictures_are_small_and_all_used():
    files = sorted(BASELINE.glob("*.png"))
    assert [path.stem for path in files] == sorted(PLOTS)
    assert max(path.stat().st_size for path in files) < LARGEST


def change_agreement(mdata):
    mdata.uns[_keys.PROPENSITY]["agreement"].loc[3, "energy_share"] = 0.5


def change_auc(mdata):
    mdata.uns[_keys.PROPENSITY]["table"].loc[3, "auc"] = 0.2


def change_convergence(mdata):
    mdata.uns[_keys.MATCH]["table"].loc[3, "converged"] = False


def change_probability(mdata):
    mdata.uns[_keys.PROPENSITY]["confusion"]["a"][3, 7] = 0.5


def change_count(mdata):
    mdata.uns[_keys.TREATMENT].loc["t3", "a"] = 16


def change_loss(mdata):
    mdata.uns[_keys.predicted("b")]["table"].loc[3, "treatment_mean_loss"] = 2.0


def change_metric(mdata):
    mdata.uns[_keys.MatchKeys(_keys.MATCH).evaluation].loc[3, "foscttm"] = 0.9


def change_coupling(mdata):
    mdata["a"].obs.loc["a9", "state"] = 5.0


@pytest.mark.parametrize(
    ("name", "change"),
    [
        pytest.param("agreement", change_agreement, id="agreement"),
        pytest.param("coupling_of_one", change_coupling, id="order of cells"),
        pytest.param("evaluation", change_metric, id="metric"),
        pytest.param("match", change_convergence, id="convergence"),
        pytest.param("overlap", change_probability, id="probability"),
        pytest.param("prediction", change_loss, id="loss"),
        pytest.param("propensity", change_auc, id="AUC"),
        pytest.param("treatments", change_count, id="count"),
    ],
)
def test_one_changed_number_is_seen(name, change, stored, model):
    change(stored)
    assert rms(name, drawn(name, stored, model), read(name)) > TOLERANCE
