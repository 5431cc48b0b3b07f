"""Documents of the HEP Statistics Serialization Standard (HS3)."""

from .likelihood import HS3 as HS3
from .pyhs3_graph import PyHS3 as PyHS3
from .read import from_hs3 as from_hs3
