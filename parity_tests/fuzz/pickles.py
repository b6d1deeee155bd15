"""Pickles from a grammar: every operation of the machine, memo entries used again, containers inside of themselves, globals on the list
and others, tensors of odd sizes; and the pickles of real files with operations moved, repeated and left out."""

from __future__ import annotations

import io
import pickletools
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

from parity_tests.fuzz import seeds
from parity_tests.fuzz.draw import FLOATS, INTEGERS, TEXTS, Random, below, chance, one_of
from parity_tests.fuzz.trial import Case
from parity_tests.weights.files import assembly as a

GLOBALS = """
collections.OrderedDict collections.defaultdict collections.Counter builtins.set builtins.frozenset builtins.list builtins.tuple
builtins.complex builtins.bytes builtins.bytearray builtins.slice builtins.getattr builtins.dict builtins.object builtins.int
__builtin__.set _codecs.encode argparse.Namespace types.SimpleNamespace pathlib.PosixPath pathlib.WindowsPath functools.partial
geoopt.tensor._rebuild_manifold_tensor copyreg._reconstructor numpy.core.multiarray._reconstruct numpy._core.multiarray.scalar
numpy.core.numeric._frombuffer numpy.ndarray numpy.dtype torch._utils._rebuild_tensor torch._utils._rebuild_tensor_v2
torch._utils._rebuild_tensor_v3 torch._utils._rebuild_parameter torch._tensor._rebuild_from_type_v2 torch.nn.parameter.Parameter
torch.Tensor geoopt.tensor.ManifoldParameter torch._utils._rebuild_sparse_tensor torch.serialization._get_layout torch.Size torch.device
torch.float32 torch.FloatStorage torch.BFloat16Storage torch.storage.UntypedStorage lightning.fabric.utilities.data.AttributeDict
geoopt.manifolds.stereographic.manifold.PoincareBall hypll.tensors.manifold_tensor.ManifoldTensor mine.Module torch.relu
""".split()  # noqa: SIM905
REFUSED = """
os.system posix.system builtins.eval builtins.exec subprocess.Popen torch.load torch.hub.load torch.distributed.tensor.DTensor
numpy.testing.x operator.attrgetter builtins.__import__ types.FunctionType sys.modules not-a.name a..b
""".split()  # noqa: SIM905
STORAGES = (
    "FloatStorage",
    "DoubleStorage",
    "HalfStorage",
    "BFloat16Storage",
    "LongStorage",
    "IntStorage",
    "ShortStorage",
    "CharStorage",
    "ByteStorage",
    "BoolStorage",
    "ComplexFloatStorage",
    "QInt8Storage",
    "UntypedStorage",
    "Nothing",
)
SIZES = (0, 1, 2, 3, 4, 5, 16, 255, 1 << 20, 1 << 31, 1 << 40, (1 << 61) - 1, -1)
KEYS = ("w", "emb", "lin.weight", "lin.bias", "a.b", "module.w", "_orig_mod.w", "x")


