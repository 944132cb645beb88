"""The config's sections as frozen models: every key, its type, unit, default and meaning; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from ceph.config.duration import Duration
from ceph.data.spacing import hint, plausible

Kind = Literal["distribution", "heatmap"]
Decoder = Literal["argmax", "dark", "local-soft-argmax"]
Name = Annotated[str, Field(min_length=1)]
Side = Annotated[int, Field(ge=16)]
Scale = Annotated[float, Field(gt=0)]


class ReadOnly(dict[str, Any]):
    """A dict that cannot be changed; still JSON-able, comparable and picklable."""

    def _refuse(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise TypeError("the config is read-only")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[ReadOnly], tuple[dict[str, Any]]]:
        return ReadOnly, (dict(self),)


def read_only(value: Any) -> Any:
    """Plain values with every mapping read-only and every list a tuple."""
    if isinstance(value, Mapping):
        return ReadOnly({str(key): read_only(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return tuple(read_only(item) for item in value)
    return value


def _once(names: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"names {', '.join(map(repr, twice))} more than once")
    return names


def _spacing(mm_per_px: float) -> float:
    if not plausible(mm_per_px):
        raise ValueError(f"{mm_per_px:g} is no spacing of a film: {hint(mm_per_px)}")
    return mm_per_px


def _named_apart(sets: tuple[SetConfig, ...]) -> tuple[SetConfig, ...]:
    if not sets:
        raise ValueError("names no set")
    _once(tuple(each.name for each in sets))
    return sets


class Section(BaseModel):
    """Base of every section: frozen, strict types, unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=(), validate_default=True
    )


class SetConfig(Section):
    """One of several data sets."""

    name: Name = Field(description="what the set is called in the names of its films, and in messages")
    path: Path = Field(description="folder of the data set")
    format: Name = Field("auto", description="layout of the folder; auto: found by looking at it")
    mm_per_px: float | None = Field(
        None, gt=0, description="millimetres per pixel of films whose spacing the set does not give"
    )
    truth: Name | None = Field(None, description="whose points are the truth: as data.truth, which null means")


def _kind_of(path: Any) -> str:
    return "several sets" if isinstance(path, (list, tuple)) else "a path"  # no names of keys: errors have them


Places = Annotated[
    Annotated[Path, Tag("a path")]
    | Annotated[tuple[SetConfig, ...], AfterValidator(_named_apart), Tag("several sets")],
    Discriminator(_kind_of),
]


class AlsoConfig(Section):
    """A further set that is scored with each validation."""

    path: Path = Field(description="folder of the data set")
    split: Name | None = Field(None, description="the split to score; null: validation, or all films where it has none")
    format: Name = Field("auto", description="layout of the folder; auto: found by looking at it")
    mm_per_px: float | None = Field(
        None, gt=0, description="millimetres per pixel of films whose spacing the set does not give"
    )

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, (str, Path)) else value


class FoldConfig(Section):
    """One fold of a cross-validation: `ceph folds` sets this."""

    of: int = Field(ge=2, description="how many folds the films of train and validation are divided into")
    by: Literal["group", "machine", "set"] = Field(
        "group", description="what is never divided; of machines and of sets each is a fold"
    )
    number: int | None = Field(
        None,
        ge=0,
        description="the fold that is held out as validation, from 0, while all others train; null: none, and all "
        "are the split out-of-fold",
    )

    @model_validator(mode="after")
    def _among_them(self) -> FoldConfig:
        if self.number is not None and self.number >= self.of:
            raise _cross("number", f"must be less than data.fold.of ({self.of}), not {self.number}", "of")
        return self


