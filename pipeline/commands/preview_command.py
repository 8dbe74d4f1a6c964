"""`impure-data preview`: draw a contact sheet of a collection."""

from pathlib import Path

import click

from impure.manifests.commands.click_options import root_argument
from impure.manifests.commands.console import Command


@click.command("preview", cls=Command)
@root_argument
@click.option("--per-attack", type=click.IntRange(1, 16), default=4, show_default=True,
    help="Number of pairs in the row of an attack.",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), show_default="ROOT/preview.png",
    help="PNG file to write.",
)  # fmt: skip
def preview_command(root: Path, per_attack: int, out: Path | None) -> None:
    """Draw a contact sheet.

    Shows clean image, adversarial image, perturbation ×8 and predictions, attack by attack.
    """
    from impure.manifests.base.files import atomic_path
    from impure.manifests.collection.shard_filter import select_shards
    from impure.manifests.views.preview import contact_sheet
    from impure.pipeline.targets.of_collection import class_names

    shards = select_shards(str(root))
    sheet = contact_sheet(shards, per_attack, class_names(shards))
    path = out or root / "preview.png"
    with atomic_path(path) as temporary:
        sheet.save(temporary, "PNG")
    click.echo(str(path))
