"""The transformer blocks of encoder and decoder (ViT, pre-norm)."""

from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-6  # of every LayerNorm, as in ViT and MAE


class Attention(nn.Module):
    """Multi-head self-attention, in two steps so that projections can be shared (see `CopyDecoder`)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.dim, self.heads = dim, heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.projection = nn.Linear(dim, dim)

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
        """Mix values (B, N, D) for queries (B, M, D): (B, M, D)."""
        output: Tensor = self.projection(mix(query, key, value, self.heads))
        return output


def mix(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Attend with queries (B, M, D) to keys and values (B, N, D), split into heads: (B, M, D)."""
    query, key, value = (each.unflatten(2, (heads, -1)).transpose(1, 2) for each in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def mlp(dim: int, ratio: int = 4) -> nn.Sequential:
    """The two layers of every block."""
    return nn.Sequential(nn.Linear(dim, ratio * dim), nn.GELU(), nn.Linear(ratio * dim, dim))


class Block(nn.Module):
    """LayerNorm, attention, LayerNorm, MLP, both with a residual."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=EPSILON)
        self.attention = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=EPSILON)
        self.mlp = mlp(dim)

    def forward(self, tokens: Tensor, keep: int | None = None) -> Tensor:
        """Map tokens (B, N, D) to (B, keep, D), the new values of the first `keep` tokens (default: all).

        The values are those of the whole computation; what nobody reads is not computed.
        """
        keep = tokens.shape[1] if keep is None else keep
        return self.attend(tokens[:, :keep], *self.attention.project(self.norm1(tokens), keep))

    def attend(self, tokens: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The rest of the block once queries (B, M, D) of tokens (B, M, D), keys and values are there."""
        tokens = tokens + self.attention(query, key, value)
        output: Tensor = tokens + self.mlp(self.norm2(tokens))
        return output


class CrossBlock(nn.Module):
    """Like `Block`, but the tokens ask others and not each other."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim, eps=EPSILON)
        self.norm_source = nn.LayerNorm(dim, eps=EPSILON)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.projection = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim, eps=EPSILON)
        self.mlp = mlp(dim)

    def answers(self, source: Tensor) -> Tensor:
        """Keys and values (..., 2D) of the tokens (..., D) that are asked."""
        projected: Tensor = self.key_value(self.norm_source(source))
        return projected

    def forward(self, tokens: Tensor, answers: Tensor) -> Tensor:
        """Map tokens (B, M, D), given keys and values (B, N, 2D), to (B, M, D)."""
        key, value = answers.chunk(2, dim=-1)
        mixed = mix(self.query(self.norm1(tokens)), key, value, self.heads)
        tokens = tokens + self.projection(mixed)
        output: Tensor = tokens + self.mlp(self.norm2(tokens))
        return output
