"""What JAX's primitives call: the programs inside of a program."""

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn


def programs_in(equation: JaxprEqn) -> list[Jaxpr]:
    """Return the programs that an equation's primitive calls."""
    found = []
    for value in equation.params.values():
        for part in value if isinstance(value, tuple | list) else [value]:
            if isinstance(part, ClosedJaxpr):
                found.append(part.jaxpr)
            elif isinstance(part, Jaxpr):
                found.append(part)
    return found
