"""Numbers: lattices, atoms, and the monotone map to about unit scale. Pure functions of float64 arrays."""

import numpy as np

from flowdetect.preprocessing._schema import ValueScale

__all__ = [
    "Distinct",
    "count_distinct",
    "decode_values",
    "encode_values",
    "find_atoms",
    "find_lattice",
    "fit_affine",
    "fit_values",
    "is_discrete",
    "is_heaped",
    "location_and_scale",
    "log_slope",
    "match_levels",
    "squash",
    "unsquash",
]

SAMPLE_ROWS = 200_000
FEW_SHARE = 0.05  # distinct values per row, up to which equal spacing is no accident
FEW_LEVELS = 8
MAX_LEVELS = 32
MAX_ATOMS = 8
MAX_HEAPED = 128
HEAPED_ROWS = 20
MAX_HEAPS = 64
HEAP_ROWS = 25
HEAP_SHARE = 0.005
HEAPED_SHARE = 0.7
ATOM_SHARE = 0.05
ATOM_ROWS = 10
ATOM_PROMINENCE = 4
TAIL_START = 5.0
TAIL_TRIGGER = 10.0
_LARGEST = 1e30  # beyond it a standardised value says nothing more, and float32 would overflow
_MAX_CELLS = 1e6
_SPACING_SLACK = 1e-3  # of a step

# (lower quantile, its distance from the median in standard deviations of a normal distribution)
_QUANTILES = ((0.158655, 1.0), (0.05, 1.644854), (0.01, 2.326348), (0.001, 3.090232), (0.0, 4.0))


# --- distinct values -------------------------------------------------------------------------------------