class DataConfig(Section):
    """Which films, read how, at which size."""

    path: Places | None = Field(
        None,
        description="folder of the data set; or a list of several, each with name, path and perhaps format, mm_per_px "
        "and truth; null: the embedded synthetic set",
    )
    films_table: Path | None = Field(
        None,
        description="a ceph-films.csv (film, split, group, mm_per_px, ...) that lies elsewhere; null: beside the films",
    )
    format: Name = Field(
        "auto", description="layout of the folder (aariz, isbi2015, ...); auto: found by looking at it"
    )
    truth: Name = Field("mean", description="whose points are the truth: mean, or a reader of the set, such as senior")
    landmarks: Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(_once)] | None = Field(
        None, description="symbols of the landmarks to train, in order; null: all that the set has"
    )
    doubtful_points: Literal["refuse", "train"] = Field(
        "refuse",
        description="where most points of a film or of a landmark cannot be right (outside the film, all at one place, "
        "all in one quarter of most films): refuse to train, or train all the same",
    )
    mm_per_px: Annotated[float, AfterValidator(_spacing)] | None = Field(
        None,
        gt=0,
        description="millimetres per pixel of films whose spacing the set does not give; null: that is an error",
    )
    size: tuple[Side, Side] = Field(
        (512, 416), description="[height, width] in pixels of the network's input; films are letterboxed into it"
    )
    cache: Name = Field(
        "auto", description="folder for decoded films; auto: the user's cache folder; none: decode films every time"
    )
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = Field(
        "auto", description="processes that load films; 0: load in the main process; auto: from the number of cores"
    )
    augmentation: Literal["default", "none"] = Field(
        "default", description="the core's own mild rotation, scaling, shift, gamma and contrast of training films"
    )
    unmarked: Path | None = Field(
        None,
        description="folder of films that nobody marked; they train where a plugin uses them; null: none",
    )
    unmarked_share: float = Field(0.5, ge=0, lt=1, description="share of each batch that unmarked films make up")
    fold: FoldConfig | None = Field(
        None, description="one fold of a cross-validation in place of the set's own train and validation; null: none"
    )
    synthetic_films: int = Field(64, ge=8, description="number of films of the embedded synthetic set")

    @property
    def place(self) -> str:
        """Where the films are, for a person."""
        if isinstance(self.path, tuple):
            return ", ".join(str(each.path) for each in self.path)
        return str(self.path or "the embedded set")


class ModelConfig(Section):
    """The network: a timm backbone and a light multi-scale head."""

    backbone: Name = Field("tf_efficientnet_lite0", description="any timm model that has features_only")
    weights: Name = Field(
        "auto",
        description="first weights of the backbone; auto: offline where it fits, else hub; hub: ImageNet weights "
        "from the hub; offline: the pip-installed EfficientNet-Lite0; drawn: the whole network of the run that ships, "
        "landmarks by their symbols; none: random; or a file (with a slash or suffix)",
    )
    stride: Literal[2, 4] = Field(4, description="network pixels per heatmap pixel")
    width: int = Field(64, ge=1, description="channels of the head")


class TargetConfig(Section):
    """What the network is asked to draw, and how points are read from it."""

    kind: Literal["auto", "distribution", "heatmap"] = Field(
        "auto", description="distribution (sums to 1) or heatmap (peak 1); auto: what the loss needs"
    )
    sigma_px: float | None = Field(
        None,
        gt=0,
        description="standard deviation of the Gaussian target, in heatmap pixels; null: 0.5 for a distribution, "
        "1.5 for a heatmap",
    )
    decoder: Decoder = Field("dark", description="how a point is read from a map")


class LossConfig(Section):
    """The criterion of one landmark's map."""

    name: Literal["cross-entropy", "adaptive-wing", "mse", "focal"] = Field(
        "cross-entropy", description="cross-entropy trains distributions; the others train heatmaps"
    )

    @property
    def kind(self) -> Kind:
        """The kind of target that this loss trains."""
        return "distribution" if self.name == "cross-entropy" else "heatmap"


