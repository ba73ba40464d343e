"""What a person sees of training."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from training.callbacks.epoch_lines import EpochLines


def seen(*, terminal: bool, leads: bool = True) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=80, soft_wrap=True, highlight=False)
    lines = EpochLines(monitored="val_ndcg@10", num_epochs=200, console=console)
    trainer = SimpleNamespace(
        is_global_zero=leads,
        num_training_batches=29,
        current_epoch=116,
        callback_metrics={"train_loss_epoch": 3.14159, "val_ndcg@10": 0.5, "v_num": 0, "val_hr@10": 0.6},
    )
    lines.on_train_epoch_start(trainer, None)
    for step in range(29):
        lines.on_train_batch_end(trainer, None, None, None, step)
    lines.on_train_epoch_end(trainer, None)
    return out.getvalue()


def test_a_log_file_gets_one_line_an_epoch():
    text = seen(terminal=False)
    assert text.startswith("epoch 117 of at most 200  train_loss 3.1416  val_ndcg@10 0.5000  0.")
    assert text.count("\n") == 1
    assert len(text) < 80


def test_a_terminal_gets_a_bar_that_goes_away():
    text = seen(terminal=True)
    assert "29/29" in text
    assert "\n" in text
    assert text.splitlines()[-1].endswith(" s")


def test_an_epoch_that_is_resumed_in_its_middle_counts_from_there():
    out = io.StringIO()
    lines = EpochLines(monitored="m", num_epochs=2, console=Console(file=out, width=80))
    trainer = SimpleNamespace(is_global_zero=True, current_epoch=1, callback_metrics={})
    lines.on_train_start(trainer, None)
    lines.on_train_epoch_end(trainer, None)
    assert out.getvalue() == "epoch 2 of at most 2    0.0 s\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_other_processes_are_silent(terminal):
    assert seen(terminal=terminal, leads=False) == ""


def test_the_bar_goes_away_when_training_breaks_off():
    out = io.StringIO()
    lines = EpochLines(monitored="m", num_epochs=2, console=Console(file=out, force_terminal=True, width=80))
    trainer = SimpleNamespace(is_global_zero=True, num_training_batches=9, current_epoch=0, callback_metrics={})
    lines.on_train_epoch_start(trainer, None)
    lines.on_exception(trainer, None, RuntimeError("broken"))
    assert out.getvalue().endswith("\x1b[2K")  # the line is erased
    lines.on_exception(trainer, None, RuntimeError("again"))
