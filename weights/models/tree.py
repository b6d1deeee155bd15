"""Any module built of geoopt parameters, as a tree of parameters that nests as the keys do."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from weights.convert import Entry
from weights.errors import Usage
from weights.tensors import Tensor

RAW = {"isp_c", "isp_k", "k", "_scale", "_log_scale"}
"""Names under which geoopt's manifolds keep their curvature and scale, as single numbers."""
BUFFERS = re.compile(r"(.*\.)?(running_mean|running_var|num_batches_tracked|projector|xp)")


def entries(tensors: Mapping[str, Tensor], moved: Collection[str]) -> list[Entry]:
    """Floating tensors become parameters at params/<key with slashes>; buffers, integers and fixed curvatures stay constants.

    A curvature counts as fixed unless the optimizer has `moved` it, or its pickle says that it takes gradients.
    """
    result = []
    for key, tensor in tensors.items():
        if any(not part or "/" in part for part in key.split(".")):
            raise Usage(f"the key {key!r} does not nest", "Rename it in torch: parts between dots, without slashes")
        buffer = (
            tensor.kind == "buffer"
            or BUFFERS.fullmatch(key)
            or not tensor.dtype.startswith(("float", "bfloat", "complex"))
        )
        raw = tensor.numel == 1 and key.rpartition(".")[2] in RAW
        fixed = raw and key not in moved and not (tensor.kind == "parameter" and tensor.requires_grad)
        buffer = buffer or fixed
        path = None if buffer else "params/" + key.replace(".", "/")
        result.append(Entry(key, "constant" if buffer else "parameter", tensor.shape, tensor.dtype, path))
    return result
