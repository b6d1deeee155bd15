"""The globals that a torch file may name, and the data that each stands for. A name that is not here is never called."""

from __future__ import annotations

import math
import sys
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from weights.errors import Refused, Unreadable, shown
from weights.files.budget import CHARACTERS, Budget
from weights.files.dtypes import ALIASES, NUMPY, STORAGES
from weights.files.other_formats import GATHER
from weights.files.pickles.bounds import checked_key
from weights.files.pickles.standins import Buildable, Counts, DefaultDict, Known, Name, Record, Size
from weights.files.tensors import Storage, Tensor, checked

# Modules that give a pickle power over the machine: no model holds a reference to them.
DANGEROUS = frozenset(
    """
    os posix nt sys subprocess shutil socket ctypes importlib imp runpy pty platform builtins __builtin__ code
    codeop commands marshal pickle _pickle cPickle dill cloudpickle joblib webbrowser signal threading
    multiprocessing asyncio tempfile pathlib io _io types inspect operator _operator functools itertools timeit
    pdb bdb idlelib pip setuptools distutils zipimport urllib http ftplib smtplib telnetlib requests gc atexit
    site tokenize ast numpy.testing torch.hub torch.utils.cpp_extension torch.jit torch.load torch.serialization
    torch._dynamo torch.distributed
    """.split()  # noqa: SIM905
)

SPREAD = tuple(f"torch.distributed.{part}" for part in ("tensor", "_tensor", "_shard", "device_mesh"))
"""Where the classes are of tensors of which each process has a part."""


class DType(Record):
    """numpy.dtype as pickled: a code, then its byte order in the state."""

    def __init__(self, budget: Budget, code: object, *rest: object):
        super().__init__(Known("numpy", "dtype"), (code, *rest), called=True)

    @property
    def is_plain(self) -> bool:
        """Whether it is a type of numbers."""
        code = self.args[0]
        return isinstance(code, str) and code[:1] in (*"bfiuc",) and code[1:].isdigit()

    def numpy(self) -> np.dtype:
        """The type itself; Refused for anything but plain numbers, ValueError for a state that numpy would not write."""
        if not self.is_plain:
            raise Refused(f"the pickle contains numbers of numpy's type {shown(self.args[0])}", "Save plain numbers only")
        if not isinstance(self.state, tuple) or len(self.state) < 2 or self.state[1] not in ("<", ">", "=", "|"):
            raise ValueError
        return np.dtype(self.args[0]).newbyteorder(self.state[1])


class Partial(Buildable):
    """functools.partial around geoopt's rebuilding function, the only one that a tensor needs."""

    def __init__(self, budget: Budget, function: object):
        if not isinstance(function, Known) or str(function) != "geoopt.tensor._rebuild_manifold_tensor":
            raise Refused(f"the pickle calls functools.partial on {shown(function)}", "Save the state_dict alone")

    def build(self, state: object) -> None:
        """Checks that the arguments kept are those of geoopt; ValueError otherwise."""
        _, args, keywords, _ = state  # pyright: ignore[reportGeneralTypeIssues]
        if args or not isinstance(keywords, dict) or set(keywords) != {"build_fn"}:
            raise ValueError

    def call(self, budget: Budget, *args: object) -> Tensor:
        """(storage arguments of the base rebuild..., attributes, class, manifold, requires_grad)."""
        *base, cls, manifold, requires_grad = args
        inner = base[0]
        if isinstance(inner, Storage):  # geoopt on old torch passes _rebuild_tensor's own arguments on
            inner = checked(budget, *base[:4])  # pyright: ignore[reportArgumentType]
        if not isinstance(inner, Tensor) or not isinstance(manifold, Record) or not isinstance(cls, (Known, Name)):
            raise TypeError
        inner.kind, inner.manifold, inner.requires_grad = "manifold", manifold, bool(requires_grad)
        inner.cls = str(cls)
        return inner


