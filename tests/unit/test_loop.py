"""The parts of a training run: schedule, average, checkpoints, the watch over the loss, requests to stop."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from delit_models.errors import DelitError
from tests.unit.disk_limits import full_disk_after
from training.loop.average import Average
from training.loop.checkpoints import LAST, PREVIOUS, load_checkpoint, save_checkpoint
from training.loop.log import RunLog
from training.loop.schedule import LOWEST, Schedule
from training.loop.stopping import StopRequest
from training.loop.watch import LossWatch, refuse_bad

SAME = {"batch_size": 4, "data": "abc"}


@given(steps=st.integers(1, 5000), warm_up=st.integers(0, 200), cool_down=st.floats(0, 0.9))
def test_rates_rise_stay_and_fall(steps, warm_up, cool_down):
    rates = [Schedule(steps, warm_up, cool_down).rate(step) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    level = range(warm_up, int(steps * (1 - cool_down)))
    assert all(rates[step] == 1 for step in level)
    falling = rates[max(warm_up, int(steps * (1 - cool_down)) + 1) :]
    assert falling == sorted(falling, reverse=True)


@given(step=st.integers(1, 3000), cool_down=st.floats(0.05, 0.5))
def test_a_run_can_be_finished_from_any_step_without_a_jump(step, cool_down):
    schedule = Schedule(4000, 10, cool_down)
    before = schedule.rate(step)
    schedule.finish_from(step)
    assert step < schedule.steps <= 4000
    assert schedule.rate(step) == pytest.approx(before, abs=2 / (schedule.steps * cool_down))
    last = schedule.rate(schedule.steps - 1)
    assert last <= max(LOWEST, 1.01 / (schedule.steps * cool_down))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ((0, 1, 0.1), "A schedule of 0 steps with 1 of warm-up cannot be"),
        ((5, -1, 0.1), "A schedule of 5 steps with -1 of warm-up cannot be"),
        ((5, 1, 1.0), "--cool_down is 1.0; give a share"),
    ],
)
def test_impossible_schedules_are_refused(wrong, message):
    with pytest.raises(DelitError, match=message):
        Schedule(*wrong)


def test_an_average_that_was_put_by_goes_on_at_its_own_pace():
    """Its decay depends on how many updates it has seen: forgotten, the weights that are shipped would be others."""
    torch.manual_seed(0)
    model = nn.Linear(3, 3)
    whole, first = Average(model, 0.99), Average(model, 0.99)
    second = Average(model, 0.99)
    for number in range(12):
        if number == 6:
            second.load_state_dict(first.state_dict())
        with torch.no_grad():
            model.weight.add_(torch.randn(3, 3))
        whole.update(model)
        (first if number < 6 else second).update(model)
    for name, tensor in whole.weights.items():
        assert torch.equal(second.weights[name], tensor)


def test_the_last_checkpoint_is_read_and_the_one_before_where_it_is_damaged(tmp_path):
    with pytest.raises(DelitError, match="nothing to resume"):
        load_checkpoint(tmp_path, SAME)
    for step in (1, 2):
        save_checkpoint(tmp_path, SAME, {"step": step})
    assert load_checkpoint(tmp_path, SAME)["step"] == 2
    whole = (tmp_path / LAST).read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"not a checkpoint"):
        (tmp_path / LAST).write_bytes(damaged)
        assert load_checkpoint(tmp_path, SAME)["step"] == 1
    (tmp_path / PREVIOUS).write_bytes(b"")
    with pytest.raises(DelitError, match="No checkpoint in .* can be read"):
        load_checkpoint(tmp_path, SAME)


@pytest.mark.parametrize(
    "content",
    [
        {"identity": "abc", "format": 2, "state": {}},
        {"identity": SAME, "format": 2},
        {"identity": SAME | {"batch_size": torch.zeros(3)}, "format": 2, "state": {}},
        {"identity": SAME | {None: 1, "more": 2}, "format": 2, "state": {}},
        {"identity": SAME, "format": torch.zeros(3), "state": {}},
        [torch.zeros(3)],
        torch.zeros(3),
    ],
    ids=["identity", "no state", "tensors", "names", "format", "list", "tensor"],
)
def test_what_is_no_checkpoint_is_passed_over(tmp_path, content):
    for step in (1, 2):
        save_checkpoint(tmp_path, SAME, {"step": step})
    torch.save(content, tmp_path / LAST)
    assert load_checkpoint(tmp_path, SAME)["step"] == 1


@pytest.mark.parametrize("moment", range(2))
def test_a_kill_between_two_files_loses_nothing(tmp_path, monkeypatch, moment):
    """Writing is putting three things in place; whichever did not happen, a whole checkpoint is found."""
    save_checkpoint(tmp_path, SAME, {"step": 1})
    replace, calls = os.replace, []

    def dying_replace(source, target):
        # The first one is that of the atomic write itself.
        calls.append(target)
        if len(calls) == moment + 2:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", dying_replace)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, SAME, {"step": 2})
    monkeypatch.undo()
    assert load_checkpoint(tmp_path, SAME)["step"] == 2
    save_checkpoint(tmp_path, SAME, {"step": 3})
    assert load_checkpoint(tmp_path, SAME)["step"] == 3


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path):
    save_checkpoint(tmp_path, SAME, {"step": 1})
    with full_disk_after(2000), pytest.raises(DelitError, match=r"checkpoint\.pt: .* is kept: make room"):
        save_checkpoint(tmp_path, SAME, {"step": 2, "weights": torch.zeros(100_000)})
    assert load_checkpoint(tmp_path, SAME)["step"] == 1


def test_every_setting_that_differs_is_named(tmp_path):
    save_checkpoint(tmp_path, SAME, {"step": 1})
    with pytest.raises(
        DelitError, match="batch_size was 4, is 8, data was abc, is xyz, seed was not set, is 1"
    ):
        load_checkpoint(tmp_path, {"batch_size": 8, "data": "xyz", "seed": 1})


def test_a_loss_that_is_no_number_is_told_with_its_step_and_pairs():
    watch = LossWatch()
    for step, value in enumerate((1.0, 2.0, float("nan"), 4.0)):
        watch.note(step, {"flat": torch.tensor(value), "light": torch.tensor(1.0)})
    assert watch.first_bad_step() == 2
    with pytest.raises(DelitError, match=r"step 2 is no finite number. Its pairs were s1/e2, s3/e4"):
        refuse_bad(watch.first_bad_step(), ["s1/e2", "s3/e4"])
    refuse_bad(None, [])


def test_means_are_those_since_the_last_look():
    watch = LossWatch()
    for values in ((1.0, 3.0), (10.0,)):
        for step, value in enumerate(values):
            watch.note(step, {"flat": torch.tensor(value)})
        assert watch.means() == {"flat": sum(values) / len(values)}
    assert watch.first_bad_step() is None


def test_a_first_signal_is_noted_a_second_one_interrupts_and_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        assert not stop.asked
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_a_killed_run_told_of_later_steps_is_not_shown_twice(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for steps in ((20, 40, 60), (40, 60, 80)):
        with RunLog(tmp_path) as log:
            for step in steps:
                log.numbers("loss", step, {"all": float(steps[0])})
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    told = [(event.step, event.value) for event in events.Scalars("loss/all")]
    assert told == [(20, 20.0), (40, 40.0), (60, 40.0), (80, 40.0)]
