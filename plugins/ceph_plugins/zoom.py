"""zoom: each landmark is looked at again, in a window of the film itself about the point that the first pass found."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from ceph.plugin import (
    Batch,
    Duration,
    Flags,
    Plugin,
    PluginConfig,
    Points,
    Run,
    Sample,
    Twin,
    gaussians,
    hookimpl,
    landmark_network,
    moving_average,
    soft_points,
)

STRIDE = 2  # window pixels of a map pixel
LEVELS = 4  # of the backbone's strides: a window needs no coarser ones
ABOUT_MM = 5.0  # side of the square by whose mean and spread a grey value is normalised
FREEDOM = 4  # degrees of freedom of Student's t, by which the first pass errs
LEAST_MM = 0.5  # spread of displacements, at least
MEDIAN = 1.18  # of the length of a vector whose components are normal, in their standard deviations
NEAR_MM = 2.0  # the mass of a map within it of its point is the second look's score
MAPS = 2048  # so many maps at a time: memory is flat in the number of landmarks


class SecondLook(nn.Module):
    """Grey windows [N, px, px] in 0..1, `mm` wide -> raw maps [N, K, px / 2, px / 2], and the mean of its weights."""

    steps: torch.Tensor
    spread_mm: torch.Tensor

    def __init__(self, backbone: str, landmarks: int, width: int, px_per_mm: float, spread_mm: float) -> None:
        super().__init__()
        self.net = landmark_network(backbone, landmarks, stride=STRIDE, width=width, channels=3, levels=LEVELS)
        self.average = copy.deepcopy(self.net).requires_grad_(requires_grad=False)
        self.about = 2 * round(ABOUT_MM * px_per_mm / 2) + 1
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("spread_mm", torch.full((landmarks,), spread_mm))

    def forward(self, windows: torch.Tensor, rank: torch.Tensor | None = None) -> torch.Tensor:
        """Raw maps; in evaluation those of the averaged weights. `rank` as in `views_of`."""
        net = self.net if self.training else self.average
        maps: torch.Tensor = net(views_of(windows, self.about, rank))
        return maps.to(torch.float32, memory_format=torch.contiguous_format)

    @torch.no_grad()
    def begin(self, backbone: nn.Module) -> None:
        """Start with the weights of `backbone`, for grey films, where layers are the same, unless it is trained."""
        theirs = backbone.state_dict()
        for net in (self.net, self.average):
            for name, own in net.backbone.state_dict().items():
                if name in theirs and (new := theirs[name]).ndim == own.ndim:
                    grey = new.shape[1:2] == (1,) and own.shape[1:2] == (3,)
                    if grey or new.shape == own.shape:
                        own.copy_(torch.where(self.steps > 0, own, new.expand_as(own) / 3 if grey else new))

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Move the average towards the weights; the share that stays grows up to `decay`. Nothing is waited for."""
        share = torch.clamp(9 / (10 + self.steps), min=1 - decay)  # 1 - (1 + n) / (10 + n)
        pairs = zip(self.average.state_dict().values(), self.net.state_dict().values(), strict=True)
        for mean, now in pairs:
            if mean.is_floating_point():
                mean.lerp_(now, share.to(mean))
        self.steps += 1


def views_of(windows: torch.Tensor, about: int, rank: torch.Tensor | None = None) -> torch.Tensor:
    """Windows [N, px, px] as [N, 3, px, px] in 0..1: grey, normalised in squares of `about` px, and equalised.

    `rank` [N, px, px] is the share of a window's pixels that are no brighter, None: to be found.
    """
    grey = windows[:, None]
    mean, square = (mean_about(x, about) for x in (grey, grey.square()))
    local = (grey - mean) / (square - mean.square()).clamp_min(1e-4).sqrt()
    if rank is None:
        flat = windows.flatten(1).contiguous()
        rank = torch.searchsorted(flat.sort(1).values, flat, right=True).view_as(windows) / flat.shape[1]
    return torch.cat([grey, (0.5 + local / 6).clamp(0, 1), rank[:, None].to(grey)], dim=1)


