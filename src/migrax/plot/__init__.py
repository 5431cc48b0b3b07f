"""Pictures of results, by matplotlib (`pip install "migrax[plot]"`). Each takes an `ax` and returns it."""

from .limits import cls_scan as cls_scan, limit_band as limit_band
