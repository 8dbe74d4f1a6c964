"""Lists of names that the command line reads: complete, and free of anything heavy."""

import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torchvision

from impure.pipeline.targets.target_names import TARGETS

NAME_MODULES = (
    "impure.pipeline.attacks.attack_names",
    "impure.pipeline.sources.source_names",
    "impure.pipeline.targets.target_names",
)


def test_names_come_without_heavy_imports():
    heavy = "{'torch', 'numpy', 'PIL', 'pyarrow', 'timm'}"
    script = f"import sys, {', '.join(NAME_MODULES)}; print(sorted({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("name", TARGETS)
def test_every_named_target_exists_in_its_library(name):
    library, _, architecture = TARGETS[name].partition(":")
    known = {
        "torchvision": torchvision.models.list_models(torchvision.models),
        "timm": timm.list_pretrained(),
    }
    assert Path(TARGETS[name]).is_file() or architecture in known[library]