class Distinct:
    """The distinct values of a column, ascending, with their counts among `n_rows` rows looked at."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.counts = np.unique(values, return_counts=True)
        self.n_rows = len(values)

    @property
    def few(self) -> bool:
        """Whether so few values are shared by so many rows that their spacing means something."""
        return len(self.values) <= FEW_SHARE * self.n_rows


def subsample(values: np.ndarray) -> np.ndarray:
    """Return at most 200,000 of the values, the same ones for the same length."""
    if len(values) <= SAMPLE_ROWS:
        return values
    rows = np.random.default_rng(0).choice(len(values), SAMPLE_ROWS, replace=False, shuffle=False)
    return values[np.sort(rows)]


def count_distinct(values: np.ndarray) -> Distinct:
    """Count distinct values: of all rows, or of a sample where that already shows a continuous column."""
    distinct = Distinct(subsample(values))
    if distinct.n_rows == len(values) or not (distinct.few or _whole(distinct.values)):
        return distinct
    return Distinct(values)


def is_discrete(distinct: Distinct) -> bool:
    """Tell whether a number column is better described by the probability of each of its values.

    So it is with 8 values or fewer on ten times as many rows, with two values on five rows or more, and with
    up to 32 values on twenty times as many rows if they lie on no lattice.
    """
    n_levels, n_rows = len(distinct.values), distinct.n_rows
    if n_levels <= 1 or (n_levels == 2 and n_rows >= 5):
        return True
    if n_levels <= FEW_LEVELS:
        return n_rows >= 10 * n_levels
    return n_levels <= MAX_LEVELS and distinct.few and find_lattice(distinct) is None


def is_heaped(distinct: Distinct) -> bool:
    """Tell whether rows heap up at some values of a lattice, such as rounded hours or small counts.

    So it is with at most 128 values on twenty times as many rows, if the rows of each value and the mean of
    its two neighbours differ by 70 % of all rows in sum.
    """
    if len(distinct.values) > min(MAX_HEAPED, distinct.n_rows // HEAPED_ROWS):
        return False
    counts = distinct.counts.astype(np.float64)
    sides = np.pad(counts, 1, mode="reflect")
    return bool(np.abs(counts - (sides[:-2] + sides[2:]) / 2).sum() >= HEAPED_SHARE * counts.sum())


def match_levels(values: np.ndarray, levels: tuple[float, ...]) -> np.ndarray:
    """Return the position of each value in ascending `levels`, -1 where it is none of them (or NaN).

    Whole levels must be met exactly, others within the rounding of float32, so that a table read in
    another precision keeps its meaning.
    """
    grid = np.asarray(levels, dtype=np.float64)
    if not len(grid):
        return np.full(len(values), -1)
    tolerance = 0.0
    if not _whole(grid):
        gap = np.diff(grid).min() if len(grid) > 1 else np.inf
        tolerance = min(float(np.finfo(np.float32).eps) * np.abs(grid).max(), gap / 4)
    position = np.searchsorted(grid, values - tolerance).clip(max=len(grid) - 1)
    return np.where(np.abs(values / 2 - grid[position] / 2) <= tolerance / 2, position, -1)


# --- lattices --------------------------------------------------------------------------------------------


def find_lattice(
    distinct: Distinct, *, mode: str = "auto", whole_always: bool = True, few_share: float = FEW_SHARE
) -> tuple[float, float, int | None] | None:
    """Find the lattice ``anchor + k * step`` that holds all values.

    Parameters
    ----------
    distinct : Distinct
    mode : {"auto", "decimal", "never"}
        "decimal" knows whole numbers and up to six decimals; "auto" any equal spacing as well.
    whole_always : bool
        Whether whole numbers are a lattice however many distinct ones there are; everything else is one only
        where few values are distinct.
    few_share : float
        Up to how many distinct values per row these are few.

    Returns
    -------
    (anchor, step, decimals) or None
        `decimals` is None for a spacing that is no decimal one.
    """
    values, few = distinct.values, len(distinct.values) <= few_share * distinct.n_rows
    if mode == "never" or len(values) < 2:
        return None
    if _whole(values) and (whole_always or few):
        return float(values[0]), _whole_step(values), 0
    if not few:
        return None
    decimal = _decimal_lattice(values)
    spacing = _spacing(values) if mode == "auto" else None
    # Eighths rounded to three decimals are eighths: thousandths would leave nearly every cell empty.
    if spacing is not None and (decimal is None or spacing > 2 * decimal[1]):
        return float(values[0]), spacing, None
    return decimal


def _decimal_lattice(values: np.ndarray) -> tuple[float, float, int] | None:
    for decimals in range(1, 7):
        scaled = values * 10.0**decimals
        if _is_near(scaled, np.rint(scaled), _rounding(values) * np.abs(scaled).max()):
            return float(values[0]), _whole_step(np.rint(scaled)) / 10.0**decimals, decimals
    return None


def _whole(values: np.ndarray) -> bool:
    # Every float beyond 2**53 is a whole number, which then says nothing about the column.
    return bool(np.abs(values).max() < 2**53 and np.all(values == np.rint(values)))


def _whole_step(values: np.ndarray) -> float:
    """Greatest common divisor of the differences, unless so few share one by chance."""
    return float(np.gcd.reduce(np.diff(values).astype(np.int64))) if len(values) > FEW_LEVELS else 1.0


def _rounding(values: np.ndarray) -> float:
    """Relative rounding of the values: float32's if they all fit into it."""
    with np.errstate(over="ignore"):
        single = np.array_equal(values.astype(np.float32), values)
    return float(np.finfo(np.float32 if single else np.float64).eps)


def _is_near(values: np.ndarray, target: np.ndarray, rounding: float, slack: float = 0.0) -> bool:
    """Whether values meet whole-number targets up to rounding, where rounding leaves the question open."""
    return rounding < 0.02 and bool(np.abs(values - target).max() <= 2 * rounding + slack)


def _spacing(values: np.ndarray) -> float | None:
    """Return h with ``values = values[0] + k * h`` up to rounding and 0.1 % of h, or None."""
    offsets = values - values[0]
    smallest = float(np.diff(values).min())
    for divisor in range(1, 9):
        step = smallest / divisor
        if offsets[-1] / step > _MAX_CELLS or not np.isfinite(offsets[-1]):
            return None
        cells = _grow_cells(offsets, step)
        step = float(cells @ offsets / (cells @ cells))
        if _is_near(
            offsets / step, cells, _rounding(values) * np.abs(values).max() / step, slack=_SPACING_SLACK
        ):
            return step
    return None


