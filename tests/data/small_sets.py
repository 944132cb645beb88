"""Small data sets that tests write: films of noise, 64 x 80 pixels, in the layouts that the readers know."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ceph.data.formats import aariz, isbi2015

H, W = 80, 64
NUMBERS = {"TrainingData": range(1, 151), "Test1Data": range(151, 301), "Test2Data": range(301, 401)}


def shared_data() -> Path:
    """The folder of real data; skips the test where it is missing."""
    shared = Path(os.environ.get("CEPH_SHARED", Path(__file__).parents[3] / "shared"))
    if not (shared / "data" / "isbi2015").is_dir():
        pytest.skip(f"needs the real films in {shared} (CEPH_SHARED names another folder)")
    return shared / "data"


def noise_film(path: Path, seed: int = 0, size: tuple[int, int] = (H, W)) -> Path:
    """Write a grey film of noise with a bright spot at the lower right."""
    film = np.random.default_rng(seed).integers(0, 200, size, dtype=np.uint8)
    film[-3:, -3:] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(film).save(path)
    return path


def some_points(count: int, seed: int) -> np.ndarray:
    """Whole-numbered points [count, 2] inside a small film."""
    return np.random.default_rng(seed).integers(2, (W - 2, H - 2), (count, 2)).astype(float)


def aariz_json(film: str, points: np.ndarray, symbols: Sequence[str] = aariz.LANDMARKS) -> str:
    landmarks = [
        {"landmark_id": f"id{k}", "title": s, "symbol": s, "value": {"x": int(x), "y": int(y)}}
        for k, (s, (x, y)) in enumerate(zip(symbols, points, strict=True))
    ]
    return json.dumps({"ceph_id": film, "landmarks": landmarks, "dataset_name": "small"})


def write_aariz(
    folder: Path,
    films_per_split: Mapping[str, int] | int = 2,
    *,
    mm_per_px: float | None = 0.1,
    suffix: str = ".png",
    readers: Sequence[str] = ("senior", "junior"),
) -> Path:
    """Write a set in the Aariz layout: `films_per_split` by folder name (train, valid, test), or the same in each.

    The film's points are those of `some_points`, seeded by its number; the junior's lie (1, 1) px from the senior's.
    """
    counts = dict.fromkeys(aariz.SPLITS, films_per_split) if isinstance(films_per_split, int) else films_per_split
    rows = ["cephalogram_id,machine,pixel_size,image_format,mode"]
    for part, count in counts.items():
        for number in range(count):
            film = f"{part}{number:03d}"
            noise_film(folder / part / aariz.FILMS / f"{film}{suffix}", number)
            rows.append(
                f"{film},Machine {number % 2},{'' if mm_per_px is None else mm_per_px},{suffix[1:]},{part.title()}"
            )
            for offset, reader in enumerate(readers):
                place = folder / part / aariz.MARKS / aariz.READERS[reader]
                place.mkdir(parents=True, exist_ok=True)
                points = some_points(len(aariz.LANDMARKS), number) + offset
                (place / f"{film}.json").write_text(aariz_json(film, points), encoding="utf-8")
    (folder / aariz.TABLE).write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def write_stage(folder: Path, film: str, stage: object) -> Path:
    """Say the CVM stage of a film of `write_aariz`."""
    file = folder / film[:-3] / aariz.CVM / f"{film}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"ceph_id": film, "cvm_stage": {"id": "x", "title": "CVM", "value": stage}}))
    return file


def write_isbi(
    folder: Path,
    films_per_part: Mapping[str, int] | int = 2,
    *,
    suffix: str = ".bmp",
    readers: Sequence[str] = ("senior", "junior"),
    trailing: Sequence[str] = ("1", "2", "1", "1"),
) -> Path:
    """Write a set in the ISBI 2015 layout: the first films of each part (TrainingData 001.., Test1Data 151.., ...).

    The points are those of `some_points`, seeded by the film's number; the junior's lie (1, 1) px from the senior's.
    """
    counts = dict.fromkeys(NUMBERS, films_per_part) if isinstance(films_per_part, int) else films_per_part
    for part, count in counts.items():
        for number in NUMBERS[part][:count]:
            noise_film(folder / "RawImage" / part / f"{number:03d}{suffix}", number)
            for offset, reader in enumerate(readers):
                place = folder / "AnnotationsByMD" / f"400_{reader}"
                place.mkdir(parents=True, exist_ok=True)
                points = some_points(len(isbi2015.LANDMARKS), number) + offset
                lines = [f"{x:g},{y:g}" for x, y in points]
                (place / f"{number:03d}.txt").write_text("\n".join([*lines, *trailing]) + "\n", encoding="ascii")
    return folder


def write_csv(folder: Path) -> Path:
    """Write a plain table of eight films: four splits, two machines, two spacings, shared groups, gaps, no whole px.

    The senior missed N on film f1, the junior marked nothing on f2; ISBI and Aariz both have the five landmarks.
    """
    symbols = ("S", "N", "A", "B", "Pog`")
    columns = [f"{symbol}_{axis}" for symbol in symbols for axis in "xy"]
    lines = [",".join(["film", "split", "group", "machine", "mm_per_px", "spacing_source", "reader", *columns])]
    splits = ("train", "train", "train", "train", "validation", "validation", "test1", "test2")
    for number, split in enumerate(splits):
        noise_film(folder / "films" / f"f{number}.png", number)
        points = np.random.default_rng(number).uniform(-0.5, (W - 1.5, H - 1.5), (2, len(symbols), 2))
        for row, reader in enumerate(("senior", "junior")):
            cells = [repr(float(value)) for value in points[row].ravel()]
            if (number, reader) == (1, "senior"):
                cells[2:4] = ["", ""]
            if (number, reader) == (2, "junior"):
                cells = [""] * len(cells)
            spacing = (0.1, 0.139)[number % 2]
            facts = [
                split,
                f"patient{number // 2}",
                f"Machine {number % 2}",
                str(spacing),
                f"a ruler, {number}",
                reader,
            ]
            quoted = [f'"{fact}"' if "," in fact else fact for fact in facts]
            lines.append(",".join([f"f{number}.png", *quoted, *cells]))
    (folder / "points.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
