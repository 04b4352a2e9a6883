"""training.train_delit_wan with a checkpoint after every step, for the harness: else there is one in ten minutes.

python -m tests.faults.train_heads --wan_vae_checkpoint P …
"""

from __future__ import annotations

from functools import partial

from training import train_delit_wan
from training.command_line import run_command
from training.heads.settings import RunSettings

if __name__ == "__main__":
    train_delit_wan.RunSettings = partial(RunSettings, save_minutes=0.0)
    run_command(train_delit_wan.train, train_delit_wan.parse_arguments())
