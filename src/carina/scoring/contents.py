"""The names in a bundle: files and sections; nothing heavier, so that a bundle known before opens at once."""

from __future__ import annotations

MANIFEST, MODEL, CARD, WEIGHTS = "bundle.json", "model.onnx", "card.md", "weights.safetensors"
TRAINING_IMAGES, HISTORY = "training-images.txt", "history.jsonl"
CARD_JSON, EMBEDDINGS = "card.json", "embeddings.npy"
# all that a bundle may hold beside its manifest
FILES = (MODEL, CARD, CARD_JSON, WEIGHTS, TRAINING_IMAGES, HISTORY, EMBEDDINGS)
INTENDED_USE, LOOK, DISTANCE = "intended_use", "look", "distance"
GATE = (INTENDED_USE, LOOK, DISTANCE)  # the manifest's sections that decide whether a film is scored at all
RUNTIME = "runtime"  # the section of a bundle that is run by another library than ONNX Runtime
AT_START = (*GATE, RUNTIME)  # sections that are known without reading the manifest again
LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})  # desktops leave these; nothing reads them
