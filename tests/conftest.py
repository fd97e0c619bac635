"""Settings of all tests: deterministic examples, one thread."""

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

# With import-mode=importlib pytest adds no path; helpers that tests share lie beside this file.
sys.path.append(str(Path(__file__).parent))

settings.register_profile(
    "simgraph",
    derandomize=True,
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("simgraph")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