def _rebuild_tensor(
    budget: Budget, storage: object, offset: object, shape: object, stride: object, requires_grad: object = False, *rest: object
) -> Tensor:
    if not isinstance(storage, Storage):
        raise TypeError
    metadata = rest[1] if len(rest) > 1 else None
    if metadata:
        raise Refused(f"a tensor is stored with the lazy marks {shown(metadata)}", "Save it after .resolve_conj().resolve_neg()")
    return checked(budget, storage, offset, shape, stride, requires_grad=bool(requires_grad))


def _rebuild_v3(
    budget: Budget,
    storage: object,
    offset: object,
    shape: object,
    stride: object,
    grad: object,
    hooks: object,
    dtype: object,
    *_: object,
) -> Tensor:
    if isinstance(dtype, Name) and dtype.module == "torch":
        raise Unreadable(
            f"a tensor has type {shown(dtype)}, which numpy does not have", "Convert it in torch to another one, complex32 to complex64"
        )
    if not isinstance(storage, Storage) or not isinstance(dtype, Known) or dtype.name not in NUMPY:
        raise TypeError
    return checked(budget, storage, offset, shape, stride, dtype.name, requires_grad=bool(grad))


def _rebuild_parameter(budget: Budget, tensor: object, requires_grad: object = True, hooks: object = None, state: object = None) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise TypeError
    tensor.kind, tensor.requires_grad = "parameter", bool(requires_grad)
    if isinstance(state, dict) and isinstance(state.get("manifold"), Record):
        tensor.kind, tensor.manifold = "manifold", state["manifold"]
    return tensor


def _rebuild_from_type(budget: Budget, function: object, cls: object, args: object, state: object) -> Tensor:
    if not isinstance(function, Known) or not isinstance(args, tuple) or function.call is None:
        raise TypeError
    tensor = function.call(budget, *args)
    if not isinstance(tensor, Tensor):
        raise TypeError
    if isinstance(state, dict) and isinstance(state.get("manifold"), Record):
        tensor.kind, tensor.manifold = "manifold", state["manifold"]
    return tensor


def _scalar(budget: Budget, dtype: object, data: object = b"") -> np.generic:
    if not isinstance(dtype, DType) or not isinstance(data, (bytes, bytearray)):
        raise TypeError
    kind = dtype.numpy()
    if len(data) != kind.itemsize:
        raise Unreadable(f"a numpy scalar of {kind} has {len(data)} bytes", "The file is damaged")
    return np.frombuffer(bytes(data), kind).astype(kind.newbyteorder("="))[0]


def _frombuffer(budget: Budget, data: object, dtype: object, shape: object, order: object) -> np.ndarray:
    if not isinstance(dtype, DType) or not isinstance(shape, tuple) or not isinstance(data, (bytes, bytearray)):
        raise TypeError
    if not all(type(n) is int for n in shape):
        raise TypeError
    if math.prod(shape) * dtype.numpy().itemsize != len(data):
        raise Unreadable(f"a numpy array of shape {shown(shape)} has {len(data)} bytes", "The file is damaged")
    return np.frombuffer(bytes(data), dtype.numpy()).reshape(shape, order="F" if order == "F" else "C").copy()


def _encode(budget: Budget, text: object, encoding: object = "latin1") -> bytes:
    if not isinstance(text, str) or not isinstance(encoding, str) or encoding not in ("latin1", "latin-1", "utf-8", "ascii"):
        raise TypeError
    return text.encode(encoding)


def _collection(kind: type) -> Callable[..., object]:
    def make(budget: Budget, items: object = ()) -> object:
        if not isinstance(items, (list, tuple, set, frozenset)):
            raise TypeError
        if kind in (set, frozenset):
            for item in items:
                checked_key(item, items, budget)
        return kind(items)

    return make


def _entries(table: dict, items: object, budget: Budget) -> dict:
    """The table with these entries: a dictionary, or pairs."""
    if isinstance(items, dict):
        items = list(items.items())
    if not isinstance(items, (list, tuple)):
        raise TypeError
    for key, value in items:
        checked_key(key, table, budget)
        table[key] = value
    return table


