"""`Minuit`: the functions of migrax behind an object with iminuit's names."""

from .front import Minuit as Minuit
