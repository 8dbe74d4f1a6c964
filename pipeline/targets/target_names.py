"""The registry of targets: each name and where it comes from; free of torch, for the command line."""

from pathlib import Path

from impure.pipeline.sources.source_names import BUILTIN

BUILTIN_CARD = Path(__file__).parents[1] / "builtin" / "card.json"

TARGETS: dict[str, str] = {
    BUILTIN: str(BUILTIN_CARD),
    "resnet101": "torchvision:resnet101",
    "inception_v3": "torchvision:inception_v3",
    "inception_resnet_v2": "timm:inception_resnet_v2.tf_in1k",
}
"""Name → the path of a card, `torchvision:NAME` or `timm:NAME`: the target that needs no download, and the
paper's three."""
