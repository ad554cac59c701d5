"""A bundle with random weights: as large, as slow and as exact as a trained one, and of no use.

Speed and parity do not depend on what a network has learnt, so benchmarks need no training.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from carina.images.prepare import Preparation
from carina.scoring.bundle import write_bundle
from carina.scoring.manifest import Manifest, training_images
from carina.training.export import export
from carina.training.graph import OPSET
from carina.training.network import Network
from carina.training.recipe import ModelPart
from carina.training.weights import build

CLASSES = ("Bacterial Pneumonia", "COVID-19", "Normal", "Viral Pneumonia")


def random_network(backbone: str = "resnet18", size: int = 224) -> Network:
    """A network of the given backbone, in eval mode, the same weights each time."""
    return build(ModelPart(backbone=backbone, pretrained=False), len(CLASSES), size=size, seed=0).eval()


def random_bundle(folder: Path, backbone: str = "resnet18", size: int = 224) -> Path:
    """Write the bundle of :func:`random_network` at ``folder`` and answer with it."""
    network = random_network(backbone, size)
    noise = np.random.default_rng(0).integers(0, 256, (2, size, size), dtype=np.uint8)
    made = export(network, noise, about={"use": "benchmark; not a medical device"})
    listed, fingerprint = training_images(())
    manifest = Manifest.model_validate(
        {
            "name": f"random {backbone}",
            "created": "2026-01-01T00:00:00Z",
            "carina": "0.1.0",
            "classes": CLASSES,
            "healthy": ("Normal",),
            "preparation": Preparation(size=size).to_dict(),
            "normalisation": {"mean": 0.5, "std": 0.25},
            "input": {"shape": ("N", 1, size, size)},
            "outputs": made.shapes,
            "opset": OPSET,
            "data": {"catalogue": "0" * 64, "fingerprint": fingerprint, "images": 0},
            "parity": {"max_abs_diff": made.apart, "images": made.images},
        }
    )
    card = f"# random {backbone}\n\nFor benchmarks: it has learnt nothing. Not a medical device.\n"
    return write_bundle(
        folder,
        manifest,
        {"model.onnx": made.onnx, "card.md": card.encode(), "training-images.txt": listed,
         "weights.safetensors": made.weights},
    ).root  # fmt: skip
