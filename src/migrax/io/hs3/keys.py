"""The keys that objects of an HS3 document have. Another may change what is meant: it is refused, not ignored."""

from .._node import Node

_ANYWHERE = ("name", "type", "title", "tags", "misc", "comment", "description", "metadata")
_AXIS = ("min", "max", "nbins", "edges", "bounds", "value", "const", "categories", "indices")

_KEYS: dict[str, tuple[str, ...]] = {
    "analysis": ("likelihood", "domains", "domain", "parameters_of_interest", "init", "prior"),
    "likelihood": ("distributions", "data", "aux_distributions"),
    "domain": ("axes",),
    "axis": _AXIS,
    "point": ("parameters",),
    "parameter": ("value", "const", "nbins", "min", "max", "error", "errors", "kind"),
    # the errors of data are of no likelihood
    "unbinned": ("axes", "entries", "weights", "entries_uncertainties"),
    "binned": ("axes", "contents", "uncertainty"),
    "data of the type point": ("value", "uncertainty"),
    "histfactory_dist": ("axes", "samples", "staterror", "default_interpolation"),
    "histfactory_yield": ("axes", "samples", "staterror", "default_interpolation"),
    "staterror of a channel": ("constraint", "relThreshold"),
    "sample": ("data", "modifiers"),
    "modifier": (
        "parameter",
        "parameters",
        "constraint",
        "constraint_type",
        "constraint_name",
        "data",
        "interpolation",
    ),
    "mixture_dist": ("summands", "coefficients", "extended", "ref_coef_norm"),
    "product_dist": ("factors",),
    "rate_extended_dist": ("dist", "rate"),
    "bincounts_extended_dist": ("dist", "rate", "axes"),
    "generic_dist": ("expression",),
    "density_function_dist": ("function",),
    "log_density_function_dist": ("function",),
    "rate_density_dist": ("density",),
    "poisson_dist": ("x", "mean", "integer"),
    "sum": ("summands",),
    "product": ("factors",),
    "polynomial": ("x", "coefficients"),
    "generic_function": ("expression",),
}
# of what the document holds itself, only near names are refused: tools add what is their own
_ROOT = ("distributions", "functions", "data", "likelihoods", "analyses", "domains", "parameter_points", "metadata")


def check_keys(node: Node, what: str, more: tuple[str, ...] = ()) -> Node:
    """The same node. `what` it is; `more` keys that it may have.

    **Raises:** `ValueError` for a key that nothing of this sort has.
    """
    node.only(tuple(dict.fromkeys((*_KEYS.get(what, ()), *more))), _ANYWHERE)
    return node


def check_root(node: Node) -> None:
    """**Raises:** `ValueError` for a misspelt key."""
    node.only_near((*_ROOT, "misc"))
