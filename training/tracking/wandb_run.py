"""A Weights & Biases run for each training run, online or kept in the run's folder to be synchronised later."""

from pathlib import Path

from pytorch_lightning.loggers import WandbLogger

from training.tracking.run_ids import remember_id, remembered_id


def wandb_run(*, folder: Path, resume: bool, project: str, entity: str | None, offline: bool) -> WandbLogger:
    """Start a W&B run of the folder's name, or go on with the one it had.

    The API key comes from ``WANDB_API_KEY`` or ``wandb login``, never from a setting. What the run is goes to W&B as
    its config; the terminal's output and the address of the git remote do not.

    Args:
        folder: The run's, which exists; files lie in its ``wandb/``.
        resume: Whether the run continues.
        project: What W&B is to list the run under.
        entity: User or team that owns the project; None takes the key's own.
        offline: Write files only; ``wandb sync <folder>/wandb/offline-run-*`` sends them.
    """
    import wandb  # not before it was chosen: few have it

    # The run is made here, because Lightning's logger passes a setting of which W&B says that it is ignored.
    run = wandb.init(
        name=folder.name,
        project=project,
        entity=entity,
        dir=folder,
        id=remembered_id(folder, "wandb") if resume else None,
        resume="allow",
        mode="offline" if offline else "online",
        settings=wandb.Settings(console="off", disable_git=True, silent=True),
    )
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    remember_id(folder, "wandb", run.id)
    return WandbLogger(experiment=run, project=project, save_dir=folder, offline=offline)
