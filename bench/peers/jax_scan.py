"""JAX: all steps in one scan; one model, 32 by vmap, 32 by hand in the last axis."""

import jax
import jax.numpy as jnp

from bench.cases import MODELS, Case, Engine, Job, activation, ends_of


def logits(w, x, last, active):
    """(s,) of one model, from x (s, 32)."""
    if "e0" in w:
        x = jnp.concatenate([x[:, :16] @ w["e0"], x[:, 16:] @ w["e1"]], axis=1)
    for k in range(last + 1):
        x = x @ w[f"w{k}"] + w[f"b{k}"]
        x = active(x) if k < last else x
    return x[:, 0]


def logits_of_all(w, x, last, active):
    """(s, models), the models side by side in the last axis of every array."""
    if "e0" in w:
        parts = [jnp.einsum("sj,jum->sum", x[:, 16 * k :][:, :16], w[f"e{k}"]) for k in (0, 1)]
        x = jnp.concatenate(parts, axis=1)
    for k in range(last + 1):
        if x.ndim == 2:
            x = jnp.einsum("sj,jum->sum", x, w[f"w{k}"])
        else:
            x = (x[:, :, None, :] * w[f"w{k}"]).sum(1)
        x = x + w[f"b{k}"]
        x = active(x) if k < last else x
    return x[:, 0]


def stepping(case: Case, logits):
    """One step: (w, a), (x, y, rate) → (w, a)."""
    c = case.config
    active = activation(c, jax.nn.relu, jax.nn.sigmoid, jnp.where)

    def step(state, batch):
        w, a = state
        x, y, rate = batch

        def loss(w):
            z = logits(w, x, case.last, active)
            # the gradient of the mean loss by z is (σ(z) - y)/s: less work than by the loss
            slope = (jax.nn.sigmoid(z) - y.reshape(-1, *[1] * (z.ndim - 1))) / c.batch
            return (jax.lax.stop_gradient(slope) * z).sum()

        g = jax.grad(loss)(w)
        if case.adagrad:
            a = {k: a[k] + g[k] * g[k] for k in w}
            w = {k: w[k] - rate * g[k] / (jnp.sqrt(a[k]) + c.epsilon) for k in w}
        else:
            a = {k: c.momentum * a[k] - rate * g[k] for k in w}
            w = {k: w[k] + a[k] for k in w}
        return (w, a), None

    return step


def make(case: Case, way: str) -> Job | None:
    c = case.config
    if way == "by hand" and c.model == "deep":
        return None  # its sums would be one array of 2 GB
    axis = {"one": None, "vmap": 0, "by hand": -1}[way]
    initial = case.start(0) if axis is None else case.starts(axis)
    step = stepping(case, logits_of_all if way == "by hand" else logits)
    if way == "vmap":
        step = jax.vmap(step, (0, None), 0)
    decay = 0.0 if case.adagrad else c.decay
    rates = jnp.float32(c.lr) / (1.0 + decay * jnp.arange(case.steps, dtype=jnp.float32))
    batches = (*(jnp.asarray(a) for a in case.arrays), rates)
    scan = jax.jit(lambda state: jax.lax.scan(step, state, batches)[0])

    def start():
        w = {k: jnp.asarray(v) for k, v in initial.items()}
        a = {k: jnp.full_like(v, case.state_start) for k, v in w.items()}
        return jax.block_until_ready((w, a))

    def read(state):
        return [dict(state[0])] if axis is None else ends_of(state[0], axis)

    models = 1 if axis is None else MODELS
    return Job(start, lambda s: jax.block_until_ready(scan(s)), read, models * case.n)


ENGINES = {
    "JAX scan": Engine(lambda case: make(case, "one")),
    "JAX vmap, 32 models": Engine(lambda case: make(case, "vmap"), MODELS),
    "JAX, 32 models by hand": Engine(lambda case: make(case, "by hand"), MODELS),
}
