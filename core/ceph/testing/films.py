"""The rules of warps and transforms: seeded, picklable, shape and type kept, and every point stays on its spot."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from ceph.data.augment import STAGES, Augmentation
from ceph.data.geometry import displace, resample, transform
from ceph.data.types import Points
from ceph.testing.compare import difference, snapshot
from ceph.testing.promises import wrong_warps
from ceph.testing.rehearsal import Rehearsal, seed_everything
from ceph.testing.subject import LeftOut, Subject

Grey = NDArray[np.uint8]

SIZE = (256, 208)
SEEDS = 12
TOLERANCE_PX = 0.1
SIGMA_PX = 3.0  # of a dot
ALIKE, WHOLE = 0.9, 0.97  # correlation with a dot from which something in the film is one, and is one uncut
FAINT = 0.1  # of the height of the highest dot: what is lower is none


def changes(subject: Subject) -> Augmentation:
    """The plugin's own changes of training films."""
    rehearsal = Rehearsal(subject)
    for question in rehearsal.setup():
        if question.hook in ("check_run", "run_start"):
            rehearsal.quietly(question)
    try:
        warps = rehearsal.hooks.each("warps")
        transforms = {stage: dict(rehearsal.hooks.each("augmentations", stage=stage)) for stage in STAGES}
        wrong, augmentation = wrong_warps(warps), Augmentation(dict(warps), transforms)
    except Exception:  # noqa: BLE001 - a stranger's code may raise anything
        raise LeftOut("it gives no warps or transforms that can be used; see the answers") from None
    if wrong:
        raise LeftOut("its warps cannot be used; see answers-warps")
    return augmentation


def bare() -> Grey:
    """A grey film of SIZE, darker in its middle, without dots."""
    y, x = (np.linspace(-1, 1, side) for side in SIZE)
    return np.asarray(60 + 30 * (y[:, None] ** 2 + x**2), dtype=np.uint8)


def dotted(points: Points) -> Grey:
    """The bare film with a bright Gaussian dot at each point [K, 2]."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    dots = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * SIGMA_PX**2)) for px, py in points)
    return np.asarray(np.round(bare() + 100 * np.asarray(dots)), dtype=np.uint8)


def grid() -> Points:
    """Places of dots [K, 2], far apart and nowhere symmetric, so that no turned or mirrored film has them again."""
    rng = np.random.default_rng(3)
    at = np.stack(np.meshgrid(np.arange(34, SIZE[1] - 30, 36), np.arange(34, SIZE[0] - 30, 36)), -1).reshape(-1, 2)
    return np.asarray(at + rng.uniform(-7, 7, at.shape))


def film_and_seeds() -> Iterator[tuple[Grey, int]]:
    """The film that transforms are tried on, with each seed."""
    film = dotted(grid())
    for seed in range(SEEDS):
        yield film, seed


def tried(augmentation: Augmentation, film: Grey, seed: int) -> Grey:
    """A changed film; what raises or loses its shape has a check of its own."""
    try:
        found = augmentation.change_pixels(film.copy(), seed)
    except Exception:  # noqa: BLE001 - a stranger's transform may raise anything
        raise LeftOut("a transform raises; see transforms-keep-films") from None
    if found.shape != SIZE or found.dtype != np.uint8:
        raise LeftOut("a transform changes the film's shape or type; see transforms-keep-films")
    return found


def transforms_keep_films(subject: Subject) -> None:
    """Transforms give grey films, uint8 [H, W], of the shape that they were given."""
    augmentation = changes(subject)
    for film, seed in film_and_seeds():
        before = film.copy()
        try:
            found = augmentation.change_pixels(film, seed)
        except Exception as error:
            what = f"a transform raised {type(error).__name__}: {error}"
            raise subject.failure(what, "transforms are given grey films, uint8 [H, W]", "augmentations") from error
        if found.shape != SIZE or found.dtype != np.uint8:
            what = f"a film uint8 {list(SIZE)} came back as {found.dtype} {list(found.shape)}"
            raise subject.failure(what, "keep shape and type; crops and resizes belong to warps", "augmentations")
        if not np.array_equal(film, before):
            raise subject.failure("a transform writes into the film", "work on a copy", "augmentations")


def changes_pickle(subject: Subject) -> None:
    """What the loader's workers are sent pickles, and draws there what it draws here."""
    rehearsal = Rehearsal(subject)
    try:
        if {"truth", "extras"} & set(subject.implemented):
            pickle.dumps(rehearsal.hooks)
        augmentation = changes(subject)
        again = pickle.loads(pickle.dumps(augmentation))  # noqa: S301 - written a moment ago
    except LeftOut:
        raise
    except Exception as error:
        what = f"what loader workers need cannot be pickled: {type(error).__name__}: {error}"
        raise subject.failure(what, "use classes and functions of a module, no lambda and no inner class") from error
    for film, seed in film_and_seeds():
        drawn = []
        for one in (augmentation, again):
            seed_everything(seed)
            drawn.append(snapshot([*drawn_warp(one, seed), tried(one, film, seed)]))
        if difference(*drawn):
            raise subject.failure(
                f"at the sample seed {seed} the pickled warps or transforms draw otherwise",
                "keep what they need as plain attributes",
            )


