"""Records what a PyTorch program computes, as a witness for the conversion of its checkpoint to JAX.

It needs nothing but torch and numpy, and is written for Python 3.6 and torch 1.0 or newer. Beside the program, add three lines:

    from record_witness import Witness
    witness = Witness("witness.npz", model, "model.pth", x=features, graph=adjacency)
    witness.outputs(embeddings=lambda i: model.encode(i.x, i.graph), logits=lambda i: model(i.x, i.graph))

where "model.pth" is the checkpoint that was loaded into `model`. Inputs and outputs have the names that the converted model gives them
(for others, the next command lists these), and each output is a function of the inputs. Then compare:

    hyperport verify model.pth --config config.json --witness witness.npz

Further lines record more:

    witness = Witness(..., modules=["encoder.layers.0", "encoder.layers.1"])   # which of these submodules is the first to differ
    witness.outputs(loss=lambda out: nll(out.logits, labels), logits=...)      # the gradient of this loss, not of a random one
    witness.watch(optimizer, steps=10)                                         # the next steps that the program's own loop makes

Outputs are recorded in evaluation mode, so without dropout. For each the file has its values, the vector-Jacobian product of all of
them with a cotangent (the loss's, or a random one), the same in float64 where the model can be converted, and how far both move if
every parameter and every module's result moves by one unit in the last place. For each step of the optimizer it has the gradients
before and the parameters after it. The model and the optimizer are as before afterwards. The file is a plain .npz without pickles.
"""

import hashlib
import json
import os
import platform
import sys
from types import SimpleNamespace

import numpy as np
import torch

FORMAT = 1
NUDGES = 3
FULL, LARGE = 256 * 2**20, 2**22
SEED = 0
EPS = {torch.float32: 2.0**-23, torch.float64: 2.0**-52}


