"""What launcher=ray refuses before any worker starts, and how Ctrl-C reaches the workers."""

import pytest

from roomrec.errors import ConfigurationError
from tests.training.test_train import small_config
from training.callbacks.interruption import SaveOnInterrupt
from training.callbacks.stop_when_asked import StopWhenAsked
from training.ray_launcher import Mailbox, launch_on_ray


def test_the_mailbox_keeps_what_is_said_once():
    mailbox = Mailbox()
    assert not mailbox.is_asked_to_stop()
    mailbox.ask_to_stop()
    assert mailbox.is_asked_to_stop()
    mailbox.say("epoch 1")
    mailbox.say("\n")
    assert mailbox.take_said() == "epoch 1\n"
    assert mailbox.take_said() == ""


def test_who_is_asked_from_elsewhere_stops_as_after_ctrl_c(tmp_path):
    interruption = SaveOnInterrupt(checkpoint=tmp_path / "last.ckpt")
    trainer = type("Trainer", (), {"callbacks": [interruption], "world_size": 1})
    looks = iter([False, True])
    callback = StopWhenAsked(lambda: next(looks))
    callback.on_train_batch_start(trainer, None, None, 0)  # type: ignore[arg-type]
    assert not interruption._all_stop(trainer)  # type: ignore[arg-type]
    callback._looked_at -= 2.0  # two seconds later
    callback.on_train_batch_start(trainer, None, None, 1)  # type: ignore[arg-type]
    assert interruption._all_stop(trainer)  # type: ignore[arg-type]
    callback.on_train_batch_start(trainer, None, None, 2)  # type: ignore[arg-type]  # at once: it does not look


@pytest.mark.parametrize(
    ("overrides", "answer"),
    [
        (["launcher.num_workers=0"], "launcher.num_workers is 0: expected a whole number of at least 1"),
        (["launcher.cpus_per_worker=0.5"], "launcher.cpus_per_worker is 0.5: expected a whole number of at least 1"),
        (["resume=true"], "resume=true, but .* does not exist: train without it"),
        (["warm_start=nobody"], "warm_start=nobody: there is no such run; found none in"),
    ],
)
def test_mistakes_are_answered_before_ray_starts(markov_dataset, tmp_path, overrides, answer):
    config = small_config(markov_dataset, tmp_path, "launcher=ray", *overrides)
    settings = {name: value for name, value in config.launcher.items() if not name.startswith("_")}
    with pytest.raises(ConfigurationError, match=answer):
        launch_on_ray(config, **settings)
