"""Bone Soups: backbones trained on combined rewards, merged for any preference (arXiv 2502.10762)."""

__version__ = "0.1.0"
