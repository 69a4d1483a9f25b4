"""Why a run ends before its last step."""


class NonFiniteLossError(ArithmeticError):
    """The loss or the gradient is NaN or infinite."""
