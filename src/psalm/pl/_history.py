"""The course of training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psalm._arguments import checked
from psalm.pl._axes import OF_MODALITIES, finish, legend_above, on_axes

if TYPE_CHECKING:
    from psalm.pl._axes import OnAxes

LOSSES = {"train_loss_epoch": ("training", OF_MODALITIES[0]), "validation_loss": ("held-out", OF_MODALITIES[1])}


@checked
def history(model: Any, *, ax: OnAxes = None, show: bool | None = None, return_fig: bool = False) -> object:
    """Loss of training cells and of held-out cells by epoch, and the epoch whose weights were kept.

    A held-out loss that rises while the training loss falls is overfitting, which costs nothing here: the weights of
    the best epoch are kept. Where it still falls at the end, train for more epochs.
    The training loss is that with dropout, so it may lie above the other.

    Parameters
    ----------
    model
        A trained :class:`psalm.model.CrossModal`, such as :func:`psalm.tl.predict` returns.
    ax
        Axes to draw on.
    show
        Show the figure and return nothing; by default yes, unless ``ax`` or ``return_fig`` is given.
    return_fig
        Return the figure.

    Returns
    -------
    None, the figure, or (``show=False``) the axes.

    Raises
    ------
    TypeError
        What was passed has no history, such as a container: it does not keep the model.
    ValueError
        The model is not trained.

    Examples
    --------
    >>> import psalm
    >>> mdata = psalm.datasets.simulated(n_cells=300)
    >>> psalm.pp.treatment(mdata, "perturbation")
    >>> psalm.tl.propensity(mdata, progress=False)
    >>> psalm.tl.match(mdata, source="a", target="b", progress=False)
    >>> model = psalm.tl.predict(mdata, source="a", target="b", max_epochs=20, progress=False)
    >>> figure = psalm.pl.history(model, return_fig=True)
    """
    from matplotlib.ticker import MaxNLocator

    losses = _losses(model)
    figure, (axis,) = on_axes(ax, 1, 5.0, 3.4)
    for name, (label, colour) in LOSSES.items():
        if name in losses:
            table = losses[name]
            axis.plot(table.index, table.iloc[:, 0], color=colour, linewidth=1.4, label=label)
    best = int(model.best_epoch)
    axis.axvline(best, color="0.4", linewidth=0.8, linestyle="--", zorder=0, label=f"best epoch: {best}")
    axis.set(xlabel="epoch, counted from 0", ylabel=f"loss ({getattr(model, 'loss', 'unknown')})")
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axis.spines[["top", "right"]].set_visible(False)
    legend_above(axis, columns=3)
    return finish(figure, axis, show=show, own=ax is None, return_fig=return_fig)


def _losses(model: Any) -> Any:
    """The losses that a model kept."""
    losses = getattr(model, "history", None)
    if losses is None:
        msg = (
            f"Got {type(model).__name__}, which has no history of training. Pass the trained `psalm.model.CrossModal`, "
            "such as `tl.predict` returns."
        )
        raise TypeError(msg)
    if not any(name in losses for name in LOSSES):
        msg = f"The {type(model).__name__} has no losses of epochs. Train it first: `model.train()`."
        raise ValueError(msg)
    return losses
