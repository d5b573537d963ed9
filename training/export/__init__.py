"""Model files: ONNX in 32 and 8 bits, and what ArcGIS needs."""
