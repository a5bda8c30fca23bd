"""One framework in a process of its own, on one core: answers requests, one JSON line each.

python -m bench.worker FRAMEWORK CORE CLOCK; `python -m bench` starts it.
"""

import importlib
import json
import os
import sys

from bench.harness import on_one_core, seconds_of, use_clock


def main() -> None:
    framework, core = sys.argv[1], int(sys.argv[2])
    on_one_core(core)
    use_clock(sys.argv[3])
    # what a framework prints must not get between the answers
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(**found):
        answers.write(json.dumps(found) + "\n")

    engines = importlib.import_module(f"bench.peers.{framework}").ENGINES
    answer(engines=list(engines))
    worker = Worker(engines)
    for line in sys.stdin:
        try:
            request = json.loads(line)
            answer(**getattr(worker, request.pop("do"))(**request))
        except Exception as failed:
            answer(failed=f"{type(failed).__name__}: {' '.join(str(failed).split())[:200]}")


class Worker:
    """The jobs that are ready, and what can be asked of them."""

    def __init__(self, engines):
        self.engines, self.jobs = engines, {}

    def prepare(self, engine: str, case: str, examples: int) -> dict:
        """Compile a job; the excess losses that it trains to, before and after."""
        from bench.cases import CONFIGS, Case, evaluation_loss

        config = CONFIGS[case]
        job = self.engines[engine].make(Case(config, examples))
        if job is None:
            return {"losses": None}
        state = job.start()
        before = [evaluation_loss(config, w) for w in job.read(state)] if state else []
        state = job.train(state)
        losses = [evaluation_loss(config, w) for w in job.read(state)]
        self.jobs[engine, case] = job
        return {"losses": losses, "before": before}

    def time(self, engine: str, case: str, seconds: float) -> dict:
        """Nanoseconds an example and model."""
        job, states = self.jobs[engine, case], []

        def before():
            states[:] = [job.start()]

        def call():
            states[:] = [job.train(states[0])]

        return {"ns": 1e9 * seconds_of(call, seconds, before) / job.examples}

    def forget(self) -> dict:
        """Free all jobs."""
        self.jobs.clear()
        return {}


if __name__ == "__main__":
    main()
