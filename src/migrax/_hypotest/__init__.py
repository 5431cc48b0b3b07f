"""Hypothesis tests: test statistics, p-values, discovery, upper limits."""

from .asymptotic import Asymptotic as Asymptotic
from .discovery import Discovery as Discovery, discovery as discovery
from .hypotest import HypoTest as HypoTest, hypotest as hypotest
from .interval import Interval as Interval, interval as interval
from .limit import UpperLimit as UpperLimit, upper_limit as upper_limit
from .limit_status import LimitStatus as LimitStatus
from .look_elsewhere import LookElsewhere as LookElsewhere, look_elsewhere as look_elsewhere
from .statistics import (
    Q0 as Q0,
    QMu as QMu,
    QTilde as QTilde,
    StatisticValue as StatisticValue,
    TMu as TMu,
    TMuTilde as TMuTilde,
)
from .toys import ToyStatistics as ToyStatistics, ToyTest as ToyTest
