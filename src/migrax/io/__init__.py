"""What comes from and goes to other packages. Each function imports what it needs when it is called."""

from .histogram import Histogram as Histogram, from_histogram as from_histogram