class TrainConfig(Section):
    """How long, how fast, on what."""

    epochs: int = Field(60, ge=1, description="passes over the training films; the schedule spans them")
    stop_after: int | None = Field(
        None, ge=1, description="end after this many epochs and leave the schedule as it is; null: train all epochs"
    )
    schedule_from: int = Field(
        0,
        ge=0,
        description="the epoch in which the schedule of the rate begins; what `--resume` with `--set train.epochs=N` "
        "writes, never set by hand",
    )
    batch_size: int = Field(8, ge=1, description="films per batch, over all devices together")
    lr: float = Field(1e-3, gt=0, description="peak learning rate, reached at the end of the warm-up")
    weight_decay: float = Field(1e-4, ge=0, description="decoupled weight decay of AdamW")
    warmup_epochs: Duration = Field(
        Duration(1), description="epochs, or % of the run, in which the learning rate rises to its peak"
    )
    precision: Literal["auto", "bf16", "fp16", "fp32"] = Field(
        "auto", description="number format of the network's arithmetic; auto: the fastest that the device does well"
    )
    accumulate: int = Field(1, ge=1, description="batches whose gradients are averaged into one optimiser step")
    clip_norm: float = Field(5.0, ge=0, description="largest norm of the gradient; 0: no clipping")
    seed: int = Field(0, ge=0, le=2**63 - 1, description="seed of everything random in the run")
    early_stopping: int | None = Field(
        None, ge=1, description="end after this many epochs without improvement of `monitor`; null: never"
    )
    monitor: Name = Field(
        "mre_mm", description="validation metric that picks the best checkpoint; last: none, the last epoch is the best"
    )
    constant_pixels: bool = Field(
        default=False, description="keep the pixels per batch constant where a plugin changes the size of batches"
    )
    check_every: int = Field(20, ge=1, description="optimiser steps between looks at the flags for NaN on the device")
    non_finite: Literal["stop", "skip"] = Field(
        "stop",
        description="a step whose loss or gradient is NaN or infinite ends the run, or is skipped, up to ten in a row; "
        "skip waits for the device at each step",
    )
    sync_batchnorm: bool = Field(
        default=True,
        description="batch norms take their statistics over the whole batch where several processes train; "
        "false: over each process's own films, and the first one's are kept",
    )
    cuda_graphs: bool = Field(
        default=True,
        description="on a GPU, replay the network's pass as a CUDA graph; the same bits. Where it cannot be (several "
        "processes, `accumulate`, a network that a plugin builds or looks into) kernels go one by one",
    )
    compile: bool = Field(
        default=False,
        description="compile the network and the loss: minutes at the start; on the CPU where it was measured, steps "
        "were slower: try it with `ceph bench`",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="where to compute; auto: the best there is"
    )

    @model_validator(mode="after")
    def _stop_within(self) -> TrainConfig:
        if self.stop_after is not None and self.stop_after > self.epochs:
            raise _cross("stop_after", f"must be at most train.epochs ({self.epochs}), not {self.stop_after}", "epochs")
        if self.schedule_from >= self.epochs:
            what = f"must be less than train.epochs ({self.epochs}), not {self.schedule_from}"
            raise _cross("schedule_from", what, "epochs")
        return self


class EvaluateConfig(Section):
    """How predictions are made for validation and evaluation."""

    scales: tuple[Scale, ...] = Field(
        (1.0,),
        min_length=1,
        description="factors of data.size at which films are predicted and activations averaged; while training: 1",
    )
    decoder: Decoder | None = Field(None, description="how a point is read from a map; null: as target.decoder")
    batch_size: int = Field(16, ge=1, description="films predicted at a time")
    also: Annotated[Mapping[Name, AlsoConfig], AfterValidator(ReadOnly)] = Field(
        default_factory=dict,
        description="further sets that are scored with each validation, by name: a folder, or path with split, format "
        "and mm_per_px; train.monitor names their figures also.NAME.mre_mm",
    )


class Config(Section):
    """The whole resolved config of a run, frozen all the way down."""

    data: DataConfig = Field(default_factory=DataConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    target: TargetConfig = Field(default_factory=TargetConfig)
    loss: LossConfig = Field(default_factory=LossConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)
    plugins: Annotated[Mapping[str, Mapping[str, Any]], AfterValidator(read_only)] = Field(
        default_factory=dict, description="plugins that are on: name -> settings; `from: ./file.py` for one in a file"
    )

    @property
    def target_kind(self) -> Kind:
        """`target.kind` with auto resolved to what the loss needs."""
        return self.loss.kind

    @property
    def sigma_px(self) -> float:
        """`target.sigma_px` with null resolved to what suits the kind of target (docs/decisions/005)."""
        return self.target.sigma_px or {"distribution": 0.5, "heatmap": 1.5}[self.target_kind]

    @property
    def decoder(self) -> Decoder:
        """The decoder of evaluation: `evaluate.decoder`, else `target.decoder`."""
        return self.evaluate.decoder or self.target.decoder

    @model_validator(mode="after")
    def _kind_fits_loss(self) -> Config:
        if self.target.kind not in ("auto", self.loss.kind):
            raise _cross(
                "target.kind",
                f"is {self.target.kind}, but the loss {self.loss.name} needs {self.loss.kind}; leave it auto",
                "loss.name",
            )
        return self


def _cross(key: str, what: str, *others: str) -> PydanticCustomError:
    """An error about `key` of this section that also involves `others`; the loader finds their places."""
    return PydanticCustomError("cross_check", "{what}", {"what": what, "keys": [key, *others]})
