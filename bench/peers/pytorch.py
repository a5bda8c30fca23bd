"""PyTorch: eager modules; 32 models by bmm; both compiled, and 32 in the last axis."""

import torch

from bench.cases import MODELS, Case, Engine, Job, activation, ends_of

torch.set_num_threads(1)
torch._inductor.config.compile_threads = 1
torch._dynamo.config.recompile_limit = 64  # every job is a recompilation of the same lines
UNROLLED = 4  # steps of a compiled call


def active(case: Case):
    """A(z) of PyTorch's functions."""
    return activation(case.config, torch.relu, torch.sigmoid, torch.where)


class Net(torch.nn.Module):
    """The model as one writes it."""

    def __init__(self, case: Case):
        super().__init__()
        record = {k: torch.from_numpy(v.copy()) for k, v in case.start(0).items()}
        self.embedded = "e0" in record
        self.layers = torch.nn.ModuleDict()
        for name, value in record.items():
            if name.startswith("b"):
                continue
            layer = torch.nn.Linear(*value.shape, bias=name.startswith("w"))
            layer.weight.data = value.T.contiguous()
            if name.startswith("w"):
                layer.bias.data = record["b" + name[1:]]
            self.layers[name] = layer
        self.last, self.active = case.last, active(case)

    def forward(self, x):
        if self.embedded:
            x = torch.cat([self.layers["e0"](x[:, :16]), self.layers["e1"](x[:, 16:])], 1)
        for k in range(self.last):
            x = self.active(self.layers[f"w{k}"](x))
        return self.layers[f"w{self.last}"](x)[:, 0]

    def record(self):
        found = {}
        for name, layer in self.layers.items():
            found[name] = layer.weight.detach().T.numpy().copy()
            if layer.bias is not None:
                found["b" + name[1:]] = layer.bias.detach().numpy().copy()
        return found


class Momentum:
    """SGD as Keras has it: v ← m·v - η·g, w ← w + v, η decaying."""

    def __init__(self, parameters, config):
        self.w, self.c, self.step_number = list(parameters), config, 0
        self.v = [torch.zeros_like(w) for w in self.w]

    def zero_grad(self):
        for w in self.w:
            w.grad = None

    @torch.no_grad()
    def step(self):
        rate = self.c.lr / (1.0 + self.c.decay * self.step_number)
        torch._foreach_mul_(self.v, self.c.momentum)
        torch._foreach_add_(self.v, [w.grad for w in self.w], alpha=-rate)
        torch._foreach_add_(self.w, self.v)
        self.step_number += 1


def optimizer(case: Case, parameters):
    c = case.config
    if not case.adagrad:
        return Momentum(parameters, c)
    return torch.optim.Adagrad(
        parameters,
        lr=c.lr,
        initial_accumulator_value=c.initial_accumulator,
        eps=c.epsilon,
        foreach=True,
    )


def eager(case: Case) -> Job:
    xs, ys = (torch.from_numpy(a) for a in case.arrays)
    loss = torch.nn.BCEWithLogitsLoss()

    def start():
        net = Net(case)
        return net, optimizer(case, net.parameters())

    def train(state):
        net, steps = state
        for x, y in zip(xs, ys, strict=True):
            steps.zero_grad()
            loss(net(x), y).backward()
            steps.step()
        return state

    return Job(start, train, lambda state: [state[0].record()], case.n)


def logits(w, x, last, active):
    """(models, s) of an ensemble (models first, by bmm) or (s,) of one model, from x (s, 32)."""
    many = w["b0"].dim() == 2
    if "e0" in w:
        x = torch.cat([x[:, :16] @ w["e0"], x[:, 16:] @ w["e1"]], -1)
    for k in range(last + 1):
        if many:
            x = x.expand(MODELS, *x.shape) if x.dim() == 2 else x
            x = torch.baddbmm(w[f"b{k}"][:, None, :], x, w[f"w{k}"])
        else:
            x = torch.addmm(w[f"b{k}"], x, w[f"w{k}"])
        x = active(x) if k < last else x
    return x[..., 0]


