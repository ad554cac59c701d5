"""A bundle says what torch said: the same probabilities, whatever the threads, the batches and the run."""

from __future__ import annotations

import films
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from carina.images.prepare import Preparation, prepare
from carina.scoring.bundle import Bundle, write_bundle
from carina.scoring.manifest import Manifest, training_images
from carina.scoring.scorer import Scorer
from carina.training.export import export
from carina.training.graph import OPSET
from carina.training.network import Network
from carina.training.recipe import ModelPart
from carina.training.weights import build

CLASSES = ("Normal", "Pneumonia", "TB", "Other Findings")
SIZE, COUNT = 64, 500


@pytest.fixture(scope="module")
def squares() -> NDArray[np.uint8]:
    """500 different films as the network sees them."""
    rng = np.random.default_rng(6)
    made = []
    for number in range(COUNT):
        film = films.chest(96, 80, seed=number).astype(np.float64)
        film = film * rng.uniform(0.5, 1.1) + 60 * rng.random((6, 5)).repeat(16, 0).repeat(16, 1)
        made.append(prepare(film.clip(0, 255).astype(np.uint8), Preparation(SIZE)))
    return np.stack(made)


@pytest.fixture(scope="module", params=["test_resnet", "test_efficientnet"])
def both(
    request: pytest.FixtureRequest, squares: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Network, Bundle]:
    """A network of random weights whose answers differ from film to film, and its bundle."""
    part = ModelPart(backbone=request.param, pretrained=False)
    network = build(part, len(CLASSES), size=SIZE, seed=0).eval()
    with torch.no_grad():
        logits = network(torch.from_numpy(squares[:50, None]))
        scale = 2 / logits.std(0)
        network.head.weight *= scale[:, None]
        network.head.bias.copy_(scale * (network.head.bias - logits.mean(0)))
    made = export(network, squares[:8], about={"use": "a test; not a medical device"})
    listed, fingerprint = training_images(())
    manifest = Manifest.model_validate(
        {
            "name": "parity",
            "created": "2026-01-01T00:00:00Z",
            "carina": "0.1.0",
            "classes": CLASSES,
            "healthy": ("Normal",),
            "preparation": Preparation(size=SIZE).to_dict(),
            "normalisation": {"mean": 0.5, "std": 0.25},
            "input": {"shape": ("N", 1, SIZE, SIZE)},
            "outputs": made.shapes,
            "opset": OPSET,
            "data": {"catalogue": "0" * 64, "fingerprint": fingerprint, "images": 0},
            "parity": {"max_abs_diff": made.apart, "images": made.images},
        }
    )
    out = tmp_path_factory.mktemp("parity") / "m"
    parts = {"model.onnx": made.onnx, "card.md": b"# a test\n", "training-images.txt": listed}
    return network, write_bundle(out, manifest, parts)


def test_probabilities_are_those_of_torch_on_500_films(
    both: tuple[Network, Bundle], squares: NDArray[np.uint8]
) -> None:
    network, bundle = both
    with torch.inference_mode():
        theirs = network(torch.from_numpy(squares[:, None])).softmax(1).numpy()
    ours = Scorer(bundle, threads=2).predict(squares).probabilities
    assert theirs.std(0).min() > 0.05  # the films are told apart
    assert np.abs(ours - theirs).max() < 1e-4
    assert (ours.argmax(1) == theirs.argmax(1)).all()


def test_runs_threads_and_batches_change_no_probability(
    both: tuple[Network, Bundle], squares: NDArray[np.uint8]
) -> None:
    _, bundle = both
    first = Scorer(bundle, threads=1, batch=4).predict(squares).probabilities
    np.testing.assert_array_equal(Scorer(bundle, threads=1, batch=4).predict(squares).probabilities, first)
    for threads, batch in ((2, 4), (3, 1), (2, 32)):
        again = Scorer(bundle, threads=threads, batch=batch).predict(squares).probabilities
        assert np.abs(again - first).max() < 1e-6
