"""All mutations, those that take the least time to say something wrong first."""

from parity_tests.mutants import (
    data,
    from_torch,
    gates,
    graphs,
    hcnn,
    helm,
    hostile,
    hypll,
    layers,
    manifolds,
    meru,
    meshes,
    models,
    optimizers,
    pairs,
    poincare_resnet,
    proof,
    sections,
    tidhy,
    weights,
)
from parity_tests.mutants.mutation import Mutation

SUBJECTS = {
    "manifolds": manifolds.MUTATIONS,
    "optimizers": optimizers.MUTATIONS,
    "from_torch": from_torch.MUTATIONS,
    "graphs": graphs.MUTATIONS,
    "layers": layers.MUTATIONS,
    "meshes": meshes.MUTATIONS,
    "models": models.MUTATIONS,
    "TiDHy": tidhy.MUTATIONS,
    "MERU": meru.MUTATIONS,
    "HypLL": hypll.MUTATIONS,
    "HCNN": hcnn.MUTATIONS,
    "HELM": helm.MUTATIONS,
    "Poincaré ResNet": poincare_resnet.MUTATIONS,
    "both sides": pairs.MUTATIONS,
    "small errors": gates.MUTATIONS,
    "data and training": data.MUTATIONS,
    "weights": weights.MUTATIONS,
    "beside the model": sections.MUTATIONS,
    "hostile files": hostile.MUTATIONS,
    "proof": proof.MUTATIONS,
}
MUTATIONS: tuple[Mutation, ...] = tuple(mutation for table in SUBJECTS.values() for mutation in table)
