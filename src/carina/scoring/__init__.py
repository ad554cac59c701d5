"""Bundle and films in, predictions out: numpy and onnxruntime, never torch."""
