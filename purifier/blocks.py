"""The transformer block of encoder and decoder (ViT, pre-norm)."""

from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-6  # of every LayerNorm, as in ViT and MAE


class Attention(nn.Module):
    """Multi-head self-attention; on request only the first `keep` tokens ask, all tokens answer."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.projection = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, keep: int) -> Tensor:
        """Map tokens (B, N, D) to (B, keep, D)."""
        dim = tokens.shape[-1]
        if keep == tokens.shape[1]:
            query, key, value = self.qkv(tokens).chunk(3, dim=-1)
        else:
            query = F.linear(tokens[:, :keep], self.qkv.weight[:dim], self.qkv.bias[:dim])
            key, value = F.linear(tokens, self.qkv.weight[dim:], self.qkv.bias[dim:]).chunk(2, dim=-1)
        query, key, value = (
            each.unflatten(2, (self.heads, -1)).transpose(1, 2) for each in (query, key, value)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)  # B, heads, keep, D / heads
        output: Tensor = self.projection(mixed.transpose(1, 2).flatten(2))
        return output


class Block(nn.Module):
    """LayerNorm, attention, LayerNorm, MLP, both with a residual."""

    def __init__(self, dim: int, heads: int, mlp_ratio: int = 4) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=EPSILON)
        self.attention = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=EPSILON)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_ratio * dim), nn.GELU(), nn.Linear(mlp_ratio * dim, dim))

    def forward(self, tokens: Tensor, keep: int | None = None) -> Tensor:
        """Map tokens (B, N, D) to (B, keep, D), the new values of the first `keep` tokens (default: all).

        The values are those of the whole computation; what nobody reads is not computed.
        """
        keep = tokens.shape[1] if keep is None else keep
        tokens = tokens[:, :keep] + self.attention(self.norm1(tokens), keep)
        output: Tensor = tokens + self.mlp(self.norm2(tokens))
        return output
