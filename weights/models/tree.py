"""Any module built of geoopt parameters, as a tree of parameters that nests as the keys do."""

from __future__ import annotations

import re
from collections.abc import Mapping

from weights.convert import Entry
from weights.errors import Usage
from weights.tensors import Tensor

BUFFERS = re.compile(r"(.*\.)?(running_mean|running_var|num_batches_tracked|projector|xp)")


def entries(tensors: Mapping[str, Tensor]) -> list[Entry]:
    """Floating tensors become parameters at params/<key with slashes>; buffers and integers stay constants."""
    result = []
    for key, tensor in tensors.items():
        if any(not part or "/" in part for part in key.split(".")):
            raise Usage(f"the key {key!r} does not nest", "Rename it in torch: parts between dots, without slashes")
        buffer = tensor.kind == "buffer" or BUFFERS.fullmatch(key) or not tensor.dtype.startswith(("float", "bfloat", "complex"))
        path = None if buffer else "params/" + key.replace(".", "/")
        result.append(Entry(key, "constant" if buffer else "parameter", tensor.shape, tensor.dtype, path))
    return result
