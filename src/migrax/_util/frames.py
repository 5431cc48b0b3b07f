"""Tables of pandas, which is imported when one is asked for and not before."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pandas import DataFrame


def data_frame(
    columns: Mapping[str, Any], rows: Sequence[Any], what: str, lanes: tuple[int, ...] = (), lane: str = "lane"
) -> "DataFrame":
    """A table with named rows.

    **Arguments:**

    - `columns`: arrays of shape `(*lanes, len(rows))`, or what broadcasts to it.
    - `rows`: their names; `what`: that of the index which they are.
    - `lanes`: the shape of many results, whose numbers come before the rows' names; `lane`: what one is called.

    **Raises:** `ImportError` without pandas.
    """
    shape = (*lanes, len(rows))
    names = [*_axes(lanes, lane), what]
    return _frame(columns, shape, list(itertools.product(*map(range, lanes), rows)), names)


def lane_frame(columns: Mapping[str, Any], lanes: tuple[int, ...]) -> "DataFrame":
    """A table with one row a lane; without lanes, one row. `columns`: arrays of shape `lanes`.

    **Raises:** `ImportError` without pandas.
    """
    lanes = lanes or (1,)
    return _frame(columns, lanes, list(itertools.product(*map(range, lanes))), _axes(lanes, "lane"))


def beside(parameters: Iterable[tuple[str, Any]], others: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of parameters, and others beside them.

    **Raises:** `ValueError` for two columns of one name.
    """
    columns: dict[str, Any] = {}
    for name, column in (*parameters, *others.items()):
        if name in columns:
            raise ValueError(
                f"two columns of the table would be called {name!r}, as a parameter has this name: take the arrays of "
                "the result"
            )
        columns[name] = column
    return columns


def _frame(columns: Mapping[str, Any], shape: tuple[int, ...], keys: list[tuple[Any, ...]], names: list[str]) -> Any:
    try:
        import pandas
    except ImportError:
        raise ImportError("to_pandas needs pandas: pip install pandas") from None
    flat = {name: np.broadcast_to(np.asarray(column), shape).reshape(-1) for name, column in columns.items()}
    if len(names) == 1:
        index = pandas.Index([key[0] for key in keys], name=names[0])
    else:
        index = pandas.MultiIndex.from_tuples(keys, names=names)
    return pandas.DataFrame(flat, index=index)


def _axes(lanes: tuple[int, ...], lane: str) -> list[str]:
    return [lane] if len(lanes) == 1 else [f"{lane}_{i}" for i in range(len(lanes))]
