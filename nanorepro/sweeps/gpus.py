"""The GPUs of this machine, each for one process of a sweep; `python -m` this asks for them.

Another process is asked: one that has looked at a GPU holds some of its memory until it ends, and a
GPU may be set to take one process alone.
"""

import json
import os
import subprocess
import sys

from nanorepro.errors import ConfigError
from nanorepro.sweeps.reading import environment

NAME = "nanorepro.sweeps.gpus"
VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible() -> list[str]:
    """The GPUs that `--backend cupy` can use, as CUDA_VISIBLE_DEVICES names them.

    Raises
    ------
    ConfigError
        If there is none, with the reason.
    """
    command = [sys.executable, "-m", NAME]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = (done.stderr.split("\n") if done.stderr else [""])[-2:][0]
        what = f"cupy: it ends with status {done.returncode} ({last})"
        raise ConfigError(what, "backend", "numba, or see nvidia-smi") from None
    if "refused" in found:
        raise ConfigError(*found["refused"])
    names = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    return [names[k] if names else str(k) for k in found["gpus"]]


def usable() -> list[int]:
    """Numbers of the GPUs of this process that are no older than what runs need."""
    from nanorepro.backends import load_backend

    load_backend("cupy")
    import cupy

    from nanorepro.backends.cuda.device import OLDEST

    count = cupy.cuda.runtime.getDeviceCount()
    return [k for k in range(count) if int(cupy.cuda.Device(k).compute_capability) >= OLDEST]


def main() -> None:
    """Print the numbers, or why there are none, as a line of JSON."""
    try:
        found: dict[str, object] = {"gpus": usable()}
    except ConfigError as error:
        found = {"refused": [error.problem, error.field, error.right]}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