def mean_about(x: torch.Tensor, side: int) -> torch.Tensor:
    """The mean of the square of so many px (odd) about each pixel, of what is inside: columns first, then rows."""
    tall = F.avg_pool2d(x, (side, 1), 1, (side // 2, 0), count_include_pad=False)
    return F.avg_pool2d(tall, (1, side), 1, (0, side // 2), count_include_pad=False)


def log_prior(side: int, mm: float, spread_mm: torch.Tensor) -> torch.Tensor:
    """The logarithm of Student's t in the plane, [K, side, side], about the middle of maps whose pixel is `mm` wide."""
    square = ((torch.arange(side, device=spread_mm.device) - (side - 1) / 2) * mm).square()
    far = (square[:, None] + square) / (FREEDOM * spread_mm.square()[:, None, None])
    return -(FREEDOM + 2) / 2 * far.log1p()


def mass_near(raw: torch.Tensor, points: torch.Tensor, radius: float) -> torch.Tensor:
    """The share [B, K] of raw maps [B, K, h, w] in the square within `radius` of points [B, K, 2], window px."""
    maps = raw.flatten(2).softmax(-1).view_as(raw)
    near = [
        ((torch.arange(side, device=raw.device) + 0.5) * STRIDE - 0.5 - points[..., axis, None]).abs() <= radius
        for axis, side in enumerate(raw.shape[:-3:-1])
    ]
    return torch.einsum("bkhw,bkh,bkw->bk", maps, near[1].to(maps), near[0].to(maps))


class OwnPlaces(nn.Module):
    """Windows [..., n, px, px], about each of the landmarks `which` [n], to [..., n, 3]: place (window px), score."""

    def __init__(self, zoom: Any, which: torch.Tensor, mm: float, px: int) -> None:
        super().__init__()
        self.zoom, self.which, self.mm, self.px = zoom, which, mm, px

    def forward(self, windows: torch.Tensor, *rank: torch.Tensor) -> torch.Tensor:
        """Where each window's own landmark is, by its maps and how probable it is that the first pass errs so."""
        step = self.mm / self.px  # mm of a window's pixel
        raw = self.zoom(windows.flatten(0, -3), *rank).unflatten(0, (-1, len(self.which)))
        raw = raw[:, torch.arange(len(self.which)), self.which]  # [B, n, h, w]
        prior = log_prior(raw.shape[-1], STRIDE * step, self.zoom.spread_mm[self.which])
        at = soft_points(raw + prior, "distribution", (self.px, self.px))
        found = torch.cat([at, mass_near(raw, at, NEAR_MM / step)[..., None]], -1)
        return found.view(*windows.shape[:-2], 3)


def look_again(
    points: NDArray[Any], scores: NDArray[Any], film: Any, graph: Any, mm: float, px: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """As `Refiner.refine`, of the one film of an exported model."""
    middle = np.round(points * 8) / 8
    windows = film.look(middle[0], mm, px)  # [K, px, px]
    rank = np.stack([np.cumsum(np.bincount(w.ravel(), minlength=256))[w] / w.size for w in windows])
    place = graph(windows.astype(np.float32) / 255, rank.astype(np.float32))[0]
    off = (place[:, :2] - (px - 1) / 2) * (mm / px) / film.mm_per_px
    return middle + off, np.minimum(scores, place[:, 2])


class Refiner:
    """The station: points are moved to where the second look finds them in windows about them.

    The middle of a window is rounded to an eighth of a pixel of the network's image: so grey levels, and what is found
    by them, do not hang on the last digits of the first pass.
    """

    def __init__(self, mm: float, px: int) -> None:
        self.mm, self.px = mm, px

    def refine(
        self, points: torch.Tensor, scores: torch.Tensor, look: Any, model: nn.Module
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Points [B, K, 2] in network px, moved; the score is the lower one of both looks. Untrained: as they are."""
        zoom: Any = getattr(model, "zoom", None)
        if zoom is None or not int(zoom.steps):
            return points, scores
        (B, K), step = points.shape[:2], self.mm / self.px  # mm of a window's pixel
        middle, found = (points * 8).round() / 8, []
        several = max(1, MAPS // (B * K))
        for first in range(0, K, several):
            which = torch.arange(first, min(first + several, K), device=points.device)
            found.append(OwnPlaces(zoom, which, self.mm, self.px)(look(middle[:, which], self.mm, self.px)))
        place = torch.cat(found, 1)
        off = (place[..., :2] - (self.px - 1) / 2) * step / look.mm_per_px[:, None, None]
        return middle + off.to(points), torch.minimum(scores, place[..., 2].to(scores))

    def twin(self, model: nn.Module, **_: Any) -> Twin | None:
        """The same for an exported model; None where the second look is untrained."""
        zoom: Any = getattr(model, "zoom", None)
        if zoom is None or not int(zoom.steps):
            return None
        network = OwnPlaces(zoom, torch.arange(len(zoom.spread_mm)), self.mm, self.px)
        windows, rank = torch.rand(2, len(zoom.spread_mm), self.px, self.px)
        return Twin(look_again, {"mm": self.mm, "px": self.px}, network=network, inputs=(windows, rank))


def carried(points: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Points [B, N, 2] through matrices [B, 3, 3]."""
    moved = F.pad(points.double(), (0, 1), value=1.0) @ matrix.double().mT
    return (moved[..., :2] / moved[..., 2:]).to(points)


class ZoomConfig(PluginConfig):
    """The windows' side over their pixels is the resolution of the second look, 0.3 mm by default."""

    weight: float = Field(default=1.0, ge=0, description="factor of the second look's loss; 0: there is no second look")
    begin: Duration = Field(default=Duration(0), description="epochs, or % of the run, before it starts to learn")
    windows: int = Field(default=4, ge=1, description="windows of each film in a step; each costs time")
    mm: float = Field(default=28.8, gt=0, description="side of a window, mm of the film")
    px: int = Field(default=96, ge=32, multiple_of=16, description="side of a window, pixels")
    width: int = Field(default=32, ge=1, description="channels of its head")
    sigma_mm: float = Field(default=0.5, gt=0, description="standard deviation of its targets, mm")
    decay: float = Field(default=0.99, ge=0, lt=1, description="share that a step keeps of the weights' average")
    spread_mm: float = Field(default=1.5, gt=0, description="displacement of windows before errors are known, mm")
    widen: float = Field(
        default=1.5, gt=0, description="displacements are so many times what the first pass errs on training films"
    )


class Zoom(Plugin[ZoomConfig]):
    """A second look: a small network finds each landmark again in a window of the film about its point.

    It is trained in the same run, on windows about the truth that are displaced as the first pass errs (Student's t of
    4 degrees of freedom), and every landmark in a window counts; its maps are then weighed by how probable it is that
    the first pass errs so. Refinement in cascades: Toshev & Szegedy 2014.
    """

    def __init__(self, config: ZoomConfig | None = None) -> None:
        super().__init__(config)
        self.spread_mm: torch.Tensor | None = None  # [K] of the displacement's components
        self.begin_epoch, self.on = 0.0, True

    @hookimpl
    def modules(self, run: Run) -> Mapping[str, nn.Module]:
        """Give the second network, of the run's backbone."""
        own = self.config
        if not own.weight:
            return {}
        backbone, px_per_mm = run.config.model.backbone, own.px / own.mm
        return {"zoom": SecondLook(backbone, len(run.landmarks), own.width, px_per_mm, own.spread_mm)}

    @hookimpl
    def build_refiner(self) -> Refiner:
        """Give the station."""
        return Refiner(self.config.mm, self.config.px)

    @hookimpl
    def run_start(self, run: Run, model: nn.Module) -> None:
        """Begin with the first pass's backbone, unless the weights are a trained second look's."""
        self.begin_epoch = self.config.begin.epochs(run.epochs)
        zoom: Any = getattr(model, "zoom", None)
        if zoom is not None:
            zoom.begin(model.backbone)

    @hookimpl
    def epoch_start(self, epoch: int, model: nn.Module) -> None:
        """Begin to look after `begin` epochs; tell the network how the first pass errs."""
        self.on = self.config.weight > 0 and epoch >= self.begin_epoch
        zoom: Any = getattr(model, "zoom", None)
        if zoom is not None and self.spread_mm is not None:
            zoom.spread_mm.copy_(self.spread_mm)

    @hookimpl
    def extras(
        self,
        sample: Sample,
        truth: tuple[Points, Flags],
        look: Callable[[Points, float, int], NDArray[np.float32]],
        rng: np.random.Generator,
    ) -> Mapping[str, Any]:
        """Send displaced windows: whose landmark each is about (-1: nobody's), its truth and the centre in film px."""
        (points, valid), own = truth, self.config
        which = np.full(own.windows, -1)
        some = rng.permutation(np.flatnonzero(valid))[: own.windows]
        which[: len(some)] = some
        spread = np.full(len(valid), own.spread_mm) if self.spread_mm is None else self.spread_mm.numpy()
        shift_mm = rng.standard_t(FREEDOM, (own.windows, 2)) * spread[which, None]
        true = np.where(which[:, None] < 0, np.nan, points[which])
        centre = true + shift_mm.clip(-own.mm / 3, own.mm / 3) / sample.mm_per_px
        seen = look(centre, own.mm, own.px) if self.on else np.zeros((own.windows, own.px, own.px), np.float32)
        return {"zoom_windows": seen, "zoom_which": which, "zoom_places": np.stack([true, centre])}

    @hookimpl
    def landmark_losses(
        self, batch: Batch, pred: torch.Tensor, model: nn.Module, outputs: Mapping[str, Any]
    ) -> Mapping[str, torch.Tensor]:
        """Give {"zoom": [B, K]}: half cross-entropy, half mm of distance, over all landmarks in the film's windows."""
        own = self.config
        if not self.on:
            return {}
        windows, which = batch.extras["zoom_windows"], batch.extras["zoom_which"]
        kind: torch.dtype = outputs["pyramid"][0].dtype  # the network's number format
        zoom: Any = model.zoom
        with torch.autocast(pred.device.type, kind, enabled=kind in (torch.bfloat16, torch.float16)):
            raw = zoom(windows.flatten(0, 1).float())
        # By its landmark's place: an elastic warp, which no matrix has, moves a window's centre along with it.
        true, centre = (carried(places, batch.film_to_network) for places in batch.extras["zoom_places"].unbind(1))
        index = which.clamp_min(0)[..., None].expand(-1, -1, 2)
        centre = batch.points.gather(1, index) + centre - true
        step = own.mm / own.px
        at = (batch.points[:, None] - centre[:, :, None]) * (batch.mm_per_px / step)[:, None, None, None]
        at = at.nan_to_num(nan=-1e3) + (own.px - 1) / 2  # [B, n, K, 2] window px
        inside = ((at >= 0) & (at <= own.px - 1)).all(-1) & batch.valid[:, None]
        inside &= ((which >= 0) & batch.valid.gather(1, index[..., 0]))[..., None]
        at, size = at.flatten(0, 1), (raw.shape[-2], raw.shape[-1])
        target = gaussians(at, size, "distribution", own.sigma_mm / step / STRIDE, STRIDE)
        entropy = raw.flatten(2).logsumexp(-1) - (target * raw).sum((-2, -1))
        off = soft_points(raw, "distribution", (own.px, own.px)) - at
        loss = (entropy + step * (off.square().sum(-1) + 1e-6).sqrt()) / 2
        loss = loss.view_as(inside).masked_fill(~inside, 0.0).sum(1) / own.windows
        return {"zoom": own.weight * loss}

    @hookimpl
    def step_end(self, model: nn.Module) -> None:
        """Take the new weights into the average."""
        if self.on:
            zoom: Any = model.zoom
            zoom.follow(self.config.decay)

    @hookimpl
    def epoch_end(self, errors_mm: torch.Tensor) -> None:
        """Learn how far the first pass errs at each landmark, from the median of its errors [N, K], mm."""
        new = errors_mm.double().nanmedian(0).values * self.config.widen / MEDIAN
        new = new.clamp(LEAST_MM, self.config.mm / 8)
        past = torch.full_like(new, torch.nan) if self.spread_mm is None else self.spread_mm
        self.spread_mm = moving_average(past, new, 0.5).nan_to_num(nan=self.config.spread_mm)

    def state_dict(self) -> dict[str, Any]:
        """The spread of displacements, and whether windows are looked at in this epoch."""
        return {"on": self.on, **({} if self.spread_mm is None else {"spread_mm": self.spread_mm})}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self.on, self.spread_mm = state["on"], state.get("spread_mm")
