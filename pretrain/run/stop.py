"""Why a run ends before its last step."""


class NonFiniteLossError(ArithmeticError):
    """The loss, the gradient or a weight is NaN or infinite."""