def drawn_warp(augmentation: Augmentation, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
    """A warp; one that raises has a check of its own."""
    try:
        return augmentation.draw_warp(seed, SIZE)
    except Exception:  # noqa: BLE001 - a stranger's warp may raise anything
        raise LeftOut("a warp raises; see answers-warps") from None


def changes_are_seeded(subject: Subject) -> None:
    """A film's draws depend on its own seed and nothing else, so the number of workers does not matter."""
    augmentation = changes(subject)
    for film, seed in film_and_seeds():
        one, other = drawn_warp(augmentation, seed), drawn_warp(augmentation, seed)
        if difference(snapshot([*one]), snapshot([*other])):
            raise subject.failure("a warp drawn twice with one seed differs", "draw from the rng it is given", "warps")
        first = tried(augmentation, film, seed)
        second = tried(augmentation, film, seed)
        if not np.array_equal(first, second):
            remedy = "draw from self.py_random or self.random_generator, which are seeded for each film"
            raise subject.failure("a transform drawn twice with one seed differs", remedy, "augmentations")


def points_follow(subject: Subject) -> None:
    """A dot on a film is where its point is said to be, to 0.1 px, after every warp and transform."""
    augmentation = changes(subject)
    for seed in range(SEEDS):
        wrong = warped_off(augmentation, seed)
        if wrong:
            remedy = "a field must be smooth, with a slope below 1; a map must be invertible over the whole film"
            raise subject.failure(f"at the sample seed {seed} {wrong}", remedy, "warps")
    for film, seed in film_and_seeds():
        wrong = moved_off(tried(augmentation, film, seed), tried(augmentation, bare(), seed), grid())
        if wrong:
            remedy = "transforms change grey values only; geometry belongs to `warps`, which moves the points too"
            raise subject.failure(f"at the sample seed {seed} {wrong}", remedy, "augmentations")


def warped_off(augmentation: Augmentation, seed: int) -> str:
    """What is wrong with where dots are after the warps of a sample, or nothing."""
    matrix, field = drawn_warp(augmentation, seed)
    if np.array_equal(matrix, np.eye(3)) and field is None:
        return ""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    places = grid()
    said = transform(matrix, places)
    if field is not None:
        said = displace(field, said)
    margin = 4 * SIGMA_PX
    for place, point in zip(places, said, strict=True):
        if not (margin < point[0] < SIZE[1] - margin and margin < point[1] < SIZE[0] - margin):
            continue
        seen = resample(dotted(place[None]) - bare(), matrix, SIZE, field).astype(np.float64)
        if seen.sum() == 0:
            return f"the dot at {np.round(place, 1).tolist()} is gone from where its point is said to be"
        off = np.linalg.norm(np.array([(seen * x).sum(), (seen * y).sum()]) / seen.sum() - point)
        if off > TOLERANCE_PX:
            return f"the dot at {np.round(place, 1).tolist()} lies {off:.2f} px from its point"
    return ""


def moved_off(film: Grey, without: Grey, places: Points) -> str:
    """What is wrong with where the dots of a changed film are, or nothing; one that was painted over is not missed.

    They are looked for in the film, and in its difference from the film `without` dots, changed alike: the one bears
    with transforms that look at grey values, as an equalisation does, the other with noise and things drawn.
    """
    seen, near, strays = judged(film.astype(np.float64), places)
    added, *_ = judged(film.astype(np.float64) - without, places)
    if 2 * near >= len(places):
        return seen if added else ""
    return added or (seen if 4 * strays > len(places) else "")


def judged(image: NDArray[np.float64], places: Points) -> tuple[str, int, int]:
    """What is wrong with where dots are in an image, how many are at their places, and how many elsewhere."""
    found = dots_in(image)
    distance = np.linalg.norm(found[:, None, :2] - places[None], axis=-1)
    nearest = distance.min(axis=1) if len(found) else np.zeros(0)
    near = nearest < 1
    lost, strays, whole = len(places) - int(near.sum()), int((~near).sum()), int((found[~near, 2] >= WHOLE).sum())
    off = float(np.median(nearest[near])) if near.sum() >= 3 else 0.0
    wrong = ""
    if lost and (whole or 4 * min(strays, lost) > len(places)):
        wrong = f"{lost} of {len(places)} dots are not at their points, and {strays} are elsewhere"
    elif off > TOLERANCE_PX:
        wrong = f"dots lie {off:.2f} px from their points (median)"
    return wrong, int(near.sum()), strays


def dots_in(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Dots, bright or dark: x, y, to a small part of a pixel, and how much like a dot it is, at most 1: [n, 3].

    Those as wide as they were drawn, or twice as wide, as after a blur: whichever are more.
    """
    return max((dots_of_width(image, SIGMA_PX * times) for times in (1, 2)), key=len)


def dots_of_width(image: NDArray[np.float64], sigma_px: float) -> NDArray[np.float64]:
    """Dots about as wide, as `dots_in` gives them."""
    reach = round(3 * sigma_px)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    dot = np.exp(-(x**2 + y**2) / (2 * sigma_px**2))
    match = np.abs(cv2.matchTemplate(image.astype(np.float32), dot.astype(np.float32), cv2.TM_CCOEFF_NORMED))
    match = np.nan_to_num(match, nan=0.0, posinf=0.0, neginf=0.0)
    peaks = np.argwhere((match >= ALIKE) & (match == cv2.dilate(match, np.ones((7, 7)))))
    rows, heights = [], []
    for row, column in peaks:
        window = image[row : row + 2 * reach + 1, column : column + 2 * reach + 1]
        right, down, height = centre_of(window, sigma_px)
        rows.append((column + reach + right, row + reach + down, match[row, column]))
        heights.append(height)
    high = np.asarray(heights) >= FAINT * max(heights, default=0)
    return np.asarray(rows, dtype=np.float64).reshape(-1, 3)[high]


def centre_of(window: NDArray[np.float64], sigma_px: float) -> tuple[float, float, float]:
    """The centre (x, y) of a dot, from that of its window, and its height: least squares with a sloping background."""
    reach = len(window) // 2
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    right = down = height = 0.0
    for _ in range(5):  # each time about the centre found, so that a dot of another width has its centre, too
        dot = np.exp(-((x - right) ** 2 + (y - down) ** 2) / (2 * sigma_px**2))
        slopes = ((x - right) * dot, (y - down) * dot)
        basis = np.stack([np.ones_like(x), x, y, dot, *slopes], -1).reshape(-1, 6)
        fit = np.linalg.lstsq(basis, window.reshape(-1), rcond=None)[0]
        height = fit[3] or 1e-9
        right, down = (
            float(np.clip(at + sigma_px**2 * off / height, -2, 2)) for at, off in ((right, fit[4]), (down, fit[5]))
        )
    return right, down, abs(height)
