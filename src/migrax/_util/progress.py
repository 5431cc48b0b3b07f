"""Progress bars: the extra `tqdm`, in a terminal and in notebooks; silent where the output is a file."""

from typing import Any


def bar(**options: Any) -> Any:
    """A bar of tqdm's, which shows the time left.

    **Raises:** `ImportError` that says how to install it.
    """
    try:
        from tqdm.auto import tqdm
        from tqdm.notebook import tqdm as notebook
    except ImportError as error:
        raise ImportError("progress=True needs tqdm: pip install 'migrax[tqdm]'") from error
    # None: silent unless the output is a terminal, which a notebook's is not
    return tqdm(disable=False if issubclass(tqdm, notebook) else None, **options)
