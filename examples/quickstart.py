"""Attack a classifier, alone and behind a RIAE purifier: `python examples/quickstart.py [RUN or owner/name]`.

Without an argument both networks have random weights, so that nothing is downloaded; the figures then say
nothing.
"""

import sys

import torch
import torchvision

import impure
from impure.purifier.riae.riae_config import preset

torch.manual_seed(0)
images = torch.rand(8, 3, 32, 32)  # float RGB in [0, 1]
classifier = torchvision.models.resnet18().eval()
purifier = impure.load_purifier(sys.argv[1]) if len(sys.argv) > 1 else impure.RIAE(preset("tiny"))

for name, model in {"alone": classifier, "purified": impure.DefendedModel(purifier, classifier)}.items():
    labels = model(images).argmax(1)  # random weights know no true classes
    adversarial = impure.attack(model, images, labels, "pgd", eps=8)
    accuracy = (model(adversarial).argmax(1) == labels).float().mean()
    print(f"{name}: {accuracy:.0%} of 8 images withstand PGD, L∞ ≤ 8/255")
