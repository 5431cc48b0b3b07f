"""Datacards of CMS Combine."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..._parameters.parameter import Parameter
from .build import build
from .card import Card
from .header import read_header
from .histograms import Histograms
from .likelihood import Datacard
from .nuisances import read_nuisances

_MOST_BYTES = 500_000_000


def from_datacard(
    card: str | os.PathLike[str],
    *,
    mass: float | None = None,
    pois: Mapping[str, Any] | None = None,
    scale: Mapping[str, Any] | None = None,
    mc_stats: str = "profiled",
    keywords: Mapping[str, Any] | None = None,
    histograms: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Datacard, dict[str, Parameter], dict[str, Any]]:
    """Reads a datacard of CMS Combine (A. Hayrapetyan et al., Comput. Softw. Big Sci. 8 (2024) 19;
    https://cms-analysis.github.io/HiggsAnalysis-CombinedLimit) as a likelihood of migrax.

    ```python
    nll, params, data = mx.io.from_datacard("card.txt", mass=125)
    result = mx.fit(nll, params, data)
    mx.upper_limit(nll, result, data, nll.poi)
    ```

    Counting experiments and templates (TH1 in ROOT files: `pip install "migrax[root]"`), combined cards, lnN, lnU, gmN,
    trG, unif, shape, shape?, shapeN, shapeU, param, flatParam, rateParam, extArg, group, nuisance edit and autoMCStats
    mean what they mean in Combine, with its interpolations. Shapes in a RooWorkspace are not read.

    **Arguments:**

    - `card`: a path, or the text of a card.
    - `mass`: what stands for `$MASS` in names, and for `MH` in formulas.
    - `pois`: the parameters of interest, a dictionary of `mx.Parameter`, where `scale` names others than `r`, or to
        give `r` another start and range, `{"r": mx.Parameter(1.0, lower=-5.0)}`. Default: `r`, from 0 on.
    - `scale`: what multiplies the yields, a dictionary from patterns `"channel/process"` to the name of a parameter,
        with a range as in `"r_ggH[1,0,10]"` (as `--PO map` of Combine), a number, a formula, `"kV**2 * kF"`, or a JAX
        function of the dictionary of the parameters of interest, which may be traced. The last pattern that matches
        counts. Default: all signals by `r`.
    - `mc_stats`: `"profiled"` (default): the parameters of autoMCStats that are common to all processes of a bin are
        minimised analytically; `"parameters"`: they are parameters of the fit, a vector for each channel.
    - `keywords`: what stands for other words, as for `$ERA`: `{"ERA": "2018"}`.
    - `histograms`: in the place of files, by their names in the card: a dictionary of histograms each (of hist or
        uproot, arrays of contents, or pairs of contents and errors).

    **Returns:** `(likelihood, params, data)`: an `mx.io.Datacard`; a dictionary of `mx.Parameter`; and `{"main":
    {channel: counts}, "aux": {parameter: what was measured of it}}`. Nuisance parameters have no bounds, where Combine
    has those of seven standard deviations.

    **Raises:** `ValueError` for an invalid card, with the line and the reason; `ImportError` without uproot.
    """
    if mc_stats not in ("profiled", "parameters"):
        raise ValueError(f'from_datacard: mc_stats is "profiled" or "parameters", got {mc_stats!r}')
    path, text = _text(card)
    found = read_card(text, path)
    strmass = "" if mass is None else f"{float(mass):g}"
    tables = Histograms(found, histograms or {}, strmass, keywords or {})
    return build(found, tables, pois, scale, mass, mc_stats == "parameters")


def read_card(text: str, path: Path | None = None) -> Card:
    """The lines of a card. **Raises:** `ValueError` with the line."""
    card = Card(path)
    lines = iter(list(enumerate(text.splitlines(), 1)))
    read_header(card, lines)
    read_nuisances(card, lines)
    return card


def _text(card: str | os.PathLike[str]) -> tuple[Path | None, str]:
    if isinstance(card, str) and "\n" in card:
        return None, card
    path = Path(card)
    if not path.is_file():
        raise FileNotFoundError(f"from_datacard: there is no file {os.fspath(card)!r}")
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"from_datacard: {path} has {path.stat().st_size} bytes; a datacard is a text file")
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"from_datacard: {path} is not text (of UTF-8): {error}") from error
    return path, text
