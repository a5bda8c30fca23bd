"""Which run it is that starts where a stored one ended."""

from collections.abc import Set
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nanorepro.config import Config
from nanorepro.errors import ConfigError

if TYPE_CHECKING:
    from nanorepro.results.result import Result


def continued(config: Config, stored: "Result", file: str, given: Set[str]) -> Config:
    """The configuration of a run that starts from the parameters of a stored one.

    Unless `first_example` is given, the run goes on with the examples after those of the stored
    one, which are new ones of the same world.

    Parameters
    ----------
    config : Config
        The run, without its warm start.
    stored : Result
        What it starts from.
    file : str
        Where that is stored, for messages.
    given : set of str
        The fields that were given, and not left at their defaults.

    Raises
    ------
    ConfigError
        If the models are not the same, the world is another and that was not asked for, or the
        stored run has models that diverged.
    """
    old = stored.config
    if config.model != old.model or config.widths != old.widths:
        hidden = f" {{hidden={old.hidden}}}" if old.hidden else ""
        raise ConfigError(
            f"{config.model} with hidden layers {list(config.widths)} is not what is stored in"
            f" {file!r}",
            "model",
            f"{{model={old.model}}}{hidden}",
        )
    given_anew = config.is_given and old.is_given and config.content != old.content
    if given_anew and config.data == old.data:
        raise ConfigError(
            f"its examples have changed since the run in {file!r} was trained on them",
            "data",
            "the file as it was, or under another name if others are meant",
        )
    if config.features != old.features:
        problem = f"{config.features} features, where the run in {file!r} has {old.features}"
        raise ConfigError(problem, "data", "examples of as many")
    for name in ("data", "seed"):
        if name not in given and getattr(config, name) != getattr(old, name):
            raise ConfigError(
                f"the run in {file!r} has {getattr(old, name)}",
                name,
                "that one, or another if another world is meant",
            )
    if stored.diverged:
        raise ConfigError(f"{file!r} has diverged models", "warm_start", "a run without")
    changes: dict[str, Any] = {"warm_start": stored.fingerprint}
    if "first_example" not in given:
        changes["first_example"] = old.first_example + old.examples
    return replace(config, **changes)
