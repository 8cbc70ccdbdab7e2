"""How a refusal gets out of torch's exporter."""

from rnn_export.errors import ConversionError


class Refused(BaseException):
    """Leaves torch's exporter at once: it would catch an Exception, try another way, and hide the reason."""

    def __init__(self, reason: ConversionError) -> None:
        super().__init__(str(reason))
        self.reason = reason
