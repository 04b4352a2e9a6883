"""What all tests share."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings

# Examples are the same in every run, and a slow machine is no failure.
settings.register_profile("delit", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("delit")


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)