class Witness:
    """A recording of `model`: a torch module, or a dict of parameters by key.

    path: the .npz to write. checkpoint: the file that was loaded into the model. modules: names of submodules whose outputs are recorded.
    inputs: by name, tensors, sparse matrices, numbers, and lists, tuples and dicts of them.
    """

    def __init__(self, path, model, checkpoint=None, modules=(), **inputs):
        if os.path.exists(path) and not _is_witness(path):
            raise ValueError(f"{path} exists and is not a witness: give another path")
        self.path, self.model, self.inputs, self.modules = str(path), model, inputs, list(modules)
        self.arrays, self.drift, self.seed = {}, {}, SEED
        self.meta = {"witness": FORMAT, "checkpoint": None, "versions": _versions(), "notes": [], "outputs": {}, "modules": {}, "steps": 0}
        if checkpoint is not None:
            self.meta["checkpoint"] = {"name": os.path.basename(str(checkpoint)), "sha256": _hash_of(checkpoint)}
        self.meta["inputs"] = {name: self._put("inputs/" + name, value) for name, value in inputs.items()}
        hashes = {k: hashlib.sha256(np.ascontiguousarray(_numpy(p)).tobytes()).hexdigest() for k, p in self._parameters()}
        self.meta["parameters"] = {k: {"shape": list(p.shape), "dtype": str(p.dtype), "sha256": hashes[k]} for k, p in self._parameters()}
        unknown = [name for name in self.modules if name not in dict(self._modules())]
        if unknown:
            raise ValueError("the model has no submodule {!r}; it has {}".format(unknown[0], ", ".join(n for n, _ in self._modules() if n)))

    def outputs(self, loss=None, **calls):
        """Records each call's output in evaluation mode, with its gradients. Each is given the inputs, `loss` the outputs, by name."""
        training = getattr(self.model, "training", None)
        kept = _Kept(self.model, self._parameters())
        try:
            if training is not None:
                self.model.eval()
            self._record_outputs(loss, calls, kept)
        finally:
            kept.restore()
            if training is not None:
                self.model.train(training)
        self.save()
        return self

    def watch(self, optimizer, steps=10):
        """Records the next steps of the optimizer as the program's own loop makes them, and writes the file after the last one."""
        keys = {id(p): key for key, p in self._parameters()}
        groups = [[keys.get(id(_raw(p))) for p in group["params"]] for group in optimizer.param_groups]
        if any(key is None for group in groups for key in group):
            raise ValueError("the optimizer moves a parameter that the model does not have")
        self.meta["groups"], self.meta["watched"] = groups, steps
        self.save()
        kept, start = _Kept(self.model, self._parameters()), _State(optimizer)
        whole = steps * sum(p.numel() * p.element_size() for _, p in self._parameters()) <= FULL
        original, made = optimizer.step, {"steps": 0, "gradients": [], "rates": []}

        def step(*args, **kwargs):
            n = made["steps"]
            if n >= steps:
                return original(*args, **kwargs)
            if args or kwargs.get("closure") is not None:
                self.meta["closure"] = True
            gradients = {key: None if p.grad is None else p.grad.detach().clone() for key, p in self._parameters()}
            made["rates"].append([float(group.get("lr", 0) or 0) for group in optimizer.param_groups])
            result = original(*args, **kwargs)
            for key, p in self._parameters():
                if gradients[key] is not None and (whole or n == 0):
                    self.arrays[f"steps/{n}/gradients/{key}"] = _numpy(gradients[key])
                self._array(f"steps/{n}/parameters/{key}", p)
            made["gradients"].append(gradients if whole or n == 0 else None)
            made["steps"] = n + 1
            if made["steps"] == steps:
                optimizer.step = original
                self._replay(optimizer, kept, start, made)
                self.meta["steps"], self.meta["rates"] = steps, made["rates"]
                self.save()
            return result

        optimizer.step = step
        return self

    def save(self):
        """Writes the file; it is whole at any moment."""
        self.meta["drift"] = self.drift
        arrays, part = {**self.arrays, "meta": np.array(json.dumps(self.meta))}, f"{self.path}.{os.getpid()}.part"
        with open(part, "wb") as file:
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
        os.replace(part, self.path)
        return self

    def _record_outputs(self, loss, calls, kept):
        caught = {}
        seen = [(module, _catcher(name, caught)) for name, module in self._modules() if name in self.modules]
        outputs, tensors = self._run(calls, self.inputs, seen)
        self.meta["modules"].update({name: self._put("modules/" + name, value) for name, value in caught.items()})
        self.meta["outputs"].update({name: self._put("outputs/" + name, value) for name, value in outputs.items()})
        cotangents, value = self._cotangents(loss, outputs, tensors)
        if value is not None:
            self.arrays["loss"] = np.array(float(value))
        for name, cotangent in cotangents.items():
            self.arrays["cotangents/" + name] = _numpy(cotangent)
        gradients = self._pull(tensors, cotangents)
        for key, gradient in gradients.items():
            self._array("gradients/" + key, gradient)
        for seed in range(1, NUDGES + 1):
            kept.nudge(seed)
            state = np.random.RandomState(seed)
            _, moved = self._run(calls, self.inputs, [(module, _rounder(state)) for _, module in self._modules()])
            self._drifts("outputs/", tensors, moved)
            self._drifts("gradients/", gradients, self._pull(moved, cotangents))
            kept.restore()
        self._record_double(calls, cotangents, kept)

    def _record_double(self, calls, cotangents, kept):
        """Outputs and gradients in float64, where the model and its inputs can be converted."""
        try:
            kept.double()
            _, tensors = self._run(calls, _walked(self.inputs, "", _doubled))
            gradients = self._pull(tensors, {name: c.double() for name, c in cotangents.items()})
            for prefix, found in (("double/outputs/", tensors), ("double/gradients/", gradients)):
                for name, value in found.items():
                    self._array(prefix + name, value)
        except Exception as error:  # the program may fix its types: then there is no float64 to compare with
            self.meta["notes"].append(f"no float64: {type(error).__name__}: {error}")
        finally:
            kept.restore()

    def _run(self, calls, inputs, hooks=()):
        """Outputs by name, as nests of new tensors through which gradients pass, and these tensors by their places."""
        tensors = {}

        def fresh(value, place):
            if torch.is_tensor(value) and value.dtype.is_floating_point and not value.is_sparse:
                tensors[place] = value * 1
                return tensors[place]
            return value

        handles = [module.register_forward_hook(hook) for module, hook in hooks]
        try:
            return {name: _walked(call(SimpleNamespace(**inputs)), name, fresh) for name, call in calls.items()}, tensors
        finally:
            for handle in handles:
                handle.remove()

    def _cotangents(self, loss, outputs, tensors):
        names = [name for name in tensors if tensors[name].requires_grad]
        if loss is None:
            state = np.random.RandomState(self.seed)
            drawn = {name: state.standard_normal(tuple(tensors[name].shape)) for name in sorted(names)}
            return {name: torch.as_tensor(np.asarray(drawn[name])).to(tensors[name].dtype) for name in names}, None
        value = loss(SimpleNamespace(**outputs))
        found = torch.autograd.grad(value, [tensors[name] for name in names], allow_unused=True, retain_graph=True)
        zeros = [torch.zeros_like(tensors[name]) if g is None else g for name, g in zip(names, found)]
        return dict(zip(names, zeros)), value.detach()

    def _pull(self, tensors, cotangents):
        """The vector-Jacobian product by key."""
        names, pairs = [n for n in cotangents if tensors[n].requires_grad], [(k, p) for k, p in self._parameters() if p.requires_grad]
        if not names or not pairs:
            return {}
        values, pulls = [tensors[n] for n in names], [cotangents[n] for n in names]
        found = torch.autograd.grad(values, [p for _, p in pairs], pulls, allow_unused=True, retain_graph=True)
        return {key: torch.zeros_like(p) if g is None else g for (key, p), g in zip(pairs, found)}

    def _replay(self, optimizer, kept, start, made):
        """The recorded steps again from a moved start with the recorded gradients: the optimizer's own drift."""
        if self.meta.get("closure"):
            return
        now, state = _Kept(self.model, self._parameters()), _State(optimizer)
        grads = [(p, p.grad) for _, p in self._parameters()]
        try:
            for seed in range(1, NUDGES + 1):
                kept.restore()
                kept.nudge(seed)
                start.restore()
                for n, (gradients, rates) in enumerate(zip(made["gradients"], made["rates"])):
                    if gradients is None:
                        break
                    for group, rate in zip(optimizer.param_groups, rates):
                        group["lr"] = rate
                    for key, p in self._parameters():
                        p.grad = None if gradients[key] is None else gradients[key].clone()
                    optimizer.step()
                    for key, p in self._parameters():
                        self._drifts(f"steps/{n}/parameters/", {key: None}, {key: p})
        finally:
            now.restore()
            state.restore()
            for p, grad in grads:
                p.grad = grad

    def _drifts(self, prefix, before, after):
        """The largest distance of arrays from what is recorded."""
        for name in before:
            for part, array in _parts(_numpy(after[name]), prefix + name).items():
                gap = np.abs(array.astype(np.float64) - self.arrays[part].astype(np.float64))
                self.drift[part] = max(self.drift.get(part, 0.0), float(np.max(gap, initial=0)))

    def _parameters(self):
        pairs = self.model.items() if isinstance(self.model, dict) else self.model.named_parameters()
        return [(key, _raw(p)) for key, p in pairs]

    def _modules(self):
        return list(self.model.named_modules()) if hasattr(self.model, "named_modules") else []

    def _put(self, place, value):
        """Stores a nest of values, and returns its structure for the description."""
        if value is None or isinstance(value, (bool, int, float, str)):
            return {"none": True} if value is None else {"value": value}
        if isinstance(value, dict):
            return {"dict": {str(k): self._put(f"{place}/{k}", v) for k, v in value.items()}}
        if isinstance(value, (list, tuple)):
            return {"list": [self._put(f"{place}/{n}", v) for n, v in enumerate(value)]}
        if torch.is_tensor(value) and value.is_sparse:
            whole = value.coalesce()
            self.arrays[place + "/indices"], self.arrays[place + "/values"] = _numpy(whole._indices()), _numpy(whole._values())
            return {"sparse": place, "shape": list(value.shape)}
        if torch.is_tensor(value) or isinstance(value, np.ndarray):
            self._array(place, value, whole=place.startswith("inputs/"))
            return {"array": place}
        raise ValueError(f"{place} is a {type(value).__name__}; tensors, arrays, numbers and nests of them can be recorded")

    def _array(self, place, value, whole=False):
        self.arrays.update({place: _numpy(value)} if whole else _parts(_numpy(value), place))


