"""The command line, made with click: a command for each task, on a pyhf workspace or an HS3 document."""

from . import commands as commands, limit as limit
from .group import main as main
