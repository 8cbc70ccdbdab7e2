"""One thread, one seed and one fixed run of hypothesis: every run of the tests computes the same numbers."""

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def seeded_torch() -> None:
    torch.manual_seed(0)
