"""Layers of hyperbolic networks as linen modules, and the functions that they share with the models."""

from port_jax.layers.activations import ACTIVATIONS, leaky_relu
from port_jax.layers.decoders import Hyperplanes, TangentLinear, fermi_dirac, info_nce
from port_jax.layers.gcn import Dense, GraphAttention, edge_weights
from port_jax.layers.hgat import BlanketAttention, OriginAttention
from port_jax.layers.hgcn import HgcnAggregation, HgcnLayer, HgcnLinear
from port_jax.layers.hybonet import LorentzAggregation, LorentzDecoder, LorentzGraphConvolution, LorentzLinear
from port_jax.layers.learnable_curvature import Curved, manifold_of
from port_jax.layers.standard import GRU, LSTM, MultiheadAttention
from port_jax.layers.tangent import HypLinear

__all__ = [
    "ACTIVATIONS",
    "GRU",
    "LSTM",
    "BlanketAttention",
    "Curved",
    "Dense",
    "GraphAttention",
    "HgcnAggregation",
    "HgcnLayer",
    "HgcnLinear",
    "HypLinear",
    "Hyperplanes",
    "LorentzAggregation",
    "LorentzDecoder",
    "LorentzGraphConvolution",
    "LorentzLinear",
    "MultiheadAttention",
    "OriginAttention",
    "TangentLinear",
    "edge_weights",
    "fermi_dirac",
    "info_nce",
    "leaky_relu",
    "manifold_of",
]
