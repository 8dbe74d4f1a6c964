"""A small defence with random weights for every name that needs trained ones."""

from collections.abc import Callable

import torch

from impure.pipeline.targets.target_names import BUILTIN_CARD
from impure.purifier.defences.base.defence import Defence
from impure.purifier.defences.diffusion.consistency_purification import ConsistencyPurification
from impure.purifier.defences.diffusion.ddpm import DDPM
from impure.purifier.defences.diffusion.diffpure import DiffPure
from impure.purifier.defences.riae_defence import RIAEDefence
from impure.purifier.defences.trained.adversarial_training import AdversarialTraining, RobustClassifier
from impure.purifier.defences.trained.comdefend import ComDefend, ComDefendNetwork
from impure.purifier.defences.trained.dir import DIR, ComplementaryAutoencoder, JointAutoencoder, JointDIR
from impure.purifier.defences.trained.disco import Disco, DiscoNetwork
from impure.purifier.defences.trained.edsr import EDSR
from impure.purifier.defences.trained.hgd import HGD, DenoisingUNet
from impure.purifier.defences.trained.magnet import MagNet, MagNetNetwork
from impure.purifier.defences.trained.nrp import NRP, NRPNetwork
from impure.purifier.defences.trained.recon import Recon, ReconstructionNetwork
from impure.purifier.defences.trained.wavelet_sr import WaveletSR
from tests.purifier.conftest import small_riae

SMALL_DIR: dict[str, int] = {
    "patch": 4, "width": 16, "depth": 1, "heads": 2, "decoder_width": 8, "decoder_depth": 1,
    "decoder_heads": 2,
}  # fmt: skip
CARD = BUILTIN_CARD.read_text()


def _drawn(make: Callable[[], Defence]) -> Callable[[], Defence]:
    """The same weights each time; random numbers elsewhere stay as they are."""

    def made() -> Defence:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return make()

    return made


def _ddpm() -> DDPM:
    return DDPM(size=8, channels=8, levels=2, blocks=1, attention=1)


#: By name in DEFENCES.
SMALL: dict[str, Callable[[], Defence]] = {
    "riae": lambda: RIAEDefence(small_riae()),
    "wavelet-sr": _drawn(lambda: WaveletSR(EDSR(blocks=1, width=4))),
    "comdefend": _drawn(lambda: ComDefend(ComDefendNetwork(width=1))),
    "magnet": _drawn(lambda: MagNet(MagNetNetwork())),
    "hgd": _drawn(lambda: HGD(DenoisingUNet(width=2, levels=3))),
    "recon": _drawn(lambda: Recon(ReconstructionNetwork(width=2, blocks=1))),
    "dir": _drawn(lambda: DIR(ComplementaryAutoencoder(**SMALL_DIR))),  # type: ignore[arg-type]
    "dir-joint": _drawn(lambda: JointDIR(JointAutoencoder(card=CARD, **SMALL_DIR))),  # type: ignore[arg-type]
    "adversarial-training": _drawn(lambda: AdversarialTraining(RobustClassifier())),
    "disco": _drawn(lambda: Disco(DiscoNetwork(width=4, blocks=1, hidden=6, layers=2))),
    "nrp": _drawn(lambda: NRP(NRPNetwork(width=4, blocks=1, growth=2, steps=2))),
    "diffpure": _drawn(lambda: DiffPure(_ddpm(), t=3)),
    "consistency": _drawn(lambda: ConsistencyPurification(_ddpm())),
}
