"""Which runs a sweep has: products of axes and single runs, from a TOML file or from `--grid`.

    log2_examples = 16                  # a field of Config, for all runs
    pairs = 4

    [axes]                              # a product: 2 x 3 runs
    act = ["relu", "smelu"]
    log2_window = [0, 5, 10]

    [[product]]                         # another product beside it
    act = "swish"
    beta = [0.5, 1.0, 2.0]

    [[run]]                             # one run
    act = "relu"
    tree = "lanes:8"

What a table says holds in place of what the top of the file says.  A list at the top is an axis,
too.  Runs that are the same, whatever their words, are done once.  `warm_start` is a file of a
stored run, or the id of one in the folder of the runs, as in `python -m nanorepro.run`.
"""

import contextlib
import math
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from itertools import product
from pathlib import Path

from nanorepro.config import Config, check_sequence
from nanorepro.errors import ConfigError, shown

MOST = 100_000  # runs that are begun without being asked for expressly
LARGEST = 16 << 20  # bytes of a grid file
TABLES = ("axes", "product", "run")
Start = Callable[[Config, str, set[str]], tuple[Config, str]]
KINDS = {f.name: type(f.default) for f in fields(Config)}


@dataclass(frozen=True)
class Block:
    """A product of axes.

    Parameters
    ----------
    where : str
        Where it was read, for messages.
    axes : mapping
        The values of each field; a field of one value is fixed.
    """

    where: str
    axes: Mapping[str, tuple[object, ...]]

    def __len__(self) -> int:
        return math.prod(len(values) for values in self.axes.values())

    def settings(self) -> Iterator[dict[str, object]]:
        """The fields of each run, the last axis fastest."""
        for values in product(*self.axes.values()):
            yield dict(zip(self.axes, values, strict=True))


@dataclass(frozen=True)
class Grid:
    """The runs of a sweep, each once.

    Parameters
    ----------
    configs : tuple of Config
        In the order in which they are named first.
    merged : tuple of str
        For every run that was named again: which one it is, and which one it repeats.
    starts : mapping of str to str
        The file of the run that a run starts from, by the id of the latter.
    """

    configs: tuple[Config, ...]
    merged: tuple[str, ...] = ()
    starts: Mapping[str, str] = field(default_factory=dict)


def read(path: str | Path) -> list[Block]:
    """The blocks of a grid file.

    Raises
    ------
    ConfigError
        If the file cannot be read, is no TOML, or has a key, type or list that is not allowed.
    """
    path = Path(path)
    name = path.name
    try:
        if path.stat().st_size > LARGEST:
            raise ConfigError(f"{str(path)!r}: larger than {LARGEST >> 20} MB; give a grid file")
        document = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"{str(path)!r}: {reason}; give a grid file .toml") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{str(path)!r}: not UTF-8 text; give a grid file .toml") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{str(path)!r}: not TOML: {error}") from None
    return blocks(document, name)


def blocks(document: Mapping[str, object], name: str) -> list[Block]:
    """The blocks of a grid that was read from TOML; `name` stands in messages."""
    top = {k: v for k, v in document.items() if k not in TABLES}
    base = _axes(top, name, lists=True)
    found = []
    axes = document.get("axes", {})
    if not isinstance(axes, dict):
        raise ConfigError(f"{name}: axes is not a table; give [axes] and lists below it")
    for axis in axes:
        if axis in top:
            raise ConfigError(f"{name}: {axis} stands at the top and in [axes]; give it once")
    listed = _axes(axes, f"{name} [axes]", lists=True)
    tables = [
        (kind, number, table)
        for kind in ("product", "run")
        for number, table in enumerate(_tables(document, kind, name), 1)
    ]
    varied = any(len(values) > 1 for values in base.values())
    if listed or varied or (base and not tables):
        found.append(Block(name, {**base, **listed}))
    fixed = {field: values for field, values in base.items() if not isinstance(top[field], list)}
    for kind, number, table in tables:
        where = f"{name} [[{kind}]] {number}"
        own = _axes(table, where, lists=kind == "product")
        if not own:
            raise ConfigError(f"{where}: nothing in it; give fields of a run")
        found.append(Block(where, {**fixed, **own}))
    if not found:
        raise ConfigError(f"{name}: no runs in it; give fields of a run, as act = 'relu'")
    return found


