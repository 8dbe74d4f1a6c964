"""The registry of attacks: each name and the attack that it stands for, the paper's nine first."""

from impure.pipeline.attacks.engine.attack_spec import AttackSpec, Params
from impure.pipeline.attacks.methods.annealed_pgd import PGD_CE_SPEC, PGD_DLR_SPEC, PGD_MARGIN_SPEC
from impure.pipeline.attacks.methods.apgd import (
    APGD_CE_SPEC,
    APGD_DLR_SPEC,
    APGD_MARGIN_SPEC,
    APGD_T_SPEC,
)
from impure.pipeline.attacks.methods.autoattack import AUTOATTACK_SPEC
from impure.pipeline.attacks.methods.cw import CW_SPEC
from impure.pipeline.attacks.methods.ddn import DDN_SPEC
from impure.pipeline.attacks.methods.deepfool import DEEPFOOL_SPEC
from impure.pipeline.attacks.methods.difgsm import DIFGSM_SPEC, MDIFGSM_SPEC
from impure.pipeline.attacks.methods.fab import FAB_T_SPEC
from impure.pipeline.attacks.methods.fgsm import FGSM_SPEC
from impure.pipeline.attacks.methods.fmn import FMN_SPEC
from impure.pipeline.attacks.methods.mifgsm import MIFGSM_SPEC
from impure.pipeline.attacks.methods.pgd import PGD_SPEC
from impure.pipeline.attacks.methods.square import SQUARE_SPEC

__all__ = ["ATTACKS", "AttackSpec", "Params"]

ATTACKS: dict[str, AttackSpec] = {
    "fgsm": FGSM_SPEC,
    "cw": CW_SPEC,
    "deepfool": DEEPFOOL_SPEC,
    "pgd": PGD_SPEC,
    "mifgsm": MIFGSM_SPEC,
    "difgsm": DIFGSM_SPEC,
    "mdifgsm": MDIFGSM_SPEC,
    "apgd-ce": APGD_CE_SPEC,
    "apgd-dlr": APGD_DLR_SPEC,
    "pgd-ce": PGD_CE_SPEC,
    "pgd-dlr": PGD_DLR_SPEC,
    "pgd-margin": PGD_MARGIN_SPEC,
    "apgd-margin": APGD_MARGIN_SPEC,
    "apgd-t": APGD_T_SPEC,
    "fab-t": FAB_T_SPEC,
    "square": SQUARE_SPEC,
    "autoattack": AUTOATTACK_SPEC,
    "ddn": DDN_SPEC,
    "fmn": FMN_SPEC,
}
