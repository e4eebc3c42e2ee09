"""What Gunicorn knows under a name in its configuration, and only since some version as an option."""

# It would lie in the application's home, one for all its instances.
control_socket_disable = True
