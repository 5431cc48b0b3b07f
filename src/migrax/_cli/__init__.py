"""The command line, made with click: a command for each task, on a pyhf workspace or an HS3 document."""

from .commands import main as main
