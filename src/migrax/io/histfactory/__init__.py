"""HistFactory: what pyhf's and HS3's files say of binned channels, as a likelihood. One idea a file."""

from .likelihood import HistFactory as HistFactory, SignalPoints as SignalPoints
