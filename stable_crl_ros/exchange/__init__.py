"""Recordings of other formats as episodes, and episodes as datasets of other formats."""
