"""The examples of a configuration: a world's, or the caller's, which are read and checked."""

from dataclasses import replace

from nanorepro.backends import reference
from nanorepro.backends.protocols import Backend
from nanorepro.config import Config, check_config
from nanorepro.data.content import content_of
from nanorepro.data.given import Given, given_arrays, read_given
from nanorepro.data.options import ARRAYS
from nanorepro.data.worlds import World, make_world
from nanorepro.errors import ConfigError
from nanorepro.training.sequences import evaluated

FEW = 4096  # examples of which it takes a moment to say which are held out


def with_content(config: Config, data: object = None) -> tuple[Config, Given | None]:
    """The configuration with what its examples are, and the caller's examples if it has such.

    Parameters
    ----------
    config : Config
        A run; of a world it is returned as it is.
    data : tuple, optional
        Arrays (x, y) or (x, y, x_eval, y_eval) in place of the file that `config.data` names.

    Raises
    ------
    ConfigError
        For examples that cannot be read, trained on or evaluated on, and for others than
        `config.content` says.
    """
    check_config(config)
    if data is None and not config.is_given:
        return config, None
    if data is None and config.data == ARRAYS:
        raise ConfigError("the examples were arrays in Python", "data", "them to `simulate` again")
    if data is not None and not config.is_given and config.data != "linear":
        raise ConfigError(
            f"the configuration has the {config.data} world", "data", "one of the two"
        )
    found = _read(config) if data is None else given_arrays(data)
    content = str(found.content)
    if config.content and config.content != content:
        raise changed(config, content)
    told = replace(config, data=config.data if config.is_given else ARRAYS, content=content)
    if found.x_eval is None and len(found.y) <= FEW and 0 < told.held_out < len(found.y):
        evaluated(told, found, reference)  # of many examples a run tells
    return told, found


def _read(config: Config) -> Given:
    """The examples of the file; what is wrong with it is said of `data`."""
    try:
        return read_given(config.data)
    except ConfigError as error:
        raise ConfigError(str(error), "data") from None


def changed(config: Config, content: str) -> ConfigError:
    """The error of examples that are not those of a configuration."""
    now, then = content_of(content), content_of(config.content)
    assert now is not None and then is not None
    what = f"{now.examples:,}+{now.evaluation:,} examples of {now.features} features, {now.kind},"
    if replace(now, sha256="") == replace(then, sha256=""):
        what = "as many,"
    return ConfigError(
        f"the examples of {config.data} have changed: {what} with the digest {now.sha256[:12]}...,"
        f" where the run has {then.examples:,}+{then.evaluation:,} with {then.sha256[:12]}...",
        "content",
        "the file as it was, or another run",
    )


def source_of(config: Config, given: Given | None, backend: Backend) -> World | Given:
    """What the examples of a run are taken from."""
    return given or make_world(config.seed, config.data, backend.exp)
