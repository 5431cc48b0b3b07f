"""Datacards of CMS Combine."""

from .likelihood import Datacard as Datacard
from .read import from_datacard as from_datacard
