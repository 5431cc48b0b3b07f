"""HistFactory: the binned channels of pyhf's and HS3's files as a likelihood. One idea a file."""

from .likelihood import HistFactory as HistFactory, SignalPoints as SignalPoints
