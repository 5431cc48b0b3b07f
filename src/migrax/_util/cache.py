"""`cache`: compiled programs kept on disk between processes."""

import os
import warnings
from pathlib import Path

import jax
import jax.monitoring
import jax.numpy as jnp
from jax.experimental.compilation_cache import compilation_cache

_hits = 0
_is_listening = False


def cache(folder: str | os.PathLike[str], *, min_seconds: float = 0.5) -> None:
    """Keeps compiled programs in a folder, so that a later process with the same likelihood need not compile again.

    Call it before the first fit.

    ```python
    mx.cache("~/.cache/migrax")
    ```

    It switches on JAX's own persistent cache (`jax_compilation_cache_dir`), and checks that a program can be read again
    after it is written. A stored program can be used with the same kind of machine, version of JAX and flags of XLA
    only; programs for different ones may be in the same folder.

    **Arguments:**

    - `folder`: where to keep them; it is created if it does not exist.
    - `min_seconds`: programs that take less time than this to compile are not kept, in seconds.

    **Raises:** `OSError` for a folder that cannot be created; `ValueError` for `min_seconds` below 0.

    **Warns** if programs cannot be read again on this machine (XLA refuses them on some processors), or if the cache is
    switched off.
    """
    if not min_seconds >= 0:
        raise ValueError(f"min_seconds must not be negative, got {min_seconds!r}")
    path = Path(folder).expanduser()
    path.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(path.resolve()))
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    compilation_cache.reset_cache()  # it may have been looked for before, when there was no folder
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    try:
        can_read = _can_read()
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", float(min_seconds))
    if not can_read:
        warnings.warn(
            f"programs kept in {path} cannot be read again on this machine: each process compiles anew "
            "(jax_enable_compilation_cache may be off, or XLA does not know this processor)",
            stacklevel=2,
        )


def _can_read() -> bool:
    """Whether a program that was compiled just now comes from the cache if it is asked for again."""
    _listen()
    before = _hits
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of JAX, for an entry that it cannot read
        for _ in range(2):
            # A new function each time: JAX keeps the program of a function in memory.
            jax.jit(lambda x: jnp.cumsum(jnp.sin(x) * 1.25)).lower(jnp.zeros(3)).compile()
    return _hits > before


def _listen() -> None:
    global _is_listening
    if _is_listening:
        return

    def count(event: str, **_: object) -> None:
        global _hits
        _hits += event == "/jax/compilation_cache/cache_hits"

    jax.monitoring.register_event_listener(count)
    _is_listening = True
