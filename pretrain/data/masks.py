"""Which patches the encoder sees: `visible`, (h, w) bool, True = seen, one draw per sample.

Every function takes a numpy Generator, so a data set can key it by (seed, epoch, sample) and the
mask does not depend on workers, processes or a resumed run. All of them pickle.
"""

import math

import numpy as np

BEIT_PATCHES = 14 * 14  # the grid for which BEiT's counts are published


def spark_visible_count(patches: int, mask_ratio: float) -> int:
    """Return the number of visible patches as SparK rounds it: 20 of 49 (SparK `spark.py`)."""
    return _checked_count(round(patches * (1 - mask_ratio)), patches, mask_ratio)


def fcmae_visible_count(patches: int, mask_ratio: float) -> int:
    """Return the number of visible patches as FCMAE truncates it: 19 of 49 (`fcmae.py`)."""
    return _checked_count(int(patches * (1 - mask_ratio)), patches, mask_ratio)


def beit_masked_count(patches: int, published: int = 75) -> int:
    """Scale a count published for BEiT's 14 x 14 grid to a grid of `patches`; at least 1.

    Other grids are not in the paper; the share 75 of 196 is kept (ours).
    """
    return max(1, round(published * patches / BEIT_PATCHES))


def random_visible(rng: np.random.Generator, grid: tuple[int, int], n_visible: int) -> np.ndarray:
    """Choose `n_visible` patches uniformly without replacement; return (h, w) bool.

    SparK's and FCMAE's mask: the first `n_visible` of an argsort of noise is such a draw.
    Raises ValueError unless at least one patch is visible and one is masked.
    """
    patches = grid[0] * grid[1]
    if not 0 < n_visible < patches:
        raise ValueError(
            f"n_visible={n_visible} leaves nothing to see or nothing to predict on a grid of "
            f"{grid[0]} x {grid[1]} patches: choose 1 to {patches - 1}"
        )
    visible = np.zeros(patches, dtype=bool)
    visible[rng.permutation(patches)[:n_visible]] = True
    return visible.reshape(grid)


def block_visible(
    rng: np.random.Generator,
    grid: tuple[int, int],
    total: int = 75,
    minimum: int = 16,
    max_per_block: int | None = None,
    aspect: float = 0.3,
) -> np.ndarray:
    """Draw BEiT's blockwise mask: (h, w) bool, False for at most `total` masked patches.

    Blocks of `minimum` to `max_per_block` (None: `total`) patches with a log-uniform aspect ratio
    in [aspect, 1 / aspect] are masked until `total` is reached or ten tries add nothing, so a draw
    may stop short: 74.5 of 75 on average (unilm `beit/masking_generator.py`; Algorithm 1).
    Raises ValueError if no block of `minimum` patches fits the grid.
    """
    largest = total if max_per_block is None else max_per_block
    _check_blocks(grid, total, minimum, largest, aspect)
    masked = np.zeros(grid, dtype=bool)
    count = 0
    while count < total:
        # A grid with nothing masked has no loss: the first block gets more tries.
        tries = 10 if count else 1000
        added = _mask_block(rng, masked, minimum, min(total - count, largest), aspect, tries)
        if added == 0:
            break
        count += added
    if count == 0:
        raise ValueError(
            f"no block of at least minimum={minimum} patches fits a grid of {grid[0]} x {grid[1]}: "
            "lower minimum"
        )
    return ~masked


def _mask_block(
    rng: np.random.Generator,
    masked: np.ndarray,
    minimum: int,
    room: int,
    aspect: float,
    tries: int,
) -> int:
    """Mask a block in place, adding 1 to `room` patches; return how many, 0 if no block fitted.

    `room` may be under `minimum` near the end: the area is then drawn between the two, as the
    official code does.
    """
    grid_h, grid_w = masked.shape
    log_aspect = math.log(aspect)
    for _ in range(tries):
        draw_area, draw_aspect, draw_top, draw_left = rng.random(4).tolist()
        area = minimum + (room - minimum) * draw_area
        ratio = math.exp(log_aspect * (1 - 2 * draw_aspect))
        h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if h >= grid_h or w >= grid_w:
            continue
        top, left = int(draw_top * (grid_h - h + 1)), int(draw_left * (grid_w - w + 1))
        block = masked[top : top + h, left : left + w]
        new = block.size - int(np.count_nonzero(block))
        if 0 < new <= room:
            block[:] = True
            return new
    return 0


def _checked_count(visible: int, patches: int, mask_ratio: float) -> int:
    if not 0 < visible < patches:
        raise ValueError(
            f"mask_ratio={mask_ratio} leaves {visible} of {patches} patches visible: "
            f"at least 1 and at most {patches - 1} are needed"
        )
    return visible


def _check_blocks(
    grid: tuple[int, int], total: int, minimum: int, largest: int, aspect: float
) -> None:
    if min(grid) < 2:
        raise ValueError(f"block masks need a grid of at least 2 x 2 patches, got {grid}")
    if not 0 < total < grid[0] * grid[1]:
        raise ValueError(f"total={total} masked patches do not fit a grid of {grid[0]} x {grid[1]}")
    if not 0 < minimum <= largest or not 0 < aspect <= 1:
        raise ValueError(
            f"need 0 < minimum <= max_per_block and 0 < aspect <= 1, got minimum={minimum}, "
            f"max_per_block={largest}, aspect={aspect}"
        )
