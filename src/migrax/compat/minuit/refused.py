"""Attributes of iminuit's `Minuit` that migrax does not have: each error names the alternative."""

from typing import Any, NoReturn


class Refused:
    """An attribute that can be neither read nor set. **Raises:** `AttributeError` for both, with the reason."""

    def __init__(self, why: str):
        self.why: str = why
        self.name: str = ""
        self.__doc__ = f"Not there: {why}."

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else self._refuse(instance)

    def __set__(self, instance: Any, value: Any) -> None:
        self._refuse(instance)

    def _refuse(self, instance: Any) -> NoReturn:
        raise AttributeError(f"mx.Minuit has no {self.name}: {self.why}", name=self.name, obj=instance)


class AbstractRefusals:
    """The names of iminuit that a `Minuit` refuses."""

    __slots__ = ()

    up: Refused = Refused("it is called errordef, as in iminuit")
    tol: Refused = Refused(
        "a fit ends where exact second derivatives put the EDM below MINUIT's goal (tol = 0.1), and goes one Newton "
        "step further"
    )
    strategy: Refused = Refused("there is one strategy, that of exact derivatives; migrad() includes hesse()")
    precision: Refused = Refused(
        "that of the numbers is known from their type: float64, or float32 if that is all there is"
    )
    print_level: Refused = Refused(
        "a fit is one compiled program and prints nothing on its way; print(m) shows how it ended"
    )
    throw_nan: Refused = Refused(
        "NaN is a way in which a fit ends: look at valid and fmin.message, which say where it was met"
    )
    fcn: Refused = Refused("write m.nll(mx.resolve(m.params_tree), m.data)")
    grad: Refused = Refused("derivatives are exact by themselves: jax.grad of m.nll gives yours")
    g2: Refused = Refused("second derivatives are exact by themselves, and come with m.covariance")
    hessian: Refused = Refused(
        "second derivatives are exact by themselves: m.covariance is 2 errordef times their inverse"
    )
    ng2: Refused = Refused("second derivatives are counted by nhessian")
    scipy: Refused = Refused(
        "other solvers, Optimistix's and your own: mx.fit(m.nll, m.params_tree, m.data, solver=...)"
    )
    interactive: Refused = Refused(
        "there is no widget; set m.values and draw, or fit with mx.io.to_iminuit(...).interactive()"
    )
