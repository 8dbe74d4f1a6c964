"""Opening the source of clean images that a user names: a folder, WebDataset tars or the built-in dataset."""

from pathlib import Path

from impure.manifests.base.errors import InputError
from impure.manifests.base.patterns import find_files
from impure.pipeline.sources.builtin_source import BuiltinSource
from impure.pipeline.sources.folder import FolderSource
from impure.pipeline.sources.source import Photo, Source, SourceImage
from impure.pipeline.sources.source_names import BUILTIN
from impure.pipeline.sources.tars import TarSource

__all__ = ["Photo", "Source", "SourceImage", "open_source"]


def open_source(where: str, labels: Path | None = None) -> Source:
    """Open what `--images` names.

    Args:
        where: `builtin`, a folder, or a tar or glob of WebDataset tars (see `patterns`).
        labels: Ground truth of a flat validation folder; by default one of `folder.LABEL_FILES` in it.

    Raises:
        InputError: The folder or tar does not exist.
    """
    if where == BUILTIN:
        return BuiltinSource()
    if where.endswith(".tar"):
        return TarSource(_expand(where))
    root = Path(where)
    if not root.is_dir():
        raise InputError(
            f"{where}: no such folder; --images takes an ImageNet folder, WebDataset .tar files or builtin"
        )
    return FolderSource(root, labels)


def _expand(pattern: str) -> list[Path]:
    """Tars that a path or glob names, in order."""
    paths = find_files(pattern)
    if not paths:
        raise InputError(f"{pattern}: no such tar file")
    return paths
