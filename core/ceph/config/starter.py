"""The commented file that `ceph config init` writes: every key with its default and meaning, from the models."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from ceph.config.dump import flow
from ceph.config.layers import preset_names
from ceph.config.models import Config

_WIDTH = 118
_HEAD = """\
# The config of a ceph run. Keys that are commented out show their defaults; `ceph config show` prints all of
# them as resolved, with where each comes from. Precedence: defaults < extends < this file < --preset < flags.

# What this file builds on: one of {presets}, or another file (./other.yaml).
extends: quick
"""
_PLUGINS = """
# Plugins that are on, each with its settings; `ceph plugins list` names them, `ceph plugins show NAME` describes one.
plugins: {}
  # hard-mining: {}             # an installed plugin, with its defaults
  # my-loss:                    # one in a file, relative to this file
  #   from: ./my_loss.py
"""


def keys() -> Iterator[tuple[str, FieldInfo]]:
    """Every key of the sections, dotted, with its field."""
    for section, info in Config.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            for key, field in info.annotation.model_fields.items():
                yield f"{section}.{key}", field


def starter() -> str:
    """The text of the file; it reads back to the preset that it extends."""
    lines = [_HEAD.format(presets=", ".join(preset_names()))]
    section = ""
    for dotted, field in keys():
        home, _, key = dotted.partition(".")
        if home != section:
            info = Config.model_fields[home].annotation
            lines.append(f"\n# {(info.__doc__ or '').strip()}\n{home}:\n")
            section = home
        default = flow(to_jsonable_python(field.get_default(call_default_factory=True)))
        text = " ".join((field.description or "").split())
        head = f"  # {key}: {default}"
        wrapped = textwrap.wrap(text, _WIDTH - 38)
        lines.append(f"{head:<35} # {wrapped[0]}\n")
        lines += [f"  #{'':<33}# {more}\n" for more in wrapped[1:]]
    return "".join(lines) + _PLUGINS
