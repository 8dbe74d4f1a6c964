"""RIAE's decoders: each subset is rebuilt from the tokens of the other three (paper, section 3.2.1)."""

import torch
from torch import Tensor, nn

from impure.purifier.riae.blocks import Block, CrossBlock


def sequences(own: Tensor, visible: Tensor) -> Tensor:
    """One sequence for each subset: its own tokens, then the visible tokens of all other subsets.

    Args:
        own: (B, S, M, D).
        visible: (B, S, L, D).

    Returns:
        (B * S, M + (S - 1) * L, D), the data copied once.
    """
    batch, subsets, _, dim = own.shape
    shown = visible.unbind(1)
    parts = [
        part
        for index, tokens in enumerate(own.unbind(1))
        for part in (tokens, *shown[:index], *shown[index + 1 :])
    ]
    return torch.cat(parts, dim=1).view(batch * subsets, -1, dim)


def of_other_subsets(classes: Tensor) -> Tensor:
    """For each subset the class tokens (B, S, D) of all other subsets, side by side: (B, S, (S - 1) * D)."""
    parts = classes.unbind(1)
    return torch.stack(
        [torch.cat(parts[:index] + parts[index + 1 :], dim=-1) for index in range(len(parts))], dim=1
    )


class CopyDecoder(nn.ModuleList):
    """The paper's: S copies of all tokens, in copy i those of subset i masked; of copy i, subset i is kept.

    The order of tokens means nothing to attention (positions are in them), so each copy begins with the
    tokens that are kept, and the last block computes nothing else. The first block's LayerNorm and
    projections of a visible token are the same in every copy, and are computed once.
    """

    def __init__(self, dim: int, heads: int, depth: int) -> None:
        super().__init__(Block(dim, heads) for _ in range(depth))

    def forward(self, visible: Tensor, class_tokens: Tensor, masked: Tensor) -> Tensor:
        """Rebuild every subset.

        Args:
            visible: Tokens that other subsets may see (B, S, L, D), with positions.
            class_tokens: Each copy's class token (B, S, D).
            masked: Tokens that stand where subset i is rebuilt (B, S, L, D), with positions.

        Returns:
            Rebuilt tokens (B, S, L, D).
        """
        own = torch.cat([masked, class_tokens[:, :, None]], dim=2)  # B, S, L + 1, D
        first, *later = self.children()
        keeps = [None] * len(later) + [masked.shape[2]]  # None: all tokens
        features = self._first_block(first, own, visible, keeps[0])  # type: ignore[arg-type]  # a Block
        for block, keep in zip(later, keeps[1:], strict=True):
            features = block(features, keep)
        return features.view(masked.shape)

    def _first_block(self, block: Block, own: Tensor, visible: Tensor, keep: int | None) -> Tensor:
        """The first block, with what the copies have in common computed once."""
        projected = sequences(*(block.attn.qkv(block.norm1(tokens)) for tokens in (own, visible)))
        query, key, value = projected.chunk(3, dim=-1)  # B * S, N + 1, D
        return block.attend(sequences(own, visible)[:, :keep], query[:, :keep], key, value)


class CrossDecoder(nn.ModuleList):
    """An option that is not the paper's: only masked tokens are decoded, and attend to visible ones alone.

    The visible tokens stay as the encoder made them, so that every block projects each of them once, and
    computes for as many tokens as the image has patches: a quarter of `CopyDecoder` (as in CrossMAE, Fu et
    al. 2024).
    """

    def __init__(self, dim: int, heads: int, depth: int) -> None:
        super().__init__(CrossBlock(dim, heads) for _ in range(depth))

    def forward(self, visible: Tensor, class_tokens: Tensor, masked: Tensor) -> Tensor:
        """Rebuild every subset; see `CopyDecoder.forward`."""
        tokens = masked.flatten(0, 1)
        for block in self.children():
            project = block.keys_and_values
            context = sequences(project(class_tokens[:, :, None]), project(visible))  # type: ignore[operator]
            tokens = block(tokens, context)
        return tokens.view(masked.shape)


DECODERS: dict[str, type[CopyDecoder] | type[CrossDecoder]] = {"copies": CopyDecoder, "cross": CrossDecoder}
