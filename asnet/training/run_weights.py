"""Initial and resulting weights of a training run."""

import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from asnet.networks.size_classifier import SizeClassifier
from asnet.networks.weights import load_weights_into, save_weights
from asnet.training.recipe import TrainingConfig
from asnet.training.stages import TrainedNetworks


def load_initial_weights(network: TrainedNetworks, config: TrainingConfig) -> None:
    """Load the networks from `config.init`, then the parts of a pair from their own files.

    Raises
    ------
    WeightsError
        If a file is missing, damaged or does not fit.
    """
    if config.init:
        load_weights_into(network, config.init)
    if isinstance(network, SizeClassifier):
        return
    if config.init_analysis:
        load_weights_into(network.analysis, config.init_analysis, prefix="analysis.")
    if config.init_synthesis:
        load_weights_into(network.synthesis, config.init_synthesis, prefix="synthesis.")


def write_weights(
    path: Path,
    network: TrainedNetworks,
    config: TrainingConfig,
    *,
    source: str,
    step: int,
    measures: dict[str, float],
) -> None:
    """Write the networks with a header that describes their training.

    Parameters
    ----------
    path : Path
        The file, replaced atomically.
    network : DeblurNetwork or SizeClassifier
        The trained network.
    config : TrainingConfig
        Its stage and data go into the header.
    source : str
        Revision of the sources that trained it.
    step : int
        Steps done.
    measures : dict of str to float
        Means of the validation that chose these weights; may be empty.

    Raises
    ------
    WeightsError
        If the file cannot be written.
    """
    parts = [source, f"{config.stage} stage", f"step {step}"]
    parts += [f"{name} {value:.4f}" for name, value in measures.items()]
    save_weights(
        path,
        network,
        configuration_name=config.network.name,
        training_data=config.training_data or Path(config.data).resolve().name,
        revision=", ".join(parts),
    )


def source_revision() -> str:
    """Return the git revision of asnet's sources, or the installed version where there is no repository."""
    here = Path(__file__).resolve()

    def git(*arguments: str) -> str:
        # Without optional locks, a run in the background never blocks a commit.
        environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
        command = ["git", *arguments]
        return subprocess.run(
            command, cwd=here.parent, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        # A repository around an installed copy is not that of these sources.
        git("ls-files", "--error-unmatch", here.name)
        return f"git {git('describe', '--always', '--dirty', '--abbrev=12')}"
    except (OSError, subprocess.CalledProcessError):
        pass
    try:
        return f"asnet {version('asnet')}"
    except PackageNotFoundError:
        return "unknown revision"
