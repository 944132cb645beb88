"""The files of a run: what each is called, how it is written and how it is read; nobody else knows.

| file | holds | module |
|---|---|---|
| `config.yaml` | the config as resolved, with where each value came from | `settings.py`, `config/dump.py` |
| `state.json` | what the run is doing, or how it ended; the format's number | `state.py` |
| `metrics.jsonl`, `metrics.json` | a line an epoch; the figures of each split | `records.py` |
| `adapt.json` | of a run that `ceph adapt` made: its origin, its films, its offsets | `records.py` |
| `environment.json`, `data_fingerprint.json` | machine and versions; the films seen | `records.py` |
| `hooks.json`, `plugins/` | what plugins cost; copies of those in files | `records.py` |
| `predictions-<split>.csv` | points, scores, truth, errors, radii | `predictions.py` |
| `held-out.json` | of films that did not train: errors, scores, how heads lie | `held_out.py` |
| `stages-<split>.csv` | the points that stations of decoding moved | `predictions.py` |
| `log.txt` | what the run said to a person | `log.py` |
| `checkpoints/`, `report.html` | weights and state; the page | `training/checkpoint.py`, `report/html.py` |
| `members.json`, `members/` | of a folder of several runs: which, and the runs | `members.py` |
| `.lock` | held by the process that trains | `place.py` |
"""

from ceph.runfolder.held_out import HeldOut, read_held_out, write_held_out
from ceph.runfolder.log import heard, logging_to, read_log
from ceph.runfolder.members import copy_config, copy_run, read_members, version, write_members
from ceph.runfolder.place import (
    CHECKPOINTS,
    CONFIG,
    DRAWN,
    HELD_OUT,
    INSIDE,
    REPORT,
    SHIPPED,
    created,
    default_name,
    has_checkpoint,
    is_adapted,
    is_locked,
    is_run,
    located,
    locked,
    writing,
)
from ceph.runfolder.predictions import (
    Predictions,
    predicted_splits,
    predictions_file,
    read_predictions,
    read_stages,
    stages_file,
    unseen_points,
    write_predictions,
    write_stages,
)
from ceph.runfolder.records import (
    NOT_LEARNED,
    UNTRAINED,
    add_figures,
    add_fingerprint,
    copy_plugins,
    environment,
    fingerprint,
    finite,
    labels,
    mapping,
    note_opened,
    number,
    read_adapted,
    read_cost,
    read_environment,
    read_figures,
    read_fingerprint,
    read_object,
    read_records,
    require_same_data,
    untrained,
    write_adapted,
    write_cost,
    write_environment,
    write_fingerprint,
    write_json,
    write_records,
    write_text,
)
from ceph.runfolder.settings import Setting, read_seed, read_settings, values_of
from ceph.runfolder.state import FORMAT, Doing, State, read_state, recorded, require_run, standing, write_state

__all__ = [
    "CHECKPOINTS",
    "CONFIG",
    "DRAWN",
    "FORMAT",
    "HELD_OUT",
    "INSIDE",
    "NOT_LEARNED",
    "REPORT",
    "SHIPPED",
    "UNTRAINED",
    "Doing",
    "HeldOut",
    "Predictions",
    "Setting",
    "State",
    "add_figures",
    "add_fingerprint",
    "copy_config",
    "copy_plugins",
    "copy_run",
    "created",
    "default_name",
    "environment",
    "fingerprint",
    "finite",
    "has_checkpoint",
    "heard",
    "is_adapted",
    "is_locked",
    "is_run",
    "labels",
    "located",
    "locked",
    "logging_to",
    "mapping",
    "note_opened",
    "number",
    "predicted_splits",
    "predictions_file",
    "read_adapted",
    "read_cost",
    "read_environment",
    "read_figures",
    "read_fingerprint",
    "read_held_out",
    "read_log",
    "read_members",
    "read_object",
    "read_predictions",
    "read_records",
    "read_seed",
    "read_settings",
    "read_stages",
    "read_state",
    "recorded",
    "require_run",
    "require_same_data",
    "stages_file",
    "standing",
    "unseen_points",
    "untrained",
    "values_of",
    "version",
    "write_adapted",
    "write_cost",
    "write_environment",
    "write_fingerprint",
    "write_held_out",
    "write_json",
    "write_members",
    "write_predictions",
    "write_records",
    "write_stages",
    "write_state",
    "write_text",
    "writing",
]
