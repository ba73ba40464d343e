"""Tells a sweep after every epoch how good a trial is, and stops it where others were better by then."""

import optuna
from pytorch_lightning import Callback, LightningModule, Trainer


class TrialReport(Callback):
    """Reports the monitored metric of each epoch, and stops a trial that the sweep's pruner gives up.

    It must stand after the callback that logs the metric.

    Args:
        trial: Of the sweep.
        monitored: Metric that chooses between trials.
    """

    def __init__(self, *, trial: optuna.Trial, monitored: str) -> None:
        self._trial = trial
        self._monitored = monitored

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report, and stop unless training ends by itself.

        Raises:
            optuna.TrialPruned: If the trial is given up.
        """
        self._trial.report(float(trainer.callback_metrics[self._monitored]), step=trainer.current_epoch)
        last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if not last and self._trial.should_prune():
            raise optuna.TrialPruned
