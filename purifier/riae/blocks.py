"""The parts of encoder and decoder (ViT, pre-norm), with the parameter names of timm."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NORM_EPSILON = 1e-6  # of every LayerNorm, as in ViT and MAE


class LayerNorm(nn.LayerNorm):
    """LayerNorm in the precision of its tokens; mean and variance are taken in float32 at least.

    Autocast's writes float32 whatever it reads: twice the bytes, and a cast before the next matrix product.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, eps=NORM_EPSILON)

    def forward(self, tokens: Tensor) -> Tensor:
        """Normalise each token (..., D) by itself."""
        if tokens.dtype == self.weight.dtype:
            return super().forward(tokens)
        with torch.autocast(tokens.device.type, enabled=False):
            weight, bias = self.weight.to(tokens.dtype), self.bias.to(tokens.dtype)
            return F.layer_norm(tokens, self.normalized_shape, weight, bias, self.eps)


class PatchEmbed(nn.Module):
    """A linear layer from patches to tokens; its weight is shaped as ViT's convolution: (D, 3, p, p)."""

    def __init__(self, patch: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, patch, stride=patch)

    def forward(self, patches: Tensor) -> Tensor:
        """Tokens (..., D) of patches (..., 3pp), whose values are ordered by row, column, colour."""
        weight = self.proj.weight.permute(0, 2, 3, 1).flatten(1)
        return F.linear(patches, weight, self.proj.bias)

    def initialise(self) -> None:
        """Xavier, as for the linear layer that it is."""
        linear = torch.empty_like(self.proj.weight.permute(0, 2, 3, 1), memory_format=torch.contiguous_format)
        nn.init.xavier_uniform_(linear.flatten(1))
        with torch.no_grad():
            self.proj.weight.copy_(linear.permute(0, 3, 1, 2))
        nn.init.zeros_(self.proj.bias)  # type: ignore[arg-type]


def initialise(module: nn.Module) -> None:
    """Start a linear layer as MAE does: Xavier weights, zero biases; for `Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, PatchEmbed):
        module.initialise()


class Attention(nn.Module):
    """Multi-head self-attention, in two steps so that projections can be shared (see `CopyDecoder`)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.dim = dim
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def project(self, tokens: Tensor, keep: int) -> tuple[Tensor, Tensor, Tensor]:
        """Query (B, keep, D) of the first `keep` tokens, key and value of all tokens (B, N, D)."""
        if keep == tokens.shape[1]:
            query, key, value = self.qkv(tokens).chunk(3, dim=-1)
        else:
            dim, weight, bias = self.dim, self.qkv.weight, self.qkv.bias
            query = F.linear(tokens[:, :keep], weight[:dim], bias[:dim])
            key, value = F.linear(tokens, weight[dim:], bias[dim:]).chunk(2, dim=-1)
        return query, key, value

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend with projected queries (B, M, D) to keys and values (B, N, D): (B, M, D)."""
        output: Tensor = self.proj(attention(query, key, value, self.heads))
        return output


class CrossAttention(nn.Module):
    """Multi-head attention to other tokens, whose keys and values can be shared (see `CrossDecoder`)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, keys_and_values: Tensor) -> Tensor:
        """Attend with tokens (B, M, D) to keys and values (B, N, 2D): (B, M, D)."""
        key, value = keys_and_values.chunk(2, dim=-1)
        output: Tensor = self.proj(attention(self.q(tokens), key, value, self.heads))
        return output


def attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Attend with queries (B, M, D) to keys and values (B, N, D), split into heads: (B, M, D)."""
    query, key, value = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


class Mlp(nn.Module):
    """The two layers of every block, four times as wide in between."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map each token (..., D) by itself to (..., D)."""
        output: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return output


class Block(nn.Module):
    """LayerNorm, attention, LayerNorm, MLP, both with a residual."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.attn = Attention(dim, heads)
        self.norm2 = LayerNorm(dim)
        self.mlp = Mlp(dim)

    def forward(self, tokens: Tensor, keep: int | None = None) -> Tensor:
        """Map tokens (B, N, D) to (B, keep, D), the new values of the first `keep` tokens (default: all).

        The values are those of the whole computation; what nobody reads is not computed.
        """
        keep = tokens.shape[1] if keep is None else keep
        return self.attend(tokens[:, :keep], *self.attn.project(self.norm1(tokens), keep))

    def attend(self, tokens: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Finish the block, given queries (B, M, D) of tokens (B, M, D), keys and values (B, N, D)."""
        tokens = tokens + self.attn(query, key, value)
        output: Tensor = tokens + self.mlp(self.norm2(tokens))
        return output


class CrossBlock(nn.Module):
    """Like `Block`, but the tokens attend to other tokens and not to each other."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.norm_context = LayerNorm(dim)
        self.attn = CrossAttention(dim, heads)
        self.norm2 = LayerNorm(dim)
        self.mlp = Mlp(dim)

    def keys_and_values(self, context: Tensor) -> Tensor:
        """Keys and values (..., 2D) of the tokens (..., D) that are attended to."""
        projected: Tensor = self.attn.kv(self.norm_context(context))
        return projected

    def forward(self, tokens: Tensor, keys_and_values: Tensor) -> Tensor:
        """Map tokens (B, M, D), given keys and values (B, N, 2D), to (B, M, D)."""
        tokens = tokens + self.attn(self.norm1(tokens), keys_and_values)
        output: Tensor = tokens + self.mlp(self.norm2(tokens))
        return output