class _Kept:
    """The numbers of parameters, buffers and tensors among the attributes of modules, to be put back."""

    def __init__(self, model, parameters):
        self.parameters = [(p, p.data, p.data.clone()) for _, p in parameters]
        owners = list(model.modules()) if hasattr(model, "modules") else []
        self.buffers = [(m, name, b, b.clone()) for m in owners for name, b in m._buffers.items() if b is not None]
        self.plain = [(m, name, v) for m in owners for name, v in vars(m).items() if torch.is_tensor(v) or type(v) in (list, tuple)]

    def restore(self):
        for p, data, numbers in self.parameters:
            data.copy_(numbers)
            p.data = data
        for module, name, buffer, numbers in self.buffers:
            buffer.copy_(numbers)
            module._buffers[name] = buffer
        for module, name, value in self.plain:
            vars(module)[name] = value

    def double(self):
        """All of them in float64."""
        for p, data, _ in self.parameters:
            p.data = _doubled(data)
        for module, name, buffer, _ in self.buffers:
            module._buffers[name] = _doubled(buffer)
        for module, name, value in self.plain:
            vars(module)[name] = _walked(value, "", _doubled)

    def nudge(self, seed):
        """Every number by one unit in the last place, up or down at random."""
        state = np.random.RandomState(seed)
        for _p, data, numbers in self.parameters:
            if data.dtype in EPS:
                array = numbers.cpu().numpy()
                ways = np.where(state.random_sample(array.shape) < 0.5, -np.inf, np.inf).astype(array.dtype)
                data.copy_(torch.as_tensor(np.asarray(np.nextafter(array, ways))))


