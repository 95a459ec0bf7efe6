"""One sentence for each check of a match: what its number means, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

SIGNIFICANT = 0.05
"""p-value, and share of treatments that is expected below it by chance."""
WORSE, SOME, MUCH = -0.1, 0.02, 0.1
"""Expected R² below which treatment means are better, and from which a match says something, and much, beyond them.

The expectation is a cautious one: on data with known pairs and soft matches it was up to .1 too low.
"""
CROWDED = 0.8
"""Different partners over those expected by chance, below which some target cells are hubs."""


@dataclass(frozen=True)
class Outcome:
    """A check over all treatments.

    Parameters
    ----------
    value, null, p_value
        Of all treatments together; null is the mean under permutation.
    n_treatments, n_significant
        Treatments that were checked, and those with p ≤ 0.05.
    """

    value: float
    null: float
    p_value: float
    n_treatments: int
    n_significant: int

    @property
    def clear(self) -> bool:
        """Whether it is beyond chance."""
        return self.p_value <= SIGNIFICANT

    @property
    def counted(self) -> str:
        """In how many treatments; the p-value where these were not asked."""
        if not self.n_treatments:
            return f"p = {self.p_value:.2g}"
        return f"p ≤ .05 in {self.n_significant} of {self.n_treatments} treatments"


def score_agreement(found: Outcome) -> str:
    """Whether partners found by one estimate of the scores agree in another."""
    said = f"correlation {found.value:.2f} between a cell's scores and those of its partners, {found.counted}"
    if found.clear:
        return f"Partners by one estimate of the scores are close in an independent one, too ({said})."
    return f"Partners by one estimate of the scores are no closer in an independent one ({said}): scores are noise."


def stability(found: Outcome) -> str:
    """Whether the same match is made by independent errors of the scores."""
    said = f"correlation {found.value:.2f} of the matched averages, {found.null:.2f} by chance, {found.counted}"
    if found.clear:
        return f"Matched twice by scores with independent errors, the same comes out ({said})."
    return f"Matched twice by scores with independent errors, something else comes out ({said}): the match is noise."


def expected_r2(found: Outcome) -> str:
    """How much matched averages explain within treatments, if scores can be believed."""
    said = f"expected R² within treatments {found.value:+.3f}"
    if found.value < WORSE:
        return (
            f"Matched averages are likely further from the truth than treatment means ({said}): use those, or match "
            'more softly (`method="ot"`, `epsilon="auto"`).'
        )
    if found.value < SOME or not found.clear:
        return (
            f"Matched averages cannot be counted on to say more than treatment means ({said}, a cautious estimate): "
            "do not read single cells."
        )
    if found.value < MUCH:
        return f"Matched averages say something beyond treatment means ({said}): read groups of cells, not pairs."
    return f"Matched averages say much beyond treatment means ({said}), if scores mean the same in both modalities."


def hubness(found: Outcome) -> str:
    """Whether partners are spread over the target cells."""
    said = f"{found.value:.2f} of the number of different partners that chance gives, {found.counted}"
    if found.value < CROWDED and found.clear:
        return f'Few target cells take much of the mass ({said}): averages lean towards them. Use `method="ot"`.'
    return f"Partners are spread over the target cells ({said})."


def labels(found: Outcome, column: str) -> str:
    """Whether the match finds a label that it was not told."""
    said = f"{found.value:.0%} of the mass joins equal {column!r}, {found.null:.0%} by chance, {found.counted}"
    if found.clear:
        return f"The match finds a label that it was not told ({said})."
    return f"The match does not find {column!r} within treatments ({said})."


def links(found: Outcome, what: str) -> str:
    """Whether linked features agree."""
    said = f"correlation {found.value:.2f} within treatments, {found.null:.2f} by chance, {found.counted}"
    if found.clear:
        return f"{what}: the source's measurement agrees with the matched average of the target's ({said})."
    return f"{what}: the source's measurement does not agree with the matched average of the target's ({said})."


def unknown(why: str) -> str:
    """A check that could not be made."""
    return f"Not measured: {why}"
