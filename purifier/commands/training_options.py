"""The options of `impure-train`, in the sections of its help."""

from pathlib import Path
from typing import get_args

import click

from impure.manifests.commands.click_options import (
    default_of,
    device_options,
    json_option,
    options,
    shown_default,
)
from impure.manifests.commands.yaml_options import read_options
from impure.pipeline.commands.shared_options import classifier_options
from impure.purifier.commands.shared_inputs import shards_option
from impure.purifier.defences.model_names import MODELS
from impure.purifier.losses.recipe import RECIPES
from impure.purifier.riae.riae_config import PRESETS, DecoderKind, Mask
from impure.purifier.training.runtime_options import CacheKind, RuntimeOptions
from impure.purifier.training.train_config import (
    ADVERSARIAL_RATE,
    ADVERSARIAL_TRAINING,
    RECIPE_TRAINING,
    TRAINING,
    Adversary,
    Stage,
    TrainConfig,
)


def _shown(field: str) -> str:
    """A field's default, with the presets that differ, as `--help` shows it."""
    rate = f"{ADVERSARIAL_RATE:g} of that"
    adversarial = {"stage adversarial": {**ADVERSARIAL_TRAINING, "learning_rate": rate}}
    return shown_default(TrainConfig, field, TRAINING | RECIPE_TRAINING | adversarial)


