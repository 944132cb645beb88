"""Random changes of a training film: what the core does by default, and how it runs what plugins add.

Geometry is the core's: warps give matrices or displacement fields that are composed with the letterbox into one
resampling. Pixel changes are albumentations transforms; each plugin's are one Compose, seeded from the sample's seed
and the plugin's name, so that no plugin's draws depend on another's.
"""

from __future__ import annotations

import importlib.metadata
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray

from ceph.data.geometry import Field
from ceph.data.plan import derive
from ceph.data.types import Matrix
from ceph.data.warps import DefaultWarp, Warp
from ceph.errors import CephError, PluginError

STAGES = ("photometric", "occlusion")


class DefaultPhotometric(A.ImageOnlyTransform):  # type: ignore[misc]
    """Gamma, contrast and brightness in one look-up table: exp(+-0.5), +-30 %, +-15 %."""

    def __init__(self, gamma: float = 0.5, contrast: float = 0.3, brightness: float = 0.15) -> None:
        super().__init__(p=1.0)
        self.gamma, self.contrast, self.brightness = gamma, contrast, brightness

    def get_params(self) -> dict[str, Any]:
        """Draw the look-up table [256]."""
        gamma, contrast, brightness = (self.py_random.uniform(-1, 1) for _ in range(3))
        value = (np.arange(256) / 255.0) ** np.exp(gamma * self.gamma)
        value = (value - 0.5) * (1 + contrast * self.contrast) + 0.5 + brightness * self.brightness
        return {"table": np.clip(value * 255 + 0.5, 0, 255).astype(np.uint8)}

    def apply(self, img: NDArray[np.uint8], table: NDArray[np.uint8], **params: Any) -> NDArray[np.uint8]:
        """Map the film's grey values through the table."""
        del params
        return np.asarray(cv2.LUT(img, table), dtype=np.uint8)  # ten times as fast as table[img]

    def get_transform_init_args_names(self) -> tuple[str, ...]:
        """Name the arguments, for albumentations' repr."""
        return ("gamma", "contrast", "brightness")


class Augmentation:
    """All random changes of a training film; `warps` and `transforms[stage]` map a plugin's name to its list.

    `versions` maps the plugins' names to their versions: for the messages about their transforms.
    """

    def __init__(
        self,
        warps: Mapping[str, Sequence[Warp]],
        transforms: Mapping[str, Mapping[str, Sequence[Any]]],
        versions: Mapping[str, str] | None = None,
    ) -> None:
        self.versions = dict(versions or {})
        self.warps = {name: list(found) for name, found in sorted(warps.items()) if found}
        self.composes = [
            (f"{stage}/{name}", self._composed(name, found))
            for stage in STAGES
            for name, found in sorted(transforms.get(stage, {}).items())
            if found
        ]

    def draw_warp(self, seed: int, size: tuple[int, int]) -> tuple[Matrix, Field | None]:
        """The composed map [3, 3] within the network frame and the summed displacement field of one sample."""
        matrix, field = np.eye(3), None
        for name, warps in self.warps.items():
            rng = np.random.default_rng(derive(seed, name))
            for warp in warps:
                with self._named(name, "warps"):
                    step, moved = warp.matrix(rng, size), warp.displacement(rng, size)
                    step, moved = (None if part is None else np.asarray(part) for part in (step, moved))
                if name in self.versions and (wrong := wrong_warp(step, moved, size)):
                    raise self._fault(name, "warps", wrong)
                if step is not None:
                    matrix = step.astype(np.float64) @ matrix
                if moved is not None:
                    field = moved.astype(np.float32) if field is None else field + moved.astype(np.float32)
        return matrix, field

    def change_pixels(self, image: NDArray[np.uint8], seed: int, stages: Sequence[str] = STAGES) -> NDArray[np.uint8]:
        """Apply the photometric and then the occlusion transforms to a film [H, W], or those of one of the `stages`.

        Raises PluginError naming the plugin whose transform raises or gives anything but a film of that shape.
        """
        for name, compose in self.composes:
            if name.partition("/")[0] not in stages:
                continue
            # Compose would give all its transforms one seed, and then they all draw alike.
            for place, transform in enumerate((compose, *compose.transforms)):
                transform.set_random_seed(derive(seed, name, place) % 2**32)
            image = self._changed(name.partition("/")[2], compose, image)
        return image

    def _composed(self, plugin: str, transforms: Sequence[Any]) -> A.Compose:
        with self._named(plugin, "augmentations"):
            return A.Compose(list(transforms))

    def _changed(self, plugin: str, compose: A.Compose, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The film after the transforms of one plugin."""
        with self._named(plugin, "augmentations"):
            found: NDArray[np.uint8] = compose(image=image)["image"]
        if plugin in self.versions and (found.shape != image.shape or found.dtype != np.uint8):
            given = f"{found.dtype} {list(found.shape)}"
            raise self._fault(plugin, "augmentations", f"gave a film {given} for one of uint8 {list(image.shape)}")
        return found

    @contextmanager
    def _named(self, plugin: str, hook: str) -> Iterator[None]:
        """Tell what a plugin's changes raise as its fault; the core's own have no version, and raise as they do."""
        try:
            yield
        except (Exception, SystemExit) as error:
            if plugin not in self.versions:
                raise
            line = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(line.filename).name}, line {line.lineno}"
            raise self._fault(plugin, hook, f"{type(error).__name__}: {error} ({where})") from error

    def _fault(self, plugin: str, hook: str, what: str) -> PluginError:
        hint = f"mend the plugin, or run without it: --without {plugin}"
        named = f"plugin '{plugin}' {self.versions[plugin]}".rstrip()
        return PluginError(f"{named}, hook {hook}: {what}", hint=hint)


def wrong_warp(matrix: NDArray[Any] | None, field: NDArray[Any] | None, size: tuple[int, int]) -> str:
    """What is wrong with a warp of an image of `size`: its map [3, 3], its displacement [H, W, 2]; empty if nothing."""
    if matrix is not None:
        good = matrix.shape == (3, 3) and matrix.dtype.kind in "fiu" and np.isfinite(matrix).all()
        if not (good and np.linalg.det(matrix) != 0):
            return f"its matrix gave {matrix.dtype} {list(matrix.shape)} where a finite, invertible [3, 3] is promised"
    if field is not None:
        good = field.shape == (*size, 2) and field.dtype.kind in "fiu" and np.isfinite(field).all()
        if not good:
            promised = f"a finite [{size[0]}, {size[1]}, 2] is promised"
            return f"its displacement gave {field.dtype} {list(field.shape)} where {promised}"
    return ""


def default_augmentation() -> tuple[list[Warp], list[Any]]:
    """What the core itself does to training films: (warps, photometric transforms)."""
    return [DefaultWarp()], [DefaultPhotometric()]


def refuse_albumentationsx() -> None:
    """Stop where the AGPL successor has taken albumentations' import name: its transforms differ."""
    try:
        version = importlib.metadata.version("albumentationsx")
    except importlib.metadata.PackageNotFoundError:
        return
    raise CephError(
        f"albumentationsx {version} is installed and takes the import name of albumentations",
        hint="pip uninstall albumentationsx, then pip install --force-reinstall albumentations==2.0.8",
    )
