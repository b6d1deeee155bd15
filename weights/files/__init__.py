"""Reading and writing, without torch and without running anything of a file: what is on disk, and what it says is where."""

__all__ = [
    "archive",
    "atomic",
    "config",
    "dtypes",
    "folder",
    "npz",
    "object_json",
    "opening",
    "pickles",
    "reader",
    "safetensors",
    "sections",
    "source",
    "storages",
    "tensors",
    "torch_legacy",
    "torch_zip",
    "writer",
]
