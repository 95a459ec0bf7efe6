"""Logistic regression on a linear and a Gaussian kernel: how a treatment shifts cells, and where it puts them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy import sparse

from psalm.core.logistic import LogisticClassifier

if TYPE_CHECKING:
    from psalm.core._types import FloatArray, IntArray, Matrix
    from psalm.core.classifier import FittedClassifier

ROWS = 2**13
"""Cells whose coordinates are computed at a time."""

MOST_COORDINATES = 2**26
"""Coordinates that are kept for training in minibatches: 256 MB."""

SAMPLE = 20_000
"""Cells that the spread of the coordinates is learnt from at most."""


@dataclass(frozen=True)
class KernelClassifier:
    """Multinomial logistic regression with a firm ridge on the features and on a Gaussian kernel of them.

    The log-odds are ``aᵀx + h(x)``: a linear part, and a smooth part h in the Gaussian kernel
    ``exp(−‖x − x'‖² / (2 · median ‖x − x'‖²))``, by Nyström's method on landmark cells. The ridge is the same for both.
    Features keep their proportions: all are divided by one number, so that the ridge holds back the small components,
    which are mostly noise.

    Parameters
    ----------
    C, balance, max_iter, max_logits, device
        As for :class:`psalm.core.logistic.LogisticClassifier`, C for features of mean variance one.
    n_landmarks
        Cells that span the smooth part.
    equal_scales
        Divide each feature by its own standard deviation instead: for features in units of their own.
    """

    deterministic: ClassVar[bool] = True

    C: float = 0.03
    balance: float = 0.5
    n_landmarks: int = 300
    equal_scales: bool = False
    max_iter: int = 1000
    max_logits: int = 2_000_000
    device: str = "auto"

    def fit(
        self, features: Matrix, codes: IntArray, n_treatments: int, seed: int = 0, weights: FloatArray | None = None
    ) -> FittedClassifier:
        """Fit on (n_cells, n_features), (n_cells,) and, maybe, weights (n_cells,); ``seed`` draws the landmarks."""
        basis = KernelBasis.of(features, self.n_landmarks, equal_scales=self.equal_scales, seed=seed)
        fits = len(codes) * n_treatments <= self.max_logits
        on_basis = LogisticClassifier(
            self.C, self.balance, self.max_iter, self.max_logits, self.device, standardise=False
        )
        inputs: Any = basis(features) if fits else _in_batches(features, basis)
        fitted = on_basis.fit(inputs, codes, n_treatments, seed, weights)
        return replace(fitted, model=_OnBasis(basis, fitted.model))


@dataclass(frozen=True)
class KernelBasis:
    """Scaled features, followed by as much variance in the coordinates of the kernel."""

    mean: FloatArray
    scale: FloatArray
    nystroem: Any
    kernel_mean: FloatArray
    kernel_scale: float

    @classmethod
    def of(cls, features: Matrix, n_landmarks: int, *, equal_scales: bool, seed: int) -> KernelBasis:
        """Learn scale, bandwidth and landmarks from training cells.

        Parameters
        ----------
        features
            (n_cells, n_features), dense or CSR.
        n_landmarks
            Number of landmarks; all cells where there are fewer.
        equal_scales
            See :class:`KernelClassifier`.
        seed
            Draws the landmarks.
        """
        from sklearn.kernel_approximation import Nystroem
        from sklearn.metrics import pairwise_distances
        from sklearn.preprocessing import StandardScaler

        moments = StandardScaler(with_mean=not sparse.issparse(features)).fit(features)
        mean = np.zeros(features.shape[1]) if sparse.issparse(features) else moments.mean_
        scale = moments.scale_ if equal_scales else np.full(len(mean), np.sqrt(moments.var_.mean()) or 1.0)
        rng, n_cells = np.random.default_rng(seed), features.shape[0]
        chosen = rng.choice(n_cells, min(n_landmarks, n_cells), replace=False)
        landmarks = _scaled(features[chosen], mean, scale)
        squared = pairwise_distances(landmarks, squared=True)
        typical = float(np.median(squared[squared > 0])) if (squared > 0).any() else 1.0
        nystroem = Nystroem(gamma=0.5 / typical, n_components=landmarks.shape[0], random_state=seed).fit(landmarks)
        coordinates = nystroem.transform(_scaled(features[:: max(1, n_cells // SAMPLE)], mean, scale))
        total, wanted = coordinates.var(axis=0).sum(), moments.var_ @ scale**-2.0
        kernel_scale = float(np.sqrt(wanted / total)) if total > 0 else 1.0
        return cls(mean, scale, nystroem, coordinates.mean(axis=0), kernel_scale)

    @property
    def width(self) -> int:
        """Number of coordinates."""
        return len(self.mean) + len(self.kernel_mean)

    def __call__(self, features: Matrix) -> Matrix:
        """(n_cells, n_features + n_landmarks)."""
        scaled = _scaled(features, self.mean, self.scale)
        smooth = (self.nystroem.transform(scaled) - self.kernel_mean) * self.kernel_scale
        return sparse.hstack([scaled, smooth], format="csr") if sparse.issparse(scaled) else np.hstack([scaled, smooth])


def _in_batches(features: Matrix, basis: KernelBasis) -> Any:
    """Coordinates for training in minibatches: float32, or computed for each batch anew where they are too many."""
    n_cells = features.shape[0]
    if n_cells * basis.width > MOST_COORDINATES:
        return _Mapped(features, basis)
    found = np.empty((n_cells, basis.width), dtype=np.float32)
    for start in range(0, n_cells, ROWS):
        rows = slice(start, start + ROWS)
        part = basis(features[rows])
        found[rows] = part.toarray() if sparse.issparse(part) else part
    return found


@dataclass(frozen=True)
class _Mapped:
    """Coordinates of cells in a basis, computed for the rows that are asked for."""

    features: Matrix
    basis: KernelBasis

    @property
    def shape(self) -> tuple[int, int]:
        """Cells and coordinates."""
        return self.features.shape[0], self.basis.width

    @property
    def ndim(self) -> int:
        """A matrix has two axes."""
        return 2

    def __getitem__(self, rows: Any) -> Matrix:
        """Coordinates of some cells."""
        return self.basis(self.features[rows])


@dataclass(frozen=True)
class _OnBasis:
    """A linear model of the basis, as a model of the features."""

    basis: KernelBasis
    model: Any

    @property
    def classes_(self) -> IntArray:
        """Codes of the columns."""
        return np.asarray(self.model.classes_)

    def predict_proba(self, features: Matrix) -> FloatArray:
        """(n_cells, n_classes), some rows at a time."""
        found = np.empty((features.shape[0], len(self.classes_)))
        for start in range(0, len(found), ROWS):
            rows = slice(start, start + ROWS)
            found[rows] = self.model.predict_proba(self.basis(features[rows]))
        return found


def _scaled(features: Matrix, mean: FloatArray, scale: FloatArray) -> Matrix:
    if sparse.issparse(features):  # not centred, so that it stays sparse
        return sparse.csr_matrix(features @ sparse.diags(1 / scale))
    return np.asarray((features - mean) / scale)
