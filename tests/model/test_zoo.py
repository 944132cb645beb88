"""What is large is found without opening all of it, and all of it is there once it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOOK = """
import sys
import ceph.run.predictions
from ceph.model import zoo
from ceph.training.runtime import start
start("cpu")
assert zoo.is_model("tf_efficientnet_lite0.in1k")
zoo.create_model("tf_efficientnet_lite0", features_only=True, pretrained=False, in_chans=1)
print(*sorted(name for name in SLOW if name in sys.modules))
from timm.models._builder import has_hf_hub
assert has_hf_hub() and "huggingface_hub.hf_api" in sys.modules, "it opens when it is called"
from timm.models._hub import HF_WEIGHTS_NAME, has_hf_hub as real
assert HF_WEIGHTS_NAME and real is not has_hf_hub
"""
OPEN = """
import timm
from ceph.model import zoo
from torchvision import ops
assert timm.is_model("resnet18") and not zoo.is_model("resnet5O") and ops.roi_align
print(len(zoo.list_models()) > 500)
"""
SLOW = (
    "torch._dynamo",
    "timm.models.resnet",
    "timm.data.loader",
    "albumentations",
    "accelerate",
    "huggingface_hub.hf_api",
    "matplotlib",
    "wandb",
)


@pytest.mark.parametrize(("code", "said"), [(LOOK, ""), pytest.param(OPEN, "True", marks=pytest.mark.slow)])
def test_what_predicts_imports_one_file_of_timm_and_nothing_that_trains_but_all_of_it_is_there(code, said):
    done = subprocess.run([sys.executable, "-c", code.replace("SLOW", repr(SLOW))], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{said}\n"), done.stderr
