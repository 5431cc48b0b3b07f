"""Numbers that take mpmath minutes, kept in tests/data/mpmath: one file a test module.

Each list of numbers stands under a fingerprint of what it is made from (the values of the reference formula at two
points, the parameters, what is asked), so that none outlives a change. Each time one number of each list is computed
anew and compared. `MIGRAX_UPDATE_REFERENCES=1 python -m pytest tests/distributions -n 0` writes what is missing;
delete a file to have all of it anew.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mpmath

FOLDER = Path(__file__).parent.parent / "data" / "mpmath"


def stored(module: str, fingerprint: Any, what: str, numbers: Sequence[Callable[[], Any]]) -> list[float]:
    """The values of the functions without arguments, as floats.

    **Raises:** `LookupError` where they are not in the file, unless they are to be written; `AssertionError` where the
    one that is looked at is not what the file says.
    """
    path = FOLDER / f"{module.rpartition('.')[2]}.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    digest = hashlib.sha256(repr(fingerprint).encode()).hexdigest()[:16]
    key = f"{what} {digest}"
    if key not in kept:
        if not os.environ.get("MIGRAX_UPDATE_REFERENCES"):
            raise LookupError(f"{path.name} has no {key!r}: run the tests with MIGRAX_UPDATE_REFERENCES=1 and -n 0")
        kept[key] = [float(number()) for number in numbers]
        FOLDER.mkdir(exist_ok=True)
        lines = [f"{json.dumps(name)}: {json.dumps(kept[name])}" for name in sorted(kept)]
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    found = kept[key]
    assert len(found) == len(numbers)
    one = int(digest, 16) % len(numbers)
    again = float(numbers[one]())
    assert again == found[one] or abs(again - found[one]) <= 1e-14 * abs(again), (key, one, again, found[one])
    return found


def digits(value: Any) -> str:
    """For fingerprints: 20 digits of a number of mpmath's, infinities as mpmath 1.3 writes them (1.4 has no "+")."""
    number = mpmath.mpmathify(value)
    return "+inf" if number == mpmath.inf else mpmath.nstr(number, 20)
