"""One sentence for each check of a match: what its number means, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

SIGNIFICANT = 0.05
"""p-value, and share of treatments that is expected below it by chance."""
WORSE, SOME, MUCH = -0.1, 0.02, 0.1
"""Expected R² below which treatment means are better, and from which a match says something, and much, beyond them.

The expectation is a cautious one: on data with known pairs and soft matches it was up to .1 too low.
"""
RELIABLE = 0.2
"""Share of the variance of scores that is not error, below which nothing is concluded from them."""
CROWDED = 0.8
"""Effective number of partners over that by chance, below which some target cells are hubs."""


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


def plain(value: float) -> str:
    """Two digits, without a negative zero."""
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def signed(value: float) -> str:
    """Three digits with their sign, without a negative zero."""
    return f"{round(value, 3) + 0.0:+.3f}".replace("-", "−")


def reliability(shares: dict[str, float]) -> str:
    """How much of the variance of scores within treatments is not error."""
    said = ", ".join(f"{name} {plain(share)}" for name, share in shares.items())
    weak = [repr(name) for name, share in shares.items() if not share >= RELIABLE]
    if weak:
        return (
            f"Within treatments, scores of {' and '.join(weak)} are mostly error of estimation (share that is not: "
            f"{said}): nothing below can be relied on. More cells, more repeats or other features may help."
        )
    return f"Within treatments, most of the scores' variance is not error of estimation (share: {said})."


def score_agreement(found: Outcome, *, reliable: bool) -> str:
    """Whether partners found by one estimate of the scores agree in another."""
    said = f"correlation {plain(found.value)} between a cell's scores and those of its partners, {found.counted}"
    if not reliable:
        return f"Scores are mostly error, so nothing follows from how they agree ({said})."
    if found.clear:
        return f"Partners by one estimate of the scores are close in an independent one, too ({said})."
    return f"Partners by one estimate of the scores are no closer in an independent one ({said})."


def stability(found: Outcome, *, reliable: bool) -> str:
    """Whether the same match is made by independent errors of the scores."""
    said = f"correlation {plain(found.value)} of the matched averages, {plain(found.null)} by chance, {found.counted}"
    if not reliable:
        return f"Scores are mostly error, so nothing follows from two matches by them ({said})."
    if found.clear:
        return (
            f"Matched twice by scores with independent errors, the same comes out ({said}): the match follows what "
            "scores say, which is right if they mean the same in both modalities."
        )
    return f"Matched twice by scores with independent errors, something else comes out ({said}): the match is noise."


def expected_r2(found: Outcome, *, reliable: bool) -> str:
    """How much matched averages explain within treatments, if scores can be believed."""
    said = f"expected R² within treatments {signed(found.value)} by estimate"
    if found.value < WORSE:
        return (
            f"Matched averages may well be further from the truth than treatment means ({said}): match more softly "
            '(`method="ot"`, `epsilon="auto"`), or use means.'
        )
    if not reliable or found.value < SOME or not found.clear:
        return (
            f"Matched averages cannot be counted on to say more than treatment means ({said}): "
            "do not read single cells."
        )
    condition = "if scores mean the same in both modalities, which `labels=` and `links=` can test"
    if found.value < MUCH:
        return f"Matched averages say something beyond treatment means, {condition} ({said}): read groups, not pairs."
    return f"Matched averages say much beyond treatment means, {condition} ({said})."


def hubness(found: Outcome) -> str:
    """Whether partners are spread over the target cells."""
    said = f"effective number of partners {plain(found.value)} of the one that chance gives, {found.counted}"
    if found.value < CROWDED and found.clear:
        return (
            f"Few target cells take much of the mass ({said}), and averages lean towards them. "
            'Methods with full marginals, such as "ot", spread it.'
        )
    return f"Partners are spread over the target cells ({said})."


def labels(found: Outcome, column: str) -> str:
    """Whether the match finds a label that it was not told."""
    said = f"{found.value:.0%} of the mass joins equal {column!r}, {found.null:.0%} by chance, {found.counted}"
    if found.clear:
        return (
            f"The match joins equal {column!r} more often than chance ({said}): scores of both modalities go with it, "
            "as they do where the match is right."
        )
    return f"The match does not find {column!r} within treatments ({said})."


def links(found: Outcome, what: str) -> str:
    """Whether linked features agree."""
    said = f"correlation {plain(found.value)} within treatments, {plain(found.null)} by chance, {found.counted}"
    if found.clear:
        return (
            f"{what}: the source's measurement goes with the matched average of the target's ({said}), as it does "
            "where the match is right."
        )
    return f"{what}: the source's measurement does not go with the matched average of the target's ({said})."


def unknown(why: str) -> str:
    """A check that could not be made."""
    return f"Not measured: {why}"
