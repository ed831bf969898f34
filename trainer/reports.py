"""Whether a run can report where it is asked to, told before anything is prepared."""

from collections.abc import Collection, Mapping

from services.errors import ConfigError

WITHOUT_LOGIN = ("offline", "disabled", "dryrun")
_REMEDY = (
    "Run `wandb login`, or set WANDB_API_KEY; or set WANDB_MODE=offline to keep the report here; or leave "
    "wandb out of report_to"
)


def check_reports(report_to: Collection[str], environment: Mapping[str, str]) -> None:
    """Raise ConfigError when Weights & Biases would ask for a login in the middle of a run."""
    if "wandb" not in report_to or environment.get("WANDB_MODE", "").lower() in WITHOUT_LOGIN:
        return
    import wandb  # takes a second

    try:
        logged_in = wandb.login(prompt=False, verify=False)
    except (wandb.errors.Error, ValueError) as error:
        raise ConfigError(f"report_to=[wandb]: {' '.join(str(error).split())}. {_REMEDY}") from None
    if not logged_in:
        raise ConfigError(f"report_to=[wandb] needs a login. {_REMEDY}")
