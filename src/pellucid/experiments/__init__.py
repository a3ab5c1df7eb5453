"""Experiments of papers, run again: what is computed, kept in chunks, and put beside the published figures."""
