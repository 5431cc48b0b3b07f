"""Pictures of results, by matplotlib (`pip install "migrax[plot]"`). Each takes an `ax` and returns it."""

from .contours import contour as contour
from .data import data_and_model as data_and_model
from .limits import cls_scan as cls_scan, limit_band as limit_band
from .matrices import correlation as correlation
from .profiles import profile as profile
from .ranking import impacts as impacts
from .studies import coverage as coverage, pulls as pulls
from .toys import toy_distributions as toy_distributions
from .triangle import corner as corner
