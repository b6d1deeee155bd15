"""Layers of hyperbolic networks as linen modules, and the functions that they share with the models."""

from port_jax.layers.activations import ACTIVATIONS, leaky_relu
from port_jax.layers.attention import LorentzAttention
from port_jax.layers.batch_norm import LorentzBatchNorm, MidpointBatchNorm
from port_jax.layers.convolution import LorentzConv2d, PoincareConv2d
from port_jax.layers.decoders import Hyperplanes, TangentLinear, fermi_dirac, info_nce
from port_jax.layers.embedding import PointEmbedding
from port_jax.layers.gcn import Dense, GraphAttention, edge_weights
from port_jax.layers.helm import LorentzRotaryAttention, LorentzSwiGLU
from port_jax.layers.hgat import BlanketAttention, OriginAttention
from port_jax.layers.hgcn import HgcnAggregation, HgcnLayer, HgcnLinear
from port_jax.layers.hybonet import LorentzAggregation, LorentzDecoder, LorentzGraphConvolution, LorentzLinear
from port_jax.layers.hyperplanes import GaneaMLR, LorentzMLR, PoincareMLR
from port_jax.layers.hypformer import ClassPoints, GraphBranch, HypformerAttention
from port_jax.layers.hypll import ConstrainedBall, HAvgPool2d, HBatchNorm, HFlatten, HMaxPool2d, constrained_ball
from port_jax.layers.learnable_curvature import Curved, manifold_of
from port_jax.layers.linear import LorentzFullyConnected, MobiusLinear, PoincareLinear
from port_jax.layers.lorentz_space import exp_map0, half_aperture, log_map0, oxy_angle
from port_jax.layers.pointwise import (
    SpaceActivation,
    SpaceDropout,
    SpaceLayerNorm,
    SpaceRMSNorm,
    TangentActivation,
    TangentDropout,
    TangentLayerNorm,
)
from port_jax.layers.pooling import MidpointPool, MidpointPool2d
from port_jax.layers.residual import MidpointResidual, MobiusResidual, SpaceResidual
from port_jax.layers.standard import GRU, LSTM, BatchNorm, MultiheadAttention
from port_jax.layers.tangent import HypLinear
from port_jax.layers.text_transformer import TextTransformer
from port_jax.layers.vision_transformer import VisionTransformer

__all__ = [
    "ACTIVATIONS",
    "GRU",
    "LSTM",
    "BatchNorm",
    "BlanketAttention",
    "ClassPoints",
    "ConstrainedBall",
    "Curved",
    "Dense",
    "GaneaMLR",
    "GraphAttention",
    "GraphBranch",
    "HAvgPool2d",
    "HBatchNorm",
    "HFlatten",
    "HMaxPool2d",
    "HgcnAggregation",
    "HgcnLayer",
    "HgcnLinear",
    "HypLinear",
    "Hyperplanes",
    "HypformerAttention",
    "LorentzAggregation",
    "LorentzAttention",
    "LorentzBatchNorm",
    "LorentzConv2d",
    "LorentzDecoder",
    "LorentzFullyConnected",
    "LorentzGraphConvolution",
    "LorentzLinear",
    "LorentzMLR",
    "LorentzRotaryAttention",
    "LorentzSwiGLU",
    "MidpointBatchNorm",
    "MidpointPool",
    "MidpointPool2d",
    "MidpointResidual",
    "MobiusLinear",
    "MobiusResidual",
    "MultiheadAttention",
    "OriginAttention",
    "PoincareConv2d",
    "PoincareLinear",
    "PoincareMLR",
    "PointEmbedding",
    "SpaceActivation",
    "SpaceDropout",
    "SpaceLayerNorm",
    "SpaceRMSNorm",
    "SpaceResidual",
    "TangentActivation",
    "TangentDropout",
    "TangentLayerNorm",
    "TangentLinear",
    "TextTransformer",
    "VisionTransformer",
    "constrained_ball",
    "edge_weights",
    "exp_map0",
    "fermi_dirac",
    "half_aperture",
    "info_nce",
    "leaky_relu",
    "log_map0",
    "manifold_of",
    "oxy_angle",
]
