"""`Minuit`: the functions of migrax behind an object with the names of iminuit's."""

from .front import Minuit as Minuit
