"""`impure-model`: export, convert, push and describe a trained purifier, and draw how it learnt."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from impure.manifests.base.errors import InputError
from impure.manifests.commands.click_options import json_option
from impure.manifests.commands.console import HELP, Group, print_json

if TYPE_CHECKING:
    from impure.purifier.riae.riae_config import Mask

run_argument = click.argument("run", type=click.Path(path_type=Path, exists=True, file_okay=False))


@click.group("impure-model", cls=Group, context_settings=HELP)
@click.version_option(package_name="impure")
def model() -> None:
    """Export, share and plot trained purifiers.

    A purifier becomes one file that runs without impure, or a model on the Hugging Face Hub with its card.

    \b
      impure-model export ./impure-runs/imagenet-base purifier.onnx
      impure-model push ./impure-runs/imagenet-base/best lab/purifier --private
      impure-eval --shards ROOT --checkpoint lab/purifier
    """


@model.command("export")
@click.argument("checkpoint")
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT.onnx|OUT.pt2")
@click.option("--height", type=click.IntRange(min=1), default=224, show_default=True,
    help="Height in pixels of the images that the file will take.",
)  # fmt: skip
@click.option("--width", type=click.IntRange(min=1), default=224, show_default=True,
    help="Width in pixels of the images that the file will take.",
)  # fmt: skip
@json_option
def export_command(checkpoint: str, out: Path, height: int, width: int, as_json: bool) -> None:
    """Write a purifier as one file that runs without impure.

    ONNX for onnxruntime and others (pip install 'impure[export]'), .pt2 for PyTorch alone; for batches of
    any number of images of one size. CHECKPOINT is a run's folder, its model.safetensors, or
    owner/name[@revision] on the Hugging Face Hub. The file is run and compared with the network before it
    takes its name.

    \b
      impure-model export ./impure-runs/imagenet-base purifier.onnx
      impure-model export lab/purifier inception.pt2 --height 299 --width 299
    """
    from impure.manifests.base.files import read_json
    from impure.purifier.checkpoints.export import export
    from impure.purifier.riae.model import RIAE
    from impure.purifier.riae.pretrained import CONFIG, locate

    folder, file = locate(checkpoint)
    collections = _trained_on(read_json(folder / CONFIG))
    done = export(RIAE.from_pretrained(file), out, height=height, width=width, collections=collections)
    inputs = {name: ["batch", *shape] for name, shape in done.description.inputs.items()}
    if as_json:
        return print_json(
            {"file": str(out), "bytes": out.stat().st_size, "inputs": inputs, "difference": done.difference}
        )
    click.echo(f"{out}: {out.stat().st_size / 2**20:.1f} MiB")
    for name, shape in inputs.items():
        click.echo(f"  {name}: float32 {shape}, " + ("RGB in [0,1]" if name == "images" else "normal noise"))
    return click.echo(f"It differs from the network by at most {done.difference:.1g} of a value in [0,1].")


def _trained_on(config: Mapping[str, Any]) -> list[str]:
    """Digests of the collections that a config names; it may be a stranger's."""
    data = config.get("data")
    named = data.get("collections") if isinstance(data, dict) else None
    return [name for name in named if isinstance(name, str)] if isinstance(named, list) else []


