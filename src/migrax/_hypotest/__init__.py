"""Tests of hypotheses: statistics, p-values, discovery, upper limits."""

from .asymptotic import Asymptotic as Asymptotic
from .discovery import Discovery as Discovery, discovery as discovery
from .hypotest import HypoTest as HypoTest, hypotest as hypotest
from .limit import UpperLimit as UpperLimit, upper_limit as upper_limit
from .limit_status import LimitStatus as LimitStatus
from .statistics import (
    Q0 as Q0,
    QMu as QMu,
    QTilde as QTilde,
    StatisticValue as StatisticValue,
    TMu as TMu,
    TMuTilde as TMuTilde,
)