def _table_of(kind: Callable[[], dict]) -> Callable[..., dict]:
    return lambda budget, items=(): _entries(kind(), items, budget)


def _empty(kind: Callable[[], dict]) -> Callable[[], dict]:
    """Of which pickles that fill it in the making are refused."""

    def make() -> dict:
        return kind()

    return make


def _default(budget: Budget, factory: object = None, items: object = ()) -> dict:
    return _entries(DefaultDict(factory), items, budget)


def _bytes(budget: Budget, *args: object) -> bytes:
    if not args:
        return b""
    if len(args) == 2:
        return _encode(budget, *args)
    if isinstance(args[0], (bytes, bytearray, list, tuple)):
        return bytes(args[0])
    raise TypeError


def _attribute(budget: Budget, owner: object, name: object) -> Name:
    """getattr on a class, as modules that keep `torch.relu` and nested classes are pickled: a name again, never the attribute."""
    known = isinstance(owner, Name) and (owner.makes or owner.module.startswith("torch"))
    if not isinstance(owner, Name) or not known or not isinstance(name, str) or name.startswith("_"):
        raise Refused(f"the pickle calls getattr on {shown(owner)}", "Save the state_dict alone")
    full = str(owner)
    budget.spend(CHARACTERS, len(full) + len(name), "its pickle")
    return Name(full, name, owner, makes=owner.makes and _is_class(name))


def _reconstruct(budget: Budget, cls: object, *_: object) -> object:
    if isinstance(cls, Known) and str(cls) == "numpy.ndarray":
        return np.empty((0,))
    if isinstance(cls, Name):  # copyreg._reconstructor(class, object, None)
        return Record(cls)
    raise TypeError


def _record(module: str, name: str) -> Callable[..., Record]:
    return lambda *args: Record(Known(module, name), args)


def _call(module: str, name: str) -> Callable[..., Record]:
    return lambda budget, *args: Record(Known(module, name), args, called=True)


SPD_METRIC = Known("geoopt.manifolds.symmetric_positive_definite", "SPDMetric")
"""An enum beside a pickled manifold: its value, and no call of ours."""


