"""Tests of hypotheses: statistics, p-values, discovery, upper limits."""

from .asymptotic import Asymptotic as Asymptotic
from .hypotest import Discovery as Discovery, HypoTest as HypoTest, discovery as discovery, hypotest as hypotest
from .limit import LimitStatus as LimitStatus, UpperLimit as UpperLimit, upper_limit as upper_limit
from .statistics import (
    Q0 as Q0,
    QMu as QMu,
    QTilde as QTilde,
    StatisticValue as StatisticValue,
    TMu as TMu,
    TMuTilde as TMuTilde,
)
