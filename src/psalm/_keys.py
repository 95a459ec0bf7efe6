"""Names of every slot that psalm reads or writes: the only place where they are spelled."""

from __future__ import annotations

from dataclasses import dataclass

REPRESENTATION = "X_psalm"
TREATMENT = "treatment"
PROPENSITY = "propensity"
MATCH = "match"
EMBEDDING = "X_propensity"
MATCHED_EMBEDDING = "X_matched"
HOLDOUT = "holdout"
TRANSFER = "transfer"
CALLS = "psalm_calls"


@dataclass(frozen=True)
class PropensityKeys:
    """Slots of one run of :func:`psalm.tl.propensity`."""

    base: str

    @property
    def scores(self) -> str:
        """``obsm`` of each modality: centred log-odds."""
        return self.base

    @property
    def own(self) -> str:
        """``obs`` of each modality: calibrated probability of the cell's own treatment."""
        return f"{self.base}_own"

    @property
    def treatment(self) -> str:
        """``obs`` of each modality: the treatment that the cell had when it was scored."""
        return f"{self.base}_treatment"

    @property
    def response(self) -> str:
        """``obs`` of each modality: probability, at even odds, of the own treatment rather than the control."""
        return f"{self.base}_response"

    @property
    def noise(self) -> str:
        """``obs`` of each modality: variance of the cell's scores that is error of estimation."""
        return f"{self.base}_noise"

    @property
    def error(self) -> str:
        """``obsm`` of each modality: one draw of the error of the scores."""
        return f"{self.base}_error"

    @property
    def uns(self) -> str:
        """``uns`` of the container: treatments, params and tables."""
        return self.base


@dataclass(frozen=True)
class MatchKeys:
    """Slots of one run of :func:`psalm.tl.match`."""

    base: str

    @property
    def coupling(self) -> str:
        """``obsp`` of the container: transported mass, rows source and columns target."""
        return self.base

    @property
    def uns(self) -> str:
        """``uns`` of the container: params and the table with one row per treatment."""
        return self.base

    @property
    def potential(self) -> str:
        """``obs`` of source and target: dual potentials in units of cost."""
        return f"{self.base}_potential"

    @property
    def coordinates(self) -> str:
        """``obsm`` of source and target: what a refined match measures distances in."""
        return f"{self.base}_coordinates"

    @property
    def entropy(self) -> str:
        """``obs`` of source and target: entropy of the cell's matches, in nats."""
        return f"{self.base}_entropy"

    @property
    def mass(self) -> str:
        """``obs`` of source and target: mass that the cell transports, relative to its own."""
        return f"{self.base}_mass"

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns of ``obs``."""
        return self.potential, self.entropy, self.mass, self.block, run(self.base)

    @property
    def block(self) -> str:
        """``obs`` of source and target: row of the table in which the cell is matched; −1: not matched."""
        return f"{self.base}_block"

    @property
    def evaluation(self) -> str:
        """``uns`` of the container: the table of :func:`psalm.tl.evaluate`."""
        return f"{self.base}_evaluation"

    @property
    def diagnosis(self) -> str:
        """``uns`` of the container: the tables of :func:`psalm.tl.diagnose`."""
        return f"{self.base}_diagnosis"


def predicted(target: str) -> str:
    """``obsm`` of the source: features of the target, predicted."""
    return f"{target}_predicted"


def lower(predicted: str) -> str:
    """``obsm`` of the source: lower bounds of predictive intervals."""
    return f"{predicted}_lower"


def upper(predicted: str) -> str:
    """``obsm`` of the source: upper bounds of predictive intervals."""
    return f"{predicted}_upper"


@dataclass(frozen=True)
class TransferKeys:
    """Slots of the target for one thing that :func:`psalm.tl.transfer` carries over: a key of one source."""

    key: str
    source: str

    @property
    def base(self) -> str:
        """``obs`` or ``obsm``: label, mean or averages."""
        return f"{self.key}_from_{self.source}".replace("/", "|")

    @property
    def confidence(self) -> str:
        """``obs``: share of the cell's mass."""
        return f"{self.base}_confidence"

    @property
    def spread(self) -> str:
        """``obs``: standard deviation of the matched values."""
        return f"{self.base}_sd"


def origin(embedding: str) -> str:
    """``obs`` of the container: the modality that a cell of the embedding was measured in."""
    return f"{embedding}_modality"


def factors(treatment: str) -> str:
    """``uns`` of the container: what each treatment is made of, one row per treatment and factor."""
    return f"{treatment}_factors"


def within(treatment: str) -> str:
    """``obs`` of each modality: stratum inside which cells may be matched; ``uns`` of the container: its counts."""
    return f"{treatment}_within"


def run(key: str) -> str:
    """``obs`` of each modality: digest of the run that what is stored under a key came from."""
    return f"{key}_run"
