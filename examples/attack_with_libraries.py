"""Attack a defended classifier with foolbox and Torchattacks: `python examples/attack_with_libraries.py`.

A `DefendedModel` is an ordinary `nn.Module`, so any library of attacks takes it as it is. Here the classifier
is the built-in one and the purifier has random weights; give your own with `impure.load_purifier`.
"""

import foolbox
import torch
import torchattacks

import impure
from impure.pipeline.builtin.drawing import CLASSES, render
from impure.purifier.riae.riae_config import preset

pictures = [torch.from_numpy(render("val", name, 0, 64)) for name in CLASSES]
images = torch.stack(pictures).permute(0, 3, 1, 2).float() / 255  # (10, 3, 64, 64)
labels = torch.arange(len(CLASSES))

torch.manual_seed(0)
purifier = impure.RIAE(preset("tiny")).requires_grad_(False)  # nobody needs the gradient of its weights
model = impure.DefendedModel(purifier, impure.load_target("builtin"))

linf = foolbox.attacks.LinfPGD(steps=5)
_, _, fooled = linf(foolbox.PyTorchModel(model, bounds=(0, 1)), images, labels, epsilons=8 / 255)
print(f"foolbox: {fooled.float().mean():.0%} fooled")

adversarial = torchattacks.PGD(model, eps=8 / 255, steps=5)(images, labels)
print(f"Torchattacks: {(model(adversarial).argmax(1) != labels).float().mean():.0%} fooled")

adversarial = impure.attack(model, images, labels, "pgd", eps=8, steps=5)
print(f"impure: {(model(adversarial).argmax(1) != labels).float().mean():.0%} fooled")
