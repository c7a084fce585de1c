"""Weights as tensors on disk: adapters read, combined and written exactly, and folded into a base model."""