class Grammar:
    """Draws values as the operations that make them."""

    def __init__(self, random: Random):
        self.random, self.known, self.next = random, [], 0

    def value(self, depth: int) -> bytes:
        """Any value."""
        kinds = self.leaves if depth <= 0 else [*self.leaves, *self.nodes * 2]
        made = one_of(self.random, kinds)(depth - 1)
        return made + self.kept() if chance(self.random, 0.15) else made

    def kept(self) -> bytes:
        """Puts the top of the stack into the memo."""
        self.known.append(self.next)
        self.next += 1
        return a.put(self.known[-1])

    @property
    def leaves(self) -> list[Callable[[int], bytes]]:
        return [self.number, self.text, self.again, self.constant, self.name, self.tensor, self.blob]

    @property
    def nodes(self) -> list[Callable[[int], bytes]]:
        return [self.tuple, self.list, self.dict, self.set, self.call, self.new, self.built, self.rounds, self.tensor, self.numpy, self.odd]

    def constant(self, depth: int) -> bytes:
        return one_of(self.random, (b"N", b"\x88", b"\x89", b")", b"]", b"}", b"\x8f"))

    def number(self, depth: int) -> bytes:
        n = one_of(self.random, INTEGERS)
        kind = below(self.random, 5)
        if kind == 0:
            return b"I%d\n" % n
        if kind == 1:
            return b"L%dL\n" % n
        if kind == 2:
            return b"G" + struct.pack(">d", one_of(self.random, FLOATS))
        return b"F%s\n" % repr(one_of(self.random, FLOATS)).encode() if kind == 3 else a.integer(n)

    def text(self, depth: int) -> bytes:
        data = one_of(self.random, TEXTS).encode("utf-8", "surrogatepass")
        kind = below(self.random, 6)
        if kind == 0 and len(data) < 256:
            return b"\x8c" + bytes([len(data)]) + data
        if kind == 1:
            return b"\x8d" + struct.pack("<Q", len(data)) + data
        if kind == 2:
            return b"V" + data.replace(b"\n", b" ") + b"\n"
        return b"U" + bytes([len(data[:200])]) + data[:200] if kind == 3 else a.text(data)

    def blob(self, depth: int) -> bytes:
        data = self.random.bytes(below(self.random, 20))
        return (
            one_of(self.random, (b"C" + bytes([len(data)]), b"\x96" + struct.pack("<Q", len(data)), b"B" + struct.pack("<I", len(data))))
            + data
        )

    def again(self, depth: int) -> bytes:
        """What is in the memo, or should be."""
        if not self.known or chance(self.random, 0.1):
            return one_of(self.random, (a.get(below(self.random, 300)), b"h\x00", b"g99999999999999\n", b"NN0", b"N2\x86"))
        return a.get(one_of(self.random, self.known))

    def name(self, depth: int) -> bytes:
        full = one_of(self.random, GLOBALS if chance(self.random, 0.9) else REFUSED)
        module, _, name = full.rpartition(".")
        return a.named(module, name) if chance(self.random, 0.7) else a.text(module) + a.text(name) + b"\x93"

    def values(self, depth: int, most: int = 4) -> bytes:
        return b"".join(self.value(depth) for _ in range(below(self.random, most)))

    def tuple(self, depth: int) -> bytes:
        return a.tuple_of(self.values(depth)) if chance(self.random, 0.7) else self.value(depth) + self.value(depth) + b"\x86"

    def list(self, depth: int) -> bytes:
        return a.list_of(self.values(depth)) if chance(self.random, 0.7) else b"]" + self.value(depth) + b"a"

    def set(self, depth: int) -> bytes:
        return b"\x8f(" + self.values(depth) + b"\x90"

    def dict(self, depth: int) -> bytes:
        pairs = [
            (self.text(0) if chance(self.random, 0.8) else self.value(depth)) + self.value(depth) for _ in range(below(self.random, 4))
        ]
        return a.dict_of(*pairs) if chance(self.random, 0.7) else b"}" + b"".join(pair + b"s" for pair in pairs)

    def call(self, depth: int) -> bytes:
        return self.name(0) + self.tuple(depth) + a.CALL

    def new(self, depth: int) -> bytes:
        return self.name(0) + (a.EMPTY + b"\x81" if chance(self.random, 0.8) else self.tuple(depth) + self.dict(depth) + b"\x92")

    def built(self, depth: int) -> bytes:
        return one_of(self.random, (self.new, self.call, self.name, self.module))(depth) + self.value(depth) + b"b"

    def module(self, depth: int) -> bytes:
        return a.module(
            *(self.text(0) + self.value(depth) for _ in range(2)), parameters=a.text(one_of(self.random, KEYS)) + self.tensor(0)
        )

    def rounds(self, depth: int) -> bytes:
        """Containers inside of themselves, directly and through another one, and containers twice inside of each other."""
        at, kind = self.next, below(self.random, 5)
        if kind == 0:
            return a.twice(below(self.random, 62), one_of(self.random, ("tuple", "list")))
        self.next += 1
        if kind == 1:
            return b"]" + a.put(at) + a.get(at) + b"a"
        if kind == 2:
            return b"]" + a.put(at) + a.get(at) + b"\x85a"
        if kind == 3:
            return b"}" + a.put(at) + a.text("k") + a.get(at) + b"s"
        return b"]" + a.put(at) + a.tuple_of(a.get(at), a.get(at), self.value(depth)) + b"a"

    def numpy(self, depth: int) -> bytes:
        dtype = a.called(
            "numpy", "dtype", a.text(one_of(self.random, ("f4", "f8", "i8", "b1", "O", "U4", "c8", "V8", "f3", "f99"))), b"\x89", b"\x88"
        )
        if chance(self.random, 0.3):
            dtype += a.tuple_of(a.integer(3), a.text(one_of(self.random, "<>|=?")), b"NNN", *[a.integer(-1)] * 2, a.integer(0)) + b"b"
        size = below(self.random, 20)
        if chance(self.random, 0.4):
            return a.called("numpy.core.multiarray", "scalar", dtype, a.blob(bytes(size)))
        shape = a.tuple_of(*(a.integer(one_of(self.random, SIZES)) for _ in range(below(self.random, 3))))
        if chance(self.random, 0.5):
            return a.called("numpy.core.numeric", "_frombuffer", a.blob(bytes(size)), dtype, shape, a.text(one_of(self.random, "CFA")))
        made = a.called("numpy.core.multiarray", "_reconstruct", a.named("numpy", "ndarray"), a.tuple_of(a.integer(0)), a.blob(b"b"))
        return made + a.tuple_of(a.integer(1), shape, dtype, one_of(self.random, (b"\x88", b"\x89")), a.blob(bytes(size))) + b"b"

    def odd(self, depth: int) -> bytes:
        """Operations that no file has, and those that do not fit here."""
        return one_of(
            self.random,
            (
                b"\x82\x01",
                b"\x97",
                b"i\n\n",
                b"o",
                b"(",
                b"0",
                b"1",
                b"t",
                b"u",
                b"s",
                b"a",
                b"e",
                b"R",
                b"b",
                b"Q",
                b".",
                b"\x94",
                b"\x95" + bytes(8),
                b"\x80\x05",
                b"q\x01",
                b"p-1\n",
                b"\xff",
                b"\x8b\xff\xff\xff\xff",
                b"P0\n",
            ),
        )

    def tensor(self, depth: int, key: str = "", wild: float = 0.4) -> bytes:
        """A view of a storage: inside of it, or of sizes that nobody has."""
        random = self.random
        key = key or one_of(random, ("0", "1", "2", "9", "", "../0"))
        if not chance(random, wild):
            rows, columns, offset = 1 + below(random, 3), 1 + below(random, 3), below(random, 3)
            stride = one_of(random, ((columns, 1), (1, rows), (0, 1), (1, 0), (1, 1)))
            if chance(random, 0.05):  # at the end of the storage, or one beyond
                offset = 15 + below(random, 2) - (rows - 1) * stride[0] - (columns - 1) * stride[1]
            return a.tensor(one_of(random, "01"), 16, offset=offset, shape=(rows, columns), stride=stride)
        dimensions = below(random, 4)
        shape = tuple(one_of(random, SIZES) for _ in range(dimensions))
        stride = tuple(one_of(random, SIZES) for _ in range(dimensions + chance(random, 0.1)))
        made = a.tensor(
            key, one_of(random, (16, *SIZES)), kind=one_of(random, STORAGES), offset=one_of(random, SIZES), shape=shape, stride=stride
        )
        return (
            a.called("torch._utils", "_rebuild_parameter", made, b"\x88", a.called("collections", "OrderedDict"))
            if chance(random, 0.2)
            else made
        )

    def root(self) -> bytes:
        """A checkpoint of good tensors mostly, with anything beside them."""
        random, wild = self.random, one_of(self.random, (0.0, 0.0, 0.05, 0.4))
        model = a.dict_of(*(a.text(key) + self.tensor(0, "0", wild) for key in KEYS[: 1 + below(random, len(KEYS))]))
        if chance(random, 0.15):
            return self.value(5)
        parts = [a.text(one_of(random, ("model", "state_dict", "net", "ema"))) + model]
        for name in ("optimizer", "args", "config", "epoch", "scheduler", "objects", "x"):
            if chance(random, 0.3):
                parts.append(a.text(name) + self.value(4))
        random.shuffle(parts)
        return a.dict_of(*parts) if chance(random, 0.9) else model


