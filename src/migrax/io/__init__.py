"""What comes from and goes to other packages. Each function imports what it needs when it is called."""

from .histfactory import HistFactory as HistFactory
from .histogram import Histogram as Histogram, from_histogram as from_histogram
from .iminuit import from_iminuit as from_iminuit, to_iminuit as to_iminuit
from .pyhf import from_pyhf as from_pyhf
