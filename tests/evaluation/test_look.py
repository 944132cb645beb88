"""`look` reads a film where it is, at the scale asked for, in files, arrays and the cache alike."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import pytest
import torch

from ceph.data.bare import bare_film
from ceph.data.cache import FilmCache, digest
from ceph.data.dataset import Films, bare_item, collate
from ceph.data.geometry import letterbox, letterbox_scale, transform
from ceph.data.types import Sample
from ceph.errors import DataError
from ceph.evaluation.look import Look

FINE = 0.02 + (int(cv2.__version__.split(".")[0]) < 5) / 64  # px; OpenCV 4 places pixels to 1 / 32
CPU = torch.device("cpu")
SHAPE, SIZE, MM = (1201, 963), (96, 80), 0.2  # of the film in px, of the network's image in px, mm of a film px
AT, ASIDE = np.array([512.3, 611.8]), np.array([552.5, 578.1])  # film px


def blob(at, sigma, shape=SHAPE):
    """A film that is bright about one place, known to any fraction of a pixel."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.round(250 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * sigma**2))).astype(np.uint8)


def frame_of(films, mm=MM):
    """The batch as a network sees it, of films whose pixel is `mm`."""
    frame = collate([bare_item(film, SIZE, 1, n) for n, film in enumerate(films)])
    return frame._replace(mm_per_px=torch.tensor([mm / letterbox_scale(film.shape, SIZE) for film in films]))


def centre_of(window):
    """The centre of mass [2] of a window, in its px from the middle."""
    mass = window.double().numpy()
    along = np.arange(len(mass)) - (len(mass) - 1) / 2
    return np.array([(mass.sum(0) * along).sum(), (mass.sum(1) * along).sum()]) / mass.sum()


def opened_by(way, films, folder):
    """The film as `Films` opens it, or as bare ones are, from files and from arrays."""
    paths = []
    for n, film in enumerate(films):
        paths.append(folder / f"{n}.png")
        cv2.imwrite(str(paths[-1]), film)
    if way == "array":
        return partial(bare_film, films)
    if way == "file":
        return partial(bare_film, paths)
    nothing = np.zeros((1, 1, 2)), np.zeros((1, 1), dtype=bool)
    samples = [Sample(p.stem, "test", p.stem, "", f.shape, MM, *nothing, p) for p, f in zip(paths, films, strict=True)]
    cache = FilmCache(folder / "cache" if way == "cache" else None)
    return Films(samples, [digest(path) for path in paths], None, cache).film


@pytest.mark.parametrize("way", ["cache", "no cache", "file", "array"])
@pytest.mark.parametrize(("mm", "px"), [(6.4, 64), (12.8, 64), (20.0, 50), (76.8, 48)])
def test_a_point_is_seen_to_two_hundredths_of_a_pixel(tmp_path, way, mm, px):
    step = mm / px / MM  # film px of a window's px
    films = [blob(AT, 4 * max(1.0, step)), blob(ASIDE, 4 * max(1.0, step))]
    frame = frame_of(films)
    look = Look(frame, opened_by(way, films, tmp_path), np.nan, CPU)
    off = np.array([[0.0, 0.0], [0.37, -1.21], [2.6, 1.9]]) * step
    film_px = np.stack([AT + off, ASIDE + off])
    centre = np.stack([transform(letterbox(SHAPE, SIZE), points) for points in film_px])
    windows = look(torch.from_numpy(centre), mm, px)
    assert windows.shape == (2, 3, px, px)
    assert windows.dtype == torch.float32
    assert 0.8 < float(windows.max()) <= 1
    for seen in windows:
        for window, moved in zip(seen, off, strict=True):
            error = np.abs(centre_of(window) * step + moved).max()  # film px
            assert error < FINE * max(1.0, step)
    assert not look.assumed.any()


def test_centres_of_any_shape_are_answered_in_that_shape(tmp_path):
    look = Look(frame_of([blob(AT, 9)]), opened_by("array", [blob(AT, 9)], tmp_path), np.nan, CPU)
    centre = torch.rand(1, 2, 3, 4, 2) * 50
    windows = look(centre, 8.0, 5)
    assert windows.shape == (1, 2, 3, 4, 5, 5)
    assert torch.equal(look(centre[:, 1, 2, 3], 8.0, 5), windows[:, 1, 2, 3])
    with pytest.raises(ValueError, match="look takes centres"):
        look(centre[0], 8.0, 5)


def test_outside_the_film_is_its_border(tmp_path):
    film = np.full(SHAPE, 51, np.uint8)
    look = Look(frame_of([film]), opened_by("array", [film], tmp_path), np.nan, CPU)
    far = look(torch.tensor([[[-500.0, 9000.0], [40.0, 40.0], [float("nan"), 0.0]]]), 10.0, 8)
    assert torch.equal(far, torch.full_like(far, 51 / 255))


def test_a_film_without_spacing_is_taken_to_have_that_of_training(tmp_path):
    films = [blob(AT, 9)]
    known, unknown = frame_of(films), frame_of(films, mm=np.nan)
    open_film = opened_by("array", films, tmp_path)
    centre = torch.tensor([[[40.0, 50.0]]])
    look = Look(unknown, open_film, float(known.mm_per_px[0]), CPU)
    assert torch.equal(look(centre, 30.0, 24), Look(known, open_film, 7.0, CPU)(centre, 30.0, 24))
    assert look.assumed.all()
    with pytest.raises(DataError, match="has no spacing"):
        Look(unknown, open_film, np.nan, CPU)(centre, 30.0, 24)
