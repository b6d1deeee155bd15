"""What files have beside a model: several optimizers, runs of training, graphs, manifolds that are pickled."""

from parity_tests.mutants.mutation import Mutation, error

SEVERAL, RUN = "weights/optim/test_several.py", "weights/test_training_run.py"

MUTATIONS: tuple[Mutation, ...] = (
    error(
        "a pickled manifold of matrices without its metric",
        "weights/mapping/manifold_trees.py",
        "return getattr(manifolds, name)(**_metric(record)), None",
        "return getattr(manifolds, name)(), None",
        "weights/mapping/test_complex_points.py::test_a_pickled_manifold_keeps_its_metric",
    ),
    error(
        "moments in another order than in the file",
        "weights/optim/saving.py",
        "_strided(entry.shape, array.dtype, back, old.stride)",
        "deferred(array.dtype, entry.shape, back)",
        "weights/mapping/test_complex_points.py::test_points_of_siegel_spaces_go_on_and_come_back",
    ),
    error(
        "a sparse adjacency whose columns receive",
        "weights/files/graph_arrays.py",
        '"adj_row": row, "adj_col": column,',
        '"adj_row": column, "adj_col": row,',
        "weights/views/test_graph_files.py::test_every_layout_is_the_same_graph",
    ),
    error(
        "entries of a sparse adjacency that stand twice are not added",
        "weights/files/graph_arrays.py",
        "    np.add.at(summed, where, values)\n",
        "    summed[where] = values\n",
        "weights/views/test_graph_files.py::test_every_layout_is_the_same_graph",
    ),
    error(
        "a run of training: the latest state where the best is asked for",
        "weights/training_run.py",
        "return restore(folder, which)",
        'return restore(folder, "latest")',
        f"{RUN}::test_a_run_becomes_the_torch_file_that_it_began_with",
    ),
    error(
        "a run of training: the optimizer's arrays in the order of their names",
        "weights/from_jax.py",
        "cast = [leaf_of(np.asarray(have[at], np.asarray(leaf).dtype)) for at, leaf in want.items()]",
        "cast = [leaf_of(np.asarray(have[at])) for at in sorted(want)]",
        f"{RUN}::test_a_run_becomes_the_torch_file_that_it_began_with",
    ),
    error(
        "several optimizers: points on the manifold from before the other optimizer's step",
        "weights/optim/several.py",
        "moved = jax.tree.map(lambda p, u: p + u, moved, change)",
        "moved = params",
        f"{SEVERAL}::test_points_follow_a_curvature_that_the_other_optimizer_trains",
    ),
    error(
        "several optimizers: parameters by shapes alone, the first way that fits",
        "weights/optim/owners.py",
        "if len(options) > 1 and not fixed(entry):",
        "if False:",
        f"{SEVERAL}::test_what_nothing_says_is_asked_with_the_choices",
    ),
    error(
        "one optimizer: the first reading of its indices that fits",
        "weights/optim/owners.py",
        "if (several := _shared(mine, found)) is not None:",
        "if False:",
        "weights/optim/test_divisions.py::test_a_buffer_in_the_place_of_a_fixed_curvature_is_asked_for",
    ),
    error(
        "several optimizers: whose moments are those of points not looked at",
        "weights/optim/divisions.py",
        "return not self.flat and is_point(self.state)",
        "return False",
        f"{SEVERAL}::test_points_that_nobody_names_are_asked_for",
    ),
    error(
        "several optimizers: schedulers in the file's order",
        "weights/files/optimizers.py",
        "    settled = ways if len(ways) == 1 else named\n",
        "    settled = [tuple(range(len(open_)))]\n",
        f"{SEVERAL}::test_each_follows_its_own_scheduler",
    ),
)
