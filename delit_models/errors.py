"""The exceptions that Delit raises for input it cannot use.

Every message says what was given, what was expected and how to fix it.
"""

from __future__ import annotations


class DelitError(ValueError):
    """Input that Delit cannot work with: an image, a latent, a mask, a file, an option."""


class CheckpointError(DelitError):
    """A weights file that is missing, damaged, of another kind, or for another model."""
