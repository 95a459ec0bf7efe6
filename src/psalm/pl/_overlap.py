"""Which treatments look alike to a modality."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from psalm import _access, _keys
from psalm._arguments import checked
from psalm.pl._axes import MANY_TREATMENTS, finish, on_axes
from psalm.pl._names import LITERAL, short, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage
    from mudata import MuData

    from psalm.core._types import FloatArray
    from psalm.pl._axes import OnAxes


@checked
def overlap(
    mdata: MuData,
    *,
    propensity_key: str = _keys.PROPENSITY,
    ax: OnAxes = None,
    show: bool | None = None,
    return_fig: bool = False,
) -> object:
    """Mean probability of each treatment in the cells of each treatment, one panel per modality.

    A row that is dark but for its diagonal is a treatment that the modality tells with certainty: nothing in it says
    which of its cells is which. Rows of even colour are treatments that the modality cannot tell.

    Parameters
    ----------
    mdata
        One AnnData per modality, after :func:`psalm.tl.propensity`.
    propensity_key
        ``key_added`` of :func:`psalm.tl.propensity`.
    ax
        Axes to draw on, as many as modalities.
    show
        Show the figure and return nothing; by default yes, unless ``ax`` or ``return_fig`` is given.
    return_fig
        Return the figure.

    Returns
    -------
    None, the figure, or (``show=False``) a list of one axes per modality.

    Raises
    ------
    ValueError
        There is no such table: more than 500 treatments, scores on factors, or scores of :func:`psalm.tl.score`.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> figure = psalm.pl.overlap(mdata, return_fig=True)
    """
    stored = _access.run(_access.container(mdata), propensity_key, "tl.propensity", "propensity_key")
    if "confusion" not in stored:
        msg = (
            f"`mdata.uns[{propensity_key!r}]` has no mean probabilities: these are kept up to 500 treatments, by "
            "`tl.propensity(score_on='treatment')`. See `psalm.get.propensity_report(mdata)` for the overlap."
        )
        raise ValueError(msg)
    names = [str(name) for name in stored["treatments"]]
    panel, labels = 5.0, 0.6
    if len(names) <= MANY_TREATMENTS:
        panel, labels = min(max(2.2, 0.2 * len(names)), 4.0), 0.5 + 0.085 * max(len(name) for name in shown(names))
    n_panels = len(stored["confusion"])
    figure, axes = on_axes(ax, n_panels, panel * n_panels + labels + 1.2, panel + labels + 0.4)
    largest = max(float(np.max(table)) for table in stored["confusion"].values())
    for position, (axis, (modality, table)) in enumerate(zip(axes, stored["confusion"].items(), strict=True)):
        image = _panel(axis, np.asarray(table), names, largest, first=position == 0)
        axis.set_title(short(modality), fontsize="medium", **LITERAL)
    figure.colorbar(image, ax=axes, label="mean probability", shrink=0.8)
    return finish(figure, axes, show=show, own=ax is None, return_fig=return_fig)


def _panel(ax: Axes, table: FloatArray, names: list[str], largest: float, *, first: bool) -> AxesImage:
    many = "" if len(names) <= MANY_TREATMENTS else f" {len(names)} treatments"
    image = ax.imshow(table, vmin=0, vmax=largest, cmap="magma", interpolation="nearest")
    ax.set(xlabel=f"probability of{many}", ylabel=f"cells of{many}" if first else "")
    places = range(len(names)) if len(names) <= MANY_TREATMENTS else []
    said = shown(names) if places else []
    size = "small" if len(names) <= MANY_TREATMENTS // 2 else "x-small"
    ax.set_xticks(places, said, rotation=90, fontsize=size, **LITERAL)
    ax.set_yticks(places, said if first else [], fontsize=size, **LITERAL)
    return image
