"""Each check finds the plugin that breaks its rule, and no other check complains of it; sound plugins pass all."""

from __future__ import annotations

import importlib.util
import inspect
import subprocess
import sys

import pytest
from tests.faults.table import WRONG as FAULTS
from tests.faults.table import source
from tests.testing import broken

import ceph
from ceph.hooks import discovery
from ceph.hooks.misuse import hooks_of
from ceph.hooks.specs import VERBS
from ceph.plugin import hookimpl
from ceph.testing import ConformanceWarning, checks, runs, stage, suite
from ceph.testing.promises import WRONG

NEUTRAL = {
    "weighted-loss": {"weights": {}},
    "hard-mining": {"films": False, "landmarks": False},
    "multi-scale": {"scales": [1.0]},
    "heavy-augmentation": {"strength": 0},
    "zoom": {"windows": 2, "px": 32, "mm": 20, "weight": 0},
}
# Readers are tried on folders, and what exits the process is told in a run alone.
ELSEWHERE = [f for f in FAULTS if f.kind.startswith("exit") or (f.hook == "dataset_formats" and "in use" in f.kind)]
CHEAP = [*broken.SETTINGS, *broken.ANSWERS, *broken.BEHAVIOUR, *broken.FILMS]


# In the short form the check of a broken rule is tried alone; that no other one fails of it takes all of them.
SHORT_OR_ALL = pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["own", "all"])


def failures(plugin, *, trains=False, only="", **arguments):
    """The checks that fail, with their messages; `only`: of the one of that name."""
    found = {}
    for check in checks(plugin, **arguments):
        if check.trains == trains and only in ("", check.id):
            try:
                check()
            except AssertionError as error:
                found[check.id] = str(error)
    return found


def label(value):
    return value if isinstance(value, str) else value.__name__


@SHORT_OR_ALL
@pytest.mark.parametrize(("check", "plugin"), CHEAP, ids=label)
def test_a_plugin_that_breaks_a_rule_fails_its_check_and_no_other(check, plugin, every):
    found = failures(plugin, only="" if every else check)
    assert list(found) == [check]
    name = discovery.kebab_case(plugin.__name__)
    message = found[check]
    assert f"plugin '{name}'" in message or f"plugin {name}" in message
    assert "hint: " in message
    if len(hooks_of(plugin)) == 1 and check not in ("changes-pickle", "settings-construct") and "settings" not in check:
        assert hooks_of(plugin)[0] in message or "state_dict" in message


def faulty(fault, tmp_path):
    """The plugin of a fault, in a file."""
    (tmp_path / "mine.py").write_text(source(fault.hook, fault.body))
    return discovery.load(str(tmp_path / "mine.py")).plugin_class


def named(faults):
    return [pytest.param(fault, id=f"{fault.hook}-{fault.kind.replace(' ', '-')}") for fault in faults]


@SHORT_OR_ALL
@pytest.mark.parametrize("fault", named(f for f in FAULTS if f.kind == "wrong type"))
def test_a_wrong_type_of_any_hook_fails_its_check_and_no_other(fault, tmp_path, every):
    its = f"answers-{fault.hook}"
    found = failures(faulty(fault, tmp_path), only="" if every else its)
    assert list(found) == [its]
    assert all(word in found[its] for word in ("mine", fault.hook, fault.words, "hint: "))


@pytest.mark.parametrize("fault", named(f for f in FAULTS if f.kind != "wrong type" and f not in ELSEWHERE))
def test_a_wrong_answer_of_any_hook_fails_its_check(fault, tmp_path):
    on_films = fault.hook == "augmentations" and fault.kind in ("raise in use", "wrong shape", "wrong dtype")
    its = "transforms-keep-films" if on_films else f"answers-{fault.hook}"
    (check,) = (c for c in checks(faulty(fault, tmp_path)) if c.id == its)
    with pytest.raises(AssertionError, match=f"(?s)mine.*{fault.hook}.*hint: "):
        check()


