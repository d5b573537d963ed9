"""The contract between training and serving: what a model file is and how it is run.

numpy, pydantic and an inference engine only; no torch, no web framework, no raster library.
"""
