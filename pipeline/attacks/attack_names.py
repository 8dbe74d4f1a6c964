"""The paper's attacks and names of options: free of torch, so that the command line's help comes at once."""

PAPER_ATTACKS = ("fgsm", "cw", "deepfool", "pgd", "mifgsm", "difgsm", "mdifgsm", "apgd-ce", "apgd-dlr")
"""The paper's nine, in the order of its Table 1."""

ALL_ATTACKS = "all"
"""What a user types for the untouched pairs and the paper's nine."""

PRESETS = ("paper", "library", "release", "cleverhans")
"""The paper's parameters, Torchattacks' defaults, and what the paper's release and CleverHans change."""

IMPLEMENTATIONS = ("impure", "torchattacks", "cleverhans")
"""Ours, and the libraries to compare with."""

PRECISIONS = ("fp32", "tf32", "bf16")
"""What an attack may compute in."""

TARGET_CLASS_CHOICES = ("random", "least-likely")
"""How a targeted attack chooses the class that it steers an image to."""

PAPER_EPS_255 = 16
"""The paper's L∞ budget in units of 1/255."""
