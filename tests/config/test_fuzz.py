"""Whatever is written, only a ConfigError comes out."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ceph.config.load import from_values, resolve
from ceph.errors import ConfigError

WORDS = [
    *("data", "model", "target", "loss", "train", "evaluate", "plugins", "extends", "size", "lr", "epochs", "scales"),
    *("kind", "path", "cache", "weights", "from", "quick", "mse", "heatmap", "stop_after", "landmarks", "1e-4", "0"),
    *("-1", "true", "null", ".inf", "'8'", '"', "'", "x.py", "./x.py:Y", ".yaml", "~", "/", "\\", "\0", "\ufeff", "é"),
]
MARKS = [
    *(": ", ":\n  ", ":\n", "\n", "\n  ", "\n    ", "- ", ", ", "{", "}", "[", "]", "&a ", "*a", "!!str ", "!x ", "? "),
    *("|\n", ">-\n", "#", "%YAML 1.1\n", "---\n", "...\n", "\t", "<<: ", "@", "`", "%", "\x85", "\u2028", "\r"),
]
YAMLISH = st.lists(st.sampled_from(WORDS) | st.sampled_from(MARKS), max_size=25).map("".join)
SETTINGS = st.tuples(st.sampled_from(["train.lr", "data.size", "plugins.a.from"]), YAMLISH).map("=".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


def only_config_errors(call) -> None:
    try:
        text = call().dump()
    except ConfigError as error:
        text = str(error)
    assert text


@given(st.one_of(YAMLISH, st.text(max_size=60)))
def test_any_file(text):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "c.yaml")
        file.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
        only_config_errors(lambda: resolve(file))


@given(st.binary(max_size=40))
def test_any_bytes(data):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "c.yaml")
        file.write_bytes(data)
        only_config_errors(lambda: resolve(file))


@given(st.lists(st.one_of(YAMLISH, st.text(max_size=20), SETTINGS), max_size=3))
def test_any_settings(texts):
    only_config_errors(lambda: resolve(settings=texts))


@given(st.dictionaries(st.sampled_from(WORDS[:8]), JSON, max_size=5))
def test_any_python_values(values):
    only_config_errors(lambda: from_values(values))


@given(st.lists(st.text(max_size=8) | st.sampled_from(WORDS), max_size=2), st.lists(st.text(max_size=8), max_size=2))
def test_any_names(plugins, without):
    only_config_errors(lambda: resolve(plugins=plugins, without=without))