@SHORT_OR_ALL
@pytest.mark.parametrize(("check", "plugin"), broken.TRAINING, ids=label)
def test_a_plugin_that_fails_in_training_only_is_found_there(check, plugin, every):
    assert not every or failures(plugin) == {}
    (found,) = (c for c in suite(plugin, neutral={}) if c.id == check)
    with pytest.raises(AssertionError, match=r"(?s)multi-scale|plugin '.*hint: "):
        found()


@pytest.mark.parametrize("plugin", broken.SOUND, ids=label)
def test_a_sound_plugin_passes_every_cheap_check(plugin):
    assert failures(plugin) == {}


@pytest.mark.parametrize("others", [("ema", "coordinate-loss"), pytest.param(runs.built_in(), marks=pytest.mark.slow)])
def test_a_sound_plugin_passes_every_check_that_trains(others, monkeypatch):
    monkeypatch.setattr(runs, "built_in", lambda: others)
    assert failures(broken.Ones, trains=True, neutral={}) == {}


def test_every_hook_and_every_cheap_rule_has_a_plugin_that_breaks_it():
    broken_rules = {check for check, _ in [*CHEAP, *broken.TRAINING]} | {"settings-are-described"}
    broken_rules |= {f"answers-{fault.hook}" for fault in FAULTS if fault.kind == "wrong type"}
    everything = {check.id for check in suite(broken.Ones)}
    beside = {name for name in everything if name.startswith("trains-beside-")}
    assert everything - beside == {name for name in broken_rules if not name.startswith("trains-beside-")}
    assert {f"answers-{hook}" for hook in VERBS} < everything
    assert {*broken.WRONG_ANSWERS, *WRONG} <= set(VERBS)


def test_a_setting_without_a_description_is_a_warning():
    (check,) = (c for c in checks(broken.NoDescription) if c.id == "settings-are-described")
    with pytest.warns(ConformanceWarning, match="no description of strength"):
        check()


def test_a_failure_that_is_expected_passes_with_its_reason_until_it_is_mended():
    known = {"steps-do-not-wait": "reads the loss for now"}
    (check,) = (c for c in checks(broken.ReadsLoss, expected=known) if c.id == "steps-do-not-wait")
    check()
    assert check.run() == "fails, as is known: reads the loss for now"
    (check,) = (c for c in checks(broken.KeepsOnDevice, expected=known) if c.id == "steps-do-not-wait")
    with pytest.raises(AssertionError, match="passes now"):
        check()
    with pytest.raises(ValueError, match="did you mean 'steps-do-not-wait'"):
        checks(broken.Ones, expected={"step-do-not-wait": "?"})


def test_checks_that_do_not_apply_are_left_out_and_say_why():
    reasons = {check.id: check.left_out for check in suite(broken.Ones)}
    assert reasons["answers-warps"] == "it does not answer warps"
    assert "neutral" in reasons["neutral-changes-nothing"]
    assert not reasons["answers-landmark_weights"]
    assert {check.id for check in checks(broken.Ones)} == {name for name, reason in reasons.items() if not reason}


def test_a_plugin_that_only_observes_is_no_company_to_train_beside():
    reasons = {check.id: check.left_out for check in suite(broken.Ones)}
    assert all("only observes" in reasons[f"trains-beside-{name}"] for name in SINKS)
    assert not reasons["trains-beside-ema"]


class Needs(broken.Ones):
    requires = ("coordinate-loss",)


class NeedsWhatIsNotThere(broken.Ones):
    requires = ("not-there",)


class AnotherCriterion(broken.Ones):
    @hookimpl
    def build_criterion(self, default):
        return default()