def drawn(random: Random, source: Path, folder: Path) -> Case:
    """A torch file whose pickle the grammar has made."""
    body = Grammar(random).root()
    if chance(random, 0.2):
        path = a.legacy(folder / "x.pth", body, a.list_of(a.text("0"), a.text("1")), 2 * (struct.pack("<q", 16) + bytes(64)))
    else:
        storages = {"0": bytes(range(64)), "1": bytes(64), "2": bytes(16)}
        path = a.archive(folder / "x.pth", a.pickled(body), storages, packed=chance(random, 0.1))
    return Case(path, "a pickle from the grammar", {"arch": "tree"}, torch=True)


def moved(random: Random, source: Path, folder: Path) -> Case:
    """The pickle of a real file, operations repeated, left out, swapped, or with another argument."""
    name = one_of(random, ("tree.pth", "adam.pth", "named.pth", "module.pth"))
    with zipfile.ZipFile(io.BytesIO(seeds.data(source / name))) as file:
        entries = {info.filename: file.read(info) for info in file.infolist()}
    at = next(entry for entry in entries if entry.endswith("/data.pkl"))
    body = entries[at]
    places = [place for _, _, place in pickletools.genops(body)]
    pieces = [body[i:j] for i, j in zip(places, [*places[1:], len(body)])]
    for _ in range(1 + below(random, 3)):
        i, j, kind = below(random, len(pieces)), below(random, len(pieces)), below(random, 6)
        if kind == 0:
            pieces[i], pieces[j] = pieces[j], pieces[i]
        elif kind == 1:
            pieces.insert(i, pieces[j])
        elif kind == 2:
            del pieces[i]
        elif kind == 3:
            pieces[i] = Grammar(random).value(2)
        elif kind == 4:
            pieces[i:i] = pieces[j : j + below(random, 12)]
        else:
            gets = [n for n, piece in enumerate(pieces) if piece[:1] in b"hj"] or [0]
            pieces[one_of(random, gets)] = pieces[one_of(random, gets)]
    entries[at] = b"".join(pieces)
    with zipfile.ZipFile(folder / name, "w") as file:
        for entry, content in entries.items():
            file.writestr(entry, content)
    return Case(folder / name, f"operations of the pickle of {name}", seeds.given(random), torch=True)
