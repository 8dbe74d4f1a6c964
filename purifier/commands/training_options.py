"""The options of `impure-train`, in the sections of its help."""

from pathlib import Path
from typing import get_args

import click

from impure.manifests.commands.click_options import device_options, json_option, options
from impure.manifests.commands.yaml_options import read_options
from impure.purifier.riae.riae_config import PRESETS, DecoderKind, Mask

data_options = options(
    click.option("--config", type=click.Path(path_type=Path, dir_okay=False), metavar="RUN.YAML",
        is_eager=True, expose_value=False, callback=read_options,
        help="Options by name, one a line; those on the command line win. Each run leaves its own as "
        "run.yaml."),
    click.option("--shards", help="A collection's folder or URL (https://, s3://, …), or a glob of its "
        "tars: 'ROOT/resnet101/*/train/*.tar'."),
    click.option("--split", default="train", show_default=True, help="Split to train on."),
    click.option("--attacks", help="Only these attacks, e.g. fgsm,pgd,mifgsm. [default: all there are]"),
    click.option("--clean-pairs/--no-clean-pairs", default=True, show_default=True,
        help="Also learn to leave clean images alone."),
    click.option("--pretrain", is_flag=True, help="Pre-train on clean photographs (--images) with the pixel "
        "loss alone, crops of 160 to 320 pixels."),
    click.option("--images",
        help="For --pretrain: ImageNet's folder, tars or builtin, as for generate."),
    click.option("--labels", type=click.Path(path_type=Path), help="For --images with a flat val/."),
    click.option("--init", type=click.Path(path_type=Path), help="Weights to begin with: a run of ours, the "
        "authors' .pth, or an MAE ViT-B (its weights are for non-commercial use)."),
)  # fmt: skip
model_options = options(
    click.option("--model", type=click.Choice(list(PRESETS)), help="base is the paper's, 115.8 M "
        "parameters. [default: tiny on built-in images, else base]"),
    click.option("--mask", type=click.Choice(get_args(Mask)),
        default="both", show_default=True, help="How a subset is masked (paper 5.1)."),
    click.option("--decoder", type=click.Choice(get_args(DecoderKind)), default="copies", show_default=True,
        help="copies is the paper's; cross decodes the masked tokens alone, at a quarter of its cost."),
)  # fmt: skip
loss_options = options(
    click.option("--recipe", type=click.Choice(["code", "paper", "pixel"]), help="Loss: the authors' code, "
        "the paper's text, or pixels alone. [default: code; tiny: pixel]"),
    click.option("--features",
        help="Feature network of the loss: torchvision:NAME, timm:NAME or card.json. "
        "[default: the recipe's VGG19]"),
    click.option("--feature-node", "feature_nodes", multiple=True, metavar="NODE=WEIGHT",
        help="Layer of it and its weight in the loss, e.g. layer4=10; again for more. "
        "[default: the recipe's]"),
    click.option("--feature-weights", type=click.Path(path_type=Path), help="Its weights file."),
)  # fmt: skip
update_options = options(
    click.option("--epochs", type=click.IntRange(min=1),
        help="Passes over the data. [default: 100; tiny: 3]"),
    click.option("--batch-size", type=click.IntRange(min=1),
        help="Images of an update, over all GPUs and accumulated parts. [default: 64; tiny: 8]"),
    click.option("--accumulate", type=click.IntRange(min=1),
        help="Parts of a GPU's share, one after the other, for less memory. [default: 1]"),
    click.option("--variants", type=click.IntRange(min=1), help="Pairs of one clean image that stand "
        "together and share its crop and features; 1 mixes pairs one by one. [default: 2]"),
    click.option("--crop", type=click.IntRange(min=1),
        help="Side of the training crops in pixels, a multiple of 32 (tiny: 8). "
        "[default: 192 of 224, 256 of 299, else the whole image]"),
    click.option("--lr", type=float, help="Peak learning rate. [default: 1e-4; small: 5e-4; tiny: 5e-3]"),
    click.option("--blr", type=float, help="The same for 256 images; scaled by --batch-size."),
    click.option("--warmup-epochs", type=click.IntRange(min=0),
        help="Epochs of rising learning rate. [default: 5; tiny: 1; at most half of --epochs]"),
    click.option("--weight-decay", type=float, help="AdamW's, on matrices and kernels. [default: 0.05]"),
    click.option("--grad-clip", type=float,
        help="Largest norm of the gradient; 0 for none. [default: 0]"),
    click.option("--ema", type=float,
        help="Decay of averaged weights, such as 0.9999; 0 for none. [default: 0]"),
    click.option("--bf16/--no-bf16", default=False, help="Autocast to bfloat16."),
    click.option("--compile/--no-compile", "compiled", default=False,
        help="Compile the network with PyTorch."),
    click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True,
        help="Of every draw."),
)  # fmt: skip
validation_options = options(
    click.option("--validate", metavar="SPLIT|none", help="Split to validate on, through the targets; the "
        "best weights are kept in OUT/best. [default: validation, where it is there and its targets can be "
        "had]"),
    click.option("--validate-images", type=click.IntRange(min=1), default=200, show_default=True,
        help="Of each target and attack."),
    click.option("--validate-epochs", type=click.IntRange(min=1), default=1, show_default=True,
        help="Epochs between validations."),
    click.option("--target", "targets", multiple=True,
        help="For validation: card.json or timm:NAME of the target that made the shards, where its name is "
        "none of resnet101, inception_v3, inception_resnet_v2 and builtin."),
    click.option("--weights", type=click.Path(path_type=Path),
        help="For validation: weights of that target."),
)  # fmt: skip
run_options = options(
    click.option("--tensorboard/--no-tensorboard", default=False, help="Also write OUT/tensorboard."),
    click.option("--workers", type=click.IntRange(min=0), help="Decoding processes of each GPU. "
        "[default: its share of the cores, at most 16; on a CPU 0]"),
    device_options,
    click.option("--dry-run", is_flag=True, help="Say what would be trained on what, and stop."),
    click.option("--out", type=click.Path(path_type=Path),
        help="Run folder. [default: ./impure-runs/NAME-MODEL]"),
    json_option,
)  # fmt: skip
train_options = options(
    data_options, model_options, loss_options, update_options, validation_options, run_options
)

SECTIONS = {
    "config": "Data", "model": "Network", "recipe": "Loss", "epochs": "Updates", "validate": "Validation",
    "tensorboard": "Run",
}  # fmt: skip
"""Headings in --help, by the first option below each."""