def test_what_a_plugin_requires_is_in_its_company_too():
    reasons = {check.id: check.left_out for check in suite(Needs)}
    assert "itself, or one that it requires" in reasons["trains-beside-coordinate-loss"]
    assert not reasons["trains-beside-ema"]
    assert failures(Needs, only="answers-landmark_weights") == {}
    both = "another-criterion and coordinate-loss answer build_criterion, which takes one answer"
    assert {c.id: c.left_out for c in suite(AnotherCriterion)}["trains-beside-coordinate-loss"] == both


def test_what_a_plugin_requires_and_is_not_installed_names_both():
    found = failures(NeedsWhatIsNotThere)
    assert "plugin 'needs-what-is-not-there' " in str(found)
    assert " requires the plugin not-there: there is no plugin" in str(found)


def test_the_settings_given_are_those_that_are_tested():
    settings = {"table": "weights.csv"}
    assert failures(broken.NoDefault, settings=settings, only="settings-construct") == {}
    unknown = failures(broken.NoDefault, settings={**settings, "tabel": "x"})
    assert list(unknown) == ["settings-construct"]
    assert "tabel" in unknown["settings-construct"]


def test_a_plugin_has_the_name_of_its_entry_point_or_class():
    from ceph_plugins.hard_mining import HardMining

    assert checks(HardMining)[0].subject.name == "hard-mining"
    assert checks(broken.GlobalDraws)[0].subject.name == "global-draws"
    assert checks(broken.GlobalDraws, name="dice")[0].subject.name == "dice"


def test_every_check_has_an_id_and_a_sentence():
    for check in suite(broken.Ones):
        assert str(check) == check.id
        assert check.description.endswith(".")
        assert check.id.replace("_", "-") == discovery.kebab_case(check.id)


def built_in():
    """All but `presence`, which refuses the kit's films: none of them says that a landmark is absent."""
    return [p.name for p in discovery.installed() if p.distribution == "ceph-trainer" and p.name != "presence"]


SINKS = ("tensorboard", "trackio", "wandb", "mlflow")  # each has a package that an extra brings
HOSTED = SINKS[1:]  # theirs take seconds to begin a run


def loaded(name):
    if name in SINKS and importlib.util.find_spec(name) is None:
        pytest.skip(f"needs the extra: pip install 'ceph-trainer[{name}]'")
    return discovery.load(name).plugin_class


def sink_marks(name, *others):
    """A sink's package may warn of what it itself uses."""
    return [*others, *([pytest.mark.filterwarnings("ignore::DeprecationWarning")] if name in SINKS else [])]


CHEAPLY = [pytest.param(n, marks=sink_marks(n, *([pytest.mark.slow] if n in HOSTED else []))) for n in built_in()]


@pytest.fixture(scope="module")
def needed(tmp_path_factory):
    """The settings that a plugin cannot be without, or that make its checks cheap."""
    run = ceph.train(stage.values({"epochs": 1}), out=tmp_path_factory.mktemp("finished") / "run")
    return {"distill": {"runs": [str(run.folder)]}, "zoom": {"px": 32, "mm": 20, "windows": 1, "width": 8}}


@pytest.mark.parametrize("name", CHEAPLY)
def test_the_built_in_plugins_pass_every_cheap_check(name, tmp_path, monkeypatch, needed):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    assert failures(loaded(name), name=name, settings=needed.get(name)) == {}


@pytest.mark.parametrize("name", [pytest.param(n, marks=sink_marks(n, pytest.mark.slow)) for n in built_in()])
def test_the_built_in_plugins_pass_every_check_that_trains(name, tmp_path, monkeypatch, needed):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    settings = needed.get(name)
    assert failures(loaded(name), trains=True, name=name, settings=settings, neutral=NEUTRAL.get(name)) == {}


@pytest.mark.slow
def test_the_kit_imports_without_pytest():
    code = "import sys, ceph.testing; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_author_needs_three_lines():
    import ceph.testing

    usage = inspect.getdoc(ceph.testing).split("import checks\n", 1)[1]
    lines = [line for line in usage.splitlines() if line.startswith("    ") and "import" not in line and line.strip()]
    assert len(lines) == 3