def from_words(words: Sequence[str]) -> dict[str, tuple[object, ...]]:
    """The axes of `--grid FIELD=VALUE,VALUE`; values that hold commas are parted by semicolons."""
    axes: dict[str, tuple[object, ...]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        if not equals:
            raise ConfigError(f"--grid: {shown(word)} is not allowed; give FIELD=VALUE,VALUE")
        _check_field(name, "--grid")
        if name in axes:
            raise ConfigError(f"--grid: {name} is given twice; give all its values once")
        values = tuple(v.strip() for v in text.split(";" if ";" in text else ",") if v.strip())
        if not values:
            raise ConfigError(f"--grid: {name} has no values; give {name}=VALUE,VALUE")
        axes[name] = values
    return axes


def combine(found: list[Block], axes: Mapping[str, tuple[object, ...]]) -> list[Block]:
    """Blocks of a file with the axes of the command line beside their own."""
    if not axes:
        return found
    if not found:
        return [Block("--grid", axes)]
    for block in found:
        for name in axes:
            if name in block.axes:
                raise ConfigError(f"--grid: {name} is in {block.where}, too; give it in one place")
    return [Block(block.where, {**block.axes, **axes}) for block in found]


def expand(found: Iterable[Block], most: int | None = MOST, start: Start | None = None) -> Grid:
    """The runs of blocks, each once.

    Parameters
    ----------
    found : iterable of Block
        What was read.
    most : int, optional
        Runs allowed; None: any number.
    start : callable, optional
        Given a configuration, what `warm_start` says and the fields that are given: the
        configuration that starts there, and the file of the run that it starts from.

    Raises
    ------
    ConfigError
        For a run that cannot be, naming it, or for more runs than allowed.
    """
    found = list(found)
    count = sum(len(block) for block in found)
    if most is not None and count > most:
        raise ConfigError(f"{count:,} runs are more than {most:,}; give --yes if they are meant")
    configs: dict[str, Config] = {}
    first: dict[str, str] = {}
    merged, starts = [], {}
    for block in found:
        varied = [name for name, values in block.axes.items() if len(values) > 1]
        for number, settings in enumerate(block.settings(), 1):
            config, file = _config(settings, block, number, start)
            words = ", ".join(f"{k}={settings[k]}" for k in varied or settings)
            if config.id in configs:
                merged.append(f"{words} of {block.where} is {first[config.id]}")
            else:
                configs[config.id] = config
                if file:
                    starts[config.id] = file
                first[config.id] = f"{words} of {block.where}"
    return Grid(tuple(configs.values()), tuple(merged), starts)


def named(found: Iterable[Block], name: str) -> str:
    """The id, which begins with a name, of a run of blocks that starts from initial values.

    Empty if there is none.
    """
    for block in found if name else ():
        for settings in block.settings():
            with contextlib.suppress(ConfigError):
                id = "" if "warm_start" in settings else Config(**settings).id  # type: ignore[arg-type]
                if id.startswith(name):
                    return id
    return ""


def _config(
    settings: Mapping[str, object], block: Block, number: int, start: Start | None
) -> tuple[Config, str]:
    """A run, and the file of the run that it starts from."""
    plain, file = dict(settings), ""
    word = plain.pop("warm_start", "")
    try:
        config = Config(**plain)  # type: ignore[arg-type]
        if config.is_given:
            from nanorepro.training.examples import with_content

            config, _ = with_content(config)
        if word:
            if start is None:
                raise ConfigError("no run can be started from here", "warm_start")
            config, file = start(config, str(word), set(plain))
        check_sequence(config)
    except ConfigError as error:
        words = ", ".join(f"{k}={shown(v)}" for k, v in settings.items())
        raise ConfigError(f"run {number} of {block.where} ({words}): {error}") from None
    return config, file


def _tables(document: Mapping[str, object], kind: str, name: str) -> list[dict[str, object]]:
    found = document.get(kind, [])
    found = [found] if isinstance(found, dict) else found
    if not isinstance(found, list) or not all(isinstance(t, dict) for t in found):
        raise ConfigError(f"{name}: {kind} is not a table; give [[{kind}]] and fields below it")
    return found


def _axes(table: Mapping[str, object], where: str, lists: bool) -> dict[str, tuple[object, ...]]:
    """The fields of a table with their values; a list is an axis where lists are allowed."""
    axes: dict[str, tuple[object, ...]] = {}
    for name, value in table.items():
        _check_field(name, where)
        if isinstance(value, list) and not lists:
            raise ConfigError(f"{where}: {name} is a list; a run has one value of each field")
        values = value if isinstance(value, list) else [value]
        if not values:
            raise ConfigError(f"{where}: {name} has no values; give one or more, or leave it out")
        for one in values:
            _check_type(name, one, where)
        axes[name] = tuple(values)
    return axes


def _check_field(name: str, where: str) -> None:
    if name not in KINDS:
        near = get_close_matches(name, [*KINDS, *TABLES], 1)
        right = f"did you mean {near[0]}?" if near else "python -m nanorepro.run --help lists them"
        raise ConfigError(f"{where}: {shown(name)} is not a field of a run; {right}")


def _check_type(name: str, value: object, where: str) -> None:
    """Refuse a value of a TOML type that is not the field's."""
    kind = KINDS[name]
    real = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        int: isinstance(value, int) and not isinstance(value, bool),
        float: real,
        str: isinstance(value, str)
        or (name == "fma" and isinstance(value, bool))
        or (name == "eval_every" and isinstance(value, int) and not isinstance(value, bool)),
    }
    if not fits.get(kind, True):
        right = {int: "a whole number", float: "a number", str: "text in quotes"}[kind]
        found = "text" if isinstance(value, str) else type(value).__name__
        raise ConfigError(f"{where}: {name} is {shown(value)} ({found}); give {right}")
