"""DIR: an autoencoder of two complementary halves of the patches (Zhou et al. 2023, ICML)."""

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from impure.manifests.base.errors import InputError
from impure.pipeline.targets.trainable_target import TrainableTarget
from impure.pipeline.targets.weights import load_strictly
from impure.purifier.defences.base.classify import Classifier
from impure.purifier.defences.base.parameters import Value
from impure.purifier.defences.trained.base.network_defence import NetworkDefence
from impure.purifier.defences.trained.base.network_sizes import check_sizes
from impure.purifier.defences.trained.base.own_classifier import build_for
from impure.purifier.defences.trained.base.trainable import (
    FeatureDefault,
    Features,
    TrainableNetwork,
    TrainingImages,
)
from impure.purifier.riae.blocks import Block, LayerNorm, PatchEmbed, initialise
from impure.purifier.riae.patches import (
    patchify,
    position_table,
    put_back,
    random_partition,
    reflect_pad,
    take,
    uniform_partition,
    unpatchify,
)


class ComplementaryAutoencoder(TrainableNetwork):
    """Encodes two halves of an image's patches apart, decodes a whole image from each, averages the two.

    The paper gives no sizes for 224 px: these are those of RIAE's base, which are MAE's (He et al. 2022). In
    training the halves are drawn at random, at test they are the two colours of a chessboard; for the latter
    too there is no word in the paper.
    """

    name = "dir"

    def __init__(
        self,
        *,
        patch: int = 16,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        decoder_width: int = 512,
        decoder_depth: int = 8,
        decoder_heads: int = 16,
        position_period: float = 10000.0,
        position_scale: float = 1.0,
        card: str = "",
    ) -> None:
        """Build it with random weights.

        Args:
            patch: Side of a patch in pixels.
            width: Numbers in a token of the encoder.
            depth: Blocks of the encoder.
            heads: Attention heads of the encoder.
            decoder_width: Numbers in a token of the decoder.
            decoder_depth: Blocks of the decoder.
            decoder_heads: Attention heads of the decoder.
            position_period: Base of the positions' frequencies.
            position_scale: Factor of the positions.
            card: Of the classifier that learns as well (see `JointAutoencoder`), as JSON; empty for none.

        Raises:
            InputError: A size is out of range.
        """
        super().__init__()
        check_sizes(
            "dir",
            patch=(patch, 64),
            width=(width, 4096),
            depth=(depth, 64),
            heads=(heads, width),
            decoder_width=(decoder_width, 4096),
            decoder_depth=(decoder_depth, 64),
            decoder_heads=(decoder_heads, decoder_width),
            position_period=(position_period, 1e9),
            position_scale=(position_scale, 1e9),
        )
        check_width("width", width, heads)
        check_width("decoder_width", decoder_width, decoder_heads)
        self.patch = patch
        self.width = width
        self.depth = depth
        self.heads = heads
        self.decoder_width = decoder_width
        self.decoder_depth = decoder_depth
        self.decoder_heads = decoder_heads
        self.position_period = position_period
        self.position_scale = position_scale
        self.multiple = 2 * patch
        self.classifier = TrainableTarget(card) if card else None
        self.card = self.classifier.card if self.classifier else ""
        self.patch_embed = PatchEmbed(patch, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = LayerNorm(width)
        self.decoder_embed = nn.Linear(width, decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_width))
        self.decoder_blocks = nn.ModuleList(Block(decoder_width, decoder_heads) for _ in range(decoder_depth))
        self.decoder_norm = LayerNorm(decoder_width)
        self.decoder_pred = nn.Linear(decoder_width, 3 * patch**2)
        for part in (
            self.patch_embed,
            self.blocks,
            self.decoder_embed,
            self.decoder_blocks,
            self.decoder_pred,
        ):
            part.apply(initialise)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, images: Tensor, halves: Tensor) -> Tensor:
        """Rebuild images from each half of their patches.

        Args:
            images: RGB in [0,1] (B, 3, H, W); both sides multiples of `multiple`.
            halves: Indices (B, 2, N / 2) of the patches in each half.

        Returns:
            The mean of both (B, 3, H, W), not clamped.
        """
        height, width = images.shape[2:]
        rows, columns = height // self.patch, width // self.patch
        tokens = self.patch_embed(patchify(2 * images - 1, self.patch)) + self.positions(
            rows, columns, self.width, images
        )
        seen = take(tokens, halves).flatten(0, 1)  # 2B, N / 2, D
        for block in self.blocks:
            seen = block(seen)
        rebuilt = self.decode(self.norm(seen), halves, rows, columns)
        return (unpatchify(rebuilt, self.patch, height, width) + 1) / 2

    def decode(self, seen: Tensor, halves: Tensor, rows: int, columns: int) -> Tensor:
        """The mean of the patches (B, N, 3pp) that are decoded from either half's tokens (2B, N / 2, D)."""
        visible = self.decoder_embed(seen)
        positions = self.positions(rows, columns, self.decoder_width, visible).expand(len(halves), -1, -1)
        own = take(positions, halves).flatten(0, 1)
        other = take(positions, halves.flip(1)).flatten(0, 1)
        tokens = torch.cat([visible + own, self.mask_token + other], dim=1)  # 2B, N, d
        for block in self.decoder_blocks:
            tokens = block(tokens)
        patches = self.decoder_pred(self.decoder_norm(tokens)).unflatten(0, (-1, 2))
        orders = (halves, halves.flip(1))  # of the decoded patches: a half's own, then the other's
        of_each = [
            put_back(decoded.unflatten(1, (2, -1)), order)
            for decoded, order in zip(patches.unbind(1), orders, strict=True)
        ]
        return torch.stack(of_each).mean(0)

    def positions(self, rows: int, columns: int, dim: int, like: Tensor) -> Tensor:
        """Positions (N, dim) of a grid of patches, in the type of a tensor and on its device."""
        table = position_table(rows, columns, dim, self.position_period)
        return (self.position_scale * table).flatten(0, 1).to(like)

    def losses(self, images: TrainingImages, generator: Generator, features: Features | None) -> Tensor:
        """The mean squared error of the rebuilt images (1,) (stage 1)."""
        rebuilt = self(images.adversarial, self.draw_halves(images.adversarial, generator))
        return F.mse_loss(rebuilt, images.clean[images.clean_row])[None]

    def draw_halves(self, images: Tensor, generator: Generator) -> Tensor:
        """Each image's patches in two random halves: indices (B, 2, N / 2)."""
        patches = images.shape[2] * images.shape[3] // self.patch**2
        return random_partition(len(images), patches, generator, subsets=2)

    def purify(self, images: Tensor) -> Tensor:
        """Images of any size (B, 3, H, W), rebuilt from the two colours of a chessboard of patches."""
        padded = reflect_pad(images, self.multiple)
        rows, columns = (side // self.patch for side in padded.shape[2:])
        halves = uniform_partition(len(images), rows, columns, images.device, subsets=2)
        rebuilt: Tensor = self(padded, halves)
        return rebuilt[..., : images.shape[2], : images.shape[3]].clamp(0, 1)


def check_width(name: str, width: int, heads: int) -> None:
    """Refuse a width of tokens that heads and positions cannot divide among themselves.

    Raises:
        InputError: It is.
    """
    if width % 4 or width % heads:
        raise InputError(f"dir: {name} {width} must be a multiple of 4 and of its {heads} heads")


class JointAutoencoder(ComplementaryAutoencoder):
    """Stage 2: the autoencoder of stage 1, and the classifier behind it, which learns as well.

    The loss is the cross-entropy of rebuilt images, and the divergence of the classifier's predictions of
    these from those of the clean ones. The paper's weights of the two are unknown to us: here they are equal.
    """

    name = "dir-joint"
    features = FeatureDefault()  # the shards' classifier, with which it begins
    loss_names = ("loss", "cross_entropy", "kl")
    first_stage = ComplementaryAutoencoder

    @classmethod
    def begin(cls, sizes: dict[str, Value], classifier: nn.Module | None) -> "JointAutoencoder":
        """The autoencoder with random weights, and the classifier with its own.

        Raises:
            InputError: A size is out of range.
        """
        network, target = build_for(cls, sizes, classifier)
        network.own_classifier.take(target)
        return network

    @property
    def own_classifier(self) -> TrainableTarget:
        """The classifier.

        Raises:
            InputError: There is none.
        """
        if self.classifier is None:
            raise InputError("dir-joint: the network has no card of its classifier")
        return self.classifier

    def take(self, network: TrainableNetwork, where: str) -> None:
        """Begin with an autoencoder of stage 1; the classifier stays as it is."""
        if network.sizes() != {**self.sizes(), "card": ""}:
            raise InputError(f"{where}: has sizes {network.sizes()}; here they are {self.sizes()}")
        own = {name: weight for name, weight in self.state_dict().items() if name.startswith("classifier.")}
        load_strictly(self, {**network.state_dict(), **own}, where)

    def losses(self, images: TrainingImages, generator: Generator, features: Features | None) -> Tensor:
        """The sum, cross-entropy and KL divergence (3,)."""
        rebuilt = self(images.adversarial, self.draw_halves(images.adversarial, generator))
        logits = self.own_classifier(rebuilt).log_softmax(1)
        clean = self.own_classifier(images.clean).log_softmax(1)[images.clean_row]
        cross_entropy = F.nll_loss(logits, images.labels)
        divergence = F.kl_div(logits, clean, log_target=True, reduction="batchmean")
        return torch.stack([cross_entropy + divergence, cross_entropy, divergence])


class DIR(NetworkDefence):
    """Rebuilds images from two complementary halves of their patches; exact gradient."""

    network_kind = ComplementaryAutoencoder
    source = "Zhou et al. 2023, ICML"
    threat_model = "white-box"

    def __init__(self, network: ComplementaryAutoencoder) -> None:
        """Put the network in eval mode."""
        super().__init__()
        self.network = network.eval()

    def defend(self, images: Tensor) -> Tensor:
        """Return rebuilt images."""
        return self.network.purify(images)


class JointDIR(DIR):
    """`DIR` with the classifier that was trained behind it; exact gradient."""

    network_kind = JointAutoencoder

    def __init__(self, network: JointAutoencoder) -> None:
        """Put the network in eval mode."""
        super().__init__(network)
        self.classifier = network.own_classifier

    def classify(self, defended: Tensor, classifier: Classifier) -> Tensor:
        """Logits of the trained classifier; the other is not asked."""
        logits: Tensor = self.classifier(defended)
        return logits