class _State:
    """An optimizer's state, to be put back as it was: load_state_dict would make float32 of counts."""

    def __init__(self, optimizer):
        self.optimizer = optimizer
        self.groups = [{k: _copied(v) for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
        self.states = [(p, _copied(dict(optimizer.state[p]))) for group in optimizer.param_groups for p in group["params"]
                       if p in optimizer.state]  # fmt: skip

    def restore(self):
        for group, values in zip(self.optimizer.param_groups, self.groups):
            group.update(_copied(values))
        self.optimizer.state.clear()
        for p, state in self.states:
            self.optimizer.state[p] = _copied(state)


def _catcher(name, caught):
    def hook(module, given, result):
        caught.setdefault(name, _walked(result, name, lambda value, place: value.detach().clone() if torch.is_tensor(value) else value))

    return hook


def _rounder(state):
    """A hook that moves each number by about one unit in the last place: what a module with parameters has rounded."""

    def hook(module, given, result):
        if torch.is_tensor(result) and result.dtype in EPS and any(True for _ in module.parameters()):
            ways = np.where(state.random_sample(tuple(result.shape)) < 0.5, -EPS[result.dtype], EPS[result.dtype])
            return result * (1 + torch.as_tensor(ways, dtype=result.dtype, device=result.device))

    return hook


def _walked(value, place, change):
    """The nest with `change(leaf, place)` in the place of each leaf."""
    value = _raw(value)
    if isinstance(value, dict):
        return {k: _walked(v, f"{place}/{k}", change) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(_walked(v, f"{place}/{n}", change) for n, v in enumerate(value))
    return change(value, place)


def _raw(value):
    """The tensor inside of what HypLL uses in the place of parameters and outputs."""
    inner = getattr(value, "__dict__", {}).get("tensor")
    return inner if torch.is_tensor(inner) else value


def _doubled(value, place=""):
    return value.double() if torch.is_tensor(value) and value.dtype.is_floating_point else value


def _copied(value):
    if isinstance(value, (dict, list)):
        return {k: _copied(v) for k, v in value.items()} if isinstance(value, dict) else [_copied(v) for v in value]
    return value.detach().clone() if torch.is_tensor(value) else value


def _numpy(value):
    if isinstance(value, np.ndarray):
        return value
    half = value.dtype.is_floating_point and value.dtype not in EPS
    return (value.float() if half else value).detach().cpu().contiguous().numpy().copy()


def _parts(array, place):
    """The array itself, or of a large one the products of its rows and of its columns with seeded random vectors."""
    if array.size <= LARGE or array.dtype.kind != "f" or array.ndim < 2:
        return {place: array}
    flat = array.reshape(array.shape[0], -1).astype(np.float64)
    state = np.random.RandomState(SEED)
    right, left = state.standard_normal(flat.shape[1]), state.standard_normal(flat.shape[0])
    return {place + "@rows": flat.dot(right), place + "@columns": left.dot(flat)}


def _hash_of(path):
    digest = hashlib.sha256()
    with open(str(path), "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _is_witness(path):
    try:
        with np.load(path, allow_pickle=False) as found:
            return "witness" in json.loads(str(found["meta"]))
    except Exception:  # any other file
        return False


def _versions():
    versions = {"python": platform.python_version(), "torch": str(torch.__version__), "numpy": np.__version__}
    beside = {name: sys.modules[name] for name in ("geoopt", "hypll", "torch_geometric") if name in sys.modules}
    return {**versions, **{name: str(getattr(module, "__version__", "?")) for name, module in beside.items()}}


__all__ = ["Witness"]