def _grow_cells(offsets: np.ndarray, step: float) -> np.ndarray:
    """Count steps outwards, correcting the step on the way, or rounding would add up."""
    reach = 8 * step
    while reach < offsets[-1]:
        near = offsets[offsets <= reach]
        cells = np.rint(near / step)
        if cells.any():
            step = float(cells @ near / (cells @ cells))
        reach *= 4
    return np.rint(offsets / step)


# --- atoms -----------------------------------------------------------------------------------------------


def find_atoms(distinct: Distinct, step: float | None, *, heaps: bool = False) -> tuple[float, ...]:
    """Return values, ascending, that many rows share exactly while the others vary continuously.

    An atom holds at least 10 rows and 5 % of them (with heaps, 25 rows and 0.5 % are enough), and four
    times as many as its neighbours do: the mode of rounded numbers is no atom. At most the 8 (64) most
    frequent are taken. On a lattice there are atoms only where the other values spread over at least 20
    steps: a coarser one needs none.
    """
    least = max(ATOM_ROWS, ATOM_SHARE * distinct.n_rows)
    if heaps:
        least = min(least, max(HEAP_ROWS, HEAP_SHARE * distinct.n_rows))
    most = MAX_HEAPS if heaps else MAX_ATOMS
    often = np.argsort(-distinct.counts, kind="stable")[:most]
    often = often[distinct.counts[often] >= least]
    often = often[[_stands_out(distinct.counts, k) for k in often]] if len(often) else often
    rest = np.delete(distinct.values, often)
    if not len(often) or len(rest) <= FEW_LEVELS:
        return ()
    if step is not None:
        counts = np.delete(distinct.counts, often)
        if location_and_scale(np.repeat(rest, counts))[1] < 20 * step:
            return ()
    return tuple(np.sort(distinct.values[often]).tolist())


def _stands_out(counts: np.ndarray, k: int) -> bool:
    near = np.delete(counts[max(k - 4, 0) : k + 5], min(k, 4))
    return not len(near) or bool(counts[k] >= ATOM_PROMINENCE * np.median(near))


# --- location, scale, tails ------------------------------------------------------------------------------


def location_and_scale(values: np.ndarray) -> tuple[float, float]:
    """Return the median and a robust standard deviation; both follow any change of origin and unit.

    The scale is half the distance between the 15.87 and the 84.13 percentile. Where these are equal (up to
    rounding) the next wider pair is taken, last the range: a standard deviation would let one huge value
    flatten all others.
    """
    center = float(np.median(values / 2)) * 2
    noise = 8 * np.finfo(np.float64).eps * abs(center)
    quarters = values / 4  # their differences cannot overflow
    for share, deviations in _QUANTILES:
        low, high = np.quantile(quarters, [share, 1 - share])
        scale = min(float(high - low) / deviations, np.finfo(np.float64).max / 4) * 2
        if scale > noise:
            return center, scale
    return center, max(float(np.ptp(quarters)), float(np.finfo(np.float64).tiny))


def fit_values(
    values: np.ndarray,
    distinct: Distinct,
    *,
    atoms: bool = True,
    heaps: bool = False,
    lattice: str = "auto",
    whole_always: bool = True,
) -> ValueScale:
    """Choose lattice, atoms, location, scale and tail map of a numeric column from its observed values."""
    found = find_lattice(distinct, mode=lattice, whole_always=whole_always)
    anchor, step, decimals = found or (0.0, None, None)
    taken = find_atoms(distinct, step, heaps=heaps) if atoms else ()
    rest = values[match_levels(values, taken) < 0] if taken else values
    location, scale = location_and_scale(subsample(rest))
    low, high = float(rest.min()), float(rest.max())
    if step is not None:
        scale = max(scale, step / 2)
    reach = max(high / 2 - location / 2, location / 2 - low / 2) / scale
    return ValueScale(
        location=location,
        scale=scale,
        tail=TAIL_START if reach > TAIL_TRIGGER / 2 else None,
        step=step,
        anchor=anchor,
        decimals=decimals,
        lower=low if step is not None else (0.0 if low >= 0 else None),
        upper=high if step is not None else None,
        atoms=taken,
    )


