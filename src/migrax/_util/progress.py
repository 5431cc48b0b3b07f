"""Progress bars (extra `tqdm`) in a terminal and in notebooks; silent if the output is a file."""

from typing import Any


def bar(**options: Any) -> Any:
    """Returns a progress bar of tqdm, which shows the time left.

    **Raises:** `ImportError`, with how to install it.
    """
    try:
        from tqdm.auto import tqdm
        from tqdm.notebook import tqdm as notebook
    except ImportError as error:
        raise ImportError("progress=True needs tqdm: pip install 'migrax[tqdm]'") from error
    # None silences it unless the output is a terminal, which that of a notebook is not
    return tqdm(disable=False if issubclass(tqdm, notebook) else None, **options)
