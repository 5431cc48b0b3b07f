"""The keys of objects in an HS3 document. An unknown one may change the meaning: it is refused, not ignored."""

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
    # the errors of data enter no likelihood
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
# at the top level only near-misses of these are refused, as tools add keys of their own
_ROOT = ("distributions", "functions", "data", "likelihoods", "analyses", "domains", "parameter_points", "metadata")


def check_keys(node: Node, what: str, more: tuple[str, ...] = ()) -> Node:
    """Return the node after a check of its keys. `what`: the sort of object; `more`: keys that it may also have.

    **Raises:** `ValueError` for a key that objects of this sort do not have.
    """
    node.only(tuple(dict.fromkeys((*_KEYS.get(what, ()), *more))), _ANYWHERE)
    return node


def check_root(node: Node) -> None:
    """**Raises:** `ValueError` for a misspelt key."""
    node.only_near((*_ROOT, "misc"))
