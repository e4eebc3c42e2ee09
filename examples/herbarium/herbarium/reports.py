"""What an error report says, and how an error fits on a line of the log."""

from django.views.debug import SafeExceptionReporterFilter


class WithoutVariables(SafeExceptionReporterFilter):
    """Reports without the variables of each frame.

    They hold what members wrote, and showing them is not free: a queryset is shown by running it, which with the
    database down keeps every failed request waiting several times over.
    """

    def get_traceback_frame_variables(self, request, tb_frame):
        return [] if self.is_active(request) else super().get_traceback_frame_variables(request, tb_frame)


def one_line(error):
    return " ".join(str(error).split()) or type(error).__name__
