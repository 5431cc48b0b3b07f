"""Results in files: `save` and `load`. One npz with a JSON header, which holds the tree that its arrays belong to."""

from .main import load as load, save as save