@model.command("convert")
@click.argument(
    "authors", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="AUTHORS.pth"
)
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.option("--mask", type=click.Choice(["occlusion", "image-noise", "feature-noise", "both"]),
    show_default="what the file tells",
    help="Masking mode that the network was trained for; the paper's method is both.",
)  # fmt: skip
@json_option
def convert_command(authors: Path, run: Path, mask: "Mask | None", as_json: bool) -> None:
    """Turn a checkpoint of the paper's release into a run.

    The run can be evaluated and purified with as any other. No code in the file is run. The release states no
    licence: the card says so.

    \b
      impure-model convert checkpoint-99.pth ./impure-runs/authors
      impure-eval --shards ROOT --checkpoint ./impure-runs/authors
    """
    from impure.manifests.base.canonical_json import plain
    from impure.manifests.base.files import sha256_file
    from impure.purifier.checkpoints.checkpoint import save_weights
    from impure.purifier.checkpoints.init_weights import LICENSES, InitRecord
    from impure.purifier.checkpoints.model_card import write_card
    from impure.purifier.checkpoints.release import from_release
    from impure.purifier.riae.pretrained import CONFIG

    if (run / CONFIG).exists():
        raise InputError(f"{run}: holds a run already; choose another folder")
    riae = from_release(authors, mask)
    weights = riae.state_dict()
    init = InitRecord(
        origin="release", file=authors.name, sha256=sha256_file(authors), license=LICENSES["release"],
        loaded=tuple(weights), random=(),
    )  # fmt: skip
    save_weights(run, weights, plain({"riae": asdict(riae.config), "init": asdict(init)}))
    card = write_card(run)
    parameters = sum(parameter.numel() for parameter in riae.parameters())
    if as_json:
        return print_json({"out": str(run), "mask": riae.config.mask, "parameters": parameters})
    click.echo(f"Run: {run} ({riae.config.mask}, {parameters / 1e6:.1f} M parameters; licence: see {card})")
    return click.echo(f"Next: impure-eval --shards ROOT --checkpoint {shlex.quote(str(run))}")


@model.command("push")
@run_argument
@click.argument("repo_id")
@click.option("--private", is_flag=True, help="Make a new repository for its owner only.")
@click.option("--revision", show_default="the main one",
    help="Branch to push to; it is made if it is not there.",
)  # fmt: skip
@json_option
def push_command(run: Path, repo_id: str, private: bool, revision: str | None, as_json: bool) -> None:
    """Upload a run to the Hugging Face Hub.

    Its config, its weights and a fresh card are uploaded, and nothing else of it. REPO_ID is owner/name. Log
    in first: `hf auth login`, or the environment's HF_TOKEN.

    \b
      impure-model push ./impure-runs/imagenet-base/best lab/purifier --private
      impure-purify photo.jpg clean.png --checkpoint lab/purifier
    """
    from impure.purifier.checkpoints.hub import push_to_hub
    from impure.purifier.checkpoints.model_card import write_card

    write_card(run)
    url = push_to_hub(run, repo_id, private=private, revision=revision)
    return print_json({"url": url}) if as_json else click.echo(url)


@model.command("card")
@run_argument
@json_option
def card_command(run: Path, as_json: bool) -> None:
    """Write a checkpoint's model card, README.md.

    It says what the network is, what it learnt from, its accuracies and its licence.
    """
    from impure.purifier.checkpoints.model_card import write_card

    path = write_card(run)
    return print_json({"file": str(path)}) if as_json else click.echo(str(path))


@model.command("curves")
@run_argument
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), show_default="RUN",
    help="Folder of the plot.",
)  # fmt: skip
@json_option
def curves_command(run: Path, out: Path | None, as_json: bool) -> None:
    """Draw a run's learning curves.

    Losses and learning rate by update, from log.csv; accuracy on clean and attacked images by epoch, from
    validation.csv, as curves.svg and curves.png; and curves.json for `impure-eval report`. A run that still
    goes on is drawn as far as it is; an older plot is replaced.

    \b
      impure-model curves ./impure-runs/imagenet-base
    """
    from impure.manifests.base.files import write_text
    from impure.purifier.evaluation.figures.learning_curves import curves_plot, read_curves
    from impure.purifier.evaluation.figures.plot_style import save
    from impure.purifier.evaluation.validation_table import FILE as VALIDATION
    from impure.purifier.training.train_log import FILE as LOG

    curves = read_curves(run / LOG, run / VALIDATION)
    folder = out or run
    paths = [str(path) for path in save(curves_plot(curves), folder, "curves")]
    document = curves.document(run.resolve().name)
    paths.append(str(write_text(folder / "curves.json", json.dumps(document, indent=1) + "\n")))
    updates, epochs = int(curves.log["step"][-1]), len(curves.scores)
    if as_json:
        return print_json({"files": paths, "updates": updates, "validations": epochs})
    return click.echo(f"{updates} updates, {epochs} validations: {' '.join(paths)}")
