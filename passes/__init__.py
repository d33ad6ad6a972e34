"""Graph passes, installed as `qcompiler.passes`: one pass per file, in the order in which they run."""

from qcompiler.ir.passes import Pass

if __name__ != "qcompiler.passes":
    raise ImportError("import qcompiler.passes; the folder 'passes' of the checkout is not a package of its own")

from .canonical_attention import CanonicalAttention
from .copy_tokens import CopyTokens
from .correct_bias import CorrectBias
from .drop_unread_tokens import DropUnreadTokens
from .expand_fused_activation import ExpandFusedActivation
from .expand_fused_attention import ExpandFusedAttention
from .expand_fused_gelu import ExpandFusedGelu
from .expand_fused_matmul import ExpandFusedMatmul
from .expand_skip_norm import ExpandSkipNorm
from .flatten_tokens import FlattenTokens
from .fold_channel_scales import FoldChannelScales
from .fold_constants import FoldConstants
from .fold_layer_scale import FoldLayerScale
from .fuse_epilogue import FuseEpilogue
from .fuse_gelu import FuseGelu
from .fuse_layer_norm import FuseLayerNorm
from .fuse_prologue import FusePrologue
from .linear_to_matmul import LinearToMatmul
from .lower_attention import LowerAttention
from .lower_linears import LowerLinears
from .merge_qkv import MergeQkv
from .name_layers import NameLayers
from .narrow_activations import NarrowActivations
from .order_tokens import OrderTokens
from .pad_tokens import PadTokens
from .patch_embedding import PatchEmbedding
from .quantize_attention import QuantizeAttention
from .quantize_linears import QuantizeLinears
from .remove_noops import RemoveNoops
from .resolve_shapes import ResolveShapes
from .restore_tokens import RestoreTokens
from .upgrade_opset import UpgradeOpset

# From what an exporter wrote to the canonical float graph.
CANONICALISE: tuple[type[Pass], ...] = (
    ExpandFusedActivation,
    ExpandFusedMatmul,
    ExpandFusedGelu,
    ExpandSkipNorm,
    ExpandFusedAttention,
    UpgradeOpset,
    FoldConstants,
    ResolveShapes,
    FoldConstants,  # what depended on shapes that are constants now
    RemoveNoops,
    FuseLayerNorm,
    FuseGelu,
    LinearToMatmul,
    RestoreTokens,
    PatchEmbedding,
    PadTokens,
    CopyTokens,
    CanonicalAttention,
    MergeQkv,
    FoldLayerScale,
    FlattenTokens,
    DropUnreadTokens,
    RemoveNoops,  # layout operators that the passes above put next to each other
    NameLayers,
)

# From the canonical graph to the explicit quantized graph.
QUANTIZE: tuple[type[Pass], ...] = (FoldChannelScales, CorrectBias, QuantizeLinears, QuantizeAttention)

# From the quantized graph to the operators of the runtime.
LOWER: tuple[type[Pass], ...] = (LowerLinears, LowerAttention, OrderTokens, FuseEpilogue, FusePrologue)

# From float32 to float16 activations, where they are asked for.
NARROW: tuple[type[Pass], ...] = (NarrowActivations,)

__all__ = ["CANONICALISE", "LOWER", "NARROW", "QUANTIZE"]
