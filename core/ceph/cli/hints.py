"""What a person meant by a command or an option that there is not: near misses, and words of other programs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches

COMMANDS = {  # words of other programs -> ours
    "train": "run",
    "fit": "run",
    "resume": "run --resume RUN",
    "eval": "evaluate",
    "test": "evaluate RUN --split test",
    "score": "evaluate",
    "infer": "predict",
    "inference": "predict",
    "detect": "predict",
    "show": "view",
    "ls": "runs",
    "list": "runs",
    "ablation": "ablate",
    "init": "config init",
    "check": "data check",
    "convert": "data convert",
    "preview": "data preview",
    "synth": "data synth",
    "cache": "data cache",
}
KEYS = {  # likewise, -> the last part of a key of the config
    "learning_rate": "lr",
    "batch": "batch_size",
    "num_workers": "workers",
    "image_size": "size",
    "img_size": "size",
    "imgsz": "size",
    "spacing": "mm_per_px",
    "pixel_size": "mm_per_px",
    "mm": "mm_per_px",
    "gpu": "device",
    "model": "backbone",
    "amp": "precision",
}
OPTIONS = {"output": "--out", "output_dir": "--out", "save_dir": "--out", "name": "--out", "dataset": "--data"}
OPTIONS |= {"path": "--data", "data_path": "--data", "input": "--data", "weights": "--init-from", "config": "CONFIG"}


def for_command(name: str, commands: Collection[str]) -> str:
    """`did you mean 'ceph run'?`; empty where nothing is near."""
    if meant := COMMANDS.get(name.lower()):
        return f"did you mean `ceph {meant}`?"
    close = get_close_matches(name.lower(), [*commands, *COMMANDS], n=1, cutoff=0.6)
    return f"did you mean `ceph {COMMANDS.get(close[0], close[0])}`?" if close else ""


def for_option(option: str, words: Sequence[str], options: Collection[str]) -> str:
    """What was meant by an option, by the `words` of the call and the command's `options`; empty if nothing is near.

    A key of the config comes before an option that is merely spelt like it.
    """
    name = option.lstrip("-").replace("-", "_").lower()
    if "--set" in options:
        from ceph.config.starter import keys

        wanted = KEYS.get(name, name)
        every = [key for key, _ in keys()]
        if found := [key for key in every if wanted in (key, key.replace(".", "_"), key.rpartition(".")[2])]:
            return f"did you mean `--set {found[0]}={_value(option, words)}`?"
    ours = OPTIONS.get(name, "")
    if ours in options:
        return f"did you mean `{ours}`?"
    if close := get_close_matches(f"--{name.replace('_', '-')}", [o for o in options if o.startswith("--")], n=1):
        return f"did you mean `{close[0]}`?"
    if "--set" in options and (close := get_close_matches(name, {key.rpartition(".")[2]: key for key in every}, n=1)):
        key = next(key for key in every if key.rpartition(".")[2] == close[0])
        return f"did you mean `--set {key}={_value(option, words)}`?"
    return ""


def _value(option: str, words: Sequence[str]) -> str:
    """What was given to an option: `--epochs=3` or `--epochs 3`."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
        if word == option and following and not following.startswith("-"):
            return following
    return "VALUE"