def logits_of_all(w, x, last, active):
    """(models, s) from x (s, 32), the models side by side in the last axis of every array."""
    if "e0" in w:
        parts = [
            (x[:, 16 * k :][:, :16] @ w[f"e{k}"].flatten(1)).view(len(x), 2, MODELS) for k in (0, 1)
        ]
        x = torch.cat(parts, 1)
    for k in range(last + 1):
        if x.dim() == 2:
            x = (x @ w[f"w{k}"].flatten(1)).view(len(x), -1, MODELS)
        else:
            x = (x[:, :, None, :] * w[f"w{k}"]).sum(1)
        x = x + w[f"b{k}"]
        x = active(x) if k < last else x
    return x[:, 0].T


def ensemble(case: Case) -> Job:
    """Eager, 32 models by bmm."""
    c, initial = case.config, case.starts(0)
    xs, ys = (torch.from_numpy(a) for a in case.arrays)

    def start():
        w = {k: torch.from_numpy(v.copy()).requires_grad_() for k, v in initial.items()}
        return w, optimizer(case, w.values())

    def train(state):
        w, steps = state
        for x, y in zip(xs, ys, strict=True):
            steps.zero_grad()
            z = logits(w, x, case.last, active(case))
            # the gradient of the mean loss by z, handed to backward: no loss is formed
            z.backward((torch.sigmoid(z.detach()) - y) / c.batch)
            steps.step()
        return state

    def read(state):
        return ends_of({k: v.detach().numpy() for k, v in state[0].items()}, 0)

    return Job(start, train, read, MODELS * case.n)


def compiled(case: Case, axis: int | None) -> Job | None:
    """A few steps as one program by torch.compile; models in an axis, or one."""
    c = case.config
    if axis == -1 and c.model == "deep":
        return None  # its sums would be one array of 2 GB
    initial = case.start(0) if axis is None else case.starts(axis)
    z_of, act = logits_of_all if axis == -1 else logits, active(case)
    xs, ys = (torch.from_numpy(a) for a in case.arrays)
    decay = 0.0 if case.adagrad else c.decay
    rates = c.lr / (1.0 + decay * torch.arange(case.steps, dtype=torch.float32))

    def step(w, a, x, y, rate):
        def loss(w):
            z = z_of(w, x, case.last, act)
            return (((torch.sigmoid(z) - y) / c.batch).detach() * z).sum()

        g = torch.func.grad(loss)(w)
        if case.adagrad:
            a = {k: a[k] + g[k] * g[k] for k in w}
            return {k: w[k] - rate * g[k] / (torch.sqrt(a[k]) + c.epsilon) for k in w}, a
        a = {k: c.momentum * a[k] - rate * g[k] for k in w}
        return {k: w[k] + a[k] for k in w}, a

    @torch.compile(fullgraph=True, dynamic=False)
    def some(w, a, x, y, rate):
        for k in range(UNROLLED):
            w, a = step(w, a, x[k], y[k], rate[k])
        return w, a

    def start():
        w = {k: torch.from_numpy(v.copy()) for k, v in initial.items()}
        return w, {k: torch.full_like(v, case.state_start) for k, v in w.items()}

    def train(state):
        w, a = state
        for k in range(0, case.steps, UNROLLED):
            part = slice(k, k + UNROLLED)
            w, a = some(w, a, xs[part], ys[part], rates[part])
        return w, a

    def read(state):
        w = {k: v.numpy() for k, v in state[0].items()}
        return [w] if axis is None else ends_of(w, axis)

    return Job(start, train, read, (1 if axis is None else MODELS) * case.n)


ENGINES = {
    "PyTorch eager": Engine(eager),
    "PyTorch bmm, 32 models": Engine(ensemble, MODELS),
    "PyTorch compiled": Engine(lambda case: compiled(case, None)),
    "PyTorch compiled, 32 by bmm": Engine(lambda case: compiled(case, 0), MODELS),
    "PyTorch compiled, 32 in last axis": Engine(lambda case: compiled(case, -1), MODELS),
}
