"""Which treatments look alike to a modality."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from psalm import _access, _keys
from psalm.pl._axes import MANY_TREATMENTS, finish, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage
    from mudata import MuData

    from psalm.core._types import FloatArray


def overlap(
    mdata: MuData,
    *,
    propensity_key: str = _keys.PROPENSITY,
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
    show
        Show the figure and return nothing; by default yes, unless ``return_fig``.
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
    panel, labels = (max(2.2, 0.26 * len(names)), 2.2) if len(names) <= MANY_TREATMENTS else (5.0, 0.6)
    n_panels = len(stored["confusion"])
    figure, axes = new_axes(n_panels, panel * n_panels + labels + 1.2, panel + labels + 0.8)
    largest = max(float(np.max(table)) for table in stored["confusion"].values())
    for position, (ax, (modality, table)) in enumerate(zip(axes, stored["confusion"].items(), strict=True)):
        image = _panel(ax, np.asarray(table), names, largest, first=position == 0)
        ax.set_title(f"{modality}", fontsize="medium")
    figure.colorbar(image, ax=axes, label="mean probability", shrink=0.8)
    return finish(figure, axes, show=show, own=True, return_fig=return_fig)


def _panel(ax: Axes, table: FloatArray, names: list[str], largest: float, *, first: bool) -> AxesImage:
    image = ax.imshow(table, vmin=0, vmax=largest, cmap="magma", interpolation="nearest")
    ax.set(xlabel="probability of", ylabel="cells of" if first else "")
    places = range(len(names)) if len(names) <= MANY_TREATMENTS else []
    shown = [name if len(name) <= 24 else f"{name[:22]}…" for name in names] if places else []  # noqa: PLR2004
    ax.set_xticks(places, shown, rotation=90, fontsize="small")
    ax.set_yticks(places, shown if first else [], fontsize="small")
    return image
