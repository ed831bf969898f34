"""Text embeddings: sentence-transformers, or the same model as quantized ONNX."""
