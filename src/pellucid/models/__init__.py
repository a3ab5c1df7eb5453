"""Adapters: the models users have, behind one contract."""

from pellucid.models.wrap import wrap

__all__ = ["wrap"]
