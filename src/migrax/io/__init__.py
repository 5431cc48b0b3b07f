"""Conversion from and to other packages. Each function imports what it needs when it is called."""

from .datacard import Datacard as Datacard, from_datacard as from_datacard
from .histfactory import HistFactory as HistFactory, SignalPoints as SignalPoints
from .histogram import Histogram as Histogram, from_histogram as from_histogram
from .hs3 import HS3 as HS3, PyHS3 as PyHS3, from_hs3 as from_hs3
from .iminuit import from_iminuit as from_iminuit, to_iminuit as to_iminuit
from .points import to_hs3 as to_hs3, to_pyhf as to_pyhf
from .pyhf import from_pyhf as from_pyhf
