"""The one error of a user's input, and how it names what was wrong."""


class ConfigError(ValueError):
    """A wrong option, value or file; the message is one line that says what would be right."""


def option(name: str) -> str:
    """The command line's spelling of a field: `log2_window` → `--log2-window`."""
    return "--" + name.replace("_", "-")


def wrong(name: str, value: object, right: str) -> ConfigError:
    """The error of a field whose value is not allowed."""
    return ConfigError(f"{option(name)}: {value!r} is not allowed; give {right}")
