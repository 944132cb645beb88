"""The command itself: its help, its exit codes, how errors print, and what the shell completes."""

from __future__ import annotations

import pytest
from tests.config.fakes import install

from ceph.cli import app
from ceph.cli.console import exit_code, print_error, table
from ceph.cli.options import complete_key, complete_plugin, complete_preset, file_and_folder
from ceph.errors import ConfigError, Interrupted, Place, PluginError, Problem


def test_help_names_every_command_and_how_to_begin(capsys):
    assert app.main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, (_, line) in app.COMMANDS.items():
        assert f"  {name}" in text
        assert line in text
    assert "ceph run --preset quick --data ./films --plugin hard-mining\n" in text
    assert "--install-completion" in text


def test_version(capsys):
    from ceph import __version__

    assert app.main(["--version"]) == 0
    assert capsys.readouterr().out == f"ceph {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["nope"], ["config", "nope"], ["config", "show", "--nope"], ["config", "show", "--seed", "x"]]
)
def test_a_wrong_call_exits_with_2_and_one_message(arguments, capsys):
    assert app.main(arguments) == 2
    text = capsys.readouterr()
    assert (text.out, text.err.count("Error:")) == ("", 1)
    assert "Traceback" not in text.err


def test_errors_print_as_blocks_without_a_traceback(capsys):
    place = Place("c.yaml", 3, 7, "  lr: 0")
    print_error(ConfigError([Problem("is wrong", "train.lr", place, "try another"), Problem("also")]))
    assert capsys.readouterr().err == (
        "error: c.yaml:3:7: train.lr: is wrong\n    3 |   lr: 0\n      |       ^\n  hint: try another\nerror: also\n"
    )


def test_exit_codes():
    errors = [ConfigError("x"), PluginError("x"), Interrupted("x"), Interrupted("x", signal=15)]
    assert [exit_code(error) for error in errors] == [2, 1, 130, 143]


def test_an_interrupted_command_ends_with_its_signal(monkeypatch, capsys):
    def load_command(name):
        raise Interrupted("stopped; go on with --resume runs/1", signal=15)

    monkeypatch.setattr(app, "load_command", load_command)
    assert app.main(["run"]) == 143
    assert capsys.readouterr().err == "error: stopped; go on with --resume runs/1\n"


def test_a_table_wraps_its_last_column():
    text = table([("a", "one two three four five six seven eight")], header=("NAME", "WHAT"), width=36)
    assert text.splitlines() == ["NAME  WHAT", "a     one two three four five six", "      seven eight"]


def test_completion(tmp_path, monkeypatch):
    install(tmp_path / "site", monkeypatch, name="ohkm-loss")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.py").write_text("")
    (tmp_path / "my.txt").write_text("")
    assert complete_preset("qu") == ["quick"]
    assert complete_plugin("ohkm") == [("ohkm-loss", "Only the hardest landmarks count.")]
    assert complete_plugin("./m") == [("./my.py", "")]
    assert complete_plugin("./s") == [("./site/", "")]
    assert [key for key, _ in complete_key("train.w")] == ["train.weight_decay=", "train.warmup_epochs="]


def test_the_shell_completes_commands_and_values(monkeypatch, capsys):
    def completed(words: str) -> list[str]:
        monkeypatch.setenv("_CEPH_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
        app.main([])
        return capsys.readouterr().out.split()

    assert completed("ceph conf") == ["config"]
    assert completed("ceph config s") == ["show", "schema"]
    assert completed("ceph config show --preset d") == ["demo"]


MEANT = {
    "train --data x": "No such command 'train'; did you mean `ceph run`?",
    "evalute": "No such command 'evalute'; did you mean `ceph evaluate`?",
    "run --epochs 3": "No such option: --epochs; did you mean `--set train.epochs=3`?",
    "run --lr=1e-4": "No such option: --lr; did you mean `--set train.lr=1e-4`?",
    "run --mm-per-px 0.1": "did you mean `--set data.mm_per_px=0.1`?",
    "run --learning-rate": "did you mean `--set train.lr=VALUE`?",
    "run --epoch 3": "did you mean `--set train.epochs=3`?",
    "run --plugins x": "did you mean `--plugin`?",
    "predict --output x": "did you mean `--out`?",
}


@pytest.mark.parametrize("call", MEANT)
def test_near_misses_of_commands_and_options_get_a_hint(call, capsys):
    assert app.main(call.split()) == 2
    assert MEANT[call] in " ".join(capsys.readouterr().err.split())


def test_a_data_folder_is_given_as_an_argument_or_by_data(tmp_path):
    assert file_and_folder(tmp_path, None) == (None, tmp_path)
    assert file_and_folder(None, tmp_path) == (None, tmp_path)
    assert file_and_folder(tmp_path / "a.yaml", tmp_path) == (tmp_path / "a.yaml", tmp_path)
    with pytest.raises(ConfigError, match="two folders are given"):
        file_and_folder(tmp_path, tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ConfigError, match="is a run folder"):
        file_and_folder(tmp_path, None)
