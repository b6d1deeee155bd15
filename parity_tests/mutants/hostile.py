"""Errors in what protects from files that somebody made to do harm."""

from parity_tests.mutants.mutation import Mutation, error

HOSTILE = "weights/files/test_hostile.py"
BOMBS = f"{HOSTILE}::test_bombs_are_refused_in_a_second"

MUTATIONS: tuple[Mutation, ...] = (
    error(
        "a value of a file printed whole and then cut",
        "weights/files/torch_zip.py",
        'raise Unreadable(f"the pickle refers to {shown(identity)}"',
        'raise Unreadable(f"the pickle refers to {str(identity)[:80]}"',
        BOMBS,
    ),
    error(
        "keys that share a hash compared for nothing",
        "weights/files/budget.py",
        "self.spend(STEPS, size * (1 + before),",
        "self.spend(STEPS, size,",
        BOMBS,
    ),
    error(
        "repetitions of an object not paid for",
        "weights/files/pickles/bounds.py",
        "                if id(value) in self.met:\n",
        "                if False:\n",
        BOMBS,
    ),
    error(
        "only the largest of many views paid for",
        "weights/files/tensors.py",
        "        self.viewed += size\n",
        "        self.viewed = max(self.viewed, size)\n",
        BOMBS,
    ),
    error(
        "what entries unpack to not paid for",
        "weights/files/archive.py",
        "self.budget.spend(MEMORY, info.file_size, ",
        "self.budget.spend(MEMORY, 0, ",
        BOMBS,
    ),
    error(
        "the last of two equal keys of JSON taken",
        "weights/files/json_text.py",
        "    if len(table) != len(pairs):\n",
        "    if False:\n",
        f"{HOSTILE}::test_a_key_twice_is_named",
    ),
    error(
        "names as a spreadsheet computes them",
        "weights/views/embed_formats.py",
        '        name = f"\'{name}"\n',
        "        pass\n",
        "weights/views/test_embed.py::test_names_that_a_spreadsheet_would_compute",
    ),
    error(
        "the caption of a picture as mathematics",
        "weights/views/disk_picture.py",
        'va="bottom", fontsize=7, parse_math=False)',
        'va="bottom", fontsize=7)',
        "weights/views/test_terminal.py::test_names_of_nodes_are_text_in_a_picture",
    ),
)