def fit_affine(values: np.ndarray) -> ValueScale:
    """Choose location and scale alone; the scale of a constant is 1."""
    location, scale = location_and_scale(subsample(values))
    return ValueScale(location=location, scale=scale if np.ptp(values / 4) > 0.0 else 1.0)


def squash(z: np.ndarray, start: float | np.ndarray) -> np.ndarray:
    """Map z to itself up to ``|z| = start``, to ``sign(z) (start + log(1 + |z| - start))`` beyond."""
    size = np.abs(z)
    return np.where(size <= start, z, np.copysign(start + np.log1p(np.maximum(size - start, 0.0)), z))


def unsquash(t: np.ndarray, start: float | np.ndarray) -> np.ndarray:
    """Invert `squash`; overflows to infinity beyond the range of float64."""
    size = np.abs(t)
    with np.errstate(over="ignore"):
        return np.where(size <= start, t, np.copysign(start + np.expm1(np.maximum(size - start, 0.0)), t))


def log_slope(t: np.ndarray, start: float | np.ndarray) -> np.ndarray:
    """Return the log-derivative of `squash` where it gives t: ``-log(1 + |z| - start)`` beyond, 0 inside."""
    return np.minimum(start - np.abs(t), 0.0)


def encode_values(numbers: np.ndarray, values: ValueScale) -> np.ndarray:
    """Standardise numbers and apply the tail map, without overflow."""
    with np.errstate(over="ignore"):
        z = (numbers - values.location) / values.scale
    if values.tail is None:
        return np.clip(z, -_LARGEST, _LARGEST, out=z)
    t = squash(z, values.tail)
    far = np.isinf(t)
    if far.any():
        halves = numbers[far] / 2 - values.location / 2
        logs = np.log(np.abs(halves)) + np.log(2) - np.log(values.scale)
        t[far] = np.copysign(values.tail + logs, halves)
    return t


def decode_values(t: np.ndarray, values: ValueScale) -> np.ndarray:
    """Invert `encode_values`, then put lattice values on their lattice and all within their bounds."""
    largest = np.finfo(np.float64).max
    with np.errstate(over="ignore"):
        numbers = t * values.scale + values.location
        if values.tail is not None:
            numbers = np.where(np.abs(t) <= values.tail, numbers, _decode_tail(t, values))
    numbers = np.clip(numbers, -largest, largest)
    if values.step is not None:
        numbers = _onto_lattice(numbers, values, values.step)
    if values.lower is None and values.upper is None:
        return numbers
    return np.clip(numbers, values.lower, values.upper)


def _onto_lattice(numbers: np.ndarray, values: ValueScale, step: float) -> np.ndarray:
    nearest = values.anchor + np.rint((numbers - values.anchor) / step) * step
    if values.decimals is not None:
        nearest = np.round(nearest, values.decimals)
    if values.decimals == 0:
        return nearest
    # Points may carry the rounding of float32 or of the spacing: what is that near, but not within float64
    # rounding, is given back as it is.
    size = max(abs(values.lower or 0.0), abs(values.upper or 0.0))
    double, single = (4 * float(np.finfo(dtype).eps) * size for dtype in (np.float64, np.float32))
    rounding = min(single, 0.01 * step) if values.decimals is not None else 2 * _SPACING_SLACK * step
    distance = np.abs(numbers - nearest)
    return np.where((distance > double) & (distance <= rounding), numbers, nearest)


def _decode_tail(t: np.ndarray, values: ValueScale) -> np.ndarray:
    start = values.tail or 0.0
    excess = np.maximum(np.abs(t) - start, 0.0)
    near = unsquash(t, start) * values.scale
    # exp(709) is the last finite one: beyond, the scale joins the exponent before it is taken.
    beyond = np.copysign(np.exp(excess + np.log(values.scale)), t)
    return np.where(excess < 700, near, beyond) + values.location
