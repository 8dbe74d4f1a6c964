"""The built-in dataset and its target: everything the pipeline needs, with nothing to download."""

from impure.pipeline.builtin.images import CLASSES, SIZES, render

__all__ = ["CLASSES", "SIZES", "render"]
