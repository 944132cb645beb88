"""What of a run is one graph: networks, activation, the mean of members, views and scales, the decoder."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ceph.evaluation.means import PLAIN, Ensemble, Size, resampled, to_unit, viewed
from ceph.evaluation.stations import Decoder
from ceph.model.codec import activate

if TYPE_CHECKING:
    from collections.abc import Iterator

OPSET = 18


class FilmGraph(nn.Module):
    """A film at each of an ensemble's sizes, [H, W] uint8, and its own (height, width) [2] int64, to what is found.

    Points [K, 2] in film px, scores [K] and, with `maps`, the mean [K, h, w] of the maps that they were read
    from, which lie on the image of the first size: what `Ensemble.maps` and the decoder give.
    """

    def __init__(self, ensemble: Ensemble, decoder: Decoder, *, maps: bool) -> None:
        super().__init__()
        self.networks = nn.ModuleList(member.module for member, _ in ensemble.members)
        self.ensemble, self.decoder, self.with_maps = ensemble, decoder, maps

    def forward(self, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Points, scores, maps of `given`: an image for each of `ensemble.sizes`, and the film's size."""
        *images, film = given
        plain = {
            size: image[None, None].float() * (1 / 255) for size, image in zip(self.ensemble.sizes, images, strict=True)
        }
        first, (frame_size, *_) = None, self.ensemble.sizes
        frame = letterbox(film, frame_size)
        views = [PLAIN, *(view for view, _ in self.ensemble.views)]
        for place, (network, (member, _)) in enumerate(zip(self.networks, self.ensemble.members, strict=True)):
            for size in self.ensemble.sizes_of(member):
                for view in views:
                    image, matrix = viewed(plain[size], view)
                    maps = activate(network(image), member.kind)
                    known = torch.ones_like(maps[..., :1, :1])
                    if first is None:
                        first, total, count = maps, maps, known
                        h, w = maps.shape[-2:]
                        from_unit = inverse(to_unit((h, w), round(frame_size[1] / w)))
                        continue
                    if place > 0:
                        known = (~maps.isnan().flatten(2).all(-1)).to(maps)[..., None, None]
                        maps = torch.where(known > 0, maps, 0.0)
                    if size != frame_size or matrix is not None or maps.shape != first.shape:
                        unit = to_unit((maps.shape[-2], maps.shape[-1]), round(size[1] / maps.shape[-1]))
                        seen = unit if matrix is None else unit @ torch.from_numpy(np.asarray(matrix))
                        between = (seen @ letterbox(film, size) @ inverse(frame) @ from_unit)[None]
                        known = known * resampled(torch.ones_like(maps[:, :1]), between, (h, w))
                        maps = resampled(maps, between, (h, w))
                        if member.kind == "distribution":
                            maps = maps / maps.flatten(2).sum(-1)[..., None, None].clamp_min(1e-12)
                    total, count = total + maps, count + known
        mean = total / count
        points, scores = self.decoder.decode(mean, frame_size)
        back = inverse(frame).to(points)
        found = points[0] * back[0, 0] + back[:2, 2], scores[0]
        return (*found, mean[0]) if self.with_maps else found


def letterbox(film: torch.Tensor, size: Size) -> torch.Tensor:
    """Film px to px of an image of `size`, as `ceph.data.geometry.letterbox`: [3, 3] float64, of a film [2]."""
    film, box = film.double(), torch.tensor(size, dtype=torch.float64)
    scale = (box / film).amin(0)
    y, x = (box - film * scale) / 2 + (scale - 1) / 2
    return _scaled(scale, scale, x, y)


def inverse(box: torch.Tensor) -> torch.Tensor:
    """The inverse of a map [3, 3] that scales and shifts."""
    x, y = box[0, 0], box[1, 1]
    return _scaled(1 / x, 1 / y, -box[0, 2] / x, -box[1, 2] / y)


def _scaled(scale_x: torch.Tensor, scale_y: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return torch.stack([scale_x, zero, x, zero, scale_y, y, zero, zero, one]).view(3, 3)


def write_graph(
    module: nn.Module, inputs: Sequence[torch.Tensor], names: tuple[Sequence[str], Sequence[str]], path: Path
) -> None:
    """Write a module as ONNX, its weights inside; `names` are those of its inputs and outputs."""
    with torch.no_grad(), _quiet():
        program: Any = torch.onnx.export(
            module.eval(),
            tuple(inputs),
            input_names=names[0],
            output_names=names[1],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    program.save(path, external_data=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's words are for its developers."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