def _table() -> dict[str, Known]:
    table: dict[str, Known] = {}

    def put(names: str, call: Callable[..., object] | None = None, new: Callable[..., object] | None = None) -> None:
        for full in names.split():
            module, _, name = full.rpartition(".")
            table[full] = Known(module, name, call, new)

    for builtins in ("builtins", "__builtin__"):
        put(f"{builtins}.set", _collection(set))
        put(f"{builtins}.frozenset", _collection(frozenset))
        put(f"{builtins}.list", _collection(list))
        put(f"{builtins}.tuple", _collection(tuple))
        put(f"{builtins}.complex", lambda budget, re, im=0.0: complex(float(re), float(im)))
        put(f"{builtins}.bytes", _bytes)
        put(f"{builtins}.bytearray", lambda budget, *args: bytearray(_bytes(budget, *args)))
        put(f"{builtins}.slice", _call("builtins", "slice"))
        put(f"{builtins}.getattr", _attribute)
        put(f"{builtins}.dict", _table_of(dict))
        put(f"{builtins}.object {builtins}.int {builtins}.float {builtins}.str {builtins}.bool")
    put("_codecs.encode", _encode)
    put("collections.OrderedDict", _table_of(OrderedDict), _empty(OrderedDict))
    put("collections.defaultdict", _default)
    put("collections.Counter", _table_of(Counts), _empty(Counts))
    put("argparse.Namespace", None, _record("argparse", "Namespace"))
    for name in ("Namespace", "SimpleNamespace"):
        put(f"types.{name}", _call("types", name), _record("types", name))
    for path in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"):
        put(f"pathlib.{path}", _call("pathlib", path))
        put(f"pathlib._local.{path}", _call("pathlib._local", path))
    for path in ("datetime.datetime", "datetime.date", "datetime.time", "datetime.timedelta", "datetime.timezone", "decimal.Decimal",
                 "fractions.Fraction", "uuid.UUID", "collections.deque"):  # fmt: skip
        module, _, name = path.partition(".")
        put(path, _call(module, name), _record(module, name))
    put("functools.partial", Partial)
    put("geoopt.tensor._rebuild_manifold_tensor")
    put("copyreg._reconstructor copy_reg._reconstructor", _reconstruct)
    for core in ("numpy.core", "numpy._core"):
        put(f"{core}.multiarray._reconstruct", _reconstruct)
        put(f"{core}.multiarray.scalar", _scalar)
        put(f"{core}.numeric._frombuffer", _frombuffer)
    put("numpy.ndarray")
    put("numpy.dtype", DType)
    put("torch._utils._rebuild_tensor torch._utils._rebuild_tensor_v2", _rebuild_tensor)
    put("torch._utils._rebuild_tensor_v3", _rebuild_v3)
    put("torch._utils._rebuild_parameter torch._utils._rebuild_parameter_with_state", _rebuild_parameter)
    put("torch._tensor._rebuild_from_type_v2 torch.tensor._rebuild_from_type_v2", _rebuild_from_type)
    put("torch.nn.parameter.Parameter torch.nn.parameter.Buffer torch.nn.Parameter", _rebuild_parameter)
    put("torch.Tensor torch._tensor.Tensor geoopt.tensor.ManifoldParameter geoopt.tensor.ManifoldTensor")
    # Data around tensors, carried as it is: a sparse tensor is a layout, and tensors of indices and values.
    put("torch._utils._rebuild_sparse_tensor", _call("torch._utils", "_rebuild_sparse_tensor"))
    put("torch.serialization._get_layout", _call("torch.serialization", "_get_layout"))
    put(f"{SPD_METRIC.module}.{SPD_METRIC.name}", _call(SPD_METRIC.module, SPD_METRIC.name))
    put("torch.Size", _size)
    put("torch.device", _call("torch", "device"))
    for dtype in (*NUMPY, *ALIASES):
        put(f"torch.{dtype}")
    for storage in STORAGES:
        put(f"torch.{storage} torch.cuda.{storage} torch.storage.{storage}")
    put("pytorch_lightning.utilities.parsing.AttributeDict lightning.pytorch.utilities.parsing.AttributeDict "
        "lightning_fabric.utilities.data.AttributeDict lightning.fabric.utilities.data.AttributeDict", None, _empty(dict))  # fmt: skip
    return table


def _size(budget: Budget, items: object = ()) -> Size:
    if not isinstance(items, (list, tuple)):
        raise TypeError
    return Size(items)


_KNOWN = _table()


def find(module: str, name: str) -> Known | Name:
    """What a global of the file stands for; Refused for one that has no business in a model."""
    full = f"{module}.{name}"
    if full in _KNOWN:
        return _KNOWN[full]
    if module.startswith(SPREAD):
        raise Refused(f"a tensor is spread over the processes that trained it ({full:.120})", GATHER)
    parts = module.split(".")
    if any(".".join(parts[:n]) in DANGEROUS for n in range(1, len(parts) + 1)) or full in DANGEROUS:
        raise Refused(
            f"the pickle names {full:.120}, which is not on the reader's list",
            "Do not load this file in torch unless you trust its author",
        )
    if not all(part.isidentifier() for part in (*parts, *name.split("."))):
        raise Refused(f"the pickle names {shown(full)}, which is not a name", "The file is damaged")
    return Name(module, name, makes=_is_class(name) and parts[0] not in sys.stdlib_module_names)


def _is_class(name: str) -> bool:
    """Whether a name is written as classes are. Functions, which do things, are not."""
    return name.rpartition(".")[2].lstrip("_")[:1].isupper()


__all__ = ["find"]