data_options = options(
    click.option("--config", type=click.Path(path_type=Path, dir_okay=False), metavar="RUN.YAML",
        is_eager=True, expose_value=False, callback=read_options,
        help="Read options from a file, by name, one a line; those on the command line win. Each run leaves "
        "its own as run.yaml."),
    shards_option(),
    click.option("--split", default="train", show_default=True, help="Train on this split."),
    click.option("--attacks", show_default="all there are",
        help="Train on these attacks only, separated by commas, such as fgsm,pgd,mifgsm."),
    click.option("--clean-pairs/--no-clean-pairs", default=None, show_default="what suits the model",
        help="Also learn to leave clean images alone."),
    click.option("--stage", type=click.Choice(get_args(Stage)), default=default_of(TrainConfig, "stage"),
        show_default=True, help="Learn from stored pairs; pre-train on clean photographs (--images) with the "
        "pixel loss alone, on crops of 160 to 320 pixels; or go on (--init) against attacks through RIAE "
        "itself, made anew from the shards' clean images."),
    click.option("--pretrain", is_flag=True, help="Short for --stage pretrain."),
    click.option("--images", help="With --pretrain: ImageNet's folder, its tars, or builtin, as for "
        "impure-data generate."),
    click.option("--labels", type=click.Path(path_type=Path), help="With --images that have a flat val/: the "
        "file of its ground truth."),
    click.option("--init", type=click.Path(path_type=Path), show_default="random weights",
        help="Begin with the weights of a run of ours, of the authors' .pth, or of an MAE ViT-B (its weights "
        "are for non-commercial use only)."),
)  # fmt: skip
network_options = options(
    click.option("--model", type=click.Choice([*PRESETS, *MODELS]), metavar="NAME",
        show_default="tiny on built-in images, else base",
        help=f"What to train. RIAE: {', '.join(PRESETS)}; base is the paper's, with 115.8 M parameters. "
        f"Other defences, with their papers' losses: {', '.join(MODELS)}; NAME-tiny is for built-in images."),
    click.option("--mask", type=click.Choice(get_args(Mask)), default=default_of(TrainConfig, "mask"),
        show_default=True, help="How a subset of patches is masked (paper 5.1)."),
    click.option("--decoder", type=click.Choice(get_args(DecoderKind)), show_default=True,
        default=default_of(TrainConfig, "decoder"), help="Kind of decoder: copies is the paper's; cross "
        "decodes the masked tokens alone, at a quarter of its cost."),
    click.option("--subsets", type=click.IntRange(2, 4), default=default_of(TrainConfig, "subsets"),
        show_default=True, help="Subsets that an image's patches are divided into (S in paper 3.2.1)."),
)  # fmt: skip
loss_options = options(
    click.option("--recipe", type=click.Choice(list(RECIPES)), show_default=_shown("recipe"),
        help="Loss: that of the authors' code, of the paper's text, or of pixels alone; release also takes "
        "their decay, noise, schedule, batch and start (docs/release.md)."),
    click.option("--features", show_default="the recipe's VGG19",
        help="Feature network of the loss: torchvision:NAME, timm:NAME or a card.json."),
    click.option("--feature-node", "feature_nodes", multiple=True, metavar="NODE=WEIGHT",
        show_default="the recipe's",
        help="Layer of the feature network and its weight in the loss, such as layer4=10; repeatable."),
    click.option("--feature-weights", type=click.Path(path_type=Path),
        help="File of the feature network's weights, where they cannot be downloaded."),
)  # fmt: skip
adversary_options = options(
    click.option("--eps", show_default=",".join(map(str, default_of(Adversary, "eps"))),
        help="L∞ budgets of the attacks in units of 1/255, separated by commas, each for an equal part of "
        "the run; the best weights are chosen at the last."),
    click.option("--attack-steps", type=click.IntRange(min=1), show_default=shown_default(Adversary, "steps"),
        help="Steps of PGD for each attacked image, each through RIAE and a target."),
    click.option("--clean-share", type=float, show_default=shown_default(Adversary, "clean_share"),
        help="Share of each batch that is not attacked, up to a half."),
    click.option("--ce-weight", type=float, show_default=shown_default(Adversary, "weight"),
        help="Weight of the target's cross-entropy, beside the distances from the clean image."),
    click.option("--hold-out", multiple=True, metavar="TARGET",
        help="Leave a target of the shards out, for evaluation later. The others take turns, update by "
        "update. Repeat it for more."),
)  # fmt: skip
optimization_options = options(
    click.option("--epochs", type=click.IntRange(min=1), show_default=_shown("epochs"),
        help="Passes over the data."),
    click.option("--batch-size", type=click.IntRange(min=1), show_default=_shown("batch_size"),
        help="Global batch size: images in one update, over all GPUs and gradient accumulation steps."),
    click.option("--grad-accum-steps", "grad_accum", type=click.IntRange(min=1),
        show_default=_shown("grad_accum"),
        help="Gradient accumulation: passes that each GPU splits its images of an update into, which needs "
        "less memory."),
    click.option("--variants", type=click.IntRange(min=1), show_default=_shown("variants"),
        help="Pairs of one clean image that stand together and share its crop and its features; 1 mixes "
        "pairs one by one."),
    click.option("--crop", type=click.IntRange(min=1),
        show_default="192 of 224 pixels, 256 of 299, else the whole image",
        help="Side of the training crops in pixels, a multiple of 32 (with the tiny network, of 8)."),
    click.option("--lr", type=float, show_default=_shown("learning_rate"), help="Peak learning rate."),
    click.option("--blr", type=float,
        help="Base learning rate, in place of --lr: it is scaled linearly with the global batch size, and "
        "holds for 256 images."),
    click.option("--warmup-epochs", type=click.IntRange(min=0), show_default=_shown("warmup_epochs"),
        help="Epochs in which the learning rate rises; by default at most half of --epochs."),
    click.option("--lr-cycles", type=click.IntRange(min=1), show_default=_shown("lr_cycles"),
        help="Cosine cycles of the learning rate that --epochs are divided into; the authors ran 3 of 100."),
    click.option("--weight-decay", type=float, show_default=_shown("weight_decay"),
        help="Weight decay of AdamW, on matrices and kernels alone."),
    click.option("--clip-grad", type=float, show_default=_shown("clip_grad"),
        help="Gradient clipping norm; 0 clips nothing."),
    click.option("--model-ema-decay", "ema_decay", type=float, show_default=_shown("ema_decay"),
        help="Decay of the exponential moving average of the weights, such as 0.9999; 0 keeps none."),
    click.option("--bf16/--no-bf16", default=default_of(TrainConfig, "bf16"), show_default=True,
        help="Compute in bfloat16 where autocast allows it."),
    click.option("--compile/--no-compile", "compiled", default=default_of(TrainConfig, "compiled"),
        show_default=True, help="Compile the network with torch.compile."),
    click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=default_of(TrainConfig, "seed"),
        show_default=True, help="Random seed of weights, order, crops, partitions and noise."),
)  # fmt: skip
validation_options = options(
    click.option("--validate", metavar="SPLIT|none",
        show_default="validation, if it is there and its classifiers can be had",
        help="Validate on this split, through its classifiers; the best weights are kept in OUT/best. In "
        "stage adversarial by PGD of 20 steps through the purifier, the worst of 5 draws."),
    click.option("--validate-images", type=click.IntRange(min=1), show_default=True,
        default=default_of(RuntimeOptions, "validate_images"),
        help="Validate on at most so many images of each target and attack."),
    click.option("--validate-epochs", type=click.IntRange(min=1),
        show_default="1, or until twice as many images are learnt from as are validated on",
        help="Epochs between validations."),
    classifier_options,
)  # fmt: skip
run_options = options(
    click.option("--tensorboard/--no-tensorboard", default=default_of(RuntimeOptions, "tensorboard"),
        show_default=True, help="Also write event files for TensorBoard, to OUT/tensorboard."),
    click.option("--workers", type=click.IntRange(min=0),
        show_default="this GPU's part of the cores, at most 16; on a CPU 0",
        help="Processes that decode images for each GPU; 0 decodes in the training process."),
    click.option("--cache", type=click.Choice(get_args(CacheKind)),
        show_default="ram where all images take at most 2 GiB, else none",
        help="Keep decoded pairs after the first epoch: in the memory of each training process, or on its "
        "GPU. A pair of 224 pixels takes 0.15 MB, and each clean image once as much."),
    device_options,
    click.option("--dry-run", is_flag=True, help="Refuse what training would refuse, say what would be "
        "trained on what, with time and memory by one measured update, and stop; nothing is written."),
    click.option("--profile", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.JSON",
        help="Instead of training, print the costliest kernels of some updates, and write a trace of them "
        "for ui.perfetto.dev (FILE.json.gz is smaller)."),
    click.option("--out", type=click.Path(path_type=Path), show_default="./impure-runs/NAME-MODEL",
        help="Folder of the run."),
    json_option,
)  # fmt: skip
train_options = options(
    data_options, network_options, loss_options, adversary_options, optimization_options, validation_options,
    run_options,
)  # fmt: skip

SECTIONS = {
    "config": "Data", "model": "Network", "recipe": "Loss", "eps": "Stage adversarial",
    "epochs": "Optimization", "validate": "Validation", "tensorboard": "Run",
}  # fmt: skip
"""Headings in --help, by the first option below each."""
